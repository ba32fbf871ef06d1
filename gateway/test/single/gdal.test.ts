// Tests an independent client: GDAL's driver for OGC API Features.

import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { promisify } from 'node:util'
import { startGateway } from '../support/gateway.ts'

const { client, session, catalog, events } = await startGateway()
const run = promisify(execFile)
const isMissing = spawnSync('ogrinfo', ['--version']).status !== 0
const options = {
  skip: isMissing && 'SKIPPED: ogrinfo is not installed, so no independent client was tested',
}
const ogrinfo = async (...args: string[]) =>
  (await run('ogrinfo', [...args.slice(0, -1), `OAPIF:${client.url}/`, args.at(-1)!], { maxBuffer: 1 << 28 }))
    .stdout
const countIn = (text: string) => Number(/Feature Count: (\d+)/.exec(text)?.[1])

for (const [collection, count, ...openOptions] of [
  // In pages of the maximum size: with GDAL's default this would take a while.
  ['cities', 171_075, '-oo', 'PAGE_SIZE=10000'],
  ['countries', 241],
  ['counties', 3231],
] as const) {
  test(`GDAL counts ${count} features in ${collection}`, options, async () =>
    assert.equal(countIn(await ogrinfo('-al', '-so', ...openOptions, collection)), count),
  )
}

test('GDAL pages through every city', options, async () => {
  const { stdout } = await run(
    'ogr2ogr',
    [
      '-f',
      'CSV',
      '/vsistdout/',
      `OAPIF:${client.url}/`,
      'cities',
      '-select',
      'name',
      '-oo',
      'PAGE_SIZE=10000',
    ],
    { maxBuffer: 1 << 28 },
  )
  assert.equal(stdout.trim().split(/\r?\n(?=[^\r\n]*$|)/m).length >= 171_076, true)
})

test('GDAL filters by a box', options, async () => {
  const text = await ogrinfo('-al', '-so', '-spat', '9', '46.9', '10', '47.4', 'cities')
  const { json } = await client('/collections/cities/items?bbox=9,46.9,10,47.4&limit=10000')
  assert.equal(countIn(text), json.numberMatched)
})

test('GDAL reads the types and the extent', options, async () => {
  const text = await ogrinfo('-al', '-so', 'countries')
  assert.match(text, /Geometry: Multi Polygon/)
  assert.match(text, /name: String/)
  assert.match(text, /Extent: \(-180\.0+, -/)
})

test('GDAL sees a column of numbers as one although some are NaN', options, async () => {
  await session.query(`create table gdal_numbers (id int primary key, v float8, geom geometry(Point, 4326));
    insert into gdal_numbers values (1, 1.5, 'SRID=4326;POINT(1 1)'), (2, 'NaN', 'SRID=4326;POINT(1 1)'),
      (3, 'Infinity', 'SRID=4326;POINT(1 1)')`)
  await catalog.reload()
  assert.match(await ogrinfo('-al', 'gdal_numbers'), /^v: Real/m)
})

/** Returns the parameters of the requests for items that GDAL has sent since. */
const sentSince = (first: number) =>
  events
    .slice(first)
    .flatMap((event) => (event.type === 'request-finished' ? event.url : []))
    .filter((url) => /\/items\?/.test(url))
    .map((url) => new URLSearchParams(url.split('?')[1]))

test('GDAL has the gateway evaluate its filters, with the same results as on a file', options, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'tessera-test-'))
  after(() => rmSync(folder, { recursive: true, force: true }))
  // There are more than a hundred collections before it.
  await session.query(`
    do $$ begin
      for i in 1..120 loop
        execute format('create table gdal_filler_%s (id int primary key, name text, geom geometry(Point, 4326))', i);
      end loop;
    end $$;
    create table zz_gdal_place (id int primary key, name text, population int, ratio float8, opened date, seen timestamptz,
      geom geometry(Point, 4326));
    insert into zz_gdal_place select i,
      (array['Bern', 'bergün', 'C:\\temp', 'it''s', 'Zürich', null])[1 + i % 6], i * 1000, i / 7.0, date '2020-01-01' + i,
      timestamptz '2020-01-01T10:00:00Z' + i * interval '1 hour', st_setsrid(st_makepoint(i / 10.0, 47), 4326)
    from generate_series(1, 120) i`)
  await catalog.reload()
  const source = `OAPIF:${client.url}/`
  const file = join(folder, 'places.geojson')
  await run('ogr2ogr', ['-f', 'GeoJSON', file, source, 'zz_gdal_place', '-oo', 'PAGE_SIZE=1000'])
  const idsIn = async (from: string, where: readonly string[]) => {
    const { stdout } = await run('ogr2ogr', [
      '-f',
      'CSV',
      '/vsistdout/',
      from,
      'zz_gdal_place',
      '-select',
      'population',
      ...where,
    ])
    return stdout.trim().split(/\r?\n/).toSorted()
  }
  for (const [where, sent] of [
    ["name = 'Bern'", "name = 'Bern'"],
    ["name = 'it''s'", "name = 'it''s'"],
    ["name = 'C:\\temp'", "name = 'C:\\temp'"],
    ["name LIKE 'Z%'", "name LIKE 'Z%'"],
    ["name ILIKE 'BER%'", "name ILIKE 'BER%'"],
    ['name IS NULL', '(name IS NULL)'],
    ['NOT (name IS NULL)', 'NOT ((name IS NULL))'],
    ["population > 50000 AND name <> 'Bern'", "(population > 50000) AND (name <> 'Bern')"],
    ['population BETWEEN 5000 AND 9000', '(population >= 5000) AND (population <= 9000)'],
    ['ratio < 1.5 OR population = 90000', '(ratio < 1.5) OR (population = 90000)'],
    ["opened > '2020/03/01'", "opened > '2020-03-01T'"],
    ["seen <= '2020/01/02 10:00:00'", "seen <= '2020-01-02T10:00:00Z'"],
  ] as const) {
    const first = events.length
    const ids = await idsIn(source, ['-where', where])
    assert.deepEqual(ids, await idsIn(file, ['-where', where]), where)
    assert.ok(ids.length > 1 && ids.length < 121, where)
    const filters = sentSince(first).map((parameters) => parameters.get('filter'))
    assert.ok(filters.includes(sent), `${where}: ${filters}`)
  }
  const first = events.length
  const box = ['-spat', '2', '46', '5', '48', '-where', "name = 'Bern'"]
  assert.deepEqual(await idsIn(source, box), await idsIn(file, box))
  const [parameters] = sentSince(first).filter((one) => one.has('filter'))
  assert.deepEqual([parameters!.get('bbox'), parameters!.get('filter')], ['2,46,5,48', "name = 'Bern'"])
  await session.query(`
    do $$ begin
      for i in 1..120 loop execute format('drop table gdal_filler_%s', i); end loop;
    end $$`)
  await catalog.reload()
})

