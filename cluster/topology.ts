// Owns what the cluster consists of: members, groups, proxies, the store; their names, roles and ports. The one source.

/** PostgreSQL with the Patroni that looks after it. */
export type Member = {
  /** `ca`, `cb`, `w1a`, `w1b`, … : its group and its letter. */
  readonly name: string
  readonly group: number
  readonly postgresPort: number
  readonly patroniPort: number
  /** Where others reach its PostgreSQL: a listener of the proxies, which cuts them off when it falls silent. */
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

export type StoreMember = { readonly name: string; readonly clientPort: number; readonly peerPort: number }

export type GatewayPlace = { readonly name: string; readonly port: number }

export type Topology = {
  /** As Patroni's scope: what keys in etcd begin with. */
  readonly name: string
  /** Whether the groups are nodes of Citus; without, there is one group and nothing is distributed. */
  readonly isCitus: boolean
  readonly address: string
  readonly groups: readonly Group[]
  readonly members: readonly Member[]
  readonly proxies: readonly Balancer[]
  readonly store: readonly StoreMember[]
  readonly gateways: readonly GatewayPlace[]
}

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
}

export const DEFAULT_SIZE: Size = {
  workers: 3,
  members: 2,
  gateways: 1,
  proxies: 2,
  store: 3,
  basePort: 25_000,
}

/** Ports per kind: room for ten groups of four. */
const ROOM = 50
const LETTERS = 'abcdefghij'

/** Everything on one machine's loopback, told apart by ports. */
export function makeTopology(size: Size): Topology {
  const isCitus = size.workers > 0
  const port = (kind: number, index: number) => size.basePort + kind * ROOM + index
  const groups = Array.from({ length: size.workers + 1 }, (_, number): Group => {
    const name = number === 0 ? 'c' : `w${number}`
    const members = Array.from({ length: size.members }, (_, index): Member => {
      const place = number * size.members + index
      return {
        name: name + LETTERS[index],
        group: number,
        postgresPort: port(1, place),
        patroniPort: port(2, place),
        connectPort: port(3, place),
      }
    })
    return { number, name, members }
  })
  const proxies = Array.from({ length: size.proxies }, (_, index): Balancer => {
    const first = 4 + index
    return {
      name: `proxy${index + 1}`,
      writePort: port(first, 0),
      readPort: port(first, 1),
      httpPort: port(first, 2),
      statisticsPort: port(first, 3),
      groupPorts: new Map(
        groups
          .slice(1)
          .map(({ number }) => [
            number,
            { write: port(first, 2 + 2 * number), read: port(first, 3 + 2 * number) },
          ]),
      ),
    }
  })
  return {
    name: 'tessera',
    isCitus,
    address: '127.0.0.1',
    groups,
    members: groups.flatMap(({ members }) => members),
    proxies,
    store: Array.from({ length: size.store }, (_, index) => ({
      name: `etcd${index + 1}`,
      clientPort: port(0, 2 * index),
      peerPort: port(0, 2 * index + 1),
    })),
    gateways: Array.from({ length: size.gateways }, (_, index) => ({
      name: `gateway${index + 1}`,
      port: port(0, 20 + index),
    })),
  }
}
