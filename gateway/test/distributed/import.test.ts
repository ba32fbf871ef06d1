// Tests `tessera import` on the command line: formats, types, options, and invalid rows.

import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { after, test } from 'node:test'
import { openSession } from '../../database/session.ts'
import type { ColumnType } from '../../features/import/column-type.ts'
import { importFeatures } from '../../features/import/import.ts'
import { type ImportSource, openSource } from '../../features/import/import-source.ts'
import { csv } from '../../features/import/sources/csv.ts'
import type { SourceContent } from '../../features/import/sources/source.ts'
import { cellOf } from '../../features/sharding/cell.ts'
import { testDatabase } from '../support/database.ts'
import { startGateway } from '../support/gateway.ts'
import { runTessera, startTessera } from '../support/process.ts'

const { session, client, catalog } = await startGateway()
const folder = mkdtempSync(join(tmpdir(), 'tessera-test-'))
after(() => rmSync(folder, { recursive: true, force: true }))

const { ownerUrl } = testDatabase()
const importInto = (collection: string, input: string, ...flags: string[]) =>
  runTessera(['import', '-', '--collection', collection, ...flags], input, { TESSERA_WRITE_URL: ownerUrl })
const succeed = async (collection: string, input: string, ...flags: string[]) => {
  const { code, output } = await importInto(collection, input, ...flags)
  assert.equal(code, 0, output)
  return output
}
const fail = async (pattern: RegExp, collection: string, input: string, ...flags: string[]) => {
  const { code, output } = await importInto(collection, input, ...flags)
  assert.equal(code, 1, output)
  assert.match(output, pattern)
}
const feature = (
  properties: object,
  geometry: object | null = { type: 'Point', coordinates: [1, 2] },
  id?: unknown,
) => `${JSON.stringify({ type: 'Feature', id, geometry, properties })}\n`
const cellOfPoint = ({ coordinates: [x, y] }: { coordinates: number[] }, level: number) =>
  cellOf({ minLongitude: x!, maxLongitude: x!, minLatitude: y!, maxLatitude: y! }, level)
const columnsOf = async (table: string) =>
  Object.fromEntries(
    (
      await session.query<{ name: string; type: string }>(
        `select attname as name, format_type(atttypid, atttypmod) || case when attnotnull then ' not null' else '' end as type from pg_attribute where attrelid = '${table}'::regclass and attnum > 0 order by attnum`,
      )
    ).map(({ name, type }) => [name, type]),
  )
const rowsOf = (table: string) =>
  session.query<Record<string, any>>(`select *, st_asgeojson(geom)::json as geom from ${table} order by id`)

test('columns get their types from their values', async () => {
  await succeed(
    'typed_import',
    feature({
      i: 1,
      big: 3e9,
      d: 1.5,
      b: true,
      t: 'x',
      day: '2024-02-29',
      at: '2024-02-29T10:00:00+02:00',
      j: { a: [1] },
      n: null,
      some: 1,
    }) +
      feature({
        i: 2,
        big: 1,
        d: 2,
        b: false,
        t: 'tab\tnew\nline\\',
        day: '2023-01-01',
        at: '2024-02-29',
        j: [],
        n: null,
      }),
  )
  assert.deepEqual(await columnsOf('typed_import'), {
    cell: 'integer not null',
    id: 'text not null',
    geom: 'geometry(Point,4326) not null',
    i: 'integer not null',
    big: 'bigint not null',
    d: 'double precision not null',
    b: 'boolean not null',
    t: 'text not null',
    day: 'date not null',
    at: 'timestamp with time zone not null',
    j: 'jsonb not null',
    n: 'text',
    some: 'integer',
    updated_at: 'timestamp with time zone not null',
  })
  const [, second] = await rowsOf('typed_import')
  assert.equal(second!.t, 'tab\tnew\nline\\')
  assert.equal(second!.at.toISOString(), '2024-02-29T00:00:00.000Z')
})

