// Owns the view of the whole: what each member is, and whether Citus and the proxies see the same.

import type { Credentials } from './credentials.ts'
import { askMember, type MemberState } from './patroni-api.ts'
import type { Place } from './place.ts'
import { type RegisteredNode, readNodes } from './schema.ts'
import type { Member } from './topology.ts'

export type MemberStatus = {
  readonly name: string
  readonly group: string
  readonly role: string
  readonly state: string
  readonly timeline: number | undefined
  /** Bytes behind the primary of its group. */
  readonly lagBytes: number | undefined
  /** What pg_dist_node has it as; undefined where it is not there. */
  readonly registeredAs: string | undefined
}

export type Status = {
  readonly members: readonly MemberStatus[]
  /** What does not agree, each a sentence. */
  readonly faults: readonly string[]
}

export async function readStatus({ topology }: Place, credentials: Credentials): Promise<Status> {
  const { address, groups, isCitus } = topology
  const states = new Map<Member, MemberState | undefined>()
  await Promise.all(
    topology.members.map(async (member) => states.set(member, await askMember(address, member))),
  )
  const nodes = isCitus ? await readNodes(topology, credentials).catch(() => undefined) : []
  const faults = nodes ? [] : ['the write port of the coordinator does not answer']
  const members = groups.flatMap((group) => {
    const primary = group.members
      .map((member) => states.get(member))
      .find((state) => state?.role === 'primary')
    if (!primary) faults.push(`group ${group.name} has no primary`)
    return group.members.map((member): MemberStatus => {
      const state = states.get(member)
      const node = nodes?.find(({ port }) => port === member.connectPort)
      const fault = isCitus && nodes && faultOf(member, state, node)
      if (fault) faults.push(fault)
      const isBehind =
        state?.role === 'replica' && primary?.position !== undefined && state.position !== undefined
      return {
        name: member.name,
        group: group.name,
        role: state?.role ?? 'down',
        state: state ? (state.isStreaming ? 'streaming' : state.state) : '',
        timeline: state?.timeline,
        lagBytes: isBehind ? Math.max(0, primary!.position! - state.position!) : undefined,
        registeredAs: node && `${node.role}${node.isActive ? '' : ' (inactive)'}`,
      }
    })
  })
  return { members, faults }
}

function faultOf({ name }: Member, state: MemberState | undefined, node: RegisteredNode | undefined) {
  if (!state) return `${name} does not answer`
  if (!node) return `${name} is not in pg_dist_node`
  const role = state.role === 'primary' ? 'primary' : 'secondary'
  return node.role === role ? undefined : `${name} is ${role}, but pg_dist_node has it as ${node.role}`
}

export function renderStatus({ members, faults }: Status): string {
  const rows = [
    ['MEMBER', 'GROUP', 'ROLE', 'STATE', 'TIMELINE', 'LAG', 'IN PG_DIST_NODE'],
    ...members.map(({ name, group, role, state, timeline, lagBytes, registeredAs }) => [
      name,
      group,
      role,
      state,
      String(timeline ?? ''),
      lagBytes === undefined ? '' : `${lagBytes} B`,
      registeredAs ?? '',
    ]),
  ]
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  const lines = rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  )
  return [...lines, ...faults.map((fault) => `! ${fault}`)].join('\n')
}
