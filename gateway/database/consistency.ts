// Owns what a request must see: how far nodes have come in their logs, compared with how far they have to be.

import { setTimeout as sleep } from 'node:timers/promises'
import { allEnded, type Lease } from './lease.ts'
import type { Statement } from './statement.ts'

/**
 * Node group → a place in its write-ahead log, in bytes since its beginning. Without Citus there is group 0 alone.
 * The numbers go on through failovers: a new primary has all that was acknowledged, and its log begins after it.
 */
export type Position = ReadonlyMap<number, bigint>

/** For where nobody knows which groups have part in it; no group of Citus has this number. */
export const ANY_GROUP = 255
/** Behind everything: only the primary is known to have come as far. */
export const UNKNOWN_PLACE = 2n ** 64n - 1n

/** For one request: what its statements must see, and what came of them. */
export class Consistency {
  /** `everything`: also what no other than the primary may know of. */
  readonly required: Position | 'everything'
  /** What was there so long ago must be seen; undefined for no such bound. */
  readonly maxStalenessMs: number | undefined
  /** Whether reads find out, too, how far what they have seen had come; changes always do. */
  readonly isTracked: boolean
  /** Where everything is that was required, seen or changed: who is as far sees it all. */
  readonly position: Map<number, bigint>
  /** Who was asked; the primary, if any part came from there. */
  source: 'secondary' | 'primary' | undefined
  /**
   * For how long nobody has been able to change what was read: what was done in that time elsewhere, if anything, is
   * not seen. In milliseconds; undefined where there is a primary.
   */
  orphanedForMs: number | undefined
  /** How long it took, with waiting for a secondary that was behind, in milliseconds. */
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

  /** Whether any secondary will do, at any time. */
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

/** Where something that was read came from. */
export type Origin = Pick<Consistency, 'source' | 'orphanedForMs'>

export function advance(position: Map<number, bigint>, group: number, place: bigint) {
  if (place > (position.get(group) ?? -1n)) position.set(group, place)
}

/** Where both are. */
export function merge(one: Position, other: Position): Position {
  const merged = new Map(one)
  for (const [group, place] of other) advance(merged, group, place)
  return merged
}

/** What of a position concerns these groups; undefined for all. `everything` where that is not known. */
export function narrow(position: Position, groups: readonly number[] | undefined): Position | 'everything' {
  if (position.size === 0) return position
  if (groups === undefined || position.has(ANY_GROUP)) return 'everything'
  return new Map([...position].filter(([group]) => groups.includes(group)))
}

/** A secondary has not come as far as it must, and will not soon. */
export class StillBehind extends Error {}

/** How long is waited for a secondary that is behind: replication on a healthy network takes no longer. */
const PATIENCE_MS = 10
const FIRST_PAUSE_MS = 1

/** On a primary what it has written. Without `synchronous_commit` a commit is acknowledged before it is written. */
const WRITTEN = `when current_setting('synchronous_commit') = 'off' then pg_current_wal_insert_lsn()
  else pg_current_wal_lsn() end`

const PLACES = {
  /** What is seen there is of no later place. */
  seen: `case when pg_is_in_recovery() then pg_last_wal_replay_lsn() ${WRITTEN}`,
  /**
   * All that was acknowledged before this place is seen there. A primary that died can come back as a secondary with
   * an end of its log that nobody else has, beyond where the new primary's begins, and is asked until it is rewound:
   * what it has replayed says nothing. What it was sent does, and a new primary sends it nothing.
   */
  proven: `case when pg_is_in_recovery()
  then least(pg_last_wal_replay_lsn(), coalesce(pg_last_wal_receive_lsn(), '0/0')) ${WRITTEN}`,
  /** The same of a secondary alone: what a primary has is not copied yet. */
  copied: `case when pg_is_in_recovery()
  then least(pg_last_wal_replay_lsn(), coalesce(pg_last_wal_receive_lsn(), '0/0')) else '0/0' end`,
}
type PlaceKind = keyof typeof PLACES

const OWN_PLACE: Readonly<Record<PlaceKind, Statement>> = {
  seen: { name: 'tessera_place_seen', text: `select ${PLACES.seen}`, values: [] },
  proven: { name: 'tessera_place_proven', text: `select ${PLACES.proven}`, values: [] },
  copied: { name: 'tessera_place_copied', text: `select ${PLACES.copied}`, values: [] },
}
/** Through Citus, of the node that a query of this cell is sent to. An aggregate: a row also where nothing is. */
const placeBeside = (kind: PlaceKind, cell: number): Statement => ({
  name: `tessera_place_${kind}_beside`,
  text: `select ${PLACES[kind]}, max(cell) from tessera.moved_feature where cell = $1`,
  values: [cell],
})

/** @param cell one of the group that is asked; undefined for the node itself */
export const placeStatement = (kind: PlaceKind, cell: number | undefined): Statement =>
  cell === undefined ? OWN_PLACE[kind] : placeBeside(kind, cell)

/** Some cell that lies in a group; undefined where none does. */
export type CellOf = (group: number) => number | undefined

/**
 * Where these groups are at the latest, as seen through a connection: of secondaries, if it reads from secondaries.
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
      // A connection stays with one server, which never goes back.
      if (isOwn && kind === 'proven') lease.whereabouts.place = place
      return [group, place]
    }),
  )
  return new Map(places)
}

const isOwnGroup = ({ whereabouts: { group } }: Lease, asked: number) =>
  group === undefined || group === asked

export function parsePlace(text: string): bigint {
  const [high, low] = text.split('/') as [string, string]
  return (BigInt(`0x${high}`) << 32n) + BigInt(`0x${low}`)
}

/** Of what is required, what this connection is not known to have. */
function missingFrom(lease: Lease, required: Position): [number, bigint][] {
  const { place: known = -1n } = lease.whereabouts
  return [...required].filter(([group, place]) => !isOwnGroup(lease, group) || place > known)
}

/**
 * What is read through a connection where all that is required is there. How far that is, is asked in front of the
 * read and in the same packet: where it is not far enough, what was read is thrown away, and both are done again.
 * @param read its first statement is sent before it returns; without effects
 * @param patienceMs for how long it is done again
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
  /** Called where it was waited for, and had come. */
  readonly onAwaited: (milliseconds: number) => void
}
