// Tests Last-Modified and the conditions that clients make with it: a date names one version, although it has only seconds.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from '../../database/sql.ts'
import { statementOf } from '../../database/template.ts'
import type { DistributeBy } from '../../features/collections/managed.ts'
import { importFeatures } from '../../features/import/import.ts'
import { openSource } from '../../features/import/import-source.ts'
import { geojsonSeq } from '../../features/import/sources/geojson-seq.ts'
import { nextTime } from '../../features/query/modification-time.ts'
import { changeOf } from '../support/client.ts'
import { distributeById } from '../support/distribute.ts'
import { startGateway } from '../support/gateway.ts'

const { client, session, catalog } = await startGateway()

const COLLECTIONS = { dated_cells: 'cell', dated_ids: 'id' } satisfies Record<string, DistributeBy>
const feature = (n: number, longitude = 10) => ({
  type: 'Feature',
  geometry: { type: 'Point', coordinates: [longitude, 50] },
  properties: { n, day: '2024-02-29', at: '2024-02-29T12:00:00.123456+00:00' },
})

before(async () => {
  for (const [collection, distributeBy] of Object.entries(COLLECTIONS)) {
    const lines = [1, 2, 3].map((n) => JSON.stringify(feature(n)))
    const source = await openSource('-', Readable.from([Buffer.from(lines.join('\n'))]), {
      format: geojsonSeq,
    })
    await importFeatures(session, source, { collection, existing: undefined, distributeBy }, () => {})
  }
  await session.query(`
    create table dateless (id int primary key, geom geometry(Point, 4326), n int);
    insert into dateless values (1, 'SRID=4326;POINT(10 50)', 1)`)
  await distributeById(session, 'dateless')
  await catalog.reload()
})

const create = async (collection: string) => {
  const answer = await client(`/collections/${collection}/items`, {
    method: 'POST',
    headers: { 'content-type': 'application/geo+json' },
    body: JSON.stringify(feature(0)),
  })
  assert.equal(answer.status, 201, answer.text)
  return { path: `/collections/${collection}/items/${answer.json.id}`, date: dateOf(answer) }
}
const dateOf = ({ headers }: { headers: Headers }) => headers.get('last-modified')!
const change = (path: string, headers: Record<string, string> = {}, body: object = {}, method = 'PATCH') =>
  client(path, changeOf(method, headers, body))
const since = (date: string) => ({ 'if-unmodified-since': date })
const withN = (n: number) => ({ properties: { n } })
const later = (date: string, seconds: number) => new Date(Date.parse(date) + seconds * 1000).toUTCString()

test('/req/optimistic-locking-timestamps/get-last-modified-response, /req/optimistic-locking-timestamps/put-last-modified-response, /req/optimistic-locking-timestamps/patch-last-modified-response: a feature has the second of its last change, which is never in the future', async () => {
  for (const collection of Object.keys(COLLECTIONS)) {
    const { path, date } = await create(collection)
    const answers = [
      await client(path),
      await change(path, {}, feature(1), 'PUT'),
      await change(path, { prefer: 'return=minimal' }, withN(2)),
      await client(path, { method: 'HEAD' }),
    ]
    for (const answer of answers) {
      assert.ok(answer.status < 300, answer.text)
      assert.match(dateOf(answer), /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/)
      assert.ok(Date.parse(dateOf(answer)) >= Date.parse(date))
      assert.ok(Date.parse(dateOf(answer)) <= Date.now())
    }
    await sleep(2_000)
    const id = path.split('/').at(-1)!
    const [row] = await session.query<{ second: number }>(
      `select extract(epoch from updated_at)::float as second from ${collection} where id::text = $1`,
      [id],
    )
    assert.equal(Date.parse(dateOf(await client(path))) / 1000, row!.second)
  }
  const [imported] = (await client('/collections/dated_cells/items?limit=1')).json.features
  assert.ok(dateOf(await client(`/collections/dated_cells/items/${imported.id}`)))
})

