// Owns what the cluster's database needs before Tessera's own migrations: extensions, roles, registered nodes.

import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { withSuperuser } from './connection.ts'
import type { Credentials } from './credentials.ts'
import { DATABASE } from './patroni.ts'
import { ClusterError } from './place.ts'
import type { Member, Topology } from './topology.ts'

const rolesFile = new URL('../sql/bootstrap/roles.sql', import.meta.url)
/** Patroni registers a member with the coordinator when it is next around. */
const REGISTER_TIMEOUT_MS = 60_000

/** Idempotent: what is there stays. */
export async function prepareDatabase(
  topology: Topology,
  credentials: Credentials,
  report: (line: string) => void,
) {
  const { writePort } = topology.proxies[0]!
  if (!topology.isCitus) {
    await withSuperuser(topology, credentials, { port: writePort, database: 'postgres' }, async (client) => {
      const { rowCount } = await client.query('select from pg_database where datname = $1', [DATABASE])
      if (!rowCount) await client.query(`create database ${DATABASE}`)
    })
  }
  if (topology.isCitus) {
    await untilRegistered(topology, credentials)
    report(`pg_dist_node has all ${topology.members.length} members`)
  }
  await withSuperuser(topology, credentials, { port: writePort }, async (client) => {
    await client.query(readFileSync(rolesFile, 'utf8'))
    for (const role of ['tessera_owner', 'tessera_write', 'tessera_read'] as const)
      await client.query(`alter role ${role} password ${client.escapeLiteral(credentials.passwords[role])}`)
  })
  if (topology.isCitus) await allowSecondaryReads(topology, credentials)
}

/** Grants on parameters are each node's own. */
async function allowSecondaryReads(topology: Topology, credentials: Credentials) {
  const [proxy] = topology.proxies
  const ports = [proxy!.writePort, ...[...proxy!.groupPorts.values()].map(({ write }) => write)]
  for (const port of ports) {
    await withSuperuser(topology, credentials, { port }, (client) =>
      client.query('grant set on parameter citus.use_secondary_nodes to tessera_read'),
    )
  }
}

export type RegisteredNode = {
  readonly group: number
  readonly port: number
  readonly role: 'primary' | 'secondary'
  readonly isActive: boolean
}

export const readNodes = (topology: Topology, credentials: Credentials): Promise<RegisteredNode[]> =>
  withSuperuser(topology, credentials, { port: topology.proxies[0]!.writePort }, async (client) => {
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

async function untilRegistered(topology: Topology, credentials: Credentials) {
  const deadline = performance.now() + REGISTER_TIMEOUT_MS
  for (;;) {
    const nodes = await readNodes(topology, credentials).catch(() => [])
    const isThere = ({ connectPort }: Member) => nodes.some(({ port }) => port === connectPort)
    const primaries = nodes.filter(({ role, isActive }) => role === 'primary' && isActive)
    if (topology.members.every(isThere) && primaries.length === topology.groups.length) return
    if (performance.now() > deadline)
      throw new ClusterError('Not all members are in pg_dist_node; see status.')
    await sleep(200)
  }
}
