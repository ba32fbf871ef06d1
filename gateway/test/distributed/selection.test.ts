// Tests PATCH and DELETE of items: what they select, how many they may change, and that they change all of it or nothing.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testDatabase } from '../support/database.ts'
import { startGateway } from '../support/gateway.ts'
import { runTessera } from '../support/process.ts'

const { client, session, catalog } = await startGateway()
const { ownerUrl } = testDatabase()
const COUNT = 1_200
const stall = (index: number) => ({
  type: 'Feature',
  geometry: { type: 'Point', coordinates: [(index * 37) % 170, (index * 17) % 80] },
  properties: {
    name: `stall ${index}`,
    kind: index % 2 === 0 ? 'even' : 'odd',
    size: index,
    day: '2024-02-29',
  },
})
const features = Array.from({ length: COUNT }, (_, index) => JSON.stringify(stall(index))).join('\n')
const { code, output } = await runTessera(
  ['import', '-', '--collection', 'selected', '--level', '4', '--format', 'geojsonseq'],
  features,
  { TESSERA_WRITE_URL: ownerUrl },
)
assert.equal(code, 0, output)
await session.query(`create table selected_rules (id int primary key, geom geometry(Point, 4326), size int check (size < 10), j jsonb);
  insert into selected_rules select n, st_setsrid(st_makepoint(n, n), 4326), n, '{"a":1,"b":2}' from generate_series(1, 5) n`)
await catalog.reload()

const send = (
  method: 'PATCH' | 'DELETE',
  query: string,
  properties?: object,
  headers: Record<string, string> = {},
  collection = 'selected',
) =>
  client(`/collections/${collection}/items${query}`, {
    method,
    ...(properties ? { body: JSON.stringify({ properties }) } : {}),
    headers: { ...(properties ? { 'content-type': 'application/merge-patch+json' } : {}), ...headers },
  })
const countWhere = async (where: string, table = 'selected') =>
  Number((await session.query<{ count: string }>(`select count(*) from ${table} where ${where}`))[0]!.count)
const all = 'max-affected=5000'
const encode = encodeURIComponent

test('PATCH changes the features that meet a condition', async () => {
  const filter = `?filter=${encode("kind = 'even' AND size < 100")}`
  const before = await client('/collections/selected/items?size=2')
  const { status, json, headers } = await send('PATCH', filter, { name: 'renamed' })
  assert.equal(status, 200, JSON.stringify(json))
  assert.deepEqual(json, { numberMatched: 50, numberChanged: 50 })
  assert.ok(headers.get('consistency-token'))
  assert.equal(await countWhere("name = 'renamed'"), 50)
  assert.equal(await countWhere("name = 'renamed' and (kind <> 'even' or size >= 100)"), 0)
  const after = await client('/collections/selected/items?size=2')
  assert.equal(after.json.features[0].id, before.json.features[0].id)
  assert.equal(after.json.features[0].properties.name, 'renamed')
})

test('boxes, times and properties select features, too', async () => {
  for (const [query, where] of [
    ['?bbox=0,0,20,20', 'st_intersects(geom, st_makeenvelope(0, 0, 20, 20, 4326))'],
    ['?kind=odd&bbox=0,0,20,20', "kind = 'odd' and st_intersects(geom, st_makeenvelope(0, 0, 20, 20, 4326))"],
    ['?datetime=2024-02-29&size=7', 'size = 7'],
    [
      `?filter=${encode('S_INTERSECTS(geom, POLYGON((0 0, 30 0, 30 30, 0 0)))')}`,
      "st_intersects(geom, 'SRID=4326;POLYGON((0 0, 30 0, 30 30, 0 0))')",
    ],
  ] as const) {
    const expected = await countWhere(where)
    assert.ok(expected > 0)
    const { json } = await send('DELETE', `${query}&dry-run=true`)
    assert.deepEqual(json, { numberMatched: expected, numberChanged: 0 }, query)
  }
  assert.equal(await countWhere('true'), COUNT)
})

test('a change without a condition is refused, and names one', async () => {
  for (const method of ['PATCH', 'DELETE'] as const)
    for (const query of ['', '?dry-run=true', '?filter-lang=cql2-text']) {
      const { status, json } = await send(method, query, method === 'PATCH' ? { name: 'x' } : undefined)
      assert.equal(status, 400)
      assert.equal(json.parameter, 'filter')
    }
  for (const [query, parameter] of [
    ['?nmae=x', 'nmae'],
    ['?size=x', 'size'],
    ['?filter=size%20%3D', 'filter'],
    ['?kind=odd&dry-run=yes', 'dry-run'],
  ] as const)
    assert.equal((await send('DELETE', query)).json.parameter, parameter)
  assert.equal(
    (await send('DELETE', '?kind=odd', undefined, { 'if-match': '"x"' })).json.code,
    'header-invalid',
  )
  assert.equal(await countWhere('true'), COUNT)
})

