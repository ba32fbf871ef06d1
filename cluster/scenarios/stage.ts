// Owns the cluster on which scenarios are played: a separate one, with a table of which the group of each row is known.

import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type pg from 'pg'
import { startArchiving } from '../backup/backup.ts'
import { claimRepository } from '../backup/repository.ts'
import { withSuperuser } from '../database-urls.ts'
import { destroy, type Report, up } from '../launcher.ts'
import { type Cluster, openSecrets } from '../parts.ts'
import { findPlace, findPrograms, makePlace } from '../place.ts'
import { oncePossible } from '../prepare.ts'
import type { Size } from '../topology.ts'
import { TABLE } from './traffic.ts'

/** First port; no port collides with those of a cluster of the default size and base port. */
const BASE_PORT = 27_000
/** Number of ids: enough for the writes of all clients in the longest scenario. */
const IDS = 400_000
/** Rows per group that exist from the start, for readers. */
const SEEDED = 1_000

/** Size of each member's file system if a fault may fill it: the log at its largest (max_wal_size is 1 GB), and the data. */
export const DISK_MIB = 1_536

const INTERRUPTIONS = ['SIGINT', 'SIGTERM', 'SIGHUP']

/** A cluster that is created for one run, and removed with all its files. */
export type Trial = {
  readonly cluster: Cluster
  /** Runs a query as superuser. @returns the rows as the driver returns them */
  query(text: string, values?: readonly unknown[]): Promise<pg.QueryResultRow[]>
  close(): Promise<void>
}

export type Stage = Trial & {
  /** Ids to insert, by the number of the group that will hold them. */
  readonly fresh: ReadonlyMap<number, readonly number[]>
  /** Ids that exist from the start, by the number of the group that holds them. */
  readonly seeded: ReadonlyMap<number, readonly number[]>
}

/** Creates a folder for clusters. Their account must be able to pass it; their own folders within are closed to all others. */
export function makeScratch(purpose: string): string {
  const scratch = mkdtempSync(`/var/tmp/tessera-${purpose}-`)
  chmodSync(scratch, 0o711)
  return scratch
}

/**
 * Creates and starts a cluster.
 * @param size in which `workers: 0` means one pair without Citus
 * @param meanwhile runs while the cluster starts
 */
export async function openTrial(
  size: Partial<Size>,
  report: Report,
  meanwhile: (cluster: Cluster) => Promise<void> = async () => {},
): Promise<Trial> {
  const scratch = makeScratch('stage')
  const place = findPlace(join(scratch, 'cluster'), {
    basePort: BASE_PORT,
    gateways: 0,
    demo: false,
    ...size,
  })
  const remove = async () => {
    // The place is read again, because the cluster may have grown.
    await destroy(findPlace(place.folder, {}), () => {})
    rmSync(scratch, { recursive: true, force: true })
  }
  // An interrupted trial is removed, too.
  const interrupt = () => remove().finally(() => process.exit(130))
  for (const signal of INTERRUPTIONS) process.once(signal, interrupt)
  const close = async () => {
    for (const signal of INTERRUPTIONS) process.off(signal, interrupt)
    await remove()
  }
  try {
    // The tools are those of the default place.
    const programs = findPrograms(findPlace(undefined, {}))
    claimRepository(place)
    makePlace(place)
    const cluster = { place, programs, credentials: await openSecrets(place) }
    await Promise.all([up(cluster, report), meanwhile(cluster)])
    await startArchiving(cluster, report)
    // On a busy machine there may be a failover between two runs, too.
    const query = (text: string, values: readonly unknown[] = []) =>
      oncePossible(() =>
        withSuperuser(place.topology, cluster.credentials, async (client) => {
          const { rows } = await client.query(text, [...values])
          return rows
        }),
      )
    return { cluster, query, close }
  } catch (error) {
    await close()
    throw error
  }
}

/** Creates the table that bare connections write and read. */
export async function prepareStage(trial: Trial): Promise<Stage> {
  const { cluster, query } = trial
  const { topology } = cluster.place
  await query(`create table ${TABLE} (id bigint primary key, at timestamptz not null default now())`)
  if (topology.isCitus) await query(`select create_distributed_table('${TABLE}', 'id')`)
  await query(`grant select, insert on ${TABLE} to tessera_write`)
  await query(`grant select on ${TABLE} to tessera_read`)
  const owners = await query(
    topology.isCitus
      ? `select id::int, groupid as owner from generate_series(1, ${IDS}) id
         join pg_dist_placement p
           on p.shardid = get_shard_id_for_distribution_column('${TABLE}', id::bigint)`
      : `select id::int, 0 as owner from generate_series(1, ${IDS}) id`,
  )
  const byGroup = new Map<number, number[]>(topology.groups.map(({ number }) => [number, []]))
  for (const { id, owner } of owners) byGroup.get(owner)!.push(id)
  const seeded = new Map([...byGroup].map(([group, ids]) => [group, ids.slice(0, SEEDED)]))
  const fresh = new Map([...byGroup].map(([group, ids]) => [group, ids.slice(SEEDED)]))
  await query(`insert into ${TABLE} (id) select unnest($1::bigint[])`, [[...seeded.values()].flat()])
  return { ...trial, seeded, fresh }
}
