// Owns one run of a scenario: traffic throughout, the fault, its end, and whether every promise was kept.

import { setTimeout as sleep } from 'node:timers/promises'
import { untilWhole } from '../status.ts'
import type { Scenario } from './scenarios.ts'
import type { Stage } from './stage.ts'
import { type Outcome, startReaders, startWriters, TABLE } from './traffic.ts'

export type Measurement = {
  readonly scenario: string
  /** Milliseconds; the longest pause of a client. Others: those of groups that were not hit; undefined without any. */
  readonly writesMs: number
  readonly readsMs: number
  readonly otherWritesMs: number | undefined
  readonly otherReadsMs: number | undefined
  /** From the fault's end until every member was primary or streaming, and known as such. */
  readonly healedMs: number
  readonly acknowledged: number
  readonly refused: number
  /** Promises that were not kept, each a sentence. */
  readonly broken: readonly string[]
}

/** Writers, and as many readers, of the group that is hit and of the others each. */
const CLIENTS = 4
const WARM_UP_MS = 2_000
/** Who was answered within this is served. */
const SERVED_MS = 500
const RETURN_TIMEOUT_MS = 90_000
const HEAL_TIMEOUT_MS = 60_000
/** Statements of other groups wait at most for a change of pg_dist_node, and for a noisy machine. */
const OTHERS_WITHIN_MS = 2_000

/** @param patience by how much whatever is promised may take longer */
export async function play(stage: Stage, scenario: Scenario, patience = 1): Promise<Measurement> {
  const { cluster, fresh, seeded } = stage
  const { topology } = cluster.place
  const group = (scenario.group === 'worker' ? topology.groups[1] : undefined) ?? topology.groups[0]!
  // The coordinator is in every statement's way.
  const isHit = (number: number) => scenario.group !== 'worker' || number === group.number
  await stage.query(`delete from ${TABLE} where id <> all($1)`, [[...seeded.values()].flat()])
  const pick = (ids: ReadonlyMap<number, readonly number[]>, wanted: boolean) => {
    const groups = [...ids].filter(([number]) => isHit(number) === wanted).map(([, own]) => own)
    // Alternating: no group waits until another's ids have run out.
    const longest = Math.max(0, ...groups.map((own) => own.length))
    return Array.from({ length: longest }, (_, index) => groups.map((own) => own[index]))
      .flat()
      .filter((id) => id !== undefined)
  }
  const traffic = { topology, credentials: cluster.credentials, count: CLIENTS }
  const start = (ids: typeof fresh, wanted: boolean, make: typeof startWriters) => {
    const own = pick(ids, wanted)
    return own.length > 0 ? make({ ...traffic, ids: own }) : undefined
  }
  const writers = start(fresh, true, startWriters)!
  const otherWriters = start(fresh, false, startWriters)
  const readers = start(seeded, true, startReaders)!
  const otherReaders = start(seeded, false, startReaders)
  const all = [writers, readers, otherWriters, otherReaders]
  const broken: string[] = []
  await sleep(WARM_UP_MS)
  const until = async (what: string, withinMs: number, isSo: () => boolean | Promise<boolean>) => {
    const deadline = performance.now() + withinMs
    while (!(await isSo())) {
      if (performance.now() > deadline) {
        broken.push(`${what} within ${withinMs / 1000} s`)
        return
      }
      await sleep(100)
    }
  }
  const keepWhole = async (what: string) => {
    const faults = await untilWhole(topology, cluster.credentials, HEAL_TIMEOUT_MS)
    if (faults.length > 0) broken.push(`${what} within ${HEAL_TIMEOUT_MS / 1000} s`, ...faults)
  }
  await until('everybody is served before', RETURN_TIMEOUT_MS, () =>
    all.every((clients) => clients?.areServed(SERVED_MS) ?? true),
  )
  // One fault at a time is what is survived: a member that is still coming back from the last one can follow nobody.
  await keepWhole('the cluster is whole before')
  const undo = await scenario.inject(cluster, group)
  await sleep(scenario.holdMs)
  if (scenario.writesReturn)
    await until('writers are served again', RETURN_TIMEOUT_MS, () => writers.areServed(SERVED_MS))
  broken.push(...((await scenario.findWrongs?.(cluster, group)) ?? []))
  await undo()
  const undoneAt = performance.now()
  await keepWhole('the cluster is whole after')
  const healedMs = performance.now() - undoneAt
  await until('everybody is served after', RETURN_TIMEOUT_MS, () =>
    all.every((clients) => clients?.areServed(SERVED_MS) ?? true),
  )
  const [written, read, otherWritten, otherRead] = await Promise.all(all.map((clients) => clients?.stop()))
  const check = (what: string, outcome: Outcome | undefined, promisedMs = Number.POSITIVE_INFINITY) => {
    const withinMs = promisedMs * patience
    if (outcome && outcome.longestGapMs > withinMs)
      broken.push(`${what} paused ${(outcome.longestGapMs / 1000).toFixed(1)} s of ${withinMs / 1000} s`)
  }
  check('writes', written, scenario.writesWithin)
  check('reads', read, scenario.readsWithin)
  check('writes of other groups', otherWritten, OTHERS_WITHIN_MS)
  check('reads of other groups', otherRead, OTHERS_WITHIN_MS)
  const acknowledged = [...written!.acknowledged, ...(otherWritten?.acknowledged ?? [])]
  const [row] = await stage.query(
    `select count(*)::int as found from ${TABLE} where id = any($1::bigint[])`,
    [acknowledged],
  )
  const found: number = row!.found
  // More is impossible: id is the primary key.
  if (found !== acknowledged.length)
    broken.push(`${acknowledged.length - found} of ${acknowledged.length} acknowledged rows are lost`)
  return {
    scenario: scenario.name,
    writesMs: written!.longestGapMs,
    readsMs: read!.longestGapMs,
    otherWritesMs: otherWritten?.longestGapMs,
    otherReadsMs: otherRead?.longestGapMs,
    healedMs,
    acknowledged: acknowledged.length,
    refused: written!.failures + (otherWritten?.failures ?? 0),
    broken,
  }
}
