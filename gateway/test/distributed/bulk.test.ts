// Tests bodies with many features: each format, all or nothing, what is left out, keys, and the limits of streams.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { plainClient } from '../support/client.ts'
import { openSuperuser, testDatabase } from '../support/database.ts'
import { startGateway } from '../support/gateway.ts'
import { runTessera } from '../support/process.ts'

const { client, session, catalog, events } = await startGateway('--body-limit=65536')
const { ownerUrl } = testDatabase()

/** Creates a collection that is distributed by cell, by importing one feature, and empties it. */
async function makeSpread(collection: string, properties: object) {
  const first = { type: 'Feature', geometry: { type: 'Point', coordinates: [1, 2] }, properties }
  const { code, output } = await runTessera(
    ['import', '-', '--collection', collection, '--level', '4'],
    JSON.stringify(first),
    { TESSERA_WRITE_URL: ownerUrl },
  )
  assert.equal(code, 0, output)
  await session.query(`delete from ${collection}`)
}
await makeSpread('bulk_spread', { name: 'a', size: 1 })
await session.query('alter table bulk_spread alter name drop not null, alter size drop not null')
await catalog.reload()

type Properties = Record<string, unknown>
const point = (properties: Properties, coordinates = [1, 2], more: object = {}) => ({
  type: 'Feature',
  geometry: { type: 'Point', coordinates },
  properties,
  ...more,
})
setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

const collectionOf = (features: readonly object[]) => JSON.stringify({ type: 'FeatureCollection', features })
const send = (
  collection: string,
  body: string | Uint8Array,
  headers: Record<string, string> = {},
  query = '',
) =>
  client(`/collections/${collection}/items${query}`, {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/geo+json', ...headers },
  })
const countOf = async (collection: string) =>
  Number((await session.query<{ count: string }>(`select count(*) from ${collection}`))[0]!.count)
/** Points all over the world, so that they are in many cells. */
const spread = (count: number, name = 'many') =>
  Array.from({ length: count }, (_, index) =>
    point({ name, size: index }, [(index * 37) % 180, (index * 17) % 80]),
  )

test('a FeatureCollection is stored, and its features are found at once', async () => {
  const features = spread(500, 'collection')
  const { status, json, headers } = await send('bulk_spread', collectionOf(features))
  assert.equal(status, 201, JSON.stringify(json))
  assert.deepEqual(json, { numberStored: 500, numberRefused: 0, errors: [] })
  assert.ok(headers.get('consistency-token'))
  const page = await client('/collections/bulk_spread/items?name=collection&limit=1000&sortby=size')
  assert.equal(page.json.features.length, 500)
  assert.deepEqual(
    page.json.features.map(({ geometry, properties }: any) => [geometry.coordinates, properties.size]),
    features.map(({ geometry, properties }) => [geometry.coordinates, properties.size]),
  )
  // Each has an id of its own, by which it is found.
  const ids = new Set(page.json.features.map(({ id }: { id: string }) => id))
  assert.equal(ids.size, 500)
  for (const id of [...ids].slice(0, 20))
    assert.equal((await client(`/collections/bulk_spread/items/${id}`)).status, 200)
})

test('a single feature is answered as before, in both media types', async () => {
  for (const type of ['application/geo+json', 'application/json; charset=utf-8']) {
    const { status, json, headers } = await send('bulk_spread', JSON.stringify(point({ name: 'one' })), {
      'content-type': type,
    })
    assert.equal(status, 201)
    assert.equal(json.properties.name, 'one')
    assert.ok(headers.get('location'))
  }
})

test('text sequences, lines and CSV are stored', async () => {
  const records = spread(3, 'lines').map((one) => JSON.stringify(one))
  const bodies: [type: string, body: string][] = [
    ['application/geo+json-seq', records.map((record) => `\x1e${record}\n`).join('')],
    ['application/x-ndjson', `${records.join('\n')}\n`],
    ['text/csv', '\ufeffname,size,longitude,latitude\r\nlines,0,0,0\r\nlines,1,37,17\r\nlines,,74,34\r\n'],
    ['text/csv; charset=utf-8', 'longitude;latitude;name;size\n1,5;2,5;lines;7\n'],
  ]
  const before = await countOf('bulk_spread')
  for (const [type, body] of bodies) {
    const { status, json } = await send('bulk_spread', body, { 'content-type': type })
    assert.equal(status, 201, `${type}: ${JSON.stringify(json)}`)
  }
  assert.equal((await countOf('bulk_spread')) - before, 10)
  const { json } = await client('/collections/bulk_spread/items?name=lines&size=7')
  assert.deepEqual(json.features[0].geometry.coordinates, [1.5, 2.5])
})

