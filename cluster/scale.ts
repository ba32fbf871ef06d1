// Owns adding a worker group to a cluster that serves: its members, the ways to them, and its share of the shards.

import { withSuperuser } from './connection.ts'
import { findDaemon, signal } from './daemon.ts'
import { isStartedIn, type Report, restart, untilMembersRun } from './launcher.ts'
import { type Cluster, startPart, writeProxyFile } from './parts.ts'
import { ClusterError, makePlace, resizePlace } from './place.ts'
import { prepareDatabase } from './schema.ts'
import { MAX_WORKERS } from './topology.ts'

/** @returns the cluster with one worker group more, once it holds its share of the shards */
export async function addWorker(cluster: Cluster, report: Report): Promise<Cluster> {
  const { size, topology, runFolder } = cluster.place
  if (!topology.isCitus) throw new ClusterError('One pair without Citus has no workers to add to.')
  if (size.workers === MAX_WORKERS)
    throw new ClusterError(`There are ${MAX_WORKERS} workers: that is the most.`)
  const place = resizePlace(cluster.place, size.workers + 1)
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
  await withSuperuser(place.topology, cluster.credentials, async (client) => {
    const { rows } = await client.query('select citus_rebalance_start() as job')
    if (rows[0].job === null) return report('the shards are in balance')
    report('shards move, and stay readable and writable meanwhile …')
    await client.query('select citus_rebalance_wait()')
    report('the shards are in balance')
  })
  return larger
}
