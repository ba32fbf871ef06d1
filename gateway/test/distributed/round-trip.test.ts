// Tests that a feature can be sent back as it was read, whatever types its columns have: nothing is refused, and the row
// stays as it is.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ExactNumber, parseExactJson } from '../../features/values/exact-json.ts'
import type { Page } from '../support/client.ts'
import { distributeById } from '../support/distribute.ts'
import { startGateway } from '../support/gateway.ts'

const { client, session, catalog } = await startGateway()

/** Type of a column → values that it may hold, in SQL. */
const TYPES: Record<string, readonly string[]> = {
  int2: ['-32768'],
  int4: ['2147483647'],
  int8: ['9007199254740993', '-9223372036854775808'],
  float4: ['1.1', '1e-45', `'NaN'`, `'Infinity'`, `'-Infinity'`],
  float8: ['0.1', '5e-324', '1.7976931348623157e308', `'-0'`, `'NaN'`, `'Infinity'`, `'-Infinity'`],
  numeric: ['1.5', '1e130', '1e-120', `repeat('9', 2000)::numeric`, `'NaN'`, `'Infinity'`, `'-Infinity'`],
  'numeric(10, 2)': ['12345678.90', `'NaN'`],
  bool: ['true', 'false'],
  text: [`''`, `E'a\\n"\\\\é😀'`],
  'varchar(10)': [`'abc  '`],
  'char(5)': [`'ab'`],
  citext: [`'MiXed'`],
  name: [`'n'`],
  '"char"': [`'c'`],
  uuid: [`'6f9619ff-8b86-4d01-b42d-00cf4fc964ff'`],
  date: [`'2024-02-29'`, `'0044-03-15 BC'`, `'0005-02-29 BC'`, `'12020-01-01'`, `'infinity'`, `'-infinity'`],
  time: [`'12:34:56.789'`, `'24:00'`],
  timetz: [`'12:34:56+02'`],
  timestamp: [`'2024-02-29 12:34:56.123456'`, `'0044-03-15 01:02 BC'`, `'12020-01-01 00:00'`, `'infinity'`],
  timestamptz: [
    `'2024-02-29 12:34:56+02'`,
    `'0044-03-15 01:02+00 BC'`,
    `'12020-01-01 00:00+00'`,
    `'-infinity'`,
  ],
  interval: [`'1 year 2 mons -3 days 04:05:06.7'`],
  json: [`'{"a":[1,2.5,null]}'`, `'"text"'`, `'1'`],
  jsonb: [`'{"a":{"b":[1,"x"]}}'`, `'[]'`, `'9007199254740993'`],
  jsonpath: [`'$.a[*]'`],
  bytea: [`'\\x00ff'`],
  bit: [`'1'`],
  'bit(4)': [`'1010'`],
  varbit: [`'10'`],
  money: ['1234.56'],
  inet: [`'192.168.0.1/24'`, `'::1'`],
  cidr: [`'10.0.0.0/8'`],
  macaddr: [`'08:00:2b:01:02:03'`],
  macaddr8: [`'08:00:2b:01:02:03:04:05'`],
  xml: [`'<a b="1">x</a>'`],
  tsvector: [`to_tsvector('english', 'The fat cats')`],
  tsquery: [`'fat & !cat'`],
  point: [`'(1.5,-2)'`],
  line: [`'{1,2,3}'`],
  lseg: [`'[(0,0),(1,1)]'`],
  box: [`'(1,1),(0,0)'`],
  path: [`'[(0,0),(1,1)]'`],
  polygon: [`'((0,0),(1,1),(2,0))'`],
  circle: [`'<(0,0),5>'`],
  oid: ['12'],
  regclass: [`'pg_class'`],
  pg_lsn: [`'16/B374D848'`],
  xid: [`'1'`],
  tid: [`'(0,1)'`],
  int4range: [`'[1,5)'`, `'empty'`],
  numrange: [`'(1.5,)'`],
  daterange: [`'[2024-01-01,infinity)'`],
  tstzrange: [`'["2024-01-01 00:00+00",)'`],
  int4multirange: [`'{[1,3),[5,7)}'`],
  trip_mood: [`'sad'`],
  'int[]': [`'{1,null,3}'`, `'{{1,2},{3,4}}'`, `'{}'`],
  'float8[]': [`'{1,NaN,-Infinity}'`],
  'text[]': [`array['a,b', '"', null, 'NULL', E'\\\\']`],
  'date[]': [`'{2024-01-01,"0044-03-15 BC",infinity}'`],
  'bool[]': [`'{t,f}'`],
  'uuid[]': [`'{6f9619ff-8b86-4d01-b42d-00cf4fc964ff}'`],
  'bytea[]': [`array['\\x00'::bytea]`],
  'inet[]': [`'{10.0.0.1}'`],
  'trip_mood[]': [`'{sad,ok}'`],
  'int4range[]': [`array['[1,5)'::int4range]`],
  'json[]': [`array['{"a":1}'::json, '"x"']`],
  'jsonb[]': [`array['{"a":1}'::jsonb, '[1,2]', '"x"', null]`],
  int2vector: [`'1 2'`],
  hstore: [`'highway=>primary, "odd \\\\ \\" name"=>x, n=>1'`, `''`],
  'hstore[]': [`array['a=>1'::hstore, null]`],
  trip_compound: [`row(1, E'a"b', array['NaN', 2]::float8[], '{"j":[1.5]}')`, 'row(null, null, null, null)'],
  'trip_compound[]': [`array[row(1, 'a', null, null)::trip_compound, null]`],
  trip_nested: [`row(row(1, 'x', null, null)::trip_compound, '0044-03-15 BC')`],
  trip_whole: ['5'],
  trip_twice: ['6'],
  trip_share: [`'NaN'`],
  trip_tags: [`'a=>b'`],
  trip_pair: [`row(1, 'x', null, null)`],
}
const types = Object.keys(TYPES)
const columns = types.map((_, index) => `c${index}`)
const rows = Math.max(...Object.values(TYPES).map(({ length }) => length))

