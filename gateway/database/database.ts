// Owns the contract between Tessera and PostgreSQL for whoever serves requests, and opens it.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Emit } from '../events.ts'
import { splitUrls } from './addresses.ts'
import type { Priority } from './admission.ts'
import { makeRetryBudget } from './budget.ts'
import { type Endpoint, openEndpoint } from './endpoint.ts'
import type { Lease } from './lease.ts'
import { watchNodeGroups } from './node-groups.ts'
import { DatabaseFailure, unreachable } from './outcome.ts'
import type { Row, Statement } from './query.ts'

export type { Row, Statement }

/** What a reader wants besides the rows. */
export type Demand = {
  /** When it aborts, with a GatewayError as its reason, the server is asked to cancel; then the read fails with that. */
  readonly signal?: AbortSignal
  /** `first` by default. */
  readonly priority?: Priority
}

export interface Database {
  /**
   * All rows of one statement, from a secondary if there is one that serves.
   * @throws GatewayError for every outcome that is not a bug, see outcome.ts
   */
  read(statement: Statement, demand?: Demand): Promise<Row[]>
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
  /** Whether anybody answers whom it can read from; and whom it can write to. */
  readonly isReadable: boolean
  readonly isWritable: boolean
  close(): Promise<void>
}

export type DatabaseOptions = {
  readonly readUrl: string
  /** Secondaries of Citus' workers, to read there what lies on one of them alone. */
  readonly workerReadUrl?: string | undefined
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

/** How long a change waits for somebody to take it, while nobody has: a switchover's length, and some more. */
const PARKING_MS = 5_000
const PARKING_INTERVAL_MS = 100
/** So many changes wait at most; more would all come at once when it is over. */
const MAX_PARKED = 200

/** Opens the ways to the database; a connection is made when the first statement needs one. */
export function openDatabase(options: DatabaseOptions): Database {
  const { readUrl, workerReadUrl, writeUrl, poolSize, statementTimeoutMs, emit } = options
  const shared = { poolSize, statementTimeoutMs, emit }
  const [anyReadUrl, ...others] = splitUrls(readUrl) as [string, ...string[]]
  const secondaries = [anyReadUrl, ...others].map((url) =>
    openEndpoint({ port: 'read', readUrl: url, ...shared }),
  )
  const primaries = (writeUrl ? splitUrls(writeUrl) : []).map((url) =>
    openEndpoint({ port: 'write', readUrl: asRoleOf(anyReadUrl, url), writeUrl: url, ...shared }),
  )
  const workers = (workerReadUrl ? splitUrls(workerReadUrl) : []).map((url) =>
    openEndpoint({ port: 'read', readUrl: url, ...shared }),
  )
  const budget = makeRetryBudget()
  const groups = watchNodeGroups(
    async (statement) => {
      const endpoint = secondaries.find(({ isUp }) => isUp)
      if (!endpoint) throw unreachable(undefined)
      return endpoint.use('read', (lease) => lease.query(statement))
    },
    workers.length > 0,
    emit,
  )
  let parked = 0

  /**
   * At the first of the secondaries that serves, else at the next, else at the primary, as where a node group has
   * no secondary: any number of times where nothing was sent, and once more where something was.
   */
  async function reading<T>({ cells }: Statement, run: (endpoint: Endpoint) => Promise<T>): Promise<T> {
    budget.earn()
    const deadline = performance.now() + statementTimeoutMs
    const tried = new Set<Endpoint>()
    let failure: DatabaseFailure | undefined
    let isRetry = false
    const serves = (endpoint: Endpoint) => endpoint.isUp && !tried.has(endpoint)
    const choose = () => {
      const mayBeSecondary = (!failure || failure.scope === 'endpoint') && groups.haveSecondaries(cells)
      const group = mayBeSecondary && workers.length > 0 ? groups.groupOf(cells) : undefined
      const worker =
        group === undefined ? undefined : workers.find((one) => one.group === group && serves(one))
      const next = worker ?? (mayBeSecondary ? secondaries.find(serves) : undefined) ?? primaries.find(serves)
      // Where there is no other way, what was broken off may go well on a new connection.
      return next ?? (isRetry && failure?.scope !== 'node' ? secondaries.find(({ isUp }) => isUp) : undefined)
    }
    for (;;) {
      const endpoint = choose()
      if (!endpoint) throw (failure ?? unreachable(undefined)).answer
      tried.add(endpoint)
      try {
        return await run(endpoint)
      } catch (error) {
        if (!(error instanceof DatabaseFailure)) throw error
        failure = error
        if (failure.scope === 'node' && endpoint.port === 'read') groups.note(failure)
        const mayRetry = failure.outcome === 'never-sent' || (failure.outcome === 'retryable' && !isRetry)
        if (!mayRetry || performance.now() > deadline) throw failure.answer
        if (failure.outcome === 'retryable') {
          isRetry = true
          if (!budget.spend()) throw failure.answer
          emit({ type: 'read-retried', endpoint: endpoint.name, error: failure.cause as Error })
        }
      }
    }
  }

  /** At the first of the primaries that serves, and where it was not even sent there, at the next that does. */
  async function changing<T>(change: (lease: Lease) => Promise<T>): Promise<T> {
    if (primaries.length === 0) throw new Error('there is no write port to write to')
    const deadline = performance.now() + PARKING_MS
    let failure = unreachable(undefined)
    for (;;) {
      for (const endpoint of primaries.filter(({ isUp }) => isUp)) {
        try {
          return await endpoint.admissions.write.run(() => endpoint.use('write', change), 'first')
        } catch (error) {
          if (!(error instanceof DatabaseFailure)) throw error
          failure = error
          if (failure.outcome !== 'never-sent') throw failure.answer
        }
      }
      if (performance.now() > deadline || parked >= MAX_PARKED) throw failure.answer
      parked++
      await sleep(PARKING_INTERVAL_MS)
      parked--
    }
  }

  return {
    read: (statement, { signal, priority = 'first' } = {}) =>
      reading(statement, (endpoint) => {
        const query = () => endpoint.use('read', (lease) => lease.query(statement), signal)
        return endpoint.admissions.read.run(query, priority, signal)
      }),

    async *stream(statement, signal) {
      const { lease, first } = await reading(statement, (endpoint) =>
        endpoint.begin(async (lease) => {
          await lease.query({ text: 'begin read only', values: [] })
          // A cursor of its own per fetch, not a suspended portal: statement_timeout then bounds each
          // fetch and not the time that a slow reader takes between two of them.
          await lease.query({
            text: `declare page no scroll cursor for ${statement.text}`,
            values: statement.values,
          })
          return { lease, first: await lease.query(fetch(FIRST_BATCH_ROWS)) }
        }, signal),
      )
      try {
        let rows = FIRST_BATCH_ROWS
        for (let batch = first; ; batch = await lease.query(fetch(rows))) {
          if (batch.length > 0) yield batch
          if (batch.length < rows) break
          rows = Math.min(rowsForNextBatch(batch), rows * 2)
        }
      } catch (error) {
        throw error instanceof DatabaseFailure ? error.answer : error
      } finally {
        await lease.release('rollback')
      }
    },

    canWrite: primaries.length > 0,

    write: (statement) => changing((lease) => lease.query(statement)),

    transact: (work) => changing((lease) => lease.transaction(work)),

    get isReadable() {
      return [...secondaries, ...primaries].some(({ isUp }) => isUp)
    },

    get isWritable() {
      return primaries.some(({ isUp }) => isUp)
    },

    async close() {
      groups.stop()
      await Promise.all([...workers, ...secondaries, ...primaries].map((endpoint) => endpoint.close()))
    },
  }
}

const fetch = (rows: number): Statement => ({ text: `fetch ${rows} from page`, values: [] })

/** The same address, for the role of another URL: who reads at the primary sees no more than elsewhere. */
function asRoleOf(roleUrl: string, addressUrl: string): string {
  const [, role = ''] = /^postgres(?:ql)?:\/\/([^@/?]*@)?/.exec(roleUrl)!
  return addressUrl.replace(/^(postgres(?:ql)?:\/\/)(?:[^@/?]*@)?/, (_, scheme) => scheme + role)
}

function rowsForNextBatch(batch: Row[]): number {
  let bytes = 1
  for (const row of batch) bytes += row[0]?.length ?? 0
  return Math.min(MAX_BATCH_ROWS, Math.max(1, Math.floor((batch.length * BATCH_BYTES) / bytes)))
}
