// Tests answers with all features that cannot be completed: no client can take one for complete, in any format.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { get, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { encoders } from '../../features/formats/encoders.ts'
import { openSuperuser, testDatabase } from '../support/database.ts'
import { startGateway } from '../support/gateway.ts'
import { processesOf, startTessera } from '../support/process.ts'
import { until } from '../support/until.ts'

const { client, session, catalog, events } = await startGateway()
const superuser = await openSuperuser()
after(() => superuser.close())

before(async () => {
  await session.query(`
    create table rows_of_text as
      select i as id, (select string_agg(md5(i * 20 + part || ''), '') from generate_series(1, 10) part) as text, st_setsrid(st_makepoint(i % 180, 0), 4326)::geometry(Point, 4326) geom
      from generate_series(1, 20000) i;
    create view dripping_rows as select id, text, geom, case when id % 50 = 0 then pg_sleep(0.02)::text end slept from rows_of_text offset 0`)
  await catalog.reload()
})

/** Reads an answer, and calls `interrupt` once some of it has come. */
async function readInterrupted(
  path: string,
  headers: Record<string, string>,
  interrupt: () => unknown,
  url = client.url,
) {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    get(`${url}${path}`, { headers, agent: false }, resolve).on('error', reject)
  })
  const chunks: Buffer[] = []
  let isInterrupted = false
  let error: Error | undefined
  try {
    for await (const chunk of response) {
      chunks.push(chunk)
      if (isInterrupted) continue
      isInterrupted = true
      await interrupt()
    }
  } catch (cause) {
    error = cause as Error
  }
  return { body: Buffer.concat(chunks), error, status: response.statusCode }
}

const endBackends = async () => {
  const ended = await superuser.query(
    `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tessera-read' and query like 'fetch%'`,
  )
  assert.ok(ended.length > 0)
}

/** Returns where the last feature of a FlatGeobuf should end. */
function endOfFeatures(body: Buffer): number {
  let at = 8
  while (at + 4 <= body.length) at += 4 + body.readUInt32LE(at)
  return at
}

/** Fails if what came looks complete although the answer broke off: a program may have saved it. */
function assertIncomplete(format: string, body: Buffer) {
  const text = body.toString()
  if (format === 'fgb') return assert.notEqual(endOfFeatures(body), body.length)
  if (format === 'parquet') return assert.doesNotMatch(body.subarray(4).toString('latin1'), /PAR1$/)
  assert.doesNotMatch(text, /\n$/)
  if (format !== 'csv') assert.throws(() => JSON.parse(text.split('\n').at(-1)!.replace('\x1e', '')))
}

for (const { format } of encoders)
  for (const encoding of ['identity', 'gzip', 'br'])
    test(`an answer in ${format.name} (${encoding}) whose database dies is broken off`, async () => {
      const path = `/collections/dripping_rows/items?limit=none&f=${format.name}`
      const { status, error, body } = await readInterrupted(
        path,
        { 'accept-encoding': encoding },
        endBackends,
      )
      assert.deepEqual([status, error?.message], [200, 'aborted'])
      assert.ok(body.length > 0)
      if (encoding === 'identity') assertIncomplete(format.name, body)
      await until(async () => (await client('/health/ready')).status === 200, 10_000)
    })

test('an answer whose gateway is killed is broken off, in each format', { timeout: 180_000 }, async () => {
  const environment = { TESSERA_READ_URL: testDatabase().readUrl, TESSERA_PORT: '0', TESSERA_PROCESSES: '1' }
  for (const { format } of encoders) {
    const tessera = startTessera(['serve'], environment)
    const { url } = await tessera.event('gateway-listening')
    const path = `/collections/dripping_rows/items?limit=none&f=${format.name}`
    const served = processesOf('serve').map((line) => Number.parseInt(line, 10))
    const [serving, ...others] = served.filter((pid) => parentOf(pid) === tessera.child.pid)
    assert.equal(others.length, 0)
    const { error, body } = await readInterrupted(path, {}, () => process.kill(serving!, 'SIGKILL'), url)
    assert.equal(error?.message, 'aborted')
    assertIncomplete(format.name, body)
    tessera.child.kill()
    await tessera.ended
  }
})

/** Returns the parent of a process; undefined if it has ended meanwhile. */
function parentOf(pid: number): number | undefined {
  try {
    return Number(/^PPid:\t(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1])
  } catch {
    return undefined
  }
}

test('an answer that broke off is an event', () => {
  const cut = events.flatMap((event) => (event.type === 'answer-cut' ? [event] : []))
  assert.ok(cut.length >= encoders.length)
  assert.ok(cut.every(({ reason, error }) => reason === 'failed' && error))
})

test('a page over HTTP/1.0 whose database dies ends with a reset, not with an end', async () => {
  const { hostname, port } = new URL(client.url)
  const socket = connect(Number(port), hostname)
  socket.write('GET /collections/dripping_rows/items?limit=10000 HTTP/1.0\r\n\r\n')
  let bytes = 0
  await assert.rejects(
    async () => {
      for await (const chunk of socket) {
        if (bytes === 0) await endBackends()
        bytes += chunk.length
      }
    },
    { code: 'ECONNRESET' },
  )
  assert.ok(bytes > 0)
})

test('a client that pauses longer than a page may take gets all features, and no second download meanwhile', {
  timeout: 60_000,
}, async () => {
  const path = '/collections/rows_of_text/items?limit=none&f=ndjson&sortby=id'
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    get(`${client.url}${path}`, { agent: false }, resolve).on('error', reject)
  })
  response.pause()
  await sleep(7_000)
  const { status, json } = await client('/collections/cities/items?limit=none')
  assert.deepEqual([status, json.code], [503, 'gateway-busy'])
  assert.equal((await client('/collections/cities/items?limit=5000')).status, 200)
  // Another client gets one, and then there is no place for a third.
  const from = (address: string) => ({ headers: { 'x-forwarded-for': address }, agent: false })
  const ofOther = await new Promise<IncomingMessage>((resolve, reject) => {
    get(`${client.url}${path}`, from('203.0.113.9'), resolve).on('error', reject)
  })
  assert.equal(ofOther.statusCode, 200)
  const third = await client('/collections/countries/items?limit=none', from('203.0.113.10'))
  assert.deepEqual([third.status, third.json.code], [503, 'gateway-busy'])
  ofOther.destroy()
  let text = ''
  for await (const chunk of response) text += chunk
  const lines = text.trimEnd().split('\n')
  assert.deepEqual([lines.length, JSON.parse(lines.at(-1)!).properties.id], [20_000, 20_000])
  await until(async () => (await client('/collections/countries/items?limit=none')).status === 200, 5_000)
})
