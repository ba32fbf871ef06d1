// Owns changes: which primary they are sent to, how long they wait for one, and how their outcome is found out.

import { setTimeout as sleep } from 'node:timers/promises'
import { errors, GatewayError } from '../errors.ts'
import { ANY_GROUP, askPosition, type Consistency, type Position } from './consistency.ts'
import type { Caller, TransactionOptions, TransactionWork, WriteOptions } from './contract.ts'
import type { Endpoints } from './endpoints.ts'
import type { Lease } from './lease.ts'
import { UNKNOWN_LSN } from './lsn.ts'
import { DatabaseFailure, RefusedChange, unreachable } from './outcome.ts'
import { MAX_PARKED, makeParking, PARKING_MS } from './parking.ts'
import { abandon } from './pool.ts'
import type { Row, Statement } from './statement.ts'

/** Interval between attempts of a change that waits for a primary. */
const PARKING_INTERVAL_MS = 100
/** How long a change that may have taken effect waits for a primary that can report its outcome. */
const RESOLVING_MS = 10_000
/** Time limit for the LSN of a change that has taken effect; without an answer its position counts as unknown. */
const LSN_TIMEOUT_MS = 1_000

export interface Writer {
  /** Runs one statement as a transaction of its own. */
  write(statement: Statement, caller: Caller, options?: WriteOptions): Promise<Row[]>
  /** Runs several statements in one transaction. */
  transact<T>(work: TransactionWork<T>, caller: Caller, options?: TransactionOptions<T>): Promise<T>
  /** Number of changes that wait for a primary. */
  readonly parked: number
}

type Options = WriteOptions & {
  readonly cells?: readonly number[] | undefined
  readonly client: string | undefined
}

export function makeWriter({ primaries, groups }: Endpoints): Writer {
  const parking = makeParking()
  let parked = 0

  /**
   * Sends a change to the first primary that serves, and to the next one if it was not even sent. If its outcome is not
   * known, it is repeated only if it may be.
   */
  async function tryInTurn<T>(
    change: (lease: Lease, isRepeated: boolean) => Promise<T>,
    { cells, client, isRepeatable = false, mayWait = true }: Options,
  ): Promise<T> {
    if (primaries.length === 0) throw new Error('there is no write port to write to')
    const start = performance.now()
    const group = groups.groupOf(cells)
    let failure: DatabaseFailure | undefined
    let doubt: DatabaseFailure | undefined
    const givenUp = () => (doubt ?? failure ?? unreachable(undefined)).answer
    for (;;) {
      const longestMs = !mayWait ? 0 : doubt ? RESOLVING_MS : PARKING_MS
      const patienceMs = Math.max(0, start + longestMs - performance.now())
      const turn = group === undefined ? undefined : await parking.enter(group, patienceMs)
      if (group !== undefined && !turn) throw givenUp()
      let isNodeMissing = false
      try {
        for (const endpoint of primaries.filter(({ isUp }) => isUp)) {
          const use = () => endpoint.use('write', (lease) => change(lease, doubt !== undefined))
          try {
            return await endpoint.admissions.write.run(use, { client, priority: 'first' })
          } catch (error) {
            // A client that gets a retryable error assumes that its change had no effect.
            if (!(error instanceof DatabaseFailure)) throw doubt && isPassing(error) ? doubt.answer : error
            failure = error
            if (failure.outcome === 'unknown') doubt = failure
            isNodeMissing = failure.scope === 'node'
            if (failure.outcome === 'never-sent' || (failure.outcome === 'unknown' && isRepeatable)) continue
            // The table's rules may refuse it now because it has taken effect.
            throw doubt && !(failure.answer instanceof RefusedChange) ? doubt.answer : failure.answer
          }
        }
      } finally {
        turn?.(!isNodeMissing)
      }
      if (patienceMs === 0 || parked >= MAX_PARKED) throw givenUp()
      // Changes whose node is missing wait in line (see parking.ts); if no address serves, they can only try again.
      if (turn && isNodeMissing) continue
      parked++
      await sleep(PARKING_INTERVAL_MS)
      parked--
    }
  }

  /**
   * Records the position of a change. It is queried on the change's own connection and behind it, in the same packet
   * while the change still runs. If no server reports the position, reads that need the change go to the primary.
   */
  async function note(
    lease: Lease,
    change: Promise<unknown>,
    cells: readonly number[] | undefined,
    consistency: Consistency,
  ): Promise<void> {
    consistency.noteSource(false)
    const ask = async (): Promise<Position> => {
      const changed = await groups.groupsOf(cells)
      const unknown = () => new Map((changed ?? [ANY_GROUP]).map((group) => [group, UNKNOWN_LSN]))
      return changed ? askPosition(lease, changed, groups.cellOf).catch(unknown) : unknown()
    }
    let timer: NodeJS.Timeout | undefined
    const limit = () => {
      timer = setTimeout(() => abandon(lease.connection), LSN_TIMEOUT_MS)
    }
    change.then(limit, limit)
    // After this nothing runs on the connection any more, whatever the outcome of the change is.
    const [asked] = await Promise.all([ask(), change.catch(() => {})])
    clearTimeout(timer)
    consistency.note(asked)
  }

  return {
    write: (statement, { consistency, client, claims }, options) =>
      tryInTurn(
        async (lease) => {
          const change = lease.query(statement, { claims })
          if (consistency) await note(lease, change, statement.cells, consistency)
          return change
        },
        { cells: statement.cells, client, ...options },
      ),

    transact: (work, { consistency, client, claims }, { last, ...options } = {}) =>
      tryInTurn(
        (lease, isRepeated) => {
          /** Undefined once a statement may have changed something anywhere. */
          let cells: Set<number> | undefined = new Set()
          const noteCells = (statement: Statement) => {
            cells = statement.cells && cells && new Set([...cells, ...statement.cells])
            return statement
          }
          return lease.transaction((query) => work((statement) => query(noteCells(statement)), isRepeated), {
            claims,
            last: last && ((result) => last(result).map(noteCells)),
            async whileCommitting(committed) {
              if (consistency) await note(lease, committed, cells && [...cells], consistency)
            },
          })
        },
        { client, ...options },
      ),

    get parked() {
      return parked + parking.waiting
    },
  }
}

/** Returns true for a failure that invites the client to try again. */
const isPassing = (error: unknown) => error instanceof GatewayError && errors[error.code].isRetryable
