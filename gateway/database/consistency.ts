// Owns what a request must see: compares the LSNs that nodes have reached with those that the request requires.

import { setTimeout as sleep } from 'node:timers/promises'
import { allEnded, type Lease } from './lease.ts'
import type { Statement } from './statement.ts'

/**
 * Node group → an LSN, in bytes from the beginning of its write-ahead log. Without Citus there is only group 0.
 * LSNs keep growing through failovers: a new primary has everything that was acknowledged, and its log begins after it.
 */
export type Position = ReadonlyMap<number, bigint>

/** Stands for the groups of a statement if they are not known; it is assumed that no group of Citus has this number. */
export const ANY_GROUP = 255
/** LSN beyond all others, for a position that is not known; only a primary counts as having reached it. */
export const UNKNOWN_PLACE = 2n ** 64n - 1n

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
    for (const [group, place] of position) advance(this.position, group, place)
  }

  noteSource(isSecondary: boolean) {
    if (this.source !== 'primary') this.source = isSecondary ? 'secondary' : 'primary'
  }

  noteOrphaned(forMs: number | undefined) {
    if (forMs !== undefined) this.orphanedForMs = Math.max(forMs, this.orphanedForMs ?? 0)
  }
}

/** Source of something that was read, and how old it may be. */
export type Origin = Pick<Consistency, 'source' | 'orphanedForMs'>

export function advance(position: Map<number, bigint>, group: number, place: bigint) {
  if (place > (position.get(group) ?? -1n)) position.set(group, place)
}

/** Returns the least position that covers both. */
export function merge(one: Position, other: Position): Position {
  const merged = new Map(one)
  for (const [group, place] of other) advance(merged, group, place)
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
 * LSN up to which a primary has written its log. If `synchronous_commit` is off, a commit is acknowledged before it is
 * written, so the insert LSN is used.
 */
const WRITTEN = `when current_setting('synchronous_commit') = 'off' then pg_current_wal_insert_lsn()::text
  else pg_current_wal_lsn()::text end`

/** On a secondary two LSNs: up to where it has replayed, and up to where it has received. */
const COPIED = `concat(pg_last_wal_replay_lsn(), ' ', coalesce(pg_last_wal_receive_lsn(), '0/0'))`

const PLACES = {
  /** Upper bound: no row visible here was written after this LSN. */
  seen: `case when pg_is_in_recovery() then pg_last_wal_replay_lsn()::text ${WRITTEN}`,
  /**
   * Lower bound: every change that was acknowledged before this LSN is visible here. A primary that died can come back
   * as a secondary whose log ends with records that no other member has, beyond the point where the new primary's log
   * begins, and it serves reads until it is rewound. Its replay LSN alone therefore proves nothing. Its receive LSN
   * does, because a new primary sends nothing to a member that was not rewound; see parsePlace.
   */
  proven: `case when pg_is_in_recovery() then ${COPIED} ${WRITTEN}`,
  /** The same for secondaries only; 0/0 on a primary, whose log does not count as copied. */
  copied: `case when pg_is_in_recovery() then ${COPIED} else '0/0' end`,
}
type PlaceKind = keyof typeof PLACES

const OWN_PLACE: Readonly<Record<PlaceKind, Statement>> = {
  seen: { name: 'tessera_place_seen', text: `select ${PLACES.seen}`, values: [] },
  proven: { name: 'tessera_place_proven', text: `select ${PLACES.proven}`, values: [] },
  copied: { name: 'tessera_place_copied', text: `select ${PLACES.copied}`, values: [] },
}
/**
 * Returns the statement that reads, through Citus, the LSN of the node to which a query of this cell is sent. Because
 * of the aggregate, it returns a row even if the cell has no forwarding rows.
 */
const placeBeside = (kind: PlaceKind, cell: number): Statement => ({
  name: `tessera_place_${kind}_beside`,
  text: `select ${PLACES[kind]}, max(cell) from tessera.moved_feature where cell = $1`,
  values: [cell],
})

/**
 * Returns the statement that reads an LSN.
 * @param cell a cell of the group in question; undefined for the connected node itself
 */
export const placeStatement = (kind: PlaceKind, cell: number | undefined): Statement =>
  cell === undefined ? OWN_PLACE[kind] : placeBeside(kind, cell)

/** Returns some cell that is stored in a group; undefined if there is none. */
export type CellOf = (group: number) => number | undefined

/**
 * Reads the upper bounds of these groups through a connection: those of secondaries, if it reads from secondaries.
 * @throws DatabaseFailure
 */
export const askPosition = (lease: Lease, groups: readonly number[], cellOf: CellOf): Promise<Position> =>
  askPlaces('seen', lease, groups, cellOf)

async function askPlaces(
  kind: PlaceKind,
  lease: Lease,
  groups: readonly number[],
  cellOf: CellOf,
): Promise<Position> {
  const places = await allEnded(
    groups.map(async (group): Promise<[number, bigint]> => {
      const isOwn = isOwnGroup(lease, group)
      const cell = isOwn ? undefined : cellOf(group)
      if (!isOwn && cell === undefined) return [group, UNKNOWN_PLACE]
      const [row] = await lease.query(placeStatement(kind, cell))
      const place = parsePlace(row![0]!)
      // A connection stays with one server, whose LSN never goes back.
      if (isOwn && kind === 'proven') lease.whereabouts.place = place
      return [group, place]
    }),
  )
  return new Map(places)
}

const isOwnGroup = ({ whereabouts: { group } }: Lease, asked: number) =>
  group === undefined || group === asked

/** Every segment of the log is as long as this or a multiple of it. */
const LEAST_SEGMENT_BYTES = 2n ** 20n

/**
 * Returns the LSN that the text of a statement means: an LSN, or those up to which a secondary has replayed and
 * received, the lesser of which counts. A receive LSN at the start of a segment counts as nothing received: PostgreSQL
 * sets it there before it has asked a primary for that segment, and one that refuses, because the logs have parted,
 * leaves it there (RequestXLogStreaming in walreceiverfuncs.c).
 */
export function parsePlace(text: string): bigint {
  const [replayed, received] = text.split(' ') as [string, string?]
  const place = parseLsn(replayed)
  if (received === undefined) return place
  const proven = parseLsn(received)
  if (proven % LEAST_SEGMENT_BYTES === 0n) return 0n
  return proven < place ? proven : place
}

function parseLsn(text: string): bigint {
  const [high, low] = text.split('/') as [string, string]
  return (BigInt(`0x${high}`) << 32n) + BigInt(`0x${low}`)
}

/** Returns the required LSNs that this connection is not known to have reached. */
function missingFrom(lease: Lease, required: Position): [number, bigint][] {
  const { place: known = -1n } = lease.whereabouts
  return [...required].filter(([group, place]) => !isOwnGroup(lease, group) || place > known)
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
  if (missing.some(([, place]) => place === UNKNOWN_PLACE)) throw new StillBehind()
  const start = performance.now()
  for (let waited = 0, pause = FIRST_PAUSE_MS; missing.length > 0; pause *= 2) {
    const groups = missing.map(([group]) => group)
    const asking = askPlaces('proven', lease, groups, cellOf)
    const [asked, result] = await Promise.allSettled([asking, read()])
    if (asked.status === 'rejected') throw asked.reason
    missing = missing.filter(([group, place]) => place > asked.value.get(group)!)
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
