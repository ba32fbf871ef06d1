// Owns what the recorder knows of the backups: the newest of each group, whether its log reaches the archive, and up to
// when everything could be restored.

import { statSync } from 'node:fs'
import { join } from 'node:path'
import type pg from 'pg'
import type { Group } from '../topology.ts'
import { type Backup, listBackups, whyNot } from './backup.ts'
import { isArchived, type Point, type Primaries, readPoints } from './points.ts'
import type { ArchiveState, Protection } from './protection.ts'
import type { Runner } from './repository.ts'

export type Watch = {
  /** Lists the backups, if there are others than at the last look. */
  lookAtBackups(): Promise<void>
  /** Looks how each primary archives its log. */
  lookAtArchives(primaries: Primaries): Promise<void>
  /** Notes a restore point that was created. */
  add(point: Point): void
  /** Notes that nothing has changed since the last point. @param at a date before that was found */
  confirm(at: string): void
  report(failure: string): Protection
}

/** @param runner of pgBackRest on the cluster's backups */
export function openWatch(groups: readonly Pick<Group, 'name'>[], runner: Runner): Watch {
  const { folder } = runner.repository
  const startedAt = new Date().toISOString()
  const archives = new Map<string, ArchiveState>()
  let backups: readonly Backup[] = []
  let stamps = ''
  /** The newest point that can be restored. */
  let newest: Point | undefined
  /** Points after it, which are not archived yet. */
  let pending: Point[] = []
  let restorableUntil: string | null = null

  const isRestorable = (point: Point) =>
    whyNot(point, backups, (group, file) => isArchived(folder, group, file)) === undefined

  /** Looks which points can be restored now. */
  function settle() {
    const newestOf = (points: readonly Point[]) => points.findLast(isRestorable)
    const isCopied = groups.every(({ name }) => backups.some(({ group }) => group === name))
    // After a start, and after the first backup, it may be a point that an operator or another recorder has created.
    const found = newestOf(pending) ?? (newest || !isCopied ? undefined : newestOf(readPoints(folder)))
    if (!found) return
    newest = found
    pending = pending.filter(({ from }) => from > found.from)
    restorableUntil = latest(restorableUntil, found.from)
  }

  return {
    async lookAtBackups() {
      const found = groups.map(({ name }) => stampOf(join(folder, 'backup', name, 'backup.info'))).join()
      if (found === stamps) return
      backups = await listBackups(runner, groups)
      stamps = found
    },
    async lookAtArchives(primaries) {
      for (const [{ name }, client] of primaries) {
        const { isOn, waitingFiles, isFailing } = await readArchive(client)
        const failsSince = isFailing ? (archives.get(name)?.failsSince ?? new Date().toISOString()) : null
        archives.set(name, { isOn, waitingFiles, failsSince })
      }
    },
    add(point) {
      pending.push(point)
    },
    confirm(at) {
      settle()
      if (newest && pending.length === 0) restorableUntil = latest(restorableUntil, at)
    },
    report(failure) {
      settle()
      return {
        startedAt,
        groups: groups.map(({ name }) => ({
          name,
          backupAt: backups.findLast(({ group }) => group === name)?.endedAt.toISOString() ?? null,
          archive: archives.get(name) ?? null,
        })),
        restorableUntil,
        failure,
      }
    },
  }
}

/** Dates of ISO 8601 have the order of their texts. */
const latest = (one: string | null, other: string) => (one !== null && one > other ? one : other)

const stampOf = (file: string) => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0

/**
 * Reads how a primary archives its log. A failure that is older than the last success is over, and one without a file
 * that waits was that of a secondary, which fails until its primary has archived the file.
 */
async function readArchive(client: pg.Client) {
  const { rows } = await client.query(
    `select current_setting('archive_mode') <> 'off' as "isOn",
       (select count(*)::int from pg_ls_archive_statusdir() where name like '%.ready') as "waitingFiles",
       coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) as "hasFailed"
     from pg_stat_archiver`,
  )
  const { isOn, waitingFiles, hasFailed } = rows[0]
  return { isOn, waitingFiles, isFailing: waitingFiles > 0 && hasFailed } as {
    readonly isOn: boolean
    readonly waitingFiles: number
    readonly isFailing: boolean
  }
}
