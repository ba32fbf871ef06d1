// Owns sequences of faults: a fault strikes while the cluster still recovers from another one, and members come back in
// different orders. Some sequences have names; others are drawn, and the same seed draws the same sequence.

import { setTimeout as sleep } from 'node:timers/promises'
import { withSuperuser } from '../database-urls.ts'
import { type FaultName, faults, type Undo } from '../fault.ts'
import { findPrimary, switchOver } from '../launcher.ts'
import type { Cluster } from '../parts.ts'
import { askMember } from '../patroni-client.ts'
import { ClusterError } from '../place.ts'
import { addWorker } from '../scale.ts'
import type { Group, Member, Topology } from '../topology.ts'
import { COLLECTION } from './http-clients.ts'
import type { Scenario } from './scenarios.ts'

/** Time after which a lease has expired: Patroni's ttl of 20 s, and some seconds in which it may still be renewed. */
const LEASE_MS = 26_000
/** Time in which a new primary takes changes alone before it is lost, too. */
const REIGN_MS = 600
/** Time between two comebacks, in which the first member could do what it must not do. */
const COMEBACK_MS = 12_000
const SUCCESSION_TIMEOUT_MS = 60_000
const LOOK_MS = 20

const strike = (cluster: Cluster, fault: FaultName, { name }: Member) => faults[fault].inject(cluster, name)

async function untilPrimary(candidates: readonly Member[]): Promise<Member> {
  const deadline = performance.now() + SUCCESSION_TIMEOUT_MS
  for (;;) {
    for (const member of candidates) if ((await askMember(member))?.role === 'primary') return member
    if (performance.now() > deadline)
      throw new Error(`none of ${candidates.map(({ name }) => name)} became primary`)
    await sleep(LOOK_MS)
  }
}

const others = ({ members }: Group, member: Member) => members.filter((one) => one !== member)

/** Strikes the primary, and its successor as soon as that has taken some changes alone. */
async function loseBoth(
  cluster: Cluster,
  group: Group,
  first: FaultName,
  second: FaultName,
): Promise<readonly [former: Undo, successor: Undo]> {
  const former = await findPrimary(group)
  const undoFormer = await strike(cluster, first, former)
  const successor = await untilPrimary(others(group, former))
  await sleep(REIGN_MS)
  const undoSuccessor = await strike(cluster, second, successor)
  return [undoFormer, undoSuccessor]
}

/** Orders in which the former primary and its successor come back. */
const COMEBACKS: Readonly<Record<string, (former: Undo, successor: Undo) => Promise<void>>> = {
  async 'former-first'(former, successor) {
    await sleep(LEASE_MS)
    await former()
    await sleep(COMEBACK_MS)
    await successor()
  },
  async 'successor-first'(former, successor) {
    await sleep(LEASE_MS)
    await successor()
    await sleep(COMEBACK_MS)
    await former()
  },
  async 'at-once'(former, successor) {
    await sleep(LEASE_MS)
    await Promise.all([former(), successor()])
  },
  /** The former primary comes back while the lease of the successor still runs. */
  async 'former-early'(former, successor) {
    await former()
    await sleep(LEASE_MS)
    await successor()
  },
}

const succession =
  (first: FaultName, second: FaultName, comeback: keyof typeof COMEBACKS): Scenario['inject'] =>
  async (cluster, group) => {
    const [former, successor] = await loseBoth(cluster, group, first, second)
    await COMEBACKS[comeback]!(former, successor)
    return async () => {}
  }

/** Kills the secondary, and then the primary, before or after it has noticed the loss. */
const secondaryThenPrimary =
  (pauseMs: number): Scenario['inject'] =>
  async (cluster, group) => {
    const primary = await findPrimary(group)
    const [secondary] = others(group, primary)
    const undoSecondary = await strike(cluster, 'kill', secondary!)
    await sleep(pauseMs)
    const undoPrimary = await strike(cluster, 'kill', primary)
    await sleep(LEASE_MS)
    await undoSecondary()
    await sleep(COMEBACK_MS)
    return undoPrimary
  }

/** Freezes all members of a group at once, and wakes them one after the other. */
const freezeGroup: Scenario['inject'] = async (cluster, { members }) => {
  const undos = await Promise.all(members.map((member) => strike(cluster, 'freeze', member)))
  await sleep(LEASE_MS)
  for (const undo of undos) {
    await undo()
    await sleep(REIGN_MS)
  }
  return async () => {}
}

const coordinatorOf = ({ place }: Cluster) => place.topology.groups[0]!

