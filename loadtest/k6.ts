// Owns k6: how it is found, how it is installed, and one run of a script.

import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants } from 'node:fs'
import { homedir } from 'node:os'
import { delimiter, join } from 'node:path'

const PACKAGE = 'go.k6.io/k6@v1.8.1'
const ELSEWHERE = 'https://grafana.com/docs/k6/latest/set-up/install-k6/'

/** @returns the path of the program; undefined if it is not installed */
export function findK6(): string | undefined {
  const { PATH = '', GOBIN, GOPATH } = process.env
  const folders = [...PATH.split(delimiter), GOBIN ?? join(GOPATH ?? join(homedir(), 'go'), 'bin')]
  return folders.map((folder) => join(folder, 'k6')).find(isProgram)
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** Builds k6 with Go. @throws Error that names other ways to install it, if Go is missing or fails */
export function installK6(report: (line: string) => void) {
  const found = findK6()
  if (found) return report(`k6 is already installed: ${found}`)
  report(`go install ${PACKAGE} (some minutes) …`)
  try {
    execFileSync('go', ['install', PACKAGE], { stdio: 'inherit' })
  } catch {
    throw new Error(`Go could not install k6. For other ways to install it, see ${ELSEWHERE}`)
  }
  report(`k6 is installed: ${findK6()}`)
}

export const versionOf = (k6: string) => execFileSync(k6, ['version'], { encoding: 'utf8' }).trim()

export type Run = {
  readonly script: string
  readonly environment: Readonly<Record<string, string>>
  /** Paths for k6's own report (HTML), its summary (JSON) and its record (NDJSON, one line per second). */
  readonly reportFile: string
  readonly summaryFile: string
  readonly recordFile: string
  /** Tags for whose values k6 keeps separate records. */
  readonly tags: readonly string[]
}

/** Exit code of k6 if a threshold was crossed; other codes than 0 are failures of k6 itself. */
export const THRESHOLDS_CROSSED = 99

/** Runs a script to its end. The first SIGINT or SIGTERM goes to k6, which then still cleans up. @returns its exit code */
export async function runK6(
  k6: string,
  { script, environment, reportFile, summaryFile, recordFile, tags }: Run,
  onStart: () => void,
): Promise<number> {
  const child = spawn(k6, ['run', '--quiet', '--no-usage-report', '--summary-export', summaryFile, script], {
    env: {
      ...process.env,
      ...environment,
      K6_WEB_DASHBOARD: 'true',
      // Opens no port: the dashboard's page is not needed while k6 runs.
      K6_WEB_DASHBOARD_PORT: '-1',
      K6_WEB_DASHBOARD_PERIOD: '1s',
      K6_WEB_DASHBOARD_EXPORT: reportFile,
      K6_WEB_DASHBOARD_RECORD: recordFile,
      K6_WEB_DASHBOARD_TAGS: tags.join(','),
    },
    stdio: ['ignore', 'ignore', 'pipe'],
    // In a process group of its own, out of the terminal's reach: a second signal would end k6 without cleaning up.
    detached: true,
  })
  onStart()
  // k6 writes a line for each request without a response. The script counts those, so only other lines are printed.
  child.stderr.setEncoding('utf8')
  child.stderr.on('data', (text: string) => {
    const lines = text.split('\n').filter((line) => line && !line.includes('Request Failed'))
    for (const line of lines) process.stderr.write(`${line}\n`)
  })
  let isTold = false
  const forward = (signal: NodeJS.Signals) => {
    if (!isTold) child.kill(signal)
    isTold = true
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, forward)
  const [code] = await once(child, 'exit')
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, forward)
  return code ?? 1
}
