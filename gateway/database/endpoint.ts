// Owns one address of the database: the connections there, whether it serves, and what becomes of work when it does not.

import CircuitBreaker from 'opossum'
import type { Emit } from '../events.ts'
import { type Admission, makeAdmission } from './admission.ts'
import { type Lease, leaseConnection } from './lease.ts'
import { DatabaseFailure, unreachable } from './outcome.ts'
import { abandon, type Connection, openPool, openProbeConnection, type Port, type Purpose } from './pool.ts'
import { adapt, SURE } from './pressure.ts'
import { startProbe } from './probe.ts'

export type EndpointOptions = {
  readonly port: Port
  readonly readUrl: string
  /** At the write port: who changes comes as another role than who reads there. */
  readonly writeUrl?: string
  readonly poolSize: number
  readonly statementTimeoutMs: number
  readonly emit: Emit
}

/** Streams last as long as their clients take: apart from the others they cannot starve short reads. */
export type Work = Purpose | 'stream'

export interface Endpoint {
  /** Host and port, without secrets. */
  readonly name: string
  readonly port: Port
  /** The node group that is behind it, once that is known; undefined without Citus. */
  readonly group: number | undefined
  /** False while its breaker is open: nothing is sent there then but probes. */
  readonly isUp: boolean
  /** When its breaker opened, of performance.now(); undefined while it is closed. */
  readonly downSince: number | undefined
  /** Who may use it, when more want to than it has connections. */
  readonly admissions: Readonly<Record<Work, Admission>>
  /**
   * Runs work with a connection of its own, and gives that back.
   * @throws DatabaseFailure, or what `work` throws by itself
   */
  use<T>(purpose: Purpose, work: (lease: Lease) => Promise<T>, signal?: AbortSignal): Promise<T>
  /**
   * Runs the beginning of work that goes on for as long as a client reads; its connection stays leased.
   * @throws as use; then nothing is leased
   */
  begin<T>(work: (lease: Lease) => Promise<T>, signal?: AbortSignal): Promise<T>
  close(): Promise<void>
}

/** Longer than a busy machine keeps a small question waiting; a frozen one is given up after this. */
const PROBE_TIMEOUT_MS = 1_500
/** What is being changed at a server that gives no sign of life is waited for a little longer: it may be only slow. */
const CHANGE_PATIENCE_MS = 3_000
/** Where so much was tried in a second, failures of half of it open the breaker. */
const TRIES = 3
const WINDOW_MS = 1_000
/** The breaker itself would try its luck with a user's request. It is the probe that closes ours. Node's longest timer. */
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
    read: openPool({ purpose: 'read', url: readUrl, size: poolSize, ...shared }),
    stream: openPool({ purpose: 'read', url: readUrl, size: streamsOf(poolSize), ...shared }),
    write: writeUrl ? openPool({ purpose: 'write', url: writeUrl, size: poolSize, ...shared }) : undefined,
  })
  const endPools = ({ read, stream, write }: typeof pools) =>
    Promise.all([read.end(), stream.end(), write?.end()])
  let pools = openPools()
  const { name } = pools.read
  /** Who waits for an answer that will not come where nobody gives a sign of life any more. */
  const waiting: Record<Purpose, Set<Connection>> = { read: new Set(), write: new Set() }
  /** Whatever the probe was told, what was under way on another connection is lost with that one. */
  const abandonAll = (purpose: Purpose, error?: Error) => {
    const lost = error && new Error('Connection terminated: no sign of life.', { cause: error })
    for (const connection of waiting[purpose]) abandon(connection, lost)
  }
  let patience: NodeJS.Timeout | undefined
  let reason: Error | undefined
  let group: number | undefined
  let downSince: number | undefined

  const breaker = new CircuitBreaker((work: () => Promise<unknown>) => work(), {
    // Deadlines are for PostgreSQL and the driver to keep: this one would forget a query that still runs.
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
  const admissions: Record<Work, Admission> = {
    read: makeAdmission(limit),
    stream: makeAdmission(streamsOf(limit)),
    write: makeAdmission(poolSize),
  }
  /** Reads fill a server's processors. Changes wait for disks and secondaries, and go first anyway: they are let in. */
  function admit(pressure: number) {
    const { read, stream } = admissions
    limit = adapt(limit, pressure, read.waiting + stream.waiting > 0, poolSize)
    read.resize(Math.round(limit))
    stream.resize(streamsOf(Math.round(limit)))
  }

  const isUp = () => !breaker.opened && !breaker.isShutdown

  async function guarded<T>(work: () => Promise<T>): Promise<T> {
    if (!isUp()) throw unreachable(reason)
    return breaker.fire(work) as Promise<T>
  }

  /**
   * Where one connection was broken others may lead nowhere, too, and would only say so when they are used: a second
   * try is to have a new one. Those in use end with their work.
   */
  function renewPools(from: typeof pools) {
    if (from !== pools || breaker.isShutdown) return
    pools = openPools()
    endPools(from)
  }

  /** Runs work with a connection. @param keeps whether the connection stays leased when it has gone well */
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

/** Of so many reads at once, how many may be long. */
const streamsOf = (reads: number) => Math.max(1, reads >> 1)

const isFaultOfEndpoint = (error: unknown) => error instanceof DatabaseFailure && error.scope === 'endpoint'
