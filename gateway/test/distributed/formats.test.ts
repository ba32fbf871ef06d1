// Tests features in formats other than GeoJSON: values of each type, pages by links in headers, and names of files.

import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { before, test } from 'node:test'
import { parse } from 'csv-parse/sync'
import { followPages } from '../support/client.ts'
import { startGateway } from '../support/gateway.ts'

const { client, session, catalog } = await startGateway()

before(async () => {
  await session.query(`
    create type writing_mood as enum ('happy', 'so so');
    create table written_type (
      id int primary key, int2 int2, int4 int4, int8 int8, float4 float4, float8 float8, numeric numeric, bool bool,
      text text, varchar varchar(20), date date, timestamp timestamp, timestamptz timestamptz, uuid uuid, json json,
      jsonb jsonb, list text[], bytes bytea, span interval, mood writing_mood, geom geometry(PointZ, 4326));
    insert into written_type values
      (1, -32768, -2147483648, 9223372036854775807, 1.5, 0.1, 12345678901234567890.123, true, 'a "quoted", text',
       E'two\\r\\nlines', '2024-02-29', '2024-02-29 12:00:00.5', '2024-02-29 12:00:00+01',
       '6f9619ff-8b86-4d01-b42d-00cf4fc964ff', E'{"a":\\n 1}', '"text"', '{a,"b,c",null}', '\\xdeadbeef', '1 day',
       'so so', 'srid=4326;point z(7.25 46.12345678901234 400)'),
      (2, null, null, null, 'NaN', '-Infinity', null, null, null, '', null, null, null, null, null, null, null, null,
       null, null, null);
    create table "shapes, odd" (id text primary key, wkt text, geom geometry(Geometry, 25832));
    insert into "shapes, odd" values
      ('<0101>', '<0101>', null),
      ('line', 'x', st_transform('srid=4326;linestring(9 50, 10 51)'::geometry, 25832)),
      ('surface', 'y', 'srid=25832;polyhedralsurface(((0 0, 0 1, 1 1, 0 0)))'),
      ('nowhere', 'z', 'srid=25832;point(1e30 1e30)');
    create table far_points as select i as id, st_setsrid(case when i % 2500 = 0 then st_makepoint(1e30, i)
      else st_makepoint(500000 + i, 5500000) end, 25832)::geometry(Point, 25832) geom from generate_series(1, 6000) i;
    alter table far_points add primary key (id);
    create table near_points as select i as id, st_setsrid(st_makepoint(i / 100.0, 46), 4326)::geometry(Point, 4326) geom
      from generate_series(1, 1000) i;
    alter table near_points add primary key (id); create index on near_points using gist (geom)`)
  await catalog.reload()
})

const csvOf = async (path: string) => {
  const { status, type, text } = await client(path)
  assert.deepEqual([status, type.split(';')[0]], [200, 'text/csv'], text)
  return parse(text, { columns: true, bom: true }) as Record<string, string>[]
}
const linesOf = (text: string) =>
  text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line.slice(line.indexOf('{'))))

test('a CSV has every value as a program reads it, and points as numbers', async () => {
  const [first, second] = await csvOf('/collections/written_type/items?f=csv&sortby=id')
  assert.deepEqual(first, {
    id: '1',
    int2: '-32768',
    int4: '-2147483648',
    int8: '9223372036854775807',
    float4: '1.5',
    float8: '0.1',
    numeric: '12345678901234567890.123',
    bool: 'true',
    text: 'a "quoted", text',
    varchar: 'two\r\nlines',
    date: '2024-02-29',
    timestamp: '2024-02-29T12:00:00.5',
    timestamptz: '2024-02-29T11:00:00+00:00',
    uuid: '6f9619ff-8b86-4d01-b42d-00cf4fc964ff',
    json: '{"a":\n 1}',
    jsonb: '"text"',
    list: '["a","b,c",null]',
    bytes: '\\xdeadbeef',
    span: 'P1D',
    mood: 'so so',
    longitude: '7.25',
    latitude: '46.12345678901234',
    height: '400',
  })
  assert.deepEqual(second, {
    ...Object.fromEntries(Object.keys(first!).map((name) => [name, ''])),
    id: '2',
    float4: 'NaN',
    float8: '-Infinity',
  })
  // Two quotes are an empty text, nothing is null.
  const { text } = await client('/collections/written_type/items?f=csv&sortby=id&properties=text,varchar')
  assert.equal(text.split('\r\n').at(-2), '2,,"",,,')
})

