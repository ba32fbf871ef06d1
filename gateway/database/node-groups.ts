// Owns what is known about the node groups of Citus: which one stores a cell, and which have lost a member.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Emit } from '../events.ts'
import { lsnStatement, parseLsn } from './lsn.ts'
import { DatabaseFailure } from './outcome.ts'
import { type HashRange, shardOf } from './shards.ts'
import type { Row, Statement } from './statement.ts'

/** Interval between checks whether lost secondaries are back, and between attempts to read an unknown map of shards. */
const RECHECK_INTERVAL_MS = 500
/** Interval between queries of each group's primary, and the time limit of such a query. */
const PRIMARY_INTERVAL_MS = 1_000
const PRIMARY_TIMEOUT_MS = 2_000
/** Interval between reads of the map of shards. */
const MAP_INTERVAL_MS = 10_000
/**
 * How long after a shard was seen to have moved other gateways may not know its new group, and the secondary of that group
 * may not have all of it: they read the map as often as this one, and a busy machine may delay them.
 */
const SETTLING_MS = MAP_INTERVAL_MS + 5_000
/** How long a member is remembered that Citus has no more: it is missing, unless somebody has removed it. */
const REMEMBER_MEMBER_MS = 86_400_000

export interface NodeGroups {
  /**
   * Returns true if secondaries have everything that a statement reads.
   * @param cells the cells that it reads; undefined if it may read any
   */
  haveSecondaries(cells: readonly number[] | undefined): boolean
  /** Returns the one group that stores all of these cells; undefined if there is none, or it is not known. */
  groupOf(cells: readonly number[] | undefined): number | undefined
  /**
   * Returns all groups that may store rows of a statement; without Citus only group 0. Undefined if they are not
   * known.
   * @param cells the cells of the statement; undefined if it may concern any
   */
  groupsOf(cells: readonly number[] | undefined): Promise<readonly number[] | undefined>
  /**
   * The same for a read that must have reached an LSN of each of these groups. Undefined also if it is one of a group that is
   * not known, or while a shard has moved so lately that the LSN may be of the group that had it before.
   */
  groupsOfRead(
    cells: readonly number[] | undefined,
    required: readonly number[],
  ): Promise<readonly number[] | undefined>
  /** Returns some cell that is stored in the group; undefined if there is none. */
  cellOf(group: number): number | undefined
  /** Returns all groups that are known; without Citus, and until the map of shards is known, only group 0. */
  all(): readonly number[]
  /** Undefined until it is known. */
  readonly isCitus: boolean | undefined
  /** Returns the members that Citus has, and those that it had until lately. */
  members(): readonly Member[]
  /** Returns the groups that have lost their secondaries. */
  missing(): readonly number[]
  /** Returns the groups that have lost their primaries; their changes wait. */
  orphaned(): readonly number[]
  /**
   * Returns the earliest time since which a group that a statement may read has had no primary, by performance.now();
   * undefined if all have one.
   * @param cells the cells that it reads; undefined if it may read any
   */
  orphanedSince(cells: readonly number[] | undefined): number | undefined
  /**
   * Returns the last known time at which the secondaries of all groups that a statement may read had everything that
   * their primaries had, by performance.now(); at the earliest the time at which this object was created.
   * @param cells the cells that it reads; undefined if it may read any
   */
  completeAt(cells: readonly number[] | undefined): number
  /** Reads the map of shards again, unless it has just been read, because a shard is not where the map has it. */
  lookAgain(): Promise<void>
  /** Records a failure whose scope is a node. */
  note(failure: DatabaseFailure): void
  stop(): void
}

/** A member of a node group, as Citus has it. */
export type Member = {
  /** Host and port. */
  readonly node: string
  readonly group: number
  readonly role: 'primary' | 'secondary'
  /** False while Citus sends it nothing. */
  readonly isActive: boolean
  /** Since when Citus has it no more; undefined while it has it. */
  readonly missingSince: Date | undefined
}

type ShardPlacement = HashRange & { readonly group: number }
type ShardMap = {
  readonly isCitus: boolean
  readonly shards: readonly ShardPlacement[]
  /** Members by host and port. */
  readonly nodes: ReadonlyMap<string, Member>
}
const COORDINATOR = 0
const ONE_NODE: ShardMap = { isCitus: false, shards: [], nodes: new Map() }

const HAS_CITUS: Statement = {
  name: 'tessera_has_citus',
  text: `select exists (select from pg_extension where extname = 'citus')`,
  values: [],
}

