// Owns the faults that scenarios and people inject. Each happens as in reality: no process is asked to end. Each fault
// can be undone.

import { execFileSync } from 'node:child_process'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { findPostmaster, killSessions, sessionsOf, signal } from './daemon.ts'
import { type Cluster, killParts, networkGroupOf, processesOf, startPart } from './parts.ts'
import { ClusterError, dataFolderOf, isMounted, memberFolderOf, type Place } from './place.ts'
import type { Member } from './topology.ts'

/** Undoes a fault; harmless if the cluster has already recovered by itself. */
export type Undo = () => Promise<void>

type Fault = {
  /** Description for people, in one line. */
  readonly does: string
  readonly inject: (cluster: Cluster, name: string) => Promise<Undo>
}

export const faults = {
  kill: { does: 'a machine is gone: all processes of the part end at once', inject: kill },
  crash: { does: 'PostgreSQL dies, Patroni lives', inject: crash },
  freeze: { does: 'all processes of the part stand still, and the kernel goes on', inject: freeze },
  partition: { does: 'no packet reaches or leaves a member (root, iptables)', inject: partition },
  lag: { does: 'a secondary stops replaying', inject: lag },
  'fill-disk': { does: 'no space is left (root; a cluster created with --disk)', inject: fillDisk },
} satisfies Record<string, Fault>

export type FaultName = keyof typeof faults

function needProcesses(place: Place, name: string): number[] {
  const pids = processesOf(place, name)
  if (pids.length === 0) throw new ClusterError(`${name} does not run.`)
  return pids
}

async function kill(cluster: Cluster, name: string): Promise<Undo> {
  needProcesses(cluster.place, name)
  await killParts(cluster.place, [name])
  return async () => startPart(cluster, name)
}

async function crash({ place }: Cluster, name: string): Promise<Undo> {
  const postmaster = findPostmaster(dataFolderOf(place, name))
  if (postmaster === undefined) throw new ClusterError(`${name} has no running PostgreSQL.`)
  await killSessions([postmaster])
  // Patroni recovers PostgreSQL by itself.
  return async () => {}
}

async function freeze({ place }: Cluster, name: string): Promise<Undo> {
  // The second pass stops processes that were created during the first.
  for (let pass = 0; pass < 2; pass++) for (const pid of needProcesses(place, name)) signal(pid, 'SIGSTOP')
  return async () => {
    for (const pid of processesOf(place, name)) signal(pid, 'SIGCONT')
  }
}

const memberOf = ({ place: { topology } }: Cluster, name: string): Member => {
  const member = topology.members.find((member) => member.name === name)
  if (!member)
    throw new ClusterError(
      `${name} is not a member; the members are ${topology.members.map(({ name }) => name).join(', ')}.`,
    )
  return member
}

const iptables = (...args: string[]) =>
  execFileSync('iptables', ['-w', ...args], { stdio: 'pipe', encoding: 'utf8' })

/** Returns the name of the cluster's own chain, so that any process can find its rules and remove them. */
const chainOf = ({ size }: Place) => `TESSERA-${size.basePort}`

/** Drops the packets that the member's processes send, and those that are sent to them, as if a cable were pulled. */
async function partition(cluster: Cluster, name: string): Promise<Undo> {
  const member = memberOf(cluster, name)
  if (!cluster.place.account) throw new ClusterError('partition needs root: it filters packets.')
  const chain = chainOf(cluster.place)
  if (!hasChain(chain)) {
    iptables('-N', chain)
    iptables('-I', 'OUTPUT', '-o', 'lo', '-p', 'tcp', '-j', chain)
  }
  const rules = [
    ['-m', 'owner', '--gid-owner', String(networkGroupOf(member))],
    ...[member.postgresPort, member.patroniPort].map((port) => ['-p', 'tcp', '--dport', String(port)]),
  ].map((match) => [chain, ...match, '-j', 'DROP'])
  for (const rule of rules) iptables('-A', ...rule)
  return async () => {
    // The partition may have been healed meanwhile.
    if (!hasChain(chain)) return
    for (const rule of rules) iptables('-D', ...rule)
    const isEmpty = !iptables('-S', chain).includes('-A')
    if (isEmpty) healNetwork(cluster.place)
  }
}

function hasChain(chain: string): boolean {
  try {
    iptables('-S', chain)
    return true
  } catch {
    return false
  }
}

/** Removes the rules that partitions have left. */
export function healNetwork(place: Place) {
  if (!place.account) return
  const chain = chainOf(place)
  if (!hasChain(chain)) return
  iptables('-F', chain)
  iptables('-D', 'OUTPUT', '-o', 'lo', '-p', 'tcp', '-j', chain)
  iptables('-X', chain)
}

/** Stops the process that replays, so that received WAL accumulates. Patroni would end a pause of PostgreSQL's own. */
async function lag(cluster: Cluster, name: string): Promise<Undo> {
  const postmaster = findPostmaster(dataFolderOf(cluster.place, memberOf(cluster, name).name))
  const replaying = postmaster === undefined ? undefined : sessionsOf([postmaster]).find(isReplaying)
  if (replaying === undefined)
    throw new ClusterError(`${name} replays nothing: it is not a running secondary.`)
  signal(replaying, 'SIGSTOP')
  return async () => signal(replaying, 'SIGCONT')
}

function isReplaying(pid: number): boolean {
  try {
    return /^postgres: .*\bstartup recovering\b/.test(readFileSync(`/proc/${pid}/cmdline`, 'utf8'))
  } catch {
    return false
  }
}

async function fillDisk(cluster: Cluster, name: string): Promise<Undo> {
  const folder = memberFolderOf(cluster.place, memberOf(cluster, name).name)
  // Elsewhere this would fill the machine's own disk.
  if (!isMounted(folder))
    throw new ClusterError('fill-disk needs a running cluster that was created with --disk.')
  const filler = join(folder, 'filler')
  const block = Buffer.alloc(1 << 20)
  try {
    for (;;) writeFileSync(filler, block, { flag: 'a' })
  } catch (error) {
    if ((error as { code?: string }).code !== 'ENOSPC') throw error
  }
  return async () => rmSync(filler, { force: true })
}
