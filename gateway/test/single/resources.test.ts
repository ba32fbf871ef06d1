// Tests what clients can take of the gateway's memory, connections and time, whatever they ask for and however they read.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { get, type IncomingMessage } from 'node:http'
import { connect, type Socket } from 'node:net'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { followPages, type Page } from '../support/client.ts'
import { openSuperuser } from '../support/database.ts'
import { startGateway } from '../support/gateway.ts'
import { until } from '../support/until.ts'

const gateway = await startGateway()
const { client, session, catalog } = gateway
const superuser = await openSuperuser()
after(() => superuser.close())

/** Polygons of some 400 kB as GeoJSON. */
const POLYGONS = 60
const LETTERS = 400

before(async () => {
  await session.query(`
    create table bigpoly as
      select i as id, 'polygon ' || i as name,
        st_buffer(st_setsrid(st_makepoint(i, 0), 4326), 1, 3000)::geometry(Polygon, 4326) geom
      from generate_series(1, ${POLYGONS}) i;
    alter table bigpoly add primary key (id);
    create table hugepoly as
      select i as id, st_buffer(st_setsrid(st_makepoint(i, 0), 4326), 1, 5000)::geometry(Polygon, 4326) geom
      from generate_series(1, 2) i;
    alter table hugepoly add primary key (id);
    create table long_letter as
      select i as id, repeat('long ', 2000) as text, st_setsrid(st_makepoint(i % 180, 0), 4326)::geometry(Point, 4326) geom
      from generate_series(1, ${LETTERS}) i;
    alter table long_letter add primary key (id);
    create function spring(geometry) returns geometry language plpgsql immutable as
      $$ begin raise exception 'the geometry was read'; end $$;
    create view trap as select id, name, spring(geom)::geometry(Polygon, 4326) as geom from bigpoly;
    create view slow_letter as select id, pg_sleep(0.05)::text as slept, geom from long_letter offset 0`)
  await catalog.reload()
})

const idsOf = ({ features }: Page) => features.map(({ id }) => Number(id))
const all = (count: number) => Array.from({ length: count }, (_, index) => index + 1)

const open = (url: string, headers: Record<string, string> = {}) =>
  new Promise<IncomingMessage>((resolve, reject) => {
    get(url, { headers, agent: false }, resolve).on('error', reject)
  })
const textOf = async (response: IncomingMessage) => {
  let text = ''
  for await (const chunk of response) text += chunk
  return text
}

/** Sends requests over a connection of their own, which is not read. */
function openUnread(url: string, path: string, requests = 1): Socket {
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  socket.on('error', () => {})
  socket.pause()
  socket.write(`GET ${path} HTTP/1.1\r\nhost: a\r\n\r\n`.repeat(requests))
  return socket
}

const idleInTransaction = async () =>
  Number(
    (
      await superuser.query<{ count: string }>(
        `select count(*) from pg_stat_activity where application_name = 'tessera-read' and state like 'idle in transaction%'`,
      )
    )[0]!.count,
  )

test('a page of few features that are large has all of them, or ends early with a link to the rest', async () => {
  const ids: number[] = []
  for await (const page of followPages(client, '/collections/bigpoly/items?limit=50')) {
    assert.equal(page.numberReturned, page.features.length)
    ids.push(...idsOf(page))
  }
  assert.deepEqual(ids, all(POLYGONS))
})

test('a page whose features become large ends early, and the next pages have the rest', async () => {
  const small = 3_000
  await session.query(`
    create table growing as
      select i as id, st_setsrid(st_makepoint(1, 1), 4326)::geometry(Geometry, 4326) geom from generate_series(1, ${small}) i;
    insert into growing select ${small} + id, geom from bigpoly;
    alter table growing add primary key (id)`)
  await catalog.reload()
  const counts: number[] = []
  const ids: number[] = []
  for await (const page of followPages(client, '/collections/growing/items?limit=5000')) {
    counts.push(page.numberReturned)
    ids.push(...idsOf(page))
  }
  assert.deepEqual(ids, all(small + POLYGONS))
  assert.ok(counts[0]! > small && counts[0]! < small + POLYGONS, String(counts))
})

