// Tests files as people have them: what is read from each, in a real table, and what is reported of it.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { openSession } from '../../database/session.ts'
import type { Event } from '../../events.ts'
import { type ImportOptions, importFeatures } from '../../features/import/import.ts'
import { openSource } from '../../features/import/import-source.ts'
import type { SourceOptions } from '../../features/import/sources/source.ts'
import { testDatabase } from '../support/database.ts'
import { makeRandom } from '../support/random.ts'

const session = await openSession(testDatabase().ownerUrl, 'test')
const folder = mkdtempSync(join(tmpdir(), 'tessera-test-'))
after(async () => {
  await session.close()
  rmSync(folder, { recursive: true, force: true })
})

type Options = Partial<ImportOptions> & SourceOptions
let tables = 0

/** Imports a file into a table of its own, or into the one that the options name. */
async function importFile(name: string, content: string | Buffer, options: Options = {}) {
  const { collection = `file_${++tables}` } = options
  const file = join(folder, name)
  writeFileSync(file, content)
  const notes: string[] = []
  const emit = (event: Event) => {
    if (event.type === 'import-noted') notes.push(event.note)
    if (event.type === 'import-skipped-feature') notes.push(`Line ${event.line} ${event.reason}`)
  }
  const source = await openSource(file, process.stdin, options)
  await importFeatures(session, source, { ...options, collection }, emit)
  const columns = await session.query<{ name: string; type: string }>(
    `select attname as name, format_type(atttypid, null) as type from pg_attribute
     where attrelid = $1::regclass and attnum > 0 and attname not in ('cell', 'id', 'geom', 'updated_at') order by attnum`,
    [`"${collection}"`],
  )
  // As text, because JavaScript has no numbers with so many digits.
  const rows = await session.query<{ row: Record<string, unknown>; geom: string | null }>(
    `select (select jsonb_object_agg(key, value) from jsonb_each_text(to_jsonb(t) - array['cell', 'id', 'geom', 'updated_at'])) as row,
       st_astext(geom) as geom from "${collection}" t order by (regexp_match(id, '\\d+$'))[1]::int`,
  )
  return {
    notes,
    types: columns.map(({ name, type }) => `${name} ${type}`),
    rows: rows.map(({ row }) => row),
    geometries: rows.map(({ geom }) => geom),
  }
}

const feature = (properties: unknown, geometry: unknown = null) => ({ type: 'Feature', properties, geometry })
const collectionOf = (...features: unknown[]) => JSON.stringify({ type: 'FeatureCollection', features })
const INHERITED = ['constructor', 'toString', 'valueOf', 'hasOwnProperty', '__proto__', 'toJSON', 'length']

test('names that objects of JavaScript inherit are columns like others, in every format', async () => {
  const json = `{${INHERITED.map((name) => `"${name}":"x"`).join()}}`
  const texts = {
    'a.geojson': `{"type":"FeatureCollection","features":[{"type":"Feature","properties":${json},"geometry":null},{"type":"Feature","properties":{},"geometry":null}]}`,
    'a.geojsonl': `{"type":"Feature","properties":${json},"geometry":null}\n{"type":"Feature","properties":{},"geometry":null}\n`,
    'a.topojson': `{"type":"Topology","arcs":[],"objects":{"__proto__":{"type":"GeometryCollection","geometries":[{"type":null,"properties":${json}},{"type":null,"properties":{}}]}}}`,
    'a.csv': `${INHERITED.join()},lon,lat\n${INHERITED.map(() => 'x').join()},,\n${INHERITED.map(() => '').join()},1,2\n`,
  }
  for (const [name, text] of Object.entries(texts)) {
    const { rows, types } = await importFile(name, text)
    assert.deepEqual(
      types,
      INHERITED.map((one) => `${one} text`),
      name,
    )
    const [first, second] = rows.map((row) => Object.entries(row))
    assert.deepEqual(
      first!.map(([, value]) => value),
      INHERITED.map(() => 'x'),
      name,
    )
    assert.deepEqual(
      second!.map(([, value]) => value),
      INHERITED.map(() => null),
      name,
    )
  }
})

