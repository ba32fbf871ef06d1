// Owns starting the cluster on this machine, and stopping it. This process holds no state of the cluster: it may end,
// and another process finds the cluster by its folder.

import { existsSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { findDaemon, findPostmaster, killSessions, signal, stopDaemon } from './daemon.ts'
import { isStoreWell } from './etcd-config.ts'
import { healNetwork } from './fault.ts'
import { type Cluster, killParts, migrate, partsOf, processesOf, startPart } from './parts.ts'
import { askMember, switchOver as askToSwitchOver, type MemberState } from './patroni-client.ts'
import { ClusterError, dataFolderOf, isMade, makePlace, type Place, unmountMembers } from './place.ts'
import { prepareDatabase } from './prepare.ts'
import { type Group, LOOPBACK, type Member, portsOf, type Topology, urlOf } from './topology.ts'

export type Report = (line: string) => void

/** Milliseconds that a member has to stop: Patroni first lets PostgreSQL shut down cleanly. */
const MEMBER_STOP_MS = 30_000
const STOP_MS = 10_000
/** Milliseconds within which all groups, or all gateways, must serve. */
const UP_TIMEOUT_MS = 180_000
/** Milliseconds to wait for every member. The copy of a large primary takes longer, and goes on. */
const PATIENCE_MS = 90_000
const STORE_TIMEOUT_MS = 20_000
/** Milliseconds within which a switchover must be complete. */
const SWITCHOVER_TIMEOUT_MS = 30_000

/**
 * Starts each part that does not run, except gateways and the recorder, which need the database, and waits until they
 * serve.
 * @param withinMs milliseconds within which every group must have a primary
 */
export async function up(cluster: Cluster, report: Report, withinMs: number = UP_TIMEOUT_MS): Promise<void> {
  const { topology } = cluster.place
  await refuseTakenPorts(cluster.place)
  makePlace(cluster.place)
  heal(cluster.place)
  const start = performance.now()
  const seconds = () => `${((performance.now() - start) / 1000).toFixed(1)} s`
  for (const { name } of [...topology.store, ...topology.proxies]) startPart(cluster, name)
  await untilStoreAnswers(cluster)
  report(`etcd and HAProxy run (${seconds()})`)
  for (const { name } of [...topology.members, ...topology.fencers]) startPart(cluster, name)
  const members = await untilMembersRun(
    topology,
    (line) => report(`${line} (${seconds()})`),
    isStartedIn(cluster.place),
    withinMs,
  )
  await prepareDatabase(topology, cluster.credentials, members, report)
  report(`the database is prepared (${seconds()})`)
}

/** Refuses ports of another cluster, whose responses would pass for this one's. @throws ClusterError with the port */
async function refuseTakenPorts(place: Place) {
  if (partsOf(place.topology).some((name) => processesOf(place, name).length > 0)) return
  const ports = portsOf(place.topology)
  const isTaken = await Promise.all(ports.map(isListenedTo))
  const taken = ports.find((_, index) => isTaken[index])
  if (taken !== undefined)
    throw new ClusterError(`Another program listens at port ${taken}; choose other ports with --base-port.`)
}

/** Returns true if nothing listens at any of the ports. */
export const areFree = async (ports: readonly number[]): Promise<boolean> =>
  !(await Promise.all(ports.map(isListenedTo))).some(Boolean)

const isListenedTo = (port: number) =>
  new Promise<boolean>((resolve) => {
    const socket = connect(port, LOOPBACK)
    const settle = (answer: boolean) => {
      socket.destroy()
      resolve(answer)
    }
    socket.on('connect', () => settle(true)).on('error', () => settle(false))
  })

export async function startGateways(cluster: Cluster): Promise<void> {
  await migrate(cluster)
  for (const { name } of cluster.place.topology.gateways) startPart(cluster, name)
}

export const isStartedIn =
  ({ runFolder }: Place) =>
  (name: string) =>
    findDaemon(runFolder, name) !== undefined

/**
 * Waits until each gateway serves a path, also through HAProxy.
 * @param path must return a success status
 */
export async function untilGatewaysServe(
  { place }: Cluster,
  { gateways = place.topology.gateways, path = '/health/ready' } = {},
) {
  if (gateways.length === 0) return
  const { host, httpPort } = place.topology.proxies[0]!
  const urls = [...gateways.map(({ host, port }) => urlOf(host, port)), urlOf(host, httpPort)]
  const deadline = performance.now() + UP_TIMEOUT_MS
  const isServedAt = (url: string) =>
    fetch(url + path).then(
      ({ ok }) => ok,
      () => false,
    )
  while (!(await Promise.all(urls.map(isServedAt))).every(Boolean)) {
    const ended = gateways.find(({ name }) => !isStartedIn(place)(name))
    if (ended) throw new ClusterError(`${ended.name} has ended; see npm run cluster -- logs ${ended.name}.`)
    if (performance.now() > deadline) throw new ClusterError('The gateways do not serve; see their logs.')
    await sleep(200)
  }
}

async function untilStoreAnswers({ place, credentials }: Cluster) {
  const { topology } = place
  const deadline = performance.now() + STORE_TIMEOUT_MS
  // A majority is enough: etcd has several members so that one can be lost.
  const most = Math.floor(topology.store.length / 2) + 1
  for (;;) {
    const answers = await Promise.all(
      topology.store.map((_, index) => isStoreWell(topology, credentials, index)),
    )
    const count = answers.filter(Boolean).length
    if (count === answers.length || (count >= most && performance.now() > deadline - STORE_TIMEOUT_MS / 2))
      return
    const running = topology.store.filter(({ name }) => findDaemon(place.runFolder, name) !== undefined)
    if (running.length < most || performance.now() > deadline)
      throw new ClusterError('etcd does not answer; see npm run cluster -- logs etcd1, and the others.')
    await sleep(100)
  }
}

/**
 * Waits until every group has one primary, and all its other members stream from it. After PATIENCE_MS a primary per
 * group is enough, and the members that are missing are reported.
 * @param isStarted returns true if the process of a member runs
 * @param withinMs milliseconds within which every group must have a primary
 * @returns the members that serve
 */
export async function untilMembersRun(
  topology: Topology,
  report: Report,
  isStarted: (name: string) => boolean = () => true,
  withinMs: number = UP_TIMEOUT_MS,
): Promise<readonly Member[]> {
  const start = performance.now()
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
    // If the process of a member has ended, another program may respond at its port.
    const ended = topology.members.filter(({ name }) => !isStarted(name))
    const serves = (one: { readonly member: Member; readonly state: MemberState | undefined }) =>
      !ended.includes(one.member) &&
      (one.state?.role === 'primary' ? one.state.state === 'running' : one.state?.isStreaming === true)
    const missing = states.filter((one) => !serves(one)).map(({ member }) => member)
    const hasPrimaries = topology.groups.every(({ number }) => {
      const group = states.filter((one) => one.member.group === number && serves(one))
      return group.filter(({ state }) => state?.role === 'primary').length === 1
    })
    const waitedMs = performance.now() - start
    if (hasPrimaries && (missing.length === 0 || waitedMs > PATIENCE_MS)) {
      if (missing.length > 0)
        report(`going on without ${missing.map(({ name }) => name).join(', ')}; see their logs`)
      return topology.members.filter((member) => !missing.includes(member))
    }
    for (const { number, name, members } of topology.groups)
      if (ended.filter(({ group }) => group === number).length === members.length)
        throw new ClusterError(
          `All members of group ${name} have ended; see npm run cluster -- logs ${members[0]!.name}.`,
        )
    if (waitedMs > withinMs) throw new ClusterError('Not all groups came up; see status and their logs.')
    await sleep(200)
  }
}

