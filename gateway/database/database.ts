// Owns the contract between Tessera and PostgreSQL for whoever serves requests, and opens it.

import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { gatewayError } from '../errors.ts'
import type { Emit } from '../events.ts'
import { classify, classifyChange } from './outcome.ts'
import { cancelQuery, openPool, type Pool } from './pool.ts'

/** One statement with bound parameters. With a `name` it is prepared once per connection. */
export type Statement = {
  readonly name?: string
  readonly text: string
  readonly values: readonly unknown[]
}

/** A row as PostgreSQL sent it: each column's text, or null. */
export type Row = readonly (string | null)[]

export interface Database {
  /**
   * All rows of one statement, from the read port. When `signal` aborts, the server is asked to
   * cancel, and the connection goes back to the pool once it has.
   * @throws GatewayError for every outcome that is not a bug, see outcome.ts
   */
  read(statement: Statement, signal?: AbortSignal): Promise<Row[]>
  /**
   * The rows of a long result in batches, at the reader's pace: no more than a batch is in memory.
   * Ending the iteration early frees the connection.
   */
  stream(statement: Statement, signal?: AbortSignal): AsyncGenerator<Row[], void>
  /** Whether there is a write port. */
  readonly canWrite: boolean
  /**
   * All rows of one statement, from the write port: a transaction of its own, whole or not at all. It is
   * never cancelled when its client leaves.
   * @throws GatewayError; RefusedChange where the database's own rules forbid it, see outcome.ts
   */
  write(statement: Statement): Promise<Row[]>
  /**
   * Statements of one transaction at the write port: all of them, or none where `work` throws.
   * @throws as write
   */
  transact<T>(work: (query: (statement: Statement) => Promise<Row[]>) => Promise<T>): Promise<T>
  /** Asks the read port for a sign of life: while it gives one, there is something to serve. @throws GatewayError */
  ping(): Promise<void>
  close(): Promise<void>
}

export type DatabaseOptions = {
  readonly readUrl: string
  readonly writeUrl: string | undefined
  readonly poolSize: number
  readonly statementTimeoutMs: number
  readonly emit: Emit
}

/** Rows of a stream's first batch: few, so that the first byte leaves early; none at most doubles the one before. */
const FIRST_BATCH_ROWS = 16
/** What a later batch should weigh in bytes: large enough to amortize a round trip, small in memory. */
const BATCH_BYTES = 512 * 1024
const MAX_BATCH_ROWS = 2_000
/** How often a query is cancelled until it ends. */
const CANCEL_INTERVAL_MS = 50

/** Opens the pools; a connection is made when the first statement needs one. */
export function openDatabase(options: DatabaseOptions): Database {
  const { readUrl, writeUrl, poolSize, statementTimeoutMs, emit } = options
  const shared = { statementTimeoutMs, emit }
  const reads = openPool({ role: 'read', url: readUrl, size: poolSize, ...shared })
  // A stream lasts as long as its client takes; apart from the others it cannot starve short reads.
  const streams = openPool({ role: 'read', url: readUrl, size: Math.max(1, poolSize >> 1), ...shared })
  const writes = writeUrl ? openPool({ role: 'write', url: writeUrl, size: poolSize, ...shared }) : undefined

  return {
    async read(statement, signal) {
      const lease = await leaseConnection(reads, emit, signal)
      try {
        return await lease.query(statement)
      } finally {
        await lease.release()
      }
    },

    async *stream(statement, signal) {
      const lease = await leaseConnection(streams, emit, signal)
      try {
        await lease.query({ text: 'begin read only', values: [] })
        // A cursor of its own per fetch, not a suspended portal: statement_timeout then bounds each
        // fetch and not the time that a slow reader takes between two of them.
        await lease.query({
          text: `declare page no scroll cursor for ${statement.text}`,
          values: statement.values,
        })
        let rows = FIRST_BATCH_ROWS
        for (;;) {
          const batch = await lease.query({ text: `fetch ${rows} from page`, values: [] })
          if (batch.length > 0) yield batch
          if (batch.length < rows) break
          rows = Math.min(rowsForNextBatch(batch), rows * 2)
        }
      } finally {
        await lease.release('rollback')
      }
    },

    canWrite: writes !== undefined,

    async write(statement) {
      if (!writes) throw new Error('there is no write port to write to')
      const lease = await leaseConnection(writes, emit, undefined, classifyChange)
      try {
        return await lease.query(statement)
      } finally {
        await lease.release()
      }
    },

    async transact(work) {
      if (!writes) throw new Error('there is no write port to write to')
      const lease = await leaseConnection(writes, emit, undefined, classifyChange)
      let last: string | undefined = 'rollback'
      try {
        await lease.query({ text: 'begin', values: [] })
        const result = await work((statement) => lease.query(statement))
        await lease.query({ text: 'commit', values: [] })
        last = undefined
        return result
      } finally {
        await lease.release(last)
      }
    },

    async ping() {
      const lease = await leaseConnection(reads, emit)
      try {
        await lease.query({ text: 'select 1', values: [] })
      } finally {
        await lease.release()
      }
    },

    async close() {
      await Promise.all([reads.end(), streams.end(), writes?.end()])
    },
  }
}

