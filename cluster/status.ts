// Owns the status of the cluster: the role of each member, what the proxies and Citus take it for, and where rows are.

import { setTimeout as sleep } from 'node:timers/promises'
import { describeProtection, judgeProtection, type Protection } from './backup/protection.ts'
import type { Credentials } from './credentials.ts'
import { withSuperuser } from './database-urls.ts'
import { type KeyValue, openStore } from './etcd-client.ts'
import { isStoreWell, storeAccessOf } from './etcd-config.ts'
import { askMember, type MemberState } from './patroni-client.ts'
import { type RegisteredNode, readNodes } from './prepare.ts'
import { describeAge } from './promote.ts'
import { readSuccession } from './succession.ts'
import {
  type Balancer,
  type Group,
  lifeKeyOf,
  type Member,
  type Recorder,
  storeFolderOf,
  type Topology,
  urlOf,
} from './topology.ts'

export type MemberStatus = {
  readonly name: string
  readonly group: string
  readonly role: string
  readonly state: string
  readonly timeline: number | undefined
  /** Bytes behind the primary of its group. */
  readonly lagBytes: number | undefined
  /** Milliseconds since the newest transaction that it has replayed; 0 if it is level with its primary. */
  readonly lagMs: number | undefined
  /** Ports that lead to it, as the first proxy that responds reports them. */
  readonly servedAt: readonly string[] | undefined
  /** Its role in pg_dist_node; undefined if it is not there. */
  readonly registeredAs: string | undefined
}

export type Status = {
  readonly members: readonly MemberStatus[]
  /** Rows of each distributed table, by worker group. */
  readonly rows: readonly { readonly table: string; readonly byGroup: Readonly<Record<string, number>> }[]
  /** What the recorder reports; undefined if the cluster has no backups, or if it does not answer. */
  readonly backups: Protection | undefined
  /** One sentence for each thing that is wrong. */
  readonly faults: readonly string[]
}

const PROXY_TIMEOUT_MS = 1_000
const RECORDER_TIMEOUT_MS = 1_000
/** Counting is optional: if it takes longer, the status is shown without it. */
const COUNT_TIMEOUT_MS = 2_000

export async function readStatus(topology: Topology, credentials: Credentials): Promise<Status> {
  const { groups, isCitus } = topology
  const storeKeys = openStore(storeAccessOf(topology, credentials))
    .readKeys('/')
    .catch(() => undefined)
  const states = new Map<Member, MemberState | undefined>()
  const [nodes, rows, ports, storeFaults, protections] = await Promise.all([
    isCitus ? readNodes(topology, credentials).catch(() => undefined) : [],
    isCitus ? countRows(topology, credentials).catch(() => []) : [],
    readProxies(topology),
    findStoreFaults(topology, credentials, storeKeys),
    Promise.all(topology.recorders.map(readRecorder)),
    ...topology.members.map(async (member) => states.set(member, await askMember(member))),
  ])
  const faults = nodes ? [] : ['the write port of the coordinator does not answer']
  faults.push(
    ...topology.proxies.filter((_, index) => !ports[index]).map(({ name }) => `${name} does not answer`),
    ...storeFaults,
  )
  const keys = await storeKeys
  const served = ports.find((answer) => answer !== undefined)
  const members = groups.flatMap((group) => {
    const primary = group.members
      .map((member) => states.get(member))
      .find((state) => state?.role === 'primary')
    if (!primary)
      faults.push(`group ${group.name} has no primary${keys ? describeWait(topology, group, keys) : ''}`)
    else if (group.members.length > 1 && !group.members.some((member) => states.get(member)?.isSynchronous))
      faults.push(`group ${group.name} has no synchronous secondary: no member could replace its primary now`)
    return group.members.map((member): MemberStatus => {
      const state = states.get(member)
      const node = nodes?.find(({ port }) => port === member.connectPort)
      const fault = faultOf(member, state, isCitus && nodes ? { node } : undefined)
      if (fault) faults.push(fault)
      return {
        name: member.name,
        group: group.name,
        role: state?.role ?? 'down',
        state: stateOf(state),
        timeline: state?.timeline,
        ...lagOf(primary, state),
        servedAt: served?.get(member.name),
        registeredAs: node && `${node.role}${node.isActive ? '' : ' (inactive)'}`,
      }
    })
  })
  const [backups] = protections
  if (backups) faults.push(...judgeProtection(backups, Date.now()))
  else
    faults.push(
      ...topology.recorders.map(
        ({ name }) => `${name} does not answer, so that there are no new restore points: restart it`,
      ),
    )
  return { members, rows, backups, faults }
}