/** Returns the primary of a group. @throws ClusterError if it has none */
export async function findPrimary({ members, name }: Group): Promise<Member> {
  const states = await Promise.all(members.map((member) => askMember(member)))
  const primary = members.find((_, index) => states[index]?.role === 'primary')
  if (!primary) throw new ClusterError(`Group ${name} has no primary now.`)
  return primary
}

/** Lets the primary of a group and a secondary change places. @returns the new primary, once it is one */
export async function switchOver({ credentials }: Cluster, group: Group): Promise<Member> {
  const primary = await findPrimary(group)
  if (group.members.length === 1) throw new ClusterError(`Group ${group.name} has only one member.`)
  const states = await Promise.all(group.members.map((member) => askMember(member)))
  // Patroni refuses any other candidate.
  const candidate = group.members.find((_, index) => states[index]?.isSynchronous)
  if (!candidate)
    throw new ClusterError(
      `Group ${group.name} has no synchronous secondary now, which alone can become primary; see status.`,
    )
  await askToSwitchOver(primary, candidate, credentials.patroniPassword)
  const deadline = performance.now() + SWITCHOVER_TIMEOUT_MS
  while ((await askMember(candidate))?.role !== 'primary') {
    if (performance.now() > deadline) throw new ClusterError(`${candidate.name} did not become primary.`)
    await sleep(100)
  }
  return candidate
}