test('/req/optimistic-locking-timestamps/ifunmodifiedsince-put-op, /req/optimistic-locking-timestamps/ifunmodifiedsince-put-eval, /req/optimistic-locking-timestamps/ifunmodifiedsince-patch-op, /req/optimistic-locking-timestamps/ifunmodifiedsince-patch-eval: a feature that was changed since a date is not overwritten', async () => {
  for (const collection of Object.keys(COLLECTIONS)) {
    const { path, date } = await create(collection)
    const first = await change(path, since(date), withN(1))
    assert.equal(first.status, 200, first.text)
    for (const method of ['PUT', 'PATCH', 'DELETE']) {
      const late = await change(path, since(date), feature(2), method)
      assert.deepEqual([late.status, late.json.code], [412, 'feature-changed'], method)
      assert.match(late.json.detail, /has been changed since the time in If-Unmodified-Since/)
    }
    assert.equal((await client(path)).json.properties.n, 1)
    // The answer to a change by a date waits until its own date can be sent.
    assert.ok(Date.parse(dateOf(first)) > Date.parse(date))
    const second = await change(path, since(dateOf(first)), feature(3), 'PUT')
    assert.equal(second.status, 200, second.text)
    assert.equal((await change(path, since(later(date, 3_600)), {}, 'DELETE')).status, 204)
    const gone = await change(path, since(later(date, 3_600)), feature(4), 'PUT')
    assert.ok([404, 412].includes(gone.status), gone.text)
  }
})

test('changes within one second have different dates, and the one before is not overwritten', async () => {
  for (const collection of Object.keys(COLLECTIONS)) {
    const { path, date } = await create(collection)
    const burst = [await change(path, {}, withN(1)), await change(path, {}, withN(2)), await client(path)]
    const dates = [date, ...burst.map(dateOf)]
    // None of them names the feature as it is now, unless its second has come.
    for (const one of dates.filter((one) => Date.parse(one) < Date.parse(date) + 2_000))
      assert.equal((await change(path, since(one), withN(3))).status, 412)
    await sleep(3_000)
    const settled = dateOf(await client(path))
    assert.ok(Date.parse(settled) >= Date.parse(date) + 2_000, `${date} ${settled}`)
    assert.equal((await change(path, since(settled), withN(4))).status, 200)
  }
})

/** Patches that race in all. Each version takes a second, so that 2,000 of them take two minutes. */
const PATCHES = Number(process.env.RACING_PATCHES ?? 200)
const RACERS = 20

test(`when ${PATCHES} patches race by date, exactly one succeeds for each version`, async () => {
  const collections = Object.keys(COLLECTIONS)
  for (const collection of collections) {
    const { path, date } = await create(collection)
    let current = date
    for (let round = 0; round < PATCHES / collections.length / RACERS; round++) {
      const outcomes = await Promise.all(
        Array.from({ length: RACERS }, (_, racer) =>
          change(path, since(current), withN(round * RACERS + racer)),
        ),
      )
      const winners = outcomes.filter(({ status }) => status === 200)
      assert.equal(winners.length, 1, `round ${round}: ${outcomes.map(({ status }) => status)}`)
      assert.ok(outcomes.every(({ status }) => status === 200 || status === 412))
      const now = await client(path)
      assert.equal(now.json.properties.n, winners[0]!.json.properties.n)
      assert.equal(dateOf(now), dateOf(winners[0]!))
      current = dateOf(now)
    }
  }
})

test('a change that is repeated under its key has the date of the first time, also if the feature has changed since', async () => {
  for (const collection of Object.keys(COLLECTIONS)) {
    const items = `/collections/${collection}/items`
    const key = () => ({ 'idempotency-key': randomUUID() })
    const creating = { ...changeOf('PUT', key(), feature(0)), method: 'POST' }
    const made = await client(items, creating)
    const path = `${items}/${made.json.id}`
    const changing = { ...since(dateOf(made)), ...key() }
    const changed = await change(path, changing, withN(1))
    assert.equal(changed.status, 200, changed.text)
    await change(path, {}, withN(2))
    for (const [first, again] of [
      [made, await client(items, creating)],
      [changed, await change(path, changing, withN(1))],
    ] as const) {
      assert.equal(again.headers.get('idempotent-replayed'), 'true')
      assert.ok(dateOf(first))
      assert.deepEqual([again.status, dateOf(again)], [first.status, dateOf(first)])
    }
    const removing = key()
    for (const status of [204, 204]) assert.equal((await change(path, removing, {}, 'DELETE')).status, status)
  }
})

