// Tests GeoParquet with programs that read it: pyarrow and geopandas.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import { startGateway } from '../support/gateway.ts'
import { needsReaders, python } from '../support/python.ts'

const { client, session, catalog } = await startGateway()
const run = promisify(execFile)
const folder = mkdtempSync(join(tmpdir(), 'tessera-test-'))
after(() => rmSync(folder, { recursive: true, force: true }))

before(async () => {
  await session.query(`
    create table pq_columns (id int primary key, int2 int2, int8 int8, float4 float4, float8 float8, numeric numeric, bool bool,
      text text, json jsonb, list int[], bytes bytea, day date, local timestamp, stamp timestamptz, uuid uuid, bbox text,
      geom geometry(GeometryZ, 4326));
    insert into pq_columns values
      (1, -7, 9223372036854775807, 1.5, 0.1, 1234.5, true, 'ä "text"', '{"a": [1]}', '{1,2}', '\\xdead', '2024-02-29',
       '1969-12-31 23:59:59.999999', '2024-02-29 12:00:00.5+01', '6f9619ff-8b86-4d01-b42d-00cf4fc964ff', 'mine',
       'srid=4326;point z(7 46 400)'),
      (2, null, null, 'NaN', '-Infinity', null, false, null, null, null, null, 'infinity', null, '-infinity', null, null, null),
      (3, null, null, null, null, null, null, '', null, null, null, '0044-03-15 BC', null, null, null, null,
       'srid=4326;geometrycollection z(linestring z(0 0 1, 1 1 2), polyhedralsurface z(((0 0 0, 0 1 0, 1 1 0, 0 0 0))))');
    create table pq_measures (id int primary key, geom geometry(LineStringZM, 4326));
    insert into pq_measures values (1, 'srid=4326;linestring zm(0 1 2 3, 4 5 6 7)'), (2, 'srid=4326;linestring zm empty')`)
  await catalog.reload()
})

/** Saves items as a file, and returns what a program of Python prints about it as JSON. */
async function readWithPython(path: string, program: string) {
  const response = await fetch(`${client.url}/collections/${path}`)
  assert.deepEqual(
    [response.status, response.headers.get('content-type')],
    [200, 'application/vnd.apache.parquet'],
  )
  const file = join(folder, 'items.parquet')
  writeFileSync(file, Buffer.from(await response.arrayBuffer()))
  const source = `import json, sys\nimport pyarrow.parquet as pq\nfile = sys.argv[1]\n${program}`
  const { stdout } = await run(python!, ['-c', source, file], { maxBuffer: 1 << 29 })
  return JSON.parse(stdout)
}

test('pyarrow reads values of each type', needsReaders, async () => {
  const { types, rows, geo } = await readWithPython(
    'pq_columns/items?f=parquet&sortby=id',
    `table = pq.read_table(file)
def shown(value):
    return value.hex() if isinstance(value, bytes) else str(value) if hasattr(value, 'isoformat') else value
rows = []
for index in range(table.num_rows):
    row = {}
    for name in table.column_names:
        value = table[name].cast('int32')[index] if name == 'day' else table[name][index]
        try:
            row[name] = shown(value.as_py())
        except (ValueError, OverflowError):
            row[name] = str(value.value)
    rows.append(row)
print(json.dumps({'types': {f.name: str(f.type) for f in table.schema}, 'rows': rows, 'geo': json.loads(table.schema.metadata[b'geo'])}).replace('NaN', '"NaN"').replace('-Infinity', '"-Infinity"'))`,
  )
  assert.deepEqual(types, {
    id: 'int32',
    int2: 'int32',
    int8: 'int64',
    float4: 'float',
    float8: 'double',
    numeric: 'double',
    bool: 'bool',
    text: 'string',
    json: 'string',
    list: 'string',
    bytes: 'binary',
    day: 'date32[day]',
    local: 'timestamp[us]',
    stamp: 'timestamp[us, tz=UTC]',
    uuid: 'string',
    bbox: 'string',
    bbox_:
      'struct<xmin: double not null, ymin: double not null, xmax: double not null, ymax: double not null>',
    geom: 'binary',
  })
  const [first, second, third] = rows
  assert.deepEqual(first, {
    id: 1,
    int2: -7,
    int8: 2 ** 63,
    float4: 1.5,
    float8: 0.1,
    numeric: 1234.5,
    bool: true,
    text: 'ä "text"',
    json: '{"a": [1]}',
    list: '[1,2]',
    bytes: 'dead',
    day: 19_782,
    local: '1969-12-31 23:59:59.999999',
    stamp: '2024-02-29 11:00:00.500000+00:00',
    uuid: '6f9619ff-8b86-4d01-b42d-00cf4fc964ff',
    bbox: 'mine',
    bbox_: { xmin: 7, ymin: 46, xmax: 7, ymax: 46 },
    geom: '01e90300000000000000001c40000000000000474000000000000079' + '40',
  })
  const nothing = Object.fromEntries(Object.keys(first).map((name) => [name, null]))
  assert.deepEqual(second, { ...nothing, id: 2, float4: 'NaN', float8: '-Infinity', bool: false })
  const [{ days }] = (await session.query<{ days: number }>(
    `select '0044-03-15 BC'::date - '1970-01-01'::date as days`,
  )) as [{ days: number }]
  assert.deepEqual([third.id, third.text, third.day], [3, '', days])
  assert.deepEqual(third.bbox_, { xmin: 0, ymin: 0, xmax: 1, ymax: 1 })
  assert.deepEqual(geo, {
    version: '1.1.0',
    primary_column: 'geom',
    columns: {
      geom: {
        encoding: 'WKB',
        geometry_types: ['GeometryCollection Z', 'Point Z'],
        bbox: [0, 0, 7, 46],
        covering: {
          bbox: Object.fromEntries(['xmin', 'ymin', 'xmax', 'ymax'].map((edge) => [edge, ['bbox_', edge]])),
        },
      },
    },
  })
})