/** Stops one part of the cluster cleanly, and starts it again. A primary hands over to a secondary first. */
export async function restart(cluster: Cluster, name: string) {
  const { topology, runFolder } = cluster.place
  const group = topology.groups.find(({ members }) => members.some((member) => member.name === name))
  const isPrimary = group && (await findPrimary(group).catch(() => undefined))?.name === name
  if (isPrimary && group.members.length > 1) await switchOver(cluster, group)
  if (partsOf(topology).includes(name)) await stopDaemon(runFolder, name, MEMBER_STOP_MS)
  startPart(cluster, name)
}

/** Ends the partitions and freezes that faults have left, because a part that is cut off or frozen cannot respond. */
function heal(place: Place) {
  healNetwork(place)
  for (const name of partsOf(place.topology))
    for (const pid of processesOf(place, name)) signal(pid, 'SIGCONT')
}

/** Stops everything, including processes that a lost launcher or a killed Patroni left behind. */
export async function down(place: Place, report: Report): Promise<void> {
  const { topology, runFolder } = place
  const stopAll = (names: readonly { readonly name: string }[], timeoutMs: number) =>
    Promise.all(names.map(({ name }) => stopDaemon(runFolder, name, timeoutMs)))
  heal(place)
  await stopAll([...topology.gateways, ...topology.recorders, ...topology.fencers], MEMBER_STOP_MS)
  // Secondaries stop first, so that none of them is promoted while its primary ends.
  const states = await Promise.all(topology.members.map((member) => askMember(member)))
  const isPrimary = (_: Member, index: number) => states[index]?.role === 'primary'
  await stopAll(
    topology.members.filter((member, index) => !isPrimary(member, index)),
    MEMBER_STOP_MS,
  )
  await stopAll(topology.members.filter(isPrimary), MEMBER_STOP_MS)
  await Promise.all(topology.members.map(({ name }) => stopPostgres(dataFolderOf(place, name))))
  await Promise.all([stopAll(topology.proxies, STOP_MS), stopAll(topology.store, STOP_MS)])
  report('everything has stopped')
}

/** Stops a PostgreSQL that still runs because its Patroni was killed. */
async function stopPostgres(dataFolder: string) {
  const pid = findPostmaster(dataFolder)
  if (pid === undefined) return
  signal(pid, 'SIGINT')
  const deadline = performance.now() + STOP_MS
  while (findPostmaster(dataFolder) === pid && performance.now() < deadline) await sleep(50)
  if (findPostmaster(dataFolder) === pid) await killSessions([pid])
}

/** Removes the cluster, and kills its processes: nothing is needed again. @returns once no process or file is left */
export async function destroy(place: Place, report: Report): Promise<void> {
  if (existsSync(place.folder) && !isMade(place))
    throw new ClusterError(`There is no cluster in ${place.folder}; nothing was removed.`)
  healNetwork(place)
  await killParts(place, partsOf(place.topology))
  unmountMembers(place)
  rmSync(place.folder, { recursive: true, force: true })
  report(`${place.folder} has been removed`)
}
