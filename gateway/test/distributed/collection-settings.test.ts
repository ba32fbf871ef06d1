// Tests what operators set for single collections: systems, conditions of changes, and the column of dates.

import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { setCollection } from '../../features/collections/settings.ts'
import { changeOf } from '../support/client.ts'
import { testDatabase } from '../support/database.ts'
import { distributeById } from '../support/distribute.ts'
import { startGateway } from '../support/gateway.ts'
import { runTessera } from '../support/process.ts'
import { until } from '../support/until.ts'

const { client, session, catalog } = await startGateway()
const strict = await startGateway('--require-precondition')
const { ownerUrl } = testDatabase()

before(async () => {
  await session.query(`
    create table set_parcels (id int primary key, geom geometry(Point, 4326), name text);
    create table set_plain (id int primary key, geom geometry(Point, 4326), name text);
    create table set_dated (id int primary key, geom geometry(Point, 4326), name text,
      changed timestamptz, due timestamptz, day date);
    create table set_periods (id int primary key, geom geometry(Point, 4326), noted date, starts date, ends date);
    insert into set_periods values (1, null, null, '2020-01-01', '2020-12-31'), (2, null, null, '2021-01-01', null),
      (3, null, null, null, '2018-12-31'), (4, null, '2020-06-01', null, null);
    insert into set_parcels values (1, 'SRID=4326;POINT(10 50)', 'a');
    insert into set_plain values (1, 'SRID=4326;POINT(10 50)', 'a');
    insert into set_dated values (1, 'SRID=4326;POINT(10 50)', 'a', '2020-01-01T00:00:00.5Z')`)
  await distributeById(session, 'set_parcels', 'set_plain', 'set_dated', 'set_periods')
  await catalog.reload()
  await strict.catalog.reload()
})

const collections = (...args: string[]) =>
  runTessera(['collections', ...args], undefined, { TESSERA_WRITE_URL: ownerUrl })
const set = async (...args: string[]) => {
  const { code, output } = await collections(...args)
  assert.equal(code, 0, output)
  await catalog.reload()
  await strict.catalog.reload()
  return output
}
const epsg = (code: number) => `http://www.opengis.net/def/crs/EPSG/0/${code}`
const pathOf = (collection: string) => `/collections/${collection}/items/1`
const change = (
  collection: string,
  headers: Record<string, string> = {},
  method = 'PATCH',
  body: object = { properties: { name: 'b' } },
  ask = client,
) => ask(pathOf(collection), changeOf(method, headers, body))
const feature = {
  type: 'Feature',
  geometry: { type: 'Point', coordinates: [10, 50] },
  properties: { name: 'c' },
}

test('/req/crs/fc-md-crs-list, /req/crs/fc-md-crs-list-global: a collection is served in the systems that are set for it, next to those of all', async () => {
  await set('set', 'set_parcels', '--crs', 'epsg:25832, EPSG:3035')
  const { json } = await client('/collections/set_parcels')
  assert.deepEqual(json.crs.slice(-2), [epsg(3035), epsg(25832)].toSorted())
  const all = (await client('/collections')).json
  const crsOf = (id: string) => all.collections.find((one: { id: string }) => one.id === id).crs
  assert.deepEqual(crsOf('set_parcels').slice(0, 1), ['#/crs'])
  assert.deepEqual(crsOf('set_parcels').slice(1).toSorted(), [epsg(25832), epsg(3035)])
  assert.deepEqual(crsOf('set_plain'), ['#/crs'])
  const shown = await client(`${pathOf('set_parcels')}?crs=${encodeURIComponent(epsg(25832))}`)
  assert.deepEqual(shown.json.geometry.coordinates, [571666.4475, 5539109.8152])
  const other = await client(`${pathOf('set_plain')}?crs=${encodeURIComponent(epsg(25832))}`)
  assert.deepEqual([other.status, other.json.parameter], [400, 'crs'])
  const moved = await change('set_parcels', { 'content-crs': `<${epsg(25832)}>` }, 'PATCH', {
    geometry: { type: 'Point', coordinates: [571666.4475, 5539109.8152] },
  })
  assert.deepEqual(
    moved.json.geometry.coordinates.map((one: number) => one.toFixed(8)),
    ['10.00000000', '50.00000000'],
  )
})

test('gateways notice within a second what has been set', async () => {
  const { code, output } = await collections('set', 'set_plain', '--crs', 'EPSG:2154')
  assert.equal(code, 0, output)
  const isServed = () => catalog.get('set_plain').systems.some(({ uri }) => uri === epsg(2154))
  await until(isServed)
  const waited: number[] = []
  for (const codes of [[], ['EPSG:2154'], [], ['EPSG:2154'], []]) {
    await setCollection(session, 'set_plain', { crs: codes })
    waited.push(await until(() => isServed() === codes.length > 0))
    // At another moment between two loads of the catalog each time.
    await sleep(370)
  }
  assert.ok(Math.max(...waited) < 1_000, String(waited))
  await set('reset', 'set_plain')
})

