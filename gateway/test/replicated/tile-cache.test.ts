// Tests tiles that are kept: how old they may be while features change, what they cost the database, and what they occupy.

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Consistency } from '../../database/consistency.ts'
import { makeTileCache } from '../../features/tiles/tile-cache.ts'
import { testDatabase } from '../support/database.ts'
import { distributeById } from '../support/distribute.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { runTessera } from '../support/process.ts'
import { featuresOf, fetchTile } from '../support/tile.ts'
import { until } from '../support/until.ts'

const second = await startGateway()
const hour = await startGateway('--tile-max-age=3600', '--tile-stale=30')
const never = await startGateway('--tile-max-age=0', '--tile-cache=0')
const { session } = second

await session.query(`create table kept_points (id int primary key, number int, geom geometry(Point, 4326))`)
await distributeById(session, 'kept_points')
await session.query(`insert into kept_points values
  (1, 0, 'SRID=4326;POINT(7.5 46.5)'), (2, 0, 'SRID=4326;POINT(7.6 46.6)'), (3, 0, 'SRID=4326;POINT(-70 -33)')`)
for (const { catalog } of [second, hour, never]) await catalog.reload()

const PLACE = '/collections/kept_points/tiles/WebMercatorQuad/8/90/133'
const WORLD = '/collections/kept_points/tiles/WebMercatorQuad/0/0/0'
/** Every query is a tile of its own. */
let queries = 0
const fresh = (path = PLACE) => `${path}?filter=${encodeURIComponent(`number > ${--queries}`)}`

type Headers = Record<string, string>
/** Requests a tile. @returns it, where it came from, and the reads of the database meanwhile */
async function ask({ client, events, database }: TestGateway, path: string, headers: Headers = {}) {
  const readsOf = () => Object.values(database.status().reads).reduce((sum, count) => sum + count)
  const [seen, before] = [events.length, readsOf()]
  const answer = await fetchTile(client, path, headers)
  const from = events.slice(seen).flatMap((event) => (event.type === 'tile-served' ? event.from : []))
  return { ...answer, from: from.join(), reads: readsOf() - before }
}
/** Requests a tile, again if the gateway's own reads, of which there are some each second, may have been counted. */
async function askAlone(gateway: TestGateway, path: string, headers?: Headers) {
  let answer = await ask(gateway, path, headers)
  for (let tries = 1; answer.reads > 0 && tries < 5; tries++) answer = await ask(gateway, path, headers)
  return answer
}
const numberOf = (answer: Parameters<typeof featuresOf>[0], id: number, layer = 'kept_points') =>
  Number(
    featuresOf(answer, layer).find((feature) => feature.id === id || feature.properties.id === String(id))
      ?.properties.number,
  )

const change = async ({ client }: TestGateway, id: number, number: number) => {
  const response = await fetch(`${client.url}/collections/kept_points/items/${id}`, {
    method: 'PATCH',
    headers: { 'content-type': 'application/merge-patch+json' },
    body: JSON.stringify({ properties: { number } }),
  })
  assert.ok(response.ok, await response.text())
  return { 'consistency-token': response.headers.get('consistency-token')! }
}

test('a tile is answered from memory without the database, and so is that it has not changed', async () => {
  const path = fresh()
  assert.equal((await ask(hour, path)).from, 'database')
  const kept = await askAlone(hour, path)
  assert.deepEqual([kept.status, kept.from, kept.reads], [200, 'memory', 0])
  const same = await askAlone(hour, path, { 'if-none-match': kept.headers.get('etag')! })
  assert.deepEqual([same.status, same.from, same.reads, same.body.length], [304, 'memory', 0, 0])
  assert.match(same.headers.get('tessera-source')!, /primary|secondary/)
})

test('when it is too old, one look shows that nothing has changed, for all tiles at once', async () => {
  const [one, other] = [fresh(), fresh()]
  // Something else may be written at any time.
  await until(async () => {
    await Promise.all([ask(second, one), ask(second, other)])
    await sleep(1_050)
    const first = await ask(second, one)
    const next = await ask(second, other)
    if (first.from !== 'look' || next.from !== 'memory') return false
    // The gateway reads something by itself each second.
    if (first.reads !== 1 || next.reads !== 0) return false
    return true
  }, 20_000)
})