test('the type of a column can be set', async () => {
  await succeed(
    'told',
    feature({ code: 7, j: 'text', n: 1 }),
    '--type',
    'code:text',
    '--type',
    'j:jsonb',
    '--type',
    'n:double',
  )
  const { code, j, n } = await columnsOf('told')
  assert.deepEqual([code, j, n], ['text not null', 'jsonb not null', 'double precision not null'])
  await fail(
    /--type=n:complex: must be property:type, the type one of smallint, integer/,
    'told2',
    feature({ n: 1 }),
    '--type',
    'n:complex',
  )
  await fail(
    /--type nothing: the source has no such property/,
    'told2',
    feature({ n: 1 }),
    '--type',
    'nothing:text',
  )
})

test('text of a CSV becomes the JSON that it is in a column of jsonb, created or appended to', async () => {
  const rows = (...texts: string[]) =>
    `n,lon,lat\n${texts.map((text) => `"${text.replaceAll('"', '""')}",1,2\n`).join('')}`
  const values = async () =>
    (await session.query<{ n: unknown }>('select n from parsed order by n')).map(({ n }) => n)
  await fail(
    /Line 3 of standard input has text in n that is not valid JSON.*valid are for example/,
    'parsed',
    rows('[1]', '[1'),
    '--type',
    'n:jsonb',
  )
  await succeed('parsed', rows('{"a": 1}', '[1, "x"]', '7'), '--type', 'n:json')
  assert.deepEqual(await values(), [7, [1, 'x'], { a: 1 }])
  await succeed('parsed', rows('true', 'nothing'), '--append', '--skip-invalid')
  await succeed('parsed', feature({ n: '5' }) + feature({ n: 'text' }), '--append')
  assert.deepEqual(await values(), ['5', 'text', 7, true, [1, 'x'], { a: 1 }])
})

test('a value that does not fit its type is reported with its line, and nothing is imported', async () => {
  await fail(
    /Line 3, n: .*invalid input syntax for type integer.*Nothing was imported/s,
    'unfit',
    feature({ n: '1' }) + '\n' + feature({ n: 'x' }),
    '--type',
    'n:integer',
  )
  await assert.rejects(rowsOf('unfit'))
})

test('single and multiple geometries of a kind share a column, and so do different kinds', async () => {
  const line = [
    [0, 0],
    [1, 1],
  ]
  await succeed(
    'lines',
    feature({}, { type: 'LineString', coordinates: line }) +
      feature({}, { type: 'MultiLineString', coordinates: [line] }),
  )
  assert.equal((await columnsOf('lines')).geom, 'geometry(MultiLineString,4326) not null')
  assert.deepEqual(
    (await rowsOf('lines')).map(({ geom }) => geom),
    [
      { type: 'MultiLineString', coordinates: [line] },
      { type: 'MultiLineString', coordinates: [line] },
    ],
  )
  await succeed(
    'mixture',
    feature({}, { type: 'LineString', coordinates: line }) + feature({}) + feature({}, null),
  )
  assert.equal((await columnsOf('mixture')).geom, 'geometry(Geometry,4326)')
  await succeed('high', feature({}, { type: 'Point', coordinates: [1, 2, 3] }))
  assert.equal((await columnsOf('high')).geom, 'geometry(PointZ,4326) not null')
  await succeed('mixed_heights', feature({}, { type: 'Point', coordinates: [1, 2, 3] }) + feature({}))
  assert.equal((await columnsOf('mixed_heights')).geom, 'geometry not null')
  await catalog.reload()
  assert.equal((await client('/collections/mixed_heights/items?bbox=0,0,3,3')).json.numberMatched, 2)
})

const BY_ID = ['--distribute-by', 'id']

