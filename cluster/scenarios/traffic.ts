// Owns the traffic during scenarios: clients that record which ids were acknowledged to them, and when.

import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import type { Credentials, Role } from '../credentials.ts'
import { connect } from '../database-urls.ts'
import type { Balancer, Topology } from '../topology.ts'

/** Default of a gateway. A client gives up a statement that takes longer, together with its connection. */
const STATEMENT_TIMEOUT_MS = 10_000
const DRIVER_GRACE_MS = 1_000
const CONNECT_TIMEOUT_MS = 2_000
const RETRY_MS = 50
/** Pause between two requests of a client, because scenarios test faults and not an overloaded machine. */
const PAUSE_MS = 20

export const TABLE = 'scenario_row'

export type Outcome = {
  /** Ids whose insertion the cluster acknowledged, or that it returned. */
  readonly acknowledged: readonly number[]
  /** Longest time between two acknowledgements of a client. */
  readonly longestGapMs: number
  readonly failures: number
}

export interface Clients {
  /** Returns true if each client got a response within the last `withinMs`. */
  areServed(withinMs: number): boolean
  stop(): Promise<Outcome>
}

type Behaviour = {
  readonly user: Role
  readonly portOf: (proxy: Balancer) => number
  readonly options: string | undefined
  readonly statement: string
}

/** Writers insert each id once. */
const WRITER: Behaviour = {
  user: 'tessera_write',
  portOf: ({ writePort }) => writePort,
  options: undefined,
  statement: `insert into ${TABLE} (id) values ($1) returning id`,
}
/** Readers look up rows that exist from the start. */
const reader = ({ isCitus }: Topology): Behaviour => ({
  user: 'tessera_read',
  portOf: ({ readPort }) => readPort,
  options: isCitus ? '-c citus.use_secondary_nodes=always' : undefined,
  statement: `select id from ${TABLE} where id = $1`,
})

export type Traffic = {
  readonly topology: Topology
  readonly credentials: Credentials
  readonly count: number
  readonly ids: readonly number[]
}

export const startWriters = (traffic: Traffic) => startClients(traffic, WRITER)
export const startReaders = (traffic: Traffic) => startClients(traffic, reader(traffic.topology))

function startClients({ topology, credentials, count, ids }: Traffic, behaviour: Behaviour): Clients {
  const { proxies } = topology
  const acknowledged: number[] = []
  const servedAt: number[] = Array(count).fill(performance.now())
  let isRunning = true
  let longestGapMs = 0
  let failures = 0
  /** Connects to one proxy, and after each failure to the next one. */
  const open = (attempt: number) => {
    const proxy = proxies[attempt % proxies.length]!
    const where = { host: proxy.host, port: behaviour.portOf(proxy) }
    return connect(credentials, behaviour.user, where, {
      statement_timeout: STATEMENT_TIMEOUT_MS,
      query_timeout: STATEMENT_TIMEOUT_MS + DRIVER_GRACE_MS,
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
      ...(behaviour.options ? { options: behaviour.options } : {}),
    })
  }
  const act = async (number: number) => {
    let client: pg.Client | undefined
    let attempt = number
    let warnings = 0
    const isReader = behaviour !== WRITER
    for (let index = number; isRunning; index += count) {
      const id = ids[isReader ? index % ids.length : index]
      if (id === undefined) throw new Error('The scenario took longer than there are ids.')
      try {
        if (!client) {
          client = await open(attempt)
          client.on('notice', () => warnings++)
        }
        const { rowCount } = await client.query(behaviour.statement, [id])
        // A commit with a warning may be on one member only.
        if (rowCount !== 1 || warnings > 0) throw new Error('not acknowledged')
        acknowledged.push(id)
        longestGapMs = Math.max(longestGapMs, performance.now() - servedAt[number]!)
        servedAt[number] = performance.now()
        await sleep(PAUSE_MS)
      } catch {
        failures++
        attempt++
        warnings = 0
        // The end is not awaited, because a frozen server does not close a connection.
        client?.end().catch(() => {})
        client = undefined
        await sleep(RETRY_MS)
      }
    }
    longestGapMs = Math.max(longestGapMs, performance.now() - servedAt[number]!)
    client?.end().catch(() => {})
  }
  const acting = Promise.all(Array.from({ length: count }, (_, number) => act(number)))
  return {
    areServed: (withinMs) => servedAt.every((at) => performance.now() - at < withinMs),
    async stop() {
      isRunning = false
      await acting
      return { acknowledged, longestGapMs, failures }
    },
  }
}
