// Owns the contract between Tessera and PostgreSQL for whoever serves requests, and opens it.

import { setTimeout as sleep } from 'node:timers/promises'
import { errors, GatewayError, gatewayError } from '../errors.ts'
import type { Emit } from '../events.ts'
import { asRoleOf, splitUrls } from './addresses.ts'
import type { Admission, Priority } from './admission.ts'
import { makeRetryBudget } from './budget.ts'
import {
  ANY_GROUP,
  askPosition,
  Consistency,
  merge,
  narrow,
  type Origin,
  type Position,
  readCaughtUp,
  StillBehind,
  UNKNOWN_PLACE,
} from './consistency.ts'
import { type Endpoint, openEndpoint, type Work } from './endpoint.ts'
import { allEnded, type Lease } from './lease.ts'
import { watchNodeGroups } from './node-groups.ts'
import { DatabaseFailure, isMisplaced, RefusedChange, type Scope, unreachable } from './outcome.ts'
import { makeParking } from './parking.ts'
import { abandon, type Port } from './pool.ts'
import type { Row, Statement } from './statement.ts'

export { Consistency, type Origin, type Row, type Statement }

/** What a reader wants besides the rows. */
export type Demand = {
  /** When it aborts, with a GatewayError as its reason, the server is asked to cancel; then the read fails with that. */
  readonly signal?: AbortSignal
  /** `first` by default. */
  readonly priority?: Priority
}

export type Query = (statement: Statement) => Promise<Row[]>

/** @param isRepeated whether it was tried before, and nobody knows whether it has happened then */
export type Change<T> = (query: Query, isRepeated: boolean) => Promise<T>

export type TransactionOptions<T> = {
  /** The cells alone that it begins with, see Statement. */
  readonly cells?: readonly number[] | undefined
  /** A last statement, about what came of the others. */
  readonly last?: (result: T) => Statement
  /** Whether it may be tried again when nobody knows whether it has happened: `work` makes sure that it does once. */
  readonly isRepeatable?: boolean
}

export interface Database {
  /** The same for one request, which must see certain things, or wants to know where it has come. */
  within(consistency: Consistency): Database
  /**
   * All rows of one statement, from a secondary if there is one that serves.
   * @throws GatewayError for every outcome that is not a bug, see outcome.ts
   */
  read(statement: Statement, demand?: Demand): Promise<Row[]>
  /** The same of several short statements, which go to one connection in one packet. */
  readAll(statements: readonly Statement[], demand?: Demand): Promise<Row[][]>
  /**
   * The rows of a long result in batches, at the reader's pace: no more than a batch is in memory.
   * Ending the iteration early frees the connection.
   */
  stream(statement: Statement, signal?: AbortSignal): AsyncGenerator<Row[], void>
  /** Whether there is a write port. */
  readonly canWrite: boolean
  /** Whether what is written is read elsewhere, too: another may go on where the primary has died. */
  readonly isReplicated: boolean
  /**
   * All rows of one statement, from the write port: a transaction of its own, whole or not at all. It is
   * never cancelled when its client leaves.
   * @param options.mayWait whether a primary is waited for where there is none; by default it is
   * @param options.isRepeatable whether it makes no difference that it has happened before, as where it only reads
   * @throws GatewayError; RefusedChange where the database's own rules forbid it, see outcome.ts
   */
  write(statement: Statement, options?: Pick<ChangeOptions, 'mayWait' | 'isRepeatable'>): Promise<Row[]>
  /**
   * Statements of one transaction at the write port: all of them, or none where `work` throws.
   * @throws as write
   */
  transact<T>(work: Change<T>, options?: TransactionOptions<T>): Promise<T>
  /** The node group that has all of these cells and is asked for them at its worker; undefined where there is none. */
  workerGroupOf(cells: readonly number[]): number | undefined
  /** The node groups of Citus that have these cells, in order; undefined where that is not known. */
  nodeGroupsOf(cells: readonly number[]): Promise<readonly number[] | undefined>
  /** What is known of the ways to the database at the moment; asks nobody. */
  status(): DatabaseStatus
  /**
   * How many bytes the secondary of each node group is behind its primary.
   * @throws where somebody does not answer within a second: who asks wants to know above all when all is not well
   */
  lag(): Promise<ReadonlyMap<number, number>>
  /** Whether anybody answers whom it can read from; and whom it can write to. */
  readonly isReadable: boolean
  readonly isWritable: boolean
  close(): Promise<void>
}