test("ids begin with the cell; the rest is the feature's own id if all have one, or its number", async () => {
  const paris = { type: 'Point', coordinates: [2.35, 48.86] }
  const tokyo = { type: 'Point', coordinates: [139.7, 35.7] }
  await succeed('celled', feature({}, paris, 'a/b') + feature({}, tokyo, 7) + feature({}, null, 8))
  assert.deepEqual(
    (await rowsOf('celled')).map(({ id, cell }) => [id, cell]),
    [
      ['-2.8', -2],
      [`${cellOfPoint(paris, 8)}.a/b`, cellOfPoint(paris, 8)],
      [`${cellOfPoint(tokyo, 8)}.7`, cellOfPoint(tokyo, 8)],
    ].toSorted(([a], [b]) => (a! < b! ? -1 : 1)),
  )
  await succeed('celled', feature({}, paris) + feature({}, paris), '--replace', '--level', '3')
  const cell = cellOfPoint(paris, 3)
  assert.deepEqual(
    (await rowsOf('celled')).map(({ id }) => id),
    [`${cell}.1`, `${cell}.2`],
  )
  await succeed('celled', feature({}, paris), '--append')
  const appended = (await rowsOf('celled')).filter(({ id }) =>
    new RegExp(`^${cell}\\.[0-9a-z]{12}$`).test(id),
  )
  assert.equal(appended.length, 1)
  await fail(/same id/, 'twice', feature({}, null, 7) + feature({}, null, 7))
  // The ids differ, because the cells do, but both end with 7.
  await fail(
    /same id: 7 is duplicated, in different cells/,
    'shared_ids',
    feature({}, paris, 7) + feature({}, tokyo, 7),
  )
  await succeed('shared_ids', feature({}, paris, 7))
  await fail(/same id: 7 is duplicated/, 'shared_ids', feature({}, tokyo, 7), '--append')
  await succeed('shared_ids', feature({}, tokyo, 8), '--append')
  // Duplicates that are there already, as clients may create them, are none of the import's.
  await session.query(
    "insert into shared_ids (cell, id, geom, updated_at) select cell, cell || '.8', geom, '2020-01-01' from shared_ids where id like '%.7'",
  )
  await succeed('shared_ids', feature({}, paris, 9), '--append')
  await fail(/--level=16: must be an integer from 0 to 15/, 'deep', feature({}), '--level', '16')
  await fail(
    /--distribute-by=name: must be cell, id, reference/,
    'odd',
    feature({}),
    '--distribute-by',
    'name',
  )
  await fail(/goes with --distribute-by cell/, 'odd', feature({}), ...BY_ID, '--level', '3')
})

test('a row with a wrong cell is refused, even if it is inserted without the gateway', async () => {
  await succeed('celled_too', feature({}))
  await assert.rejects(
    session.query("insert into celled_too (cell, id, geom) select cell + 1, 'x', geom from celled_too"),
    /cell_of_geom/,
  )
})

test('with --distribute-by id, features keep their ids if all have one, and these are not assigned again', async () => {
  await succeed('numbered', feature({}, null, 5) + feature({}, null, 9), ...BY_ID)
  await session.query('insert into numbered default values')
  assert.deepEqual(
    (await rowsOf('numbered')).map(({ id }) => id),
    ['5', '9', '10'],
  )
  await succeed('lettered', feature({}, null, 'b') + feature({}, null, 'a'), ...BY_ID)
  assert.equal((await columnsOf('lettered')).id, 'text not null')
  await succeed('partly', feature({}, null, 'b') + feature({}), ...BY_ID)
  assert.deepEqual(
    (await rowsOf('partly')).map(({ id }) => id),
    ['1', '2'],
  )
  await fail(
    /same id: Key \(id\)=\(7\) is duplicated.*--id/s,
    'twice',
    feature({}, null, 7) + feature({}, null, 7),
    ...BY_ID,
  )
})

test('a property can be used as the id', async () => {
  await succeed(
    'coded',
    feature({ code: 'x1', n: 1 }) + feature({ code: 'x2', n: 2 }),
    '--id',
    'code',
    ...BY_ID,
  )
  assert.deepEqual(
    (await rowsOf('coded')).map(({ id, n, code }) => [id, n, code]),
    [
      ['x1', 1, undefined],
      ['x2', 2, undefined],
    ],
  )
  await fail(
    /Line 2 of standard input has no property code/,
    'coded2',
    feature({ code: 1 }) + feature({}),
    '--id',
    'code',
  )
})