test('a fault ends all of it: the answer has its place, and nothing is stored', async () => {
  const before = await countOf('bulk_spread')
  const good = spread(3)
  const cases: [body: string, type: string, pointer: RegExp, detail: RegExp][] = [
    [
      collectionOf([...good, point({ size: 'x' })]),
      'application/geo+json',
      /^\/features\/3\/properties\/size$/,
      /an integer/,
    ],
    [
      collectionOf([point({ other: 1 })]),
      'application/geo+json',
      /^\/features\/0\/properties\/other$/,
      /not a property/,
    ],
    [
      collectionOf([...good, { ...point({}), id: '5' }]),
      'application/geo+json',
      /^\/features\/3\/id$/,
      /left out/,
    ],
    [collectionOf([point({}, [1, 91])]), 'application/geo+json', /^\/features\/0\/geometry$/, /latitude 91/],
    [`${JSON.stringify(good[0])}\n{"type":"Feature"\n`, 'application/x-ndjson', /^\/1$/, /not valid JSON/],
    [
      'name,size,longitude,latitude\na,1,1,1\na,1.5,1,1\n',
      'text/csv',
      /^\/1\/properties\/size$/,
      /an integer/,
    ],
    ['name,size,longitude,latitude\na,1,1,1\na,1,x,1\n', 'text/csv', /^\/1$/, /no number/],
  ]
  for (const [body, type, pointer, detail] of cases) {
    const { status, json } = await send('bulk_spread', body, { 'content-type': type })
    assert.equal(status, 422, JSON.stringify(json))
    assert.equal(json.code, 'feature-invalid')
    assert.match(json.errors[0].pointer, pointer)
    assert.match(json.errors[0].detail, detail)
    assert.match(json.detail, /Nothing was stored/)
    if (type !== 'application/geo+json') assert.equal(json.errors[0].line, type === 'text/csv' ? 3 : 2)
  }
  assert.equal(await countOf('bulk_spread'), before)
})

test('a body that is broken as a whole is refused, and nothing is stored', async () => {
  const before = await countOf('bulk_spread')
  const good = JSON.stringify(point({}))
  const cases: [body: string | Uint8Array, type: string, status: number, detail: RegExp][] = [
    [`{"type":"FeatureCollection","features":[${good},`, 'application/geo+json', 400, /breaks off/],
    [`{"type":"FeatureCollection","features":[${good},7]}`, 'application/geo+json', 400, /not an object/],
    ['{"type":"FeatureCollection","features":[]}', 'application/geo+json', 422, /no feature/],
    ['', 'text/csv', 422, /no feature|empty/],
    ['a,b\n1,2\n', 'text/csv', 400, /No column is called longitude.*columns are a, b\. Nothing/],
    [
      `{"type":"FeatureCollection","crs":{"type":"name","properties":{"name":"EPSG:25832"}},"features":[${good}]}`,
      'application/geo+json',
      400,
      /EPSG:25832/,
    ],
    [Buffer.from('1f8b08000000000000ff', 'hex'), 'application/x-ndjson', 422, /byte|JSON/],
    [
      Buffer.concat([Buffer.from('{"type":"FeatureCollection","features":['), Buffer.from([0xff])]),
      'application/geo+json',
      400,
      /.|\n/,
    ],
  ]
  for (const [body, type, status, detail] of cases) {
    const answer = await send('bulk_spread', body, { 'content-type': type })
    assert.ok(answer.status === status || answer.status === 400, `${type}: ${answer.text}`)
    assert.match(answer.json.detail, detail)
  }
  assert.equal(
    (await send('bulk_spread', collectionOf([point({})]), { 'content-encoding': 'gzip' })).status,
    415,
  )
  assert.equal(await countOf('bulk_spread'), before)
})