test('a geometry that cannot be shown leaves its fields empty, whatever the texts next to it are', async () => {
  const path = `/collections/${encodeURIComponent('shapes, odd')}/items`
  for (const limit of [10, 'none']) {
    const rows = await csvOf(`${path}?f=csv&sortby=id&limit=${limit}`)
    const shown = rows.map(({ id, wkt, wkt_ }) => [id, wkt, wkt_?.slice(0, 12)])
    assert.deepEqual(shown.toSorted(), [
      ['<0101>', '<0101>', ''],
      ['line', 'x', 'LINESTRING(9'],
      ['nowhere', 'z', ''],
      ['surface', 'y', shown.find(([id]) => id === 'surface')![2]],
    ])
    assert.match(shown.find(([id]) => id === 'surface')![2]!, /^(MULTIPOLYGON|POLYHEDRALS)/)
  }
})

test('features on lines are those of the page as GeoJSON', async () => {
  for (const collection of ['written_type', encodeURIComponent('shapes, odd'), 'countries'])
    for (const [format, mark] of [
      ['geojsonseq', '\x1e'],
      ['ndjson', ''],
    ]) {
      const path = `/collections/${collection}/items?limit=20`
      const { json } = await client(path)
      const { text } = await client(`${path}&f=${format}`)
      const lines = text.split('\n')
      assert.equal(lines.pop(), '')
      assert.ok(lines.every((line) => line.startsWith(`${mark}{`)))
      assert.deepEqual(linesOf(text), json.features)
    }
})

test('all features come in one answer, in each format', async () => {
  const { json } = await client('/collections/cities/items?limit=none')
  assert.deepEqual(
    [json.numberReturned, json.numberMatched, json.features.length],
    [171_075, 171_075, 171_075],
  )
  assert.ok(!json.links.some(({ rel }: { rel: string }) => rel === 'next'))
  const { text } = await client('/collections/cities/items?f=geojsonseq&limit=none')
  assert.equal(text.split('\x1e').length - 1, 171_075)
  const rows = await csvOf('/collections/cities/items?f=csv&limit=none')
  assert.equal(new Set(rows.map(({ id }) => id)).size, 171_075)
  const ids = new Set(json.features.map(({ id }: { id: string }) => String(id)))
  assert.ok(rows.every(({ id }) => ids.has(id!)))
})

test('a row that fails in the middle costs only its geometry', async () => {
  const rows = await csvOf('/collections/far_points/items?f=csv&limit=none')
  assert.equal(rows.length, 6000)
  assert.deepEqual(
    rows.filter(({ longitude }) => longitude === '').map(({ id }) => id),
    ['2500', '5000'],
  )
  const { json } = await client('/collections/far_points/items?limit=none&bbox=8,40,12,60')
  assert.deepEqual([json.numberReturned, json.numberMatched], [5998, 5998])
})

test('all features can be filtered, sorted, confined to a box, and have few properties', async () => {
  const selection = 'bbox=5,45,11,48&country=CH&properties=name&sortby=-name'
  const { json } = await client(`/collections/cities/items?${selection}&limit=none`)
  const paged = await client(`/collections/cities/items?${selection}&limit=10000`)
  assert.ok(json.features.length > 200)
  assert.deepEqual(json.features, paged.json.features)
  const rows = await csvOf(`/collections/cities/items?${selection}&limit=none&f=csv`)
  assert.deepEqual(
    rows.map(({ name }) => name),
    json.features.map(({ properties }: { properties: { name: string } }) => properties.name),
  )
  assert.deepEqual(Object.keys(rows[0]!), ['id', 'name', 'longitude', 'latitude'])
  const [row] = await csvOf('/collections/cities/items?f=csv&skipGeometry=true&properties=name&limit=1')
  assert.deepEqual(Object.keys(row!), ['id', 'name'])
})

