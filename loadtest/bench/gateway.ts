// Owns `npm run bench -- gateway`: how many requests the gateway serves over HTTP (wrk), compared with the transactions
// that its own SQL reaches without it (pgbench).

import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  citiesText,
  type Duration,
  drawRequests,
  type HttpRequest,
  median,
  pgbench,
  run,
  span,
  startGateway,
  TESSERA,
  writeReport,
  wrk,
} from './measure.ts'

type Case = {
  readonly name: string
  readonly connections: number
  /** Draws a request. @param most the greatest id of `BY_ID` */
  readonly draw: (random: (from: number, to: number) => number, most: number) => HttpRequest
  /** The request whose statements pgbench sends. */
  readonly request: string
  /** Method, content type and body of a request that changes something; undefined for a read. */
  readonly change?: readonly [method: string, type: string, body: string]
  /** Commands with which pgbench first draws values. */
  readonly choose: string
  /** Expressions that pgbench uses instead of values that the gateway bound; other values stay as they are. */
  readonly bind: Readonly<Record<string, string>>
  /** Least ratio that is aimed at. */
  readonly target: number
}

/** The cities with numbers as ids, which pgbench can draw at random: its variables can only be numbers. */
const BY_ID = 'cities_by_id'

/** Squares of one degree with at least 100 features, so that pages are full, and no more than numberMatched counts. */
const GRID = { west: 6, south: 47, east: 10, north: 50 }

/** Returns a square of one degree as hexadecimal EWKB. */
function squareAt(west: number, south: number): string {
  const corners = [
    [0, 0],
    [0, 1],
    [1, 1],
    [1, 0],
    [0, 0],
  ] as const
  const bytes = Buffer.alloc(17 + corners.length * 16)
  bytes.write('0103000020E61000000100000005000000', 'hex')
  for (const [index, [east, north]] of corners.entries()) {
    bytes.writeDoubleLE(west + east, 17 + index * 16)
    bytes.writeDoubleLE(south + north, 25 + index * 16)
  }
  return bytes.toString('hex').toUpperCase()
}

const bboxPath = (west: number, south: number) =>
  `/collections/cities/items?limit=100&bbox=${west},${south},${west + 1},${south + 1}`
const bboxCase = (connections: number, target: number): Case => ({
  name: 'bbox page of 100',
  connections,
  draw: (random) => ({
    path: bboxPath(random(GRID.west, GRID.east - 1), random(GRID.south, GRID.north - 1)),
  }),
  request: bboxPath(GRID.west, GRID.south),
  choose: `\\set x random(${GRID.west}, ${GRID.east - 1})\n\\set y random(${GRID.south}, ${GRID.north - 1})\n`,
  // The log has the box as PostgreSQL writes a geometry.
  bind: { [squareAt(GRID.west, GRID.south)]: 'ST_MakeEnvelope(:x, :y, :x + 1, :y + 1, 4326)' },
  target,
})
const idCase = (connections: number, target: number): Case => ({
  name: 'item by id',
  connections,
  draw: (random, most) => ({ path: `/collections/${BY_ID}/items/${random(1, most)}` }),
  request: `/collections/${BY_ID}/items/1`,
  choose: '\\set id random(1, :most)\n',
  bind: { 1: ':id' },
  target,
})
const newTown = (x: number, y: number) =>
  `{"type":"Feature","geometry":{"type":"Point","coordinates":[${x},${y}]},"properties":{"name":"New Town","country":"XX","admin1":"01","admin2":"02"}}`
const insertCase: Case = {
  name: 'insert',
  connections: 8,
  draw: (random) => ({
    method: 'POST',
    path: `/collections/${BY_ID}/items`,
    headers: { 'content-type': 'application/geo+json' },
    body: newTown(random(-180, 179), random(-90, 89)),
  }),
  request: `/collections/${BY_ID}/items`,
  change: ['POST', 'application/geo+json', newTown(1, 2)],
  choose: '\\set x random(-180, 179)\n\\set y random(-90, 89)\n',
  bind: {
    '{"type":"Point","coordinates":[1,2]}': `'{"type":"Point","coordinates":[' || :x || ',' || :y || ']}'`,
  },
  target: 0.25,
}
const updateCase: Case = {
  name: 'update',
  connections: 8,
  draw: (random, most) => ({
    method: 'PATCH',
    path: `/collections/${BY_ID}/items/${random(1, most)}`,
    headers: { 'content-type': 'application/merge-patch+json' },
    body: `{"properties":{"name":"Town ${random(1, 1e9)}"}}`,
  }),
  request: `/collections/${BY_ID}/items/4242`,
  change: ['PATCH', 'application/merge-patch+json', '{"properties":{"name":"Town 7"}}'],
  choose: '\\set id random(1, :most)\n\\set n random(1, 1000000000)\n',
  bind: { '4242': ':id', 'Town 7': `'Town ' || :n` },
  target: 0.25,
}
// Changes run last, because they make the table larger.
const cases = [idCase(8, 0.25), idCase(64, 0.5), bboxCase(8, 0.45), bboxCase(64, 0.6), insertCase, updateCase]