test('a feature is limited like a body of its own, however long the stream is', async () => {
  const before = await countOf('bulk_spread')
  const nested = `${'['.repeat(200)}${']'.repeat(200)}`
  const long = 'x'.repeat(70_000)
  for (const [body, type] of [
    [
      `{"type":"FeatureCollection","features":[{"type":"Feature","geometry":null,"properties":{"name":${nested}}}]}`,
      'application/geo+json',
    ],
    [collectionOf([point({ name: long })]), 'application/geo+json'],
    [JSON.stringify(point({ name: long })), 'application/x-ndjson'],
    [`name,longitude,latitude\n"${long}`, 'text/csv'],
    [`{"x":"${long}","type":"FeatureCollection","features":[]}`, 'application/geo+json'],
    [JSON.stringify(point({ name: long })), 'application/geo+json'],
  ] as const) {
    const { status, json } = await send('bulk_spread', body, { 'content-type': type })
    assert.ok(status === 400 || status === 413 || status === 422, `${status} ${json?.detail}`)
  }
  assert.equal(await countOf('bulk_spread'), before)
  assert.deepEqual(
    events.filter(({ type }) => type === 'request-failed'),
    [],
  )
})

test('handling=lenient leaves out what is not valid, and reports it', async () => {
  await session.query(
    `create table bulk_rules (id bigint generated by default as identity primary key, geom geometry(Point, 4326), name text not null,
       size int check (size < 100), kind text default 'plain')`,
  )
  await catalog.reload()
  const body = collectionOf([
    point({ name: 'a', size: 1 }),
    point({ name: 'b', size: 100 }),
    point({ size: 1 }),
    point({ name: 'c', size: 'x' }),
    point({ name: 'd', size: 2, unknown: 1 }),
    point({ name: 'e', kind: 'other' }),
  ])
  const { status, json, headers } = await send('bulk_rules', body, { prefer: 'handling=lenient' })
  assert.equal(status, 201, JSON.stringify(json))
  assert.equal(headers.get('preference-applied'), 'handling=lenient')
  assert.equal(json.numberStored, 3)
  assert.equal(json.numberRefused, 3)
  assert.deepEqual(json.errors.map(({ pointer }: { pointer: string }) => pointer).sort(), [
    '/features/1/properties/size',
    '/features/2/properties/name',
    '/features/3/properties/size',
  ])
  const rows = await session.query('select name, size, kind from bulk_rules order by name')
  assert.deepEqual(rows, [
    { name: 'a', size: 1, kind: 'plain' },
    { name: 'd', size: 2, kind: 'plain' },
    { name: 'e', size: null, kind: 'other' },
  ])
  const none = await send('bulk_rules', collectionOf([point({ name: 'x', size: 100 })]), {
    prefer: 'handling=lenient',
  })
  assert.equal(none.status, 422)
  assert.equal(none.json.errors[0].pointer, '/features/0/properties/size')
})

test('a rule of the table ends all of it, and its feature and property are named', async () => {
  const before = await countOf('bulk_rules')
  const many = Array.from({ length: 700 }, (_, index) => point({ name: 'x', size: index === 612 ? 100 : 1 }))
  const { status, json } = await send('bulk_rules', collectionOf(many))
  assert.equal(status, 422)
  assert.deepEqual(
    json.errors,
    [
      {
        pointer: '/features/612/properties/size',
        detail: "has a value that the table's check does not allow (bulk_rules_size_check)",
      },
    ].map((fault) => ({ ...fault, detail: json.errors[0].detail })),
  )
  assert.match(json.errors[0].detail, /check/)
  assert.equal(await countOf('bulk_rules'), before)
})