const LOOK_MS = 200

/** Waits until nothing is wrong. @returns what is still wrong after `withinMs`, each a sentence */
export async function untilWhole(
  topology: Topology,
  credentials: Credentials,
  withinMs: number,
): Promise<readonly string[]> {
  for (const deadline = performance.now() + withinMs; ; await sleep(LOOK_MS)) {
    const { faults } = await readStatus(topology, credentials)
    if (faults.length === 0 || performance.now() > deadline) return faults
  }
}

/** Describes which member a group without a primary waits for, and what an operator can do. */
function describeWait(topology: Topology, group: Group, keys: ReadonlyMap<string, KeyValue>): string {
  const { leader, complete, completeUntil } = readSuccession(keys, storeFolderOf(topology, group))
  if (leader) return `: ${leader.name} becomes primary`
  if (complete.length === 0) return ''
  const lacking = group.members
    .filter(({ name }) => !complete.includes(name))
    .map(({ name }) => {
      const until = completeUntil[name]
      const age = until ? `since ${until} (${describeAge(Date.now() - Date.parse(until))})` : 'for some time'
      return `; ${name} has not been complete ${age}, and promote ${name} reports what would be lost`
    })
  return `: it waits for ${complete.join(' or ')}, which alone ${complete.length > 1 ? 'have' : 'has'} every acknowledged change${lacking.join('')}`
}

const stateOf = (state: MemberState | undefined) => {
  if (!state?.isStreaming) return state?.state ?? ''
  return state.isSynchronous ? 'streaming (sync)' : 'streaming'
}

function lagOf(primary: MemberState | undefined, state: MemberState | undefined) {
  if (state?.role !== 'replica' || primary?.position === undefined || state.position === undefined)
    return { lagBytes: undefined, lagMs: undefined }
  const lagBytes = Math.max(0, primary.position - state.position)
  return { lagBytes, lagMs: lagBytes === 0 ? 0 : state.replayedAgoMs }
}

function faultOf(
  { name }: Member,
  state: MemberState | undefined,
  registered: { readonly node: RegisteredNode | undefined } | undefined,
) {
  if (!state) return `${name} does not answer`
  if (state.role !== 'primary' && !state.isStreaming) return `${name} does not stream`
  if (!registered) return undefined
  const { node } = registered
  if (!node) return `${name} is not in pg_dist_node`
  const role = state.role === 'primary' ? 'primary' : 'secondary'
  return node.role === role ? undefined : `${name} is ${role}, but pg_dist_node has it as ${node.role}`
}

/** Returns a fault for each member of etcd that does not respond, and for each fencer without its key in etcd. */
async function findStoreFaults(
  topology: Topology,
  credentials: Credentials,
  storeKeys: Promise<ReadonlyMap<string, KeyValue> | undefined>,
): Promise<readonly string[]> {
  const { store, fencers } = topology
  const silent = await Promise.all(
    store.map(async ({ name }, index) =>
      (await isStoreWell(topology, credentials, index)) ? [] : `${name} does not answer`,
    ),
  )
  const living = await storeKeys
  const lost = living ? fencers.filter(({ name }) => !living.has(lifeKeyOf(name))) : []
  return [...silent.flat(), ...lost.map(({ name }) => `${name} does not run`)]
}