for (const [collection, count] of [
  ['cities', 171_075],
  ['countries', 241],
  ['counties', 3231],
] as const)
  test(`geopandas reads ${count} features of ${collection} as they are stored`, needsReaders, async () => {
    const read = (await readWithPython(
      `${collection}/items?f=parquet&limit=none`,
      `import geopandas
frame = geopandas.read_parquet(file)
print(json.dumps([[str(id), name, geometry.wkb.hex()] for id, name, geometry in zip(frame['id'], frame['name'], frame.geometry)]))`,
    )) as [string, string, string][]
    assert.equal(read.length, count)
    const rows = await session.query<{ id: string; name: string; wkb: string }>(
      `select id::text, name, encode(st_asbinary(geom), 'hex') as wkb from ${collection}`,
    )
    const stored = new Map(rows.map(({ id, name, wkb }) => [id, `${name} ${wkb}`]))
    for (const [id, name, wkb] of read) assert.equal(`${name} ${wkb}`, stored.get(id))
  })

test(
  'geopandas reads only what a box covers, lines without measures, and empty ones',
  needsReaders,
  async () => {
    const found = await readWithPython(
      'cities/items?f=parquet&limit=none',
      `import geopandas
frame = geopandas.read_parquet(file, bbox=(5, 45, 11, 48))
print(json.dumps([len(frame), str(frame.crs)]))`,
    )
    const { json } = await client('/collections/cities/items?bbox=5,45,11,48&limit=none&properties=')
    assert.deepEqual(found, [json.numberReturned, 'OGC:CRS84'])
    const lines = await readWithPython(
      'pq_measures/items?f=parquet&sortby=id',
      `import geopandas
print(json.dumps([geometry.wkt for geometry in geopandas.read_parquet(file).geometry]))`,
    )
    assert.deepEqual(lines, ['LINESTRING Z (0 1 2, 4 5 6)', 'LINESTRING Z EMPTY'])
  },
)

test('a file without geometries, and one without features', needsReaders, async () => {
  const count = 'table = pq.read_table(file)\nprint(json.dumps([table.num_rows, table.column_names]))'
  const columns = ['id', 'name']
  assert.deepEqual(
    await readWithPython('countries/items?f=parquet&limit=5&skipGeometry=true&properties=name', count),
    [5, columns],
  )
  assert.deepEqual(
    await readWithPython('countries/items?f=parquet&limit=none&name=nowhere&properties=name', count),
    [0, [...columns, 'bbox', 'geom']],
  )
})

test('a file that was cut cannot be read', needsReaders, async () => {
  const bytes = Buffer.from(
    await (await fetch(`${client.url}/collections/cities/items?f=parquet&limit=none`)).arrayBuffer(),
  )
  const file = join(folder, 'cut.parquet')
  writeFileSync(file, bytes.subarray(0, bytes.length >> 1))
  await assert.rejects(
    run(python!, ['-c', `import pyarrow.parquet as pq; pq.read_table('${file}')`]),
    /footer|magic/,
  )
})

test('a system that the file could not describe is refused', async () => {
  await session.query(`create table pq_swiss (id int primary key, geom geometry(Point, 2056));
    insert into pq_swiss values (1, st_setsrid(st_makepoint(2600000, 1200000), 2056))`)
  await catalog.reload()
  const crs = 'http://www.opengis.net/def/crs/EPSG/0/2056'
  const { status, json } = await client(`/collections/pq_swiss/items?f=parquet&limit=none&crs=${crs}`)
  assert.deepEqual([status, json.parameter], [400, 'crs'])
  assert.equal((await client(`/collections/pq_swiss/items?f=fgb&crs=${crs}`)).status, 200)
})
