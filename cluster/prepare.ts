// Owns what the cluster's database needs before Tessera's own migrations: extensions, roles, registered nodes.

import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Client, DatabaseError } from 'pg'
import type { Credentials } from './credentials.ts'
import { primaryPortOf, withSuperuser } from './database-urls.ts'
import { DATABASE } from './patroni-config.ts'
import { ClusterError } from './place.ts'
import type { Member, Topology } from './topology.ts'

const rolesFile = new URL('../sql/bootstrap/roles.sql', import.meta.url)
/** Patroni registers a member with the coordinator in one of its next loops. */
const REGISTER_TIMEOUT_MS = 60_000
/** After a change of primary, Citus refuses statements for all nodes until it has synced its metadata to that node. */
const SYNC_TIMEOUT_MS = 60_000
/**
 * Codes of errors that pass: that refusal (object_not_in_prerequisite_state); a connection that failed or was lost,
 * also between nodes; a server that stops or starts; a primary that is not one any more. The driver's own errors have
 * no code, or one of the operating system.
 */
const PASSING = /^(55000|08...|57P0[123]|25006|E[A-Z]+|)$/

/** Prepares the database; what exists already stays. @param members the members that run */
export async function prepareDatabase(
  topology: Topology,
  credentials: Credentials,
  members: readonly Member[],
  report: (line: string) => void,
) {
  if (topology.isCitus) {
    await untilRegistered(topology, credentials, members)
    report(`pg_dist_node has ${members.length} members`)
  } else {
    const create = async (client: Client) => {
      const { rowCount } = await client.query('select from pg_database where datname = $1', [DATABASE])
      if (!rowCount) await client.query(`create database ${DATABASE}`)
    }
    await withSuperuser(topology, credentials, create, undefined, 'postgres')
  }
  const makeRoles = async (client: Client) => {
    await client.query(readFileSync(rolesFile, 'utf8'))
    for (const role of ['tessera_owner', 'tessera_write', 'tessera_read'] as const)
      await client.query(`alter role ${role} password ${client.escapeLiteral(credentials.passwords[role])}`)
  }
  await oncePossible(() => withSuperuser(topology, credentials, makeRoles))
  if (topology.isCitus) await oncePossible(() => allowSecondaryReads(topology, credentials))
}

/** Repeats `work` after errors that pass, for a minute at most. @param work harmless if it runs twice */
export async function oncePossible<T>(work: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + SYNC_TIMEOUT_MS
  for (;;) {
    try {
      return await work()
    } catch (error) {
      if (!PASSING.test((error as DatabaseError).code ?? '') || performance.now() > deadline) throw error
    }
    await sleep(200)
  }
}

/** Lets gateways read from secondaries. Each node has its own grants on parameters. */
async function allowSecondaryReads(topology: Topology, credentials: Credentials) {
  const grant = (client: Client) =>
    client.query('grant set on parameter citus.use_secondary_nodes to tessera_read')
  await withSuperuser(topology, credentials, grant)
  for (const { number } of topology.groups.slice(1))
    await withSuperuser(topology, credentials, grant, primaryPortOf(number))
}

export type RegisteredNode = {
  readonly group: number
  readonly port: number
  readonly role: 'primary' | 'secondary'
  readonly isActive: boolean
}

export const readNodes = (topology: Topology, credentials: Credentials): Promise<RegisteredNode[]> =>
  withSuperuser(topology, credentials, async (client) => {
    const { rows } = await client.query(
      'select groupid, nodeport, noderole, isactive from pg_dist_node order by groupid, nodeport',
    )
    return rows.map(({ groupid, nodeport, noderole, isactive }) => ({
      group: groupid,
      port: nodeport,
      role: noderole,
      isActive: isactive,
    }))
  })

async function untilRegistered(topology: Topology, credentials: Credentials, members: readonly Member[]) {
  const deadline = performance.now() + REGISTER_TIMEOUT_MS
  for (;;) {
    const nodes = await readNodes(topology, credentials).catch(() => [])
    const isThere = ({ connectPort }: Member) => nodes.some(({ port }) => port === connectPort)
    const primaries = nodes.filter(({ role, isActive }) => role === 'primary' && isActive)
    if (members.every(isThere) && primaries.length === topology.groups.length) return
    if (performance.now() > deadline)
      throw new ClusterError('Not all members are in pg_dist_node; see status.')
    await sleep(200)
  }
}
