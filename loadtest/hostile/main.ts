// Owns `npm run hostile`: ten normal clients beside hostile ones, what the normal ones get, and the memory of the gateway.

import { execFileSync } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { Agent, get } from 'node:http'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { startGateway } from '../bench/measure.ts'
import { attacks } from './attacks.ts'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    attacks: { type: 'string', default: Object.keys(attacks).join() },
    processes: { type: 'string', default: '2' },
    output: { type: 'string', default: join(import.meta.dirname, '../../docs/results/hostile.md') },
  },
})
const chosen = values.attacks.split(',')
const unknown = chosen.find((name) => !attacks[name])
if (unknown !== undefined)
  throw new Error(`There is no attack ${unknown}; known: ${Object.keys(attacks).join()}.`)
const totalMs = Number(values.minutes) * 60_000

const NORMAL_CLIENTS = 10
/** Share of the time in which nobody attacks, before the attacks. */
const QUIET_SHARE = 0.1
/** Pause of a normal client between two requests: it looks at what it got. */
const PAUSE_MS = 200
/** Longest answer that a normal client waits for. */
const PATIENCE_MS = 15_000
const MEMORY_INTERVAL_MS = 500
/** Memory that each process may take, in MiB, and how much of it may be JavaScript's heap. */
const MEMORY_MIB = 512
const HEAP_MIB = 400
const MEMORY_STEPS = 12

const KINDS: Readonly<Record<string, (random: number) => string>> = {
  'single feature': (random) => `/collections/mill/items/${1 + Math.floor(random * 300_000)}`,
  'page of 10 in a bbox': (random) => {
    const west = Math.floor(random * 20)
    return `/collections/cities/items?limit=10&bbox=${west},45,${west + 1},46`
  },
  'page of 2,000': () => '/collections/cities/items?limit=2000',
  'HTML page': () => '/collections/cities/items?f=html',
  '/health/live': () => '/health/live',
}

type Sample = {
  readonly kind: string
  readonly status: string
  readonly ms: number
  readonly isQuiet: boolean
}
type Memory = { readonly at: number; readonly mib: readonly number[] }

const ask = (url: string, address: string, agent: Agent) =>
  new Promise<string>((resolve) => {
    const fail = (error: Error & { code?: string }) => resolve(error.code ?? error.message)
    const sent = get(
      url,
      { agent, headers: { 'x-forwarded-for': address }, timeout: PATIENCE_MS },
      (response) => {
        response.resume()
        response.on('end', () => resolve(String(response.statusCode))).on('error', fail)
      },
    )
    sent.on('timeout', () => sent.destroy(new Error('too slow'))).on('error', fail)
  })

/** Sends requests of every kind in turn until the signal aborts. */
async function beNormal(
  url: string,
  index: number,
  add: (kind: string, status: string, ms: number) => void,
  signal: AbortSignal,
) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  while (!signal.aborted)
    for (const [kind, pathOf] of Object.entries(KINDS)) {
      const start = performance.now()
      const status = await ask(url + pathOf(Math.random()), `198.51.100.${index + 1}`, agent)
      if (signal.aborted) break
      add(kind, status, performance.now() - start)
      await sleep(PAUSE_MS * (0.5 + Math.random()), undefined, { signal }).catch(() => {})
    }
  agent.destroy()
}

/** Returns the serving processes of a gateway, by process id, and the memory of each in MiB. */
async function memoryOf(gatewayId: number): Promise<Map<number, number>> {
  const found = new Map<number, number>()
  for (const name of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const status = await readFile(`/proc/${name}/status`, 'utf8').catch(() => '')
    const command = await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '')
    if (!status.includes(`\nPPid:\t${gatewayId}\n`) || !command.includes('main.ts')) continue
    found.set(Number(name), Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0) / 1024)
  }
  return found
}

const TABLES = `
  create table bigpoly as
    select i as id, 12345678901234567890::numeric as digits,
      st_buffer(st_setsrid(st_makepoint(i % 180, 0), 4326), 1, 3000)::geometry(Polygon, 4326) geom
    from generate_series(1, 300) i;
  alter table bigpoly add primary key (id);
  create table mill as
    select i as id, st_setsrid(st_makepoint(random() * 360 - 180, random() * 180 - 90), 4326)::geometry(Point, 4326) geom,
      md5(i::text) a, md5((i * 7)::text) b
    from generate_series(1, 300000) i;
  alter table mill add primary key (id);
  create index on mill using gist (geom);
  grant select on bigpoly, mill to public;
  analyze bigpoly;
  analyze mill`

const percentile = (sorted: readonly number[], share: number) =>
  sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)]

function row(kind: string, samples: readonly Sample[]): string {
  const of = (isQuiet: boolean) => samples.filter((one) => one.kind === kind && one.isQuiet === isQuiet)
  const served = (some: readonly Sample[]) =>
    some
      .filter(({ status }) => status === '200')
      .map(({ ms }) => ms)
      .sort((a, b) => a - b)
  const show = (ms: number | undefined) => (ms === undefined ? '–' : ms.toFixed(ms < 10 ? 1 : 0))
  const [quiet, busy] = [of(true), of(false)]
  const refused = busy.filter(({ status }) => status === '503').length
  const failed = busy.filter(({ status }) => status !== '200' && status !== '503').length
  const cells = [
    kind,
    quiet.length,
    show(percentile(served(quiet), 0.5)),
    show(percentile(served(quiet), 0.95)),
    busy.length,
    show(percentile(served(busy), 0.5)),
    show(percentile(served(busy), 0.95)),
    refused,
    failed,
  ]
  return `| ${cells.join(' | ')} |`
}

