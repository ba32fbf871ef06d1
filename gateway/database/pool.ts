// Owns the connections to one address: their number, deadlines and session settings, and the cancelling of queries.

import type { Socket } from 'node:net'
import pg from 'pg'
import type { Emit } from '../events.ts'
import { encryptionOf, isExposed } from './encryption.ts'
import { keepRowsRaw } from './exchange.ts'
import { makePressureGauge } from './pressure.ts'
import type { ProbeConnection } from './probe.ts'
import { ADD_POSTGIS } from './search-path.ts'

/** Kind of an address: `read` leads to secondaries, `write` to the primary. */
export type Port = 'read' | 'write'
/** Purpose of connections; writes use another role than reads. */
export type Purpose = 'read' | 'write'

export type PoolOptions = {
  readonly port: Port
  readonly purpose: Purpose
  readonly url: string
  readonly size: number
  readonly statementTimeoutMs: number
  readonly emit: Emit
}

export type Connection = pg.PoolClient

/** Longest wait for a connection of the pool; before that, work waits for its turn in admission.ts. */
const QUEUE_TIMEOUT_MS = 5_000
/** Time limit to connect to a server. Shorter than QUEUE_TIMEOUT_MS, because exceeding that is no sign of a fault. */
const CONNECT_TIMEOUT_MS = 2_000
/** How much longer than the server's own statement timeout the driver waits: only a dead server is that late. */
const DRIVER_GRACE_MS = 2_000
/** Age at which a connection is replaced, so that none outlives a rolling restart; it differs between pools. */
export const MAX_LIFETIME_S = 1_800
const LIFETIME_JITTER = 0.2
/**
 * Connections that stay open while idle, so that the first work after a quiet time, or after another address was lost,
 * does not wait for TLS and authentication. One is enough, because every process has some at every address.
 */
const WARM = 1
/** Time in which the server must take a cancel request; otherwise the connection is given up. */
const CANCEL_TIMEOUT_MS = 1_000

/** Returns the settings of a session. Their values are constants, never a caller's. */
const sessionOptions = (purpose: Purpose) =>
  Object.entries({
    // A second protection; the first is the privileges of the role.
    ...(purpose === 'read' ? { default_transaction_read_only: 'on' } : {}),
    // With many small queries, a parallel or compiled plan only takes cores from the others.
    jit: 'off',
    max_parallel_workers_per_gather: '0',
    // The server notices during a query that its client has gone silently.
    client_connection_check_interval: '1000',
    // Citus uses one connection to each worker for a query of many shards. By default it opens more while others
    // wait, which made such queries four times slower with eight clients. Without Citus this has no effect.
    'citus.max_adaptive_executor_pool_size': '1',
    // Claims of callers reach workers in this way, see claims.ts.
    'citus.propagate_set_commands': 'local',
    // Statements contain names of properties as JSON, whose backslashes must stay.
    standard_conforming_strings: 'on',
    TimeZone: 'UTC',
    DateStyle: 'ISO',
    IntervalStyle: 'iso_8601',
  })
    .map(([name, value]) => `-c ${name}=${value}`)
    .join(' ')

/** Adds options to a URL. It may have options of its own, which the driver would otherwise use instead. */
function withOptions(url: string, options: string): string {
  const [address, query] = url.split('?', 2)
  const parameters = new URLSearchParams(query)
  parameters.set('options', `${parameters.get('options') ?? ''} ${options}`.trim())
  return `${address}?${parameters}`
}

/** Leaves results as the text that PostgreSQL sent, because most of them are passed on without being parsed. */
const rawTypes = { getTypeParser: () => (value: unknown) => value } as unknown as pg.CustomTypesConfig

/** An address leads to the wrong kind of member; no work has been sent there. */
export class WrongMember extends Error {}

/** Facts about the server that a connection has reached. */
export type Whereabouts = {
  readonly isCitus: boolean
  /** True if the node itself is a secondary, whichever nodes Citus queries from there. */
  readonly isSecondary: boolean
  /** True if reads through the connection come from secondaries. */
  readonly readsSecondaries: boolean
  /** Node group of the node itself; undefined without Citus. */
  readonly group: number | undefined
  /** LSN that the node itself is known to have reached, see consistency.ts. */
  lsn?: bigint
}

const MEMBER = `select extract(epoch from clock_timestamp()) * 1000, pg_is_in_recovery(), current_setting('citus.use_secondary_nodes', true),
    exists (select from pg_extension where extname = 'citus')`
/** Also prepares the session, in the same round trip. */
const NEW_MEMBER = `${MEMBER}, ${ADD_POSTGIS}`
const GROUP = { text: 'select groupid from pg_dist_local_group', rowMode: 'array' as const }

