// Owns what the cluster consists of: members, groups, proxies, the store, and their names, roles and ports. Everything
// else is derived from it.

/** A PostgreSQL with the Patroni that supervises it. */
export type Member = {
  /** `ca`, `cb`, `w1a`, `w1b`, … : its group and its letter. */
  readonly name: string
  readonly group: number
  readonly host: string
  readonly postgresPort: number
  readonly patroniPort: number
  /** Port on loopback by which others reach its PostgreSQL, through HAProxy, which cuts them off if it falls silent. */
  readonly connectPort: number
}

/** One primary with its secondaries. Group 0 is the coordinator. */
export type Group = {
  readonly number: number
  readonly name: string
  readonly members: readonly Member[]
}

export type Balancer = {
  readonly name: string
  readonly host: string
  /** Port of the coordinator's primary. */
  readonly writePort: number
  /** Port of the coordinator's secondaries; of its primary only if there are none. */
  readonly readPort: number
  /** Port of the gateways. */
  readonly httpPort: number
  /** Port of the statistics, with metrics for Prometheus under /metrics. */
  readonly statisticsPort: number
  /** By group number, the ports of a worker's primary and secondaries. */
  readonly groupPorts: ReadonlyMap<number, { readonly write: number; readonly read: number }>
}

export type StoreMember = {
  readonly name: string
  readonly host: string
  readonly clientPort: number
  readonly peerPort: number
}

export type Recorder = { readonly name: string; readonly host: string; readonly port: number }

export type GatewayPlace = { readonly name: string; readonly host: string; readonly port: number }

/** All parts on one machine's loopback, distinguished by ports; or each in a container, distinguished by its name. */
export type Placement = 'loopback' | 'containers'

export type Topology = {
  /** Patroni's scope, which is part of its keys in etcd. */
  readonly name: string
  /** True if the groups are nodes of Citus; without Citus there is one group, and nothing is distributed. */
  readonly isCitus: boolean
  readonly placement: Placement
  readonly groups: readonly Group[]
  readonly members: readonly Member[]
  readonly proxies: readonly Balancer[]
  readonly store: readonly StoreMember[]
  /** One fencer next to each member of etcd; a majority of them must agree. */
  readonly fencers: readonly { readonly name: string }[]
  /** The process that creates restore points, if the cluster has backups, and the port of what it knows of them. */
  readonly recorders: readonly Recorder[]
  readonly gateways: readonly GatewayPlace[]
}

export const LOOPBACK = '127.0.0.1'

/** Returns the folder in etcd of Patroni's keys of a group. */
export const storeFolderOf = ({ name, isCitus }: Topology, { number }: Group) =>
  isCitus ? `/service/${name}/${number}` : `/service/${name}`

/** Returns the key in etcd by which a fencer shows that it runs. */
export const lifeKeyOf = (fencer: string) => `${LIFE_FOLDER}${fencer}`
export const LIFE_FOLDER = '/tessera-fencer/'

export const urlOf = (host: string, port: number) => `http://${host}:${port}`

/** Returns the address at which every process of the cluster accepts connections. */
export const listenAddressOf = ({ placement }: Topology) => (placement === 'loopback' ? LOOPBACK : '0.0.0.0')

/** Returns the URL of a member of etcd, which refuses clients without a certificate. */
export const storeUrlOf = (host: string, port: number) => `https://${host}:${port}`

/** Returns all ports at which the cluster's processes listen. */
export const portsOf = ({ members, store, proxies, recorders, gateways }: Topology): readonly number[] => [
  ...store.flatMap(({ clientPort, peerPort }) => [clientPort, peerPort]),
  ...members.flatMap(({ postgresPort, patroniPort, connectPort }) => [
    postgresPort,
    patroniPort,
    connectPort,
  ]),
  ...proxies.flatMap(({ writePort, readPort, httpPort, statisticsPort, groupPorts }) => [
    writePort,
    readPort,
    httpPort,
    statisticsPort,
    ...[...groupPorts.values()].flatMap(({ write, read }) => [write, read]),
  ]),
  ...[...recorders, ...gateways].map(({ port }) => port),
]

