// Tests imports of what GDAL reads: values, systems, layers and ids, and sources that cannot be read.

import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { after, test } from 'node:test'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import { openSession } from '../../database/session.ts'
import type { Event } from '../../events.ts'
import { type ImportOptions, importFeatures } from '../../features/import/import.ts'
import { openSource } from '../../features/import/import-source.ts'
import { FORMATS } from '../../features/import/sources/formats.ts'
import type { SourceOptions } from '../../features/import/sources/source.ts'
import { testDatabase } from '../support/database.ts'
import { runTessera } from '../support/process.ts'

const { ownerUrl } = testDatabase()
const session = await openSession(ownerUrl, 'test')
const folder = mkdtempSync(join(tmpdir(), 'tessera-test-'))
after(async () => {
  await session.close()
  rmSync(folder, { recursive: true, force: true })
})
const isMissing = spawnSync('ogr2ogr', ['--version']).status !== 0
const needsGdal = {
  skip: isMissing && 'SKIPPED: ogr2ogr is not installed, so no import through it was tested',
}
const run = promisify(execFile)
const format = FORMATS.find(({ name }) => name === 'gdal')

/** Writes GeoJSON into a file of another format. @returns its path */
async function write(name: string, driver: string, features: readonly object[], ...args: string[]) {
  const source = join(folder, `${name}.source.geojson`)
  writeFileSync(source, JSON.stringify({ type: 'FeatureCollection', features }))
  const file = join(folder, name)
  await run('ogr2ogr', ['-f', driver, file, source, ...args])
  return file
}

let tables = 0
type Options = Partial<ImportOptions> & SourceOptions & { readonly format?: typeof format }

async function importFile(file: string, options: Options = {}) {
  const { collection = `gdal_${++tables}` } = options
  const notes: string[] = []
  const progress: { done: number; total: number | undefined }[] = []
  const emit = (event: Event) => {
    if (event.type === 'import-noted') notes.push(event.note)
    if (event.type === 'import-advanced') progress.push(event)
  }
  const source = await openSource(file, Readable.from([]), options)
  const { features } = await importFeatures(session, source, { ...options, collection }, emit)
  const columns = await session.query<{ name: string; type: string }>(
    `select attname as name, format_type(atttypid, atttypmod) as type from pg_attribute
     where attrelid = $1::regclass and attnum > 0 and attname not in ('cell', 'id', 'updated_at') order by attnum`,
    [collection],
  )
  return {
    collection,
    features,
    notes,
    progress,
    types: Object.fromEntries(columns.map(({ name, type }) => [name, type])),
    rows: await session.query<Record<string, any>>(
      `select *, st_asgeojson(geom, 15)::json as geom from "${collection}" order by nullif(split_part(id::text, '.', 2), '')::int`,
    ),
  }
}

const feature = (properties: object, coordinates: unknown = [7.123456789012345, 46.5], type = 'Point') => ({
  type: 'Feature',
  properties,
  geometry: { type, coordinates },
})
const refusal = (pattern: RegExp) => (error: Error) => {
  assert.match(error.message, pattern)
  assert.equal(error.constructor.name, 'ImportError')
  return true
}

test('every type of value comes through GeoPackage as it was', needsGdal, async () => {
  await session.query(`
    create table gdal_values (fid int primary key, geom geometry(point, 4326), small smallint, whole integer, large bigint,
      single real, double double precision, yes boolean, text text, day date, at timestamptz, bytes bytea)`)
  await session.query(`
    insert into gdal_values values
      (7, st_setsrid(st_point(7.123456789012345, -46.1), 4326), -32768, 2147483647, 9007199254740993, 0.1, 0.1, true,
        E'tab\\there, "quoted" and [not json', '2024-02-29', '2024-02-29 10:00:00.123+02', '\\xdeadbeef00'),
      (9, null, null, null, null, null, null, null, null, null, null, null),
      (11, st_setsrid(st_point(-179.99999999999997, 1e-13), 4326), 1, 1, -9223372036854775808, 1e30, 1.7976931348623157e308,
        false, '', '0001-01-01', '1970-01-01', '')`)
  const file = join(folder, 'values.gpkg')
  await run('ogr2ogr', ['-f', 'GPKG', file, `PG:${ownerUrl}`, 'gdal_values', '-preserve_fid'])
  const { types, collection, notes, progress } = await importFile(file)
  assert.deepEqual(types, {
    geom: 'geometry(Point,4326)',
    small: 'smallint',
    whole: 'integer',
    large: 'bigint',
    single: 'real',
    double: 'double precision',
    yes: 'boolean',
    text: 'text',
    day: 'date',
    at: 'timestamp with time zone',
    bytes: 'bytea',
  })
  const same = ['small', 'whole', 'large', 'single', 'double', 'yes', 'text', 'day', 'at', 'bytes']
    .map((name) => `v.${name} is not distinct from i.${name}`)
    .join(' and ')
  const [row] = await session.query<{ same: number }>(
    `select count(*)::int as same from gdal_values v join ${collection} i on split_part(i.id, '.', 2) = v.fid::text
     where ${same}  and v.geom::bytea is not distinct from i.geom::bytea`,
  )
  assert.equal(row!.same, 3)
  assert.deepEqual(notes, [])
  assert.deepEqual({ done: progress.at(-1)!.done, total: progress.at(-1)!.total }, { done: 3, total: 3 })
})

