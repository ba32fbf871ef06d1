// Tests long responses: they start before all of their features are read, take little memory, and end when the client
// leaves.

import assert from 'node:assert/strict'
import { get, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openSession } from '../../database/session.ts'
import type { Page } from '../support/client.ts'
import { testDatabase } from '../support/database.ts'
import { startGateway } from '../support/gateway.ts'
import { makeRandom } from '../support/random.ts'

const gateway = await startGateway('--pool-size', '4')
const { client, session, catalog } = gateway
const superuser = await openSession(testDatabase().superuserUrl, 'test')
after(() => superuser.close())
const busyBackends = async () =>
  Number(
    (
      await superuser.query<{ count: string }>(
        `select count(*) from pg_stat_activity where application_name = 'tessera-read' and state <> 'idle'`,
      )
    )[0]!.count,
  )
const backends = async () =>
  Number(
    (
      await superuser.query<{ count: string }>(
        `select count(*) from pg_stat_activity where application_name = 'tessera-read'`,
      )
    )[0]!.count,
  )

const sessions = () =>
  superuser.query(
    `select state, now() - state_change as since, left(query, 200) as query from pg_stat_activity where application_name = 'tessera-read'`,
  )

/** Waits for a moment without work: the catalog is read every two seconds, so there may be work at other moments. */
async function untilIdle(withinMs: number) {
  const deadline = performance.now() + withinMs
  while ((await busyBackends()) > 0) {
    assert.ok(performance.now() < deadline, `a backend is still at work: ${JSON.stringify(await sessions())}`)
    await sleep(20)
  }
}

const open = (path: string) =>
  new Promise<IncomingMessage>((resolve, reject) => {
    const request = get(`${client.url}${path}`, resolve)
    request.on('error', reject)
  })

before(async () => {
  await session.query(`
    create table heavy as select i as id, st_setsrid(st_makepoint(i % 180, i % 90), 4326)::geometry(Point, 4326) geom, repeat('x', 5000) padding from generate_series(1, 10000) i;
    alter table heavy add primary key (id); analyze heavy;
    create view dripping as select id, geom, padding, case when id % 100 = 0 then pg_sleep(0.02)::text end slept from heavy offset 0;
    create view stuck as select id, geom, pg_sleep(1000)::text slept from heavy`)
  await catalog.reload()
})

test('a page of ten thousand features starts well before its last feature is read', async () => {
  const start = performance.now()
  const response = await open('/collections/dripping/items?limit=10000')
  await new Promise((resolve) => response.once('data', resolve))
  const first = performance.now() - start
  let bytes = 0
  for await (const chunk of response) bytes += chunk.length
  const all = performance.now() - start
  // A hundred pauses of 20 ms take two seconds; the first byte waits for one or two of these pauses.
  assert.ok(all > 2_000 && first < all / 4, `first byte after ${first} ms of ${all} ms`)
  assert.ok(bytes > 50_000_000)
})

test('ten thousand features of 5 kB grow the process by less than 50 MB', async () => {
  const read = async () => {
    let bytes = 0
    for await (const chunk of await open('/collections/heavy/items?limit=10000')) bytes += chunk.length
    return bytes
  }
  await read()
  const base = process.memoryUsage().rss
  let most = base
  const watch = setInterval(() => (most = Math.max(most, process.memoryUsage().rss)), 5)
  const bytes = await read()
  clearInterval(watch)
  assert.ok(bytes > 50_000_000)
  assert.ok(most - base < 50 * 1024 * 1024, `grew by ${Math.round((most - base) / 1024 / 1024)} MB`)
})

test('the gateway waits for a slow reader, and does not read the rest into memory', async () => {
  const response = await open('/collections/heavy/items?limit=10000')
  response.pause()
  await sleep(1_000)
  // The query is still active: only as much as fits into buffers has been read.
  assert.ok((await busyBackends()) > 0, JSON.stringify(await sessions()))
  let text = ''
  for await (const chunk of response) text += chunk
  assert.equal((JSON.parse(text) as Page).numberReturned, 10_000)
  await untilIdle(2_000)
})

