// Owns `npm run bench -- memory`: how much memory a gateway needs while it sends all features of a large table in each
// format, and while it takes as many in one body; and `tessera import` of the same.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { keepPicture } from '../../cluster/scenarios/report.ts'
import { startGateway, TESSERA, writeReport } from './measure.ts'
import { renderCurves } from './memory-picture.ts'
import { psql } from './peers/floor.ts'
import { residentOf } from './peers/peer.ts'
import { openHost } from './peers.ts'

export type MemoryOptions = {
  /** Rows of the table that is sent, and features of the body that is taken. */
  readonly points: number
}

/** Memory of a process during a piece of work. */
export type Curve = {
  readonly name: string
  readonly seconds: number
  /** Bytes that were sent or taken. */
  readonly bytes: number
  /** MB before any work. */
  readonly atRest: number
  /** MB when the work began, after the same work with a few features. */
  readonly before: number
  /** MB since then, at equal intervals. */
  readonly added: readonly number[]
}

const FORMATS = ['json', 'jsonfg', 'geojsonseq', 'csv', 'fgb', 'parquet'] as const
const TABLE = 'many'
const POSTED = 'posted'
/** Features of the work before: V8 marks the heap only when it has reached a size that processes.ts sets. */
const FEW = 200_000
const SAMPLE_MS = 250
/** Time in which an import has read its first features. */
const SETTLE_MS = 2_000
const MB = 1e6
/** Features that are written to a body at once. */
const CHUNK = 2_000
const PICTURE = 'speed-memory.svg'
/** Memory may grow by so much, however many features there are. */
const GOAL_MB = 50

/** Watches processes while they work. @param work returns the bytes that they have sent or taken */
async function watch(
  name: string,
  resident: () => number,
  atRest: number,
  work: () => Promise<number>,
): Promise<Curve> {
  const before = resident()
  const added: number[] = []
  const timer = setInterval(() => added.push(resident() - before), SAMPLE_MS)
  const startedAt = performance.now()
  try {
    const bytes = await work()
    added.push(resident() - before)
    const curve = { name, seconds: (performance.now() - startedAt) / 1_000, bytes, atRest, before, added }
    process.stderr.write(`${name}: ${describe(curve)}\n`)
    return curve
  } finally {
    clearInterval(timer)
  }
}

const describe = ({ seconds, added }: Curve) =>
  `${seconds.toFixed(0)} s, at most ${Math.max(...added).toFixed(1)} MB more`

