// Owns what the cluster promises: each fault, its target, and the time until writes and reads are served again.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Client } from 'pg'
import { withSuperuser } from '../database-urls.ts'
import { type FaultName, faults, type Undo } from '../fault.ts'
import { findPrimary, restart, startGateways, switchOver, untilGatewaysServe, up } from '../launcher.ts'
import { type Cluster, partsOf } from '../parts.ts'
import { readStatus } from '../status.ts'
import type { Group } from '../topology.ts'

export type Scenario = {
  readonly name: string
  /** Group that is hit. Clients of all groups are affected, unless it is a worker. */
  readonly group: 'coordinator' | 'worker' | undefined
  /** Milliseconds that an affected writer may wait at most from one acknowledgement to the next. */
  readonly writesWithin?: number
  /** The same for readers of the affected group. */
  readonly readsWithin?: number
  /** Milliseconds that the fault lasts; if `writesReturn`, it also lasts until affected writers are served again. */
  readonly holdMs: number
  /** True if writes must be served again while the fault lasts. */
  readonly writesReturn: boolean
  readonly inject: (cluster: Cluster, group: Group) => Promise<Undo>
  /** Looks at the cluster before the fault is undone. @returns a sentence for each thing that is wrong */
  readonly findWrongs?: (cluster: Cluster, group: Group) => Promise<readonly string[]>
}

/** Long enough that every component that reacts to the fault notices it. */
const HOLD_MS = 3_000
const SECONDARY_HOLD_MS = 10_000
const STORE_LOST_MS = 30_000

export const strikePrimary =
  (fault: FaultName): Scenario['inject'] =>
  async (cluster, group) =>
    faults[fault].inject(cluster, (await findPrimary(group)).name)

const strikeSecondary =
  (fault: FaultName): Scenario['inject'] =>
  async (cluster, group) => {
    const primary = await findPrimary(group)
    return faults[fault].inject(cluster, group.members.find((member) => member !== primary)!.name)
  }

/** More than a secondary may be behind and still serve reads. */
const LAG_MIB = 24

/** Stops the replay of a secondary, and writes enough WAL that it falls far behind. */
const lagBehind: Scenario['inject'] = async (cluster, group) => {
  const undo = await strikeSecondary('lag')(cluster, group)
  const { connectPort } = await findPrimary(group)
  const { topology } = cluster.place
  const write = (client: Client) =>
    client.query(
      `select pg_logical_emit_message(true, 'tessera', repeat('x', 1048576)) from generate_series(1, ${LAG_MIB})`,
    )
  await withSuperuser(topology, cluster.credentials, write, () => connectPort)
  return undo
}

/** Finds secondaries that are far behind and that a port still leads to. */
const findServedLaggards: Scenario['findWrongs'] = async ({ place, credentials }, { name }) => {
  const { members } = await readStatus(place.topology, credentials)
  const secondaries = members.filter(({ group, role }) => group === name && role === 'replica')
  const laggards = secondaries.filter(({ lagBytes = 0 }) => lagBytes > 0)
  if (laggards.length === 0) return [`no secondary of ${name} is behind`]
  return laggards
    .filter(({ servedAt = [] }) => servedAt.length > 0)
    .map(({ name, servedAt }) => `${name} is behind, and ${servedAt} leads to it`)
}

const strikeAll =
  (namesOf: (cluster: Cluster) => readonly string[]): Scenario['inject'] =>
  async (cluster) => {
    const undos = await Promise.all(namesOf(cluster).map((name) => faults.kill.inject(cluster, name)))
    return async () => {
      for (const undo of undos) await undo()
    }
  }

async function change(cluster: Cluster, group: Group): Promise<Undo> {
  await switchOver(cluster, group)
  return async () => {}
}

