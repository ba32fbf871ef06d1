// Owns what a request must see: compares the LSNs that nodes have reached with those that the request requires.

import { setTimeout as sleep } from 'node:timers/promises'
import { allEnded, isOwnGroup, type Lease } from './lease.ts'
import { type CellOf, type LsnKind, lsnStatement, parseLsn, UNKNOWN_LSN } from './lsn.ts'
import { mergeStates, type State } from './state.ts'

/**
 * Node group → an LSN, in bytes from the beginning of its write-ahead log. Without Citus there is only group 0.
 * LSNs keep growing through failovers: a new primary has everything that was acknowledged, and its log begins after it.
 */
export type Position = ReadonlyMap<number, bigint>

/** Stands for the groups of a statement if they are not known; Citus' numbers are int4. */
export const ANY_GROUP = 2 ** 32 - 1
/** What the statements of one request must see, and what they have seen. */
export class Consistency {
  /** Position that reads must have reached; `everything` includes changes that only the primary may have. */
  readonly required: Position | 'everything'
  /** Reads must see everything that was committed this many milliseconds ago; undefined for no such bound. */
  readonly maxStalenessMs: number | undefined
  /** True if reads also find out the position of what they have seen; changes always do. */
  readonly isTracked: boolean
  /** Position of everything that was required, seen or changed: a node that has reached it sees all of that. */
  readonly position: Map<number, bigint>
  /** Role of the servers that were read: `primary` if any part came from one. */
  source: 'secondary' | 'primary' | undefined
  /**
   * Milliseconds for which what was read has had no primary, or has not been complete on its secondary, if that is
   * longer. Changes of that time, if there were any, are not seen. Undefined if there is a primary.
   */
  orphanedForMs: number | undefined
  /** Milliseconds that reads took, including waits for a secondary that was behind. */
  readMs = 0
  /** The state of what was read since it was last emptied; undefined if reads need not find it out. */
  state: State | undefined

  constructor({
    required = new Map(),
    maxStalenessMs,
    isTracked = false,
  }: Partial<Pick<Consistency, 'required' | 'maxStalenessMs' | 'isTracked'>> = {}) {
    this.required = required
    this.maxStalenessMs = maxStalenessMs
    this.isTracked = isTracked
    this.position = new Map(required === 'everything' ? [] : required)
  }

  /** True if any secondary may answer, however far behind it is. */
  get isEventual(): boolean {
    return this.required !== 'everything' && this.required.size === 0 && this.maxStalenessMs === undefined
  }

  note(position: Position) {
    for (const [group, lsn] of position) advance(this.position, group, lsn)
  }

  noteSource(isSecondary: boolean) {
    if (this.source !== 'primary') this.source = isSecondary ? 'secondary' : 'primary'
  }

  noteState(state: State | undefined) {
    if (this.state && state) this.state = mergeStates(this.state, state)
  }

  noteOrphaned(forMs: number | undefined) {
    if (forMs !== undefined) this.orphanedForMs = Math.max(forMs, this.orphanedForMs ?? 0)
  }
}

/** Source of something that was read, and how old it may be. */
export type Origin = Pick<Consistency, 'source' | 'orphanedForMs'>

export function advance(position: Map<number, bigint>, group: number, lsn: bigint) {
  if (lsn > (position.get(group) ?? -1n)) position.set(group, lsn)
}

/** Returns the least position that covers both. */
export function merge(one: Position, other: Position): Position {
  const merged = new Map(one)
  for (const [group, lsn] of other) advance(merged, group, lsn)
  return merged
}

/** Returns the part of a position that concerns these groups; `everything` if its groups or these are not known. */
export function narrow(position: Position, groups: readonly number[] | undefined): Position | 'everything' {
  if (position.size === 0) return position
  if (groups === undefined || position.has(ANY_GROUP)) return 'everything'
  return new Map([...position].filter(([group]) => groups.includes(group)))
}

/** A secondary has not reached the required position, and is not expected to reach it soon. */
export class StillBehind extends Error {}

/** How long a read waits for a secondary that is behind: replication on a healthy network takes no longer. */
const PATIENCE_MS = 10
const FIRST_PAUSE_MS = 1

/**
 * Reads the upper bounds of these groups through a connection: those of secondaries, if it reads from secondaries.
 * @throws DatabaseFailure
 */
export const askPosition = (lease: Lease, groups: readonly number[], cellOf: CellOf): Promise<Position> =>
  askLsns('seen', lease, groups, cellOf)

async function askLsns(
  kind: LsnKind,
  lease: Lease,
  groups: readonly number[],
  cellOf: CellOf,
): Promise<Position> {
  const lsns = await allEnded(
    groups.map(async (group): Promise<[number, bigint]> => {
      const isOwn = isOwnGroup(lease, group)
      const cell = isOwn ? undefined : cellOf(group)
      if (!isOwn && cell === undefined) return [group, UNKNOWN_LSN]
      const [row] = await lease.query(lsnStatement(kind, cell))
      const lsn = parseLsn(row![0]!)
      // A connection stays with one server, whose LSN never goes back.
      if (isOwn && kind === 'proven' && lsn > (lease.whereabouts.lsn ?? -1n)) lease.whereabouts.lsn = lsn
      return [group, lsn]
    }),
  )
  return new Map(lsns)
}

/** Returns the required LSNs that this connection is not known to have reached. */
function missingFrom(lease: Lease, required: Position): [number, bigint][] {
  const { lsn: known = -1n } = lease.whereabouts
  return [...required].filter(([group, lsn]) => !isOwnGroup(lease, group) || lsn > known)
}

/**
 * Reads through a connection that has reached the required position. The LSN is queried in front of the read and in
 * the same packet. If it is not far enough, the result of the read is discarded, and both are sent again.
 * @param read sends its first statement before it returns, and has no effects
 * @param patienceMs how long both are repeated
 * @throws StillBehind; as `read`
 */
export async function readCaughtUp<T>(
  lease: Lease,
  { required, patienceMs = PATIENCE_MS, cellOf, onAwaited }: CatchUp,
  read: () => Promise<T>,
): Promise<T> {
  if (!lease.whereabouts.readsSecondaries) return read()
  if (required === 'everything') throw new StillBehind()
  let missing = missingFrom(lease, required)
  if (missing.some(([, lsn]) => lsn === UNKNOWN_LSN)) throw new StillBehind()
  const start = performance.now()
  for (let waited = 0, pause = FIRST_PAUSE_MS; missing.length > 0; pause *= 2) {
    const groups = missing.map(([group]) => group)
    const asking = askLsns('proven', lease, groups, cellOf)
    const [asked, result] = await Promise.allSettled([asking, read()])
    if (asked.status === 'rejected') throw asked.reason
    missing = missing.filter(([group, lsn]) => lsn > asked.value.get(group)!)
    if (missing.length === 0) {
      if (result.status === 'rejected') throw result.reason
      if (waited > 0) onAwaited(performance.now() - start)
      return result.value
    }
    if (waited >= patienceMs) throw new StillBehind()
    await sleep(pause)
    waited += pause
  }
  return read()
}

export type CatchUp = {
  readonly required: Position | 'everything'
  readonly patienceMs?: number | undefined
  readonly cellOf: CellOf
  /** Called if the read had to wait, and the required position was reached. */
  readonly onAwaited: (milliseconds: number) => void
}