/** Returns the highest memory of each process in equal parts of the time. */
function memoryTable(memory: readonly Memory[]): string {
  const lines: string[] = []
  for (let step = 0; step < MEMORY_STEPS; step++) {
    const [from, to] = [(totalMs * step) / MEMORY_STEPS, (totalMs * (step + 1)) / MEMORY_STEPS]
    const within = memory.filter(({ at }) => at >= from && at < to)
    const most = Array.from({ length: Number(values.processes) }, (_, index) =>
      Math.round(Math.max(0, ...within.map(({ mib }) => mib[index] ?? 0))),
    )
    lines.push(`| ${(to / 60_000).toFixed(1)} | ${most.join(' | ')} |`)
  }
  return lines.join('\n')
}

const data = await mkdtemp(join(tmpdir(), 'tessera-hostile-'))
const gateway = await startGateway(['--data', join(data, 'data'), '--processes', values.processes], {
  NODE_OPTIONS: `--max-old-space-size=${HEAP_MIB}`,
})
const samples: Sample[] = []
const memory: Memory[] = []
const outcomes = new Map(chosen.map((name) => [name, new Map<string, number>()]))
const seen = new Set<number>()
try {
  execFileSync('psql', ['-h', gateway.socket, '-U', 'tessera_owner', '-q', '-c', TABLES, 'tessera'])
  // Until the gateway has found the new tables.
  while (!(await fetch(`${gateway.url}/collections/mill`)).ok) await sleep(500)
  const ending = new AbortController()
  const attacking = new AbortController()
  const startedAt = performance.now()
  let isQuiet = true
  const watching = (async () => {
    while (!ending.signal.aborted) {
      const found = await memoryOf(gateway.processId)
      for (const id of found.keys()) seen.add(id)
      memory.push({ at: performance.now() - startedAt, mib: [...found.values()] })
      await sleep(MEMORY_INTERVAL_MS)
    }
  })()
  const normal = Array.from({ length: NORMAL_CLIENTS }, (_, index) =>
    beNormal(
      gateway.url,
      index,
      (kind, status, ms) => samples.push({ kind, status, ms, isQuiet }),
      ending.signal,
    ),
  )
  await sleep(totalMs * QUIET_SHARE)
  isQuiet = false
  const hostile = chosen.map((name) => {
    const counts = outcomes.get(name)!
    const count = (outcome: string) => counts.set(outcome, (counts.get(outcome) ?? 0) + 1)
    return attacks[name]!.run(gateway.url, count, attacking.signal)
  })
  await sleep(totalMs * (1 - QUIET_SHARE))
  ending.abort()
  attacking.abort()
  await Promise.all([...normal, ...hostile, watching])
} finally {
  await gateway.stop()
  await rm(data, { recursive: true, force: true })
}

const died = seen.size - Number(values.processes)
const most = Math.round(Math.max(...memory.flatMap(({ mib }) => mib)))
const machine = `${cpus().length} cores (${cpus()[0]?.model.trim()})`
const report = `# Hostile clients, ${new Date().toISOString().slice(0, 10)}

\`npm run hostile -- --minutes ${values.minutes}\` on ${machine}, which gateway, PostgreSQL and all clients share:
${NORMAL_CLIENTS} normal clients with an address of their own each, first alone, then beside the attacks below, all at
once. ${values.processes} processes with a heap of ${HEAP_MIB} MiB each.

${died} processes died. The most memory that one took was ${most} MiB of ${MEMORY_MIB}.

## Normal clients

Milliseconds of what was served. Refused are answers with 503, failed all others.

| request | quiet | p50 | p95 | beside attacks | p50 | p95 | refused | failed |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
${Object.keys(KINDS)
  .map((kind) => row(kind, samples))
  .join('\n')}

## Attacks

| attack | what | outcomes |
| --- | --- | --- |
${chosen
  .map((name) => {
    const shown = [...outcomes.get(name)!].map(([outcome, count]) => `${count} × ${outcome}`).join('; ')
    return `| ${name} | ${attacks[name]!.does} | ${shown} |`
  })
  .join('\n')}

## Memory

The most that each process took, in MiB, up to that minute. The attacks begin after ${((totalMs * QUIET_SHARE) / 60_000).toFixed(1)} minutes.

| minute | ${Array.from({ length: Number(values.processes) }, (_, index) => `process ${index + 1}`).join(' | ')} |
| --- | ${Array.from({ length: Number(values.processes) }, () => '---').join(' | ')} |
${memoryTable(memory)}
`
await writeFile(values.output, report)
process.stdout.write(report)
process.exitCode = died > 0 || most > MEMORY_MIB ? 1 : 0
