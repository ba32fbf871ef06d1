// Owns what scenarios and people do to the cluster, each as it would happen: nothing is asked to end. Each fault
// can be undone.

import { execFileSync } from 'node:child_process'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { findPostmaster, sessionOf, signal } from './daemon.ts'
import { type Cluster, networkGroupOf, processesOf, startPart } from './parts.ts'
import { ClusterError, dataFolderOf, isMounted, memberFolderOf, type Place } from './place.ts'
import type { Member } from './topology.ts'

/** Puts right what the fault did; harmless when that has come right by itself. */
export type Undo = () => Promise<void>

type Fault = {
  /** In one line, for people. */
  readonly does: string
  readonly inject: (cluster: Cluster, name: string) => Promise<Undo>
}

export const faults = {
  kill: { does: 'a machine is gone: all its processes at once', inject: kill },
  crash: { does: 'PostgreSQL dies, Patroni lives', inject: crash },
  freeze: { does: 'all its processes stand still, and its kernel goes on', inject: freeze },
  partition: { does: 'a member hears from nobody, and nobody from it (root, iptables)', inject: partition },
  lag: { does: 'a secondary replays no more', inject: lag },
  'fill-disk': { does: 'no space left (root; a cluster made with --disk)', inject: fillDisk },
} satisfies Record<string, Fault>

export type FaultName = keyof typeof faults

function signalAll(place: Place, name: string, signalName: NodeJS.Signals) {
  const pids = processesOf(place, name)
  if (pids.length === 0) throw new ClusterError(`${name} does not run.`)
  for (const pid of pids) signal(pid, signalName)
}

async function kill(cluster: Cluster, name: string): Promise<Undo> {
  signalAll(cluster.place, name, 'SIGKILL')
  return async () => startPart(cluster, name)
}

async function crash({ place }: Cluster, name: string): Promise<Undo> {
  const postmaster = findPostmaster(dataFolderOf(place, name))
  if (postmaster === undefined) throw new ClusterError(`${name} has no PostgreSQL that runs.`)
  for (const pid of sessionOf(postmaster)) signal(pid, 'SIGKILL')
  // Patroni's.
  return async () => {}
}

async function freeze({ place }: Cluster, name: string): Promise<Undo> {
  signalAll(place, name, 'SIGSTOP')
  // One that was just being made: until none is left that moves.
  signalAll(place, name, 'SIGSTOP')
  return async () => {
    for (const pid of processesOf(place, name)) signal(pid, 'SIGCONT')
  }
}

const memberOf = ({ place: { topology } }: Cluster, name: string): Member => {
  const member = topology.members.find((member) => member.name === name)
  if (!member)
    throw new ClusterError(
      `${name} is no member; these are: ${topology.members.map(({ name }) => name).join(', ')}.`,
    )
  return member
}

const iptables = (...args: string[]) =>
  execFileSync('iptables', ['-w', ...args], { stdio: 'pipe', encoding: 'utf8' })

/** One chain for each cluster of this machine, so that its rules can be removed whoever made them. */
const chainOf = ({ size }: Place) => `TESSERA-${size.basePort}`

/** Packets vanish, as when a cable is pulled: what its processes send, and what is sent to them. */
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
    // Somebody may have healed it meanwhile.
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

/** Removes what partitions have left. */
export function healNetwork(place: Place) {
  if (!place.account) return
  const chain = chainOf(place)
  if (!hasChain(chain)) return
  iptables('-F', chain)
  iptables('-D', 'OUTPUT', '-o', 'lo', '-p', 'tcp', '-j', chain)
  iptables('-X', chain)
}

/** The process that replays stands still, and what it is sent piles up: Patroni would end a pause that is asked for. */
async function lag(cluster: Cluster, name: string): Promise<Undo> {
  const postmaster = findPostmaster(dataFolderOf(cluster.place, memberOf(cluster, name).name))
  const replaying = postmaster === undefined ? undefined : sessionOf(postmaster).find(isReplaying)
  if (replaying === undefined)
    throw new ClusterError(`${name} replays nothing: it is no secondary that runs.`)
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
  // Anywhere else it would be the machine's own disk.
  if (!isMounted(folder))
    throw new ClusterError('fill-disk needs a cluster that was made with --disk, and that is up.')
  const filler = join(folder, 'filler')
  const block = Buffer.alloc(1 << 20)
  try {
    for (;;) writeFileSync(filler, block, { flag: 'a' })
  } catch (error) {
    if ((error as { code?: string }).code !== 'ENOSPC') throw error
  }
  return async () => rmSync(filler, { force: true })
}
