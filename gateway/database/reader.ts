// Owns reads: which server a read is sent to, what it must have reached, and where else it goes if it fails.

import { setTimeout as sleep } from 'node:timers/promises'
import { gatewayError } from '../errors.ts'
import type { Emit } from '../events.ts'
import { makeRetryBudget } from './budget.ts'
import {
  ANY_GROUP,
  askPosition,
  type Consistency,
  merge,
  narrow,
  type Position,
  readCaughtUp,
  StillBehind,
} from './consistency.ts'
import type { Caller, Demand } from './contract.ts'
import type { Endpoint } from './endpoint.ts'
import type { Endpoints } from './endpoints.ts'
import { allEnded, type Lease, type QueryOptions } from './lease.ts'
import { UNKNOWN_LSN } from './lsn.ts'
import { DatabaseFailure, isMisplaced, type Scope, unreachable } from './outcome.ts'
import { MAX_PARKED, PARKING_MS } from './parking.ts'
import { askState } from './state.ts'
import type { Row, Statement } from './statement.ts'

/** First pause of a read that waits for a member; each further one is twice as long. */
const FIRST_PAUSE_MS = 50
/** How often a read that was sent and lost is sent again. */
const MAX_RETRIES = 2

/** Requirements of one read for the server that it is sent to. */
export type Requirement = {
  /** The only cells that it reads; undefined if it may read any. */
  readonly cells: Statement['cells']
  readonly consistency: Consistency | undefined
  /** Position that must have been reached; undefined for any. */
  readonly required: Position | 'everything' | undefined
}

/** A try of a read at one server. @param patienceMs how long it waits for a secondary that is behind */
export type Attempt<T> = (endpoint: Endpoint, patienceMs: number | undefined) => Promise<T>

export interface Reader {
  /** Returns the rows of each of the statements. */
  readAll(statements: readonly Statement[], caller: Caller, demand?: Demand): Promise<Row[][]>
  /** Reads nothing of these cells but their state, which the consistency of the caller gets. */
  look(cells: Statement['cells'], caller: Caller, demand?: Demand): Promise<void>
  /** Finds out what a read of these cells must have reached. @throws GatewayError */
  require(cells: Statement['cells'], consistency: Consistency | undefined): Promise<Requirement>
  /**
   * Tries the servers one after another. The time it takes is added to the consistency's.
   * @throws GatewayError; the signal's reason
   */
  choose<T>(requirement: Requirement, run: Attempt<T>, signal: AbortSignal | undefined): Promise<T>
  /** Reads through a connection, once its server has reached what is required. @throws StillBehind; as `read` */
  catchUp<T>(
    lease: Lease,
    requirement: Requirement,
    patienceMs: number | undefined,
    read: () => Promise<T>,
  ): Promise<T>
  /** Records where something was read, and on demand how far that server was. */
  note(lease: Lease, requirement: Requirement): Promise<void>
  /** Number of reads that wait for a member that is being replaced. */
  readonly parked: number
  /** Reads that each role has answered since the start. */
  readonly reads: Readonly<Record<'secondary' | 'primary', number>>
}

