// Owns one address of the database: its connections, its circuit breaker, and what happens to work when it fails.

import CircuitBreaker from 'opossum'
import type { Emit } from '../events.ts'
import { type Admission, GATEWAY, makeAdmission, spareOf } from './admission.ts'
import { type Lease, leaseConnection } from './lease.ts'
import { DatabaseFailure, unreachable } from './outcome.ts'
import { abandon, type Connection, openPool, openProbeConnection, type Port, type Purpose } from './pool.ts'
import { adapt, adaptShare, SURE } from './pressure.ts'
import { startProbe } from './probe.ts'

export type EndpointOptions = {
  readonly port: Port
  readonly readUrl: string
  /** URL for changes at the write port, which use another role than reads there. */
  readonly writeUrl?: string
  readonly poolSize: number
  readonly statementTimeoutMs: number
  readonly emit: Emit
}

/** Kinds of work. Streams last as long as their clients read; with their own pool they cannot starve short reads. */
export type Work = Purpose | 'stream'

export interface Endpoint {
  /** Host and port, without secrets. */
  readonly name: string
  readonly port: Port
  /** Node group of the server behind it; undefined until it is known, and without Citus. */
  readonly group: number | undefined
  /** False while its breaker is open; only probes are sent there then. */
  readonly isUp: boolean
  /** Time at which its breaker opened, by performance.now(); undefined while it is closed. */
  readonly downSince: number | undefined
  /** Limits how much of each kind of work runs here at once. */
  readonly admissions: Readonly<Record<Work, Admission>>
  /**
   * Runs work with a connection of its own, then gives the connection back.
   * @throws DatabaseFailure, or what `work` throws by itself
   */
  use<T>(purpose: Purpose, work: (lease: Lease) => Promise<T>, signal?: AbortSignal): Promise<T>
  /**
   * Runs the first part of a stream, which lasts as long as its client reads; the connection stays leased.
   * @throws as use; then no connection stays leased
   */
  begin<T>(work: (lease: Lease) => Promise<T>, signal?: AbortSignal): Promise<T>
  close(): Promise<void>
}

/** Time limit of a probe: longer than a busy machine delays a small query, so that only a frozen one exceeds it. */
const PROBE_TIMEOUT_MS = 1_500
/** How much longer than reads, changes wait at a server that does not answer its probe: it may only be slow. */
const CHANGE_PATIENCE_MS = 3_000
/** The breaker opens if at least this many attempts were made within the window and half of them failed. */
const TRIES = 3
const WINDOW_MS = 1_000
/**
 * The probe closes the circuit. The breaker itself would try a user's request first, so its own reset is effectively
 * disabled: 2^31 − 1 ms is Node's longest timer.
 */
const NEVER_MS = 2 ** 31 - 1

