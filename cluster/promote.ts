// Owns giving up the members that have every acknowledged change, if they never come back: another member of the group
// becomes primary with what it has. It reports what that costs, and acts only if the loss is accepted.

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
/** Milliseconds that a member has to respond: more than elsewhere, because its response decides. */
const PATIENCE_MS = 5_000

export type PromoteOptions = {
  readonly topology: Topology
  readonly credentials: Credentials
  readonly isLossAccepted: boolean
  readonly report: Report
}

/** Promotes a member. @throws ClusterError if that is not needed, not possible, or its loss is not accepted */
export async function promote(
  name: string,
  { topology, credentials, isLossAccepted, report }: PromoteOptions,
): Promise<void> {
  const group = topology.groups.find(({ members }) => members.some((member) => member.name === name))
  if (!group)
    throw new ClusterError(
      `${name} is not a member; the members are ${topology.members.map(({ name }) => name).join(', ')}.`,
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
  // Patroni's own request that a member becomes primary, however far its log goes.
  const request = put('failover', JSON.stringify({ member: name }))
  const isComplete = succession.complete.includes(name)
  if (!isComplete) {
    for (const line of costOf(name, group.name, succession, states.get(name)!)) report(line)
    if (!isLossAccepted)
      throw new ClusterError('Nothing was done. To do it, repeat the command with --accept-loss.')
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
          // A member that runs has less, and will follow. What the others have is unknown.
          ...lost.map((member) => put(`discarded/${member.name}`, '')),
        ],
  })
  // If etcd's first response was lost, the transaction was sent again, and failed although the first one had succeeded.
  const [leading] = succeeded ? [name] : readSuccession(await store.readKeys(`${folder}/`), folder).complete
  if (leading !== name)
    throw new ClusterError(
      `Group ${group.name} has a primary again, or its /sync has changed: nothing was done.`,
    )
  const candidate = group.members.find((member) => member.name === name)!
  const deadline = performance.now() + PROMOTION_TIMEOUT_MS
  while ((await askMember(candidate))?.role !== 'primary') {
    if (performance.now() > deadline) throw new ClusterError(`${name} did not become primary; see its log.`)
    await sleep(200)
  }
  report(`${name} is primary now`)
}

/** Returns why a member cannot be promoted, if it cannot. Pure. @param states of the group's members, by name */
export function refuse(
  name: string,
  group: string,
  { leader, complete }: Succession,
  states: ReadonlyMap<string, MemberState | undefined>,
): string | undefined {
  if (leader)
    return `Group ${group} has a primary, ${leader.name}: use switchover ${group}, which loses nothing.`
  if (complete.length === 0)
    return `Group ${group} names no member with every acknowledged change, because it has no synchronous replication: its member becomes primary by itself as soon as it runs.`
  const own = states.get(name)
  const awake = [...states].filter(([, state]) => state).map(([one]) => one)
  if (complete.includes(name))
    return own
      ? undefined
      : `${name} has every acknowledged change: it becomes primary by itself as soon as it runs.`
  const waitedFor = awake.find((one) => complete.includes(one))
  if (waitedFor)
    return `${waitedFor} runs and has every acknowledged change: it becomes primary by itself, or by promote ${waitedFor}. If it never does, stop it first.`
  if (!own) return `${name} does not run: start it first.`
  // A member whose PostgreSQL does not respond yet may have more than the candidate.
  const unknown = awake.find((one) => {
    const { timeline, receivedPosition } = states.get(one)!
    return timeline === undefined || receivedPosition === undefined
  })
  if (unknown) return `${unknown} does not report yet what it has: wait until it runs, or stop it.`
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
  const when = since ? `${since} (${describeAge(Date.now() - Date.parse(since))} ago)` : 'an unknown time'
  const bytes = position === undefined ? undefined : Math.max(0, position - own.receivedPosition!)
  const size =
    bytes === undefined
      ? 'how much is unknown.'
      : `at least ${bytes.toLocaleString('en')} bytes of the log, up to the last LSN that ${complete[0]} reported, and everything after it.`
  return [
    `Group ${group} waits for ${complete.join(' or ')}: no other member has every acknowledged change.`,
    `${name} would become primary with what it has. It would lose what was acknowledged since ${when}: ${size}`,
    `${complete.join(' and ')} would be given up, and so would every other member that does not run now. A member that comes back puts its data aside (data.failed) and is copied from ${name}.`,
  ]
}

/** Renders an age in its two largest units. */
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
