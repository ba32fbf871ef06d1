// Owns restoring a cluster from its backups: a new cluster, at one restore point of all groups.

import { chownSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Account } from '../daemon.ts'
import { primaryPortOf, withSuperuser } from '../database-urls.ts'
import { type Report, up } from '../launcher.ts'
import { beginRecovery, type Cluster, endRecovery, openSecrets } from '../parts.ts'
import { ClusterError, findPlace, isMade, makeFolder, type Programs } from '../place.ts'
import { oncePossible } from '../prepare.ts'
import type { Size } from '../topology.ts'
import { choosePoint, listBackups } from './backup.ts'
import { isArchived, readPoints } from './points.ts'
import { claimRepository, needPgBackRest, openReader, openRepository, readOwner } from './repository.ts'

export type RestoreOptions = {
  /** Folder of the new cluster. */
  readonly folder: string | undefined
  readonly programs: Programs
  /** Folder of the backups. */
  readonly from: string
  readonly keyFile: string
  /** The name of a restore point, or a time; the last point if undefined. */
  readonly target: string | undefined
  /** How the new cluster differs in size. The number of workers is that of the restore point. */
  readonly size: Partial<Size>
  readonly report: Report
}

/** Milliseconds within which no transaction may be left prepared. */
const SETTLE_TIMEOUT_MS = 60_000
const LOOK_MS = 200

/**
 * Creates a cluster from backups, and starts all of it except gateways.
 * @throws ClusterError if there is a cluster in the folder, or if the target cannot be restored
 */
export async function restore(options: RestoreOptions): Promise<Cluster> {
  const { programs, from, keyFile, target, report } = options
  const owner = readOwner(from)
  const repository = openRepository(from, keyFile, owner.size.backupsKept)
  const program = needPgBackRest(programs)
  const points = readPoints(repository.folder)
  const groups = [...new Set(points.flatMap(({ files }) => Object.keys(files)))].map((name) => ({ name }))
  const { disk: _, ...kept } = owner.size
  const sizeWith = (workers: number) => ({
    ...kept,
    backups: '',
    backupKey: '',
    // What is missing at the restore point stays missing.
    demo: false,
    ...options.size,
    workers,
  })
  const place = findPlace(options.folder, sizeWith(owner.size.workers))
  if (isMade(place))
    throw new ClusterError(
      `There is a cluster in ${place.folder} already: name another folder with --data, or destroy it first.`,
    )
  const backups = await withWorkFolder(place.account, (workFolder) =>
    listBackups(openReader(place, program, repository, workFolder), groups),
  )
  const { point, sets } = choosePoint(target, points, backups, (group, file) =>
    isArchived(repository.folder, group, file),
  )
  report(`restoring ${point.name === point.from ? 'the point' : point.name} of ${point.at} …`)
  const restored = findPlace(options.folder, sizeWith(Object.keys(point.files).length - 1))
  claimRepository(restored)
  makeFolder(restored)
  beginRecovery(restored, { repository, point: point.name, sets })
  const cluster = { place: restored, programs, credentials: await openSecrets(restored) }
  // The copy of a large database takes its time; members that fail end, and that is noticed.
  try {
    await up(cluster, report, Number.POSITIVE_INFINITY)
  } finally {
    endRecovery(restored)
  }
  await settle(cluster)
  report('no transaction is left open')
  return cluster
}

/** Creates a folder for `work` that is not the cluster's: there is none until it is clear what to restore. */
async function withWorkFolder<T>(
  account: Account | undefined,
  work: (workFolder: string) => Promise<T>,
): Promise<T> {
  const workFolder = mkdtempSync(join(tmpdir(), 'tessera-restore-'))
  try {
    if (account) chownSync(workFolder, account.uid, account.gid)
    return await work(workFolder)
  } finally {
    rmSync(workFolder, { recursive: true, force: true })
  }
}

/**
 * Waits until each distributed transaction that was under way at the restore point is committed on all groups, or on
 * none: the coordinator's table has those that it committed.
 */
async function settle({ place: { topology }, credentials }: Cluster): Promise<void> {
  if (!topology.isCitus) return
  const left = (group: number): Promise<string[]> =>
    withSuperuser(
      topology,
      credentials,
      async (client) =>
        (await client.query("select gid from pg_prepared_xacts where gid like 'citus\\_%'")).rows.map(
          ({ gid }) => gid,
        ),
      primaryPortOf(group),
    )
  for (const deadline = performance.now() + SETTLE_TIMEOUT_MS; ; await sleep(LOOK_MS)) {
    const gids = await oncePossible(async () => {
      await withSuperuser(topology, credentials, (client) =>
        client.query('select recover_prepared_transactions()'),
      )
      return (await Promise.all(topology.groups.map(({ number }) => left(number)))).flat()
    })
    if (gids.length === 0) return
    if (performance.now() > deadline)
      throw new ClusterError(
        `These transactions are still prepared, neither committed nor undone: ${gids.join(', ')}.`,
      )
  }
}
