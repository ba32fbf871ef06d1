// Owns adding a worker group to a cluster that serves: its members, the ways to them, and its share of the shards.
// Every step is harmless when it is done again: what was broken off is brought to its end by the same command.

import { setTimeout as sleep } from 'node:timers/promises'
import { findDaemon, signal } from './daemon.ts'
import { withSuperuser } from './database-urls.ts'
import { isStartedIn, type Report, restart, untilMembersRun } from './launcher.ts'
import { type Cluster, startPart, writeProxyFile } from './parts.ts'
import { ClusterError, makePlace, resizePlace } from './place.ts'
import { oncePossible, prepareDatabase } from './prepare.ts'
import { MAX_WORKERS } from './topology.ts'

/** How often a job of Citus is looked at, and after which time it is told that it still goes on. */
const LOOK_MS = 500
const STUCK_MS = 60_000
const STUCK =
  'a large shard takes long; the logs of the members that it moves to say whether anything stands in its way'

/**
 * Why shards cannot move while they are written, one row for each reason. Citus moves tables that are stored together
 * by one subscription for each owner, and takes those that have not started for caught up as soon as one has: changes
 * since the copy are lost. Without a replica identity it refuses.
 */
const REASONS_TO_BLOCK = `with moved as (
    select logicalrelid::text as name, colocationid, relowner, relreplident = 'd' and not exists (
        select from pg_index where indrelid = logicalrelid and indisprimary) or relreplident = 'n' as is_keyless
    from pg_dist_partition join pg_class on pg_class.oid = logicalrelid where colocationid > 0)
  select format('these are stored together and have several owners: %s',
    string_agg(format('%s (%s)', name, relowner::regrole), ', ' order by name)) as reason
  from moved group by colocationid having count(distinct relowner) > 1
  union all
  select format('%s has neither a primary key nor another replica identity', name) from moved where is_keyless`

/**
 * @returns the cluster with one worker group more, once it holds its share of the shards; where the last one was not
 * brought to its end, with that one
 */
export async function addWorker(cluster: Cluster, report: Report): Promise<Cluster> {
  const { size, topology, runFolder } = cluster.place
  if (!topology.isCitus) throw new ClusterError('One pair without Citus has no workers to add to.')
  const isUnfinished = await oncePossible(() => hasMovesLeft(cluster))
  if (isUnfinished)
    report('the last worker does not have its share of the shards yet: it gets that, and none is added')
  else if (size.workers === MAX_WORKERS)
    throw new ClusterError(`There are ${MAX_WORKERS} workers: that is the most.`)
  const place = isUnfinished ? cluster.place : resizePlace(cluster.place, size.workers + 1)
  const larger = { ...cluster, place }
  const added = place.topology.groups.at(-1)!
  makePlace(place)
  for (const { name } of place.topology.proxies) {
    writeProxyFile(place, name)
    const master = findDaemon(runFolder, name)
    // Reload: what is connected stays connected.
    if (master === undefined) startPart(larger, name)
    else signal(master, 'SIGUSR2')
  }
  for (const { name } of added.members) startPart(larger, name)
  for (const { name } of place.topology.fencers) await restart(larger, name)
  const members = await untilMembersRun(place.topology, report, isStartedIn(place))
  await prepareDatabase(place.topology, cluster.credentials, members, report)
  await balance(larger, report)
  return larger
}

/** Whether the last group is not known to Citus yet, or some shards would have to move for all to have their share. */
const hasMovesLeft = ({ place: { topology }, credentials }: Cluster): Promise<boolean> =>
  withSuperuser(topology, credentials, async (client) => {
    const { rows } = await client.query(
      `select not exists (select from pg_dist_node where groupid = $1)
         or exists (select from get_rebalance_table_shards_plan()) as "is"`,
      [topology.groups.at(-1)!.number],
    )
    return rows[0].is
  })

/** The job is the coordinator's, and survives its failover: it is looked at, not waited for on one connection. */
async function balance({ place: { topology }, credentials }: Cluster, report: Report): Promise<void> {
  const ask = (text: string, values: readonly unknown[] = []) =>
    oncePossible(() =>
      withSuperuser(topology, credentials, async (client) => (await client.query(text, [...values])).rows),
    )
  const reasons = (await ask(REASONS_TO_BLOCK)).map(({ reason }) => reason as string)
  const [started] = await ask(
    `select coalesce(
       (select job_id from pg_dist_background_job where state not in ('finished', 'cancelled', 'failed') limit 1),
       citus_rebalance_start(shard_transfer_mode => $1)) as job`,
    [reasons.length === 0 ? 'auto' : 'block_writes'],
  )
  if (started!.job === null) return report('the shards are in balance')
  report(
    reasons.length === 0
      ? 'shards move, and stay readable and writable meanwhile …'
      : `shards move, and changes of each wait while it does: ${reasons.join('; ')} …`,
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
      report(`after ${Math.round(forMs / 1_000)} s still ${job.command}: ${STUCK}`)
      toldMs = forMs
    }
    if (job?.state === 'finished') return report('the shards are in balance')
    if (job?.state === 'failed' || job?.state === 'cancelled')
      throw new ClusterError(
        `Not all shards have moved (${job.why?.trim() ?? job.state}); add-worker again goes on with it.`,
      )
  }
}