/** Shards of all tables that are sharded by cell, because they are colocated with this one. */
const SHARDS: Statement = {
  name: 'tessera_shards',
  text: `select shardminvalue, shardmaxvalue, groupid from pg_dist_shard join pg_dist_placement using (shardid)
    where logicalrelid = (select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where n.nspname = 'tessera' and c.relname = 'moved_feature')`,
  values: [],
}
const NODES: Statement = {
  name: 'tessera_nodes',
  text: `select nodename || ':' || nodeport, groupid, noderole, isactive from pg_dist_node order by groupid, nodeid`,
  values: [],
}
const askIn = (cell: number): Statement => ({
  name: 'tessera_cell_probe',
  text: 'select from tessera.moved_feature where cell = $1 limit 1',
  values: [cell],
})

/** LSN of a primary at some time, by performance.now(). */
type Sight = { readonly at: number; readonly lsn: bigint }

type Read = (statement: Statement, signal?: AbortSignal) => Promise<Row[]>

/** Ways to query the database. */
export type Readers = {
  /** Queries any server that answers. */
  readonly read: Read
  /** Queries secondaries. @throws if no secondary has the data */
  readonly readFromSecondary: Read
  /** Queries primaries; undefined if there is no write port. @throws if no primary has the data */
  readonly readFromPrimary: Read | undefined
  /** True if reads go to other addresses than writes. */
  readonly isReplicated: boolean
}