test('a token shows a change at once, after a look or as it is made', async () => {
  const path = fresh()
  for (let number = 1; number <= 20; number++) {
    await ask(hour, path)
    const token = await change(second, 1, number)
    const seen = await ask(hour, path, token)
    assert.equal(numberOf(seen, 1), number)
    assert.equal(numberOf(await ask(hour, path, token), 1), number)
  }
  const token = await change(second, 1, 100)
  await ask(hour, path, token)
  await until(async () => (await ask(hour, path, token)).from === 'look', 20_000)
  const strong = await ask(hour, path, { prefer: 'consistency=strong' })
  assert.equal(numberOf(strong, 1), 100)
  assert.equal(strong.headers.get('tessera-source'), 'primary')
})

test('a token of what a kept tile shows stands for all that is in it', async () => {
  const path = fresh()
  await change(second, 2, 50)
  const shown = await ask(second, path, { prefer: 'consistency=monotonic' })
  const again = await ask(second, path, { prefer: 'consistency=monotonic' })
  for (const { headers } of [shown, again]) {
    const token = headers.get('consistency-token')!
    const later = await ask(never, path, { 'consistency-token': token })
    assert.ok(numberOf(later, 2) >= numberOf(shown, 2))
  }
})

/** Time that replication may take on a busy machine. */
const LAG_MS = 400

/** Changes numbers by gateways and by SQL until `isOver`. @returns when each number was acknowledged, and must be seen */
function writeNumbers(isOver: () => boolean) {
  const acknowledged = new Map<number, { readonly number: number; readonly at: number }[]>([
    [1, []],
    [2, []],
    [3, []],
  ])
  let number = 1_000
  const write = async (id: number, work: (number: number) => Promise<unknown>) => {
    for (; !isOver(); await sleep(Math.random() * 60)) {
      const given = ++number
      await work(given)
      acknowledged.get(id)!.push({ number: given, at: performance.now() })
      // Sometimes there is time for a look that confirms.
      if (Math.random() < 0.15) await sleep(700 + Math.random() * 900)
    }
  }
  const writing = Promise.all([
    write(1, (given) => change(second, 1, given)),
    write(2, (given) => change(hour, 2, given)),
    write(3, (given) => session.query('update kept_points set number = $1 where id = 3', [given])),
  ])
  /** Returns the least number that whoever sees everything of that time can see. */
  const leastAt = (id: number, at: number) =>
    acknowledged.get(id)!.findLast((one) => one.at <= at)?.number ?? 0
  return { writing, leastAt }
}

test('while features change, no tile is older than it may be', async (t: TestContext) => {
  const end = performance.now() + 15_000
  const isOver = () => performance.now() > end
  const { writing, leastAt } = writeNumbers(isOver)
  const from = new Map<string, number>()
  const paths = [
    fresh(WORLD),
    fresh(PLACE),
    fresh('/tiles/WebMercatorQuad/0/0/0').replace(/\?.*/, '?collections=kept_points'),
  ]
  let reads = 0
  const read = async (gateway: TestGateway, maxAgeMs: number) => {
    for (; !isOver(); await sleep(Math.random() * 20)) {
      const path = paths[Math.floor(Math.random() * paths.length)]!
      const at = performance.now()
      const answer = await ask(gateway, path)
      assert.equal(answer.status, 200)
      for (const id of path.includes('/8/90/133') ? [1, 2] : [1, 2, 3]) {
        const least = leastAt(id, at - maxAgeMs - LAG_MS)
        const seen = numberOf(answer, id)
        assert.ok(seen >= least, `${path}: ${seen} of ${id} is older than ${least}, ${answer.from}`)
      }
      reads++
      for (const one of answer.from.split(',')) from.set(one, (from.get(one) ?? 0) + 1)
    }
  }
  await Promise.all([writing, ...Array.from({ length: 3 }, () => read(second, 1_000)), read(never, 0)])
  t.diagnostic(`${reads} tiles: ${JSON.stringify([...from])}`)
  assert.ok(from.get('memory')! > 0 && from.get('database')! > 0)
})