test('clients that do not read pages of few large features hold less than 100 MB', async () => {
  await (await open(`${client.url}/collections/bigpoly/items?limit=50`)).resume()
  await sleep(1_000)
  const base = process.memoryUsage().rss
  // All of these are 480 MB.
  const sockets = all(20).map(() => openUnread(client.url, '/collections/bigpoly/items?limit=50'))
  let most = base
  const end = performance.now() + 8_000
  while (performance.now() < end) {
    most = Math.max(most, process.memoryUsage().rss)
    await sleep(50)
  }
  for (const socket of sockets) socket.destroy()
  assert.ok(most - base < 100 * 1024 * 1024, `grew by ${Math.round((most - base) / 1024 / 1024)} MB`)
})

test('a client that does not read gives its connection back, and gets the rest by the next link', {
  timeout: 90_000,
}, async () => {
  const response = await open(`${client.url}/collections/bigpoly/items?limit=${POLYGONS}`)
  response.pause()
  await sleep(2_000)
  assert.equal(await idleInTransaction(), 1)
  await until(async () => (await idleInTransaction()) === 0, 20_000)
  const page = JSON.parse(await textOf(response)) as Page
  assert.equal(page.numberReturned, page.features.length)
  assert.ok(page.numberReturned < POLYGONS && page.numberMatched === undefined, String(page.numberReturned))
  const ids = idsOf(page)
  const next = page.links.find(({ rel }) => rel === 'next')!.href
  for await (const page of followPages(client, next)) ids.push(...idsOf(page))
  assert.deepEqual(ids, all(POLYGONS))
})

test('eight clients that hardly read do not keep others from large pages', { timeout: 60_000 }, async () => {
  const sockets = all(16).map(() => openUnread(client.url, '/collections/bigpoly/items?limit=50'))
  await until(async () => (await idleInTransaction()) > 0, 20_000)
  await until(async () => (await client('/collections/cities/items?limit=2000')).status === 200, 20_000)
  for (const socket of sockets) socket.destroy()
})

test('a page that takes too long ends early, with a link to the next', { timeout: 60_000 }, async () => {
  const { client } = await startGateway('--answer-timeout-ms', '1000')
  const { status, json } = await client('/collections/slow_letter/items?limit=1500')
  assert.equal(status, 200)
  const { numberReturned, links } = json as Page
  assert.ok(numberReturned >= 16 && numberReturned < LETTERS, String(numberReturned))
  assert.ok(links.some(({ rel, href }) => rel === 'next' && href.includes(`offset=${numberReturned}`)))
})

test('a client that reads too slowly is cut', { timeout: 90_000 }, async () => {
  const { client, events } = await startGateway('--least-rate', '10000000')
  const socket = openUnread(client.url, '/collections/bigpoly/items?limit=50')
  const reading = setInterval(() => socket.read(1_000), 200)
  await until(
    () => events.some((event) => event.type === 'answer-cut' && event.reason === 'too-slow'),
    60_000,
  )
  clearInterval(reading)
  socket.destroy()
})

test('an answer that its client does not take in time is cut', { timeout: 60_000 }, async () => {
  const { client, events } = await startGateway('--answer-timeout-ms', '1000', '--least-rate', '0')
  const socket = openUnread(client.url, '/collections/long_letter/items?limit=150', 8)
  await until(
    () => events.some((event) => event.type === 'answer-cut' && event.reason === 'too-long'),
    30_000,
  )
  socket.destroy()
})

test('a page for people has at most a thousand features, and a link to the next ones', async () => {
  await session.query(`create table many_rows as
    select i as id, st_setsrid(st_makepoint(1, 1), 4326)::geometry(Point, 4326) geom from generate_series(1, 1200) i;
    alter table many_rows add primary key (id)`)
  await catalog.reload()
  const { text } = await client('/collections/many_rows/items?f=html&limit=2000')
  assert.equal([...text.matchAll(/items\/(\d+)\?f/g)].length, 1_000)
  assert.match(text, /id="next" class="button" href=/)
})

