// Owns restoring one collection from the backups of a cluster: its table as of a restore point, next to the one that
// there is. The complete backup is restored into a temporary cluster, from which the table is copied.

import { existsSync, rmSync } from 'node:fs'
import { openOwner, withSuperuser } from '../database-urls.ts'
import { areFree, destroy, type Report } from '../launcher.ts'
import type { Cluster } from '../parts.ts'
import { ClusterError, findPlace, isMade } from '../place.ts'
import { makeTopology, portsOf } from '../topology.ts'
import { restore } from './restore.ts'
import { copyTable, describeTable, refuseTaken } from './table-copy.ts'

export type CollectionOptions = {
  /** The cluster that gets the collection, and runs. */
  readonly cluster: Cluster
  /** Id of the collection in the backup. */
  readonly collection: string
  /** Name of the new table, in the schema of the old one. */
  readonly as: string
  /** Folder of the backups. */
  readonly from: string
  readonly keyFile: string
  /** The name of a restore point, or a time; the last point if undefined. */
  readonly target: string | undefined
  readonly report: Report
  /** Is called before there is a temporary cluster. @param remove removes it, if the process is to end before it is done */
  readonly onBegin?: (remove: () => Promise<void>) => void
}

/** Names that imports give to collections, too. */
const NAME = /^[A-Za-z_][A-Za-z0-9_-]{0,47}$/
/** Enough for the ports of a cluster, so that those of the temporary one are others. */
const PORT_STEP = 500
const LAST_BASE_PORT = 64_000
/** Nothing of the temporary cluster must survive the loss of a part. */
const SMALL = { members: 1, store: 1, proxies: 1, gateways: 0 } as const

/** Returns the folder of the temporary cluster. */
export const temporaryFolderOf = (folder: string) => `${folder}-collection`

/**
 * Copies a collection out of a backup. Either the new table is there with all its rows, or nothing has changed.
 * @returns the number of its features
 * @throws ClusterError if the name is taken, if there is no such collection, or if the target cannot be restored
 */
export async function restoreCollection(options: CollectionOptions): Promise<number> {
  const { cluster, collection, as, report } = options
  const { place, credentials, programs } = cluster
  if (!NAME.test(as))
    throw new ClusterError(
      `"${as}" cannot name a collection: use up to 48 letters, digits, _ and -, the first a letter or _, as in --as roads_yesterday.`,
    )
  const dot = collection.lastIndexOf('.')
  const owner = await openOwner(place.topology, credentials)
  try {
    // Before the minutes of a restore; the table's own schema is known only after it.
    await refuseTaken(owner, dot === -1 ? 'public' : collection.slice(0, dot), as)
  } finally {
    await owner.end()
  }
  const folder = temporaryFolderOf(place.folder)
  if (existsSync(folder))
    throw new ClusterError(
      `Another restore of a collection runs, or was interrupted: see ${folder}, and destroy --data ${folder}.`,
    )
  options.onBegin?.(() => removeTemporary(folder))
  try {
    const { from, keyFile, target } = options
    const size = { ...SMALL, basePort: await findBasePort(cluster) }
    const temporary = await restore({ folder, programs, from, keyFile, target, size, report })
    return await withSuperuser(temporary.place.topology, temporary.credentials, async (source) => {
      const definition = await describeTable(source, collection)
      const { schema, others } = definition
      // Connections of before may have ended meanwhile, for example by a failover.
      const target = await openOwner(place.topology, credentials)
      try {
        await refuseTaken(target, schema, as)
        report(`copying ${collection} to ${as} …`)
        for (const one of others) report(`${one} is not copied`)
        return await copyTable(source, target, definition, as)
      } finally {
        await target.end()
      }
    })
  } finally {
    await removeTemporary(folder)
  }
}

/** Removes the temporary cluster, as far as there is one. */
async function removeTemporary(folder: string): Promise<void> {
  const place = findPlace(folder, {})
  if (isMade(place)) await destroy(place, () => {})
  rmSync(folder, { recursive: true, force: true })
}

/** Returns the first port of a range in which nothing listens. */
async function findBasePort({ place: { size } }: Cluster): Promise<number> {
  for (let basePort = size.basePort + PORT_STEP; basePort <= LAST_BASE_PORT; basePort += PORT_STEP)
    if (await areFree(portsOf(makeTopology({ ...size, ...SMALL, backups: '', basePort })))) return basePort
  throw new ClusterError('No range of ports is free for the temporary cluster.')
}