export function watchNodeGroups(
  { read, readFromSecondary, readFromPrimary, isReplicated }: Readers,
  emit: Emit,
): NodeGroups {
  const missing = new Set<number>()
  /** Group → time at which its primary last answered; `orphans` has that time for groups without a primary. */
  const seenAt = new Map<number, number>()
  const orphans = new Map<number, number>()
  /** Group → time at which its secondary last had everything that its primary had. */
  const levelAt = new Map<number, number>()
  let watched: ReadonlySet<number> = new Set()
  /** Group → an LSN of its primary that its secondary is not known to have reached yet. */
  const copies = new Map<number, { readonly isAsked: boolean; readonly sight: Sight }>()
  const madeAt = performance.now()
  /** Groups whose primary has once not answered in time. */
  const silent = new Set<number>()
  /** True after a failure that names no node: until the next check it is not known which group is affected. */
  let isUnclear = false
  let map: ShardMap | undefined
  let loading: Promise<ShardMap> | undefined
  /** Time at which the map was last queried, by performance.now(). */
  let lookedAt = 0
  /** Time at which a shard was last seen to have moved, by performance.now(). */
  let movedAt = Number.NEGATIVE_INFINITY
  let isChecking = false
  const stopping = new AbortController()

  async function load(): Promise<ShardMap> {
    const [[hasCitus]] = (await read(HAS_CITUS)) as [Row]
    if (hasCitus !== 't') return ONE_NODE
    const shards = (await read(SHARDS)).map(([least, most, group]) => ({
      least: Number(least),
      most: Number(most),
      group: Number(group),
    }))
    const nodes = (await read(NODES)).map(
      ([node, group, role, isActive]): Member => ({
        node: node!,
        group: Number(group),
        role: role === 'primary' ? 'primary' : 'secondary',
        isActive: isActive === 't',
        missingSince: undefined,
      }),
    )
    return { isCitus: true, shards, nodes: new Map(nodes.map((member) => [member.node, member])) }
  }

  /** Members that Citus had and has no more, by host and port. */
  const lost = new Map<string, Member>()

  /** Compares the members with those before: which are lost, and which primaries were replaced. */
  function compare(before: ShardMap['nodes'], now: ShardMap['nodes']) {
    for (const [node, member] of before)
      if (!now.has(node)) lost.set(node, { ...member, missingSince: new Date() })
    const groups = new Set([...now.values()].map(({ group }) => group))
    // A group that is gone as a whole has been removed.
    for (const [node, { group, missingSince }] of lost)
      if (now.has(node) || !groups.has(group) || Date.now() - missingSince!.getTime() > REMEMBER_MEMBER_MS)
        lost.delete(node)
    const primaries = (nodes: ShardMap['nodes']) =>
      [...nodes.values()].filter(({ role }) => role === 'primary')
    for (const { group, node: to } of primaries(now)) {
      const from = primaries(before).find((one) => one.group === group)?.node
      if (from !== undefined && from !== to) emit({ type: 'primary-replaced', group, from, to })
    }
  }

  /** Reads the map of shards, once for all concurrent callers. @throws if no server answers */
  async function refresh(): Promise<ShardMap> {
    if (!loading) {
      lookedAt = performance.now()
      loading = load().finally(() => {
        loading = undefined
      })
    }
    const loaded = await loading
    if (map && loaded !== map) {
      compare(map.nodes, loaded.nodes)
      if (placesIn(map) !== placesIn(loaded)) movedAt = performance.now()
    }
    map = loaded
    return map
  }

  function mark(failure: DatabaseFailure) {
    const group = groupIn((failure.cause as Error).message, map)
    if (group === undefined) isUnclear = true
    else if (!missing.has(group)) {
      missing.add(group)
      emit({ type: 'secondary-missing', group, error: failure.cause as Error })
    }
  }

  /** Checks the secondaries until every group has one again. */
  async function check(failure: DatabaseFailure) {
    isChecking = true
    for (let first = true; first || isUnclear || missing.size > 0; first = false) {
      await refresh().catch(() => {})
      if (first) mark(failure)
      await sleep(RECHECK_INTERVAL_MS, undefined, { ref: false, signal: stopping.signal }).catch(() => {})
      if (stopping.signal.aborted) break
      isUnclear = false
      for (const group of missing) {
        const cell = cellOfGroup(group, map)
        const isWell =
          cell === undefined ||
          (await readFromSecondary(askIn(cell)).then(
            () => true,
            () => false,
          ))
        if (isWell && missing.delete(group)) emit({ type: 'secondary-back', group })
      }
    }
    isChecking = false
  }

  /** Keeps the map up to date. Until it knows that a shard has moved, queries of that shard take the longer way. */
  async function keepMap() {
    while (!stopping.signal.aborted && map !== ONE_NODE) {
      await refresh().catch(() => {})
      const interval = map ? MAP_INTERVAL_MS : RECHECK_INTERVAL_MS
      await sleep(interval, undefined, { ref: false, signal: stopping.signal }).catch(() => {})
    }
  }
  keepMap()

  async function lsnOf(kind: 'seen' | 'copied', cell: number | undefined, read: Read): Promise<bigint> {
    const [row] = await read(lsnStatement(kind, cell), AbortSignal.timeout(PRIMARY_TIMEOUT_MS))
    return parseLsn(row![0]!)
  }

  /**
   * Checks whether the secondary has reached an earlier LSN of its primary. That LSN is kept until it is reached, so
   * that a secondary that is always a little behind is seen to follow.
   */
  async function followCopy(group: number, cell: number | undefined, now: Sight) {
    const { isAsked, sight } = copies.get(group) ?? { isAsked: false, sight: now }
    // While a query of the secondary hangs, no other is sent, and nothing waits for it.
    if (isAsked) return
    copies.set(group, { isAsked: true, sight })
    const copied = await lsnOf('copied', cell, readFromSecondary).catch(() => 0n)
    if (copied < sight.lsn) return void copies.set(group, { isAsked: false, sight })
    levelAt.set(group, copied >= now.lsn ? now.at : sight.at)
    copies.delete(group)
  }

  /** Checks whether a group has its primary, and whether its secondary follows. */
  async function see(group: number, ask: Read) {
    const at = performance.now()
    const cell = cellOfGroup(group, map)
    try {
      const written = await lsnOf('seen', cell, ask)
      seenAt.set(group, at)
      silent.delete(group)
      if (orphans.delete(group)) emit({ type: 'primary-back', group })
      if (isReplicated) followCopy(group, cell, { at, lsn: written })
    } catch (error) {
      // If the coordinator itself is gone, the group's state is unknown; the breaker of its address opens instead.
      if (orphans.has(group) || (error instanceof DatabaseFailure && error.scope !== 'node')) return
      // A single answer that is late may be due to a slow machine; only a second one in a row counts.
      if (!(error instanceof DatabaseFailure) && !silent.has(group)) return void silent.add(group)
      orphans.set(group, seenAt.get(group) ?? at)
      emit({ type: 'primary-missing', group, error: error as Error })
    }
  }

  async function watchPrimaries(ask: Read) {
    // A single node without replication has no secondary to compare with, and its address shows whether it serves.
    while (!stopping.signal.aborted && (isReplicated || map !== ONE_NODE)) {
      const groups = new Set(map === ONE_NODE ? [COORDINATOR] : map?.shards.map(({ group }) => group))
      watched = groups
      // A group that no longer exists has lost nothing.
      for (const group of orphans.keys()) if (!groups.has(group)) orphans.delete(group)
      await Promise.all([...groups].map((group) => see(group, ask)))
      // Its successor is known as soon as Citus knows it.
      if (orphans.size > 0) refresh().catch(() => {})
      const { signal } = stopping
      await sleep(PRIMARY_INTERVAL_MS, undefined, { ref: false, signal }).catch(() => {})
    }
  }
  if (readFromPrimary) watchPrimaries(readFromPrimary)

  /** Reads the map of shards again, unless it has just been read. */
  async function lookAgain() {
    if (loading || performance.now() - lookedAt > RECHECK_INTERVAL_MS) await refresh().catch(() => {})
  }

  async function groupsOf(cells: readonly number[] | undefined) {
    const known = map ?? (await refresh().catch(() => undefined))
    if (!known) return undefined
    if (!known.isCitus) return [COORDINATOR]
    if (!cells) return groupsIn(known)
    const groups = new Set(cells.map((cell) => groupOfCell(cell, known)))
    return groups.has(undefined) ? undefined : ([...groups] as number[])
  }

  return {
    haveSecondaries(cells) {
      if (missing.size === 0 && !isUnclear) return true
      if (isUnclear || !cells) return false
      return !cells.some((cell) => missing.has(groupOfCell(cell, map) ?? -1))
    },
    groupOf(cells) {
      if (!cells || cells.length === 0) return undefined
      const group = groupOfCell(cells[0]!, map)
      return cells.every((cell) => groupOfCell(cell, map) === group) ? group : undefined
    },
    groupsOf,
    async groupsOfRead(cells, required) {
      const areKnown = () => {
        const known = groupsIn(map)
        return required.every((group) => known.includes(group))
      }
      // A gateway that has read the map later knows of a group that was added.
      if (!areKnown()) await lookAgain()
      const isSettled = performance.now() - movedAt > SETTLING_MS
      return isSettled && areKnown() ? groupsOf(cells) : undefined
    },
    cellOf: (group) => cellOfGroup(group, map),
    all: () => groupsIn(map),
    get isCitus() {
      return map?.isCitus
    },
    members: () => [...(map?.nodes.values() ?? []), ...lost.values()].sort((a, b) => a.group - b.group),
    missing: () => [...missing],
    orphaned: () => [...orphans.keys()],
    orphanedSince(cells) {
      if (orphans.size === 0) return undefined
      const asked = cells?.map((cell) => groupOfCell(cell, map))
      const since = [...orphans].filter(([group]) => asked?.includes(group) ?? true).map(([, at]) => at)
      return since.length > 0 ? Math.min(...since) : undefined
    },
    completeAt(cells) {
      const asked = cells?.map((cell) => groupOfCell(cell, map) ?? COORDINATOR) ?? [
        ...(orphans.size > 0 ? orphans.keys() : watched),
      ]
      return Math.min(...asked.map((group) => levelAt.get(group) ?? madeAt), performance.now())
    },
    lookAgain,
    note(failure) {
      if (isChecking) mark(failure)
      else check(failure)
    },
    stop: () => stopping.abort(),
  }
}

