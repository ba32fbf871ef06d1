// Owns bringing the cluster up on this machine, and down again. Nothing of it lives in this process: whoever
// starts it may go, and another finds it again by its folder.

import { existsSync, rmSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { findDaemon, findPostmaster, sessionOf, signal, stopDaemon } from './daemon.ts'
import { healNetwork } from './fault.ts'
import { type Cluster, partsOf, processesOf, startPart } from './parts.ts'
import { askMember, switchOver as askToSwitchOver } from './patroni-api.ts'
import { ClusterError, dataFolderOf, isMade, makePlace, type Place, unmountMembers } from './place.ts'
import { prepareDatabase } from './schema.ts'
import { type Group, type Member, type Topology, urlOf } from './topology.ts'

export type Report = (line: string) => void

/** Patroni lets PostgreSQL end what it does. */
const MEMBER_STOP_MS = 30_000
const STOP_MS = 10_000
/** By when all members must have come up. */
const UP_TIMEOUT_MS = 180_000
/** By when a group must have changed places. */
const SWITCHOVER_TIMEOUT_MS = 30_000

/** Starts whatever does not run, and waits until all of it serves. Gateways apart: they need the database. */
export async function up(cluster: Cluster, report: Report): Promise<void> {
  const { topology } = cluster.place
  makePlace(cluster.place)
  healNetwork(cluster.place)
  const start = performance.now()
  const seconds = () => `${((performance.now() - start) / 1000).toFixed(1)} s`
  for (const { name } of [...topology.store, ...topology.proxies]) startPart(cluster, name)
  await untilStoreAnswers(cluster.place)
  report(`etcd and HAProxy run (${seconds()})`)
  for (const { name } of [...topology.members, ...topology.fencers]) startPart(cluster, name)
  await untilMembersRun(topology, (line) => report(`${line} (${seconds()})`), mustRun(cluster.place))
  await prepareDatabase(topology, cluster.credentials, report)
  report(`the database is prepared (${seconds()})`)
}

export function startGateways(cluster: Cluster) {
  for (const { name } of cluster.place.topology.gateways) startPart(cluster, name)
}

export const mustRun =
  ({ runFolder }: Place) =>
  (name: string) => {
    if (findDaemon(runFolder, name) === undefined)
      throw new ClusterError(`${name} has ended; see npm run cluster -- logs ${name}.`)
  }

/** Their first answer through HAProxy: the database is migrated, and the demo data imported. */
export async function untilGatewaysServe({ place }: Cluster) {
  const { topology } = place
  const { host, httpPort } = topology.proxies[0]!
  const deadline = performance.now() + UP_TIMEOUT_MS
  const isReady = () =>
    fetch(`${urlOf(host, httpPort)}/health/ready`).then(
      (response) => response.ok,
      () => false,
    )
  while (topology.gateways.length > 0 && !(await isReady())) {
    for (const { name } of topology.gateways) mustRun(place)(name)
    if (performance.now() > deadline) throw new ClusterError('The gateways do not serve; see their logs.')
    await sleep(200)
  }
}

async function untilStoreAnswers({ topology }: Place) {
  const deadline = performance.now() + 20_000
  const isWell = ({ host, clientPort }: { readonly host: string; readonly clientPort: number }) =>
    fetch(`${urlOf(host, clientPort)}/health`).then(
      (response) => response.ok,
      () => false,
    )
  for (;;) {
    if ((await Promise.all(topology.store.map(isWell))).every(Boolean)) return
    if (performance.now() > deadline) throw new ClusterError('etcd does not answer; see its logs.')
    await sleep(100)
  }
}

/** Every group with one primary, and all others streaming from it. */
/** @param mustRun throws where one has ended that must run */
export async function untilMembersRun(
  topology: Topology,
  report: Report,
  mustRun: (name: string) => void = () => {},
) {
  const deadline = performance.now() + UP_TIMEOUT_MS
  const told = new Map<string, string>()
  for (;;) {
    const states = await Promise.all(
      topology.members.map(async (member) => ({ member, state: await askMember(member) })),
    )
    for (const { member, state } of states) {
      const text = state && `${state.role} ${state.isStreaming ? 'streaming' : state.state}`
      if (text && told.get(member.name) !== text) report(`${member.name}: ${text}`)
      if (text) told.set(member.name, text)
    }
    const isReady = topology.groups.every(({ number, members }) => {
      const group = states.filter(({ member }) => member.group === number)
      const primaries = group.filter(({ state }) => state?.role === 'primary' && state.state === 'running')
      const secondaries = group.filter(({ state }) => state?.role === 'replica' && state.isStreaming)
      return primaries.length === 1 && secondaries.length === members.length - 1
    })
    if (isReady) return
    for (const { name } of topology.members) mustRun(name)
    if (performance.now() > deadline)
      throw new ClusterError('Not all members came up; see status and their logs.')
    await sleep(200)
  }
}

/** @throws ClusterError where there is none */
export async function findPrimary({ members, name }: Group): Promise<Member> {
  const states = await Promise.all(members.map((member) => askMember(member)))
  const primary = members.find((_, index) => states[index]?.role === 'primary')
  if (!primary) throw new ClusterError(`Group ${name} has no primary now.`)
  return primary
}

/** A group's primary and a secondary change places. @returns once the new primary is one */
export async function switchOver({ credentials }: Cluster, group: Group): Promise<Member> {
  const primary = await findPrimary(group)
  const candidate = group.members.find((member) => member !== primary)
  if (!candidate) throw new ClusterError(`Group ${group.name} has only one member.`)
  await askToSwitchOver(primary, candidate, credentials.patroniPassword)
  const deadline = performance.now() + SWITCHOVER_TIMEOUT_MS
  while ((await askMember(candidate))?.role !== 'primary') {
    if (performance.now() > deadline) throw new ClusterError(`${candidate.name} did not become primary.`)
    await sleep(100)
  }
  return candidate
}

/** Ends one process of the cluster as it should end, and starts it again. */
export async function restart(cluster: Cluster, name: string) {
  const { topology, runFolder } = cluster.place
  if (partsOf(topology).includes(name)) await stopDaemon(runFolder, name, MEMBER_STOP_MS)
  startPart(cluster, name)
}

/** Stops everything, what a lost launcher or a killed Patroni left behind as well. */
export async function down(place: Place, report: Report): Promise<void> {
  const { topology, runFolder } = place
  const stopAll = (names: readonly { readonly name: string }[], timeoutMs: number) =>
    Promise.all(names.map(({ name }) => stopDaemon(runFolder, name, timeoutMs)))
  healNetwork(place)
  // What is frozen hears nothing.
  for (const name of partsOf(topology)) for (const pid of processesOf(place, name)) signal(pid, 'SIGCONT')
  await stopAll([...topology.gateways, ...topology.fencers], MEMBER_STOP_MS)
  // Secondaries first: none of them is then promoted while its primary ends.
  const states = await Promise.all(topology.members.map((member) => askMember(member)))
  const isPrimary = (_: Member, index: number) => states[index]?.role === 'primary'
  await stopAll(
    topology.members.filter((member, index) => !isPrimary(member, index)),
    MEMBER_STOP_MS,
  )
  await stopAll(topology.members.filter(isPrimary), MEMBER_STOP_MS)
  await Promise.all(topology.members.map(({ name }) => stopPostgres(dataFolderOf(place, name))))
  await Promise.all([stopAll(topology.proxies, STOP_MS), stopAll(topology.store, STOP_MS)])
  report('nothing runs any more')
}

/** One whose Patroni was killed goes on by itself. */
async function stopPostgres(dataFolder: string) {
  const pid = findPostmaster(dataFolder)
  if (pid === undefined) return
  signal(pid, 'SIGINT')
  const deadline = performance.now() + STOP_MS
  while (findPostmaster(dataFolder) === pid && performance.now() < deadline) await sleep(50)
  if (findPostmaster(dataFolder) === pid) for (const member of sessionOf(pid)) signal(member, 'SIGKILL')
}

/** Nothing of it is needed again: it is not asked to end. @returns once neither a process nor a file is left */
export async function destroy(place: Place, report: Report): Promise<void> {
  if (existsSync(place.folder) && !isMade(place))
    throw new ClusterError(`${place.folder} holds no cluster; nothing of it is removed.`)
  healNetwork(place)
  const names = partsOf(place.topology)
  for (const name of names) for (const pid of processesOf(place, name)) signal(pid, 'SIGKILL')
  while (names.some((name) => processesOf(place, name).length > 0)) await sleep(20)
  unmountMembers(place)
  rmSync(place.folder, { recursive: true, force: true })
  report(`${place.folder} is gone`)
}
