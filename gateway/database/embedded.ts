// Owns the private PostgreSQL with PostGIS that runs as a child process if no database is configured.

import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, chown, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { promisify } from 'node:util'
import type { Emit } from '../events.ts'
import {
  archivingSettings,
  type BackupWish,
  beginArchive,
  handedFolderOf,
  openPgBackRest,
  readRepository,
  settleRepository,
} from './embedded-backup.ts'
import {
  dataArgument,
  EmbeddedError,
  endProcess,
  findInstallation,
  findOwner,
  type Installation,
  isServerOf,
  lastLines,
  type Owner,
  type ROLES,
  readMajor,
  type Server,
  spawnServerProgram,
  startServer,
  writeAccessRules,
} from './embedded-server.ts'
import { openSession } from './session.ts'

const run = promisify(execFile)

export type EmbeddedOptions = {
  /** Folder of the data; undefined for a temporary one that is removed at the end. */
  readonly folder: string | undefined
  /** Folder of PostgreSQL's programs; undefined to find the newest version that has PostGIS. */
  readonly binaries: string | undefined
  readonly path: string
  /** What an operator wants of backups; otherwise they go on as before. */
  readonly backups: BackupWish
  /** True if the server that another Tessera runs on this folder may be used, as for an import next to a gateway. */
  readonly canShare: boolean
  readonly emit: Emit
}

export interface Embedded {
  readonly readUrl: string
  readonly writeUrl: string
  readonly ownerUrl: string
  /** Folder of the socket. */
  readonly socket: string
  /** Resolves only if PostgreSQL ends although `stop` was not called. */
  readonly died: Promise<void>
  /** Stops PostgreSQL cleanly and leaves no process, socket or lock. */
  stop(): Promise<void>
}

const DATABASE = 'tessera'
const BOOTSTRAP = new URL('../../sql/bootstrap/roles.sql', import.meta.url)

/** MiB of a file of the log of a server with backups: one is archived every few seconds, and its rest is zeros. */
const ARCHIVED_SEGMENT_MIB = '4'

/** Returns the folder of the running server's socket; undefined if no server runs. */
export const readSocket = (root: string): Promise<string | undefined> =>
  readFile(join(root, 'socket'), 'utf8').catch(() => undefined)

/** Returns the folder of the server's files. */
export const dataFolderOf = (root: string) => join(root, 'pg')
/** Returns the folder of a server that is not complete; the next start removes what a killed process has left of it. */
export const partialFolderOf = (root: string) => join(root, 'pg.partial')

/**
 * Starts the server.
 * @throws EmbeddedError if the folder is in use or holds data of another version, or if no PostGIS is installed
 */
