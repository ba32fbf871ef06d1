// Owns the backups of the embedded server: where they are, and pgBackRest's commands on them.

import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { accessSync, constants, existsSync } from 'node:fs'
import { chown, mkdir, mkdtemp, open, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { isStore, parseStore, storeOptions } from './backup-store.ts'
import {
  asOwner,
  backupsArgument,
  cleanEnvironment,
  dataArgument,
  EmbeddedError,
  type Owner,
} from './embedded-server.ts'
import { parseLsn } from './lsn.ts'

/** Backups of a server and of its log. */
export type Repository = {
  /** A folder, or the address of a store. */
  readonly folder: string
  /** File with the settings of the store; undefined for a folder. */
  readonly store?: string | undefined
  /** File with the key that encrypts them. */
  readonly keyFile: string
  /** Number of full backups that are kept, with all that builds on them. */
  readonly kept: number
}

/** What an operator wants; what is undefined stays as it was. The folder `none` ends the backups. */
export type BackupWish = { readonly [Name in keyof Repository]-?: Repository[Name] | undefined }

/** Returns what an operator has named, as it means from everywhere. */
export const addressOf = (folder: string) => (isStore(folder) ? folder : resolve(folder))

/** Returns the folder that a program needs as a descriptor; undefined for a store. */
export const handedFolderOf = ({ folder }: Repository) => (isStore(folder) ? undefined : folder)

const NONE = 'none'
const DEFAULT_KEPT = 2
const KEY_BYTES = 48
/** pgBackRest's name of the server. */
const STANZA = 'embedded'
const ARCHIVE = `archive/${STANZA}`

/** Seconds after which a file of the log is archived although it is not full: what the loss of the machine costs. */
const ARCHIVE_TIMEOUT = '4s'
/** Processes that copy at once: more would take the processors from the server that is copied. */
const PROCESSES = 2

/** File by which a data folder's backups go on at each start: a log with a gap leads nowhere. */
const fileOf = (root: string) => join(root, 'backups.json')

/** Returns where the backups of a data folder are; undefined if it has none. */
export async function readRepository(root: string): Promise<Repository | undefined> {
  const text = await readFile(fileOf(root), 'utf8').catch(() => undefined)
  return text === undefined ? undefined : JSON.parse(text)
}

export const writeRepository = (root: string, repository: Repository) =>
  writeFile(fileOf(root), `${JSON.stringify(repository)}\n`, { mode: 0o600 })

export const forgetRepository = (root: string) => rm(fileOf(root), { force: true })

/** Returns the file of the key if an operator names none: next to the data folder, so that it survives it. */
export const defaultKeyFile = (root: string) => `${resolve(root)}-backup.key`

/**
 * Decides where a data folder's backups are from now on, and creates the folder and the key if they are missing.
 * @throws EmbeddedError if the folder has the backups of another database: even those of one that was here before, because
 * the log of a restored server goes on from the same point as that of the old one
 */
export async function settleRepository(
  root: string,
  wish: BackupWish,
  owner: Owner | undefined,
  path: string,
): Promise<Repository | undefined> {
  if (wish.folder === NONE) {
    await forgetRepository(root)
    return undefined
  }
  const known = await readRepository(root)
  const folder = wish.folder === undefined ? known?.folder : addressOf(wish.folder)
  if (folder === undefined) return undefined
  const isOwn = folder === known?.folder
  const store = wish.store ?? (isOwn ? known.store : undefined)
  const repository: Repository = {
    folder,
    store: isStore(folder) && store !== undefined ? resolve(store) : undefined,
    keyFile: resolve(wish.keyFile ?? known?.keyFile ?? defaultKeyFile(root)),
    kept: wish.kept ?? known?.kept ?? DEFAULT_KEPT,
  }
  if (!isStore(folder)) await makeFolder(root, folder, isOwn, owner)
  if (!isOwn) await claim(repository, owner, path)
  await writeRepository(root, repository)
  return repository
}

/**
 * Looks whether there is nothing yet, and creates the key if it is missing: the file of a key that nothing is encrypted with
 * would be taken for that of backups.
 */
async function claim(repository: Repository, owner: Owner | undefined, path: string) {
  const { folder, keyFile } = repository
  await withWorkFolder(owner, async (workFolder) => {
    const key = existsSync(keyFile) ? undefined : randomBytes(KEY_BYTES).toString('base64url')
    const pgbackrest = await openPgBackRest({ repository, path, owner, data: undefined, workFolder, key })
    if ((await run(pgbackrest, ['repo-ls', 'archive'])).trim() !== '')
      throw new EmbeddedError(`${folder} has the backups of another database; choose another folder.`)
    if (key !== undefined) await writeFile(keyFile, `${key}\n`, { mode: 0o600, flag: 'wx' })
  })
}

async function makeFolder(root: string, folder: string, isOwn: boolean, owner: Owner | undefined) {
  if (!relative(resolve(root), folder).startsWith('..'))
    throw new EmbeddedError(`${folder} is within ${root}, which it is to survive; choose another folder.`)
  if (isOwn && !existsSync(folder))
    throw new EmbeddedError(`${folder} is missing, which has the backups; --backup-to names another folder.`)
  if (!existsSync(folder)) {
    await mkdir(dirname(folder), { recursive: true })
    await mkdir(folder, { mode: 0o700 })
  }
  if (owner) await chown(folder, owner.uid, owner.gid)
}

/** pgBackRest on the backups of one server. */
export type PgBackRest = {
  readonly repository: Repository
  readonly program: string
  readonly configuration: string
  readonly owner: Owner | undefined
  /** Folder of the server's files; undefined if the backups are only listed. */
  readonly data: string | undefined
}

const configurationIn = (workFolder: string) => join(workFolder, 'pgbackrest.conf')

export type PgBackRestOptions = Pick<PgBackRest, 'repository' | 'owner' | 'data'> & {
  /** The variable PATH, in which the program is looked for. */
  readonly path: string
  /** Folder of its configuration and its locks, which its account can enter. */
  readonly workFolder: string
  /** Folder of the socket of the server; undefined if it does not run. */
  readonly socket?: string
  /** The key of the backups; by default that of their file. */
  readonly key?: string | undefined
}

/**
 * Writes pgBackRest's configuration.
 * @throws EmbeddedError if it is not installed, or if the key or the settings of the store cannot be read
 */
export async function openPgBackRest(options: PgBackRestOptions): Promise<PgBackRest> {
  const { repository, path, owner, data, workFolder } = options
  const configuration = configurationIn(workFolder)
  const program = findPgBackRest(path)
  const key = options.key ?? (await readFile(repository.keyFile, 'utf8').catch(() => '')).trim()
  if (!/^\S+$/.test(key))
    throw new EmbeddedError(
      `${repository.keyFile} must have the key of the backups, one line without spaces; --backup-key FILE names another one.`,
    )
  const write = async (file: string, text: string) => {
    await writeFile(file, text, { mode: 0o600 })
    if (owner) await chown(file, owner.uid, owner.gid)
  }
  await write(configuration, render(options, key, await readPlace(repository, owner, workFolder, write)))
  return { repository, program, configuration, owner, data }
}

/** Creates a folder that the account of pgBackRest can enter, for as long as `work` needs it. */
export async function withWorkFolder<T>(
  owner: Owner | undefined,
  work: (workFolder: string) => Promise<T>,
): Promise<T> {
  const workFolder = await mkdtemp(join(tmpdir(), 'tessera-'))
  try {
    if (owner) await chown(workFolder, owner.uid, owner.gid)
    return await work(workFolder)
  } finally {
    await rm(workFolder, { recursive: true, force: true })
  }
}

/** Opens pgBackRest as a server that runs uses it, too. @throws EmbeddedError if that server has no backups */
export async function joinPgBackRest(
  options: Pick<PgBackRest, 'owner' | 'data'> & Record<'root' | 'socket' | 'path', string>,
): Promise<PgBackRest> {
  const { root, socket, owner, data, path } = options
  const repository = await readRepository(root)
  const configuration = configurationIn(socket)
  if (!repository || !existsSync(configuration))
    throw new EmbeddedError(
      `The database in ${root} has no backups: start Tessera with --backup-to FOLDER, which archives its log there.`,
    )
  return { repository, program: findPgBackRest(path), configuration, owner, data }
}

/** Returns the options that say where the backups are. @param write writes a file that pgBackRest can read */
async function readPlace(
  { folder, store }: Repository,
  owner: Owner | undefined,
  workFolder: string,
  write: (file: string, text: string) => Promise<void>,
): Promise<Readonly<Record<string, string>>> {
  if (!isStore(folder)) return { 'repo1-path': backupsArgument(owner, folder) }
  if (store === undefined)
    throw new EmbeddedError(
      `${folder} needs a file with its endpoint and its credentials: --backup-store FILE.`,
    )
  const read = (file: string) =>
    readFile(file, 'utf8').catch((cause) => {
      throw new EmbeddedError(`${file}: cannot be read (${cause.code}).`, { cause })
    })
  const settings = parseStore(folder, store, await read(store))
  if (settings.ca === undefined) return storeOptions(settings, undefined)
  const ca = join(workFolder, 'store-ca.pem')
  await write(ca, await read(resolve(dirname(store), settings.ca)))
  return storeOptions(settings, ca)
}

function render(
  { repository, owner, data, workFolder, socket }: PgBackRestOptions,
  key: string,
  place: Readonly<Record<string, string>>,
): string {
  const options = {
    ...place,
    'repo1-cipher-type': 'aes-256-cbc',
    'repo1-cipher-pass': key,
    // Small files are stored together; each would be a file of the folder otherwise.
    'repo1-bundle': 'y',
    'repo1-retention-full': repository.kept,
    'compress-type': 'zst',
    'process-max': PROCESSES,
    // A backup begins at once, and does not wait minutes for the next checkpoint.
    'start-fast': 'y',
    'lock-path': workFolder,
    'log-level-file': 'off',
    'log-level-console': 'off',
    'log-level-stderr': 'warn',
    'log-timestamp': 'n',
  }
  const server = {
    ...(data === undefined ? {} : { 'pg1-path': dataArgument(owner, data) }),
    ...(socket === undefined ? {} : { 'pg1-socket-path': socket, 'pg1-user': 'postgres' }),
  }
  const lines = (section: object) => Object.entries(section).map(([name, value]) => `${name}=${value}`)
  return ['[global]', ...lines(options), '', `[${STANZA}]`, ...lines(server), ''].join('\n')
}

function findPgBackRest(path: string): string {
  const found = [...path.split(':'), '/usr/bin']
    .map((folder) => join(folder, 'pgbackrest'))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK)
        return true
      } catch {
        return false
      }
    })
  if (found) return found
  throw new EmbeddedError(
    'pgBackRest is missing, with which backups are made and the log is archived. On Debian and Ubuntu: apt-get install pgbackrest. --backup-to none starts without backups.',
  )
}