/** Returns, for each proxy, the ports that lead to each member now; undefined if the proxy does not respond. */
const readProxies = ({ proxies }: Topology) => Promise.all(proxies.map(readProxy))

/** @see HAProxy's management guide, "Statistics and monitoring", on the columns of its CSV */
async function readProxy({ host, statisticsPort }: Balancer) {
  try {
    const response = await fetch(`${urlOf(host, statisticsPort)}/;csv`, {
      signal: AbortSignal.timeout(PROXY_TIMEOUT_MS),
    })
    const [head, ...lines] = (await response.text())
      .trim()
      .split('\n')
      .map((line) => line.split(','))
    const [port, server, status] = ['# pxname', 'svname', 'status'].map((name) => head!.indexOf(name)) as [
      number,
      number,
      number,
    ]
    const served = new Map<string, string[]>()
    for (const line of lines) {
      const name = line[server]!
      if (line[status] !== 'UP' || /^member-|-primary$|^http$/.test(line[port]!)) continue
      served.set(name, [...(served.get(name) ?? []), line[port]!])
    }
    return served
  } catch {
    return undefined
  }
}

/** Returns what the recorder knows of the backups; undefined if it does not respond. */
async function readRecorder({ host, port }: Recorder): Promise<Protection | undefined> {
  try {
    const response = await fetch(urlOf(host, port), { signal: AbortSignal.timeout(RECORDER_TIMEOUT_MS) })
    return response.ok ? ((await response.json()) as Protection) : undefined
  } catch {
    return undefined
  }
}

function countRows(topology: Topology, credentials: Credentials) {
  const nameOf = (number: number) => topology.groups.find((group) => group.number === number)?.name ?? ''
  return withSuperuser(topology, credentials, async (client) => {
    await client.query(`set statement_timeout = ${COUNT_TIMEOUT_MS}`)
    const { rows: tables } = await client.query(
      `select logicalrelid::text as name from pg_dist_partition where partmethod = 'h' order by 1`,
    )
    const counts: Status['rows'][number][] = []
    for (const { name } of tables) {
      const { rows } = await client.query(
        `select groupid, sum(result::bigint)::int as count
         from run_command_on_placements($1::regclass, 'select count(*) from %s')
         join pg_dist_node using (nodename, nodeport) group by groupid order by groupid`,
        [name],
      )
      const byGroup = Object.fromEntries(rows.map(({ groupid, count }) => [nameOf(groupid), count as number]))
      counts.push({ table: name, byGroup })
    }
    return counts
  })
}

const HEADINGS = ['MEMBER', 'GROUP', 'ROLE', 'STATE', 'TIMELINE', 'LAG', 'BEHIND', 'HAPROXY', 'PG_DIST_NODE']

export function renderStatus({ members, rows, backups, faults }: Status): string {
  const table = [
    HEADINGS,
    ...members.map((member) => [
      member.name,
      member.group,
      member.role,
      member.state,
      String(member.timeline ?? ''),
      member.lagBytes === undefined ? '' : `${member.lagBytes} B`,
      member.lagMs === undefined ? '' : `${Math.round(member.lagMs)} ms`,
      member.servedAt?.join(' ') ?? '',
      member.registeredAs ?? '',
    ]),
  ]
  const counts = rows.map(({ table: name, byGroup }) => {
    const parts = Object.entries(byGroup).map(([group, count]) => `${group} ${count}`)
    return `${name}: ${parts.join(', ')} rows`
  })
  const protection = backups ? describeProtection(backups, Date.now()) : []
  return [...alignColumns(table), ...counts, ...protection, ...faults.map((fault) => `! ${fault}`)].join('\n')
}

export function alignColumns(table: readonly (readonly string[])[]): string[] {
  const widths = table[0]!.map((_, column) => Math.max(...table.map((row) => row[column]!.length)))
  return table.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  )
}
