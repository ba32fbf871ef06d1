// Owns what the recorder reports of the backups, and what of that is wrong. It does no I/O.

import { describeAge } from '../promote.ts'

/** The log and the backups of one group. Dates are of ISO 8601. */
export type GroupProtection = {
  readonly name: string
  /** When its newest backup ended; null if there is none. */
  readonly backupAt: string | null
  /** How its primary archives the log; null before that was read. */
  readonly archive: ArchiveState | null
}

export type ArchiveState = {
  /** False if the primary was started when the cluster had no backups. */
  readonly isOn: boolean
  /** Finished files of the log that the archive does not have. */
  readonly waitingFiles: number
  /** Since when it has been seen that the archive takes no file; null if it takes them. */
  readonly failsSince: string | null
}

export type Protection = {
  /** When the recorder was started. */
  readonly startedAt: string
  readonly groups: readonly GroupProtection[]
  /** What was acknowledged before this can be restored if all machines are lost; null if nothing can. */
  readonly restorableUntil: string | null
  /** Why the last attempt to create a restore point failed; empty if it did not. */
  readonly failure: string
}

/**
 * Milliseconds after which something is wrong that may also pass by itself: a failover, a table that is being
 * distributed, the minute after which PostgreSQL tries again to archive.
 */
const PATIENCE_MS = 60_000
/** A backup of each day may take some hours more than the last one. */
const OLD_BACKUP_MS = 36 * 3_600_000

const REMEDY = 'run npm run cluster -- backup'

/** Returns a sentence for each thing that is wrong. */
export function judgeProtection(protection: Protection, nowMs: number): readonly string[] {
  const { groups, restorableUntil, startedAt, failure } = protection
  const age = (date: string) => nowMs - Date.parse(date)
  const faults = groups.flatMap(({ name, backupAt, archive }) => {
    const found: string[] = []
    if (backupAt === null) found.push(`there is no backup of group ${name}: ${REMEDY}`)
    else if (age(backupAt) > OLD_BACKUP_MS)
      found.push(`the newest backup of group ${name} is ${describeAge(age(backupAt))} old: ${REMEDY}`)
    if (archive?.isOn === false)
      found.push(`group ${name} does not archive its log: restart its members, one after the other`)
    if (archive?.failsSince && age(archive.failsSince) > PATIENCE_MS)
      found.push(
        `group ${name} has archived nothing for ${describeAge(age(archive.failsSince))}, ${count(archive)}: see the folder of the backups, and the log of its primary`,
      )
    return found
  })
  // Without a backup nothing can be restored, which has been said.
  const isCopied = groups.every(({ backupAt }) => backupAt !== null)
  const isPatienceOver = age(startedAt) > PATIENCE_MS
  const why = failure ? `: ${failure}` : ''
  if (isCopied && isPatienceOver && restorableUntil === null)
    faults.push(`no restore point can be restored yet${why}`)
  if (isPatienceOver && restorableUntil !== null && age(restorableUntil) > PATIENCE_MS)
    faults.push(`changes of the last ${describeAge(age(restorableUntil))} could not be restored${why}`)
  return faults
}

/** Returns lines that describe it, whether something is wrong or not. */
export function describeProtection({ groups, restorableUntil }: Protection, nowMs: number): string[] {
  const ago = (date: string | null) =>
    date === null ? 'never' : `${describeAge(nowMs - Date.parse(date))} ago`
  const list = (render: (group: GroupProtection) => string) =>
    groups.map((group) => `${group.name} ${render(group)}`).join(', ')
  return [
    `backed up: ${list(({ backupAt }) => ago(backupAt))}`,
    `to be archived: ${list(({ archive }) => (archive ? count(archive) : 'unknown'))}`,
    restorableUntil === null
      ? 'can be restored: nothing'
      : `can be restored: everything until ${ago(restorableUntil)} (${restorableUntil})`,
  ]
}

const count = ({ waitingFiles }: ArchiveState) => `${waitingFiles} file${waitingFiles === 1 ? '' : 's'}`