export function openEndpoint({
  port,
  readUrl,
  writeUrl,
  poolSize,
  statementTimeoutMs,
  emit,
}: EndpointOptions): Endpoint {
  const shared = { port, statementTimeoutMs, emit }
  const openPools = () => ({
    read: openPool({ purpose: 'read', url: readUrl, size: withSpare(poolSize), ...shared }),
    stream: openPool({ purpose: 'read', url: readUrl, size: withSpare(streamsOf(poolSize)), ...shared }),
    write: writeUrl
      ? openPool({ purpose: 'write', url: writeUrl, size: withSpare(poolSize), ...shared })
      : undefined,
  })
  const endPools = ({ read, stream, write }: typeof pools) =>
    Promise.all([read.end(), stream.end(), write?.end()])
  let pools = openPools()
  const { name } = pools.read
  /** Connections in use; if the server answers no probe any more, their answers will not come either. */
  const waiting: Record<Purpose, Set<Connection>> = { read: new Set(), write: new Set() }
  /** Cuts the connections in use. Their work fails as a lost connection, whatever the error of the probe was. */
  const abandonAll = (purpose: Purpose, error?: Error) => {
    const lost = error && new Error('Connection terminated: no sign of life.', { cause: error })
    for (const connection of waiting[purpose]) abandon(connection, lost)
  }
  let patience: NodeJS.Timeout | undefined
  let reason: Error | undefined
  let group: number | undefined
  let downSince: number | undefined

  const breaker = new CircuitBreaker((work: () => Promise<unknown>) => work(), {
    // PostgreSQL and the driver keep the deadlines; a timeout of the breaker would forget a query that still runs.
    timeout: false,
    volumeThreshold: TRIES,
    errorThresholdPercentage: 49,
    rollingCountTimeout: WINDOW_MS,
    rollingCountBuckets: 4,
    rollingPercentilesEnabled: false,
    resetTimeout: NEVER_MS,
    errorFilter: (error) => !isFaultOfEndpoint(error),
  })
  const probe = startProbe({
    connect: () => openProbeConnection(port, writeUrl ?? readUrl, PROBE_TIMEOUT_MS),
    timeoutMs: PROBE_TIMEOUT_MS,
    onAnswer(found, pressure) {
      group = found
      admit(pressure)
      if (breaker.opened) breaker.close()
      pools.read.warm()
      pools.write?.warm()
    },
    onFailure(error) {
      reason = error
      breaker.open()
      abandonAll('read', error)
      patience ??= setTimeout(() => abandonAll('write', error), CHANGE_PATIENCE_MS)
    },
  })
  breaker.on('failure', (error) => {
    reason = (error as DatabaseFailure).cause as Error
  })
  breaker.on('open', () => {
    downSince = performance.now()
    emit({ type: 'endpoint-down', port, endpoint: name, error: reason! })
    probe.renew()
    renewPools(pools)
  })
  breaker.on('close', () => {
    downSince = undefined
    clearTimeout(patience)
    patience = undefined
    emit({ type: 'endpoint-up', port, endpoint: name })
  })

  let limit = Math.min(SURE, poolSize)
  /** How many reads one client may run while others use the database. */
  let share = limit
  const admissions: Record<Work, Admission> = {
    read: makeAdmission(limit),
    stream: makeAdmission(streamsOf(limit)),
    write: makeAdmission(poolSize),
  }
  /**
   * Adapts the limits of reads, which fill a server's processors. Changes wait for disks and secondaries and have
   * priority anyway, so their limit stays.
   */
  function admit(pressure: number) {
    const { read, stream } = admissions
    limit = adapt(limit, pressure, read.waiting + stream.waiting > 0, poolSize)
    read.resize(Math.round(limit))
    stream.resize(streamsOf(Math.round(limit)))
    const seen = new Set([read, stream, admissions.write].flatMap((one) => [...one.takeSeen()]))
    seen.delete(GATEWAY)
    share = adaptShare(share, pressure, seen.size > 1, limit)
    // While no other client comes, one may use everything.
    const mostOfOne = share < limit ? Math.floor(share) : Number.POSITIVE_INFINITY
    read.bound(mostOfOne)
    stream.bound(mostOfOne)
  }

  const isUp = () => !breaker.opened && !breaker.isShutdown

  async function guarded<T>(work: () => Promise<T>): Promise<T> {
    if (!isUp()) throw unreachable(reason)
    return breaker.fire(work) as Promise<T>
  }

  /**
   * Replaces the pools. If one connection is broken, others may be broken too, which shows only when they are used;
   * a retry needs a new one. Connections in use end with their work.
   */
  function renewPools(from: typeof pools) {
    if (from !== pools || breaker.isShutdown) return
    pools = openPools()
    endPools(from)
  }

  /** Runs work with a connection. @param keeps true if the connection stays leased after success */
  async function leasing<T>(
    from: Work,
    work: (lease: Lease) => Promise<T>,
    signal: AbortSignal | undefined,
    keeps: boolean,
  ): Promise<T> {
    const current = pools
    const purpose = from === 'write' ? 'write' : 'read'
    try {
      const leased = await leaseConnection(current[from]!, purpose, emit, signal)
      waiting[purpose].add(leased.connection)
      const release = (last?: string) => {
        waiting[purpose].delete(leased.connection)
        return leased.release(last)
      }
      let isDone = false
      try {
        const result = await work({ ...leased, release })
        isDone = true
        return result
      } finally {
        if (!keeps || !isDone) await release(keeps ? 'rollback' : undefined)
      }
    } catch (error) {
      if (isFaultOfEndpoint(error)) renewPools(current)
      throw error
    }
  }

  return {
    name,
    port,
    admissions,
    get group() {
      return group
    },
    get isUp() {
      return isUp()
    },
    get downSince() {
      return downSince
    },
    use: (purpose, work, signal) => guarded(() => leasing(purpose, work, signal, false)),
    begin: (work, signal) => guarded(() => leasing('stream', work, signal, true)),
    async close() {
      probe.stop()
      breaker.shutdown()
      clearTimeout(patience)
      abandonAll('read')
      await endPools(pools)
    },
  }
}

/** Returns how many connections work needs of which this much may run at once. */
const withSpare = (limit: number) => limit + spareOf(limit)

/** Returns how many streams are allowed if this many reads are. */
const streamsOf = (reads: number) => Math.max(1, reads >> 1)

/** Returns how many connections a process opens at an address at most: those of its pools, and that of the probe. */
export const mostConnections = (port: Port, poolSize: number) =>
  withSpare(poolSize) + withSpare(streamsOf(poolSize)) + (port === 'write' ? withSpare(poolSize) : 0) + 1

const isFaultOfEndpoint = (error: unknown) => error instanceof DatabaseFailure && error.scope === 'endpoint'