export type Size = {
  /** Worker groups; 0 for one plain pair without Citus. */
  readonly workers: number
  /** Members of each group. */
  readonly members: number
  readonly gateways: number
  readonly proxies: number
  /** Members of etcd: an odd number, so that a majority is left if one is lost. */
  readonly store: number
  /** The first port; all other ports follow it. */
  readonly basePort: number
  /** True if gateways import the demo data when it is missing. */
  readonly demo: boolean
  /** MiB of each member's file system in memory, for trials; 0 if members use the cluster's folder. */
  readonly disk: number
  /** Folder of the backups and the archived log; empty if there are none. */
  readonly backups: string
  /** File with the key that encrypts them. */
  readonly backupKey: string
  /** Number of full backups of each group that are kept, with all that builds on them. */
  readonly backupsKept: number
}

export const DEFAULT_SIZE: Size = {
  workers: 3,
  members: 2,
  gateways: 1,
  proxies: 2,
  store: 3,
  basePort: 25_000,
  demo: true,
  disk: 0,
  backups: '',
  backupKey: '',
  backupsKept: 2,
}

/** Largest number of groups, without that of the coordinator. */
export const MAX_WORKERS = 9

/** Ports per kind on loopback: enough for ten groups of four members. */
const ROOM = 50
const LETTERS = 'abcdefghij'

/** In containers each part has its usual port, except the listeners that lead to members, which share one loopback. */
const CONTAINER_PORTS = {
  etcdClient: 2379,
  etcdPeer: 2380,
  gateway: 8080,
  postgres: 5432,
  patroni: 8008,
  connect: 6000,
  proxy: 5000,
}
type PortKind = keyof typeof CONTAINER_PORTS
const KINDS = Object.keys(CONTAINER_PORTS) as PortKind[]

/** Derives a topology from its size. Groups keep their ports when another group is added after them. */
export function makeTopology(size: Size, placement: Placement = 'loopback'): Topology {
  const isCitus = size.workers > 0
  const isLoopback = placement === 'loopback'
  /** @param index of the part among those of its kind */
  const port = (kind: PortKind, index: number) =>
    isLoopback ? size.basePort + KINDS.indexOf(kind) * ROOM + index : CONTAINER_PORTS[kind]
  const hostOf = (name: string) => (isLoopback ? LOOPBACK : name)
  const groups = Array.from({ length: size.workers + 1 }, (_, number): Group => {
    const groupName = number === 0 ? 'c' : `w${number}`
    const members = Array.from({ length: size.members }, (_, index): Member => {
      const place = number * size.members + index
      const name = groupName + LETTERS[index]
      return {
        name,
        group: number,
        host: hostOf(name),
        postgresPort: port('postgres', place),
        patroniPort: port('patroni', place),
        connectPort: port('connect', 0) + place,
      }
    })
    return { number, name: groupName, members }
  })
  const proxies = Array.from({ length: size.proxies }, (_, index): Balancer => {
    const name = `proxy${index + 1}`
    const first = port('proxy', 0) + (isLoopback ? index * ROOM : 0)
    return {
      name,
      host: hostOf(name),
      writePort: first,
      readPort: first + 1,
      httpPort: first + 2,
      statisticsPort: first + 3,
      groupPorts: new Map(
        groups
          .slice(1)
          .map(({ number }) => [number, { write: first + 2 + 2 * number, read: first + 3 + 2 * number }]),
      ),
    }
  })
  const store = Array.from({ length: size.store }, (_, index): StoreMember => {
    const name = `etcd${index + 1}`
    return {
      name,
      host: hostOf(name),
      clientPort: port('etcdClient', index),
      peerPort: port('etcdPeer', index),
    }
  })
  return {
    name: 'tessera',
    isCitus,
    placement,
    groups,
    members: groups.flatMap(({ members }) => members),
    proxies,
    store,
    fencers: store.map((_, index) => ({ name: `fencer${index + 1}` })),
    // Its port follows those of the last proxy.
    recorders: size.backups
      ? [{ name: 'recorder', host: hostOf('recorder'), port: port('proxy', size.proxies * ROOM) }]
      : [],
    gateways: Array.from({ length: size.gateways }, (_, index) => {
      const name = `gateway${index + 1}`
      return { name, host: hostOf(name), port: port('gateway', index) }
    }),
  }
}
