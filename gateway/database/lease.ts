// Owns a connection for as long as one caller has it: its statements, cancelling them, and giving it back as it was found.

import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import type { Emit } from '../events.ts'
import { traced } from '../trace.ts'
import { DoubtfulSuccess, isDoubtful, judge, type Notice, type Phase } from './outcome.ts'
import {
  abandon,
  type Connection,
  cancelQuery,
  gather,
  type Pool,
  type Purpose,
  type Whereabouts,
  whereaboutsOf,
} from './pool.ts'
import type { Row, Statement } from './statement.ts'

export interface Lease {
  readonly connection: Connection
  readonly whereabouts: Whereabouts
  /** All rows of a statement. @throws DatabaseFailure; the signal's reason */
  query(statement: Statement): Promise<Row[]>
  /** Statements that happen all together, or none where `work` throws. @throws as query, or what `work` throws */
  transaction<T>(work: (query: Lease['query']) => Promise<T>, ending?: Ending<T>): Promise<T>
  /**
   * Gives the connection back, or up where it is in doubt.
   * @param last a statement that leaves the session as it was found
   */
  release(last?: string): Promise<void>
}

/** What goes with the commit of a transaction, in the same packet. */
export type Ending<T> = {
  /** A last statement, about what came of the others. */
  readonly last?: ((result: T) => Statement) | undefined
  /** Called when the commit has been sent: statements that come now are behind it. The transaction waits for it. */
  readonly whileCommitting?: (committed: Promise<unknown>) => Promise<void>
}

const BEGIN: Statement = { text: 'begin', values: [] }
const COMMIT: Statement = { text: 'commit', values: [] }

/**
 * What statements that go together on one connection give.
 * @throws what the first of them fails with, when nothing is under way any more
 */
export async function allEnded<T>(statements: readonly Promise<T>[]): Promise<T[]> {
  const ended = await Promise.allSettled(statements)
  return ended.map((one) => {
    if (one.status === 'rejected') throw one.reason
    return one.value
  })
}

/** How often a query is cancelled until it ends. */
const CANCEL_INTERVAL_MS = 50

/**
 * Only PostgreSQL's own answer leaves a connection as it was, unless that was its last: told by a shutdown or an
 * administrator to end, it closes the connection a moment later.
 */
const isInKnownState = (error: unknown) =>
  error instanceof pg.DatabaseError &&
  error.severity !== undefined &&
  !/^(FATAL|PANIC)$/.test(error.severity) &&
  !/^57P0/.test(error.code ?? '')

/** Of statements that have no name: what they begin with. */
const operationOf = (text: string) => /^\s*(\w+)/.exec(text)![1]!.toLowerCase()

/** What a trace says of a statement: its values are bound, and not in it. */
const describe = ({ name, port }: Pool, text: string) => ({
  'db.system.name': 'postgresql',
  'db.query.text': text,
  'tessera.endpoint': name,
  'tessera.port': port,
})

/** @throws DatabaseFailure; the signal's reason */
export async function leaseConnection(
  pool: Pool,
  purpose: Purpose,
  emit: Emit,
  signal?: AbortSignal,
): Promise<Lease> {
  const connection = await pool.connect().catch((error) => {
    throw judge(error, { purpose, phase: 'connect', isCitus: false })
  })
  // Whoever asked may have left while this waited for its turn.
  if (signal?.aborted) {
    connection.release()
    throw signal.reason
  }
  const whereabouts = whereaboutsOf(connection)
  let running = 0
  let broken: Error | undefined
  let cancelling: Promise<void> | undefined
  const cancel = () => {
    if (running === 0) return
    emit({ type: 'query-cancelled', port: pool.port })
    cancelling = cancelWhileRunning()
  }
  /** Again and again: a request that overtakes its query finds the session idle, and has no effect. */
  const cancelWhileRunning = async () => {
    while (running > 0) {
      // Nobody is there to take it: whoever waits for an answer has none to wait for.
      if (!(await cancelQuery(connection))) return abandon(connection)
      await sleep(CANCEL_INTERVAL_MS)
    }
  }
  signal?.addEventListener('abort', cancel)
  let doubt: DoubtfulSuccess | undefined
  const note = (notice: Notice) => {
    if (isDoubtful(notice)) doubt = new DoubtfulSuccess(notice.message)
  }
  if (purpose === 'write') connection.on('notice', note)

  async function run({ name, text, values }: Statement, phase: Phase): Promise<Row[]> {
    if (signal?.aborted) throw signal.reason
    running++
    doubt = undefined
    try {
      const query = {
        text,
        values: values as unknown[],
        rowMode: 'array' as const,
        query_timeout: pool.patienceMs(running),
      }
      gather(connection)
      const send = () => connection.query<(string | null)[]>(name === undefined ? query : { ...query, name })
      const { rows } = await traced(name ?? operationOf(text), () => describe(pool, text), send)
      if (doubt) throw doubt
      return rows
    } catch (error) {
      if (error !== doubt && !isInKnownState(error)) broken = error as Error
      throw signal?.aborted ? signal.reason : judge(error, { purpose, phase, isCitus: whereabouts.isCitus })
    } finally {
      running--
    }
  }

  const undo = async (last: string) => {
    if (!broken)
      await connection.query(last).catch((error) => {
        broken = error
      })
  }

  return {
    connection,
    whereabouts,
    query: (statement) => run(statement, 'whole'),
    async transaction(work, { last, whileCommitting } = {}) {
      // Nobody waits for it by itself: it goes in one packet with the first statement.
      const begun = run(BEGIN, 'within')
      try {
        const [result] = await Promise.all([work((statement) => run(statement, 'within')), begun])
        // PostgreSQL makes a rollback of the commit where the last statement has failed.
        const ending = last ? [last(result), COMMIT] : [COMMIT]
        const committed = Promise.all(ending.map((statement) => run(statement, 'whole')))
        await Promise.all([committed, whileCommitting?.(committed)])
        return result
      } catch (error) {
        await undo('rollback')
        throw error
      }
    },
    async release(last) {
      signal?.removeEventListener('abort', cancel)
      connection.off('notice', note)
      await cancelling
      if (last) await undo(last)
      connection.release(broken)
    },
  }
}