test('a collection can refuse changes without a condition, and the refusal names the header that would be right', async () => {
  await set('set', 'set_parcels', '--require-precondition')
  for (const method of ['PUT', 'PATCH', 'DELETE']) {
    const refused = await change('set_parcels', {}, method, feature)
    assert.deepEqual(
      [refused.status, refused.json.code, refused.json.header],
      [428, 'precondition-required', 'If-Match'],
      method,
    )
    assert.match(refused.json.detail, /send If-Match with the ETag of the feature as it was read/)
    assert.equal(refused.headers.get('cache-control'), 'no-store')
  }
  assert.match(
    (await change('set_parcels', {}, 'PUT', feature)).json.detail,
    /If-None-Match: \* creates a feature/,
  )
  // Dates do not count in a collection that has none.
  const dated = { 'if-unmodified-since': new Date().toUTCString() }
  assert.equal((await change('set_parcels', dated)).status, 428)
  const tag = (await client(pathOf('set_parcels'))).headers.get('etag')!
  assert.equal((await change('set_parcels', { 'if-match': tag })).status, 200)
  assert.equal((await change('set_parcels', { 'if-match': tag })).status, 412)
  assert.equal((await change('set_parcels', { 'if-match': '*' })).status, 200)
  assert.equal((await change('set_parcels', { 'if-none-match': '*' }, 'PUT', feature)).status, 412)
  assert.equal((await change('set_plain')).status, 200)
})

test('a collection whose changes need a condition wants If-Match: * for many features at once, and takes no tag', async () => {
  await set('set', 'set_parcels', '--require-precondition')
  const many = (
    method: string,
    headers: Record<string, string>,
    path = '/collections/set_parcels/items?id=1',
  ) => client(path, changeOf(method, headers, withName))
  const withName = { properties: { name: 'many' } }
  for (const method of ['PATCH', 'DELETE']) {
    const refused = await many(method, {})
    assert.deepEqual(
      [refused.status, refused.json.code, refused.json.header],
      [428, 'precondition-required', 'If-Match'],
      method,
    )
    assert.match(refused.json.detail, /If-Match: \*/)
    for (const [header, value] of [
      ['If-Match', '"x.1"'],
      ['If-None-Match', '*'],
    ] as const) {
      const { status, json } = await many(method, { [header]: value })
      assert.deepEqual([status, json.code, json.header], [400, 'header-invalid', header], method)
    }
    const counted = await many(method, {}, '/collections/set_parcels/items?id=1&dry-run=true')
    assert.deepEqual([counted.status, counted.json.numberMatched], [200, 1], method)
  }
  const changed = await many('PATCH', { 'if-match': '*' })
  assert.deepEqual([changed.status, changed.json.numberChanged], [200, 1])
  const upsert = (headers: Record<string, string>) =>
    client('/collections/set_parcels/items?mode=upsert', {
      method: 'POST',
      headers: { 'content-type': 'application/x-ndjson', ...headers },
      body: `${JSON.stringify({ ...feature, id: 1 })}\n`,
    })
  assert.equal((await upsert({})).status, 428)
  assert.equal((await upsert({ 'if-none-match': '*' })).status, 400)
  assert.equal((await upsert({ 'if-match': '*' })).status, 201)
  const plain = await client('/collections/set_plain/items?id=1', changeOf('PATCH', {}, withName))
  assert.equal(plain.status, 200)
})

test('a collection can be an exception from what holds for all', async () => {
  assert.equal((await change('set_plain', {}, 'PATCH', {}, strict.client)).status, 428)
  await set('set', 'set_plain', '--no-require-precondition')
  assert.equal((await change('set_plain', {}, 'PATCH', {}, strict.client)).status, 200)
  await set('reset', 'set_plain', 'require-precondition')
  assert.equal((await change('set_plain', {}, 'PATCH', {}, strict.client)).status, 428)
})

