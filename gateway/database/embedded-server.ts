// Owns the programs of PostgreSQL for the embedded server: which ones, the account that they run as, and their processes.

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { existsSync, globSync } from 'node:fs'
import { chown, open, readFile, readlink, realpath, writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { delimiter, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { UserError } from '../errors.ts'

const run = promisify(execFile)

/** The embedded server, or what belongs to it, cannot run. */
export class EmbeddedError extends UserError {}

const OLDEST_MAJOR = 15
export const ROLES = ['postgres', 'tessera_owner', 'tessera_write', 'tessera_read'] as const

/** Longest start: crash recovery after a large import takes a while; beyond this time something else is wrong. */
const START_TIMEOUT_MS = 120_000
/** Longest fast shutdown, which writes a checkpoint; after this time an immediate shutdown follows, which is safe. */
const STOP_TIMEOUT_MS = 30_000

/**
 * Paths under which a child process reaches the folders that it gets as file descriptors 3 and 4, even if it may not
 * traverse the folders above: root's clone of Tessera is usually in a home folder that is closed to others.
 */
const HANDED_FOLDER = '/proc/self/fd/3'
const HANDED_BACKUPS = '/proc/self/fd/4'

export type Installation = { readonly binaries: string; readonly major: number }

export async function findInstallation(
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

export async function readMajor(data: string): Promise<number | undefined> {
  const version = await readFile(join(data, 'PG_VERSION'), 'utf8').catch(() => undefined)
  return version === undefined ? undefined : Number.parseInt(version, 10)
}

/** The account that PostgreSQL runs as if that is not the one of this process. */
export type Owner = { readonly name: string; readonly uid: number; readonly gid: number }

/** Returns the account to run PostgreSQL as if this process is root, which PostgreSQL refuses; otherwise undefined. */
export async function findOwner(): Promise<Owner | undefined> {
  if (process.getuid?.() !== 0) return undefined
  const accounts = (await readFile('/etc/passwd', 'utf8')).split('\n').map((line) => line.split(':'))
  for (const name of ['postgres', 'nobody']) {
    const account = accounts.find((fields) => fields[0] === name)
    if (account) return { name, uid: Number(account[2]), gid: Number(account[3]) }
  }
  throw new EmbeddedError(
    'PostgreSQL does not run as root, and there is no user postgres or nobody to run it as.',
  )
}

/** Returns true if the process is PostgreSQL on this very folder; its number may belong to another program by now. */
export async function isServerOf(pid: number, data: string): Promise<boolean> {
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
export async function endProcess(pid: number) {
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

export const asOwner = (owner: Owner | undefined) => (owner ? { uid: owner.uid, gid: owner.gid } : {})
/** Returns the path of the data folder for a program that runs as its owner, and that of the backups. */
export const dataArgument = (owner: Owner | undefined, data: string) => (owner ? HANDED_FOLDER : data)
export const backupsArgument = (owner: Owner | undefined, folder: string) => (owner ? HANDED_BACKUPS : folder)
/** Environment of the child, with nothing of the caller's: a PGDATA or PGPORT there must not reach it. */
export const cleanEnvironment = { PATH: '/usr/bin:/bin', TZ: 'UTC', LC_ALL: 'C.UTF-8' }

/**
 * Allows only the user who runs Tessera to connect, over the Unix socket, as any of Tessera's roles, and the account that
 * PostgreSQL itself runs as, with which backups are made, as its superuser.
 */
export async function writeAccessRules(data: string, owner: Owner | undefined) {
  const allowed = ROLES.map((role) => [userInfo().username, role])
  if (owner) allowed.push([owner.name, 'postgres'])
  const files = {
    'pg_hba.conf': 'local all all peer map=tessera\n',
    'pg_ident.conf': allowed.map(([user, role]) => `tessera "${user}" ${role}\n`).join(''),
  }
  for (const [name, content] of Object.entries(files)) {
    const file = join(data, name)
    await writeFile(file, content, { mode: 0o600 })
    if (owner) await chown(file, owner.uid, owner.gid)
  }
}

export type Server = {
  readonly child: ChildProcess
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
}

export type ServerOptions = {
  readonly installation: Installation
  readonly data: string
  /** Folder of its socket. */
  readonly socket: string
  readonly owner: Owner | undefined
  readonly log: string
  /** Folder that its archive or its recovery uses; undefined if it has neither. */
  readonly backups?: string | undefined
  readonly settings: Readonly<Record<string, string>>
  /** Milliseconds that it may take until it accepts changes. */
  readonly timeoutMs?: number
  /** Ends it while it starts. */
  readonly signal?: AbortSignal
}

/** Starts a server that only processes of this machine reach. @throws EmbeddedError if it does not become ready */
export async function startServer(options: ServerOptions): Promise<Server> {
  const { installation, data, socket, owner, log, backups, timeoutMs = START_TIMEOUT_MS, signal } = options
  const settings: Record<string, string> = {
    listen_addresses: '',
    unix_socket_directories: socket,
    unix_socket_permissions: '0700',
    cluster_name: 'tessera-embedded',
    max_wal_senders: '0',
    max_wal_size: '2GB',
    log_timezone: 'UTC',
    // Errors of statements have values of rows. They go to the gateway, which is the only client, and not into the log.
    log_min_messages: 'log',
    log_min_error_statement: 'panic',
    log_error_verbosity: 'terse',
    timezone: 'UTC',
    ...options.settings,
  }
  const args = ['-D', dataArgument(owner, data)]
  for (const [name, value] of Object.entries(settings)) args.push('-c', `${name}=${value}`)
  const program = join(installation.binaries, 'postgres')
  const { child, exited } = await spawnServerProgram(program, args, data, log, owner, backups)
  const failed = exited.then(async () => {
    throw new EmbeddedError(`PostgreSQL did not start:\n${await lastLines(log)}`)
  })
  failed.catch(() => {})
  const waiting = new AbortController()
  const ended = AbortSignal.any([waiting.signal, ...(signal ? [signal] : [])])
  try {
    await Promise.race([failed, waitUntilReady(data, timeoutMs, ended)])
  } catch (error) {
    if (child.exitCode === null && child.signalCode === null) await endProcess(child.pid!)
    throw error
  } finally {
    waiting.abort()
  }
  return { child, exited }
}

/** Starts one of PostgreSQL's programs on a data folder, as its owner, logging to a file. */
export async function spawnServerProgram(
  program: string,
  args: readonly string[],
  data: string,
  logFile: string,
  owner: Owner | undefined,
  backups?: string | undefined,
): Promise<Server> {
  const [log, ...folders] = await Promise.all([
    open(logFile, 'w', 0o600),
    ...[data, ...(backups === undefined ? [] : [backups])].map((folder) => open(folder, 'r')),
  ])
  await log.chmod(0o600)
  // Detached into a session of its own: Ctrl-C in the terminal reaches only Tessera, which stops the child in order.
  const child = spawn(program, args, {
    cwd: '/',
    env: cleanEnvironment,
    stdio: ['ignore', log.fd, log.fd, ...folders.map(({ fd }) => fd)],
    detached: true,
    ...asOwner(owner),
  })
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve, reject) => {
    child.once('exit', (code, signal) => resolve({ code, signal }))
    child.once('error', reject)
  })
  await Promise.all([log, ...folders].map((file) => file.close()))
  return { child, exited }
}

/** Waits for PostgreSQL, which writes its state into the eighth line of its pid file; pg_ctl reads it there, too. */
async function waitUntilReady(data: string, timeoutMs: number, signal: AbortSignal) {
  const deadline = performance.now() + timeoutMs
  while (performance.now() < deadline) {
    const state = (await readFile(join(data, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n')[7]
    if (state?.trim() === 'ready') return
    await sleep(10, undefined, { signal })
  }
  throw new EmbeddedError(`PostgreSQL was not ready within ${timeoutMs / 1000} s.`)
}

export const lastLines = async (file: string) =>
  (await readFile(file, 'utf8').catch(() => '')).trimEnd().split('\n').slice(-10).join('\n')