/**
 * Checks that a connection has reached the right kind of member.
 * @param text MEMBER or NEW_MEMBER
 * @returns the member, and the time at which it answered, by its own clock in milliseconds
 * @throws WrongMember
 */
async function checkMember(
  client: pg.ClientBase,
  port: Port,
  text = MEMBER,
): Promise<Omit<Whereabouts, 'group'> & { readonly servedMs: number }> {
  const { rows } = await client.query<string[]>({ text, rowMode: 'array' })
  const [servedMs, isInRecovery, useSecondaries, hasCitus] = rows[0]!
  const isSecondary = isInRecovery === 't'
  const isCitus = hasCitus === 't'
  if (port === 'write' && isSecondary) throw new WrongMember('the address to write to leads to a secondary')
  if (port === 'read' && isSecondary && isCitus && useSecondaries !== 'always')
    throw new WrongMember(
      "through this address Citus would read from the workers' primaries; add options=-c%20citus.use_secondary_nodes%3Dalways to it",
    )
  return {
    isCitus,
    isSecondary,
    readsSecondaries: isSecondary || (isCitus && useSecondaries === 'always'),
    servedMs: Number(servedMs),
  }
}

/** Returns the server that a connection has reached. @throws WrongMember */
async function findWhereabouts(client: pg.ClientBase, port: Port): Promise<Whereabouts> {
  const { servedMs: _, ...member } = await checkMember(client, port, NEW_MEMBER)
  if (!member.isCitus) return { ...member, group: undefined }
  const { rows } = await client.query<string[]>(GROUP)
  return { ...member, group: Number(rows[0]![0]) }
}

const whereabouts = new WeakMap<pg.ClientBase, Whereabouts>()
export const whereaboutsOf = (connection: Connection) => whereabouts.get(connection)!

class PoolClient extends pg.Client {
  constructor(options: pg.ClientConfig) {
    super({
      ...options,
      ...encryptionOf(options.connectionString!),
      connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    })
    // A connection that breaks also fails its running query, or the next. Without a listener the event would end
    // the process, because the pool only listens while the connection is idle.
    this.on('error', () => {})
    keepRowsRaw(this)
  }
}

export interface Pool {
  /** Host and port. */
  readonly name: string
  readonly port: Port
  /** Returns a connection, which must be released. */
  connect(): Promise<Connection>
  /**
   * Returns how long the driver waits for a statement, in milliseconds: longer than the server, whose time limit
   * also applies to each statement before it.
   * @param place number of the statement among those that run on its connection, from 1
   */
  patienceMs(place: number): number
  /** Opens a connection for the next work if there is none; returns at once. */
  warm(): void
  end(): Promise<void>
}

/** Addresses of which it was logged that their connections are not encrypted. */
const exposed = new Set<string>()

export function openPool({ port, purpose, url, size, statementTimeoutMs, emit }: PoolOptions): Pool {
  const connectionString = withOptions(url, sessionOptions(purpose))
  const name = nameOf(url)
  const pool = new pg.Pool({
    Client: PoolClient as unknown as new () => pg.ClientBase,
    connectionString,
    max: size,
    min: WARM,
    application_name: `tessera-${purpose}`,
    statement_timeout: statementTimeoutMs,
    query_timeout: statementTimeoutMs + DRIVER_GRACE_MS,
    connectionTimeoutMillis: QUEUE_TIMEOUT_MS,
    maxLifetimeSeconds: Math.round(MAX_LIFETIME_S * (1 - LIFETIME_JITTER * Math.random())),
    idleTimeoutMillis: 60_000,
    keepAlive: true,
    // The query for a secondary's LSN and the read after it take one round trip.
    pipeline: true,
    types: rawTypes,
    async onConnect(client: pg.ClientBase) {
      whereabouts.set(client, await findWhereabouts(client, port))
      if (isExposed(client) && !exposed.has(name)) {
        exposed.add(name)
        emit({ type: 'connection-unencrypted', endpoint: name })
      }
    },
  } as pg.PoolConfig)
  // Without a listener, an idle connection that breaks would end the process.
  pool.on('error', (error) => emit({ type: 'connection-lost', port, error }))
  /** Callers that wait for a connection. When the pool ends, the driver forgets them, and they would wait in vain. */
  const waiting = new Set<(error: Error) => void>()
  return {
    name,
    port,
    patienceMs: (place) => statementTimeoutMs * place + DRIVER_GRACE_MS,
    connect: () =>
      new Promise((resolve, reject) => {
        waiting.add(reject)
        pool.connect().then(
          (connection) => {
            if (waiting.delete(reject)) resolve(connection)
            else connection.release(true)
          },
          (error) => {
            waiting.delete(reject)
            reject(error)
          },
        )
      }),
    warm() {
      if (pool.totalCount >= WARM) return
      // The next work at this address gets the error.
      pool.connect().then(
        (connection) => connection.release(),
        () => {},
      )
    },
    end() {
      for (const reject of waiting) reject(new Error('The pool has ended.'))
      waiting.clear()
      return pool.end()
    },
  }
}