const psql = async (socket: string, sql: string) =>
  (await run('psql', ['-h', socket, '-U', 'tessera_read', '-Atc', sql, 'tessera'])).stdout.trim()

/** Returns the statements that the gateway sends for a request, from the log of the embedded server. */
async function statementsOf(
  socket: string,
  data: string,
  url: string,
  { request, change, bind }: Case,
): Promise<string[]> {
  const log = join(data, 'postgres.log')
  const superuser = ['-h', socket, '-U', 'postgres', '-qAt']
  const setLogging = (value: string) =>
    run('psql', [
      ...superuser,
      '-c',
      `alter system set log_statement = '${value}'`,
      '-c',
      'select pg_reload_conf()',
      'tessera',
    ])
  await setLogging('all')
  await sleep(500)
  const start = (await readFile(log, 'utf8')).length
  const [method, type, body] = change ?? []
  const answer = await fetch(
    url + request,
    method ? { method, headers: { 'content-type': type! }, body: body! } : {},
  )
  if (!answer.ok) throw new Error(`${request}: ${await answer.text()}`)
  await answer.text()
  await sleep(500)
  await setLogging('none')
  const entries = (await readFile(log, 'utf8')).slice(start)
  const executed = entries.matchAll(
    /LOG: {2}execute [^:]+: (.+?)\n\S+ \S+ \S+ \[\d+\] DETAIL: {2}parameters: ([^\n]+)/gs,
  )
  return [...executed]
    .filter(([, text]) => text!.includes('"public"."cities'))
    .map(([, text, parameters]) => {
      const values = new Map(
        [...parameters!.matchAll(/\$(\d+) = '([^']*)'/g)].map(([, index, value]) => [index!, value!]),
      )
      const literal = (value: string) =>
        /^-?[\d.]+$/.test(value) ? value : `'${value.replaceAll("'", "''")}'`
      const bound = (index: string) => bind[values.get(index)!] ?? literal(values.get(index)!)
      return text!.replace(/\s+/g, ' ').replace(/\$(\d+)/g, (_, index) => bound(index))
    })
}

export async function measureGateway({ rounds, seconds }: Duration) {
  const scratch = await mkdtemp(join(tmpdir(), 'tessera-bench-'))
  const data = join(scratch, 'data')
  const source = join(scratch, 'cities.geojsonl')
  await writeFile(source, await citiesText())
  const importing = [TESSERA, 'import', source, '--data', data, '--collection', BY_ID]
  await run(process.execPath, [...importing, '--distribute-by', 'id'])
  const gateway = await startGateway(['--data', data])
  const { socket, url } = gateway
  try {
    const most = await psql(socket, `select max(id) from ${BY_ID}`)
    const rows: Record<string, string | number>[] = []
    for (const item of cases) {
      const statements = await statementsOf(socket, data, url, item)
      const file = join(scratch, 'statements.sql')
      process.stderr.write(`${item.name}: ${statements.length} statement(s) per request\n`)
      await writeFile(file, item.choose + statements.map((text) => `${text};\n`).join(''))
      const { draw, connections } = item
      const requests = drawRequests((random) => draw(random, Number(most)))
      const load = async (duration: number) => (await wrk(url, requests, connections, duration)).perSecond
      const role = item.change ? 'tessera_write' : 'tessera_read'
      const where = ['-h', socket, '-U', role, '-D', `most=${most}`, 'tessera']
      await load(3)
      const ratios: number[] = []
      const ours: number[] = []
      const bare: number[] = []
      for (let round = 0; round < rounds; round++) {
        ours.push(await load(seconds))
        bare.push((await pgbench(file, connections, seconds, where)).perSecond)
        ratios.push(ours.at(-1)! / bare.at(-1)!)
      }
      rows.push({
        case: item.name,
        connections,
        'gateway, requests/s': Math.round(median(ours)),
        'pgbench, transactions/s': Math.round(median(bare)),
        ratio: Number(median(ratios).toFixed(2)),
        'least .. most': span(ratios),
        aim: item.target,
      })
      process.stderr.write(`${item.name}, ${connections} connections: done\n`)
    }
    writeReport('gateway', 'The gateway against PostgreSQL', rows, {
      postgresql: await psql(socket, 'show server_version'),
      postgis: await psql(socket, 'select postgis_lib_version()'),
      rounds,
      seconds,
    })
  } finally {
    await gateway.stop()
    await rm(scratch, { recursive: true, force: true })
  }
}