test('properties with unusual names are kept, and those with the names of our own columns are renamed', async () => {
  await succeed('odd', feature({ id: 1, geom: 2, 'a "b"; --': 3, Größe: 4 }))
  const { id_, geom_, ...others } = (await rowsOf('odd'))[0]!
  assert.deepEqual([id_, geom_, others['a "b"; --'], others.Größe], [1, 2, 3, 4])
  const output = await succeed('odd2', feature({ '': 1 }))
  assert.match(output, /The property "" becomes the column column_1\./)
})

test('line separators in text, and integers beyond 2^53, are imported unchanged', async () => {
  const big = '9007199254740993'
  await succeed(
    'exact',
    `{"type":"Feature","geometry":null,"properties":{"a":"x\u2028y\u2029z","b":"kept","n":${big},"j":{"n":${big}}}}\n`,
  )
  const [row] = await session.query<{ a: string; b: string; n: string; j: string }>(
    'select a, b, n, j::text from exact',
  )
  assert.deepEqual(row, { a: 'x\u2028y\u2029z', b: 'kept', n: big, j: `{"n": ${big}}` })
  await succeed('bounds', feature({ xmin: 1, ctid: 2 }))
  assert.equal((await rowsOf('bounds'))[0]!.xmin_, 1)
})

test('an existing collection is only changed with --append or --replace', async () => {
  await succeed('grown', feature({ n: 1 }))
  await fail(/grown exists; say --append or --replace/, 'grown', feature({ n: 2 }))
  await succeed('grown', feature({ n: 2 }), '--append')
  assert.deepEqual((await rowsOf('grown')).map(({ n }) => n).sort(), [1, 2])
  await fail(/has no other; nothing was appended/, 'grown', feature({ other: 2 }), '--append')
  await succeed('grown', feature({ other: 'x' }), '--replace', '--title', 'Grown')
  assert.deepEqual(
    (await rowsOf('grown')).map(({ other, n }) => [other, n]),
    [['x', undefined]],
  )
  await fail(/no collection nowhere to append to/, 'nowhere', feature({}), '--append')
  await session.query('create table mine (id int primary key, geom geometry)')
  await fail(/mine was not made by an import/, 'mine', feature({}), '--replace')
  await fail(/exclude each other/, 'grown', feature({}), '--append', '--replace')
})

test('a failure of --replace names the collection, and not the table that is to replace it', async () => {
  await succeed('renewed', feature({ n: 1 }))
  await session.query('create table "tessera import renewed" ()')
  await fail(/The collection renewed is being made by another import/, 'renewed', feature({}), '--replace')
  await session.query('drop table "tessera import renewed"')
})

test("a table that no import created stays its owner's, whatever is appended or described", async () => {
  await session.query('create table theirs (id int primary key, geom geometry, updated_at timestamptz)')
  await succeed('theirs', feature({}, undefined, 1), '--append', '--title', 'Theirs')
  const [row] = await session.query<{ title: string; is_managed: boolean }>(
    "select title, is_managed from tessera.collection where table_name = 'theirs'",
  )
  assert.deepEqual(row, { title: 'Theirs', is_managed: false })
  await fail(/theirs was not made by an import/, 'theirs', feature({}), '--replace')
  assert.equal((await rowsOf('theirs')).length, 1)
  // A row without a table: an earlier table was described and dropped, and the import creates the new one.
  await session.query('drop table theirs')
  await succeed('theirs', feature({ n: 1 }))
  await succeed('theirs', feature({ n: 2 }), '--append', '--title', 'Ours')
  await succeed('theirs', feature({ n: 3 }), '--replace')
})