/** Returns the name of an address as the driver reads its URL: `localhost:5432`, or the path of a socket. */
export function nameOf(url: string): string {
  const { host, port } = new pg.Client({ connectionString: url })
  return host.startsWith('/') ? `${host}/.s.PGSQL.${port}` : `${host}:${port}`
}

/** Opens a separate connection, which checks with each probe that it has reached the right kind of member. */
export async function openProbeConnection(
  port: Port,
  url: string,
  timeoutMs: number,
): Promise<ProbeConnection> {
  const client = new pg.Client({
    connectionString: withOptions(url, '-c default_transaction_read_only=on'),
    ...encryptionOf(url),
    application_name: 'tessera-probe',
    connectionTimeoutMillis: timeoutMs,
    query_timeout: timeoutMs,
    keepAlive: true,
    types: rawTypes,
  })
  client.on('error', () => {})
  const closed = new Promise<void>((resolve) => client.once('end', resolve))
  const close = () => abandon(client)
  try {
    await client.connect()
    const { group } = await findWhereabouts(client, port)
    const pressureOf = makePressureGauge()
    return {
      async ask() {
        const sentMs = now()
        const { servedMs } = await checkMember(client, port)
        return pressureOf({ sentMs, servedMs, receivedMs: now() })
      },
      group,
      closed,
      close,
    }
  } catch (error) {
    close()
    throw error
  }
}

/** Returns milliseconds of a clock that is never set back. */
const now = () => performance.timeOrigin + performance.now()

/** Members of every connection of the driver that its types do not declare. */
type Internals = {
  readonly host: string
  readonly port: number
  readonly processID: number
  readonly secretKey: number
  readonly sslNegotiation: string
  readonly connection: {
    /** False if the server does not speak TLS. */
    readonly ssl: boolean | object
    readonly stream: Pick<Socket, 'cork' | 'uncork' | 'destroy'>
  }
}

/** Sends everything that is written before the next tick in one packet. */
export function gather(client: pg.ClientBase) {
  const { stream } = (client as unknown as Internals).connection
  stream.cork()
  process.nextTick(() => stream.uncork())
}

/** Destroys the socket; queries that wait for an answer fail at once. */
export function abandon(client: pg.ClientBase, error?: Error) {
  ;(client as unknown as Internals).connection.stream.destroy(error)
}

/**
 * Requests the server to cancel the query of `client`, and resolves once the server has taken the request.
 * After that, and after the end of the query, the connection is safe to use again: a cancel request that
 * arrives late finds the session idle, and PostgreSQL ignores it.
 * @returns true if the server took the request in time; if not, the connection must be given up
 * @see https://www.postgresql.org/docs/current/protocol-flow.html, "Canceling Requests in Progress"
 */
export function cancelQuery(client: Connection): Promise<boolean> {
  const { host, port, processID, secretKey, sslNegotiation, connection: own } = client as unknown as Internals
  const { ssl } = own
  // The key of a session cancels its queries, so it is sent over TLS if the session itself uses TLS.
  const connection = new pg.Connection({ ssl, sslNegotiation } as pg.ConnectionConfig) as RawConnection
  const cancel = () => connection.cancel(processID, secretKey)
  return new Promise((resolve) => {
    const settle = (isTaken: boolean) => {
      clearTimeout(timer)
      connection.stream.destroy()
      resolve(isTaken)
    }
    const timer = setTimeout(() => settle(false), CANCEL_TIMEOUT_MS)
    connection.once('connect', () => {
      if (!ssl) cancel()
      else if (sslNegotiation !== 'direct') connection.requestSsl()
    })
    connection.once('sslconnect', cancel)
    connection.on('error', () => settle(false))
    // The server closes the connection without an answer, after it has signalled the backend.
    connection.once('end', () => settle(true))
    if (host.startsWith('/')) connection.connect(`${host}/.s.PGSQL.${port}`)
    else connection.connect(port, host)
  })
}

/** The driver's connection, with members that its types do not declare. */
type RawConnection = Omit<pg.Connection, 'connect'> & {
  readonly stream: Socket
  connect(portOrPath: number | string, host?: string): void
  requestSsl(): void
  cancel(processId: number, secretKey: number): void
}
