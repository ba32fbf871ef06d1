// Owns what is known of Citus' node groups: in which a cell lies, and which have lost a member.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Emit } from '../events.ts'
import { parsePlace, placeStatement } from './consistency.ts'
import { DatabaseFailure } from './outcome.ts'
import { type HashRange, shardOf } from './shards.ts'
import type { Row, Statement } from './statement.ts'

/** How soon a secondary that is back is read from again. */
const RECHECK_INTERVAL_MS = 500
/** How often each group's primary is asked for a sign of life, and by when it has given one. */
const PRIMARY_INTERVAL_MS = 1_000
const PRIMARY_TIMEOUT_MS = 2_000
/** How often the map of shards is read anew. */
const MAP_INTERVAL_MS = 10_000

export interface NodeGroups {
  /**
   * Whether all that a statement asks can be read from secondaries.
   * @param cells what it asks; undefined for anything
   */
  haveSecondaries(cells: readonly number[] | undefined): boolean
  /** The one group that has all of these cells, if one has; undefined where that is not known. */
  groupOf(cells: readonly number[] | undefined): number | undefined
  /**
   * All groups that a statement may have part of its rows in; without Citus the only one, 0. Undefined where that is
   * not known.
   * @param cells what it asks; undefined for anything
   */
  groupsOf(cells: readonly number[] | undefined): Promise<readonly number[] | undefined>
  /** Some cell that lies in the group; undefined where none does. */
  cellOf(group: number): number | undefined
  /** Those that have lost their secondaries. */
  missing(): readonly number[]
  /** The same of primaries: changes of these wait. */
  orphaned(): readonly number[]
  /**
   * Since when some group that a statement may ask has had no primary, of performance.now(); undefined where all have.
   * @param cells what it asks; undefined for anything
   */
  orphanedSince(cells: readonly number[] | undefined): number | undefined
  /**
   * The last time at which the secondaries of all groups that a statement may ask had everything that their primaries
   * had, of performance.now(); as far as it is known, at the earliest when this was made.
   * @param cells what it asks; undefined for anything
   */
  completeAt(cells: readonly number[] | undefined): number
  /** Reads the map of shards anew, unless it just was: one of them is not where it is said to be. */
  lookAgain(): Promise<void>
  /** Takes note of a failure whose scope is a node. */
  note(failure: DatabaseFailure): void
  stop(): void
}

type Shard = HashRange & { readonly group: number }
type Layout = {
  readonly isCitus: boolean
  readonly shards: readonly Shard[]
  /** By host and port. */
  readonly nodes: ReadonlyMap<string, number>
}
const COORDINATOR = 0
const ONE_NODE: Layout = { isCitus: false, shards: [], nodes: new Map() }

const HAS_CITUS: Statement = {
  name: 'tessera_has_citus',
  text: `select exists (select from pg_extension where extname = 'citus')`,
  values: [],
}

/** All that is sharded by cell lies beside this table. */
const SHARDS: Statement = {
  name: 'tessera_shards',
  text: `select shardminvalue, shardmaxvalue, groupid from pg_dist_shard join pg_dist_placement using (shardid)
    where logicalrelid = to_regclass('tessera.moved_feature')`,
  values: [],
}
const NODES: Statement = {
  name: 'tessera_nodes',
  text: `select nodename || ':' || nodeport, groupid from pg_dist_node`,
  values: [],
}
const askIn = (cell: number): Statement => ({
  name: 'tessera_cell_probe',
  text: 'select from tessera.moved_feature where cell = $1 limit 1',
  values: [cell],
})

/** What a primary had at some time, of performance.now(). */
type Sight = { readonly at: number; readonly place: bigint }

type Read = (statement: Statement, signal?: AbortSignal) => Promise<Row[]>

/** Who is asked. */
export type Readers = {
  /** Whoever answers. */
  readonly read: Read
  /** @throws where no secondary has what is asked */
  readonly readFromSecondary: Read
  /** @throws where no primary has what is asked; undefined where there is no way to primaries */
  readonly readFromPrimary: Read | undefined
  /** Whether those are others. */
  readonly isReplicated: boolean
}