/** Strikes a worker, then the coordinator. After two seconds the worker's successor still announces itself there. */
const coordinatorToo =
  (fault: FaultName, pauseMs: number): Scenario['inject'] =>
  async (cluster, group) => {
    const undoWorker = await strike(cluster, fault, await findPrimary(group))
    await sleep(pauseMs)
    const undoCoordinator = await strike(cluster, fault, await findPrimary(coordinatorOf(cluster)))
    await sleep(COMEBACK_MS)
    await undoWorker()
    return undoCoordinator
  }

/** Moves a shard from the group to another one, and kills the group's primary meanwhile. */
const whileShardMoves =
  (mode: 'auto' | 'block_writes'): Scenario['inject'] =>
  async (cluster, group) => {
    const { topology } = cluster.place
    const moving = withSuperuser(topology, cluster.credentials, async (client) => {
      const { rows } = await client.query(
        `select shardid, target.nodename, target.nodeport, source.nodename as "from", source.nodeport as "fromPort"
       from pg_dist_shard join pg_dist_placement using (shardid)
       join pg_dist_node source on source.groupid = pg_dist_placement.groupid and source.noderole = 'primary'
       join pg_dist_node target on target.groupid <> source.groupid and target.groupid > 0
         and target.noderole = 'primary'
       where logicalrelid = $1::regclass and source.groupid = $2 order by 1, target.groupid limit 1`,
        [COLLECTION, group.number],
      )
      const [{ shardid, from, fromPort, nodename, nodeport }] = rows
      await client.query('select citus_move_shard_placement($1, $2, $3, $4, $5, $6)', [
        shardid,
        from,
        fromPort,
        nodename,
        nodeport,
        mode,
      ])
    })
    // The move may fail; the scenario does not depend on it.
    moving.catch(() => {})
    await sleep(MOVE_MS)
    const undo = await strike(cluster, 'kill', await findPrimary(group))
    await moving.catch(() => {})
    await sleep(COMEBACK_MS)
    return undo
  }
/** By then the shard has been copied, and does not belong to the other group yet. */
const MOVE_MS = 150

/** Adds a worker group, and kills a primary while shards move: of a worker that gives some, or of the coordinator. */
const whileWorkerIsAdded: Scenario['inject'] = async (cluster, group) => {
  const adding = addWorker(cluster, () => {})
  // `adding` is awaited below, and may fail before that.
  const hasEnded = adding.then(
    () => true,
    () => true,
  )
  const { topology } = cluster.place
  const isMoving = () =>
    withSuperuser(topology, cluster.credentials, async (client) => {
      const { rows } = await client.query(
        `select exists (select from pg_dist_background_task where status = 'running') as is`,
      )
      return rows[0].is as boolean
    })
  while (!(await isMoving())) if (await Promise.race([hasEnded, sleep(LOOK_MS, false)])) break
  const undo = await strike(cluster, 'kill', await findPrimary(group))
  await sleep(COMEBACK_MS)
  await undo()
  await adding
  return async () => {}
}

const duringSwitchover =
  (fault: FaultName, pauseMs: number): Scenario['inject'] =>
  async (cluster, group) => {
    const primary = await findPrimary(group)
    const [secondary] = others(group, primary)
    const switching = switchOver(cluster, group).catch(() => {})
    await sleep(pauseMs)
    const undo = await strike(cluster, fault, secondary!).catch(ignoreAbsence)
    await sleep(COMEBACK_MS)
    await undo()
    await switching
    return async () => {}
  }

/** Kills the successor while the former primary is being rewound to it. */
const duringRewind: Scenario['inject'] = async (cluster, group) => {
  const former = await findPrimary(group)
  const undoFormer = await strike(cluster, 'kill', former)
  const successor = await untilPrimary(others(group, former))
  await sleep(COMEBACK_MS)
  await undoFormer()
  await sleep(REWIND_MS)
  const undoSuccessor = await strike(cluster, 'kill', successor)
  await sleep(LEASE_MS)
  return undoSuccessor
}
/** By then Patroni has started, and recovers the crashed PostgreSQL. */
const REWIND_MS = 2_000

/** Ignores that a part cannot be struck, because it does not run, or replays nothing. */
function ignoreAbsence(error: unknown): Undo {
  if (error instanceof ClusterError) return async () => {}
  throw error
}

const named = (
  group: 'coordinator' | 'worker',
  injections: Readonly<Record<string, Scenario['inject']>>,
): Scenario[] =>
  Object.entries(injections).map(([name, inject]) => ({
    name: `${group}-${name}`,
    group,
    holdMs: 0,
    writesReturn: false,
    inject,
  }))