/** Kills every process at once, and starts everything again. */
async function killCluster(cluster: Cluster): Promise<Undo> {
  await strikeAll(({ place }) => partsOf(place.topology))(cluster, cluster.place.topology.groups[0]!)
  await sleep(1_000)
  await up(cluster, () => {})
  await startGateways(cluster)
  await untilGatewaysServe(cluster)
  return async () => {}
}

const primaryFaults = {
  switchover: { inject: change, writesWithin: 5_000 },
  crash: { inject: strikePrimary('crash'), writesWithin: 6_000 },
  kill: { inject: strikePrimary('kill'), writesWithin: 12_000 },
  freeze: { inject: strikePrimary('freeze'), writesWithin: 15_000 },
  partition: { inject: strikePrimary('partition'), writesWithin: 15_000 },
}

const secondaryFaults = {
  kill: { inject: strikeSecondary('kill') },
  freeze: { inject: strikeSecondary('freeze') },
  lag: { inject: lagBehind, findWrongs: findServedLaggards },
}

/** Other members serve the coordinator's read port, but bare connections cannot read a worker without a secondary. */
const readsOf = (group: 'coordinator' | 'worker') => (group === 'coordinator' ? { readsWithin: 5_000 } : {})

const ofGroup = (group: 'coordinator' | 'worker'): Scenario[] => [
  ...Object.entries(primaryFaults).map(([name, fault]) => ({
    name: `${group}-${name}`,
    group,
    holdMs: HOLD_MS,
    writesReturn: true,
    ...readsOf(group),
    ...fault,
  })),
  ...Object.entries(secondaryFaults).map(([name, fault]) => ({
    name: `${group}-secondary-${name}`,
    group,
    holdMs: SECONDARY_HOLD_MS,
    writesReturn: true,
    writesWithin: 8_000,
    ...readsOf(group),
    ...fault,
  })),
]

/** Restarts one gateway after the other, each cleanly, while the others serve. */
async function restartGateways(cluster: Cluster): Promise<Undo> {
  const { gateways } = cluster.place.topology
  for (const gateway of gateways) {
    await restart(cluster, gateway.name)
    await untilGatewaysServe(cluster, { gateways: [gateway] })
    // By then HAProxy leads to the gateway again.
    await sleep(RETURN_MS)
  }
  return async () => {}
}

/** Time within which HAProxy notices that a gateway serves again. */
const RETURN_MS = 2_000

/** Faults of gateways, for clients that use them. */
export const gatewayScenarios: readonly Scenario[] = [
  {
    name: 'gateway-kill',
    group: undefined,
    holdMs: HOLD_MS,
    writesReturn: true,
    inject: strikeAll(({ place }) => [place.topology.gateways[0]!.name]),
  },
  {
    name: 'gateways-restart',
    group: undefined,
    holdMs: 0,
    writesReturn: true,
    inject: restartGateways,
  },
]

export const scenarios: readonly Scenario[] = [
  ...ofGroup('worker'),
  ...ofGroup('coordinator'),
  {
    name: 'etcd-member',
    group: undefined,
    writesWithin: 2_000,
    readsWithin: 2_000,
    holdMs: SECONDARY_HOLD_MS,
    writesReturn: true,
    inject: strikeAll(({ place }) => [place.topology.store[0]!.name]),
  },
  {
    name: 'etcd-all',
    group: undefined,
    writesWithin: 2_000,
    readsWithin: 2_000,
    holdMs: STORE_LOST_MS,
    writesReturn: true,
    inject: strikeAll(({ place }) => place.topology.store.map(({ name }) => name)),
  },
  {
    name: 'haproxy',
    group: undefined,
    writesWithin: 5_000,
    readsWithin: 5_000,
    holdMs: SECONDARY_HOLD_MS,
    writesReturn: true,
    inject: strikeAll(({ place }) => [place.topology.proxies[0]!.name]),
  },
  {
    name: 'cluster-kill',
    group: undefined,
    writesWithin: 60_000,
    readsWithin: 60_000,
    holdMs: 0,
    writesReturn: true,
    inject: killCluster,
  },
]
