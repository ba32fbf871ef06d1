// Owns one run of a scenario: traffic all the time, the fault, its end, and whether every promise was kept.

import { setTimeout as sleep } from 'node:timers/promises'
import { untilWhole } from '../status.ts'
import type { Scenario } from './scenarios.ts'
import type { Stage } from './stage.ts'
import { type Outcome, startReaders, startWriters, TABLE } from './traffic.ts'

export type Measurement = {
  readonly scenario: string
  /** Longest pause of a client, for the group that was hit and for the others; undefined if there are no others. */
  readonly writesMs: number
  readonly readsMs: number
  readonly otherWritesMs: number | undefined
  readonly otherReadsMs: number | undefined
  /** Time from the end of the fault until the status of the cluster had no faults. */
  readonly healedMs: number
  readonly acknowledged: number
  readonly refused: number
  /** One sentence for each promise that was not kept. */
  readonly broken: readonly string[]
}

/** Number of writers, and of readers, for the group that is hit; as many for the other groups together. */
const CLIENTS = 4
const WARM_UP_MS = 2_000
/** A client is served if its last response is not older than this. */
const SERVED_MS = 500
const RETURN_TIMEOUT_MS = 90_000
const HEAL_TIMEOUT_MS = 60_000
/** Statements of other groups wait at most for an update of pg_dist_node, and for a busy machine. */
const OTHERS_WITHIN_MS = 2_000

/** Plays a scenario. @param patience factor by which everything promised may take longer */
export async function play(stage: Stage, scenario: Scenario, patience = 1): Promise<Measurement> {
  const { cluster, fresh, seeded } = stage
  const { topology } = cluster.place
  const group = (scenario.group === 'worker' ? topology.groups[1] : undefined) ?? topology.groups[0]!
  // Every statement goes through the coordinator, so its faults hit all groups.
  const isHit = (number: number) => scenario.group !== 'worker' || number === group.number
  await stage.query(`delete from ${TABLE} where id <> all($1)`, [[...seeded.values()].flat()])
  const pick = (ids: ReadonlyMap<number, readonly number[]>, wanted: boolean) => {
    const groups = [...ids].filter(([number]) => isHit(number) === wanted).map(([, own]) => own)
    // The groups' ids alternate, so that no group waits until the ids of another one are used up.
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
        broken.push(`not within ${withinMs / 1000} s: ${what}`)
        return
      }
      await sleep(100)
    }
  }
  const keepWhole = async (what: string) => {
    const faults = await untilWhole(topology, cluster.credentials, HEAL_TIMEOUT_MS)
    if (faults.length > 0) broken.push(`not within ${HEAL_TIMEOUT_MS / 1000} s: ${what}`, ...faults)
  }
  await until('all clients are served before the fault', RETURN_TIMEOUT_MS, () =>
    all.every((clients) => clients?.areServed(SERVED_MS) ?? true),
  )
  // Only one fault at a time is promised: a member that still recovers from the last fault cannot replace a primary.
  await keepWhole('the cluster has recovered before the fault')
  const undo = await scenario.inject(cluster, group)
  await sleep(scenario.holdMs)
  if (scenario.writesReturn)
    await until('writers are served again', RETURN_TIMEOUT_MS, () => writers.areServed(SERVED_MS))
  broken.push(...((await scenario.findWrongs?.(cluster, group)) ?? []))
  await undo()
  const undoneAt = performance.now()
  await keepWhole('the cluster has recovered after the fault')
  const healedMs = performance.now() - undoneAt
  await until('all clients are served after the fault', RETURN_TIMEOUT_MS, () =>
    all.every((clients) => clients?.areServed(SERVED_MS) ?? true),
  )
  const [written, read, otherWritten, otherRead] = await Promise.all(all.map((clients) => clients?.stop()))
  const check = (what: string, outcome: Outcome | undefined, promisedMs = Number.POSITIVE_INFINITY) => {
    const withinMs = promisedMs * patience
    if (outcome && outcome.longestGapMs > withinMs)
      broken.push(
        `${what} paused ${(outcome.longestGapMs / 1000).toFixed(1)} s; the promise is ${withinMs / 1000} s`,
      )
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
  // There cannot be more rows, because id is the primary key.
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