test('the state of each node group is that of a server of its own', async () => {
  const consistency = new Consistency()
  consistency.state = new Map()
  await second.database.within({ consistency }).look(undefined)
  const servers = [...consistency.state.values()].map((state) => state!.split(' ')[0])
  assert.deepEqual([...consistency.state.keys()].toSorted(), second.database.status().groups.toSorted())
  assert.equal(new Set(servers).size, servers.length, servers.join())
})

test('a tile of a single cell is as recent', async () => {
  const created = await second.client('/collections/cities/items', {
    method: 'POST',
    headers: { 'content-type': 'application/geo+json' },
    body: JSON.stringify({
      type: 'Feature',
      geometry: { type: 'Point', coordinates: [-120.5, -50.5] },
      properties: { name: 'kept 0', country: 'AQ' },
    }),
  })
  assert.equal(created.status, 201)
  const { id } = created.json
  const path = '/collections/cities/tiles/WebMercatorQuad/10/678/169'
  for (let number = 1; number <= 5; number++) {
    await ask(second, path)
    await hour.client(`/collections/cities/items/${id}`, {
      method: 'PATCH',
      headers: { 'content-type': 'application/merge-patch+json' },
      body: JSON.stringify({ properties: { name: `kept ${number}` } }),
    })
    await ask(second, path)
    await sleep(1_000 + LAG_MS)
    const [city] = featuresOf(await ask(second, path), 'cities')
    assert.equal(city?.properties.name, `kept ${number}`)
  }
  await second.client(`/collections/cities/items/${id}`, { method: 'DELETE' })
})

test('requests for the same tile at the same time are made once, whoever leaves', async () => {
  const path = `${fresh(WORLD).replaceAll('kept_points', 'cities')}`.replace(
    /filter=.*/,
    'filter=name%3E%27B%27',
  )
  const leaving = new AbortController()
  const seen = second.events.length
  const left = fetch(second.client.url + path, { signal: leaving.signal }).catch(() => 'left')
  await sleep(20)
  const others = Array.from({ length: 8 }, () => fetchTile(second.client, path))
  await sleep(20)
  leaving.abort()
  assert.equal(await left, 'left')
  const answers = await Promise.all(others)
  for (const { status, body } of answers) {
    assert.equal(status, 200)
    assert.deepEqual(body, answers[0]!.body)
  }
  const from = second.events.slice(seen).flatMap((event) => (event.type === 'tile-served' ? event.from : []))
  assert.ok(from.filter((one) => one === 'database').length <= 1, from.join())
  assert.equal(from.filter((one) => one === 'another').length, 8, from.join())
})

test('when all who wait for a tile have left, its query is cancelled', async () => {
  const path = WORLD.replace('kept_points', 'cities')
  const seen = never.events.length
  const leaving = new AbortController()
  const asked = fetch(never.client.url + path, { signal: leaving.signal }).catch(() => 'left')
  await sleep(30)
  leaving.abort()
  assert.equal(await asked, 'left')
  await until(() => never.events.slice(seen).some(({ type }) => type === 'query-cancelled'))
})

test('tiles that are kept occupy no more than they may, and the ones that were used last stay', async () => {
  const { database } = second
  const cache = makeTileCache({ database, mostBytes: 100_000, maxAgeMs: 60_000, emit() {} })
  const { signal } = new AbortController()
  const recipient = { client: 'test', claims: undefined }
  const bodyOf = (name: string) => Buffer.from(name.padEnd(8_000, Math.random().toString(36)))
  const read = (name: string) =>
    cache.read(name, recipient, signal, async (view) => {
      await view.read({ text: 'select 1', values: [] })
      return { body: bodyOf(name), isSteady: true, cells: undefined }
    })
  for (let number = 0; number < 50; number++) {
    const { tile } = await read(`tile ${number}`)
    await tile.coded('gzip')
    await tile.coded('br')
    assert.ok(cache.bytes <= 100_000, String(cache.bytes))
    cache.recent('tile 0')
  }
  assert.ok(cache.bytes > 80_000)
  assert.equal(cache.recent('tile 0')?.tile.body.toString('latin1', 0, 6), 'tile 0')
  assert.ok(cache.recent('tile 49'))
  assert.equal(cache.recent('tile 20'), undefined)
  const large = await cache.read('large', recipient, signal, async () => ({
    body: Buffer.alloc(200_000),
    isSteady: true,
    cells: undefined,
  }))
  assert.equal(large.tile.body.length, 200_000)
  assert.ok(cache.bytes <= 100_000)
})