const quote = (word: string) => `'${word.replaceAll("'", `'\\''`)}'`

/** Returns a command of pgBackRest that PostgreSQL runs, which replaces %p and %f. */
const shellCommand = ({ program, configuration }: PgBackRest, words: string) =>
  `${[program, `--config=${configuration}`, `--stanza=${STANZA}`].map((word) => quote(word).replaceAll('%', '%%')).join(' ')} ${words}`

/** Returns the settings with which a server archives its log. */
export const archivingSettings = (pgbackrest: PgBackRest): Readonly<Record<string, string>> => ({
  wal_level: 'replica',
  archive_mode: 'on',
  archive_timeout: ARCHIVE_TIMEOUT,
  archive_command: shellCommand(pgbackrest, 'archive-push "%p"'),
})

/** Returns the setting with which a server reads the archived log. */
export const recoverySettings = (pgbackrest: PgBackRest): Readonly<Record<string, string>> => ({
  restore_command: shellCommand(pgbackrest, 'archive-get "%f" "%p"'),
})

/** Runs a command of pgBackRest, and returns what it writes. @throws EmbeddedError with its report if it fails */
async function run(pgbackrest: PgBackRest, args: readonly string[], signal?: AbortSignal): Promise<string> {
  const { program, configuration, repository, owner, data } = pgbackrest
  const folders = await Promise.all(
    [data, handedFolderOf(repository)].map((folder) =>
      folder === undefined ? undefined : open(folder, 'r'),
    ),
  )
  try {
    const child = spawn(program, [`--config=${configuration}`, `--stanza=${STANZA}`, ...args], {
      cwd: '/',
      // Only this: variables of pgBackRest's own would replace the configuration.
      env: { ...cleanEnvironment, HOME: '/' },
      stdio: ['ignore', 'pipe', 'pipe', ...folders.map((folder) => folder?.fd ?? ('ignore' as const))],
      // Ctrl-C reaches only Tessera, which ends it in order.
      detached: true,
      ...(signal ? { signal } : {}),
      ...asOwner(owner),
    })
    const ended = new Promise<number | null>((resolve, reject) => {
      // One that was started and is aborted also reports that it has ended.
      child.once('error', (error) => {
        if (child.pid === undefined) reject(error)
      })
      child.once('close', resolve)
    })
    const [code, output, errors] = await Promise.all([ended, buffer(child.stdout!), buffer(child.stderr!)])
    signal?.throwIfAborted()
    if (code === 0) return output.toString()
    throw new EmbeddedError(
      `pgBackRest could not ${args[0]}: ${errors.toString().trim() || `it ended with ${code}`}`,
    )
  } finally {
    await Promise.all(folders.map((folder) => folder?.close()))
  }
}

/** Prepares the archive of a server that runs. @returns false if there is no backup yet */
export async function beginArchive(pgbackrest: PgBackRest, signal: AbortSignal): Promise<boolean> {
  const infos = await readInfos(pgbackrest, signal)
  if (infos.some(({ status }) => UNPREPARED.includes(status.code)))
    await run(pgbackrest, ['stanza-create'], signal)
  await archiveHistory(pgbackrest, signal)
  return infos.some(({ backup = [] }) => backup.length > 0)
}

/** Pushes the histories of timelines that the archive lacks: a restore creates one, while the server does not archive. */
async function archiveHistory(pgbackrest: PgBackRest, signal: AbortSignal) {
  const data = pgbackrest.data!
  const own = (await readdir(join(data, 'pg_wal'))).filter((name) => HISTORY.test(name))
  if (own.length === 0) return
  const archived = new Set((await listArchive(pgbackrest, signal)).map(({ name }) => name))
  for (const name of own.filter((name) => !archived.has(name)))
    await run(pgbackrest, ['archive-push', `${dataArgument(pgbackrest.owner, data)}/pg_wal/${name}`])
}

/** A backup. */
export type Backup = {
  /** pgBackRest's name of it. */
  readonly label: string
  readonly type: string
  readonly startedAt: Date
  readonly endedAt: Date
  readonly timeline: number
  readonly endLsn: bigint
  /** Major version of PostgreSQL. */
  readonly major: number
  /** Bytes of the database, and what this backup added to the folder. */
  readonly databaseBytes: number
  readonly addedBytes: number
}

/** @returns the new backup. @param isFull true to copy everything, and not what has changed since the last one */
export async function backUp(pgbackrest: PgBackRest, isFull: boolean, signal: AbortSignal): Promise<Backup> {
  await run(pgbackrest, ['backup', `--type=${isFull ? 'full' : 'incr'}`], signal)
  return (await listBackups(pgbackrest)).at(-1)!
}

type Info = {
  readonly status: { readonly code: number; readonly message: string }
  readonly db?: readonly { readonly id: number; readonly version: string }[]
  readonly backup?: readonly {
    readonly label: string
    readonly type: string
    readonly database: { readonly id: number }
    readonly timestamp: { readonly start: number; readonly stop: number }
    readonly archive: { readonly stop: string }
    readonly lsn: { readonly stop: string }
    readonly info: { readonly size: number; readonly repository: { readonly delta: number } }
  }[]
}

/** pgBackRest's codes for a place that has no backups and no log yet, and for one that it cannot read. */
const UNPREPARED: readonly number[] = [1, 3]
const UNREADABLE = 99

/** @throws EmbeddedError if the backups cannot be read, for example with this key */
async function readInfos(pgbackrest: PgBackRest, signal?: AbortSignal): Promise<readonly Info[]> {
  const text = await run(pgbackrest, ['info', '--output=json'], signal)
  // pgBackRest does not escape what is in a message, such as line breaks.
  const infos: Info[] = JSON.parse(text.replaceAll(/\p{Cc}+/gu, ' '))
  for (const { status } of infos)
    if (status.code === UNREADABLE)
      throw new EmbeddedError(`The backups cannot be read, perhaps with another key: ${status.message}`)
  return infos
}

/** Returns the backups, in the order of time. @throws EmbeddedError if they cannot be read, for example with this key */
export async function listBackups(pgbackrest: PgBackRest): Promise<readonly Backup[]> {
  const infos = await readInfos(pgbackrest)
  return infos.flatMap(({ db = [], backup = [] }) =>
    backup.map(({ label, type, database, timestamp, archive, lsn, info }) => ({
      label,
      type,
      startedAt: new Date(timestamp.start * 1_000),
      endedAt: new Date(timestamp.stop * 1_000),
      timeline: timelineOf(archive.stop),
      endLsn: parseLsn(lsn.stop),
      major: Number.parseInt(db.find(({ id }) => id === database.id)!.version, 10),
      databaseBytes: info.size,
      addedBytes: info.repository.delta,
    })),
  )
}

/** A file of the archived log: its name as PostgreSQL gave it, and when it was archived. */
export type ArchivedFile = { readonly name: string; readonly path: string; readonly archivedAt: Date }

export const HISTORY = /^[0-9A-F]{8}\.history$/
export const SEGMENT = /^[0-9A-F]{24}$/
/** Returns the timeline with which the name of a file of the log begins. */
export const timelineOf = (name: string) => Number.parseInt(name.slice(0, 8), 16)

/** Returns the files of the archived log, in the order of their names. */
export async function listArchive(
  pgbackrest: PgBackRest,
  signal?: AbortSignal,
): Promise<readonly ArchivedFile[]> {
  const listed: Record<string, { readonly type: string; readonly time?: number }> = JSON.parse(
    await run(pgbackrest, ['repo-ls', '--recurse', '--output=json', ARCHIVE], signal),
  )
  return Object.entries(listed)
    .map(([path, { time = 0 }]) => ({
      // pgBackRest adds a checksum and an ending to the name of a segment.
      name: path.split('/').at(-1)!.replace(/-.*/, ''),
      path: `${ARCHIVE}/${path}`,
      archivedAt: new Date(time * 1_000),
    }))
    .filter(({ name }) => HISTORY.test(name) || SEGMENT.test(name))
    .toSorted((one, other) => (one.name < other.name ? -1 : 1))
}

/** Returns the history of a timeline: from which ones it comes, and up to which LSN. */
export const readHistory = (pgbackrest: PgBackRest, { path }: ArchivedFile): Promise<string> =>
  run(pgbackrest, ['repo-get', path])

/** Writes a backup into the data folder, without its log. */
export const writeBackup = async (
  pgbackrest: PgBackRest,
  { label }: Backup,
  signal: AbortSignal,
): Promise<void> => {
  await run(pgbackrest, ['restore', `--set=${label}`, '--type=none'], signal)
}

/** Reads every file of the backups and of the log. @returns what is wrong; empty if nothing is */
export async function verifyBackups(pgbackrest: PgBackRest, signal: AbortSignal): Promise<string> {
  const found = await run(pgbackrest, ['verify', '--output=text', '--verbose'], signal)
  return /status: ok/.test(found) ? '' : found.trim()
}