/** Returns the group that an error message names, by its number or by one of its nodes. */
function groupIn(message: string, map: ShardMap | undefined): number | undefined {
  const [, number] = /node group (\d+)/.exec(message) ?? []
  if (number !== undefined) return Number(number)
  const [, node] = /(?:remote node|essential:|node failed) (?:\S+@)?(\S+:\d+)/.exec(message) ?? []
  return node === undefined ? undefined : map?.nodes.get(node)?.group
}

/** Returns all node groups; without Citus only the coordinator's. */
const groupsIn = (map: ShardMap | undefined) => [
  ...new Set([COORDINATOR, ...[...(map?.nodes.values() ?? [])].map(({ group }) => group)]),
]

/** Returns which group has which hashes, as a text. */
const placesIn = ({ shards }: ShardMap) =>
  shards
    .map(({ least, group }) => `${least} ${group}`)
    .sort()
    .join()

const groupOfCell = (cell: number, map: ShardMap | undefined) => shardOf(map?.shards, cell)?.group

/** Returns some cell that is stored in the group; undefined if the group has no shard. */
function cellOfGroup(group: number, map: ShardMap | undefined): number | undefined {
  if (!map?.shards.some((shard) => shard.group === group)) return undefined
  for (let cell = 0; ; cell++) if (groupOfCell(cell, map) === group) return cell
}