test('more features than may be changed are an error, and none is changed', async () => {
  for (const [method, properties] of [
    ['PATCH', { name: 'all' }],
    ['DELETE', undefined],
  ] as const) {
    const { status, json } = await send(method, '?filter=true', properties)
    assert.equal(status, 412)
    assert.equal(json.code, 'too-many-affected')
    assert.equal(json.numberMatched, COUNT)
    assert.match(json.detail, /1200 features .* at most 1000 .*max-affected=1200/)
    const few = await send(method, '?size=1', properties, { prefer: 'max-affected=0' })
    assert.equal(few.json.numberMatched, 1)
  }
  const wrong = await send('DELETE', '?size=1', undefined, { prefer: 'max-affected=few' })
  assert.equal(wrong.json.code, 'header-invalid')
  assert.equal(await countWhere("name = 'all'"), 0)
  assert.equal(await countWhere('true'), COUNT)
  const { status, headers, json } = await send('PATCH', '?filter=true', { kind: 'same' }, { prefer: all })
  assert.equal(status, 200)
  assert.equal(headers.get('preference-applied'), all)
  assert.deepEqual(json, { numberMatched: COUNT, numberChanged: COUNT })
})

test('a body is checked, and a rule of the table ends all of it', async () => {
  for (const [body, pointer] of [
    [{ properties: { size: 'x' } }, '/properties/size'],
    [{ properties: { other: 1 } }, '/properties/other'],
    [{ properties: {} }, '/properties'],
    [{ geometry: null, properties: { size: 1 } }, '/geometry'],
    [{ id: 1, properties: { size: 1 } }, '/id'],
  ] as const) {
    const { status, json } = await client('/collections/selected/items?size=3', {
      method: 'PATCH',
      body: JSON.stringify(body),
      headers: { 'content-type': 'application/merge-patch+json' },
    })
    assert.equal(status, 422, JSON.stringify(json))
    assert.equal(json.errors[0].pointer, pointer)
  }
  const broken = await send('PATCH', '?filter=true', { size: 12 }, {}, 'selected_rules')
  assert.equal(broken.status, 422)
  assert.equal(broken.json.errors[0].pointer, '/properties/size')
  assert.equal(await countWhere('size = 12', 'selected_rules'), 0)
  const merged = await send(
    'PATCH',
    `?filter=${encode('size > 3')}`,
    { j: { a: null, c: 3 } },
    {},
    'selected_rules',
  )
  assert.deepEqual(merged.json, { numberMatched: 2, numberChanged: 2 })
  assert.equal(await countWhere(`j = '{"b":2,"c":3}'`, 'selected_rules'), 2)
})

test('a change that is repeated under its key is made once', async () => {
  const key = { 'idempotency-key': `"selection-${Date.now()}"` }
  const first = await send('DELETE', '?size=11', undefined, key)
  assert.deepEqual(first.json, { numberMatched: 1, numberChanged: 1 })
  const second = await send('DELETE', '?size=11', undefined, key)
  assert.deepEqual(second.json, first.json)
  assert.equal(second.headers.get('idempotent-replayed'), 'true')
  assert.equal((await send('DELETE', '?size=13', undefined, key)).json.code, 'idempotency-key-reused')
  assert.equal(await countWhere('size in (11, 13)'), 1)
})

test('DELETE removes features, and their forwarding rows', async () => {
  const page = await client('/collections/selected/items?size=5')
  const [{ id }] = page.json.features
  const moved = await client(`/collections/selected/items/${id}`, {
    method: 'PATCH',
    body: JSON.stringify({ geometry: { type: 'Point', coordinates: [-170, -80] } }),
    headers: { 'content-type': 'application/merge-patch+json' },
  })
  assert.equal(moved.status, 200)
  const forwarding = `id = '${id}' and table_name = 'selected'`
  assert.equal(await countWhere(forwarding, 'tessera.moved_feature'), 1)
  const { json } = await send('DELETE', `?filter=${encode('size <= 6')}`)
  assert.deepEqual(json, { numberMatched: 7, numberChanged: 7 })
  assert.equal(await countWhere('size <= 6'), 0)
  assert.equal(await countWhere(forwarding, 'tessera.moved_feature'), 0)
  assert.equal((await client(`/collections/selected/items/${id}`)).status, 404)
})

test('OPTIONS lists them, if the collection can be changed', async () => {
  const { headers } = await client('/collections/selected/items', { method: 'OPTIONS' })
  assert.equal(headers.get('allow'), 'GET, HEAD, POST, PATCH, DELETE, OPTIONS')
  assert.match(headers.get('accept-patch') ?? '', /merge-patch/)
})