test('a change of all features that meet a condition gives each a later date than it had', async () => {
  for (const collection of Object.keys(COLLECTIONS)) {
    const { path } = await create(collection)
    const id = path.split('/').at(-1)!
    const timeOf = async () => {
      const [row] = await session.query<{ time: number }>(
        `select extract(epoch from updated_at)::float as time from ${collection} where id::text = $1`,
        [id],
      )
      return row!.time
    }
    // As after many changes within a second.
    await session.query(
      `update ${collection} set updated_at = date_trunc('second', now()) + interval '10 seconds', n = 77 where id::text = $1`,
      [id],
    )
    const before = await timeOf()
    const changed = await change(`/collections/${collection}/items?n=77`, {}, { properties: { n: 78 } })
    assert.deepEqual([changed.status, changed.json.numberChanged], [200, 1], changed.text)
    assert.equal(await timeOf(), before + 1)
  }
})

test('a feature that moves to another cell gets a later date, too', async () => {
  const { path, date } = await create('dated_cells')
  const moved = await change(path, since(date), { geometry: { type: 'Point', coordinates: [-70, -30] } })
  assert.equal(moved.status, 200, moved.text)
  assert.ok(Date.parse(dateOf(moved)) > Date.parse(date))
  // Times of its own go with it.
  assert.deepEqual(moved.json.properties, feature(0).properties)
  const late = await change(path, since(date), { geometry: { type: 'Point', coordinates: [100, 30] } })
  assert.equal(late.status, 412, late.text)
  const replaced = await change(path, since(dateOf(moved)), feature(1, 120), 'PUT')
  assert.equal(replaced.status, 200, replaced.text)
  assert.ok(Date.parse(dateOf(replaced)) > Date.parse(dateOf(moved)))
})

test('a client that has the feature of a date gets 304, but not by the date of just now', async () => {
  const { path, date } = await create('dated_ids')
  const fresh = await client(path, { headers: { 'if-modified-since': date } })
  assert.equal(fresh.status, 200)
  await sleep(3_100)
  const known = await client(path, { headers: { 'if-modified-since': date } })
  assert.equal(known.status, 304)
  assert.equal(dateOf(known), date)
  const older = await client(path, { headers: { 'if-modified-since': later(date, -1) } })
  assert.equal(older.status, 200)
  const byTag = { 'if-modified-since': date, 'if-none-match': '"other"' }
  assert.equal((await client(path, { headers: byTag })).status, 200)
})

test('what is no date counts as not sent, and If-Match counts before a date', async () => {
  const { path, date } = await create('dated_ids')
  const obsolete = 'Sun Nov  6 08:49:37 1994'
  assert.equal((await change(path, since(obsolete), withN(1))).status, 412)
  assert.equal((await change(path, since('Sunday, 06-Nov-94 08:49:37 GMT'), withN(1))).status, 412)
  assert.equal((await change(path, since('1994-11-06'), withN(1))).status, 200)
  assert.equal((await change(path, { ...since(obsolete), 'if-match': '*' }, withN(2))).status, 200)
  const stale = { ...since(later(date, 3_600)), 'if-match': '"x.1"' }
  assert.equal((await change(path, stale, withN(3))).status, 412)
})

test('a collection whose table tells no time has no dates, and disregards them', async () => {
  const path = '/collections/dateless/items/1'
  assert.equal(dateOf(await client(path)), null)
  const changed = await change(path, since('Sun, 06 Nov 1994 08:49:37 GMT'), withN(2))
  assert.deepEqual([changed.status, dateOf(changed)], [200, null])
})

test('a change gets the second of the clock, or the one after the last change, and stays a minute ahead at most', async () => {
  const next = async (before: string) => {
    const { text, values } = statementOf(
      sql`select extract(epoch from ${nextTime(sql`${before}::timestamptz`)})::text as second, extract(epoch from now())::text as now`,
    )
    const [row] = await session.query<{ second: string; now: string }>(text, values as unknown[])
    return { second: Number(row!.second), now: Number(row!.now) }
  }
  const at = (seconds: number) => new Date(seconds * 1000).toISOString()
  const past = await next('2020-01-01T00:00:00.5Z')
  assert.equal(past.second, Math.floor(past.now))
  const second = Math.ceil(Date.now() / 1000) + 10
  assert.equal((await next(at(second))).second, second + 1)
  assert.equal((await next(at(second + 0.25))).second, second + 2)
  assert.equal((await next(at(second + 600))).second, second + 600.000001)
  assert.equal((await next('infinity')).second, Number.POSITIVE_INFINITY)
})