test('when a client leaves, its query is cancelled on the server, and the connection is used again', async () => {
  for (const path of [
    '/collections/stuck/items?limit=5',
    '/collections/stuck/items?limit=5000',
    '/collections/heavy/items?limit=10000',
  ]) {
    const before = await backends()
    for (let round = 0; round < 5; round++) {
      const request = get(`${client.url}${path}`)
      request.on('error', () => {})
      await sleep(100)
      request.destroy()
      await untilIdle(2_000)
    }
    assert.ok((await backends()) <= Math.max(before + 2, 7), 'connections are used again')
    assert.equal((await client('/collections/heavy/items?limit=1')).status, 200)
  }
})

test('a query that takes too long is reported as such', async () => {
  // Longer than the discovery of all tables that other test files have created.
  const short = await startGateway('--statement-timeout-ms', '2000')
  for (const limit of [5, 5000]) {
    const { status, json } = await short.client(`/collections/stuck/items?limit=${limit}`)
    assert.deepEqual([status, json.code], [503, 'query-too-slow'])
  }
})

test('when all connections are in use, the next client is told to retry', { timeout: 20_000 }, async () => {
  const small = await startGateway('--pool-size', '1', '--statement-timeout-ms', '20000')
  const request = get(`${small.client.url}/collections/stuck/items?limit=5`)
  request.on('error', () => {})
  await sleep(300)
  const { status, json, headers } = await small.client('/collections/heavy/items?limit=1')
  request.destroy()
  assert.deepEqual([status, json.code, headers.get('retry-after')], [503, 'database-busy', '2'])
})

test('when all connections for long pages are in use, short pages are served', {
  timeout: 20_000,
}, async () => {
  const small = await startGateway('--pool-size', '1', '--statement-timeout-ms', '20000')
  const request = get(`${small.client.url}/collections/stuck/items?limit=10000`)
  request.on('error', () => {})
  await sleep(300)
  const start = performance.now()
  const long = small.client('/collections/heavy/items?limit=10000')
  assert.equal((await small.client('/collections/heavy/items?limit=1')).status, 200)
  const { status, json } = await long
  assert.deepEqual([status, json.code], [503, 'database-busy'])
  assert.ok(performance.now() - start < 4_000)
  request.destroy()
  for (const deadline = performance.now() + 5_000; ; ) {
    const { status } = await small.client('/collections/heavy/items?limit=10000')
    if (status === 200) break
    assert.ok(performance.now() < deadline, 'the next waits for one that has left')
  }
})

test('after thousands of clients have left at any moment, every connection works and every backend is idle', {
  timeout: 120_000,
}, async () => {
  const { hostname, port } = new URL(client.url)
  const paths = [
    '/collections/cities/items/24587.5',
    '/collections/cities/items?limit=100&bbox=5,45,11,48',
    '/collections/heavy/items?limit=10000',
    '/collections/stuck/items?limit=1',
    '/collections/cities',
  ]
  const random = makeRandom(3)
  const leave = (index: number) =>
    new Promise<void>((resolve) => {
      const socket = connect(Number(port), hostname)
      socket.on('close', () => resolve()).on('error', () => {})
      socket.on('connect', () => {
        const request = `GET ${paths[index % paths.length]} HTTP/1.1\r\nhost: a\r\n\r\n`
        // Some leave in the middle of their request.
        socket.write(index % 7 === 0 ? request.slice(0, Math.floor(random() * request.length)) : request)
        setTimeout(() => (index % 2 ? socket.destroy() : socket.resetAndDestroy()), random() * 40)
      })
    })
  let next = 0
  const clients = Array.from({ length: 100 }, async () => {
    while (next < 3_000) await leave(next++)
  })
  await Promise.all(clients)
  // Some hundred requests have arrived whose clients have left since; on a slow machine with Citus that is seconds of work.
  await untilIdle(15_000)
  assert.ok((await backends()) <= 4 + 2 + 4)
  for (const path of paths.filter((name) => !name.includes('stuck'))) {
    const start = performance.now()
    assert.equal((await client(path)).status, 200)
    assert.ok(performance.now() - start < 5_000)
  }
  assert.deepEqual(
    gateway.events.filter(({ type }) => type === 'request-failed'),
    [],
  )
})
