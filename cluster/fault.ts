// Owns what scenarios do to the cluster, each as it would happen: nothing is asked to end.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { findDaemon, sessionOf } from './daemon.ts'
import { ClusterError, type Place } from './place.ts'

/** A machine that is gone: Patroni and PostgreSQL at once, with all their processes. */
export function killMember(place: Place, name: string) {
  const patroni = findDaemon(place.runFolder, name)
  if (patroni === undefined) throw new ClusterError(`${name} does not run.`)
  const processes = new Set([...sessionOf(patroni), ...sessionOf(postmasterOf(place, name))])
  for (const pid of processes) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch (error) {
      // It went with its parent.
      if ((error as { code?: string }).code !== 'ESRCH') throw error
    }
  }
}

const postmasterOf = (place: Place, name: string) =>
  Number(readFileSync(join(place.folder, 'members', name, 'data/postmaster.pid'), 'utf8').split('\n', 1)[0])