test('every type of column gets the same value as from a single feature', async () => {
  await session.query(`
    create type bulk_mood as enum ('fine', 'bad, so');
    create table bulk_types (
      id uuid default gen_random_uuid() primary key, geom geometry(Geometry, 3857), i smallint, n numeric(6, 2), d float8,
      b bool, t text, v varchar(5), c char(3), day date, at timestamptz, u uuid, j jsonb, k json,
      li int[], lt text[], ll int[], e bulk_mood, ip inet, span interval, bits bit(4), big bigint default 7)`)
  await catalog.reload()
  const properties = {
    i: -3,
    n: 1234.567,
    d: 1e-7,
    b: true,
    t: 'a"b\\c,{}\n\tnull',
    v: 'null',
    c: 'ab',
    day: '0044-03-15 BC',
    at: '2024-02-29T12:00:00+02:00',
    u: '6F9619FF-8B86-4D01-B42D-00CF4FC964FF',
    j: { a: [1, null, { b: 'x' }] },
    k: [1.1],
    li: [1, null, 3],
    lt: ['a,b', 'c"d', '', null, 'NULL'],
    ll: [
      [1, 2],
      [3, 4],
    ],
    e: 'bad, so',
    ip: '10.0.0.1',
    span: 'P1D',
    bits: '0101',
  }
  const empty = Object.fromEntries(Object.keys(properties).map((name) => [name, null]))
  const texts = { ...empty, t: '', v: 'NULL' }
  for (const one of [properties, empty, texts]) {
    const single = await send('bulk_types', JSON.stringify(point(one, [13.4, 52.5])))
    assert.equal(single.status, 201, single.text)
    const many = await send('bulk_types', collectionOf([point(one, [13.4, 52.5])]))
    assert.equal(many.status, 201, many.text)
  }
  const kinds = await session.query<{ count: string; twin: string }>(
    `select count(*), count(distinct (to_jsonb(stored) - 'id')) as twin from bulk_types as stored`,
  )
  assert.deepEqual(kinds, [{ count: '6', twin: '3' }])
})

test('Content-Crs names the system of the coordinates', async () => {
  const system = { 'content-crs': '<http://www.opengis.net/def/crs/EPSG/0/3857>' }
  for (const collection of ['bulk_spread', 'bulk_rules']) {
    const { status, json } = await send(
      collection,
      collectionOf([point({ name: 'mercator' }, [1_492_232, 6_894_701])]),
      system,
    )
    assert.equal(status, 201, JSON.stringify(json))
    const page = await client(`/collections/${collection}/items?name=mercator`)
    const [{ id, geometry }] = page.json.features
    assert.ok(Math.abs(geometry.coordinates[0] - 13.405) < 0.001, String(geometry.coordinates))
    assert.equal((await client(`/collections/${collection}/items/${id}`)).status, 200)
  }
})

test('mode=upsert replaces features whose ids exist', async () => {
  await session.query(
    `create table bulk_chosen (id text primary key, geom geometry(Point, 4326), name text, size int default 5)`,
  )
  await catalog.reload()
  const first = [
    point({ name: 'a' }, [1, 2], { id: 'x' }),
    point({ name: 'b', size: 1 }, [1, 2], { id: 'y' }),
  ]
  assert.equal((await send('bulk_chosen', collectionOf(first))).status, 201)
  const again = await send('bulk_chosen', collectionOf([point({}, [1, 2], { id: 'z' }), ...first]))
  assert.equal(again.status, 409)
  assert.equal(again.json.code, 'feature-conflict')
  assert.match(again.json.errors[0].pointer, /^\/features\/1/)
  const second = [
    point({ name: 'c' }, [3, 4], { id: 'y' }),
    point({ name: 'd', size: 9 }, [3, 4], { id: 'w' }),
    point({ name: 'e' }, [3, 4], { id: 'w' }),
  ]
  const answer = await send('bulk_chosen', collectionOf(second), {}, '?mode=upsert')
  assert.equal(answer.status, 201, answer.text)
  assert.equal(answer.json.numberStored, 3)
  assert.deepEqual(
    await session.query('select id, name, size, st_x(geom) as x from bulk_chosen order by id'),
    [
      { id: 'w', name: 'e', size: 5, x: 3 },
      { id: 'x', name: 'a', size: 5, x: 1 },
      { id: 'y', name: 'c', size: 5, x: 3 },
    ],
  )
  const without = await send('bulk_chosen', collectionOf([point({})]), {}, '?mode=upsert')
  assert.equal(without.json.errors[0].pointer, '/features/0/id')
  for (const [query, parameter] of [
    ['?mode=merge', 'mode'],
    ['?other=1', 'other'],
  ]) {
    const refused = await send('bulk_chosen', collectionOf(first), {}, query)
    assert.equal(refused.status, 400)
    assert.equal(refused.json.parameter, parameter)
  }
  assert.equal(
    (await send('bulk_spread', collectionOf(spread(1)), {}, '?mode=upsert')).json.parameter,
    'mode',
  )
  assert.equal(
    (await send('bulk_chosen', JSON.stringify(first[0]), {}, '?mode=upsert')).json.parameter,
    'mode',
  )
})

