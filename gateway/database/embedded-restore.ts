// Owns restoring the embedded server from its backups: which backup leads to a time, and the recovery from it.

import { existsSync } from 'node:fs'
import { chown, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { dataFolderOf, lockFolder, partialFolderOf, readProcessId, readSocket, urlOf } from './embedded.ts'
import {
  type ArchivedFile,
  type Backup,
  forgetRepository,
  HISTORY,
  handedFolderOf,
  listArchive,
  listBackups,
  openPgBackRest,
  type PgBackRest,
  type Repository,
  readHistory,
  readRepository,
  recoverySettings,
  SEGMENT,
  timelineOf,
  withWorkFolder,
  writeBackup,
} from './embedded-backup.ts'
import {
  EmbeddedError,
  endProcess,
  findInstallation,
  findOwner,
  type Installation,
  isServerOf,
  type Owner,
  startServer,
  writeAccessRules,
} from './embedded-server.ts'
import { parseLsn } from './lsn.ts'
import { openSession } from './session.ts'

export type RestoreOptions = {
  /** Folder that gets the database. One that it has already is kept aside. */
  readonly root: string
  readonly repository: Repository
  /** The time to return to; undefined for the end of the log. */
  readonly target: Date | undefined
  readonly binaries: string | undefined
  readonly path: string
  readonly report: (line: string) => void
  readonly signal: AbortSignal
}

export type Restored = {
  /** When the last change was committed that is there. */
  readonly lastChangeAt: Date
  /** Folder of the database that was here before; undefined if there was none. */
  readonly former: string | undefined
}

/** Milliseconds within which a running server must archive what it has. */
const ARCHIVE_TIMEOUT_MS = 60_000
const LOOK_MS = 50

/** A timeline of the log: a restore begins one, and its parents end where it branched off. */
export type Timeline = {
  readonly number: number
  readonly begunAt: Date
  readonly parents: readonly { readonly number: number; readonly endLsn: bigint }[]
}

/** What is restored: a backup, and the timeline along which the log is replayed after it. */
export type Choice = { readonly backup: Backup; readonly timeline: number }

/**
 * Chooses what leads to a time: the timeline that the server was on then, and the newest backup from which it comes. Pure.
 * @throws EmbeddedError if nothing leads there
 */
export function choose(
  target: Date | undefined,
  backups: readonly Backup[],
  timelines: readonly Timeline[],
): Choice {
  const isBefore = (date: Date) => target === undefined || date <= target
  const timeline = timelines.findLast(({ begunAt }) => isBefore(begunAt))
  const number = timeline?.number ?? backups[0]?.timeline ?? 1
  const leads = ({ timeline: own, endLsn }: Backup) =>
    own === number ||
    timeline?.parents.some((parent) => parent.number === own && endLsn <= parent.endLsn) === true
  const backup = backups.findLast((one) => isBefore(one.endedAt) && leads(one))
  if (backup) return { backup, timeline: number }
  const [first] = backups
  throw new EmbeddedError(
    first
      ? `No backup leads to ${target?.toISOString() ?? 'the end of the log'}; the first one ended at ${first.endedAt.toISOString()}.`
      : 'There is no backup yet; `tessera backup` creates one.',
  )
}

/** Parses what PostgreSQL notes of a timeline: a parent and the LSN of its end in each line. */
export const parseHistory = (text: string): Timeline['parents'] =>
  [...text.matchAll(/^(\d+)\t([0-9A-F]+\/[0-9A-F]+)\t/gm)].map(([, number, lsn]) => ({
    number: Number(number),
    endLsn: parseLsn(lsn!),
  }))

/** Returns the timelines that the archive knows, besides the first one, in the order of their numbers. */
const readTimelines = (pgbackrest: PgBackRest, archive: readonly ArchivedFile[]): Promise<Timeline[]> =>
  Promise.all(
    archive
      .filter(({ name }) => HISTORY.test(name))
      .map(async (file) => ({
        number: timelineOf(file.name),
        begunAt: file.archivedAt,
        parents: parseHistory(await readHistory(pgbackrest, file)),
      })),
  )

/**
 * Makes the server that runs on a folder archive what it has, so that a restore next to it has everything until now.
 * Harmless if none runs: one that was stopped has archived everything.
 */
export async function archiveNow(root: string): Promise<void> {
  const socket = await readSocket(root)
  if (socket === undefined || !existsSync(socket)) return
  const session = await openSession(urlOf(socket, 'postgres', 'postgres'), 'restore')
  try {
    const [switched] = await session.query<{ file: string }>(
      'select pg_walfile_name(pg_switch_wal() - 1) as file',
    )
    for (const deadline = performance.now() + ARCHIVE_TIMEOUT_MS; ; await sleep(LOOK_MS)) {
      const waiting = await session.query(
        `select from pg_ls_archive_statusdir() where name like '%.ready' and name <= $1 || '.ready'`,
        [switched!.file],
      )
      if (waiting.length === 0) return
      if (performance.now() > deadline)
        throw new EmbeddedError(
          `The server in ${root} does not archive its log, so that its last changes could not be restored; see ${join(root, 'postgres.log')}.`,
        )
    }
  } finally {
    await session.close()
  }
}

/**
 * Restores a database: it is there completely, or nothing has changed.
 * @throws EmbeddedError if nothing leads to the target, if a server runs here, or if the backups lack something
 */
export async function restoreEmbedded(options: RestoreOptions): Promise<Restored> {
  const { root, repository, path, signal } = options
  // The first folder that is created, if any is.
  const made = await mkdir(root, { recursive: true, mode: 0o700 })
  const isNew = made !== undefined || (await readdir(root)).length === 0
  const lock = lockFolder(root)
  if (!lock)
    throw new EmbeddedError(
      `${root} is in use by another Tessera: stop that one, or restore next to it with --into FOLDER.`,
    )
  const isOwn = (await readRepository(root))?.folder === repository.folder
  const owner = await findOwner()
  const partial = partialFolderOf(root)
  let isDone = false
  try {
    await settle(root, isOwn)
    await rm(partial, { recursive: true, force: true })
    await mkdir(partial, { mode: 0o700 })
    if (owner) await chown(partial, owner.uid, owner.gid)
    const lastChangeAt = await withWorkFolder(owner, async (workFolder) => {
      const pgbackrest = await openPgBackRest({ repository, path, owner, data: partial, workFolder })
      return fill({ ...options, pgbackrest, workFolder })
    })
    signal.throwIfAborted()
    const former = await takePlace(root, partial)
    isDone = true
    // They are those of the former database.
    if (!isOwn) await forgetRepository(root)
    return { lastChangeAt, former }
  } finally {
    if (!isDone) await rm(partial, { recursive: true, force: true })
    lock.close()
    if (!isDone && isNew) await rm(made ?? join(root, 'lock'), { recursive: true, force: true })
  }
}

/**
 * Ends what a killed Tessera has left running, and looks whether the archive has all that the database here has.
 * @throws EmbeddedError if it lacks something
 */
async function settle(root: string, isOwn: boolean) {
  const data = dataFolderOf(root)
  const pid = await readProcessId(data)
  const elsewhere = 'or restore into another folder with --into'
  if (pid !== undefined) {
    if (await isServerOf(pid, data)) await endProcess(pid)
    else if (isOwn)
      throw new EmbeddedError(
        `PostgreSQL in ${root} was not stopped, so that the backups may lack its last changes: start Tessera and stop it, ${elsewhere}.`,
      )
  }
  if (!isOwn) return
  const status = await readdir(join(data, 'pg_wal/archive_status')).catch(() => [])
  const waiting = status.filter((name) => name.endsWith('.ready')).length
  if (waiting > 0)
    throw new EmbeddedError(
      `${waiting} files of the log in ${root} are not archived yet: start Tessera, which archives them, and stop it, ${elsewhere}.`,
    )
}

/** Copies a backup into the folder of the data, and replays the log. @returns when the last change was committed */
async function fill(
  options: RestoreOptions & { readonly pgbackrest: PgBackRest; readonly workFolder: string },
): Promise<Date> {
  const { root, target, binaries, path, report, signal, pgbackrest } = options
  const archive = await listArchive(pgbackrest)
  const { backup, timeline } = choose(
    target,
    await listBackups(pgbackrest),
    await readTimelines(pgbackrest, archive),
  )
  const installation = await findInstallation(binaries, path, backup.major, root)
  report(`copying the backup of ${backup.endedAt.toISOString()} …`)
  await writeBackup(pgbackrest, backup, signal)
  report('replaying the log …')
  const log = await replay({ ...options, installation, timeline })
  if (!log.hasReachedTarget) await refuseGap(pgbackrest.data!, archive)
  return log.lastChangeAt ?? backup.endedAt
}

type Replayed = {
  /** False if the log ended before; also if there is no target. */
  readonly hasReachedTarget: boolean
  /** When the last transaction was committed that was replayed; undefined if none was. */
  readonly lastChangeAt: Date | undefined
}

/** PostgreSQL reports this, and ends, if the log has no transaction after the target. */
const TOO_EARLY = /recovery ended before configured recovery target was reached/

/** Returns a time as PostgreSQL reads it in a setting: there it knows no zones by their letters, such as Z. */
const targetOf = (time: Date) => time.toISOString().replace('Z', '+00')

/** PostgreSQL reports this at the end of each recovery that has replayed a transaction. */
const LAST_CHANGE = /last completed transaction was at log time (\S+) (\S+)\+00$/gm

/** Lets a server replay the log, become a primary on a timeline of its own, and stop. */
async function replay(
  options: RestoreOptions & {
    readonly pgbackrest: PgBackRest
    readonly workFolder: string
    readonly installation: Installation
    readonly timeline: number
  },
): Promise<Replayed> {
  const { pgbackrest, workFolder, installation, timeline, target, signal } = options
  const { data, owner, repository } = pgbackrest
  const log = join(workFolder, 'recovery.log')
  await writeAccessRules(data!, owner)
  await writeOwnedSignal(data!, owner)
  const start = (until: Readonly<Record<string, string>>) =>
    startServer({
      installation,
      data: data!,
      socket: workFolder,
      owner,
      log,
      backups: handedFolderOf(repository),
      settings: {
        ...recoverySettings(pgbackrest),
        ...until,
        wal_level: 'replica',
        archive_mode: 'off',
        hot_standby: 'off',
        recovery_target_timeline: String(timeline),
        recovery_target_action: 'promote',
      },
      // A long log takes its time.
      timeoutMs: Number.POSITIVE_INFINITY,
      signal,
    })
  let hasReachedTarget = target !== undefined
  let lines = ''
  const server = await start(target ? { recovery_target_time: targetOf(target) } : {}).catch(
    async (error) => {
      if (!TOO_EARLY.test((error as Error).message)) throw error
      hasReachedTarget = false
      lines = await readFile(log, 'utf8')
      return start({})
    },
  )
  await endProcess(server.child.pid!)
  await server.exited
  lines += await readFile(log, 'utf8')
  const times = [...lines.matchAll(LAST_CHANGE)].map(([, date, time]) => new Date(`${date}T${time}Z`))
  return { hasReachedTarget, lastChangeAt: times.at(-1) }
}

/** Lets a server begin with a recovery. */
async function writeOwnedSignal(data: string, owner: Owner | undefined) {
  const file = join(data, 'recovery.signal')
  await writeFile(file, '', { mode: 0o600 })
  if (owner) await chown(file, owner.uid, owner.gid)
}

/**
 * Compares the end of the recovery with the archive: PostgreSQL takes a file that is missing for the end of the log.
 * @throws EmbeddedError if the archive has later files of the same timeline
 */
async function refuseGap(data: string, archive: readonly ArchivedFile[]) {
  const log = join(data, 'pg_wal')
  const files = (await readdir(log)).toSorted()
  const history = await readFile(join(log, files.findLast((name) => HISTORY.test(name))!), 'utf8')
  const { number, endLsn } = parseHistory(history).at(-1)!
  const { size } = await stat(join(log, files.find((name) => SEGMENT.test(name))!))
  const last = segmentOf(number, endLsn, BigInt(size))
  const later = archive.find(({ name }) => SEGMENT.test(name) && timelineOf(name) === number && name > last)
  if (later)
    throw new EmbeddedError(
      `The archived log breaks off at ${last}, before ${later.name}. What was before ${later.archivedAt.toISOString()} can be restored with --to, as far as the log reaches; \`tessera backups --verify\` lists what is missing.`,
    )
}

/** Returns the name of the file of the log that has an LSN. */
export function segmentOf(timeline: number, lsn: bigint, bytes: bigint): string {
  const segment = lsn / bytes
  const perName = 2n ** 32n / bytes
  return [BigInt(timeline), segment / perName, segment % perName]
    .map((part) => part.toString(16).toUpperCase().padStart(8, '0'))
    .join('')
}

/** Puts the restored files into the place of those that are here. @returns the folder of these, if there are any */
async function takePlace(root: string, partial: string): Promise<string | undefined> {
  const data = dataFolderOf(root)
  if (!existsSync(data)) {
    await rename(partial, data)
    return undefined
  }
  const former = join(root, `pg.${new Date().toISOString().replaceAll(/[-:]|\.\d+/g, '')}`)
  await rename(data, former)
  try {
    await rename(partial, data)
  } catch (error) {
    await rename(former, data)
    throw error
  }
  return former
}