test('pages without a place for links have the next one, and counts, in headers', async () => {
  const ids: string[] = []
  let pages = 0
  for (let next: string | undefined = '/collections/countries/items?f=csv&limit=1000'; next; pages++) {
    const { text, headers } = await client(next)
    const rows = parse(text, { columns: true }) as { id: string }[]
    ids.push(...rows.map(({ id }) => id))
    assert.equal(headers.get('ogc-numberreturned'), String(rows.length))
    assert.match(headers.get('link')!, /queryables/)
    next = /<([^>]*)>; rel="next"/.exec(headers.get('link')!)?.[1]
  }
  // A page of two megabytes ends early.
  assert.ok(pages > 1, String(pages))
  assert.equal(ids.length, 241)
  assert.equal(new Set(ids).size, 241)
  const { headers } = await client('/collections/countries/items?f=ndjson&limit=1000&skipGeometry=true')
  assert.equal(headers.get('ogc-numbermatched'), '241')
})

test('files have names; pages that a browser shows have none', async () => {
  const nameOf = async (path: string, init?: RequestInit) =>
    (await client(path, init)).headers.get('content-disposition')
  assert.equal(await nameOf('/collections/countries/items?f=csv'), 'attachment; filename="countries.csv"')
  assert.equal(
    await nameOf(`/collections/${encodeURIComponent('shapes, odd')}/items?f=ndjson`),
    `attachment; filename="shapes__odd.ndjson"; filename*=UTF-8''shapes%2C%20odd.ndjson`,
  )
  assert.equal(await nameOf('/collections/countries/items'), null)
  assert.equal(
    await nameOf('/collections/countries/items?limit=none&properties=', { method: 'HEAD' }),
    'attachment; filename="countries.geojson"',
  )
  assert.equal(await nameOf('/collections/countries/items?f=csv&limit=0'), null)
})

test('Accept and the ending of the address choose a format', async () => {
  const typeOf = async (path: string, accept: string) => {
    const { headers } = await fetch(client.url + path, { headers: { accept } })
    return headers.get('content-type')!.split(';')[0]
  }
  const items = '/collections/countries/items'
  assert.equal(await typeOf(`${items}?limit=1`, 'text/csv'), 'text/csv')
  assert.equal(await typeOf(`${items}?limit=1`, 'text/*'), 'text/html')
  assert.equal(await typeOf(`${items}?limit=1`, 'application/jsonl, */*;q=0.1'), 'application/jsonl')
  assert.equal(await typeOf(`${items}.csv?limit=1`, 'text/html'), 'text/csv')
  assert.equal(await typeOf(`${items}.geojson`, 'text/html'), 'application/geo+json')
  assert.equal(await typeOf(`${items}.shp`, '*/*'), 'application/problem+json')
})

test('a byte order mark comes if it is asked for', async () => {
  const path = '/collections/countries/items?f=csv&limit=1&csv-bom='
  const bytes = async (path: string) => Buffer.from(await (await fetch(client.url + path)).arrayBuffer())
  assert.equal((await bytes(`${path}true`)).subarray(0, 5).toString(), '\ufeffid')
  assert.equal((await bytes(`${path}false`)).subarray(0, 2).toString(), 'id')
})

test('limit=none refuses a client of HTTP/1.0, and a cursor that has no order', async () => {
  const { hostname, port } = new URL(client.url)
  const socket = connect(Number(port), hostname)
  socket.write('GET /collections/countries/items?limit=none HTTP/1.0\r\n\r\n')
  let text = ''
  for await (const chunk of socket) text += chunk
  assert.match(text, /^HTTP\/1.1 505 .*http-version-unsupported/s)
  for await (const page of followPages(client, '/collections/near_points/items?bbox=0,45,11,48&limit=300')) {
    const next = page.links.find(({ rel }) => rel === 'next')!.href.replace('limit=300', 'limit=none')
    const { status, json } = await client(next)
    assert.deepEqual([status, json.parameter], [400, 'cursor'])
    break
  }
  const { json } = await client('/collections/cities/items?limit=all')
  assert.match(json.detail, /limit must be an integer from 1 to 10000, or none for all features at once/)
})