test('a body that is sent again under its key is stored once', async () => {
  const before = await countOf('bulk_spread')
  const key = { 'idempotency-key': `"bulk-${Date.now()}"` }
  const body = collectionOf(spread(300, 'keyed'))
  const first = await send('bulk_spread', body, key)
  assert.equal(first.status, 201, first.text)
  assert.equal(first.headers.get('idempotent-replayed'), null)
  const second = await send('bulk_spread', body, key)
  assert.equal(second.status, 201)
  assert.equal(second.headers.get('idempotent-replayed'), 'true')
  assert.deepEqual(second.json, first.json)
  assert.equal((await countOf('bulk_spread')) - before, 300)
  for (const other of [collectionOf(spread(299, 'keyed')), JSON.stringify(point({ name: 'keyed' }))]) {
    const reused = await send('bulk_spread', other, key)
    assert.equal(reused.status, 422, reused.text)
    assert.equal(reused.json.code, 'idempotency-key-reused')
  }
  // Nor can a key of a single feature be used for many.
  const single = { 'idempotency-key': `"single-${Date.now()}"` }
  assert.equal((await send('bulk_spread', JSON.stringify(point({ name: 'keyed' })), single)).status, 201)
  assert.equal((await send('bulk_spread', body, single)).json.code, 'idempotency-key-reused')
  assert.equal((await countOf('bulk_spread')) - before, 301)
  // A change that failed can be repeated under its key.
  const failed = { 'idempotency-key': `"failed-${Date.now()}"` }
  assert.equal((await send('bulk_spread', collectionOf([point({ size: 'x' })]), failed)).status, 422)
  assert.equal((await send('bulk_spread', body, failed)).status, 201)
})

/** Starts to send a body, and returns the request and its answer. */
function start(
  collection: string,
  type = 'application/x-ndjson',
  headers: Record<string, string> = {},
  { base = client.url, ...options }: { readonly base?: string; readonly localAddress?: string } = {},
) {
  const url = new URL(`/collections/${collection}/items`, base)
  const request = plainClient(base).request(url, {
    method: 'POST',
    headers: { 'content-type': type, ...headers },
    ...options,
  })
  const answer = new Promise<{ status: number; text: string }>((resolve, reject) => {
    request.on('error', reject)
    request.on('response', async (response) => {
      let text = ''
      for await (const chunk of response) text += chunk
      resolve({ status: response.statusCode!, text })
    })
  })
  answer.catch(() => {})
  return { request, answer }
}
const line = (name: string, size = 1) => `${JSON.stringify(point({ name, size }))}\n`

test('a client that leaves in the middle leaves nothing behind', async () => {
  const before = await countOf('bulk_spread')
  const { request } = start('bulk_spread')
  for (let batch = 0; batch < 30; batch++) {
    request.write(line('left').repeat(1_000))
    await sleep(10)
  }
  request.destroy()
  const superuser = await openSuperuser()
  for (let open = Number.NaN; open !== 0; ) {
    await sleep(100)
    const [row] = await superuser.query<{ open: string }>(
      `select count(*) as open from pg_stat_activity where application_name = 'tessera-write' and state <> 'idle'`,
    )
    open = Number(row!.open)
  }
  await superuser.close()
  assert.equal(await countOf('bulk_spread'), before)
})

test('many features that come slowly, but not too slowly, are stored beyond the time limit of other requests', async () => {
  const before = await countOf('bulk_spread')
  const { request, answer } = start('bulk_spread')
  for (let batch = 0; batch < 12; batch++) {
    request.write(line('slow').repeat(600))
    await sleep(100)
  }
  request.end()
  const { status, text } = await answer
  assert.equal(status, 201, text)
  assert.equal((await countOf('bulk_spread')) - before, 7_200)
})

