// Tests FlatGeobuf with GDAL, which reads it, and PostGIS, which writes it. PostGIS 3.3 crashes when it reads a geometry that is
// null.

import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import { flatgeobuf } from '../../features/formats/flatgeobuf.ts'
import { startGateway } from '../support/gateway.ts'

const { client, session, catalog } = await startGateway()
const run = promisify(execFile)
const folder = mkdtempSync(join(tmpdir(), 'tessera-test-'))
after(() => rmSync(folder, { recursive: true, force: true }))
const needsGdal = {
  skip:
    spawnSync('ogrinfo', ['--version']).status !== 0 &&
    'SKIPPED: ogrinfo is not installed, so GDAL did not read FlatGeobuf',
}

/** A geometry of each type, with and without heights and measures, empty ones, and none. */
const SHAPES = [
  'point(1 2)',
  'point z(1 2 3)',
  'point m(1 2 4)',
  'point zm(1 2 3 4)',
  'linestring(0 0, 1 1, 2 0)',
  'linestring z(0 0 5, 1 1 6)',
  'polygon((0 0, 4 0, 4 4, 0 0))',
  'polygon((0 0, 9 0, 9 9, 0 0), (5 1, 6 1, 6 2, 5 1))',
  'multipoint((0 0), (1 1))',
  'multilinestring((0 0, 1 1), (2 2, 3 3, 4 4))',
  'multilinestring((0 0, 1 1))',
  'multipolygon(((0 0, 1 0, 1 1, 0 0)), ((5 5, 9 5, 9 9, 5 5), (7 6, 8 6, 8 7, 7 6)))',
  'geometrycollection(point(1 2), linestring(0 0, 1 1), polygon((0 0, 1 0, 1 1, 0 0)))',
  'point empty',
  'linestring empty',
  'polygon empty',
  'multipolygon empty',
  'geometrycollection empty',
]
/** Types that GDAL 3.6 and PostGIS 3.3 read; the same names are the tables' with these shapes alone. */
const TABLES = [...new Set(SHAPES.map((shape) => /^(\w+)( z?m?(?=\())?/.exec(shape)![0].trim()))].map(
  (type) => ({
    type,
    table: `fgb_${type.replace(' ', '_')}`,
    shapes: SHAPES.filter(
      (shape) => shape.startsWith(`${type}(`) || (!type.includes(' ') && shape === `${type} empty`),
    ),
  }),
)

before(async () => {
  for (const { type, table, shapes } of TABLES)
    await session.query(`create table ${table} (id int primary key, geom geometry(${type.replace(' ', '')}, 4326));
      insert into ${table} values ${shapes.map((shape, index) => `(${index + 1}, 'srid=4326;${shape}')`).join()}, (100, null)`)
  await session.query(`
    create table fgb_columns (id int primary key, int2 int2, int8 int8, float4 float4, float8 float8, bool bool, text text,
      stamp timestamptz, json jsonb, geom geometry(Point, 4326), numeric numeric, list int[], bytes bytea, day date, uuid uuid, "ä name" varchar);
    comment on column fgb_columns.text is 'what it says';
    insert into fgb_columns values (1, -7, 9223372036854775807, 1.5, 0.1, true, 'ä "text"', '2024-02-29 12:00Z', '{"a": [1]}',
      'srid=4326;point(7 46)', 1234.5, '{1,2}', '\\xdead', '2024-02-29', '6f9619ff-8b86-4d01-b42d-00cf4fc964ff', ''),
      (2, null, null, 'NaN', '-Infinity', false, null, null, null, null, null, null, null, null, null, null)`)
  await catalog.reload()
})

const bytesOf = async (path: string) => {
  const response = await fetch(`${client.url}/collections/${path}`)
  const bytes = Buffer.from(await response.arrayBuffer())
  assert.deepEqual([response.status, response.headers.get('content-type')], [200, 'application/flatgeobuf'])
  return bytes
}

/** Returns what GDAL makes of bytes, as GeoJSON. @throws if GDAL finds them faulty */
async function readWithGdal(bytes: Buffer, ...options: string[]) {
  const file = join(folder, `${bytes.length}.fgb`)
  writeFileSync(file, bytes)
  const { stdout, stderr } = await run(
    'ogr2ogr',
    ['-f', 'GeoJSON', '/vsistdout/', file, '-lco', 'COORDINATE_PRECISION=9', ...options],
    { maxBuffer: 1 << 29 },
  )
  assert.doesNotMatch(stderr, /ERROR/)
  return JSON.parse(stdout) as { features: { properties: Record<string, unknown>; geometry: unknown }[] }
}

/** Returns the features that GDAL finds in bytes, as its text has them. */
async function shownByGdal(bytes: Buffer) {
  const file = join(folder, 'shown.fgb')
  writeFileSync(file, bytes)
  const { stdout, stderr } = await run('ogrinfo', ['-al', '-q', file])
  assert.doesNotMatch(stderr, /ERROR/)
  return stdout.slice(stdout.indexOf('OGRFeature'))
}
const wktIn = (text: string) =>
  [...text.matchAll(/^ {2}([A-Z]+(?: Z?M?)? (?:\(.*\)|EMPTY))$/gm)].map(([, wkt]) => plain(wkt!))
const plain = (wkt: string) =>
  wkt
    .toLowerCase()
    .replace(/ ?([(,]) ?/g, '$1')
    .replace(/\((-?\d+ \d+)\)(?=[,)])/g, '$1')
const writtenByPostgis = async (rows: string) => {
  const [row] = await session.query<{ bytes: string }>(
    `select encode(st_asflatgeobuf(row, false, 'geom'), 'hex') as bytes from (${rows}) as row`,
  )
  return Buffer.from(row!.bytes, 'hex')
}

for (const { type, table, shapes } of TABLES)
  test(
    `GDAL reads ${shapes.length} of ${type} as they are stored, and as PostGIS writes them`,
    needsGdal,
    async () => {
      const shown = await shownByGdal(await bytesOf(`${table}/items?f=fgb&sortby=id`))
      // It has no empty geometries.
      const full = shapes.filter((shape) => !shape.includes('empty'))
      assert.deepEqual(wktIn(shown), full.map(plain))
      assert.equal(shown.split('OGRFeature').length - 1, shapes.length + 1)
      // PostGIS itself writes a single line of several such that GDAL cannot read it.
      const some = `not st_isempty(geom) and (st_numgeometries(geom) > 1 or geometrytype(geom) not like 'MULTILINE%')`
      const ours = await shownByGdal(await bytesOf(`${table}/items?f=fgb&sortby=id&filter=id<50`))
      const count = (await session.query(`select from ${table} where ${some}`)).length
      const theirs = await shownByGdal(
        await writtenByPostgis(`select * from ${table} where ${some} order by id`),
      )
      assert.deepEqual(wktIn(theirs), wktIn(ours).slice(0, count))
    },
  )

test('values are as PostGIS writes them, as far as it knows their types', needsGdal, async () => {
  const names = 'id, int2, int8, float4, float8, bool, text'
  const rows = `select ${names}, geom from fgb_columns order by id limit 1`
  const ours = await shownByGdal(
    await bytesOf(
      `fgb_columns/items?f=fgb&sortby=id&limit=1&properties=${names.slice(4).replaceAll(' ', '')}`,
    ),
  )
  const theirs = await shownByGdal(await writtenByPostgis(rows))
  const fields = (text: string) => text.split('\n').filter((line) => / = |POINT/.test(line))
  assert.deepEqual(fields(ours), fields(theirs))
})

test('GDAL reads values of each type', needsGdal, async () => {
  const { features } = await readWithGdal(await bytesOf('fgb_columns/items?f=fgb'))
  assert.deepEqual(features[0]!.properties, {
    id: 1,
    int2: -7,
    // The nearest number that JavaScript has.
    int8: 2 ** 63,
    float4: 1.5,
    float8: 0.1,
    bool: true,
    text: 'ä "text"',
    stamp: '2024-02-29T12:00:00Z',
    json: { a: [1] },
    numeric: 1234.5,
    list: [1, 2],
    bytes: 'DEAD',
    day: '2024-02-29T00:00:00',
    uuid: '6f9619ff-8b86-4d01-b42d-00cf4fc964ff',
    'ä name': '',
  })
  assert.equal(features[1]!.geometry, null)
})

for (const [collection, count] of [
  ['cities', 171_075],
  ['countries', 241],
  ['counties', 3231],
] as const)
  test(`GDAL reads ${count} features of ${collection}, equal to those of GeoJSON`, needsGdal, async () => {
    const bytes = await bytesOf(`${collection}/items?f=fgb&limit=none`)
    const { features } = await readWithGdal(bytes)
    assert.equal(features.length, count)
    const rows = await session.query<{ id: unknown; geometry: string; values: Record<string, unknown> }>(
      `select id, st_asgeojson(geom, 9, 0) as geometry, to_json(item) as values from ${collection} as item`,
    )
    const byId = new Map(rows.map((row) => [String(row.id), row]))
    for (const { properties, geometry } of features) {
      const row = byId.get(String(properties.id))!
      for (const [name, value] of Object.entries(properties)) assert.equal(value, row.values[name] ?? null)
      assert.equal(textOf(geometry), textOf(JSON.parse(row.geometry)))
    }
  })

/** GDAL rounds some coordinates another way in their last decimal. */
const textOf = (geometry: unknown) =>
  JSON.stringify(geometry, (_, value) => (typeof value === 'number' ? Number(value.toFixed(6)) : value))

test('GDAL refuses a file that was cut within a feature, and batches end there', needsGdal, async () => {
  const bytes = await bytesOf('counties/items?f=fgb&limit=none')
  const ends = featureEnds(bytes)
  assert.equal(ends.length, 3231)
  for (const cut of [-100, -1, 4, 40]) await assert.rejects(readWithGdal(bytes.subarray(0, ends[100]! + cut)))
  const collection = catalog.get('cities')
  const layout = {
    collection,
    properties: [],
    hasGeometry: true,
    hasByteOrderMark: false,
    origin: { url: undefined },
  }
  const writer = await flatgeobuf.open(layout)
  const record = '["0101000020E610000000000000000000000000000000000000","1"]'
  const parts = [writer.start(), writer.write([record, record]), writer.write([record])].map((part) =>
    Buffer.from(part),
  )
  const end = Buffer.from(writer.end({ returned: 3, matched: 3, links: [] }))
  const all = featureEnds(Buffer.concat([...parts, end]))
  assert.equal(all.length, 3)
  const cuts = parts.map((_, index) => Buffer.concat(parts.slice(0, index + 1)).length)
  assert.ok(
    cuts.every((cut) => !all.includes(cut)),
    `${cuts} in ${all}`,
  )
})

/** Returns the positions at which features end. */
function featureEnds(bytes: Buffer): number[] {
  let at = 8 + 4 + bytes.readUInt32LE(8)
  const ends: number[] = []
  while (at < bytes.length) {
    at += 4 + bytes.readUInt32LE(at)
    ends.push(at)
  }
  return ends
}

test('an empty result is a file with columns and no features', needsGdal, async () => {
  const bytes = await bytesOf('cities/items?f=fgb&name=nowhere+at+all')
  assert.deepEqual((await readWithGdal(bytes)).features, [])
  const { stdout } = await run('ogrinfo', ['-al', '-so', join(folder, `${bytes.length}.fgb`)])
  assert.match(stdout, /Geometry: Point\n/)
  assert.match(stdout, /name: String/)
})
