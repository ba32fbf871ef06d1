// Owns one run of the nemesis suite: clients over HTTP all the time, a fault in the middle, and the checker at the end.

import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { startGateways, untilGatewaysServe } from '../launcher.ts'
import { findPlace, type Place } from '../place.ts'
import { untilWhole } from '../status.ts'
import type { Topology } from '../topology.ts'
import { findLeftovers } from './aftermath.ts'
import { findViolations, type Violation } from './history.ts'
import {
  COLLECTION,
  makeRegisters,
  type Notebook,
  type Sample,
  type Spot,
  startCrowd,
} from './http-clients.ts'
import type { Scenario } from './scenarios.ts'
import type { Trial } from './stage.ts'

/** Number of gateways, so that one is left if one is lost and another one restarts. */
export const GATEWAYS = 3

/** Level of the cells: large enough that a spot and the features next to it are in one cell. */
const LEVEL = 8
const STEADY_MS = 5_000
/** Time after the recovery of the cluster, so that late effects are seen, too. */
const SETTLE_MS = 3_000
const SERVED_MS = 1_000
const SERVED_TIMEOUT_MS = 90_000
/** Longest wait for recovery, which is measured but not promised: returning members share the machine with the rest. */
const WHOLE_TIMEOUT_MS = 180_000

export type NemesisStage = Trial & { readonly spots: readonly Spot[] }

/** Outcomes of the requests of a kind. */
export type Tally = {
  readonly count: number
  readonly refused: number
  readonly failed: number
  /** Longest time between two served requests. */
  readonly longestGapMs: number
  readonly p99Ms: number
}

export type NemesisResult = {
  readonly scenario: string
  readonly violations: readonly Violation[]
  /** One sentence for each other thing that went wrong. */
  readonly broken: readonly string[]
  readonly steadyReads: Tally
  readonly reads: Tally
  /** Writes of the group that was hit. */
  readonly writes: Tally
  /** Writes of the other groups; undefined if all groups were hit. */
  readonly otherWrites: Tally | undefined
  /** Time from the end of the fault until the cluster had recovered. */
  readonly healedMs: number
  readonly acknowledged: number
  readonly unresolved: number
  readonly steadyCausal: number
  readonly steadyCausalFromSecondaries: number
  /** What clients got instead of responses, and how often. */
  readonly troubles: Readonly<Record<string, number>>
  /** Reasons that gateways log for requests that they did not serve, if TESSERA_LOG_LEVEL is debug. */
  readonly reasons: Readonly<Record<string, number>>
}

/** Starts the gateways, and creates the collection that their clients share. */
export async function prepareNemesis(trial: Trial): Promise<NemesisStage> {
  await startGateways(trial.cluster)
  await untilGatewaysServe(trial.cluster)
  const spots = await makeCollection(trial, trial.cluster.place.topology)
  await untilGatewaysServe(trial.cluster, { path: `/collections/${COLLECTION}` })
  return { ...trial, spots }
}

/** Creates the collection. @returns one spot in each node group that holds features */
async function makeCollection({ query }: Trial, { isCitus }: Topology): Promise<readonly Spot[]> {
  await query(`create table ${COLLECTION} (
    cell integer not null, id text not null, mark text, value integer, geom geometry(Point, 4326),
    primary key (cell, id), constraint cell_of_geom_${LEVEL} check (cell = tessera.cell(geom, ${LEVEL})))`)
  if (isCitus)
    await query(
      `select create_distributed_table('${COLLECTION}', 'cell', colocate_with => 'tessera.moved_feature')`,
    )
  // Owner and privileges are those of an imported table.
  await query(`alter table ${COLLECTION} owner to tessera_owner`)
  await query(`grant select, insert, update, delete on ${COLLECTION} to tessera_write`)
  await query(`grant select on ${COLLECTION} to tessera_read`)
  const [width, height] = [360 / 2 ** LEVEL, 180 / 2 ** LEVEL]
  const middles = `select (-180 + (x + 0.5) * ${width})::float8 as longitude, ${height / 2}::float8 as latitude
    from generate_series(0, ${2 ** LEVEL - 1}) x`
  const rows = isCitus
    ? await query(`select distinct on (groupid) groupid as "group", longitude, latitude
        from (${middles}) m join pg_dist_placement on shardid = get_shard_id_for_distribution_column('${COLLECTION}',
          tessera.cell(st_setsrid(st_makepoint(longitude, latitude), 4326), ${LEVEL}))
        order by groupid, longitude`)
    : await query(`select 0 as "group", longitude, latitude from (${middles}) m limit 1`)
  return rows as unknown as Spot[]
}