test('a table that appears while the source is read is not replaced, and not appended to by a first import', async () => {
  const sourceOf = (read: () => Promise<unknown>): ImportSource => ({
    name: 'a source',
    bytesRead: () => 0,
    read: async () => ({
      hasTypes: true,
      features: (async function* () {
        await read()
        yield [{ line: 1, geometry: null, properties: { n: 1 } }]
      })(),
    }),
  })
  const create = () => session.query('create table sudden (id int primary key, geom geometry, kept int)')
  const drop = () => session.query('drop table sudden')
  const run = (read: () => Promise<unknown>, existing?: 'append' | 'replace') =>
    importFeatures(session, sourceOf(read), { collection: 'sudden', existing }, () => {})
  await assert.rejects(run(create, 'replace'), /sudden was not made by an import/)
  assert.equal('kept' in (await columnsOf('sudden')), true)
  await assert.rejects(run(drop, 'append'), /no collection sudden to append to/)
  await assert.rejects(run(create), /The collection sudden exists/)
})

test('a table that takes the name of one that an import created is not replaced, and keeps its columns', async () => {
  await succeed('heir', feature({ n: 1 }))
  await session.query(
    'drop table heir; create table heir (id int primary key, geom geometry, updated_at timestamptz, kept int)',
  )
  await session.query("insert into heir values (1, null, '2020-01-01', 7)")
  await fail(/heir was not made by an import/, 'heir', feature({ n: 2 }), '--replace')
  await succeed('heir', feature({ kept: 8 }, undefined, 2), '--append', '--title', 'Heir')
  await fail(/heir was not made by an import/, 'heir', feature({ n: 2 }), '--replace')
  await catalog.reload()
  const { json } = await client('/collections/heir/items')
  assert.deepEqual(
    json.features.map(({ properties }: { properties: object }) => properties),
    [
      { updated_at: '2020-01-01T00:00:00+00:00', kept: 7 },
      { updated_at: null, kept: 8 },
    ],
  )
  await session.query('drop table heir')
  await succeed('heir', feature({ n: 1 }))
  await succeed('heir', feature({ n: 2 }), '--replace')
})

test('a table that takes the name during an import is neither dropped nor appended to', async () => {
  const source: ImportSource = {
    name: 'a source',
    bytesRead: () => 0,
    read: async () => ({
      hasTypes: true,
      features: (async function* () {
        yield [{ line: 1, geometry: null, properties: { n: 1 } }]
      })(),
    }),
  }
  const other = await openSession(ownerUrl, 'test')
  after(() => other.close())
  // The table changes after the import has checked it: before it is dropped, and before it is filled.
  for (const [existing, moment] of [
    ['replace', /^(lock|drop) table/],
    ['append', /^select postgis_typmod_type/],
  ] as const) {
    await succeed('raced', feature({ n: 1 }))
    let isSwapped = false
    const racing = {
      ...session,
      async query<T extends object>(text: string, values?: readonly unknown[]) {
        if (moment.test(text) && !isSwapped) {
          isSwapped = true
          await other.query(
            'drop table raced; create table raced (cell int, id text, geom geometry, n int, kept int)',
          )
        }
        return session.query<T>(text, values)
      },
    }
    await assert.rejects(
      importFeatures(racing, source, { collection: 'raced', existing }, () => {}),
      /Another session has dropped the table of raced, or put another in its place.*Nothing was imported/,
    )
    assert.equal(isSwapped, true)
    assert.deepEqual(await session.query('select kept from raced'), [])
    await session.query('drop table raced')
  }
})

test('a replacement that fails leaves the old collection', async () => {
  await succeed('stays', feature({ n: 1 }))
  await fail(/same id/, 'stays', feature({}, null, 7) + feature({}, null, 7), '--replace')
  await session.query('create view watcher as select * from stays')
  await fail(/stays cannot be replaced: .*depend/, 'stays', feature({ n: 2 }), '--replace')
  assert.deepEqual(
    (await rowsOf('stays')).map(({ n }) => n),
    [1],
  )
})

