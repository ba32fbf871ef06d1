// Owns adding a worker group to a cluster that serves: its members, the ports that lead to them, and its share of the
// shards. Every step can be repeated, so after an interruption the same command completes the work.

import { setTimeout as sleep } from 'node:timers/promises'
import { startArchiving } from './backup/backup.ts'
import { findDaemon, signal } from './daemon.ts'
import { withSuperuser } from './database-urls.ts'
import { isStartedIn, type Report, restart, untilMembersRun } from './launcher.ts'
import { type Cluster, startPart, writeProxyFile } from './parts.ts'
import { ClusterError, makePlace, resizePlace } from './place.ts'
import { oncePossible, prepareDatabase } from './prepare.ts'
import { MAX_WORKERS } from './topology.ts'

/** Milliseconds between two queries for the state of a Citus job. */
const LOOK_MS = 500
/** Milliseconds after which a job that still runs is reported; the pauses between further reports grow. */
const STUCK_MS = 60_000
const STUCK =
  'a large shard takes long; the logs of the members that it moves to show whether anything blocks it'

/**
 * Query that returns one row for each reason why shards cannot move while they are written. Citus moves tables that are
 * stored together with one subscription for each owner. As soon as one of them has started, Citus counts those that
 * have not started as caught up, and their changes since the copy are lost. Citus refuses tables without a replica
 * identity.
 */
const REASONS_TO_BLOCK = `with moved as (
    select logicalrelid::text as name, colocationid, relowner, relreplident = 'd' and not exists (
        select from pg_index where indrelid = logicalrelid and indisprimary) or relreplident = 'n' as is_keyless
    from pg_dist_partition join pg_class on pg_class.oid = logicalrelid where colocationid > 0)
  select format('these tables are stored together and have several owners: %s',
    string_agg(format('%s (%s)', name, relowner::regrole), ', ' order by name)) as reason
  from moved group by colocationid having count(distinct relowner) > 1
  union all
  select format('%s has neither a primary key nor another replica identity', name) from moved where is_keyless`

/**
 * Adds a worker group and moves its share of the shards to it. If the last group was not completed, completes that one
 * and adds none.
 * @returns the cluster with that group
 */
export async function addWorker(cluster: Cluster, report: Report): Promise<Cluster> {
  const { size, topology, runFolder } = cluster.place
  if (!topology.isCitus) throw new ClusterError('A pair without Citus cannot have workers.')
  const isUnfinished = await oncePossible(() => hasMovesLeft(cluster))
  if (isUnfinished)
    report(
      'the last worker does not have its share of the shards yet: it gets its share, and no worker is added',
    )
  else if (size.workers === MAX_WORKERS)
    throw new ClusterError(`There are ${MAX_WORKERS} workers already, which is the maximum.`)
  const place = isUnfinished ? cluster.place : resizePlace(cluster.place, size.workers + 1)
  const larger = { ...cluster, place }
  const added = place.topology.groups.at(-1)!
  makePlace(place)
  for (const { name } of place.topology.proxies) {
    writeProxyFile(place, name)
    const master = findDaemon(runFolder, name)
    // A reload: the old process keeps its connections for up to hard-stop-after (10 s).
    if (master === undefined) startPart(larger, name)
    else signal(master, 'SIGUSR2')
  }
  for (const { name } of added.members) startPart(larger, name)
  for (const { name } of place.topology.fencers) await restart(larger, name)
  const members = await untilMembersRun(place.topology, report, isStartedIn(place))
  await prepareDatabase(place.topology, cluster.credentials, members, report)
  await startArchiving(larger, report)
  await balance(larger, report)
  return larger
}

/** Returns true if Citus does not know the last group yet, or if shards must still move to balance the groups. */
const hasMovesLeft = ({ place: { topology }, credentials }: Cluster): Promise<boolean> =>
  withSuperuser(topology, credentials, async (client) => {
    const { rows } = await client.query(
      `select not exists (select from pg_dist_node where groupid = $1)
         or exists (select from get_rebalance_table_shards_plan()) as "is"`,
      [topology.groups.at(-1)!.number],
    )
    return rows[0].is
  })

/** True for a job of Citus that goes on, in a query of pg_dist_background_job. */
const IS_RUNNING = `state not in ('finished', 'cancelled', 'failed')`

/** Balances the shards. The job survives a failover of the coordinator, so this polls it over new connections. */
async function balance({ place: { topology }, credentials }: Cluster, report: Report): Promise<void> {
  const ask = (text: string, values: readonly unknown[] = []) =>
    oncePossible(() =>
      withSuperuser(topology, credentials, async (client) => (await client.query(text, [...values])).rows),
    )
  const reasons = (await ask(REASONS_TO_BLOCK)).map(({ reason }) => reason as string)
  if (reasons.length > 0) {
    // A job that somebody started while no table had to be blocked would lose changes of one that has to be now.
    const [unsafe] = await ask(`select job_id, citus_job_cancel(job_id) from (
      select distinct job_id from pg_dist_background_job join pg_dist_background_task using (job_id)
      where ${IS_RUNNING} and command like '%citus_move_shard_placement%' and command not like '%block_writes%') job`)
    if (unsafe) await ask('select citus_job_wait($1)', [unsafe.job_id])
  }
  const [started] = await ask(
    `select coalesce(
       (select job_id from pg_dist_background_job where ${IS_RUNNING} limit 1),
       citus_rebalance_start(shard_transfer_mode => $1)) as job`,
    [reasons.length === 0 ? 'auto' : 'block_writes'],
  )
  if (started!.job === null) return report('the shards are in balance')
  report(
    reasons.length === 0
      ? 'moving shards, which stay readable and writable meanwhile …'
      : `moving shards, and changes of each wait while it moves: ${reasons.join('; ')} …`,
  )
  const start = performance.now()
  for (let toldMs = 0; ; await sleep(LOOK_MS)) {
    const [job] = await ask(
      `select state,
         (select message from pg_dist_background_task t
          where t.job_id = j.job_id and status = 'error' limit 1) as why,
         (select command from pg_dist_background_task t
          where t.job_id = j.job_id and status = 'running' limit 1) as command
       from pg_dist_background_job j where job_id = $1`,
      [started!.job],
    )
    const forMs = performance.now() - start
    if (job?.command && forMs > 2 * toldMs + STUCK_MS) {
      report(`still running after ${Math.round(forMs / 1_000)} s: ${job.command} (${STUCK})`)
      toldMs = forMs
    }
    if (job?.state === 'finished') return report('the shards are in balance')
    if (job?.state === 'failed' || job?.state === 'cancelled')
      throw new ClusterError(
        `Not all shards have moved (${job.why?.trim() ?? job.state}); run add-worker again to continue.`,
      )
  }
}
