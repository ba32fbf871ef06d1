// Owns leases: a connection while one caller uses it, its statements, their cancelling, and its return as it was found.

import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import type { Emit } from '../events.ts'
import { traced } from '../trace.ts'
import { settingOf } from './claims.ts'
import { AnswerTooLong, type ExchangeOptions, exchange } from './exchange.ts'
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
  /** Returns all rows of a statement. @throws DatabaseFailure; the signal's reason; AnswerTooLong */
  query(statement: Statement, options?: QueryOptions): Promise<Row[]>
  /** Runs statements in a transaction, which is rolled back if `work` throws. @throws as query, or as `work` */
  transaction<T>(work: (query: Lease['query']) => Promise<T>, ending?: Ending<T>): Promise<T>
  /**
   * Gives the connection back, or closes it if its state is in doubt.
   * @param last a statement that restores the state of the session
   */
  release(last?: string): Promise<void>
}

export type QueryOptions = {
  /** Bytes of values after which further rows are dropped; undefined for any number. */
  readonly mostBytes?: number | undefined
  /** Claims of the caller, for the transaction of the statement. */
  readonly claims?: string | undefined
  /** A statement that opens the transaction, which stays open; without one, the statement is a transaction of its own. */
  readonly opening?: Statement
  /** True if a shard's own table is queried, on the node that stores it: Citus has no part in it. */
  readonly isOfShard?: boolean
}

/** Claims of a transaction, and statements that are sent in one packet with its commit. */
export type Ending<T> = {
  readonly claims?: string | undefined
  /** Returns the last statements, given the result of the others. */
  readonly last?: ((result: T) => readonly Statement[]) | undefined
  /** Called when the commit has been sent: its statements run after the commit, and the transaction waits for it. */
  readonly whileCommitting?: (committed: Promise<unknown>) => Promise<void>
}

const BEGIN: Statement = { text: 'begin', values: [] }
const COMMIT: Statement = { text: 'commit', values: [] }

/**
 * Returns the results of statements that run together on one connection.
 * @throws the error of the first one that failed, after all of them have ended
 */
export async function allEnded<T>(statements: readonly Promise<T>[]): Promise<T[]> {
  const ended = await Promise.allSettled(statements)
  return ended.map((one) => {
    if (one.status === 'rejected') throw one.reason
    return one.value
  })
}

/** Returns true if a connection has reached a node of this group. */
export const isOwnGroup = ({ whereabouts: { group } }: Lease, asked: number) =>
  group === undefined || group === asked

/** Interval between cancel requests until the query ends. */
const CANCEL_INTERVAL_MS = 50

/**
 * Returns true if the connection can still be used after an error. Only an error of PostgreSQL itself leaves it as it
 * was, and not if it is the last one: after a shutdown or a termination by an administrator (57P0x), PostgreSQL closes
 * the connection a moment later.
 */
const isInKnownState = (error: unknown) =>
  error instanceof pg.DatabaseError &&
  error.severity !== undefined &&
  !/^(FATAL|PANIC)$/.test(error.severity) &&
  !/^57P0/.test(error.code ?? '')

/** Returns the first word of a statement, which names the span of one without a name. */
const operationOf = (text: string) => /^\s*(\w+)/.exec(text)![1]!.toLowerCase()

/** Returns the attributes of a statement's span. The text holds no values, because they are bound. */
const describe = ({ name, port }: Pool, text: string) => ({
  'db.system.name': 'postgresql',
  'db.query.text': text,
  'tessera.endpoint': name,
  'tessera.port': port,
})

/** Takes a connection from the pool. @throws DatabaseFailure; the signal's reason */
export async function leaseConnection(
  pool: Pool,
  purpose: Purpose,
  emit: Emit,
  signal?: AbortSignal,
): Promise<Lease> {
  const connection = await pool.connect().catch((error) => {
    throw judge(error, { purpose, phase: 'connect', isCitus: false })
  })
  // The client may have left while this waited for a connection.
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
  /** Repeats the cancel request, because one that overtakes its query finds the session idle and has no effect. */
  const cancelWhileRunning = async () => {
    while (running > 0) {
      // If the server does not take the request, it will not answer the query either.
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

  async function run(statement: Statement, phase: Phase, options?: ExchangeOptions): Promise<Row[]> {
    if (signal?.aborted) throw signal.reason
    running++
    doubt = undefined
    try {
      gather(connection)
      const { name, text, timeLimitMs = 0 } = statement
      const timeoutMs = pool.patienceMs(running) + timeLimitMs
      const send = () => exchange(connection, statement, timeoutMs, options)
      const rows = await traced(name ?? operationOf(text), () => describe(pool, text), send)
      if (doubt) throw doubt
      return rows
    } catch (error) {
      if (error instanceof AnswerTooLong) throw error
      if (error !== doubt && !isInKnownState(error)) broken = error as Error
      throw signal?.aborted ? signal.reason : judge(error, { purpose, phase, isCitus: whereabouts.isCitus })
    } finally {
      running--
    }
  }

  /** Returns what comes before the first statement of a transaction. */
  const openingOf = (opening: Statement | undefined, claims: string | undefined, isSpread: boolean) => {
    const settings = claims === undefined ? [] : [settingOf(claims, isSpread)]
    return opening ? [opening, ...settings] : settings
  }

  /** Runs a statement for its caller. All that this takes is sent in one packet. */
  async function runFor(
    statement: Statement,
    { mostBytes, claims, opening, isOfShard = false }: QueryOptions,
  ): Promise<Row[]> {
    if (claims === undefined && !opening) return run(statement, 'whole', { mostBytes })
    const isSpread = whereabouts.isCitus && !isOfShard
    const begin = opening ?? (isSpread ? BEGIN : undefined)
    const answer = run(statement, 'whole', { mostBytes, before: openingOf(begin, claims, isSpread) })
    if (opening || !begin) return answer
    // If the statement fails, this becomes a rollback. It is under way before that is known.
    const [rows] = await allEnded([answer, run(COMMIT, 'whole')])
    return rows!
  }

  /** Does the same under a time limit of the statement's own. */
  async function runWithin(statement: Statement, options: QueryOptions, timeLimitMs: number): Promise<Row[]> {
    const setting = (text: string) => run({ text, values: [], timeLimitMs }, 'whole')
    const [, rows] = await allEnded([
      setting(`set statement_timeout = ${timeLimitMs}`),
      runFor(statement, options),
      setting('reset statement_timeout'),
    ])
    return rows!
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
    query(statement, options = {}) {
      const { timeLimitMs } = statement
      return timeLimitMs === undefined
        ? runFor(statement, options)
        : runWithin(statement, options, timeLimitMs)
    },
    async transaction(work, { claims, last, whileCommitting } = {}) {
      let before: readonly Statement[] | undefined = openingOf(BEGIN, claims, whereabouts.isCitus)
      const send = (statement: Statement, phase: Phase) => {
        const options = before && { before }
        before = undefined
        return run(statement, phase, options)
      }
      try {
        const result = await work((statement) => send(statement, 'within'))
        // PostgreSQL turns the commit into a rollback if one of the last statements has failed.
        const ending = [...(last?.(result) ?? []), COMMIT]
        const committed = Promise.all(ending.map((statement) => send(statement, 'whole')))
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
