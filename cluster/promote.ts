// Owns giving up the members that have every acknowledged change, where they never come back: another one of the
// group becomes primary with what it has. It says what that costs, and does it only when it is told so twice.

import { setTimeout as sleep } from 'node:timers/promises'
import { storeAccessOf } from './etcd.ts'
import type { Report } from './launcher.ts'
import type { Cluster } from './parts.ts'
import { askMember, type MemberState } from './patroni-api.ts'
import { ClusterError } from './place.ts'
import { encode, openStore } from './store.ts'
import { readSuccession, type Succession } from './succession.ts'
import { type Group, type Member, storeFolderOf } from './topology.ts'

const PROMOTION_TIMEOUT_MS = 60_000
/** Who decides by what a member says waits longer for it than who only looks. */
const PATIENCE_MS = 5_000

/** @throws ClusterError where it is not needed, not possible, or not accepted */
export async function promote(
  cluster: Cluster,
  name: string,
  isLossAccepted: boolean,
  report: Report,
): Promise<void> {
  const { topology } = cluster.place
  const group = topology.groups.find(({ members }) => members.some((member) => member.name === name))
  if (!group)
    throw new ClusterError(
      `${name} is no member; these are: ${topology.members.map(({ name }) => name).join(', ')}.`,
    )
  const store = openStore(storeAccessOf(topology, cluster.credentials))
  const folder = storeFolderOf(topology, group)
  const succession = readSuccession(await store.readKeys(`${folder}/`), folder)
  const candidate = group.members.find((member) => member.name === name)!
  const states = new Map(
    await Promise.all(
      group.members.map(
        async (member): Promise<[Member, MemberState | undefined]> => [
          member,
          await askMember(member, PATIENCE_MS),
        ],
      ),
    ),
  )
  refuseNeedless(succession, group, candidate, states)
  for (const line of costOf(succession, group, candidate, states.get(candidate)!)) report(line)
  if (!isLossAccepted)
    throw new ClusterError(`Nothing was done. To do it: npm run cluster -- promote ${name} --accept-loss`)
  const key = (path: string) => encode(`${folder}/${path}`)
  // Whoever runs has less than the candidate, and follows it; what the others have, nobody knows.
  const discarded = group.members.filter((member) => states.get(member) === undefined)
  const put = (path: string, value: string) => ({
    request_put: { key: key(path), value: encode(value) },
  })
  const { succeeded = false } = await store.ask<{ succeeded?: boolean }>('kv/txn', {
    compare: [
      { key: key('leader'), target: 'CREATE', create_revision: '0' },
      { key: key('sync'), target: 'MOD', mod_revision: succession.revision },
    ],
    success: [
      put('sync', JSON.stringify({ leader: name, sync_standby: null, quorum: 0 })),
      // Patroni's own word for one that is to be primary, however far it has come.
      put('failover', JSON.stringify({ member: name })),
      ...discarded.map((member) => put(`discarded/${member.name}`, '')),
    ],
  })
  if (!succeeded)
    throw new ClusterError(`Group ${group.name} has a primary again, or another /sync: nothing was done.`)
  const deadline = performance.now() + PROMOTION_TIMEOUT_MS
  while ((await askMember(candidate))?.role !== 'primary') {
    if (performance.now() > deadline)
      throw new ClusterError(`${name} did not become primary; see npm run cluster -- logs ${name}.`)
    await sleep(200)
  }
  report(`${name} is primary now`)
}

function refuseNeedless(
  { leader, complete }: Succession,
  group: Group,
  candidate: Member,
  states: ReadonlyMap<Member, MemberState | undefined>,
) {
  const { name } = candidate
  if (leader)
    throw new ClusterError(
      `Group ${group.name} has a primary, ${leader.name}: npm run cluster -- switchover ${group.name} loses nothing.`,
    )
  if (complete.length === 0 || complete.includes(name))
    throw new ClusterError(
      `${name} has every acknowledged change: it becomes primary by itself as soon as it runs.`,
    )
  const awake = group.members.find((member) => complete.includes(member.name) && states.get(member))
  if (awake)
    throw new ClusterError(
      `${awake.name} runs and has every acknowledged change: it becomes primary by itself.`,
    )
  const own = states.get(candidate)
  if (own?.position === undefined) throw new ClusterError(`${name} does not run: start it first.`)
  const isFurther = (one: MemberState) =>
    (one.timeline ?? 0) - (own.timeline ?? 0) || (one.position ?? 0) - (own.position ?? 0)
  const [better] = [...states].filter(([, state]) => state && isFurther(state) > 0)
  if (better) throw new ClusterError(`${better[0].name} runs and has more than ${name}: promote that one.`)
}

function costOf(
  { complete, completeUntil, position }: Succession,
  { name: group }: Group,
  { name }: Member,
  own: MemberState,
): string[] {
  const since = completeUntil[name]
  const bytes = position === undefined ? undefined : Math.max(0, position - own.position!)
  return [
    `Group ${group} waits for ${complete.join(' or ')}: nobody else has every change that was acknowledged.`,
    `${name} would become primary with what it has. It would lose what was acknowledged since ${
      since ? `${since} (${describeAge(Date.now() - Date.parse(since))} ago)` : 'a time that is not known'
    }: ${
      bytes === undefined
        ? 'how much is not known.'
        : `at least ${bytes.toLocaleString('en')} bytes of the log, by the last word of ${complete[0]}, and what came after that word.`
    }`,
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