test('a number keeps every digit, or its feature is refused with the column and the value', async () => {
  const rows = (...numbers: string[]) =>
    numbers.map((number) => `{"type":"Feature","geometry":null,"properties":{"n":${number}}}`).join('\n')
  const numbers = async (name: string, text: string) => {
    const { rows: read, types } = await importFile(name, text)
    return [types[0], ...read.map(({ n }) => n)]
  }
  const big = '9007199254740993'
  assert.deepEqual(await numbers('n.geojsonl', rows(big, '1.5')), ['n numeric', big, '1.5'])
  assert.deepEqual(await numbers('n.geojsonl', rows(big, '2')), ['n bigint', big, '2'])
  assert.deepEqual(await numbers('n.geojsonl', rows('1e400')), ['n numeric', `1${'0'.repeat(400)}`])
  assert.deepEqual(await numbers('n.geojsonl', rows('99999999999999999999')), [
    'n numeric',
    '99999999999999999999',
  ])
  assert.deepEqual(await numbers('n.geojsonl', rows('0.12345678901234567890123')), [
    'n numeric',
    '0.12345678901234567890123',
  ])
  assert.deepEqual(await numbers('n.csv', `n,lon,lat\n${big},1,2\n1.5,1,2\n`), ['n numeric', big, '1.5'])
  assert.deepEqual(
    await numbers(
      'n.topojson',
      `{"type":"Topology","arcs":[],"objects":{"a":{"type":"Point","coordinates":[1,2],"properties":{"n":${big}}}}}`,
    ),
    ['n bigint', big],
  )
  await assert.rejects(
    importFile('n.geojsonl', rows('1', '1e4000')),
    /Line 2 of n\.geojsonl has 1e4000 in n, a number that is too large/,
  )
})

test('decimal commas become numbers, and stay text in a column of text', async () => {
  const text = 'Länge;Größe;lon;lat\n10,5;1.234,5;8,5;47,25\n-3;2;8;47\n'
  const { rows, types, geometries, notes } = await importFile('komma.csv', text)
  assert.deepEqual(types, ['Länge double precision', 'Größe text'])
  assert.deepEqual(rows, [
    { Länge: '10.5', Größe: '1.234,5' },
    { Länge: '-3', Größe: '2' },
  ])
  assert.deepEqual(geometries, ['POINT(8.5 47.25)', 'POINT(8 47)'])
  assert.deepEqual(notes, ['Numbers in Länge have decimal commas: 10,5 is 10.5.'])
  await importFile('text.csv', 'n;lon;lat\nabc;1;2\n', { collection: 'comma_text' })
  const appended = await importFile('more.csv', 'n;lon;lat\n10,5;1;2\n', {
    collection: 'comma_text',
    existing: 'append',
  })
  assert.deepEqual(appended.rows.map(({ n }) => n).sort(), ['10,5', 'abc'])
  assert.deepEqual(appended.notes, [])
})

test('long names are shortened the same way when features are appended in another order', async () => {
  const long = 'Anzahl der gemeldeten Personen mit Migrationshintergrund 2023 insgesamt'
  const names = [long, `${long}, davon weiblich`]
  const of = (order: string[]) =>
    collectionOf(feature(Object.fromEntries(order.map((name) => [name, names.indexOf(name)]))))
  const created = await importFile('long.geojson', of(names), { collection: 'long_names' })
  assert.equal(created.notes.length, 2)
  const { rows } = await importFile('long.geojson', of(names.toReversed()), {
    collection: 'long_names',
    existing: 'append',
  })
  assert.deepEqual(rows[0], rows[1])
  assert.deepEqual(Object.values(rows[0]!).sort(), ['0', '1'])
})

test('geometries at the edge of the world are put on it, and single ones are read', async () => {
  const outline = [
    [179, 0],
    [180.0000000000002, 0],
    [180.0000000000002, 1],
    [179, 1e-13],
  ]
  const { geometries } = await importFile(
    'edge.geojson',
    JSON.stringify({ type: 'Polygon', coordinates: [outline] }),
  )
  assert.deepEqual(geometries, ['POLYGON((179 0,180 0,180 1,179 0))'])
  const one = await importFile(
    'one.json',
    JSON.stringify(feature({ n: 1 }, { type: 'Point', coordinates: [1, 2, 3, 4] }), null, 2),
  )
  assert.deepEqual([one.geometries, one.rows], [['POINT Z (1 2 3)'], [{ n: '1' }]])
  assert.match(one.notes.join(), /^Line 1 has positions of more than three numbers/)
})