test('an invalid row stops the import, or is left out and counted with --skip-invalid', async () => {
  const rows =
    feature({ n: 1 }) +
    '{"broken"\n' +
    feature({ n: 2 }, { type: 'Point', coordinates: [200, 0] }) +
    feature({ n: 3, only: 1, t: 'a\0b' }) +
    feature({ n: 4 })
  await fail(/Line 2 of standard input is not valid JSON.*Nothing was imported; --skip-invalid/s, 'bad', rows)
  await assert.rejects(rowsOf('bad'))
  const output = await succeed('bad', rows, '--skip-invalid')
  assert.match(output, /Line 3 has a geometry that has the longitude 200/)
  assert.match(output, /Line 4 has text in t/)
  assert.match(output, /Imported 2 features into bad, 3 left out/)
  assert.deepEqual(
    (await rowsOf('bad')).map(({ n }) => n),
    [1, 4],
  )
  const { t, only } = await columnsOf('bad')
  assert.deepEqual([t, only], [undefined, undefined])
  await fail(
    /--type only: no feature that can be imported has/,
    'bad2',
    rows,
    '--skip-invalid',
    '--type',
    'only:text',
  )
  await fail(/holds no valid feature/, 'bad2', '{"broken"\n', '--skip-invalid', '--format', 'geojsonseq')
})

test('a value that its --type does not take is left out and counted with --skip-invalid, by what PostgreSQL takes', async () => {
  const owner = await openSession(ownerUrl, 'test')
  const importValues = async (type: ColumnType, values: readonly string[]) => {
    const text = `v,lon,lat\n${values.map((value) => `"${value}",1,2\n`).join('')}`
    const source = await openSource('-', Readable.from([Buffer.from(text)]), { format: csv })
    const reasons: string[] = []
    const { features, skipped } = await importFeatures(
      owner,
      source,
      { collection: 'type_checked', existing: 'replace', skipInvalid: true, types: new Map([['v', type]]) },
      (event) => event.type === 'import-skipped-feature' && reasons.push(`${event.line} ${event.reason}`),
    )
    return { features, skipped, first: reasons[0] }
  }
  const cases: [ColumnType, string[], string[]][] = [
    ['integer', ['1', ' 2 ', '+3'], ['1.5', 'x', '2147483648']],
    ['double precision', ['1e3', 'NaN', '.5'], ['1e999', '1,5']],
    ['boolean', ['yes', 'OFF', '1', 't'], ['2', 'o']],
    ['date', ['2024-02-29', 'Jan 5 2020', 'infinity'], ['2023-02-29', 'x']],
    ['timestamptz', ['2020-01-01 10:00+02', '2020-01-01'], ['25:00']],
    ['integer', Array.from({ length: 2_997 }, (_, n) => String(n)), ['a', 'b', 'c']],
  ]
  for (const [type, [start, ...good], bad] of cases)
    assert.deepEqual(await importValues(type, [start!, ...bad, ...good]), {
      features: good.length + 1,
      skipped: bad.length,
      first: `3 has ${JSON.stringify(bad[0])} in v, which is no ${type}`,
    })
  await owner.close()
})

test('files of every format are recognized by their names', async () => {
  const write = (name: string, text: string) => {
    const file = join(folder, name)
    writeFileSync(file, text)
    return file
  }
  const files = [
    write('a.geojson', `{"type":"FeatureCollection","features":[${feature({ n: 1 })},${feature({ n: 2 })}]}`),
    write('b.geojsonl', feature({ n: 1 }) + feature({ n: 2 })),
    write('c.csv', 'n,lon,lat\n1,1,2\n2,1,2\n'),
    write(
      'd.topojson',
      '{"type":"Topology","arcs":[],"objects":{"x":{"type":"GeometryCollection","geometries":[{"type":"Point","coordinates":[1,2],"properties":{"n":1}},{"type":"Point","coordinates":[1,2],"properties":{"n":2}}]}}}',
    ),
  ]
  for (const [index, file] of files.entries()) {
    const { code, output } = await runTessera(
      ['import', file, '--collection', `format_${index}`],
      undefined,
      { TESSERA_WRITE_URL: ownerUrl },
    )
    assert.equal(code, 0, output)
    assert.deepEqual(
      (await rowsOf(`format_${index}`)).map(({ n, geom }) => [n, geom.coordinates]),
      [
        [1, [1, 2]],
        [2, [1, 2]],
      ],
      file,
    )
  }
})

