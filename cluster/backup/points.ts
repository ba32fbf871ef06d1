// Owns restore points: points in the logs of all groups to which the cluster can be restored as one. On Citus such a
// point is created while no distributed transaction commits, so each of them is before it or after it on all groups.

import { appendFileSync, chownSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import type { Credentials } from '../credentials.ts'
import type { Account } from '../daemon.ts'
import { openSuperuser, primaryPortOf } from '../database-urls.ts'
import { ClusterError } from '../place.ts'
import type { Group, Topology } from '../topology.ts'

export type Point = {
  /** An operator's name, or the date at which the recorder began it. */
  readonly name: string
  /** When its creation began. What was acknowledged before is in it. A date of ISO 8601, as `at`. */
  readonly from: string
  /** When its creation ended. What was sent after that is not in it. */
  readonly at: string
  /** By the name of each group, the last file of its log that has the point. */
  readonly files: Readonly<Record<string, string>>
}

export const isNamed = ({ name, from }: Point) => name !== from

/** A connection to the primary of each group. */
export type Primaries = ReadonlyMap<Group, pg.Client>

/**
 * Milliseconds that a point waits for locks, such as that of a table that is being distributed. Changes of primaries in
 * pg_dist_node wait behind it meanwhile.
 */
const LOCK_TIMEOUT_MS = 500
/** Milliseconds within which the synchronous secondary must have the point. */
const SECONDARY_TIMEOUT_MS = 5_000
const LOOK_MS = 20

export async function openPrimaries(topology: Topology, credentials: Credentials): Promise<Primaries> {
  const primaries = new Map<Group, pg.Client>()
  try {
    for (const group of topology.groups) {
      const client = await openSuperuser(topology, credentials, primaryPortOf(group.number))
      primaries.set(group, client)
      await client.query(
        `set lock_timeout = ${LOCK_TIMEOUT_MS}; set statement_timeout = ${SECONDARY_TIMEOUT_MS}`,
      )
    }
    return primaries
  } catch (error) {
    closePrimaries(primaries)
    throw error
  }
}

/** Closes the connections. Their end is not awaited, because a frozen server does not close one. */
export function closePrimaries(primaries: Primaries) {
  for (const client of primaries.values()) client.end().catch(() => {})
}

/** Creates a point, and finishes the file of each log that has it, so that it is archived at once. */
export async function createPoint(primaries: Primaries, name?: string): Promise<Point> {
  const [coordinator] = primaries.values()
  const create = primaries.size > 1 ? 'citus_create_restore_point' : 'pg_create_restore_point'
  const from = new Date().toISOString()
  await coordinator!.query(`select ${create}($1)`, [name ?? from])
  const at = new Date().toISOString()
  const files = await Promise.all(
    [...primaries].map(async ([group, client]) => [group.name, await finishFile(group, client)] as const),
  )
  return { name: name ?? from, from, at, files: Object.fromEntries(files) }
}

/**
 * Finishes the file that the log is written to, and waits until a member that can become primary has it: a point that is
 * only on a lost primary would not exist on all groups. Then it begins the next file, because gateways do not trust a
 * secondary whose log ends where a file begins; see docs/decisions/0027.
 */
async function finishFile({ name }: Group, client: pg.Client): Promise<string> {
  const { rows } = await client.query('select lsn, pg_walfile_name(lsn) as file from pg_switch_wal() lsn')
  const { lsn, file } = rows[0]
  for (const deadline = performance.now() + SECONDARY_TIMEOUT_MS; ; await sleep(LOOK_MS)) {
    const { rows } = await client.query(
      `select current_setting('synchronous_standby_names') = '' or exists (
         select from pg_stat_replication where sync_state in ('sync', 'quorum') and flush_lsn >= $1) as "isKept"`,
      [lsn],
    )
    if (rows[0].isKept) break
    if (performance.now() > deadline)
      throw new ClusterError(`No secondary of group ${name} has received the restore point.`)
  }
  await client.query("select pg_logical_emit_message(false, 'tessera', '')")
  return file
}

/** Returns a text that changes with each transaction of a group that changes something. */
export const readProgress = async (client: pg.Client): Promise<string> =>
  (await client.query('select pg_current_snapshot()::text as progress')).rows[0].progress

const pointsFolder = (repository: string) => join(repository, 'points')
const DAY = /^\d{4}-\d\d-\d\d/
const dayOf = (date: string) => DAY.exec(date)![0]

/**
 * Adds a point to the file of its day. A line of this length is written at once, even if others write, too. It begins
 * with a line break, because the line before it may be incomplete.
 */
export function keepPoint(repository: string, point: Point, account: Account | undefined) {
  const folder = pointsFolder(repository)
  const file = join(folder, `${dayOf(point.from)}.jsonl`)
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  appendFileSync(file, `\n${JSON.stringify(point)}\n`, { mode: 0o600, flush: true })
  if (account) for (const path of [folder, file]) chownSync(path, account.uid, account.gid)
}

/** Returns all points, the oldest first. A line that was not written completely is left out. */
export function readPoints(repository: string): Point[] {
  const folder = pointsFolder(repository)
  if (!existsSync(folder)) return []
  return readdirSync(folder)
    .toSorted()
    .flatMap((name) => readFileSync(join(folder, name), 'utf8').split('\n'))
    .flatMap(parsePoint)
}

function parsePoint(line: string): Point[] {
  try {
    return line === '' ? [] : [JSON.parse(line)]
  } catch {
    return []
  }
}

/** Removes the points of days before a date, to which no backup leads any more. */
export function removePointsBefore(repository: string, date: Date) {
  const folder = pointsFolder(repository)
  if (!existsSync(folder)) return
  const first = dayOf(date.toISOString())
  for (const name of readdirSync(folder)) if (dayOf(name) < first) rmSync(join(folder, name))
}

/** Returns true if the archive has a file of a group's log. pgBackRest adds a checksum and an ending to its name. */
export function isArchived(repository: string, group: string, file: string): boolean {
  const archive = join(repository, 'archive', group)
  if (!existsSync(archive)) return false
  return readdirSync(archive, { withFileTypes: true }).some((entry) => {
    const folder = join(archive, entry.name, file.slice(0, 16))
    return (
      entry.isDirectory() &&
      existsSync(folder) &&
      readdirSync(folder).some((name) => name.startsWith(`${file}-`) && !name.endsWith('.tmp'))
    )
  })
}
