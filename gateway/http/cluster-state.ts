// Owns the state of the cluster, as one gateway process sees it: its schema, and how it is read.

import { hostname } from 'node:os'
import type { Static } from 'typebox'
import type { Database } from '../database/contract.ts'
import { makeGlimpse } from './glimpse.ts'
import { Type } from './type.ts'

/** How long the lag that one client has read is shown to others, which want to watch it. */
const LAG_AGE_MS = 1_000
/** The same for estimates of rows: each takes a query of every node. */
const STORED_AGE_MS = 30_000

const time = (description: string) => Type.String({ format: 'date-time', description })
const Group = Type.Integer({ description: 'A node group of Citus; without Citus only 0.' })
const Node = Type.String({ description: 'Host and port.' })
const Role = Type.Enum(['primary', 'secondary'], { type: 'string' })
const Port = Type.Enum(['read', 'write'], { type: 'string' })
const Load = Type.Object({
  running: Type.Integer(),
  waiting: Type.Integer(),
  limit: Type.Integer({
    description: 'How much may run at once; for reads it follows the pressure on the server.',
  }),
})
export const ClusterState = Type.Object({
  process: Type.Object(
    { id: Type.String({ description: 'Name of the machine, and id of the process.' }), startedAt: time('') },
    { description: 'The gateway process that has answered: each knows what it has seen itself.' },
  ),
  isReplicated: Type.Boolean({ description: 'True if reads go to other servers than changes.' }),
  endpoints: Type.Array(
    Type.Object({
      endpoint: Node,
      port: Port,
      group: Type.Optional(Type.Integer({ description: 'The node group of Citus behind it.' })),
      isUp: Type.Boolean({ description: 'False while its circuit breaker is open.' }),
      downSince: Type.Optional(time('When its circuit breaker opened.')),
      load: Type.Object({ read: Load, stream: Load, write: Load }),
    }),
    { description: 'The addresses that this gateway process uses.' },
  ),
  groups: Type.Array(
    Type.Object({
      group: Group,
      primaryMissingSince: Type.Optional(time('Since when it has had no primary.')),
      secondaryMissingSince: Type.Optional(time('Since when its secondary has not been read from.')),
      lagBytes: Type.Optional(Type.Integer({ description: 'How far the secondary is behind the primary.' })),
      lagUnknownSince: Type.Optional(time('Since when one of the two has not answered.')),
      shards: Type.Optional(Type.Integer({ description: 'Shards on each of its nodes; only with Citus.' })),
      tables: Type.Optional(Type.Integer({ description: 'Tables; only without Citus.' })),
      rows: Type.Optional(Type.Integer({ description: "Rows in them, as PostgreSQL's statistics have it." })),
    }),
    { description: 'The node groups, each a primary with its secondaries.' },
  ),
  rowsUnknownSince: Type.Optional(time('Since when shards and rows have been as they were then.')),
  members: Type.Array(
    Type.Object({
      node: Node,
      group: Group,
      role: Role,
      isActive: Type.Boolean({ description: 'False while Citus sends it nothing.' }),
      missingSince: Type.Optional(
        time('Since when Citus has not had it; a member is forgotten after a day.'),
      ),
    }),
    { description: "The members of the groups, as Citus' pg_dist_node has them; none without Citus." },
  ),
  outages: Type.Array(
    Type.Object({
      endpoint: Type.Optional(Type.String({ description: 'The address that was lost: host and port.' })),
      port: Type.Optional(Port),
      group: Type.Optional(Type.Integer({ description: 'The node group that has lost a member.' })),
      role: Type.Optional(Role),
      since: time('When this process noticed it.'),
      until: Type.Optional(time('When it was over; left out while it lasts.')),
      reason: Type.String({ description: 'The first error.' }),
    }),
    { description: 'Losses of an address, or of the primary or secondary of a group; the newest is first.' },
  ),
  failovers: Type.Array(
    Type.Object({ group: Group, from: Node, to: Node, at: time('When this process noticed it.') }),
    { description: 'Changes of a primary on Citus; the newest is first.' },
  ),
  groupsWithoutSecondary: Type.Array(Type.Integer(), {
    description: 'Node groups that are read from their primary until they have a secondary again.',
  }),
  groupsWithoutPrimary: Type.Array(Type.Integer(), {
    description: 'Node groups whose changes wait, and whose reads report their age in Tessera-Staleness.',
  }),
  staleness: Type.Array(Type.Object({ group: Type.Integer(), seconds: Type.Integer() }), {
    description:
      'How old the data is that is read from groups without a primary: changes of the last so many seconds may be missing.',
  }),
  lag: Type.Optional(
    Type.Array(Type.Object({ group: Type.Integer(), bytes: Type.Integer() }), {
      description:
        'How far secondaries are behind their primaries; groups of which one does not answer are left out.',
    }),
  ),
  parked: Type.Integer({ description: 'Changes that wait for a primary.' }),
  parkedReads: Type.Integer({ description: 'Reads that wait for a member that is being replaced.' }),
  reads: Type.Object(
    { secondary: Type.Integer(), primary: Type.Integer() },
    { description: 'Reads of this process since its start, by the role of the server that answered.' },
  ),
})
export type ClusterState = Static<typeof ClusterState>