/** Of work at an address: how much runs and waits, and how much may run at once. */
export type Load = { readonly running: number; readonly waiting: number; readonly limit: number }
export type EndpointStatus = {
  readonly endpoint: string
  readonly port: Port
  /** Of Citus; undefined without it, and until it is known. */
  readonly group: number | undefined
  readonly isUp: boolean
  readonly load: Readonly<Record<Work, Load>>
}
export type DatabaseStatus = {
  readonly endpoints: readonly EndpointStatus[]
  readonly groupsWithoutSecondary: readonly number[]
  readonly groupsWithoutPrimary: readonly number[]
  /** How old what is read of those is, as far as it is known, in milliseconds. */
  readonly stalenessMs: ReadonlyMap<number, number>
  /** Changes that wait for a primary. */
  readonly parked: number
  /** Reads that wait for a member that is being replaced. */
  readonly parkedReads: number
  /** How many were answered by whom, since the start. */
  readonly reads: Readonly<Record<'secondary' | 'primary', number>>
}

type ChangeOptions = {
  readonly cells?: readonly number[] | undefined
  readonly isRepeatable?: boolean
  readonly mayWait?: boolean
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
/** A read, how long at first; each time twice as long, and no longer in all. */
const FIRST_PAUSE_MS = 50
/** The same for one that may have happened: until somebody can tell. */
const RESOLVING_MS = 10_000
/** How often a read is tried again that was sent and broken off. */
const MAX_RETRIES = 2
/** So many changes wait at most, and so many reads; more would all come at once when it is over. */
const MAX_PARKED = 200
/** How long the place of a change that has happened is asked for; without an answer nobody knows it. */
const PLACE_TIMEOUT_MS = 1_000
const LAG_TIMEOUT_MS = 1_000

/** Opens the ways to the database, and returns before anybody is there. */
export function openDatabase(options: DatabaseOptions): Database {
  const { readUrl, workerReadUrl, writeUrl, poolSize, statementTimeoutMs, emit } = options
  const shared = { poolSize, statementTimeoutMs, emit }
  const [anyReadUrl, ...others] = splitUrls(readUrl) as [string, ...string[]]
  const secondaries = [anyReadUrl, ...others].map((url) =>
    openEndpoint({ port: 'read', readUrl: url, ...shared }),
  )
  const primaries = (writeUrl ? splitUrls(writeUrl) : []).map((url) =>
    // Who reads at the primary sees no more than elsewhere.
    openEndpoint({ port: 'write', readUrl: asRoleOf(anyReadUrl, url), writeUrl: url, ...shared }),
  )
  const workers = (workerReadUrl ? splitUrls(workerReadUrl) : []).map((url) =>
    openEndpoint({ port: 'read', readUrl: url, ...shared }),
  )
  const isReplicated =
    primaries.length > 0 && secondaries.some(({ name }) => primaries.every((one) => one.name !== name))
  const budget = makeRetryBudget()
  const askFirst =
    (endpoints: readonly Endpoint[]) =>
    async (statement: Statement, signal?: AbortSignal): Promise<Row[]> => {
      const endpoint = endpoints.find(({ isUp }) => isUp)
      if (!endpoint) throw unreachable(undefined)
      return endpoint.use('read', (lease) => lease.query(statement), signal)
    }
  const readers = {
    read: askFirst([...secondaries, ...primaries]),
    readFromSecondary: askFirst(secondaries),
    readFromPrimary: primaries.length > 0 ? askFirst(primaries) : undefined,
    isReplicated,
  }
  const groups = watchNodeGroups(readers, emit)
  const parking = makeParking()
  let parked = 0
  let parkedReads = 0
  const reads = { secondary: 0, primary: 0 }

  /** Where all groups are, as the first of these says that serves. @throws DatabaseFailure; the signal's reason */
  async function positionAt(endpoints: readonly Endpoint[], signal?: AbortSignal): Promise<Position> {
    const all = await groups.groupsOf(undefined)
    const endpoint = endpoints.find(({ isUp }) => isUp)
    if (!endpoint || !all) throw unreachable(undefined)
    return endpoint.use('read', (lease) => askPosition(lease, all, groups.cellOf), signal)
  }

  const countRead = ({ whereabouts }: Lease) => {
    reads[whereabouts.readsSecondaries ? 'secondary' : 'primary']++
  }

  /** Where all groups' primaries were, at some time no longer ago than that. @throws DatabaseFailure */
  let latest: { readonly at: number; readonly position: Promise<Position> } | undefined
  function recentPosition(withinMs: number): Promise<Position> {
    const at = performance.now()
    if (latest && at - latest.at <= withinMs) return latest.position
    const position = positionAt(primaries)
    latest = { at, position }
    position.catch(() => {
      if (latest?.position === position) latest = undefined
    })
    return position
  }

  /** What must be seen where these cells are asked, undefined for any. */
  async function requirementOf(
    cells: Statement['cells'],
    { required, maxStalenessMs }: Consistency,
  ): Promise<Position | 'everything'> {
    if (required === 'everything') return required
    const asked = await groups.groupsOf(cells)
    if (maxStalenessMs === undefined) return narrow(required, asked)
    const recent = await recentPosition(maxStalenessMs).catch((failure: DatabaseFailure) => {
      throw failure.answer
    })
    return narrow(merge(required, recent), asked)
  }

  /** Who is asked for what lies in one node group. */
  function workerOf(cells: Statement['cells'], serves = ({ isUp }: Endpoint) => isUp): Endpoint | undefined {
    const group = workers.length > 0 ? groups.groupOf(cells) : undefined
    return group === undefined ? undefined : workers.find((one) => one.group === group && serves(one))
  }

  /**
   * At the first of the secondaries that serves, else at the next, else at the primary, as where a node group has
   * no secondary, or one that is behind: any number of times where nothing was sent, and twice more where something
   * was: at a worker, through the coordinator, and at the primary. Where a member is being replaced, all over again.
   */
  async function reading<T>(
    cells: Statement['cells'],
    run: (endpoint: Endpoint, patienceMs: number | undefined) => Promise<T>,
    isForPrimary: boolean,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    budget.earn()
    const start = performance.now()
    const tried = new Set<Endpoint>()
    let failure: DatabaseFailure | undefined
    /** What has failed in this round. */
    let failed: Scope | undefined
    let retries = 0
    let pauseMs = FIRST_PAUSE_MS
    let isBehind = isForPrimary && primaries.length > 0
    const serves = (endpoint: Endpoint) => endpoint.isUp && !tried.has(endpoint)
    const choose = () => {
      if (isBehind) return primaries.find(serves)
      const mayBeSecondary = (failed === undefined || failed === 'endpoint') && groups.haveSecondaries(cells)
      const worker = mayBeSecondary ? workerOf(cells, serves) : undefined
      const next = worker ?? (mayBeSecondary ? secondaries.find(serves) : undefined) ?? primaries.find(serves)
      // Where there is no other way, what was broken off may go well on a new connection.
      return next ?? (retries > 0 && failed !== 'node' ? secondaries.find(({ isUp }) => isUp) : undefined)
    }
    /** Until somebody may have taken the place of a member that is lost. @returns whether that may be soon */
    const waitForMember = async () => {
      const isReplaced = isBehind || failure?.scope === 'node' || !groups.haveSecondaries(cells)
      if (!isReplaced || performance.now() + pauseMs > start + PARKING_MS) return false
      // A round in which nobody was asked costs nobody anything.
      if (parkedReads >= MAX_PARKED || (tried.size > 0 && !budget.spend())) return false
      parkedReads++
      await sleep(pauseMs, undefined, { signal }).catch(() => {})
      parkedReads--
      pauseMs *= 2
      tried.clear()
      failed = undefined
      retries = 0
      isBehind = isForPrimary && primaries.length > 0
      return !signal?.aborted
    }
    // Where there is no primary to ask, a secondary that is behind is waited for.
    const patienceMs = primaries.length > 0 ? undefined : statementTimeoutMs
    for (;;) {
      const endpoint = retries > MAX_RETRIES ? undefined : choose()
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
            'No secondary has come as far as was asked for, and there is no primary to ask.',
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

  /**
   * At the first of the primaries that serves, and where it was not even sent there, at the next that does. A change
   * that may be repeated is so where nobody knows whether it has happened.
   */
  async function changing<T>(
    change: (lease: Lease, isRepeated: boolean) => Promise<T>,
    { cells, isRepeatable = false, mayWait = true }: ChangeOptions,
  ): Promise<T> {
    if (primaries.length === 0) throw new Error('there is no write port to write to')
    const start = performance.now()
    const group = groups.groupOf(cells)
    let failure = unreachable(undefined)
    let doubt: DatabaseFailure | undefined
    for (;;) {
      const longestMs = !mayWait ? 0 : doubt ? RESOLVING_MS : PARKING_MS
      const patienceMs = Math.max(0, start + longestMs - performance.now())
      const turn = group === undefined ? undefined : await parking.enter(group, patienceMs)
      if (group !== undefined && !turn) throw (doubt ?? failure).answer
      let isNodeMissing = false
      try {
        for (const endpoint of primaries.filter(({ isUp }) => isUp)) {
          const use = () => endpoint.use('write', (lease) => change(lease, doubt !== undefined))
          try {
            return await endpoint.admissions.write.run(use, 'first')
          } catch (error) {
            // Whoever is told to try again takes it that nothing has happened.
            if (!(error instanceof DatabaseFailure)) throw doubt && isPassing(error) ? doubt.answer : error
            failure = error
            if (failure.outcome === 'unknown') doubt = failure
            isNodeMissing = failure.scope === 'node'
            if (failure.outcome === 'never-sent' || (failure.outcome === 'unknown' && isRepeatable)) continue
            // What the table's rules refuse now may be refused because it has happened.
            throw doubt && !(failure.answer instanceof RefusedChange) ? doubt.answer : failure.answer
          }
        }
      } finally {
        turn?.(!isNodeMissing)
      }
      if (patienceMs === 0 || parked >= MAX_PARKED) throw (doubt ?? failure).answer
      // In line for a node; for an address there is nothing to do but to look.
      if (turn && isNodeMissing) continue
      parked++
      await sleep(PARKING_INTERVAL_MS)
      parked--
    }
  }

  /**
   * Where what is changed is then: asked on the connection of the change and behind it, in the same packet where that
   * is still under way. It has happened, and where nobody can say where, the primary is read.
   */
  async function noteChange(
    lease: Lease,
    change: Promise<unknown>,
    cells: readonly number[] | undefined,
    consistency: Consistency,
  ): Promise<void> {
    consistency.noteSource(false)
    const ask = async (): Promise<Position> => {
      const changed = await groups.groupsOf(cells)
      const unknown = () => new Map((changed ?? [ANY_GROUP]).map((group) => [group, UNKNOWN_PLACE]))
      return changed ? askPosition(lease, changed, groups.cellOf).catch(unknown) : unknown()
    }
    let timer: NodeJS.Timeout | undefined
    const limit = () => {
      timer = setTimeout(() => abandon(lease.connection), PLACE_TIMEOUT_MS)
    }
    change.then(limit, limit)
    // Nothing is under way on the connection any more after this, whatever becomes of the change.
    const [asked] = await Promise.all([ask(), change.catch(() => {})])
    clearTimeout(timer)
    consistency.note(asked)
  }

  /**
   * For how long nobody has been able to change what a statement asks, or, where that is longer, for how long the
   * secondaries have not had all of it; in milliseconds. Undefined where somebody can change it.
   */
  function orphanedFor(cells: readonly number[] | undefined): number | undefined {
    const since = isWithoutPrimary()
      ? Math.max(...primaries.map(({ downSince = 0 }) => downSince))
      : groups.orphanedSince(cells)
    return since === undefined
      ? undefined
      : performance.now() - (isReplicated ? Math.min(since, groups.completeAt(cells)) : since)
  }

  /** Whether no address to write to serves. */
  const isWithoutPrimary = () => primaries.length > 0 && !primaries.some(({ isUp }) => isUp)

  /** Without Citus the group is 0, and so is the coordinator's. */
  const orphanedGroups = () =>
    isWithoutPrimary() ? [...new Set([0, ...groups.orphaned()])] : groups.orphaned()

  /** Where what was read has come from, and on demand how far that was. */
  async function noteRead(lease: Lease, cells: Statement['cells'], consistency: Consistency): Promise<void> {
    const { readsSecondaries } = lease.whereabouts
    consistency.noteSource(readsSecondaries)
    if (readsSecondaries) consistency.noteOrphaned(orphanedFor(cells))
    if (!consistency.isTracked) return
    const asked = await groups.groupsOf(cells)
    const unknown = new Map([[ANY_GROUP, UNKNOWN_PLACE]])
    consistency.note(asked ? await askPosition(lease, asked, groups.cellOf) : unknown)
  }

  /**
   * Of its shard itself where a secondary has that, as is said; of Citus, which knows, where it has not.
   * @param isCompared whether it matters how far who is asked has come: Citus would ask another than is thought
   */
  async function ask(
    { whereabouts, query }: Lease,
    statement: Statement,
    isCompared: boolean,
  ): Promise<Row[]> {
    const { cells, ofShard } = statement
    if (!ofShard || !whereabouts.isSecondary || whereabouts.group !== groups.groupOf(cells))
      return query(statement)
    try {
      return await query(ofShard())
    } catch (error) {
      if (!isMisplaced(error)) throw error
      await groups.lookAgain()
      if (isCompared) throw new StillBehind()
      return query(statement)
    }
  }

  const onAwaited = (milliseconds: number) => emit({ type: 'secondary-awaited', milliseconds })

  /** Where it is known what must be seen. */
  const seeing = <T>(
    lease: Lease,
    required: Position | 'everything' | undefined,
    patienceMs: number | undefined,
    read: () => Promise<T>,
  ): Promise<T> =>
    required === undefined
      ? read()
      : readCaughtUp(lease, { required, patienceMs, cellOf: groups.cellOf, onAwaited }, read)

  const openFor = (consistency: Consistency | undefined): Database => {
    const isCausal = consistency !== undefined && !consistency.isEventual
    const isForPrimary = consistency?.required === 'everything'
    const isCompared = isCausal || (consistency?.isTracked ?? false)

    const readAll: Database['readAll'] = async (statements, { signal, priority = 'first' } = {}) => {
      const cells = cellsOfAll(statements)
      const required = isCausal ? await requirementOf(cells, consistency) : undefined
      const run = (endpoint: Endpoint, patienceMs: number | undefined) => {
        const work = async (lease: Lease) => {
          const rows = await seeing(lease, required, patienceMs, () =>
            allEnded(statements.map((statement) => ask(lease, statement, isCompared))),
          )
          if (consistency) await noteRead(lease, cells, consistency)
          countRead(lease)
          return rows
        }
        return endpoint.admissions.read.run(() => endpoint.use('read', work, signal), priority, signal)
      }
      const start = performance.now()
      const rows = await reading(cells, run, isForPrimary, signal)
      if (consistency) consistency.readMs += performance.now() - start
      return rows
    }

    return {
      within: openFor,

      read: async (statement, demand) => (await readAll([statement], demand))[0]!,
      readAll,

      async *stream(statement, signal) {
        const required = isCausal ? await requirementOf(statement.cells, consistency) : undefined
        const begin = async (lease: Lease, patienceMs: number | undefined) => {
          // By itself: what has begun cannot be done again.
          await seeing(lease, required, patienceMs, async () => {})
          await lease.query({ text: 'begin read only', values: [] })
          // A cursor of its own per fetch, not a suspended portal: statement_timeout then bounds each
          // fetch and not the time that a slow reader takes between two of them.
          await lease.query({
            text: `declare page no scroll cursor for ${statement.text}`,
            values: statement.values,
          })
          const first = await lease.query(fetch(FIRST_BATCH_ROWS))
          if (consistency) await noteRead(lease, statement.cells, consistency)
          countRead(lease)
          return { lease, first }
        }
        const run = async (endpoint: Endpoint, patienceMs: number | undefined) => {
          const leave = await endpoint.admissions.stream.enter('usual', signal)
          try {
            return { leave, ...(await endpoint.begin((lease) => begin(lease, patienceMs), signal)) }
          } catch (error) {
            leave()
            throw error
          }
        }
        const start = performance.now()
        const { lease, first, leave } = await reading(statement.cells, run, isForPrimary, signal)
        if (consistency) consistency.readMs += performance.now() - start
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
          leave()
        }
      },

      canWrite: primaries.length > 0,
      isReplicated,

      write: (statement, options) =>
        changing(
          async (lease) => {
            const change = lease.query(statement)
            if (consistency) await noteChange(lease, change, statement.cells, consistency)
            return change
          },
          { cells: statement.cells, ...options },
        ),

      transact: (work, { last, ...options } = {}) =>
        changing((lease, isRepeated) => {
          /** Undefined when any of its statements may have changed something anywhere. */
          let cells: Set<number> | undefined = new Set()
          const noteCells = (statement: Statement) => {
            cells = statement.cells && cells && new Set([...cells, ...statement.cells])
            return statement
          }
          return lease.transaction((query) => work((statement) => query(noteCells(statement)), isRepeated), {
            last: last && ((result) => noteCells(last(result))),
            async whileCommitting(committed) {
              if (consistency) await noteChange(lease, committed, cells && [...cells], consistency)
            },
          })
        }, options),

      workerGroupOf: (cells) => (groups.haveSecondaries(cells) ? workerOf(cells)?.group : undefined),

      async nodeGroupsOf(cells) {
        const found = await groups.groupsOf(cells)
        return found?.toSorted((a, b) => a - b)
      },

      status: () => ({
        endpoints: [...workers, ...secondaries, ...primaries].map(
          ({ name, port, group, isUp, admissions }) => ({
            endpoint: name,
            port,
            group,
            isUp,
            load: {
              read: loadOf(admissions.read),
              stream: loadOf(admissions.stream),
              write: loadOf(admissions.write),
            },
          }),
        ),
        groupsWithoutSecondary: groups.missing(),
        groupsWithoutPrimary: orphanedGroups(),
        stalenessMs: new Map(
          orphanedGroups().map((group) => {
            const cell = groups.cellOf(group)
            return [group, orphanedFor(cell === undefined ? undefined : [cell]) ?? 0]
          }),
        ),
        parked: parked + parking.waiting,
        parkedReads,
        reads,
      }),

      async lag() {
        const signal = AbortSignal.timeout(LAG_TIMEOUT_MS)
        // In this order it is never told as less than it is.
        const behind = await positionAt(secondaries, signal)
        const ahead = await positionAt(primaries, signal)
        const known = [...ahead].filter(([, at]) => at !== UNKNOWN_PLACE)
        return new Map(known.map(([group, at]) => [group, Math.max(0, Number(at - behind.get(group)!))]))
      },

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
  return openFor(undefined)
}

const loadOf = ({ running, waiting, limit }: Admission): Load => ({ running, waiting, limit })

const isPassing = (error: unknown) => error instanceof GatewayError && errors[error.code].isRetryable

const fetch = (rows: number): Statement => ({ text: `fetch ${rows} from page`, values: [] })

/** The cells alone that several statements ask; undefined where one of them may ask any. */
const cellsOfAll = (statements: readonly Statement[]) =>
  statements.every(({ cells }) => cells) ? statements.flatMap(({ cells }) => cells!) : undefined

function rowsForNextBatch(batch: Row[]): number {
  let bytes = 1
  for (const row of batch) bytes += row[0]?.length ?? 0
  return Math.min(MAX_BATCH_ROWS, Math.max(1, Math.floor((batch.length * BATCH_BYTES) / bytes)))
}
