// Owns what the cluster consists of: members, groups, proxies, the store; their names, roles and ports. The one source.

/** PostgreSQL with the Patroni that looks after it. */
export type Member = {
  /** `ca`, `cb`, `w1a`, `w1b`, … : its group and its letter. */
  readonly name: string
  readonly group: number
  readonly host: string
  readonly postgresPort: number
  readonly patroniPort: number
  /** On loopback, where others reach its PostgreSQL: a listener of HAProxy, which cuts them off when it falls silent. */
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
  /** The primary of the coordinator. */
  readonly writePort: number
  /** Its secondaries; the primary only where there is none. */
  readonly readPort: number
  /** The gateways. */
  readonly httpPort: number
  /** Statistics, and metrics for Prometheus under /metrics. */
  readonly statisticsPort: number
  /** By group: straight to a worker's primary and secondaries. */
  readonly groupPorts: ReadonlyMap<number, { readonly write: number; readonly read: number }>
}

export type StoreMember = {
  readonly name: string
  readonly host: string
  readonly clientPort: number
  readonly peerPort: number
}

export type GatewayPlace = { readonly name: string; readonly host: string; readonly port: number }

/** All on one machine's loopback, told apart by ports; or each in a container, told apart by its name. */
export type Placement = 'loopback' | 'containers'

export type Topology = {
  /** As Patroni's scope: what keys in etcd begin with. */
  readonly name: string
  /** Whether the groups are nodes of Citus; without, there is one group and nothing is distributed. */
  readonly isCitus: boolean
  readonly placement: Placement
  readonly groups: readonly Group[]
  readonly members: readonly Member[]
  readonly proxies: readonly Balancer[]
  readonly store: readonly StoreMember[]
  /** One beside each member of the store: a majority of them must agree. */
  readonly fencers: readonly { readonly name: string }[]
  readonly gateways: readonly GatewayPlace[]
}

export const LOOPBACK = '127.0.0.1'

/** Where in etcd Patroni keeps what it knows of a group. */
export const storeFolderOf = ({ name, isCitus }: Topology, { number }: Group) =>
  isCitus ? `/service/${name}/${number}` : `/service/${name}`

/** Where in etcd a fencer shows that it lives. */
export const lifeKeyOf = (fencer: string) => `${LIFE_FOLDER}${fencer}`
export const LIFE_FOLDER = '/tessera-fencer/'

export const urlOf = (host: string, port: number) => `http://${host}:${port}`

/** Where every process of the cluster accepts connections. */
export const listenAddressOf = ({ placement }: Topology) => (placement === 'loopback' ? LOOPBACK : '0.0.0.0')

/** Of etcd's members, which talk to nobody without a certificate. */
export const storeUrlOf = (host: string, port: number) => `https://${host}:${port}`

/** All ports that its processes listen at. */
export const portsOf = ({ members, store, proxies, gateways }: Topology): readonly number[] => [
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
  ...gateways.map(({ port }) => port),
]

export type Size = {
  /** Worker groups; 0 for one plain pair without Citus. */
  readonly workers: number
  /** Members of each group. */
  readonly members: number
  readonly gateways: number
  readonly proxies: number
  /** Members of etcd: odd, so that one more than half is left when one is lost. */
  readonly store: number
  /** The first of the ports, all of which follow it. */
  readonly basePort: number
  /** Whether gateways import the demo data where it is missing. */
  readonly demo: boolean
  /** MiB of memory as each member's file system, for trials; 0 for the folder that they live in. */
  readonly disk: number
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
}

/** Groups beside the coordinator's, at the most. */
export const MAX_WORKERS = 9

/** Ports per kind on loopback: room for ten groups of four. */
const ROOM = 50
const LETTERS = 'abcdefghij'

/** In containers each has its usual port, but for the ways to members, which are all on one loopback. */
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

/** Groups keep their ports when another is added behind them. */
export function makeTopology(size: Size, placement: Placement = 'loopback'): Topology {
  const isCitus = size.workers > 0
  const isLoopback = placement === 'loopback'
  /** @param index of the thing of this kind */
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
    gateways: Array.from({ length: size.gateways }, (_, index) => {
      const name = `gateway${index + 1}`
      return { name, host: hostOf(name), port: port('gateway', index) }
    }),
  }
}