await session.query(`
  create extension if not exists hstore; create extension if not exists citext;
  create type trip_mood as enum ('sad', 'ok');
  create type trip_compound as (a int, b text, c float8[], d jsonb);
  create type trip_nested as (inner_value trip_compound, day date);
  create domain trip_whole as int check (value > 0); create domain trip_twice as trip_whole;
  create domain trip_share as float8; create domain trip_tags as hstore; create domain trip_pair as trip_compound`)
await session.query(`create table every_type (id int primary key, geom geometry(Point, 4326),
  ${types.map((type, index) => `c${index} ${type}`).join(', ')})`)
for (let row = 0; row < rows; row++) {
  const values = types.map((type) => TYPES[type]![row % TYPES[type]!.length])
  await session.query(
    `insert into every_type values (${row}, 'SRID=4326;POINT(1.5 2.5)', ${values.join(', ')})`,
  )
}
await session.query(`insert into every_type (id) values (${rows})`)
await distributeById(session, 'every_type')
await catalog.reload()

const stored = async () => {
  // The spaces in a text of JSON are not part of its value.
  const shown = columns
    .map((column, at) => `${column}${types[at] === 'json' ? '::jsonb' : ''}::text as ${column}`)
    .join(', ')
  return session.query<Record<string, string>>(
    `select id, ST_AsText(geom) as geom, ${shown} from every_type order by id`,
  )
}
const PATH = '/collections/every_type/items'

/** Composites of distributed tables are refused in a patch. */
const composites = columns.filter((_, at) => /^(trip_compound|trip_nested|trip_pair)$/.test(types[at]!))
const isDistributed = catalog.get('every_type').distribution !== undefined

function withoutComposites(text: string): string {
  if (!isDistributed) return text
  const body = parseExactJson(text, 'all') as { properties: Record<string, unknown> }
  for (const column of composites) delete body.properties[column]
  return JSON.stringify(body, (_name, value) =>
    Object.is(value, -0) ? new ExactNumber('-0').toJSON() : value,
  )
}

const send = (method: 'PUT' | 'PATCH', path: string, body: unknown) =>
  client(path, {
    method,
    headers: { 'content-type': method === 'PUT' ? 'application/geo+json' : 'application/merge-patch+json' },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })

