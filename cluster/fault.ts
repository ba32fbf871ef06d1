// Owns what scenarios do to the cluster, each as it would happen: nothing is asked to end.

import { findDaemon, findPostmaster, sessionOf, signal } from './daemon.ts'
import { ClusterError, dataFolderOf, type Place } from './place.ts'

/** A machine that is gone: Patroni and PostgreSQL at once, with all their processes. */
export function killMember(place: Place, name: string) {
  const patroni = findDaemon(place.runFolder, name)
  const postmaster = findPostmaster(dataFolderOf(place, name))
  if (patroni === undefined || postmaster === undefined) throw new ClusterError(`${name} does not run.`)
  for (const pid of new Set([...sessionOf(patroni), ...sessionOf(postmaster)])) signal(pid, 'SIGKILL')
}