/** Reads the state of the cluster. No part of it waits for a server that does not answer. */
export function makeClusterState(database: Database): () => Promise<ClusterState> {
  const startedAt = new Date(performance.timeOrigin)
  /** Node group → time at which its lag was first wanted in vain. */
  const lagUnknownSince = new Map<number, Date>()
  const readLag = makeGlimpse(async () => {
    const wantedAt = new Date()
    const lag = await database.lag()
    for (const group of lag.keys()) lagUnknownSince.delete(group)
    for (const group of database.isReplicated ? database.status().groups : [])
      if (!lag.has(group) && !lagUnknownSince.has(group)) lagUnknownSince.set(group, wantedAt)
    return lag
  }, LAG_AGE_MS)
  const readStored = makeGlimpse(() => database.stored(), STORED_AGE_MS)

  return async () => {
    const [lag, stored] = await Promise.all([readLag(), readStored()])
    const { endpoints, groups, members, groupsWithoutSecondary, groupsWithoutPrimary, ...status } =
      database.status()
    const lasting = status.outages.filter(({ until }) => until === undefined)
    const downSince = (endpoint: string, port: string) =>
      lasting.find(({ lost }) => 'port' in lost && lost.endpoint === endpoint && lost.port === port)?.since
    const missingSince = (group: number, role: string) =>
      lasting.find(({ lost }) => 'group' in lost && lost.group === group && lost.role === role)?.since
    /** The time at which the last address to write to was lost. */
    const unwritableSince = () => {
      const times = endpoints
        .filter(({ port }) => port === 'write')
        .map(({ endpoint, port }) => downSince(endpoint, port)?.getTime() ?? Number.NaN)
      const last = Math.max(...times)
      return Number.isFinite(last) ? new Date(last) : undefined
    }
    return {
      process: { id: `${hostname()}:${process.pid}`, startedAt: startedAt.toISOString() },
      isReplicated: database.isReplicated,
      endpoints: endpoints.map(({ group, ...endpoint }) => ({
        ...endpoint,
        ...(group === undefined ? {} : { group }),
        ...timed('downSince', downSince(endpoint.endpoint, endpoint.port)),
      })),
      groups: groups.map((group) => {
        const lagBytes = lag.value?.get(group)
        const isOrphaned = groupsWithoutPrimary.includes(group)
        const found = stored.value?.get(group)
        return {
          group,
          ...timed(
            'primaryMissingSince',
            isOrphaned ? (missingSince(group, 'primary') ?? unwritableSince()) : undefined,
          ),
          ...timed('secondaryMissingSince', missingSince(group, 'secondary')),
          ...(lagBytes === undefined ? timed('lagUnknownSince', lagUnknownSince.get(group)) : { lagBytes }),
          ...(found && { [members.length > 0 ? 'shards' : 'tables']: found.parts, rows: found.rows }),
        }
      }),
      ...timed('rowsUnknownSince', stored.unknownSince),
      members: members.map(({ missingSince: since, ...member }) => ({
        ...member,
        ...timed('missingSince', since),
      })),
      outages: status.outages.map(({ lost, since, until, reason }) => ({
        ...lost,
        since: since.toISOString(),
        ...timed('until', until),
        reason,
      })),
      failovers: status.failovers.map(({ at, ...failover }) => ({ ...failover, at: at.toISOString() })),
      groupsWithoutSecondary: [...groupsWithoutSecondary],
      groupsWithoutPrimary: [...groupsWithoutPrimary],
      staleness: [...status.stalenessMs].map(([group, ms]) => ({ group, seconds: Math.ceil(ms / 1_000) })),
      ...(lag.value && lag.unknownSince === undefined
        ? { lag: [...lag.value].map(([group, bytes]) => ({ group, bytes })) }
        : {}),
      parked: status.parked,
      parkedReads: status.parkedReads,
      reads: status.reads,
    }
  }
}

const timed = <Name extends string>(name: Name, at: Date | undefined) =>
  (at ? { [name]: at.toISOString() } : {}) as { readonly [key in Name]?: string }