const ofAnyGroup: Readonly<Record<string, Scenario['inject']>> = {
  ...Object.fromEntries(
    Object.keys(COMEBACKS).map((comeback) => [
      `freeze-freeze-${comeback}`,
      succession('freeze', 'freeze', comeback),
    ]),
  ),
  'freeze-kill': succession('freeze', 'kill', 'former-first'),
  'kill-kill': succession('kill', 'kill', 'former-first'),
  'partition-partition': succession('partition', 'partition', 'former-first'),
  'secondary-kill-kill': secondaryThenPrimary(REIGN_MS),
  'secondary-kill-noticed-kill': secondaryThenPrimary(COMEBACK_MS),
  'freeze-group': freezeGroup,
  'switchover-freeze': duringSwitchover('freeze', REIGN_MS),
  'switchover-kill': duringSwitchover('kill', 2 * REIGN_MS),
  'rewind-kill': duringRewind,
}

export const sequences: readonly Scenario[] = [
  ...named('worker', {
    ...ofAnyGroup,
    'and-coordinator-kill': coordinatorToo('kill', 2_000),
    'and-coordinator-freeze': coordinatorToo('freeze', 7_000),
    'shard-move-kill': whileShardMoves('auto'),
    'shard-move-blocking-kill': whileShardMoves('block_writes'),
    added: (cluster) => addWorker(cluster, () => {}).then(() => async () => {}),
    'added-kill': whileWorkerIsAdded,
    'added-coordinator-kill': (cluster) => whileWorkerIsAdded(cluster, coordinatorOf(cluster)),
  }),
  ...named('coordinator', ofAnyGroup),
]

/** Returns a generator (mulberry32) of numbers from 0 up to 1. The same seed gives the same numbers. */
function makeRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

export type Strike = {
  readonly fault: FaultName
  readonly name: string
  /** Milliseconds from the start of the sequence. */
  readonly fromMs: number
  readonly toMs: number
}

const MIN_STRIKES = 2
const MAX_STRIKES = 5
/**
 * Milliseconds between two strikes, and of each strike. The ranges span orders of magnitude, so that strikes meet every
 * stage of a recovery.
 */
const PAUSES_MS = [100, 10_000] as const
const DURATIONS_MS = [500, 40_000] as const
/** Share of strikes that hit members; the others hit proxies, etcd, fencers or gateways. */
const MEMBER_SHARE = 0.8
const MEMBER_FAULTS: readonly FaultName[] = ['kill', 'crash', 'freeze', 'partition', 'lag', 'fill-disk']
const PART_FAULTS: readonly FaultName[] = ['kill', 'freeze']
/** Share of strikes on members that are drawn from one group, because sequences within a group can lose changes. */
const SAME_GROUP_SHARE = 0.6

/** Draws a sequence. @returns its strikes, in the order of their starts */
export function drawStrikes(seed: number, topology: Topology): readonly Strike[] {
  const random = makeRandom(seed)
  const choose = <T>(among: readonly T[]) => among[Math.floor(random() * among.length)]!
  const between = ([least, most]: readonly [number, number]) => Math.round(least * (most / least) ** random())
  const { members, groups, proxies, store, fencers, gateways } = topology
  const parts = [proxies, store, fencers, gateways].filter((kind) => kind.length > 0)
  const favourite = choose(groups)
  const strikes: Strike[] = []
  const count = MIN_STRIKES + Math.floor(random() * (MAX_STRIKES - MIN_STRIKES + 1))
  for (let fromMs = 0; strikes.length < count; fromMs += between(PAUSES_MS)) {
    const isMember = random() < MEMBER_SHARE
    const { name } = isMember
      ? choose(random() < SAME_GROUP_SHARE ? favourite.members : members)
      : choose(choose(parts))
    const fault = choose(isMember ? MEMBER_FAULTS : PART_FAULTS)
    strikes.push({ fault, name, fromMs, toMs: fromMs + between(DURATIONS_MS) })
  }
  return strikes
}

export const describeStrikes = (strikes: readonly Strike[]) =>
  strikes
    .map(({ fault, name, fromMs, toMs }) => `${fault} ${name} ${inSeconds(fromMs)}–${inSeconds(toMs)}`)
    .join(', ')
const inSeconds = (ms: number) => (ms / 1_000).toFixed(1)

/** Returns a drawn sequence as a scenario, which ends when everything that was struck has come back. */
export const randomScenario = (seed: number, topology: Topology): Scenario => ({
  name: `seed ${seed}`,
  group: undefined,
  holdMs: 0,
  writesReturn: false,
  async inject(cluster) {
    const start = performance.now()
    const at = (ms: number) => sleep(Math.max(0, start + ms - performance.now()))
    await Promise.all(
      drawStrikes(seed, topology).map(async ({ fault, name, fromMs, toMs }) => {
        await at(fromMs)
        const undo = await faults[fault].inject(cluster, name).catch(ignoreAbsence)
        await at(toMs)
        await undo()
      }),
    )
    return async () => {}
  },
})
