// Owns the private PostgreSQL with PostGIS that runs as a child process if no database is configured.

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { existsSync, globSync } from 'node:fs'
import {
  chmod,
  chown,
  mkdir,
  mkdtemp,
  open,
  readFile,
  readlink,
  realpath,
  rename,
  rm,
  writeFile,
} from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { delimiter, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { UserError } from '../errors.ts'
import type { Emit } from '../events.ts'
import { openSession } from './session.ts'

const run = promisify(execFile)

export type EmbeddedOptions = {
  /** Folder of the data; undefined for a temporary one that is removed at the end. */
  readonly folder: string | undefined
  /** Folder of PostgreSQL's programs; undefined to find the newest version that has PostGIS. */
  readonly binaries: string | undefined
  readonly path: string
  /** True if the server that another Tessera runs on this folder may be used, as for an import next to a gateway. */
  readonly canShare: boolean
  readonly emit: Emit
}

export interface Embedded {
  readonly readUrl: string
  readonly writeUrl: string
  readonly ownerUrl: string
  /** Resolves only if PostgreSQL ends although `stop` was not called. */
  readonly died: Promise<void>
  /** Stops PostgreSQL cleanly and leaves no process, socket or lock. */
  stop(): Promise<void>
}

/** The embedded server cannot run. */
export class EmbeddedError extends UserError {}

const OLDEST_MAJOR = 15
const DATABASE = 'tessera'
const ROLES = ['postgres', 'tessera_owner', 'tessera_write', 'tessera_read'] as const
const BOOTSTRAP = new URL('../../sql/bootstrap/roles.sql', import.meta.url)

/** Longest start: crash recovery after a large import takes a while; beyond this time something else is wrong. */
const START_TIMEOUT_MS = 120_000
/** Longest fast shutdown, which writes a checkpoint; after this time an immediate shutdown follows, which is safe. */
const STOP_TIMEOUT_MS = 30_000

/**
 * Path under which a child process reaches the folder that it gets as file descriptor 3, even if it may not
 * traverse the folders above: root's clone of Tessera is usually in a home folder that is closed to others.
 */
const HANDED_FOLDER = '/proc/self/fd/3'

/**
 * Starts the server.
 * @throws EmbeddedError if the folder is in use or holds data of another version, or if no PostGIS is installed
 */
export async function startEmbedded({
  folder,
  binaries,
  path,
  canShare,
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
    const socket = await readFile(join(root, 'socket'), 'utf8').catch(() => undefined)
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
  try {
    const data = join(root, 'pg')
    const installation = await findInstallation(binaries, path, await readMajor(data), root)
    const owner = await findOwner()
    emit({ type: 'embedded-starting', folder: root, binaries: installation.binaries })
    await recover(root, data, emit)
    if (!existsSync(data)) await initialize(installation, root, data, owner, isEphemeral)
    await writeAccessRules(data, owner)

    await writeFile(join(root, 'socket'), socket, { mode: 0o600 })
    await chmod(socket, 0o700)
    if (owner) await chown(socket, owner.uid, owner.gid)

    server = await startServer(installation, root, data, socket, owner, isEphemeral)
    await bootstrap(socket)
    emit({ type: 'embedded-started', socket, milliseconds: performance.now() - start })

    const { child, exited } = server
    let isStopping = false
    const died = new Promise<void>((resolve) => {
      exited.then(async ({ code, signal }) => {
        if (isStopping) return
        emit({ type: 'embedded-died', code, signal, log: await lastLines(join(root, 'postgres.log')) })
        resolve()
      })
    })
    return {
      ...urlsOf(socket),
      died,
      async stop() {
        const stopStart = performance.now()
        isStopping = true
        await endProcess(child.pid!)
        await exited
        await leave()
        emit({ type: 'embedded-stopped', milliseconds: performance.now() - stopStart })
      },
    }
  } catch (error) {
    if (server) await endProcess(server.child.pid!)
    await leave()
    throw error
  }
}

const urlOf = (socket: string, role: (typeof ROLES)[number], database = DATABASE) =>
  `postgresql://${role}@/${database}?host=${encodeURIComponent(socket)}`

const urlsOf = (socket: string) => ({
  readUrl: urlOf(socket, 'tessera_read'),
  writeUrl: urlOf(socket, 'tessera_write'),
  ownerUrl: urlOf(socket, 'tessera_owner'),
})

/**
 * Takes an exclusive lock on the folder, which the kernel releases with the process, however it ends; returns
 * undefined if another process has it. Through SQLite, Node gets a file lock that holds on every system and
 * across containers.
 */
function lockFolder(root: string): DatabaseSync | undefined {
  const lock = new DatabaseSync(join(root, 'lock'), { timeout: 0 })
  try {
    lock.exec('pragma journal_mode = memory; begin exclusive')
    return lock
  } catch {
    lock.close()
    return undefined
  }
}

type Installation = { readonly binaries: string; readonly major: number }

async function findInstallation(
  wanted: string | undefined,
  path: string,
  dataMajor: number | undefined,
  root: string,
): Promise<Installation> {
  const places = wanted
    ? [wanted]
    : [
        ...globSync([
          '/usr/lib/postgresql/*/bin',
          '/usr/pgsql-*/bin',
          '/opt/homebrew/opt/postgresql@*/bin',
          '/usr/local/opt/postgresql@*/bin',
          '/Applications/Postgres.app/Contents/Versions/*/bin',
        ]),
        ...path.split(delimiter),
      ]
  const found: Installation[] = []
  for (const binaries of new Set(places.filter((place) => existsSync(join(place, 'postgres'))))) {
    const installation = await inspectInstallation(binaries)
    if (installation) found.push(installation)
  }
  found.sort((a, b) => b.major - a.major)
  const best = dataMajor === undefined ? found[0] : found.find(({ major }) => major === dataMajor)
  if (best) return best
  if (dataMajor !== undefined && found.length > 0) {
    throw new EmbeddedError(
      `${root} holds data of PostgreSQL ${dataMajor}, but PostGIS is installed for ${found.map(({ major }) => major).join(', ')}. ` +
        `Install PostgreSQL ${dataMajor} with PostGIS, move the data with pg_upgrade, or start afresh with --data DIR.`,
    )
  }
  throw new EmbeddedError(
    `No PostgreSQL ≥ ${OLDEST_MAJOR} with PostGIS found${wanted ? ` in ${wanted}` : ''}. ` +
      'On Debian and Ubuntu: apt-get install postgresql postgresql-15-postgis-3 (or a newer number); on macOS: brew install postgis. ' +
      'If it is in an unusual place, name it with --pg-bin DIR or PG_CONFIG. Or run it all in containers: docker compose up.',
  )
}

/** Returns the installation in a folder; undefined if it is too old or has no PostGIS. */
async function inspectInstallation(binaries: string): Promise<Installation | undefined> {
  try {
    const { stdout: version } = await run(join(binaries, 'postgres'), ['--version'])
    const major = Number(/(\d+)/.exec(version)?.[1])
    const { stdout: share } = await run(join(binaries, 'pg_config'), ['--sharedir'])
    const hasPostgis = existsSync(join(share.trim(), 'extension', 'postgis.control'))
    return major >= OLDEST_MAJOR && hasPostgis ? { binaries, major } : undefined
  } catch {
    return undefined
  }
}

/** Returns the folder of PostgreSQL's programs to which a `pg_config` belongs. */
export async function binariesOf(pgConfig: string): Promise<string> {
  const { stdout } = await run(pgConfig, ['--bindir']).catch((cause) => {
    throw new EmbeddedError(`PG_CONFIG=${pgConfig}: must be a pg_config program (${cause.message.trim()}).`, {
      cause,
    })
  })
  return stdout.trim()
}

async function readMajor(data: string): Promise<number | undefined> {
  const version = await readFile(join(data, 'PG_VERSION'), 'utf8').catch(() => undefined)
  return version === undefined ? undefined : Number.parseInt(version, 10)
}

type Owner = { readonly uid: number; readonly gid: number }

/** Returns the account to run PostgreSQL as if this process is root, which PostgreSQL refuses; otherwise undefined. */
async function findOwner(): Promise<Owner | undefined> {
  if (process.getuid?.() !== 0) return undefined
  const accounts = (await readFile('/etc/passwd', 'utf8')).split('\n').map((line) => line.split(':'))
  for (const name of ['postgres', 'nobody']) {
    const account = accounts.find((fields) => fields[0] === name)
    if (account) return { uid: Number(account[2]), gid: Number(account[3]) }
  }
  throw new EmbeddedError(
    'PostgreSQL does not run as root, and there is no user postgres or nobody to run it as.',
  )
}

/**
 * Removes what a killed Tessera has left behind: its PostgreSQL, the pid file, the socket and a folder that initdb has
 * not completed. The caller must hold the lock.
 */
async function recover(root: string, data: string, emit: Emit) {
  const socket = await readFile(join(root, 'socket'), 'utf8').catch(() => undefined)
  const pidFile = join(data, 'postmaster.pid')
  const pid = Number.parseInt(await readFile(pidFile, 'utf8').catch(() => ''), 10)
  if (Number.isInteger(pid)) {
    if (await isServerOf(pid, data)) {
      emit({ type: 'embedded-recovered', folder: root, processId: pid })
      await endProcess(pid)
    }
    // The pid file is stale by now: its process is gone, or another program has the number.
    await rm(pidFile, { force: true })
  }
  if (socket?.startsWith(join(tmpdir(), 'tessera-'))) await rm(socket, { recursive: true, force: true })
  await rm(join(root, 'pg.partial'), { recursive: true, force: true })
}

/** Returns true if the process is PostgreSQL on this very folder; its number may belong to another program by now. */
async function isServerOf(pid: number, data: string): Promise<boolean> {
  try {
    return (await readlink(`/proc/${pid}/cwd`)) === (await realpath(data))
  } catch {
    const { stdout } = await run('ps', ['-o', 'args=', '-p', String(pid)]).catch(() => ({ stdout: '' }))
    return stdout.includes('postgres') && stdout.includes(data)
  }
}

const isAlive = (pid: number) => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** Ends PostgreSQL with SIGINT, its fast shutdown, then with SIGQUIT, its immediate one, from which it recovers. */
async function endProcess(pid: number) {
  for (const signal of ['SIGINT', 'SIGQUIT'] as const) {
    const deadline = performance.now() + STOP_TIMEOUT_MS
    try {
      process.kill(pid, signal)
    } catch {
      return
    }
    while (isAlive(pid) && performance.now() < deadline) await sleep(10)
    if (!isAlive(pid)) return
  }
  throw new EmbeddedError(`PostgreSQL (process ${pid}) does not end.`)
}

const asOwner = (owner: Owner | undefined) => (owner ? { uid: owner.uid, gid: owner.gid } : {})
const dataArgument = (owner: Owner | undefined, data: string) => (owner ? HANDED_FOLDER : data)
/** Environment of the child, with nothing of the caller's: a PGDATA or PGPORT there must not reach it. */
const cleanEnvironment = { PATH: '/usr/bin:/bin', TZ: 'UTC', LC_ALL: 'C.UTF-8' }

/** Creates the data folder under another name next to its final one, and renames it when it is complete. */
async function initialize(
  { binaries }: Installation,
  root: string,
  data: string,
  owner: Owner | undefined,
  isEphemeral: boolean,
) {
  const partial = join(root, 'pg.partial')
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
  if (isEphemeral || owner) args.push('--no-sync')
  const log = join(root, 'postgres.log')
  const { exited } = await spawnServerProgram(join(binaries, 'initdb'), args, partial, log, owner)
  if ((await exited).code !== 0) throw new EmbeddedError(`initdb failed:\n${await lastLines(log)}`)
  if (!isEphemeral) await run('sync', ['-f', partial]).catch(() => {})
  await rename(partial, data)
}

/** Allows only the user who runs Tessera to connect, over the Unix socket, as any of Tessera's roles. */
async function writeAccessRules(data: string, owner: Owner | undefined) {
  const user = userInfo().username
  const files = {
    'pg_hba.conf': 'local all all peer map=tessera\n',
    'pg_ident.conf': ROLES.map((role) => `tessera "${user}" ${role}\n`).join(''),
  }
  for (const [name, content] of Object.entries(files)) {
    const file = join(data, name)
    await writeFile(file, content, { mode: 0o600 })
    if (owner) await chown(file, owner.uid, owner.gid)
  }
}

type Server = {
  readonly child: ChildProcess
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
}

async function startServer(
  { binaries }: Installation,
  root: string,
  data: string,
  socket: string,
  owner: Owner | undefined,
  isEphemeral: boolean,
): Promise<Server> {
  const settings: Record<string, string> = {
    listen_addresses: '',
    unix_socket_directories: socket,
    unix_socket_permissions: '0700',
    cluster_name: 'tessera-embedded',
    // An embedded server is not replicated; at this level COPY into a new table skips the log.
    wal_level: 'minimal',
    max_wal_senders: '0',
    max_wal_size: '2GB',
    log_timezone: 'UTC',
    // Errors of statements have values of rows. They go to the gateway, which is the only client, and not into the log.
    log_min_messages: 'log',
    log_min_error_statement: 'panic',
    log_error_verbosity: 'terse',
    timezone: 'UTC',
    ...(isEphemeral ? { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' } : {}),
  }
  const args = ['-D', dataArgument(owner, data)]
  for (const [name, value] of Object.entries(settings)) args.push('-c', `${name}=${value}`)
  const { child, exited } = await spawnServerProgram(
    join(binaries, 'postgres'),
    args,
    data,
    join(root, 'postgres.log'),
    owner,
  )
  const failed = exited.then(async () => {
    const lines = await lastLines(join(root, 'postgres.log'))
    throw new EmbeddedError(`PostgreSQL did not start:\n${lines}`)
  })
  failed.catch(() => {})
  try {
    await Promise.race([failed, waitUntilReady(data)])
  } catch (error) {
    if (child.exitCode === null && child.signalCode === null) await endProcess(child.pid!)
    throw error
  }
  return { child, exited }
}

/** Starts one of PostgreSQL's programs on a data folder, as its owner, logging to a file. */
async function spawnServerProgram(
  program: string,
  args: readonly string[],
  data: string,
  logFile: string,
  owner: Owner | undefined,
): Promise<Server> {
  const [log, folder] = await Promise.all([open(logFile, 'w', 0o600), open(data, 'r')])
  await log.chmod(0o600)
  // Detached into a session of its own: Ctrl-C in the terminal reaches only Tessera, which stops the child in order.
  const child = spawn(program, args, {
    cwd: '/',
    env: cleanEnvironment,
    stdio: ['ignore', log.fd, log.fd, folder.fd],
    detached: true,
    ...asOwner(owner),
  })
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve, reject) => {
    child.once('exit', (code, signal) => resolve({ code, signal }))
    child.once('error', reject)
  })
  await Promise.all([log.close(), folder.close()])
  return { child, exited }
}

/** Waits for PostgreSQL, which writes its state into the eighth line of its pid file; pg_ctl reads it there, too. */
async function waitUntilReady(data: string) {
  const deadline = performance.now() + START_TIMEOUT_MS
  while (performance.now() < deadline) {
    const state = (await readFile(join(data, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n')[7]
    if (state?.trim() === 'ready') return
    await sleep(10)
  }
  throw new EmbeddedError(`PostgreSQL was not ready within ${START_TIMEOUT_MS / 1000} s.`)
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

const lastLines = async (file: string) =>
  (await readFile(file, 'utf8').catch(() => '')).trimEnd().split('\n').slice(-10).join('\n')