test('bodies with many features leave connections to single changes, whoever sends them', async () => {
  // A fourth of the connections for changes are for such bodies.
  const few = await startGateway('--pool-size=8')
  const from = (host: number) =>
    start('bulk_spread', undefined, {}, { base: few.client.url, localAddress: `127.0.0.${host}` })
  const two = [from(2), from(3)]
  // A body occupies a connection once it has more features than a batch.
  for (const { request } of two) request.write(line('place').repeat(6_000))
  await sleep(500)
  const third = from(4)
  third.request.write(line('no place').repeat(6_000))
  const refused = await third.answer
  assert.equal(refused.status, 503, refused.text)
  assert.match(refused.text, /gateway-busy/)
  third.request.destroy()
  const single = await few.client('/collections/bulk_spread/items', {
    method: 'POST',
    headers: { 'content-type': 'application/geo+json' },
    body: JSON.stringify(point({ name: 'single', size: 1 })),
  })
  assert.equal(single.status, 201, single.text)
  for (const { request, answer } of two) {
    request.end()
    assert.equal((await answer).status, 201)
  }
})

test('a client that sends nothing for ten seconds is answered, and its place is free again', async () => {
  const before = await countOf('bulk_spread')
  const { request, answer } = start('bulk_spread')
  request.write(line('idle').repeat(6_000))
  const { status, text } = await answer
  assert.equal(status, 408, text)
  assert.match(text, /request-too-slow/)
  request.destroy()
  assert.equal((await send('bulk_spread', collectionOf(spread(1)))).status, 201)
  assert.equal((await countOf('bulk_spread')) - before, 1)
})

test('a transaction that is lost in the middle leaves nothing behind, and the body can be sent again under its key', async () => {
  const before = await countOf('bulk_spread')
  const key = `"lost-${Date.now()}"`
  const { request, answer } = start('bulk_spread', 'application/x-ndjson', { 'idempotency-key': key })
  const part = line('lost').repeat(6_000)
  const superuser = await openSuperuser()
  request.write(part)
  request.write(part)
  for (let ended = 0; ended === 0; ) {
    await sleep(50)
    const rows = await superuser.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where application_name = 'tessera-write' and state <> 'idle' and xact_start is not null`,
    )
    ended = rows.length
  }
  await superuser.close()
  request.end(part)
  const { status, text } = await answer
  assert.equal(status, 503, text)
  assert.match(text, /database-unavailable/)
  assert.equal(await countOf('bulk_spread'), before)
  for (const replayed of [null, 'true']) {
    const again = await send('bulk_spread', part + part + part, {
      'content-type': 'application/x-ndjson',
      'idempotency-key': key,
    })
    assert.equal(again.status, 201, again.text)
    assert.equal(again.json.numberStored, 18_000)
    assert.equal(again.headers.get('idempotent-replayed'), replayed)
    assert.equal((await countOf('bulk_spread')) - before, 18_000)
  }
})

test('a long body does not fill the memory', async () => {
  const piece = Buffer.from(line('x'.repeat(400)).repeat(100))
  const pieces = Math.ceil((40 * 1024 * 1024) / piece.length)
  /** Returns the bytes that are in use, without garbage that waits to be collected. */
  const used = () => {
    collectGarbage()
    const { heapUsed, external } = process.memoryUsage()
    return heapUsed + external
  }
  const { request, answer } = start('bulk_spread')
  const before = used()
  let most = 0
  for (let sent = 0; sent < pieces; sent++) {
    if (!request.write(piece)) await once(request, 'drain')
    if (sent % 25 === 0) most = Math.max(most, used() - before)
  }
  request.end()
  const { status, text } = await answer
  assert.equal(status, 201, text)
  assert.equal(JSON.parse(text).numberStored, pieces * 100)
  // The body has 40 MiB, and its features as objects take 200.
  assert.ok(most < 50 * 1024 * 1024, `${Math.round(most / 1024 / 1024)} MiB`)
})

test('OPTIONS names the media types', async () => {
  const { headers } = await client('/collections/bulk_spread/items', { method: 'OPTIONS' })
  assert.match(
    headers.get('accept-post') ?? '',
    /application\/geo\+json, .*application\/geo\+json-seq.*text\/csv/,
  )
})