test('a column of a table can hold the time of each change, which no client sets', async () => {
  assert.equal((await client(pathOf('set_dated'))).headers.get('last-modified'), null)
  await set('set', 'set_dated', '--modified-column', 'changed')
  const read = await client(pathOf('set_dated'))
  const date = read.headers.get('last-modified')!
  assert.equal(date, 'Wed, 01 Jan 2020 00:00:01 GMT')
  const first = await change('set_dated', { 'if-unmodified-since': date })
  assert.equal(first.status, 200, first.text)
  assert.ok(Date.parse(first.headers.get('last-modified')!) > Date.parse(date))
  assert.equal(Date.parse(first.json.properties.changed), Date.parse(first.headers.get('last-modified')!))
  assert.equal((await change('set_dated', { 'if-unmodified-since': date })).status, 412)
  const sent = await change('set_dated', {}, 'PUT', first.json)
  assert.equal(sent.status, 200, sent.text)
  assert.ok(Date.parse(sent.json.properties.changed) > Date.parse(first.json.properties.changed))
  const own = await change('set_dated', {}, 'PATCH', { properties: { changed: '2020-01-01T00:00:00Z' } })
  assert.deepEqual([own.status, own.json.errors?.[0]?.pointer], [422, '/properties/changed'])
  const { json: schema } = await client('/collections/set_dated/schema?f=json')
  assert.equal(schema.properties.changed.readOnly, true)
})

test('two columns can hold the start and the end of a time, which datetime, extent and schema then mean', async () => {
  await set('set', 'set_periods', '--time-columns', 'starts,ends')
  const found = async (datetime: string) => {
    const { json } = await client(`/collections/set_periods/items?datetime=${encodeURIComponent(datetime)}`)
    return json.features.map(({ id }: { id: number }) => id).toSorted()
  }
  assert.deepEqual(await found('2020-06-01'), [1])
  assert.deepEqual(await found('2020-12-31T00:00:00Z/2021-01-01T00:00:00Z'), [1, 2])
  assert.deepEqual(await found('../2019-01-01'), [3])
  assert.deepEqual(await found('2030-01-01/..'), [2])
  assert.deepEqual(await found('../..'), [1, 2, 3])
  const { json: schema } = await client('/collections/set_periods/schema?f=json')
  assert.equal(schema.properties.starts['x-ogc-role'], 'primary-interval-start')
  assert.equal(schema.properties.ends['x-ogc-role'], 'primary-interval-end')
  assert.deepEqual((await client('/collections/set_periods')).json.extent.temporal.interval, [[null, null]])
  await session.query('delete from set_periods where id <> 1')
  await set('set', 'set_periods', '--coordinate-epoch', '2017.23')
  const { json } = await client('/collections/set_periods')
  assert.deepEqual(json.extent.temporal.interval, [['2020-01-01T00:00:00Z', '2020-12-31T00:00:00Z']])
  assert.equal(json.storageCrsCoordinateEpoch, 2017.23)
  await set('reset', 'set_periods')
})

test('the command lists what is set, and refuses what cannot be', async () => {
  const { output } = await collections('list')
  assert.match(
    output,
    /COLLECTION +CRS +REQUIRE-PRECONDITION +MODIFIED-COLUMN +TIME-COLUMNS +COORDINATE-EPOCH/,
  )
  assert.match(output, /set_parcels +EPSG:25832,EPSG:3035 +true/)
  assert.match(output, /set_dated +changed/)
  const refused: [string[], RegExp][] = [
    [['set', 'nowhere', '--crs', 'EPSG:25832'], /There is no collection nowhere/],
    [['set', 'set_plain', '--crs', 'EPSG:1'], /EPSG:1 is no system of the database/],
    [['set', 'set_plain', '--crs', 'metres'], /--crs=metres: must be codes such as EPSG:25832/],
    [
      ['set', 'set_dated', '--modified-column', 'day'],
      /day must be of set_dated and of the type timestamptz: it has changed \(timestamptz\), due \(timestamptz\)\./,
    ],
    [['set', 'set_plain', '--modified-column', 'x'], /it has no such column/],
    [
      ['set', 'set_dated', '--time-columns', 'day,due'],
      /day and due must be of set_dated and of the type date, or/,
    ],
    [
      ['set', 'set_dated', '--time-columns', 'day,due,changed'],
      /must be one column, or two separated by a comma/,
    ],
    [['set', 'set_dated', '--coordinate-epoch', 'now'], /must be a year such as 2017\.23/],
    [['set', 'set_plain'], /collections takes list, set NAME/],
    [
      ['reset', 'set_plain', 'title'],
      /There is no setting title; collections have crs, require-precondition/,
    ],
    [['reset', 'set_plain', '--crs', 'EPSG:25832'], /collections takes list/],
    [[], /collections takes list/],
  ]
  for (const [args, message] of refused) {
    const { code, output } = await collections(...args)
    assert.equal(code, 1, output)
    assert.match(output, message)
  }
  await set('reset', 'set_parcels')
  await set('reset', 'set_dated')
  assert.doesNotMatch((await collections('list')).output, /set_/)
})
