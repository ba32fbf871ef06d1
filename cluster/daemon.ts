// Owns background processes: each in a process group of its own, with a file for its log and one for its process id.

import { execFileSync, spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

export type Account = { readonly uid: number; readonly gid: number }

/** Returns the account of the cluster: for root that of PostgreSQL, which refuses root; for others undefined. */
export function findAccount(): Account | undefined {
  if (process.getuid?.() !== 0) return undefined
  const entry = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
    .find(([name]) => name === 'postgres')
  if (!entry)
    throw new Error(
      'There is no account postgres to run PostgreSQL as; the package of PostgreSQL creates it.',
    )
  return { uid: Number(entry[2]), gid: Number(entry[3]) }
}

export type DaemonOptions = {
  readonly name: string
  readonly command: string
  readonly args: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  readonly account: Account | undefined
  /** Folder of `<name>.pid` and `<name>.log`. */
  readonly runFolder: string
}

type Recorded = { readonly pid: number; readonly startedAt: string }

/** Returns field 22 of /proc/PID/stat, which distinguishes our process from a later one with the same id. */
function startTimeOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' ? undefined : fields[19]
  } catch {
    return undefined
  }
}

const fileOf = (runFolder: string, name: string) => join(runFolder, `${name}.pid`)

/** Returns the id of the process group, if it still runs. */
export function findDaemon(runFolder: string, name: string): number | undefined {
  try {
    const { pid, startedAt } = JSON.parse(readFileSync(fileOf(runFolder, name), 'utf8')) as Recorded
    return startTimeOf(pid) === startedAt ? pid : undefined
  } catch {
    return undefined
  }
}

/** Starts a process, unless it runs. */
export function startDaemon({ name, command, args, environment, account, runFolder }: DaemonOptions): void {
  if (findDaemon(runFolder, name) !== undefined) return
  mkdirSync(runFolder, { recursive: true })
  const log = openSync(join(runFolder, `${name}.log`), 'a', 0o600)
  const child = spawn(command, args, {
    // The environment is clean, because libpq within Citus would read its variables from ours.
    env: { PATH: process.env.PATH ?? '', LANG: 'C.UTF-8', HOME: runFolder, ...environment },
    cwd: runFolder,
    stdio: ['ignore', log, log],
    detached: true,
    ...(account ? { uid: account.uid, gid: account.gid } : {}),
  })
  closeSync(log)
  if (child.pid === undefined) throw new Error(`${command} could not be started; is it installed?`)
  child.unref()
  const recorded: Recorded = { pid: child.pid, startedAt: startTimeOf(child.pid) ?? '' }
  writeFileSync(fileOf(runFolder, name), JSON.stringify(recorded))
}

/** Sends SIGTERM, and kills what has not ended by the timeout. */
export async function stopDaemon(runFolder: string, name: string, timeoutMs: number): Promise<void> {
  const pid = findDaemon(runFolder, name)
  if (pid !== undefined) {
    const deadline = performance.now() + timeoutMs
    signal(pid, 'SIGTERM')
    while (findDaemon(runFolder, name) !== undefined && performance.now() < deadline) await sleep(50)
    await killSessions([pid])
  }
  rmSync(fileOf(runFolder, name), { force: true })
}

/** Sends a signal; it is no failure if the process has ended meanwhile. */
export function signal(pid: number, name: NodeJS.Signals) {
  try {
    process.kill(pid, name)
  } catch (error) {
    if ((error as { code?: string }).code !== 'ESRCH') throw error
  }
}

/**
 * Kills these processes and all below them, and returns when none is left: a process that was just killed still seems
 * to run, and one that was created meanwhile does. Processes that outlived their parent are found by their session.
 */
export async function killSessions(pids: readonly number[]): Promise<void> {
  for (;;) {
    const left = sessionsOf(pids)
    if (left.length === 0) return
    for (const pid of left) signal(pid, 'SIGKILL')
    await sleep(20)
  }
}

/** Returns the process id of the PostgreSQL in this folder, if one runs. Its Patroni may have ended without it. */
export function findPostmaster(dataFolder: string): number | undefined {
  try {
    const pid = Number(readFileSync(join(dataFolder, 'postmaster.pid'), 'utf8').split('\n', 1)[0])
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(dataFolder) ? pid : undefined
  } catch {
    return undefined
  }
}

/**
 * Returns processes and all below them, but none that has ended and is not yet reaped. PostgreSQL has a session of its
 * own, so children are also found by parent.
 */
export function sessionsOf(pids: readonly number[]): number[] {
  const rows = execFileSync('ps', ['-eo', 'stat=,pid=,ppid=,sid='], { encoding: 'utf8' })
    .trim()
    .split('\n')
    .filter((line) => !line.startsWith('Z'))
    .map((line) => line.trim().split(/\s+/).slice(1).map(Number) as [number, number, number])
  const found = new Set(pids)
  for (let size = 0; size !== found.size; ) {
    size = found.size
    for (const [child, parent, session] of rows) if (found.has(parent) || found.has(session)) found.add(child)
  }
  return rows.map(([child]) => child).filter((child) => found.has(child))
}