export function makeReader(
  endpoints: Endpoints,
  { statementTimeoutMs, emit }: { readonly statementTimeoutMs: number; readonly emit: Emit },
): Reader {
  const { secondaries, primaries, groups } = endpoints
  const budget = makeRetryBudget()
  const reads = { secondary: 0, primary: 0 }
  let parked = 0

  /**
   * Sends a read to the first secondary that serves, then to the next, then to the primary, which also reads for a node
   * group whose secondary is lost or behind. Any number of attempts may fail before anything was sent; after that it is
   * sent twice more, so that a worker, the coordinator and the primary can be tried. If a member is being replaced, all
   * of this is repeated.
   */
  async function tryInTurn<T>(
    cells: Statement['cells'],
    run: Attempt<T>,
    isForPrimary: boolean,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    budget.earn()
    const start = performance.now()
    const tried = new Set<Endpoint>()
    let failure: DatabaseFailure | undefined
    /** Scope of the last failure in this round. */
    let failed: Scope | undefined
    let retries = 0
    let pauseMs = FIRST_PAUSE_MS
    let isBehind = isForPrimary && primaries.length > 0
    const serves = (endpoint: Endpoint) => endpoint.isUp && !tried.has(endpoint)
    const next = () => {
      if (isBehind) return primaries.find(serves)
      const mayBeSecondary = (failed === undefined || failed === 'endpoint') && groups.haveSecondaries(cells)
      const worker = mayBeSecondary ? endpoints.workerOf(cells, serves) : undefined
      const found =
        worker ?? (mayBeSecondary ? secondaries.find(serves) : undefined) ?? primaries.find(serves)
      // If there is no other server, what was lost may succeed over a new connection.
      return found ?? (retries > 0 && failed !== 'node' ? secondaries.find(({ isUp }) => isUp) : undefined)
    }
    /** Waits until a lost member may have been replaced. @returns false if that is not to be expected soon */
    const waitForMember = async () => {
      const isReplaced = isBehind || failure?.scope === 'node' || !groups.haveSecondaries(cells)
      if (!isReplaced || performance.now() + pauseMs > start + PARKING_MS) return false
      // A round in which no server was tried costs none of them anything.
      if (parked >= MAX_PARKED || (tried.size > 0 && !budget.spend())) return false
      parked++
      await sleep(pauseMs, undefined, { signal }).catch(() => {})
      parked--
      pauseMs *= 2
      tried.clear()
      failed = undefined
      retries = 0
      isBehind = isForPrimary && primaries.length > 0
      return !signal?.aborted
    }
    // If there is no primary, a secondary that is behind is waited for.
    const patienceMs = primaries.length > 0 ? undefined : statementTimeoutMs
    for (;;) {
      const endpoint = retries > MAX_RETRIES ? undefined : next()
      if (!endpoint) {
        if (!(await waitForMember()))
          throw signal?.aborted ? signal.reason : (failure ?? unreachable(undefined)).answer
        continue
      }
      tried.add(endpoint)
      try {
        return await run(endpoint, patienceMs)
      } catch (error) {
        if (error instanceof StillBehind && primaries.length > 0) {
          isBehind = true
          emit({ type: 'secondary-behind', endpoint: endpoint.name })
          continue
        }
        if (error instanceof StillBehind)
          throw gatewayError(
            'consistency-unavailable',
            'No secondary has reached what the request must see, and there is no primary to read from.',
          )
        if (!(error instanceof DatabaseFailure)) throw error
        failure = error
        failed = failure.scope
        if (failed === 'node' && endpoint.port === 'read') groups.note(failure)
        const mayRetry =
          failure.outcome === 'never-sent' || (failure.outcome === 'retryable' && budget.spend())
        if (!mayRetry || performance.now() > start + statementTimeoutMs) throw failure.answer
        if (failure.outcome === 'retryable') {
          retries++
          emit({ type: 'read-retried', endpoint: endpoint.name, error: failure.cause as Error })
        }
      }
    }
  }

  const choose: Reader['choose'] = async ({ cells, consistency }, run, signal) => {
    const start = performance.now()
    const result = await tryInTurn(cells, run, consistency?.required === 'everything', signal)
    if (consistency) consistency.readMs += performance.now() - start
    return result
  }

  /** Returns the position that a read of these cells must have reached. */
  async function requirementOf(
    cells: Statement['cells'],
    { required, maxStalenessMs }: Consistency,
  ): Promise<Position | 'everything'> {
    if (required === 'everything') return required
    const asked = await groups.groupsOfRead(cells, [...required.keys()])
    if (maxStalenessMs === undefined) return narrow(required, asked)
    const recent = await endpoints.recentPosition(maxStalenessMs).catch((failure: DatabaseFailure) => {
      throw failure.answer
    })
    return narrow(merge(required, recent), asked)
  }

  const require: Reader['require'] = async (cells, consistency) => ({
    cells,
    consistency,
    required: consistency && !consistency.isEventual ? await requirementOf(cells, consistency) : undefined,
  })

  const onAwaited = (milliseconds: number) => emit({ type: 'secondary-awaited', milliseconds })

  const catchUp: Reader['catchUp'] = (lease, { required }, patienceMs, read) =>
    required === undefined
      ? read()
      : readCaughtUp(lease, { required, patienceMs, cellOf: groups.cellOf, onAwaited }, read)

  const note: Reader['note'] = async (lease, { cells, consistency }) => {
    const { readsSecondaries } = lease.whereabouts
    reads[readsSecondaries ? 'secondary' : 'primary']++
    if (!consistency) return
    consistency.noteSource(readsSecondaries)
    if (readsSecondaries) consistency.noteOrphaned(endpoints.orphanedFor(cells))
    if (!consistency.isTracked) return
    const asked = await groups.groupsOf(cells)
    const unknown = new Map([[ANY_GROUP, UNKNOWN_LSN]])
    consistency.note(asked ? await askPosition(lease, asked, groups.cellOf) : unknown)
  }

  /**
   * Queries the shard's own table if this secondary really holds the shard; otherwise falls back to the distributed
   * table through Citus.
   * @param isCompared true if the LSN of this server matters: Citus would query another one
   */
  async function query(
    lease: Lease,
    statement: Statement,
    isCompared: boolean,
    options: QueryOptions,
  ): Promise<Row[]> {
    const { cells, ofShard } = statement
    const { isSecondary, group } = lease.whereabouts
    if (!ofShard || !isSecondary || group !== groups.groupOf(cells)) return lease.query(statement, options)
    try {
      return await lease.query(ofShard(), { ...options, isOfShard: true })
    } catch (error) {
      if (!isMisplaced(error)) throw error
      await groups.lookAgain()
      if (isCompared) throw new StillBehind()
      return lease.query(statement, options)
    }
  }

  async function readAll(
    statements: readonly Statement[],
    cells: Statement['cells'],
    { consistency, client, claims }: Caller,
    { signal, priority = 'first', mostBytes }: Demand = {},
  ): Promise<Row[][]> {
    const requirement = await require(cells, consistency)
    const isCompared =
      requirement.required !== undefined ||
      consistency?.isTracked === true ||
      consistency?.state !== undefined
    const witnessed = consistency?.state && ((await groups.groupsOf(cells)) ?? [ANY_GROUP])
    const run: Attempt<Row[][]> = (endpoint, patienceMs) => {
      const work = async (lease: Lease) => {
        const [state, rows] = await catchUp(lease, requirement, patienceMs, async () => {
          // The state comes first: what is read after it may be newer, but never older.
          const asking = witnessed && askState(lease, witnessed, groups.cellOf)
          const reading = allEnded(
            statements.map((statement) => query(lease, statement, isCompared, { mostBytes, claims })),
          )
          const [asked, read] = await Promise.allSettled([asking, reading])
          if (read.status === 'rejected') throw read.reason
          if (asked.status === 'rejected') throw asked.reason
          return [asked.value, read.value] as const
        })
        await note(lease, requirement)
        consistency?.noteState(state)
        return rows
      }
      return endpoint.admissions.read.run(() => endpoint.use('read', work, signal), {
        client,
        priority,
        signal,
      })
    }
    return choose(requirement, run, signal)
  }

  return {
    readAll: (statements, caller, demand) => readAll(statements, cellsOfAll(statements), caller, demand),
    async look(cells, caller, demand) {
      await readAll([], cells, caller, demand)
    },
    require,
    choose,
    catchUp,
    note,
    get parked() {
      return parked
    },
    reads,
  }
}

/** Returns the only cells that several statements read; undefined if one of them may read any. */
const cellsOfAll = (statements: readonly Statement[]) =>
  statements.every(({ cells }) => cells) ? statements.flatMap(({ cells }) => cells!) : undefined