for (const method of ['PUT', 'PATCH'] as const)
  test(`a ${method} of what was read changes nothing`, async () => {
    const before = await stored()
    for (const { id } of before) {
      // The text as it is, because a JavaScript number would lose digits.
      const { text } = await client(`${PATH}/${id}`)
      const body = method === 'PATCH' ? withoutComposites(text) : text
      const answer = await send(method, `${PATH}/${id}`, body)
      assert.equal(answer.status, 200, `${id}: ${answer.text}`)
      assert.deepEqual(answer.json.properties, JSON.parse(text).properties, String(id))
    }
    const after = await stored()
    const changed = before.flatMap((row, index) =>
      types.flatMap((type, at) =>
        row[`c${at}`] === after[index]![`c${at}`] ? [] : [[type, row[`c${at}`], after[index]![`c${at}`]]],
      ),
    )
    assert.deepEqual(changed, [])
    assert.deepEqual(after, before)
  })

test('numbers that JSON has none for are null, so that a column stays one of numbers', async () => {
  const { features } = (await client(`${PATH}?limit=20`)).json as Page
  const numeric = types.flatMap((type, index) =>
    /^(int[248]|float[48]|numeric|trip_share)/.test(type) ? [`c${index}`] : [],
  )
  for (const { properties } of features)
    for (const column of numeric.filter((name) => !/\[|range/.test(types[Number(name.slice(1))]!)))
      assert.match(typeof properties![column], /number|object/, `${column} ${properties![column]}`)
})

await session.query(`create table odd_values (id int primary key, geom geometry(Point, 4326), v float8 not null, n numeric,
    tags hstore, c trip_compound, name text);
  insert into odd_values values (1, null, 'NaN', 'NaN', 'a=>1,b=>2', row(1, 'x', '{1}', '{"k":1}'), 'x'), (2, null, 5, 6, null, null, 'y')`)
await catalog.reload()
const odd = async (id: number) =>
  (
    await session.query<Record<string, string>>(
      `select v::text, n::text, tags::text, c::text from odd_values where id = ${id}`,
    )
  )[0]!
const patch = (id: number, properties: object) =>
  send('PATCH', `/collections/odd_values/items/${id}`, { properties })

test('null empties a number, but not one that is read as null', async () => {
  assert.equal((await patch(1, { v: null, n: null })).status, 200)
  assert.deepEqual([(await odd(1)).v, (await odd(1)).n], ['NaN', 'NaN'])
  assert.equal((await patch(2, { n: null })).status, 200)
  assert.equal((await odd(2)).n, null)
  const refused = await patch(2, { v: null })
  assert.equal(refused.status, 422)
  assert.match(refused.json.detail, /\/properties\/v must not be null/)
})

test('NaN and infinity can be written and found as texts', async () => {
  assert.equal((await patch(2, { v: '-Infinity', n: 'NaN' })).status, 200)
  assert.deepEqual([(await odd(2)).v, (await odd(2)).n], ['-Infinity', 'NaN'])
  const found = async (query: string) =>
    ((await client(`/collections/odd_values/items?${query}`)).json as Page).features.map(({ id }) => id)
  assert.deepEqual(await found('v=NaN'), [1])
  assert.deepEqual(await found('v=-Infinity'), [2])
  assert.equal((await patch(2, { v: 'nothing' })).status, 422)
})

test('a patch of an hstore or a composite changes the members that it names', async () => {
  assert.equal((await patch(1, { tags: { a: '3', b: null, c: 'new' } })).status, 200)
  assert.equal((await odd(1)).tags, '"a"=>"3", "c"=>"new"')
  assert.equal((await patch(1, { c: { b: 'y', d: { l: 2 } } })).status, 200)
  assert.equal((await odd(1)).c, '(1,y,{1},"{""k"": 1, ""l"": 2}")')
  assert.equal((await patch(2, { tags: { a: '1' }, c: { a: 5 } })).status, 200)
  assert.deepEqual([(await odd(2)).tags, (await odd(2)).c], ['"a"=>"1"', '(5,,,)'])
  const put = await send('PUT', '/collections/odd_values/items/2', {
    type: 'Feature',
    geometry: null,
    properties: { v: 1, tags: { a: null, b: 2 } },
  })
  assert.equal(put.status, 200, put.text)
  assert.equal((await odd(2)).tags, '"a"=>NULL, "b"=>"2"')
})

test('a value that does not fit such a column is refused by name', async () => {
  for (const [properties, pointer] of [
    [{ tags: { a: { b: 1 } } }, /^\/properties\/tags must be an object/],
    [{ c: [1] }, /\/properties\/c /],
    [{ c: { a: 'text' } }, /invalid input syntax for type integer/],
    [{ name: { a: 1 } }, /^\/properties\/name must be text/],
  ] as const) {
    const answer = await patch(1, properties)
    assert.equal(answer.status, 422, JSON.stringify(properties))
    assert.match(answer.json.detail, pointer)
  }
})

test('a feature that moves to another cell keeps its numbers that are none in JSON', async () => {
  const [row] = await session.query<{ found: string | null }>(
    `select to_regclass('tessera.moved_feature') as found`,
  )
  assert.ok(row!.found)
  await session.query(`
    create table moving (cell int not null, id text not null, geom geometry(Point, 4326), v float8, tags hstore, primary key (cell, id),
      check (cell = tessera.cell(geom, 8)));
    insert into moving select tessera.cell(g, 8), tessera.cell(g, 8) || '.a', g, 'NaN', 'a=>1' from (select 'SRID=4326;POINT(2 48)'::geometry) as p (g)`)
  await catalog.reload()
  const { features } = (await client('/collections/moving/items')).json as Page
  const [feature] = features
  const moved = await send('PUT', `/collections/moving/items/${feature!.id}`, {
    ...feature,
    geometry: { type: 'Point', coordinates: [100, -30] },
  })
  assert.equal(moved.status, 200, moved.text)
  const [after] = await session.query<{ v: string; tags: string }>('select v::text, tags::text from moving')
  assert.deepEqual({ ...after }, { v: 'NaN', tags: '"a"=>"1"' })
})

test('a geometry that comes back as it was read stays as it is stored', async () => {
  await session.query(`
    create table kept_places (id int primary key, name text, geom geometry(Geometry, 25832));
    insert into kept_places values (1, 'a', 'SRID=25832;POINT(500010.123456789 5500010.987654321)'),
      (2, 'b', 'SRID=25832;LINESTRING(500010.123456789 5500010, 500020.3 5500020.7)'),
      (3, 'c', 'SRID=25832;POLYGON((500000.1 5500000,500000 5500010.3,500010 5500010,500010 5500000,500000.1 5500000))'),
      (4, 'd', 'SRID=25832;POINT(500000 5500000)');
    create table kept_degrees (id int primary key, name text, geom geometry(Point, 4326));
    insert into kept_degrees values (1, 'a', 'SRID=4326;POINT(1.12345678901234 2.00000000000012)')`)
  await catalog.reload()
  const texts = async (table: string) =>
    (
      await session.query<{ text: string }>(`select ST_AsText(geom, 17) as text from ${table} order by id`)
    ).map(({ text }) => text)
  for (const table of ['kept_places', 'kept_degrees']) {
    const before = await texts(table)
    for (const method of ['PUT', 'PATCH'] as const)
      for (const id of before.map((_, index) => index + 1)) {
        const { json } = await client(`/collections/${table}/items/${id}`)
        const answer = await send(method, `/collections/${table}/items/${id}`, {
          ...json,
          properties: { name: `${method}` },
        })
        assert.deepEqual([answer.status, answer.json.properties.name], [200, method])
      }
    assert.deepEqual(await texts(table), before)
  }
  const moved = await send('PATCH', '/collections/kept_places/items/4', {
    geometry: { type: 'Point', coordinates: [9.5, 50] },
  })
  assert.deepEqual(moved.json.geometry, { type: 'Point', coordinates: [9.5, 50] })
})

test('a patch of a composite in a distributed table is refused with the way that works', async (t) => {
  if (!isDistributed) return t.skip('SKIPPED: the table is not distributed')
  const answer = await send('PATCH', `${PATH}/0`, { properties: { [composites[0]!]: { a: 1 } } })
  assert.equal(answer.status, 422)
  assert.match(answer.json.detail, /can only be replaced, with PUT/)
})
