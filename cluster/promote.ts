// Owns giving up the members that have every acknowledged change, where they never come back: another one of the
// group becomes primary with what it has. It says what that costs, and does it only when it is told so twice.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Credentials } from './credentials.ts'
import { encode, openStore } from './etcd-client.ts'
import { storeAccessOf } from './etcd-config.ts'
import type { Report } from './launcher.ts'
import { askMember, type MemberState } from './patroni-client.ts'
import { ClusterError } from './place.ts'
import { readSuccession, type Succession } from './succession.ts'
import { storeFolderOf, type Topology } from './topology.ts'

const PROMOTION_TIMEOUT_MS = 60_000
/** Who decides by what a member says waits longer for it than who only looks. */
const PATIENCE_MS = 5_000

export type PromoteOptions = {
  readonly topology: Topology
  readonly credentials: Credentials
  readonly isLossAccepted: boolean
  readonly report: Report
}

/** @throws ClusterError where it is not needed, not possible, or not accepted */
export async function promote(
  name: string,
  { topology, credentials, isLossAccepted, report }: PromoteOptions,
): Promise<void> {
  const group = topology.groups.find(({ members }) => members.some((member) => member.name === name))
  if (!group)
    throw new ClusterError(
      `${name} is no member; these are: ${topology.members.map(({ name }) => name).join(', ')}.`,
    )
  const store = openStore(storeAccessOf(topology, credentials))
  const folder = storeFolderOf(topology, group)
  const succession = readSuccession(await store.readKeys(`${folder}/`), folder)
  const states = new Map(
    await Promise.all(
      group.members.map(
        async (member): Promise<[string, MemberState | undefined]> => [
          member.name,
          await askMember(member, PATIENCE_MS),
        ],
      ),
    ),
  )
  const refusal = refuse(name, group.name, succession, states)
  if (refusal) throw new ClusterError(refusal)
  const key = (path: string) => encode(`${folder}/${path}`)
  const put = (path: string, value: string) => ({ request_put: { key: key(path), value: encode(value) } })
  // Patroni's own word for one that is to be primary, however far it has come.
  const request = put('failover', JSON.stringify({ member: name }))
  const isComplete = succession.complete.includes(name)
  if (!isComplete) {
    for (const line of costOf(name, group.name, succession, states.get(name)!)) report(line)
    if (!isLossAccepted)
      throw new ClusterError('Nothing was done. To do it, say the same with --accept-loss.')
  }
  const lost = group.members.filter((member) => states.get(member.name) === undefined)
  const left = Object.fromEntries(succession.complete.map((one) => [one, new Date().toISOString()]))
  const { [name]: _, ...completeUntil } = { ...succession.completeUntil, ...left }
  const sync = { leader: name, sync_standby: null, quorum: 0, complete_until: completeUntil }
  const { succeeded = false } = await store.ask<{ succeeded?: boolean }>('kv/txn', {
    compare: [
      { key: key('leader'), target: 'CREATE', create_revision: '0' },
      { key: key('sync'), target: 'MOD', mod_revision: succession.revision },
    ],
    success: isComplete
      ? [request]
      : [
          put('sync', JSON.stringify(sync)),
          request,
          // Whoever runs has less, and follows; what the others have, nobody knows.
          ...lost.map((member) => put(`discarded/${member.name}`, '')),
        ],
  })
  // An answer of etcd may have been lost, and the same been asked again.
  const [leading] = succeeded ? [name] : readSuccession(await store.readKeys(`${folder}/`), folder).complete
  if (leading !== name)
    throw new ClusterError(`Group ${group.name} has a primary again, or another /sync: nothing was done.`)
  const candidate = group.members.find((member) => member.name === name)!
  const deadline = performance.now() + PROMOTION_TIMEOUT_MS
  while ((await askMember(candidate))?.role !== 'primary') {
    if (performance.now() > deadline)
      throw new ClusterError(`${name} did not become primary; its log says why.`)
    await sleep(200)
  }
  report(`${name} is primary now`)
}

/** Pure. @param states of the group's members by their names @returns why a member is not promoted, if it is not */
export function refuse(
  name: string,
  group: string,
  { leader, complete }: Succession,
  states: ReadonlyMap<string, MemberState | undefined>,
): string | undefined {
  if (leader) return `Group ${group} has a primary, ${leader.name}: switchover ${group} loses nothing.`
  const own = states.get(name)
  const awake = [...states].filter(([, state]) => state).map(([one]) => one)
  if (complete.length === 0 || complete.includes(name))
    return own
      ? undefined
      : `${name} has every acknowledged change: it becomes primary by itself as soon as it runs.`
  const waitedFor = awake.find((one) => complete.includes(one))
  if (waitedFor)
    return `${waitedFor} runs and has every acknowledged change: it becomes primary by itself, or by promote ${waitedFor}. If it never will, stop it first.`
  if (!own) return `${name} does not run: start it first.`
  // What somebody has whose PostgreSQL does not answer yet may be more than the candidate's.
  const unknown = awake.find((one) => {
    const { timeline, receivedPosition } = states.get(one)!
    return timeline === undefined || receivedPosition === undefined
  })
  if (unknown) return `${unknown} does not say yet what it has: wait until it runs, or stop it.`
  const better = awake.find((one) => compareStates(states.get(one)!, own) > 0)
  return better && `${better} runs and has more than ${name}: promote that one.`
}

const compareStates = (one: MemberState, other: MemberState) =>
  one.timeline! - other.timeline! || one.receivedPosition! - other.receivedPosition!

function costOf(
  name: string,
  group: string,
  { complete, completeUntil, position }: Succession,
  own: MemberState,
): string[] {
  const since = completeUntil[name]
  const when = since
    ? `${since} (${describeAge(Date.now() - Date.parse(since))} ago)`
    : 'a time that is not known'
  const bytes = position === undefined ? undefined : Math.max(0, position - own.receivedPosition!)
  const size =
    bytes === undefined
      ? 'how much is not known.'
      : `at least ${bytes.toLocaleString('en')} bytes of the log, by the last word of ${complete[0]}, and what came after that word.`
  return [
    `Group ${group} waits for ${complete.join(' or ')}: nobody else has every change that was acknowledged.`,
    `${name} would become primary with what it has. It would lose what was acknowledged since ${when}: ${size}`,
    `${complete.join(' and ')} would be given up, and whoever else does not run now: what comes back puts its data aside (data.failed) and is copied from ${name}.`,
  ]
}

/** The two largest units. */
export function describeAge(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1_000))
  const units = [
    [86_400, 'd'],
    [3_600, 'h'],
    [60, 'min'],
    [1, 's'],
  ] as const
  const first = units.findIndex(([size]) => seconds >= size)
  if (first === -1) return '0 s'
  const [size, unit] = units[first]!
  const [next, nextUnit] = units[first + 1] ?? [1, '']
  const rest = Math.floor((seconds % size) / next)
  return `${Math.floor(seconds / size)} ${unit}${nextUnit && rest ? ` ${rest} ${nextUnit}` : ''}`
}