export function watchNodeGroups(
  { read, readFromSecondary, readFromPrimary, isReplicated }: Readers,
  emit: Emit,
): NodeGroups {
  const missing = new Set<number>()
  /** When a group's primary was last seen; and of those that have lost it. */
  const seenAt = new Map<number, number>()
  const orphans = new Map<number, number>()
  /** When a group's secondary last had all that its primary had. */
  const levelAt = new Map<number, number>()
  /** Of each group, what its primary had when, and its secondary has not been seen with yet. */
  let watched: ReadonlySet<number> = new Set()
  const copies = new Map<number, { readonly isAsked: boolean; readonly sight: Sight }>()
  const madeAt = performance.now()
  /** Whose primary has not answered in time once. */
  const silent = new Set<number>()
  /** A failure that does not say where: until it is looked at anew, nobody knows which group is well. */
  let isUnclear = false
  let layout: Layout | undefined
  let loading: Promise<Layout> | undefined
  /** When it was asked for last, of performance.now(). */
  let lookedAt = 0
  let isChecking = false
  const stopping = new AbortController()

  async function load(): Promise<Layout> {
    const [[hasCitus]] = (await read(HAS_CITUS)) as [Row]
    if (hasCitus !== 't') return ONE_NODE
    const shards = (await read(SHARDS)).map(([least, most, group]) => ({
      least: Number(least),
      most: Number(most),
      group: Number(group),
    }))
    const nodes = (await read(NODES)).map(([name, group]): [string, number] => [name!, Number(group)])
    return { isCitus: true, shards, nodes: new Map(nodes) }
  }

  /** Once for all who want it now. @throws where nobody answers */
  async function refresh(): Promise<Layout> {
    if (!loading) {
      lookedAt = performance.now()
      loading = load().finally(() => {
        loading = undefined
      })
    }
    layout = await loading
    return layout
  }

  function mark(failure: DatabaseFailure) {
    const group = groupIn((failure.cause as Error).message, layout)
    if (group === undefined) isUnclear = true
    else if (!missing.has(group)) {
      missing.add(group)
      emit({ type: 'secondary-missing', group, error: failure.cause as Error })
    }
  }

  /** Until every group is well again. */
  async function check(failure: DatabaseFailure) {
    isChecking = true
    for (let first = true; first || isUnclear || missing.size > 0; first = false) {
      await refresh().catch(() => {})
      if (first) mark(failure)
      await sleep(RECHECK_INTERVAL_MS, undefined, { ref: false, signal: stopping.signal }).catch(() => {})
      if (stopping.signal.aborted) break
      isUnclear = false
      for (const group of missing) {
        const cell = cellOfGroup(group, layout)
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

  /** Shards may be moved to other nodes; until that is known here, a query takes the longer way. */
  async function keepMap() {
    while (!stopping.signal.aborted && layout !== ONE_NODE) {
      await refresh().catch(() => {})
      const interval = layout ? MAP_INTERVAL_MS : RECHECK_INTERVAL_MS
      await sleep(interval, undefined, { ref: false, signal: stopping.signal }).catch(() => {})
    }
  }
  keepMap()

  async function placeOf(kind: 'seen' | 'copied', cell: number | undefined, read: Read): Promise<bigint> {
    const [row] = await read(placeStatement(kind, cell), AbortSignal.timeout(PRIMARY_TIMEOUT_MS))
    return parsePlace(row![0]!)
  }

  /**
   * Whether the secondary has what its primary had at some time: the first of these times that it has not reached yet
   * is kept, so that one that is always a little behind is known to follow.
   */
  async function followCopy(group: number, cell: number | undefined, now: Sight) {
    const { isAsked, sight } = copies.get(group) ?? { isAsked: false, sight: now }
    // One that hangs keeps nobody else waiting.
    if (isAsked) return
    copies.set(group, { isAsked: true, sight })
    const copied = await placeOf('copied', cell, readFromSecondary).catch(() => 0n)
    if (copied < sight.place) return void copies.set(group, { isAsked: false, sight })
    levelAt.set(group, copied >= now.place ? now.at : sight.at)
    copies.delete(group)
  }

  /** Whether a group has its primary, and its secondary what that has. */
  async function see(group: number, ask: Read) {
    const at = performance.now()
    const cell = cellOfGroup(group, layout)
    try {
      const written = await placeOf('seen', cell, ask)
      seenAt.set(group, at)
      silent.delete(group)
      if (orphans.delete(group)) emit({ type: 'primary-back', group })
      if (isReplicated) followCopy(group, cell, { at, place: written })
    } catch (error) {
      // Where the coordinator itself is gone, nobody knows; its address says so.
      if (orphans.has(group) || (error instanceof DatabaseFailure && error.scope !== 'node')) return
      // No answer in time may be our own slowness, or the machine's: the next is waited for.
      if (!(error instanceof DatabaseFailure) && !silent.has(group)) return void silent.add(group)
      orphans.set(group, seenAt.get(group) ?? at)
      emit({ type: 'primary-missing', group, error: error as Error })
    }
  }

  async function watchPrimaries(ask: Read) {
    // One node that is not replicated has nobody to be compared with, and its address says whether it is there.
    while (!stopping.signal.aborted && (isReplicated || layout !== ONE_NODE)) {
      const groups = new Set(layout === ONE_NODE ? [COORDINATOR] : layout?.shards.map(({ group }) => group))
      watched = groups
      // One that is no more has lost nothing.
      for (const group of orphans.keys()) if (!groups.has(group)) orphans.delete(group)
      await Promise.all([...groups].map((group) => see(group, ask)))
      const { signal } = stopping
      await sleep(PRIMARY_INTERVAL_MS, undefined, { ref: false, signal }).catch(() => {})
    }
  }
  if (readFromPrimary) watchPrimaries(readFromPrimary)

  return {
    haveSecondaries(cells) {
      if (missing.size === 0 && !isUnclear) return true
      if (isUnclear || !cells) return false
      return !cells.some((cell) => missing.has(groupOfCell(cell, layout) ?? -1))
    },
    groupOf(cells) {
      if (!cells || cells.length === 0) return undefined
      const group = groupOfCell(cells[0]!, layout)
      return cells.every((cell) => groupOfCell(cell, layout) === group) ? group : undefined
    },
    async groupsOf(cells) {
      const known = layout ?? (await refresh().catch(() => undefined))
      if (!known) return undefined
      if (!known.isCitus) return [COORDINATOR]
      if (!cells) return [...new Set([COORDINATOR, ...known.nodes.values()])]
      const groups = new Set(cells.map((cell) => groupOfCell(cell, known)))
      return groups.has(undefined) ? undefined : ([...groups] as number[])
    },
    cellOf: (group) => cellOfGroup(group, layout),
    missing: () => [...missing],
    orphaned: () => [...orphans.keys()],
    orphanedSince(cells) {
      if (orphans.size === 0) return undefined
      const asked = cells?.map((cell) => groupOfCell(cell, layout))
      const since = [...orphans].filter(([group]) => asked?.includes(group) ?? true).map(([, at]) => at)
      return since.length > 0 ? Math.min(...since) : undefined
    },
    completeAt(cells) {
      const asked = cells?.map((cell) => groupOfCell(cell, layout) ?? COORDINATOR) ?? [
        ...(orphans.size > 0 ? orphans.keys() : watched),
      ]
      return Math.min(...asked.map((group) => levelAt.get(group) ?? madeAt), performance.now())
    },
    async lookAgain() {
      if (loading || performance.now() - lookedAt > RECHECK_INTERVAL_MS) await refresh().catch(() => {})
    },
    note(failure) {
      if (isChecking) mark(failure)
      else check(failure)
    },
    stop: () => stopping.abort(),
  }
}

/** The group that a failure names, by its number or by one of its nodes. */
function groupIn(message: string, layout: Layout | undefined): number | undefined {
  const [, number] = /node group (\d+)/.exec(message) ?? []
  if (number !== undefined) return Number(number)
  const [, node] = /(?:remote node|essential:|node failed) (?:\S+@)?(\S+:\d+)/.exec(message) ?? []
  return node === undefined ? undefined : layout?.nodes.get(node)
}

const groupOfCell = (cell: number, layout: Layout | undefined) => shardOf(layout?.shards, cell)?.group

/** Some cell that lies in the group; undefined where it has no shard. */
function cellOfGroup(group: number, layout: Layout | undefined): number | undefined {
  if (!layout?.shards.some((shard) => shard.group === group)) return undefined
  for (let cell = 0; ; cell++) if (groupOfCell(cell, layout) === group) return cell
}
