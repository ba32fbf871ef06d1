// Owns the connections to one address: how many, their deadlines, what they are set up with, and cancelling what they run.

import { connect, type Socket } from 'node:net'
import pg from 'pg'
import type { Emit } from '../events.ts'
import { makePressureGauge } from './pressure.ts'
import type { ProbeConnection } from './probe.ts'

/** Where an address leads: to secondaries, or to the primary. */
export type Port = 'read' | 'write'
/** What connections are for; who writes comes as another role than who reads. */
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

/** How long a connection is waited for; for its turn whoever wants one waits in admission.ts before that. */
const QUEUE_TIMEOUT_MS = 5_000
/** By when a server has taken a connection. Shorter than the queue's, which is no sign of a fault. */
const CONNECT_TIMEOUT_MS = 2_000
/** The driver gives up this long after the server should have: only a dead server is that late. */
const DRIVER_GRACE_MS = 2_000
/** A connection is renewed after this, so that none outlives a rolling restart; not all of them at once. */
export const MAX_LIFETIME_S = 1_800
const LIFETIME_JITTER = 0.2
/**
 * So many stay open when nobody needs them: who comes after a quiet time, or when another address was lost, is not kept
 * waiting by TLS and a password. One, for every process has some at every address.
 */
const WARM = 1
/** How long a cancelled query may take to end before its connection is given up. */
const CANCEL_TIMEOUT_MS = 1_000

/** What a session is set up with, per setting why. Values are our own, never a caller's. */
const sessionOptions = (purpose: Purpose) =>
  Object.entries({
    // A second lock on the door: the role's own privileges are the first.
    ...(purpose === 'read' ? { default_transaction_read_only: 'on' } : {}),
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
const rawTypes = { getTypeParser: () => (value: unknown) => value } as unknown as pg.CustomTypesConfig

/** An address leads where it should not; nothing has been asked of what is there. */
export class WrongMember extends Error {}

/** Where a connection has come out. */
export type Whereabouts = {
  readonly isCitus: boolean
  /** Whether the node itself is one, whomever Citus asks from there. */
  readonly isSecondary: boolean
  /** Whether what is read through it comes from secondaries. */
  readonly readsSecondaries: boolean
  /** Of Citus, the group of the node itself; undefined without Citus. */
  readonly group: number | undefined
  /** How far the node itself is known to have come, see consistency.ts. */
  place?: bigint
}

const WHEREABOUTS = {
  text: `select extract(epoch from clock_timestamp()) * 1000, pg_is_in_recovery(), current_setting('citus.use_secondary_nodes', true),
    exists (select from pg_extension where extname = 'citus')`,
  rowMode: 'array' as const,
}
const GROUP = { text: 'select groupid from pg_dist_local_group', rowMode: 'array' as const }

/** @returns where it has come out, and when it was told so, by the server's clock in milliseconds. @throws WrongMember */
async function checkMember(
  client: pg.ClientBase,
  port: Port,
): Promise<Omit<Whereabouts, 'group'> & { readonly servedMs: number }> {
  const { rows } = await client.query<string[]>(WHEREABOUTS)
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

/** @throws WrongMember */
async function findWhereabouts(client: pg.ClientBase, port: Port): Promise<Whereabouts> {
  const { servedMs: _, ...member } = await checkMember(client, port)
  if (!member.isCitus) return { ...member, group: undefined }
  const { rows } = await client.query<string[]>(GROUP)
  return { ...member, group: Number(rows[0]![0]) }
}

const whereabouts = new WeakMap<pg.ClientBase, Whereabouts>()
export const whereaboutsOf = (connection: Connection) => whereabouts.get(connection)!

class PoolClient extends pg.Client {
  constructor(options: pg.ClientConfig) {
    super({ ...options, connectionTimeoutMillis: CONNECT_TIMEOUT_MS })
    // One that breaks also fails the query that waits for it, or the next; without a listener it would end
    // the process, for the pool listens only while nobody has it.
    this.on('error', () => {})
  }
}

export interface Pool {
  /** Host and port. */
  readonly name: string
  readonly port: Port
  /** A connection, which must be released. */
  connect(): Promise<Connection>
  /**
   * For how long the driver waits for a statement, in milliseconds: longer than the server, which has as much time for
   * each of those before it.
   * @param place among those under way on its connection, from 1
   */
  patienceMs(place: number): number
  /** Has one ready for whoever comes, where there is none; returns at once. */
  warm(): void
  end(): Promise<void>
}

export function openPool({ port, purpose, url, size, statementTimeoutMs, emit }: PoolOptions): Pool {
  const connectionString = withOptions(url, sessionOptions(purpose))
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
    // Who asks how far a secondary is, and then for what it has, waits for both once.
    pipeline: true,
    types: rawTypes,
    async onConnect(client: pg.ClientBase) {
      whereabouts.set(client, await findWhereabouts(client, port))
    },
  } as pg.PoolConfig)
  // Without a listener, an idle connection that breaks would end the process.
  pool.on('error', (error) => emit({ type: 'connection-lost', port, error }))
  /** Who waits for a connection: the driver forgets them when the pool ends, and they would wait until their time is up. */
  const waiting = new Set<(error: Error) => void>()
  return {
    name: nameOf(url),
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
      // Whoever asks the address next hears what is wrong with it.
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

/** As the driver understands the URL: `localhost:5432`, or the path of a socket. */
function nameOf(url: string): string {
  const { host, port } = new pg.Client({ connectionString: url })
  return host.startsWith('/') ? `${host}/.s.PGSQL.${port}` : `${host}:${port}`
}

/** A connection of its own, which asks where it has come out. */
export async function openProbeConnection(
  port: Port,
  url: string,
  timeoutMs: number,
): Promise<ProbeConnection> {
  const client = new pg.Client({
    connectionString: withOptions(url, '-c default_transaction_read_only=on'),
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

/** Milliseconds, never set back. */
const now = () => performance.timeOrigin + performance.now()

/** What the driver knows of every connection; its types do not say so. */
type Internals = {
  readonly host: string
  readonly port: number
  readonly processID: number
  readonly secretKey: number
  readonly connection: { readonly stream: Pick<Socket, 'cork' | 'uncork' | 'destroy'> }
}

/** What is sent until this turn of the event loop's work is done leaves in one packet. */
export function gather(client: pg.ClientBase) {
  const { stream } = (client as unknown as Internals).connection
  stream.cork()
  process.nextTick(() => stream.uncork())
}

/** Cuts the wire; what waits for an answer fails at once. */
export function abandon(client: pg.ClientBase, error?: Error) {
  ;(client as unknown as Internals).connection.stream.destroy(error)
}

/**
 * Asks the server to cancel what `client` runs, and resolves once the server has taken the request.
 * After that, and after the query's own end, the connection is safe to use again: a cancel that
 * arrives late finds the session idle, where PostgreSQL ignores it.
 * @returns whether the server took it in time; if not, the connection must be given up
 * @see https://www.postgresql.org/docs/current/protocol-flow.html, "Canceling Requests in Progress"
 */
export function cancelQuery(client: Connection): Promise<boolean> {
  const { host, port, processID, secretKey } = client as unknown as Internals
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