test('lists and JSON become jsonb', needsGdal, async () => {
  const values = { names: ['a', 'b,c'], numbers: [1, 2], parts: { a: [true] } }
  const file = join(folder, 'lists.geojson')
  writeFileSync(file, JSON.stringify({ type: 'FeatureCollection', features: [feature(values)] }))
  const { types, rows } = await importFile(file, { format })
  const { names, numbers, parts } = rows[0]!
  assert.deepEqual({ names, numbers, parts }, values)
  assert.deepEqual([types.names, types.numbers, types.parts], ['jsonb', 'jsonb', 'jsonb'])
})

/** Some formats write fewer digits, or numbers of a grid. */
for (const [name, driver, tolerance, ...args] of [
  ['places.fgb', 'FlatGeobuf', 0],
  ['places.sqlite', 'SQLite', 0],
  ['places.shp', 'ESRI Shapefile', 0, '-lco', 'ENCODING=UTF-8'],
  ['places.gml', 'GML', 1e-13],
  ['places.kml', 'KML', 1e-13],
  ['places.gdb', 'OpenFileGDB', 1e-8],
  ['places.tab', 'MapInfo File', 1e-6],
] as const)
  test(`features come from ${driver} as they went in`, needsGdal, async () => {
    const places = [feature({ name: 'Zürich' }), feature({ name: 'Malmö' }, [13, 55.6])]
    const { rows, features } = await importFile(await write(name, driver, places, '-nln', 'places', ...args))
    assert.equal(features, 2)
    // KML has its own name of the property.
    assert.deepEqual(rows.map((row) => row.name ?? row.Name).toSorted(), ['Malmö', 'Zürich'])
    const [east] = rows.find((row) => (row.name ?? row.Name) === 'Zürich')!.geom.coordinates
    assert.ok(Math.abs(east - 7.123456789012345) <= tolerance, `${east}`)
    assert.deepEqual(
      readdirSync(folder).filter((file) => file.endsWith('.gfs')),
      [],
    )
  })

test(
  'coordinates of another system become degrees, also from a Shapefile in a ZIP archive',
  needsGdal,
  async () => {
    const file = await write(
      'utm.shz',
      'ESRI Shapefile',
      [feature({ n: 1 }, [10, 50])],
      '-t_srs',
      'EPSG:25832',
    )
    const archive = join(folder, 'utm.zip')
    renameSync(file, archive)
    const { rows, types } = await importFile(archive)
    assert.equal(types.geom, 'geometry(Point,4326)')
    for (const [index, degrees] of [10, 50].entries())
      assert.ok(Math.abs(rows[0]!.geom.coordinates[index] - degrees) < 1e-9)
  },
)

test('a source that does not name its system needs --source-crs', needsGdal, async () => {
  const file = await write(
    'bare.shp',
    'ESRI Shapefile',
    [feature({ n: 1 }, [10, 50])],
    '-t_srs',
    'EPSG:25832',
  )
  rmSync(file.replace('shp', 'prj'))
  await assert.rejects(
    importFile(file),
    refusal(/^bare\.shp: The layer bare does not name the system.*--source-crs EPSG:25832/),
  )
  const { rows } = await importFile(file, { sourceCrs: 'EPSG:25832' })
  assert.ok(Math.abs(rows[0]!.geom.coordinates[0] - 10) < 1e-9)
  await assert.rejects(
    importFile(file, { sourceCrs: 'EPSG:nowhere' }),
    refusal(/^bare\.shp: GDAL cannot read it: /),
  )
})

test('of several layers one must be named', needsGdal, async () => {
  const file = await write('layers.gpkg', 'GPKG', [feature({ n: 1 })], '-nln', 'roads')
  const table = [
    '-update',
    '-append',
    '-nln',
    'codes',
    '-nlt',
    'NONE',
    '-lco',
    'ASPATIAL_VARIANT=GPKG_ATTRIBUTES',
  ]
  await write('layers.gpkg', 'GPKG', [feature({ code: 'a' }), feature({ code: 'b' })], ...table)
  // A table without geometries is none of several.
  assert.deepEqual((await importFile(file)).rows[0]!.n, 1)
  await write('layers.gpkg', 'GPKG', [feature({ n: 2 })], '-update', '-append', '-nln', 'two words')
  const listed = /roads \(Point, 1 feature\), .*codes \(no geometries, 2 features\)/
  await assert.rejects(importFile(file), (error: Error) => {
    assert.match(error.message, /^layers\.gpkg: It has several layers; name one of them with --layer: /)
    return refusal(listed)(error) || true
  })
  await assert.rejects(
    importFile(file, { layer: 'road' }),
    refusal(/There is no layer road; it has .*two words/),
  )
  assert.equal((await importFile(file, { layer: 'two words' })).rows[0]!.n, 2)
  const { rows } = await importFile(file, { layer: 'codes' })
  assert.deepEqual(
    rows.map(({ code, geom }) => [code, geom]),
    [
      ['a', null],
      ['b', null],
    ],
  )
  const geojson = join(folder, 'layers.gpkg.source.geojson')
  for (const option of [{ layer: 'roads' }, { sourceCrs: 'EPSG:25832' }])
    await assert.rejects(
      importFile(geojson, option),
      refusal(/is read as geojson: --(layer|source-crs) only goes with/),
    )
  assert.equal((await importFile(geojson, { format })).rows[0]!.n, 2)
})