test('a page for people reads no geometry', async () => {
  const page = await client('/collections/trap/items?f=html')
  assert.equal(page.status, 200)
  assert.match(page.text, /polygon 1</)
  assert.equal((await client('/collections/bigpoly/items/3?f=html')).status, 200)
})

test('a page for people ends early if its features are long, and the next pages have the rest', async () => {
  const ids: number[] = []
  let path: string | undefined = `/collections/long_letter/items?f=html&limit=${LETTERS}`
  for (let pages = 0; path; pages++) {
    const { status, text }: { status: number; text: string } = await client(path)
    assert.equal(status, 200, text)
    assert.ok(text.length < 2_000_000, String(text.length))
    ids.push(...[...text.matchAll(/items\/(\d+)\?f/g)].map(([, id]) => Number(id)))
    path = /id="next" class="button" href="([^"]+)"/
      .exec(text)?.[1]
      ?.replaceAll(/&#(\d+);/g, (_, code) => String.fromCharCode(Number(code)))
    assert.ok(pages < 20)
  }
  assert.deepEqual(ids, all(LETTERS))
})

test('a large feature is served complete, alone and among others', async () => {
  const large = await client('/collections/bigpoly/items/7')
  assert.equal(large.status, 200)
  assert.equal(large.json.geometry.coordinates[0].length, 12_001)
  assert.match(large.headers.get('etag')!, /^"/)
  const both = await Promise.all(all(12).map((id) => client(`/collections/bigpoly/items/${id}`)))
  assert.deepEqual(
    both.map(({ json }) => json.id),
    all(12),
  )
  assert.equal((await client('/collections/bigpoly/items/0')).status, 404)
})

test('a feature that is too large for the memory is a problem of its own, and others are served', async () => {
  await session.query(`create table giants (id int primary key, name text, body text, geom geometry(Point, 4326));
    insert into giants values (1, 'small', 'a', 'SRID=4326;POINT(1 1)'),
      (2, 'giant', repeat('x', 65 * 1024 * 1024), 'SRID=4326;POINT(2 2)')`)
  await catalog.reload()
  const [small, giant] = await Promise.all([
    client('/collections/giants/items/1'),
    client('/collections/giants/items/2'),
  ])
  assert.equal(small.json.properties?.name, 'small', small.text)
  assert.deepEqual([giant.status, giant.json.code], [500, 'feature-too-large'])
  assert.match(giant.json.detail, /properties/)
  // The small one has been sent by then.
  await assert.rejects(client('/collections/giants/items?limit=2'), /terminated/)
  const page = await client('/collections/giants/items?limit=2&properties=name')
  assert.deepEqual(
    page.json.features.map((feature: { properties: unknown }) => feature.properties),
    [{ name: 'small' }, { name: 'giant' }],
  )
  await session.query('drop table giants')
})

test('if too many bytes wait for slow clients, requests are refused until some have left', async () => {
  const { client } = await startGateway('--buffer-limit', '1048576')
  const path = '/collections/long_letter/items?limit=150'
  // Each answer has 1.5 MB, and a socket takes some of them.
  const sockets = all(4).map(() => openUnread(client.url, path, 8))
  await until(async () => (await client(path)).status === 503, 10_000)
  const { status, json, headers } = await client(path)
  assert.deepEqual([status, json.code, headers.get('retry-after')], [503, 'gateway-busy', '2'])
  assert.equal((await client('/health/ready')).status, 200)
  for (const socket of sockets) socket.destroy()
  await until(async () => (await client(path)).status === 200, 5_000)
})

test('a large feature is refused if it would be too much beside what waits, and small ones are served', async () => {
  const { client } = await startGateway('--buffer-limit', '1048576')
  let large = await client('/collections/hugepoly/items/1')
  assert.equal(large.json.geometry.coordinates[0].length, 20_001)
  // A page of 24 MB, of which a feature of 400 kB waits.
  const socket = openUnread(client.url, `/collections/bigpoly/items?limit=${POLYGONS}`)
  await until(async () => {
    large = await client('/collections/hugepoly/items/1')
    return large.status === 503
  }, 10_000)
  assert.deepEqual([large.json.code, large.headers.get('retry-after')], ['gateway-busy', '2'])
  assert.equal((await client('/collections/long_letter/items/1')).status, 200)
  socket.destroy()
  await until(async () => (await client('/collections/hugepoly/items/1')).status === 200, 5_000)
})

test('a client gets no more large answers at once than it may; others do', async () => {
  const { client } = await startGateway('--client-streams', '1')
  const url = `${client.url}/collections/bigpoly/items?limit=50`
  const first = await open(url)
  first.pause()
  const { status, json } = await client('/collections/bigpoly/items?limit=50')
  assert.deepEqual([status, json.code], [503, 'gateway-busy'])
  const other = await open(url, { 'x-forwarded-for': '203.0.113.9' })
  assert.equal(other.statusCode, 200)
  for (const response of [first, other]) response.destroy()
  await until(async () => (await client('/collections/bigpoly/items?limit=50')).status === 200, 5_000)
})

test('a gateway accepts no more connections than it may', async () => {
  const { client } = await startGateway('--max-connections', '2')
  const { hostname, port } = new URL(client.url)
  // Each from an address of its own, which has its share.
  const open = (host: number) =>
    connect({ port: Number(port), host: hostname, localAddress: `127.0.0.${host}` })
  const sockets = [open(2), open(3)]
  await Promise.all(sockets.map((socket) => once(socket, 'connect')))
  const third = open(4).on('error', () => {})
  await once(third, 'close')
  for (const socket of sockets) socket.destroy()
  await until(async () => (await client('/').catch(() => ({ status: 0 }))).status === 200, 5_000)
})

test('an address has no more than its share of the connections, unless it is a trusted proxy', async () => {
  const isOpen = async (url: string, localAddress: string) => {
    const { hostname, port } = new URL(url)
    const socket = connect({ port: Number(port), host: hostname, localAddress }).on('error', () => {})
    socket.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n')
    const first = await Promise.race([
      once(socket, 'data').catch(() => []),
      once(socket, 'close').then(() => []),
    ])
    return first.length > 0 && socket
  }
  const { client } = await startGateway('--max-connections', '8', '--trust-proxy', '127.0.0.9')
  const opened = [await isOpen(client.url, '127.0.0.2'), await isOpen(client.url, '127.0.0.2')]
  assert.ok(opened.every(Boolean))
  assert.equal(await isOpen(client.url, '127.0.0.2'), false)
  assert.ok(await isOpen(client.url, '127.0.0.3'))
  for (const _ of all(3)) assert.ok(await isOpen(client.url, '127.0.0.9'))
  for (const socket of opened) if (socket) socket.destroy()
  await until(async () => Boolean(await isOpen(client.url, '127.0.0.2')), 5_000)
})

test('a connection whose request did not arrive in time is closed, although its client goes on sending', async () => {
  const { client } = await startGateway('--request-timeout-ms', '1000')
  const { hostname, port } = new URL(client.url)
  const socket = connect({ port: Number(port), host: hostname, allowHalfOpen: true })
  let answer = ''
  socket.on('data', (chunk) => {
    answer += chunk
  })
  const cut = new Promise((resolve) => socket.once('error', resolve))
  socket.write('GET / HTTP/1.1\r\nhost: a\r\n')
  const dripping = setInterval(() => socket.write('x-b: c\r\n'), 100)
  const error = (await Promise.race([cut, sleep(10_000)])) as { code?: string } | undefined
  clearInterval(dripping)
  socket.destroy()
  assert.match(answer, /^HTTP\/1.1 408 /)
  assert.match(error?.code ?? 'still open', /^(ECONNRESET|EPIPE)$/)
})