test('a source can declare types, which --type overrides', async () => {
  const sourceOf = (content: Partial<SourceContent>): ImportSource => ({
    name: 'a source',
    bytesRead: () => 0,
    read: async () => ({
      hasTypes: true,
      features: (async function* () {
        yield [{ line: 1, geometry: null, properties: { code: '7', level: 1, n: 1 } }]
      })(),
      ...content,
    }),
  })
  const columnTypes = new Map([
    ['code', 'integer'],
    ['level', 'text'],
  ] as const)
  const types = new Map([['level', 'bigint'] as const])
  await importFeatures(session, sourceOf({ columnTypes }), { collection: 'declared', types }, () => {})
  const { code, level, n } = await columnsOf('declared')
  assert.deepEqual([code, level, n], ['integer not null', 'bigint not null', 'integer not null'])
})

test('the title, description, licence and attribution of a collection are shown', async () => {
  await succeed(
    'described',
    feature({}),
    '--title',
    'A title',
    '--description',
    'Some words',
    '--license',
    'https://example.org/licence',
    '--attribution',
    'Me',
  )
  await catalog.reload()
  const { json } = await client('/collections/described')
  assert.deepEqual([json.title, json.description, json.attribution], ['A title', 'Some words', 'Me'])
  assert.equal(
    json.links.find(({ rel }: { rel: string }) => rel === 'license').href,
    'https://example.org/licence',
  )
})

test('an invalid call reports what a valid one looks like', async () => {
  await fail(/one source and a collection: tessera import/, '', '')
  await fail(/"1 2" cannot name a collection.*for example my_roads/, '1 2', feature({}))
  await fail(/Standard input is empty/, 'empty', '')
  const { output } = await runTessera(['import', '/nowhere.geojson', '--collection', 'x'], undefined, {
    TESSERA_WRITE_URL: ownerUrl,
  })
  assert.match(output, /nowhere\.geojson cannot be read \(ENOENT\)/)
})

test('the memory of the process does not grow with the length of the source', {
  timeout: 180_000,
}, async () => {
  const importing = startTessera(['import', '-', '--collection', 'long', '--format', 'geojsonseq'], {
    TESSERA_WRITE_URL: ownerUrl,
  })
  const residentKb = () => {
    const status = `/proc/${importing.child.pid}/status`
    return Number(existsSync(status) ? /VmRSS:\s+(\d+)/.exec(readFileSync(status, 'utf8'))?.[1] : Number.NaN)
  }
  const padding = 'x'.repeat(900)
  const chunk = feature({ padding }).repeat(1000)
  let least = Number.POSITIVE_INFINITY
  let most = 0
  const watch = setInterval(() => {
    const resident = residentKb()
    // A process that has just ended has no memory to report.
    if (!Number.isFinite(resident)) return
    // The program itself is loaded once it has started to read; memory is compared with that.
    if (/Importing long/.test(importing.output())) least = Math.min(least, resident)
    most = Math.max(most, resident)
  }, 50)
  const stdin = importing.child.stdin!
  for (let sent = 0; sent < 200; sent++)
    if (!stdin.write(chunk)) await new Promise((resolve) => stdin.once('drain', resolve))
  stdin.end()
  assert.equal(await importing.ended, 0, importing.output())
  clearInterval(watch)
  const [row] = await session.query<{ count: string }>('select count(*) from long')
  assert.equal(row!.count, '200000')
  assert.ok(
    most > 0 && most - least < 100 * 1024,
    `grew by ${Math.round((most - least) / 1024)} MB over 200 MB of input`,
  )
})

test('Citus gives a busy node as long to accept a connection for an import as a server has', async () => {
  const owner = await openSession(ownerUrl, 'test')
  const [row] = await owner.query<{ limit: string }>(
    "select current_setting('citus.node_connection_timeout') as limit",
  )
  await owner.close()
  // Without Citus the setting is a text without a unit.
  assert.match(row!.limit, /^(10s|10000)$/)
})
