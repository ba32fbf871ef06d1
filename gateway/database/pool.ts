// Owns one pg.Pool: its limits, its deadlines, what a connection is set up with, and cancelling what it runs.

import { connect } from 'node:net'
import pg from 'pg'
import type { Emit } from '../events.ts'
import { openEndpoints, splitUrls } from './endpoints.ts'

export type PoolOptions = {
  readonly role: 'read' | 'write'
  /** One or several, see endpoints.ts. */
  readonly url: string
  readonly size: number
  readonly statementTimeoutMs: number
  readonly emit: Emit
}

/** How long a request waits for a connection, queueing included, before it is told to come back. */
const CONNECT_TIMEOUT_MS = 5_000
/** The driver gives up this long after the server should have: only a dead server is that late. */
const DRIVER_GRACE_MS = 2_000
/** A connection is renewed after this, so that none outlives a demotion or a rolling restart. */
const MAX_LIFETIME_S = 1_800
/** How long a cancelled query may take to end before its connection is given up. */
const CANCEL_TIMEOUT_MS = 1_000

/** What a session is set up with, per setting why. Values are our own, never a caller's. */
const sessionOptions = (role: PoolOptions['role']) =>
  Object.entries({
    // A second lock on the door: the role's own privileges are the first.
    ...(role === 'read' ? { default_transaction_read_only: 'on' } : {}),
    // Many small queries: a parallel or compiled plan only takes the cores from the others.
    jit: 'off',
    max_parallel_workers_per_gather: '0',
    // A client that went away without a word is noticed while its query still runs.
    client_connection_check_interval: '1000',
    // Citus: one connection to each worker for a query of many shards. More are opened while others wait, and
    // with eight clients that made such queries four times slower. Without Citus it is a name for nothing.
    'citus.max_adaptive_executor_pool_size': '1',
    // Names of properties stand in statements as JSON, whose backslashes are to stay.
    standard_conforming_strings: 'on',
    TimeZone: 'UTC',
    DateStyle: 'ISO',
    IntervalStyle: 'iso_8601',
  })
    .map(([name, value]) => `-c ${name}=${value}`)
    .join(' ')

/** The URL may have options of its own, which the driver would take instead of ours. */
function withOptions(url: string, options: string): string {
  const [address, query] = url.split('?', 2)
  const parameters = new URLSearchParams(query)
  parameters.set('options', `${parameters.get('options') ?? ''} ${options}`.trim())
  return `${address}?${parameters}`
}

/** Results are passed through as the text PostgreSQL sent; nothing is parsed that nobody looks at. */
const rawTypes = { getTypeParser: () => (value: unknown) => value }

export interface Pool {
  /** A connection, which must be released. */
  connect(): Promise<pg.PoolClient>
  end(): Promise<void>
}

export function openPool({ role, url, size, statementTimeoutMs, emit }: PoolOptions): Pool {
  const urls = splitUrls(url).map((one) => withOptions(one, sessionOptions(role)))
  const endpoints = openEndpoints(urls, CONNECT_TIMEOUT_MS)
  const pool = new pg.Pool({
    Client: endpoints.Client as unknown as new () => pg.ClientBase,
    max: size,
    application_name: `tessera-${role}`,
    statement_timeout: statementTimeoutMs,
    query_timeout: statementTimeoutMs + DRIVER_GRACE_MS,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    maxLifetimeSeconds: MAX_LIFETIME_S,
    idleTimeoutMillis: 60_000,
    keepAlive: true,
    types: rawTypes as unknown as pg.CustomTypesConfig,
  })
  // Without a listener, an idle connection that breaks would end the process.
  pool.on('error', (error) => emit({ type: 'connection-lost', pool: role, error }))
  return {
    connect: () => endpoints.reach(() => pool.connect()),
    end: () => pool.end(),
  }
}

/**
 * Asks the server to cancel what `client` runs, and resolves once the server has taken the request.
 * After that, and after the query's own end, the connection is safe to use again: a cancel that
 * arrives late finds the session idle, where PostgreSQL ignores it.
 * @returns whether the server took it in time; if not, the connection must be given up
 * @see https://www.postgresql.org/docs/current/protocol-flow.html, "Canceling Requests in Progress"
 */
export function cancelQuery(client: pg.PoolClient): Promise<boolean> {
  // The driver knows these of every connection; its types do not say so.
  const { host, port, processID, secretKey } = client as unknown as {
    host: string
    port: number
    processID: number
    secretKey: number
  }
  const request = Buffer.alloc(16)
  request.writeInt32BE(16, 0)
  request.writeInt32BE(80877102, 4)
  request.writeInt32BE(processID, 8)
  request.writeInt32BE(secretKey, 12)
  return new Promise((resolve) => {
    const socket = host.startsWith('/') ? connect(`${host}/.s.PGSQL.${port}`) : connect(port, host)
    const settle = (isTaken: boolean) => {
      socket.destroy()
      resolve(isTaken)
    }
    socket.setTimeout(CANCEL_TIMEOUT_MS, () => settle(false))
    socket.on('connect', () => socket.write(request))
    socket.on('error', () => settle(false))
    // The server closes without an answer, after it has sent the signal.
    socket.on('end', () => settle(true))
    socket.resume()
  })
}