export async function startEmbedded({
  folder,
  binaries,
  path,
  canShare,
  backups,
  emit,
}: EmbeddedOptions): Promise<Embedded> {
  const start = performance.now()
  const root = folder ?? (await mkdtemp(join(tmpdir(), 'tessera-data-')))
  await mkdir(root, { recursive: true })
  // The folder of an earlier version was open to other accounts, and so was the log with rows in it.
  await chmod(root, 0o700)
  const isEphemeral = folder === undefined
  const lock = lockFolder(root)
  if (!lock) {
    const socket = await readSocket(root)
    if (canShare && socket) return { ...urlsOf(socket), died: new Promise(() => {}), stop: async () => {} }
    throw new EmbeddedError(
      `${root} is in use by another Tessera. Stop that one, or give this one a folder of its own with --data DIR.`,
    )
  }
  const socket = await mkdtemp(join(tmpdir(), 'tessera-'))
  /** Leaves the folder to the next start, without what only a running server needs. */
  const leave = async () => {
    await rm(socket, { recursive: true, force: true })
    await rm(join(root, 'socket'), { force: true })
    lock.close()
    if (isEphemeral) await rm(root, { recursive: true, force: true })
  }
  let server: Server | undefined
  /** What prepares the archive, and what ends that. */
  let beginning: Promise<void> | undefined
  const stopping = new AbortController()
  const end = async ({ child, exited }: Server) => {
    stopping.abort()
    await beginning?.catch(() => {})
    await endProcess(child.pid!)
    await exited
  }
  try {
    const data = dataFolderOf(root)
    const installation = await findInstallation(binaries, path, await readMajor(data), root)
    const owner = await findOwner()
    emit({ type: 'embedded-starting', folder: root, binaries: installation.binaries })
    await recover(root, data, emit)
    const known = await readRepository(root)
    const repository = isEphemeral ? undefined : await settleRepository(root, backups, owner, path)
    const isNew = repository?.folder !== known?.folder
    if (!existsSync(data)) await initialize(installation, root, owner, isEphemeral, repository !== undefined)
    await writeAccessRules(data, owner)

    await writeFile(join(root, 'socket'), socket, { mode: 0o600 })
    await chmod(socket, 0o700)
    if (owner) await chown(socket, owner.uid, owner.gid)

    const pgbackrest =
      repository && (await openPgBackRest({ repository, path, owner, data, workFolder: socket, socket }))
    const log = join(root, 'postgres.log')
    server = await startServer({
      installation,
      data,
      socket,
      owner,
      log,
      backups: repository && handedFolderOf(repository),
      settings: {
        // An embedded server is not replicated; at this level COPY into a new table skips the log.
        ...(pgbackrest ? archivingSettings(pgbackrest) : { wal_level: 'minimal' }),
        ...(isEphemeral ? { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' } : {}),
      },
    })
    await bootstrap(socket)
    emit({ type: 'embedded-started', socket, milliseconds: performance.now() - start })
    if (pgbackrest) {
      const { folder } = pgbackrest.repository
      beginning = beginArchive(pgbackrest, stopping.signal).then(
        (hasBackups) => emit({ type: 'embedded-archiving', folder, hasBackups }),
        (error) => {
          if (isNew) throw error
          // The server keeps its log until the archive takes it.
          if (!stopping.signal.aborted) emit({ type: 'archive-missing', folder, error })
        },
      )
      // A store that does not answer must not keep the server from serving; a new one must have answered.
      if (isNew) await beginning
    }

    const started = server
    let isStopping = false
    const died = new Promise<void>((resolve) => {
      started.exited.then(async ({ code, signal }) => {
        if (isStopping) return
        emit({ type: 'embedded-died', code, signal, log: await lastLines(log) })
        resolve()
      })
    })
    return {
      ...urlsOf(socket),
      died,
      async stop() {
        const stopStart = performance.now()
        isStopping = true
        await end(started)
        await leave()
        emit({ type: 'embedded-stopped', milliseconds: performance.now() - stopStart })
      },
    }
  } catch (error) {
    if (server) await end(server)
    await leave()
    throw error
  }
}

export const urlOf = (socket: string, role: (typeof ROLES)[number], database = DATABASE) =>
  `postgresql://${role}@/${database}?host=${encodeURIComponent(socket)}`

const urlsOf = (socket: string) => ({
  socket,
  readUrl: urlOf(socket, 'tessera_read'),
  writeUrl: urlOf(socket, 'tessera_write'),
  ownerUrl: urlOf(socket, 'tessera_owner'),
})

/**
 * Takes an exclusive lock on the folder, which the kernel releases with the process, however it ends; returns
 * undefined if another process has it. Through SQLite, Node gets a file lock that holds on every system and
 * across containers.
 */
export function lockFolder(root: string): DatabaseSync | undefined {
  const lock = new DatabaseSync(join(root, 'lock'), { timeout: 0 })
  try {
    lock.exec('pragma journal_mode = memory; begin exclusive')
    return lock
  } catch {
    lock.close()
    return undefined
  }
}

/**
 * Removes what a killed Tessera has left behind: its PostgreSQL, the pid file, the socket and a folder that initdb has
 * not completed. The caller must hold the lock.
 */
async function recover(root: string, data: string, emit: Emit) {
  const socket = await readSocket(root)
  const pidFile = join(data, 'postmaster.pid')
  const pid = await readProcessId(data)
  if (pid !== undefined) {
    if (await isServerOf(pid, data)) {
      emit({ type: 'embedded-recovered', folder: root, processId: pid })
      await endProcess(pid)
    }
    // The pid file is stale by now: its process is gone, or another program has the number.
    await rm(pidFile, { force: true })
  }
  if (socket?.startsWith(join(tmpdir(), 'tessera-'))) await rm(socket, { recursive: true, force: true })
  await rm(partialFolderOf(root), { recursive: true, force: true })
}

/** Returns the process id that a server has noted in its folder; undefined if it was stopped cleanly, or never ran. */
export async function readProcessId(data: string): Promise<number | undefined> {
  const pid = Number.parseInt(await readFile(join(data, 'postmaster.pid'), 'utf8').catch(() => ''), 10)
  return Number.isInteger(pid) ? pid : undefined
}

/** Creates the data folder under another name next to its final one, and renames it when it is complete. */
async function initialize(
  { binaries }: Installation,
  root: string,
  owner: Owner | undefined,
  isEphemeral: boolean,
  isArchived: boolean,
) {
  const partial = partialFolderOf(root)
  await mkdir(partial, { mode: 0o700 })
  if (owner) await chown(partial, owner.uid, owner.gid)
  const args = [
    '--pgdata',
    dataArgument(owner, partial),
    '--username=postgres',
    '--auth=reject',
    '--encoding=UTF8',
  ]
  args.push('--locale=C.UTF-8', '--data-checksums', '--no-instructions')
  if (isArchived) args.push(`--wal-segsize=${ARCHIVED_SEGMENT_MIB}`)
  if (isEphemeral || owner) args.push('--no-sync')
  const log = join(root, 'postgres.log')
  const { exited } = await spawnServerProgram(join(binaries, 'initdb'), args, partial, log, owner)
  if ((await exited).code !== 0) throw new EmbeddedError(`initdb failed:\n${await lastLines(log)}`)
  if (!isEphemeral) await run('sync', ['-f', partial]).catch(() => {})
  await rename(partial, dataFolderOf(root))
}

/** Creates roles, extension and database; every statement may be repeated. */
async function bootstrap(socket: string) {
  const server = await openSession(urlOf(socket, 'postgres', 'postgres'), 'bootstrap')
  try {
    const found = await server.query('select from pg_database where datname = $1', [DATABASE])
    if (found.length === 0) await server.query(`create database ${DATABASE}`)
  } finally {
    await server.close()
  }
  const database = await openSession(urlOf(socket, 'postgres'), 'bootstrap')
  try {
    await database.query(await readFile(BOOTSTRAP, 'utf8'))
  } finally {
    await database.close()
  }
}