/** Plays a scenario. @param lastsMs milliseconds that clients go on at least, from the fault on */
export async function playNemesis(
  stage: NemesisStage,
  scenario: Scenario,
  lastsMs = 0,
): Promise<NemesisResult> {
  const { query, spots } = stage
  // The cluster may have grown, before or meanwhile.
  const asItIs = () => ({ ...stage.cluster, place: findPlace(stage.cluster.place.folder, {}) })
  const cluster = asItIs()
  const { topology } = cluster.place
  const struck = (scenario.group === 'worker' ? topology.groups[1] : undefined) ?? topology.groups[0]!
  const isHit = ({ group }: Sample) => scenario.group !== 'worker' || group === struck.number
  await query(`delete from ${COLLECTION}`)
  const registers = new Map<Spot, readonly string[]>()
  for (const spot of spots) registers.set(spot, await makeRegisters(topology.proxies, spot))
  const broken: string[] = []
  const keepWhole = async () => {
    const { place, credentials } = asItIs()
    const faults = await untilWhole(place.topology, credentials, WHOLE_TIMEOUT_MS)
    if (faults.length > 0)
      broken.push(`the cluster has not recovered within ${WHOLE_TIMEOUT_MS / 1_000} s`, ...faults)
  }
  await keepWhole()
  const readLogs = followLogs(cluster.place)
  const notebook: Notebook = { history: [], samples: [] }
  const crowd = startCrowd(topology.proxies, registers, notebook)
  const untilServed = async () => {
    for (
      const deadline = performance.now() + SERVED_TIMEOUT_MS;
      !crowd.areServed(SERVED_MS);
      await sleep(100)
    )
      if (performance.now() > deadline)
        return void broken.push(`not all clients are served within ${SERVED_TIMEOUT_MS / 1_000} s`)
  }
  await sleep(SERVED_MS)
  await untilServed()
  const steadyFrom = performance.now()
  await sleep(STEADY_MS)
  const struckAt = performance.now()
  const undo = await scenario.inject(cluster, struck)
  await sleep(scenario.holdMs)
  if (scenario.writesReturn) await untilServed()
  await undo()
  const undoneAt = performance.now()
  await keepWhole()
  const healedMs = performance.now() - undoneAt
  await untilServed()
  await sleep(Math.max(SETTLE_MS, struckAt + lastsMs - performance.now()))
  await crowd.stop()
  broken.push(...(await findLeftovers(asItIs())))
  const logged = readLogs()
  broken.push(...logged.filter(({ msg }) => msg === 'request-failed').map(({ err }) => `a bug: ${err.stack}`))
  const { history, samples } = notebook
  const marks = await query(
    `select mark, count(*)::int as count from ${COLLECTION} where mark is not null group by mark`,
  )
  const values = await query(`select id, value from ${COLLECTION} where value is not null`)
  const steady = samples.filter(({ startMs }) => startMs >= steadyFrom && startMs < struckAt)
  const after = samples.filter(({ startMs, ms }) => startMs + ms >= struckAt)
  const causal = steady.filter(({ source }) => source !== undefined)
  const changes = history.filter((one) => one.kind === 'insertion' || one.kind === 'setting')
  const troubles = count(after.flatMap(({ trouble }) => trouble ?? []))
  const reasons = count(logged.map(reasonOf))
  const others = after.filter((sample) => !isHit(sample))
  return {
    scenario: scenario.name,
    violations: findViolations(history, {
      marks: new Map(marks.map(({ mark, count }) => [mark, count])),
      registers: new Map(values.map(({ id, value }) => [id, value])),
    }),
    broken,
    steadyReads: tally(steady.filter(isRead)),
    reads: tally(after.filter(isRead)),
    writes: tally(after.filter((sample) => isHit(sample) && !isRead(sample))),
    otherWrites: others.length > 0 ? tally(others.filter((sample) => !isRead(sample))) : undefined,
    healedMs,
    acknowledged: changes.filter(({ fate }) => fate === 'done').length,
    unresolved: changes.filter(({ fate }) => fate === 'unknown').length,
    steadyCausal: causal.length,
    steadyCausalFromSecondaries: causal.filter(({ source }) => source === 'secondary').length,
    troubles,
    reasons,
  }
}

type Logged = {
  readonly msg: string
  readonly method: string
  readonly err: { readonly message: string; readonly stack: string; readonly cause?: Logged['err'] }
}

/** @returns a function that reads what gateways have logged since now about requests that they did not serve */
function followLogs({ topology, runFolder }: Place): () => readonly Logged[] {
  const files = topology.gateways.map(({ name }) => join(runFolder, `${name}.log`))
  const sizes = files.map((file) => statSync(file).size)
  return () =>
    files
      .flatMap((file, index) => readFileSync(file).subarray(sizes[index]).toString().split('\n'))
      .filter((line) => /"msg":"request-(failed|refused)"/.test(line))
      .map((line) => JSON.parse(line))
}

/** Returns the method and the chain of errors, from the response to its cause. */
const reasonOf = ({ method, err }: Logged) => {
  const told = []
  for (let error: Logged['err'] | undefined = err; error; error = error.cause) told.push(error.message)
  return `${method}: ${[...new Set(told)].join(' < ')}`
}

function count(values: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1
  return counts
}

const isRead = ({ kind }: Sample) => kind === 'read'

function tally(samples: readonly Sample[]): Tally {
  const served = samples.filter(({ verdict }) => verdict === 'served')
  const times = served.map(({ ms }) => ms).toSorted((a, b) => a - b)
  const ends = served.map(({ startMs, ms }) => startMs + ms).toSorted((a, b) => a - b)
  return {
    count: samples.length,
    refused: samples.filter(({ verdict }) => verdict === 'refused').length,
    failed: samples.filter(({ verdict }) => verdict === 'failed').length,
    longestGapMs: Math.max(0, ...ends.slice(1).map((end, index) => end - ends[index]!)),
    p99Ms: times[Math.floor(times.length * 0.99)] ?? 0,
  }
}