test('packed files and other encodings are read as if they were not', async () => {
  const text = 'n,lon,lat\nZürich,8.5,47.4\n'
  for (const [name, content] of [
    ['a.csv.gz', gzipSync(text)],
    ['a.txt', Buffer.from(`\ufeff${text}`, 'utf16le')],
    ['b.csv', Buffer.from(`\ufeff${text}`)],
  ] as const)
    assert.deepEqual((await importFile(name, content)).rows, [{ n: 'Zürich' }], name)
  await assert.rejects(
    importFile('l.csv', Buffer.from(text, 'latin1')),
    /l\.csv: The source is not UTF-8: it has the byte 0xFC at offset 11/,
  )
})

test('what is left out is reported with its line, its column and its value', async () => {
  const { rows, notes } = await importFile(
    'bad.csv',
    'n,lon,lat\n1,1,2\n2,0x10,2\n3,1,\n4,1,2,,x\n5,200,2\n6,1,2\n',
    { skipInvalid: true },
  )
  assert.deepEqual(rows, [{ n: '1' }, { n: '6' }])
  assert.deepEqual(notes, [
    'Line 3 has "0x10" in lon, which is no number; valid are for example 10.5 and -3',
    'Line 4 has no value in lat, but the other coordinate',
    'Line 5 has 5 cells, but the header names 3 columns; the further ones begin with "x"',
    'Line 6 has a geometry that has the longitude 200, outside -180 to 180',
  ])
})

test('a feature of a million properties is refused clearly', { timeout: 120_000 }, async () => {
  const properties = Object.fromEntries(Array.from({ length: 1_000_000 }, (_, index) => [`p${index}`, index]))
  for (const [name, text] of [
    ['wide.geojson', collectionOf(feature(properties))],
    ['wide.csv', `lon,lat,${Object.keys(properties).join()}\n1,2,${Object.values(properties).join()}\n`],
  ] as const)
    await assert.rejects(
      importFile(name, text, { skipInvalid: true }),
      /There are more than 1500 different properties/,
    )
})

test('columns with random names, and random values in them, read back equal', async () => {
  const random = makeRandom(21)
  const pick = <T>(values: readonly T[]) => values[Math.floor(random() * values.length)]!
  const characters = [...'aZ09_-. ,;|"\\\'%$\t\n{}[]:äßж字😀é\u0301\u200d\ufffd\0']
  const text = (length: number) =>
    Array.from({ length: Math.floor(random() * length) }, () => pick(characters)).join('')
  const number = () => {
    const digits = (length: number) =>
      Array.from({ length: 1 + Math.floor(random() * length) }, () => pick([...'0123456789'])).join('')
    const fraction = digits(25).replace(/0+$/, '')
    return `${pick(['', '-'])}${1 + Math.floor(random() * 9)}${digits(20)}${fraction === '' ? '' : `.${fraction}`}`
  }
  const kinds: (() => string)[] = [
    number,
    () => JSON.stringify(text(40).replaceAll('\0', '')),
    () => pick(['true', 'false']),
    () => `{"n":${number()},"t":${JSON.stringify(text(5).replaceAll('\0', ''))}}`,
  ]
  const names = [...new Set(Array.from({ length: 60 }, () => text(60)))]
  const kindOf = new Map(names.map((name) => [name, pick(kinds)]))
  const written = Array.from({ length: 20 }, () =>
    names.map((name) => (random() < 0.2 ? 'null' : kindOf.get(name)!())),
  )
  const features = written.map(
    (values) =>
      `{"type":"Feature","geometry":null,"properties":{${names.map((name, index) => `${JSON.stringify(name)}:${values[index]}`).join()}}}`,
  )
  const { rows, types } = await importFile('random.geojson', `[${features.join()}]`)
  assert.equal(types.length, names.length)
  const columns = types.map((type) =>
    type.replace(/ (numeric|text|boolean|jsonb|integer|bigint|double precision)$/, ''),
  )
  for (const [row, values] of written.entries())
    for (const [index, value] of values.entries()) {
      const found = rows[row]![columns[index]!]
      const wanted = value.startsWith('"') ? JSON.parse(value) : value === 'null' ? null : value
      // jsonb writes spaces between members.
      const same = value.startsWith('{')
        ? await session.query('select where $1::jsonb = $2::jsonb', [value, found])
        : [found === wanted]
      assert.ok(same.length === 1 && same[0], `${JSON.stringify(names[index])}: ${value} became ${found}`)
    }
})