/**
 * Only PostgreSQL's own answer leaves a connection so, unless that was its last: told by a shutdown or an
 * administrator to end, it closes the connection a moment later.
 */
const isInKnownState = ({ severity, code }: pg.DatabaseError) =>
  severity !== undefined && !/^(FATAL|PANIC)$/.test(severity) && !/^57P0/.test(code ?? '')

const abandoned = () => gatewayError('request-abandoned', 'The client went away.')

function rowsForNextBatch(batch: Row[]): number {
  let bytes = 1
  for (const row of batch) bytes += row[0]?.length ?? 0
  return Math.min(MAX_BATCH_ROWS, Math.max(1, Math.floor((batch.length * BATCH_BYTES) / bytes)))
}

/** A connection for one caller; `release` must follow, and gives it up if it is in doubt. */
async function leaseConnection(
  pool: Pool,
  emit: Emit,
  signal?: AbortSignal,
  classifyFailure: (error: unknown) => Error = classify,
) {
  const client = await pool.connect().catch((error) => {
    throw classify(error)
  })
  // Whoever asked may have left while this waited for its turn.
  if (signal?.aborted) {
    client.release()
    throw abandoned()
  }
  let isRunning = false
  let broken: Error | undefined
  let cancelling: Promise<boolean> | undefined
  const cancel = () => {
    if (!isRunning) return
    emit({ type: 'query-cancelled', pool: 'read' })
    cancelling = cancelWhileRunning()
  }
  /** Again and again: a request that overtakes its query finds the session idle, and has no effect. */
  const cancelWhileRunning = async () => {
    while (isRunning) {
      if (!(await cancelQuery(client))) return false
      await sleep(CANCEL_INTERVAL_MS)
    }
    return true
  }
  signal?.addEventListener('abort', cancel)

  return {
    async query(statement: Statement): Promise<Row[]> {
      if (signal?.aborted) throw abandoned()
      isRunning = true
      try {
        const result = await client.query({
          ...statement,
          values: statement.values as unknown[],
          rowMode: 'array',
        })
        return result.rows
      } catch (error) {
        if (!isInKnownState(error as pg.DatabaseError)) broken = error as Error
        throw signal?.aborted ? abandoned() : classifyFailure(error)
      } finally {
        isRunning = false
      }
    },
    /** @param last a statement that leaves the session as it was found */
    async release(last?: string) {
      signal?.removeEventListener('abort', cancel)
      if (cancelling && !(await cancelling))
        broken ??= new Error('the server did not take the cancel request')
      if (last && !broken) {
        await client.query(last).catch((error) => {
          broken = error
        })
      }
      client.release(broken)
    },
  }
}