test('a purge takes effect in every gateway, although tiles could be older', async () => {
  const path = fresh()
  const other = `/countries/0/0/0.mvt`
  await Promise.all([ask(hour, path), ask(hour, other)])
  assert.equal((await ask(hour, path)).from, 'memory')
  const { writeUrl, ownerUrl, readUrl } = testDatabase()
  const environment = {
    TESSERA_READ_URL: readUrl,
    TESSERA_WRITE_URL: writeUrl,
    TESSERA_OWNER_URL: ownerUrl,
  }
  const { code, output } = await runTessera(['purge', 'kept_points'], undefined, environment)
  assert.equal(code, 0, output)
  await until(async () => (await ask(hour, path)).from === 'database', 4_000)
  assert.equal((await ask(hour, other)).from, 'memory')
  assert.equal((await runTessera(['purge'], undefined, environment)).code, 0)
  await until(async () => (await ask(hour, other)).from === 'database', 4_000)
  const refused = await runTessera(['purge', 'nothing'], undefined, environment)
  assert.equal(refused.code, 1)
  assert.match(refused.output, /nothing/)
})

test('a tile has a weak tag, the same in every gateway and coding', async () => {
  const path = '/collections/countries/tiles/WebMercatorQuad/3/2/4'
  const { headers, body } = await ask(second, path)
  const tag = headers.get('etag')!
  assert.match(tag, /^W\/"[\w-]{27}"$/)
  for (const coding of ['gzip', 'br', 'identity']) {
    const response = await fetch(hour.client.url + path, { headers: { 'accept-encoding': coding } })
    assert.equal(response.headers.get('etag'), tag)
    assert.equal(response.headers.get('content-encoding') ?? 'identity', coding)
    assert.match(response.headers.get('vary')!, /accept-encoding/)
    // fetch has decoded it.
    assert.deepEqual(Buffer.from(await response.arrayBuffer()), body)
    const same = await ask(never, path, { 'accept-encoding': coding, 'if-none-match': tag })
    assert.equal(same.status, 304)
    assert.equal(same.headers.get('content-encoding'), null)
  }
  const refused = await fetch(hour.client.url + path, {
    headers: { 'accept-encoding': 'br;q=0, gzip;q=0.5' },
  })
  assert.equal(refused.headers.get('content-encoding'), 'gzip')
})

test('caches are told how long they may show a tile, how old it is, and what to call it', async () => {
  const path = fresh('/tiles/WebMercatorQuad/0/0/0').replace(/\?.*/, '?collections=kept_points,countries')
  await ask(hour, path)
  await sleep(1_100)
  const { headers } = await ask(hour, path)
  assert.equal(headers.get('cache-control'), 'public, max-age=3600, stale-while-revalidate=30')
  assert.ok(Number(headers.get('age')) >= 2, headers.get('age')!)
  assert.equal(headers.get('surrogate-key'), 'tiles tiles/kept_points tiles/countries')
  assert.equal(headers.get('cache-tag'), 'tiles,tiles/kept_points,tiles/countries')
  assert.equal((await ask(second, path)).headers.get('cache-control'), 'public, max-age=1')
  assert.equal((await ask(never, path)).headers.get('cache-control'), 'public, no-cache')
  const strong = await ask(hour, path, { prefer: 'consistency=strong' })
  assert.equal(strong.headers.get('cache-control'), 'public, no-cache')
  const same = await ask(hour, path, { 'if-none-match': headers.get('etag')! })
  assert.equal(same.status, 304)
  assert.match(same.headers.get('cache-control')!, /max-age=3600/)
  const missing = await ask(hour, '/collections/kept_points/tiles/WebMercatorQuad/10/0/0')
  assert.equal(missing.status, 404)
  assert.equal(missing.headers.get('cache-control'), 'no-store')
})
