// Owns the examination of every member after a run: directly, without proxies, Citus or gateways.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Client } from 'pg'
import { connect } from '../database-urls.ts'
import type { Cluster } from '../parts.ts'
import { askMember } from '../patroni-client.ts'
import type { Group, Member } from '../topology.ts'

/** Time within which secondaries must have replayed everything, and Citus must have settled its open transactions. */
const SETTLED_TIMEOUT_MS = 30_000
const LOOK_MS = 250

/**
 * Returns the query for the tables whose rows a member itself has. With Citus these include shards, also those that it
 * hides, but not distributed tables, whose rows Citus would query from other members.
 */
const tablesQuery = (isCitus: boolean) => `select format('%I.%I', nspname, relname) as name
  from pg_class join pg_namespace n on n.oid = relnamespace
  where relkind = 'r' and nspname in ('public', 'tessera')
    and not exists (select from pg_depend where objid = pg_class.oid and deptype = 'e')
    ${isCitus ? 'and not exists (select from pg_dist_partition where logicalrelid = pg_class.oid)' : ''}
  order by 1`
const CONTENT = (table: string) =>
  `select count(*) || ' rows, ' || coalesce(md5(string_agg(t::text, ',' order by t::text)), '') as content from ${table} t`

/** @returns a sentence for each difference between the members of a group, and for each thing that was left behind */
export async function findLeftovers(cluster: Cluster): Promise<readonly string[]> {
  const found = await Promise.all(cluster.place.topology.groups.map((group) => lookAtGroup(cluster, group)))
  return found.flat()
}

/** Examines a group, and tries again after an error, because a member may restart meanwhile, as after a rewind. */
async function lookAtGroup(cluster: Cluster, group: Group): Promise<readonly string[]> {
  for (const deadline = performance.now() + SETTLED_TIMEOUT_MS; ; await sleep(LOOK_MS)) {
    try {
      return await findInGroup(cluster, group)
    } catch (error) {
      if (performance.now() > deadline)
        return [`group ${group.name} cannot be examined: ${(error as Error).message}`]
    }
  }
}

async function findInGroup(cluster: Cluster, { name, members }: Group): Promise<readonly string[]> {
  const states = await Promise.all(members.map((member) => askMember(member)))
  const primary = members.find((_, index) => states[index]?.role === 'primary')
  if (!primary) return [`group ${name} has no primary at the end`]
  const missing = members.filter((_, index) => states[index]?.timeline === undefined)
  if (missing.length > 0) throw new Error(`${missing.map(({ name }) => name).join()} does not respond`)
  const timelines = new Set(states.map((state) => state?.timeline))
  const wrongs = timelines.size === 1 ? [] : [`group ${name} has timelines ${[...timelines].join(' and ')}`]
  const { isCitus } = cluster.place.topology
  const clients = new Map<Member, Client>()
  try {
    for (const member of members) clients.set(member, await open(cluster, member))
    const leading = clients.get(primary)!
    wrongs.push(...(await findPrepared(name, leading)))
    const contents = await readContents(leading, isCitus)
    const { rows } = await leading.query('select pg_current_wal_lsn() as lsn')
    for (const [member, client] of clients) {
      if (member === primary) continue
      if (!(await hasReplayed(client, rows[0].lsn))) {
        wrongs.push(`${member.name} has not replayed what ${primary.name} has`)
        continue
      }
      const own = await readContents(client, isCitus)
      for (const table of new Set([...contents.keys(), ...own.keys()]))
        if (contents.get(table) !== own.get(table))
          wrongs.push(
            `${table} has ${contents.get(table)} on ${primary.name} and ${own.get(table)} on ${member.name}`,
          )
    }
  } finally {
    for (const client of clients.values()) await client.end()
  }
  return wrongs
}

async function open({ credentials }: Cluster, { host, postgresPort }: Member): Promise<Client> {
  const client = await connect(credentials, 'postgres', { host, port: postgresPort }, {})
  // Shows the shards that Citus hides. Without Citus nothing reads this setting.
  await client.query(`set citus.override_table_visibility = off`)
  return client
}

async function findPrepared(group: string, client: Client): Promise<readonly string[]> {
  let left: readonly { readonly gid: string }[] = []
  for (const deadline = performance.now() + SETTLED_TIMEOUT_MS; performance.now() < deadline; ) {
    left = (await client.query('select gid from pg_prepared_xacts')).rows
    if (left.length === 0) return []
    await sleep(LOOK_MS)
  }
  return [`group ${group} still has prepared transactions: ${left.map(({ gid }) => gid).join(', ')}`]
}

async function hasReplayed(client: Client, lsn: string): Promise<boolean> {
  for (const deadline = performance.now() + SETTLED_TIMEOUT_MS; performance.now() < deadline; ) {
    const { rows } = await client.query('select pg_last_wal_replay_lsn() >= $1::pg_lsn as has', [lsn])
    if (rows[0].has) return true
    await sleep(LOOK_MS)
  }
  return false
}

async function readContents(client: Client, isCitus: boolean): Promise<ReadonlyMap<string, string>> {
  const { rows: tables } = await client.query(tablesQuery(isCitus))
  const contents = new Map<string, string>()
  for (const { name } of tables) {
    const { rows } = await client.query(CONTENT(name))
    contents.set(name, rows[0].content)
  }
  return contents
}
