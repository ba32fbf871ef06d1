// Owns sequences of faults: what strikes while the cluster still recovers from something else, and who comes back
// in which order. Some have names; the others are drawn, and the same seed draws the same again.

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

/** After this a lease that nobody renews has run out: Patroni's ttl, and what it may have been renewed last. */
const LEASE_MS = 26_000
/** So long a new primary takes changes alone before it is lost, too. */
const REIGN_MS = 600
/** Between two comebacks: the first has time to do what it should not. */
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

/** The primary is lost, and its successor as soon as it has taken some changes by itself. */
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

/** The order in which the former primary and its successor come back. */
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
  /** While the successor's lease still runs. */
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

/** The secondary is lost, and the primary before or after it has noticed. */
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

/** All members of a group at once, and back one after the other. */
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

/** Two seconds apart the successor of the one still announces itself to the other. */
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

/** A shard leaves the group for another one, and its primary dies on the way. */
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
    // Whether it came to an end is not what is asked here.
    moving.catch(() => {})
    await sleep(MOVE_MS)
    const undo = await strike(cluster, 'kill', await findPrimary(group))
    await moving.catch(() => {})
    await sleep(COMEBACK_MS)
    return undo
  }
/** A shard is copied by then, and not yet the other group's. */
const MOVE_MS = 150

/** A worker group is added, and while shards move to it a primary dies: of a worker that gives some, or the coordinator's. */
const whileWorkerIsAdded: Scenario['inject'] = async (cluster, group) => {
  const adding = addWorker(cluster, () => {})
  // Awaited below; it may have failed by then.
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

/** Until it is back as a secondary, the former primary is rewound, and what it is rewound to is lost meanwhile. */
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
/** Patroni has started, and recovers what crashed. */
const REWIND_MS = 2_000

/** What runs no more, or replays nothing, cannot be struck. */
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

/** Numbers from 0 up to 1, the same for the same seed: mulberry32, which is small and good enough to choose by. */
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
  /** Milliseconds since the sequence began. */
  readonly fromMs: number
  readonly toMs: number
}

const MIN_STRIKES = 2
const MAX_STRIKES = 5
/** Milliseconds between two strikes, and for how long each lasts: none of them has one size, all recoveries are met. */
const PAUSES_MS = [100, 10_000] as const
const DURATIONS_MS = [500, 40_000] as const
/** Of ten strikes so many are aimed at members; the others at what stands around them. */
const MEMBER_SHARE = 0.8
const MEMBER_FAULTS: readonly FaultName[] = ['kill', 'crash', 'freeze', 'partition', 'lag', 'fill-disk']
const PART_FAULTS: readonly FaultName[] = ['kill', 'freeze']
/** Of a second strike on the same group: sequences within a group are where something can be lost. */
const SAME_GROUP_SHARE = 0.6

/** @returns in the order of their beginnings */
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

/** What is drawn as a scenario: it is over when everything that was struck has come back. */
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
