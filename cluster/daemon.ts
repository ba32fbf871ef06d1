// Owns background processes: each in a group of its own, with its log and its number in a file, never as root.

import { execFileSync, spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

export type Account = { readonly uid: number; readonly gid: number }

/** Who runs the cluster: whoever starts it, or as root the system's account for PostgreSQL, which refuses root. */
export function findAccount(): Account | undefined {
  if (process.getuid?.() !== 0) return undefined
  const entry = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
    .find(([name]) => name === 'postgres')
  if (!entry) throw new Error('There is no account postgres to run PostgreSQL as; it comes with the package.')
  return { uid: Number(entry[2]), gid: Number(entry[3]) }
}

export type DaemonOptions = {
  readonly name: string
  readonly command: string
  readonly args: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  readonly account: Account | undefined
  /** Where `<name>.pid` and `<name>.log` are. */
  readonly runFolder: string
}

type Recorded = { readonly pid: number; readonly startedAt: string }

/** Field 22 of /proc/PID/stat: with it a number that was given to another process is told from ours. */
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

/** The number of the process group, if it still runs. */
export function findDaemon(runFolder: string, name: string): number | undefined {
  try {
    const { pid, startedAt } = JSON.parse(readFileSync(fileOf(runFolder, name), 'utf8')) as Recorded
    return startTimeOf(pid) === startedAt ? pid : undefined
  } catch {
    return undefined
  }
}

/** Starts it, unless it runs. */
export function startDaemon({ name, command, args, environment, account, runFolder }: DaemonOptions): void {
  if (findDaemon(runFolder, name) !== undefined) return
  mkdirSync(runFolder, { recursive: true })
  const log = openSync(join(runFolder, `${name}.log`), 'a', 0o600)
  const child = spawn(command, args, {
    // A clean environment: libpq within Citus would read what is left in ours.
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

/** Asks it to end and sees that it does. */
export async function stopDaemon(runFolder: string, name: string, timeoutMs: number): Promise<void> {
  const pid = findDaemon(runFolder, name)
  if (pid !== undefined) {
    const deadline = performance.now() + timeoutMs
    signal(pid, 'SIGTERM')
    while (findDaemon(runFolder, name) !== undefined && performance.now() < deadline) await sleep(50)
    // The whole session: what outlived its parent too.
    for (const member of sessionOf(pid)) signal(member, 'SIGKILL')
    while (sessionOf(pid).length > 0) await sleep(20)
  }
  rmSync(fileOf(runFolder, name), { force: true })
}

/** One that has ended meanwhile is no failure. */
export function signal(pid: number, name: NodeJS.Signals) {
  try {
    process.kill(pid, name)
  } catch (error) {
    if ((error as { code?: string }).code !== 'ESRCH') throw error
  }
}

/** The number of the PostgreSQL that runs in this folder, if one does: Patroni may be gone without it. */
export function findPostmaster(dataFolder: string): number | undefined {
  try {
    const pid = Number(readFileSync(join(dataFolder, 'postmaster.pid'), 'utf8').split('\n', 1)[0])
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(dataFolder) ? pid : undefined
  } catch {
    return undefined
  }
}

/** PostgreSQL leads a session of its own below Patroni: children are found by their parents. */
export function sessionOf(pid: number): number[] {
  const rows = execFileSync('ps', ['-eo', 'pid=,ppid=,sid='], { encoding: 'utf8' })
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number) as [number, number, number])
  const found = new Set([pid])
  for (let size = 0; size !== found.size; ) {
    size = found.size
    for (const [child, parent, session] of rows) if (found.has(parent) || found.has(session)) found.add(child)
  }
  return rows.map(([child]) => child).filter((child) => found.has(child))
}