test('ids are those of the column that the layer names, and otherwise new', needsGdal, async () => {
  const places = [
    { id: 41, ...feature({ n: 1, code: 'x' }) },
    { id: 42, ...feature({ n: 2, code: 'y' }) },
  ]
  const file = await write('ids.gpkg', 'GPKG', places, '-preserve_fid', '-lco', 'FID=number')
  const own = async (options: Options) =>
    (await importFile(file, { distributeBy: 'id', ...options })).collection
  const idsOf = async (table: string) =>
    (await session.query<{ id: unknown }>(`select id::text from ${table} order by n`)).map(({ id }) => id)
  assert.deepEqual(await idsOf(await own({})), ['41', '42'])
  assert.deepEqual(await idsOf(await own({ id: 'number' })), ['41', '42'])
  assert.deepEqual(await idsOf(await own({ id: 'code' })), ['x', 'y'])
})

test('what GeoJSON has no place for is reported', needsGdal, async () => {
  const file = join(folder, 'measured.csv')
  writeFileSync(file, 'n,wkt\n1,"LINESTRING ZM (1 2 3 4, 5 6 7 8)"\n')
  const measured = join(folder, 'measured.gpkg')
  await run('ogr2ogr', [
    '-f',
    'GPKG',
    measured,
    file,
    '-oo',
    'GEOM_POSSIBLE_NAMES=wkt',
    '-a_srs',
    'EPSG:4326',
    '-nlt',
    'LINESTRINGZM',
  ])
  const { notes, types } = await importFile(measured)
  assert.equal(types.geom, 'geometry(LineStringZ,4326)')
  assert.deepEqual(notes, ['The layer measured has measures (M): they are left out.'])
})

test('a source that GDAL cannot read to its end leaves nothing behind', needsGdal, async () => {
  const many = Array.from({ length: 5_000 }, (_, n) => feature({ n, text: 'x'.repeat(100) }))
  const file = await write('broken.fgb', 'FlatGeobuf', many)
  truncateSync(file, readFileSync(file).length - 200_000)
  await assert.rejects(
    importFile(file, { collection: 'gdal_broken' }),
    refusal(/^broken\.fgb: GDAL cannot read it: .+"ogrinfo --formats"/),
  )
  const nonsense = join(folder, 'nonsense.gpkg')
  writeFileSync(nonsense, 'nonsense')
  await assert.rejects(
    importFile(nonsense, { collection: 'gdal_broken' }),
    refusal(/^nonsense\.gpkg: GDAL cannot read it: /),
  )
  const [row] = await session.query<{ found: string | null }>(
    "select to_regclass('gdal_broken')::text as found",
  )
  assert.equal(row!.found, null)
})

test('standard input and packed files are refused with what to do', needsGdal, async () => {
  const file = await write('piped.fgb', 'FlatGeobuf', [feature({ n: 1 })])
  const packed = join(folder, 'piped.fgb.gz')
  writeFileSync(packed, gzipSync(readFileSync(file)))
  const reason = refusal(
    /GDAL reads this format, and from files alone\. Write the source to a file, unpacked, and name that\.$/,
  )
  await assert.rejects(importFile(packed), reason)
  const source = await openSource('-', Readable.from([readFileSync(file)]), {})
  await assert.rejects(
    importFeatures(session, source, { collection: 'gdal_piped' }, () => {}),
    reason,
  )
})

test('without GDAL, a sentence says what is missing, and other formats are read', async () => {
  const file = join(folder, 'roads.gpkg')
  writeFileSync(file, 'SQLite format 3\0')
  const environment = { TESSERA_WRITE_URL: ownerUrl, PATH: folder }
  const { code, output } = await runTessera(['import', file, '--collection', 'gdal_absent'], '', environment)
  assert.equal(code, 1)
  assert.match(
    output,
    /roads\.gpkg: GDAL reads this format, but ogrinfo is not installed\. Install GDAL, .* gdal-bin,/,
  )
  const other = await runTessera(
    ['import', '-', '--collection', 'gdal_absent'],
    JSON.stringify(feature({})),
    environment,
  )
  assert.equal(other.code, 0, other.output)
})