/** Reads an answer to its end. @throws Error if it breaks off */
async function download(url: string): Promise<number> {
  const response = await fetch(url)
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`)
  let bytes = 0
  for await (const chunk of response.body!) bytes += chunk.byteLength
  return bytes
}

/**
 * Yields features, one on each line.
 * @param onBytes gets how many bytes they have
 * @param start number of the first one
 */
function* linesOf(features: number, onBytes: (bytes: number) => void, start = 0): Generator<Buffer> {
  for (let first = start; first < features; first += CHUNK) {
    let text = ''
    for (let index = first; index < Math.min(features, first + CHUNK); index++) {
      const [x, y] = [((index * 0.7548776662) % 1) * 360 - 180, ((index * 0.569840291) % 1) * 170 - 85]
      text += `{"type":"Feature","geometry":{"type":"Point","coordinates":[${x.toFixed(6)},${y.toFixed(6)}]},"properties":{"name":"place ${index}","country":"XX","size":${index}}}\n`
    }
    const chunk = Buffer.from(text)
    onBytes(chunk.length)
    yield chunk
  }
}

/** Sends features in one body. @throws Error unless all of them are stored */
async function post(url: string, features: number): Promise<number> {
  let bytes = 0
  const lines = linesOf(features, (count) => {
    bytes += count
  })
  const response = await fetch(`${url}/collections/${POSTED}/items`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
    body: Readable.toWeb(Readable.from(lines)) as ReadableStream,
    duplex: 'half',
  } as RequestInit)
  const answer = (await response.json()) as { numberStored?: number }
  if (answer.numberStored !== features) throw new Error(JSON.stringify(answer))
  return bytes
}

/** Sends the features after the first FEW to an import, and waits for its end. */
async function importRest(child: ChildProcess, features: number): Promise<number> {
  let bytes = 0
  const count = (more: number) => {
    bytes += more
  }
  const lines = linesOf(features, count, FEW)
  const exited = once(child, 'exit')
  await pipeline(Readable.from(lines), child.stdin!)
  const [code] = await exited
  if (code !== 0) throw new Error(`the import ended with ${code}`)
  return bytes
}

async function makeTables(socket: string, points: number) {
  await psql(
    socket,
    `create table ${TABLE} (id bigint primary key, geom geometry(Point, 4326), name text, country text, size integer);
     insert into ${TABLE} select n, st_setsrid(st_makepoint(n * 0.7548776662 % 1 * 360 - 180, n * 0.569840291 % 1 * 170 - 85), 4326),
       'place ' || n, 'XX', n from generate_series(1, ${points}) as n;
     create table few as select * from ${TABLE} where id <= ${FEW};
     alter table few add primary key (id);
     create table ${POSTED} (id bigint generated by default as identity primary key, geom geometry(Point, 4326), name text,
       country text, size integer)`,
  )
  await psql(socket, `vacuum (freeze, analyze) ${TABLE}`)
}

/** Measures each work in a process of its own, because a process does not give memory back. */
export async function measureMemory({ points }: MemoryOptions) {
  const scratch = await mkdtemp(join(tmpdir(), 'tessera-bench-'))
  const data = join(scratch, 'data')
  const host = await openHost(data)
  const { socket } = host
  const urlOf = (role: string) => `postgresql://${role}@/tessera?host=${encodeURIComponent(socket)}`
  const environment = {
    TESSERA_READ_URL: urlOf('tessera_read'),
    TESSERA_WRITE_URL: urlOf('tessera_write'),
    TESSERA_OWNER_URL: urlOf('tessera_owner'),
    TESSERA_ANSWER_TIMEOUT_MS: '3600000',
  }
  const inGateway = async (name: string, work: (url: string, features: number) => Promise<number>) => {
    const gateway = await startGateway(['--processes', '1', '--no-demo'], environment)
    try {
      const resident = residentOf(gateway.processId)
      const atRest = resident()
      await work(gateway.url, FEW)
      return await watch(name, resident, atRest, () => work(gateway.url, points))
    } finally {
      await gateway.stop()
    }
  }
  try {
    process.stderr.write(`making ${points.toLocaleString('en')} points …\n`)
    await makeTables(socket, points)
    const curves: Curve[] = []
    for (const format of FORMATS)
      curves.push(
        await inGateway(`export, ${format}`, (url, features) =>
          download(`${url}/collections/${features === points ? TABLE : 'few'}/items?limit=none&f=${format}`),
        ),
      )
    curves.push(await inGateway('bulk POST', post))
    await psql(socket, `truncate ${POSTED}`)
    const command = ['import', '-', '--collection', 'imported', '--format', 'geojsonseq']
    const child = spawn(process.execPath, [TESSERA, ...command], {
      stdio: ['pipe', 'ignore', 'inherit'],
      env: { ...process.env, ...environment, TESSERA_WRITE_URL: environment.TESSERA_OWNER_URL },
    })
    await once(child, 'spawn')
    await sleep(SETTLE_MS)
    const resident = residentOf(child.pid!)
    const atRest = resident()
    for (const chunk of linesOf(FEW, () => {}))
      if (!child.stdin!.write(chunk)) await once(child.stdin!, 'drain')
    await sleep(SETTLE_MS)
    curves.push(await watch('tessera import', resident, atRest, () => importRest(child, points)))
    keepPicture(PICTURE, renderCurves(curves, GOAL_MB))
    writeReport(
      'memory',
      'Memory of exports and imports',
      curves.map((curve) => ({
        work: curve.name,
        MB: Math.round(curve.bytes / MB),
        seconds: Math.round(curve.seconds),
        'at rest, MB': Math.round(curve.atRest),
        [`after ${FEW.toLocaleString('en')}, MB`]: Math.round(curve.before),
        'most added, MB': Number(Math.max(...curve.added).toFixed(1)),
        'added at the end, MB': Number(curve.added.at(-1)!.toFixed(1)),
      })),
      {
        features: points.toLocaleString('en'),
        postgresql: (await psql(socket, 'show server_version'))[0],
        postgis: (await psql(socket, 'select postgis_lib_version()'))[0],
      },
      [
        `Resident memory of the processes that do the work: a gateway with one serving process and its supervisor, and \`tessera import\`. They have done the same with ${FEW.toLocaleString('en')} features before, and each work has processes of its own. The goal is at most ${GOAL_MB} MB more, however many features there are. Programs with other work shared the two cores, so that the seconds are no measure of speed; memory does not depend on them.`,
        `![Memory added over the time of each work](${PICTURE})`,
      ],
    )
  } finally {
    await host.stop()
    await rm(scratch, { recursive: true, force: true })
  }
}