test('GDAL filters by itself where a property has a name that it would have to quote', options, async () => {
  await session.query(`
    create table gdal_quoted (id int primary key, "the name" text, "and" text, geom geometry(Point, 4326));
    insert into gdal_quoted values (1, 'a', 'b', 'SRID=4326;POINT(1 1)'), (2, null, 'c', 'SRID=4326;POINT(1 1)')`)
  await catalog.reload()
  for (const where of ['"the name" = \'a\'', '"the name" IS NULL', '"and" = \'c\''])
    assert.equal(countIn(await ogrinfo('-al', '-so', '-where', where, 'gdal_quoted')), 1, where)
})

test('the filters that QGIS forms select what they say', async () => {
  await session.query(`
    create table qgis_places (id int primary key, name text, "Fläche km2" float8, population int, opened date,
      seen timestamptz, active bool, geom geometry(Point, 4326));
    insert into qgis_places select i, (array['Bern', 'bern''s', 'Ber\\g', null])[1 + i % 4], i / 2.0, i, date '2020-01-01' + i,
      timestamptz '2020-01-01Z' + i * interval '1 day', i % 2 = 0, st_setsrid(st_makepoint(i, i), 4326)
    from generate_series(1, 20) i`)
  await catalog.reload()
  const { conformsTo } = (await client('/conformance')).json
  // QGIS sends filters only if all of these are declared.
  for (const name of [
    'ogcapi-features-3/1.0/conf/filter',
    'ogcapi-features-3/1.0/conf/features-filter',
    'cql2/1.0/conf/basic-cql2',
    'cql2/1.0/conf/cql2-text',
  ])
    assert.ok(conformsTo.includes(`http://www.opengis.net/spec/${name}`), name)
  for (const [filter, where] of [
    ["(name = 'Bern')", "name = 'Bern'"],
    ["(name = 'bern''s')", "name = 'bern''s'"],
    ["(name = 'Ber\\\\g')", "name = 'Ber\\g'"],
    ["(CASEI(name) LIKE CASEI('BERN%'))", "name ilike 'bern%'"],
    ["(CASEI(name) NOT LIKE CASEI('BERN%'))", "name not ilike 'bern%'"],
    ['(name IS NULL)', 'name is null'],
    ['(name IS NOT NULL)', 'name is not null'],
    ['("Fläche km2" >= 7.5)', '"Fläche km2" >= 7.5'],
    ['(population > ( - (5)))', 'true'],
    ['((population * 2) = (population + 3))', 'population = 3'],
    ['(population IN (1,2,3))', 'population in (1, 2, 3)'],
    ['population NOT IN (1,2,3)', 'population not in (1, 2, 3)'],
    ['population BETWEEN 3 AND 5', 'population between 3 and 5'],
    ['population NOT BETWEEN 3 AND 5', 'population not between 3 and 5'],
    ["(opened > DATE('2020-01-10'))", "opened > '2020-01-10'"],
    ["(seen <= TIMESTAMP('2020-01-10T00:00:00.000Z'))", "seen <= '2020-01-10Z'"],
    ['((active = TRUE) AND (NOT ((population < 4))))', 'active and not population < 4'],
    ['S_INTERSECTS(geom,BBOX(2,2,5,5))', 'id between 2 and 5'],
    ['S_INTERSECTS(geom,POINT(3 3))', 'id = 3'],
  ] as const) {
    const url = `/collections/qgis_places/items?limit=1000&bbox=-180,-90,180,90&filter=${encodeURIComponent(filter)}&filter-lang=cql2-text`
    const { status, json } = await client(url)
    assert.equal(status, 200, `${filter}: ${json.detail}`)
    const rows = await session.query<{ id: string }>(`select id from qgis_places where ${where} order by id`)
    assert.deepEqual(
      json.features.map(({ id }: { id: number }) => id),
      rows.map(({ id }) => Number(id)),
      filter,
    )
    assert.ok(rows.length > 0, filter)
  }
})
