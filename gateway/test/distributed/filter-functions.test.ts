// Tests the functions of the database that its owner publishes for filters.

import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { printJson } from '../../features/filter/cql2-json.ts'
import { parseText } from '../../features/filter/cql2-text.ts'
import { startGateway } from '../support/gateway.ts'

const { client, session, catalog, events } = await startGateway()

before(async () => {
  await session.query(`
    create table wells (id int primary key, name text, depth float8, opened date, seen timestamptz, noted timestamp, dry bool,
      geom geometry(Point, 3857));
    insert into wells select i, 'Well ' || i, i / 2.0, date '2020-01-01' + i, timestamptz '2020-01-01Z' + i * interval '1 day',
      timestamp '2020-01-01' + i * interval '1 day', i % 2 = 0, st_transform(st_setsrid(st_makepoint(i, i), 4326), 3857)
    from generate_series(1, 10) i;
    create schema tools;
    grant usage on schema tools to public;
    create function tools.initial(value text) returns text language sql immutable as $$ select left(value, 1) $$;
    comment on function tools.initial is '@filter The first letter of a text.';
    create function tools."Twice"(float8) returns float8 language sql immutable as $$ select $1 * 2 $$;
    comment on function tools."Twice" is '@filter';
    create function is_deep(depth numeric, wanted int4) returns bool language plpgsql stable as $$ begin return depth >= wanted; end $$;
    comment on function is_deep is '@filter Whether a well is at least so deep.';
    create function day_of(t timestamptz) returns date language sql stable as $$ select (t at time zone 'UTC')::date $$;
    comment on function day_of is '@filter';
    create function next_hour(t timestamp) returns timestamp language sql immutable as $$ select t + interval '1 hour' $$;
    comment on function next_hour is '@filter';
    create function longitude(g geometry) returns float8 language sql immutable as $$ select st_x(g) $$;
    comment on function longitude is '@filter';
    create function fails_at(value int8, bad int8) returns int8 language plpgsql immutable as
      $$ begin if value = bad then raise exception 'secret of %', value; end if; return value; end $$;
    comment on function fails_at is '@filter Fails for one value.';
    create function share_of(part int8, whole int8) returns int8 language sql immutable as $$ select part / whole $$;
    comment on function share_of is '@filter';
    create function not_marked(text) returns text language sql immutable as $$ select $1 $$;
    comment on function not_marked is 'Has no mark: @filter';
    create function is_volatile(text) returns text language sql volatile as $$ select $1 $$;
    comment on function is_volatile is '@filter';
    create function rows_of(text) returns setof text language sql stable as $$ select $1 $$;
    comment on function rows_of is '@filter';
    create function many(variadic text[]) returns text language sql immutable as $$ select $1[1] $$;
    comment on function many is '@filter';
    create function of_json(jsonb) returns text language sql immutable as $$ select $1::text $$;
    comment on function of_json is '@filter';
    create function to_uuid(text) returns uuid language sql immutable as $$ select $1::uuid $$;
    comment on function to_uuid is '@filter';
    create function casei(text) returns text language sql immutable as $$ select $1 $$;
    comment on function casei is '@filter';
    create function tools.lower(text, int) returns text language sql immutable as $$ select $1 $$;
    comment on function tools.lower is '@filter';
    create function "two words"(text) returns text language sql immutable as $$ select $1 $$;
    comment on function "two words" is '@filter';
    create function same(text) returns text language sql immutable as $$ select $1 $$;
    comment on function same(text) is '@filter';
    create function tools."Same"(int) returns text language sql immutable as $$ select '' $$;
    comment on function tools."Same" is '@filter';
    create function forbidden(text) returns text language sql immutable as $$ select $1 $$;
    comment on function forbidden is '@filter';
    revoke execute on function forbidden from public;
    create procedure does(text) language sql as $$ select 1 $$;
    comment on procedure does is '@filter';
    create aggregate longest(text) (sfunc = textcat, stype = text);
    comment on aggregate longest(text) is '@filter'`)
  await catalog.reload()
})

const ask = (filter: string, parameters: Record<string, string> = {}) =>
  client(`/collections/wells/items?${new URLSearchParams({ limit: '100', filter, ...parameters })}`)
const idsOf = async (filter: string) => {
  const text = await ask(filter)
  assert.equal(text.status, 200, `${filter}: ${text.json.detail}`)
  const json = await ask(printJson(parseText(filter).expression), { 'filter-lang': 'cql2-json' })
  assert.deepEqual(json.json.features, text.json.features, filter)
  return text.json.features.map(({ id }: { id: number }) => id)
}

test('a published function is listed with its types, and called as text and as JSON', async () => {
  const { functions } = (await client('/functions')).json
  const listed = functions.find(({ name }: { name: string }) => name === 'is_deep')
  assert.deepEqual(
    [listed.description, listed.arguments, listed.returns],
    [
      'Whether a well is at least so deep.',
      [
        { title: 'depth', type: ['number'] },
        { title: 'wanted', type: ['number'] },
      ],
      ['boolean'],
    ],
  )
  for (const [filter, expected] of [
    ["initial(name) = 'W' AND id < 3", [1, 2]],
    ['is_deep(depth, 4)', [8, 9, 10]],
    ['NOT is_deep(depth, 2) AND dry = true', [2]],
    ['Twice(depth) = id AND twice(depth) > 8.5', [9, 10]],
    ["day_of(seen) = DATE('2020-01-04')", [3]],
    ["T_AFTER(next_hour(noted), TIMESTAMP('2020-01-10T00:30:00Z'))", [9, 10]],
    ['longitude(geom) BETWEEN 2.5 AND 4.5', [3, 4]],
    ['longitude(POINT(7 8)) = 7 AND id = 1', [1]],
    ["CASEI(initial(name)) LIKE 'w%' AND id IN (1, fails_at(2, 0))", [1, 2]],
  ] as const)
    assert.deepEqual(await idsOf(filter), expected, filter)
})

test('a published function is called wherever the features are stored', async () => {
  for (const where of ['S_INTERSECTS(geom, BBOX(7.4,46.9,7.5,47))', "country = 'LI'", "name = 'Bern'"]) {
    const of = async (filter: string) => {
      const search = new URLSearchParams({ limit: '1000', filter })
      const { status, json } = await client(`/collections/cities/items?${search}`)
      assert.equal(status, 200, `${filter}: ${json.detail}`)
      return json.features.map(({ id }: { id: unknown }) => id)
    }
    const expected = await of(`${where} AND name LIKE 'B%'`)
    assert.ok(expected.length > 0, where)
    assert.deepEqual(await of(`${where} AND initial(name) = 'B'`), expected, where)
  }
})

test('arguments of a published function are checked before it is called', async () => {
  for (const [filter, reason] of [
    ['initial(id) = 1', /expected a text, but "id" is a number/],
    ['initial(name, 1) = 1', /initial takes 1 operands \(value\), and not 2/],
    ['is_deep(depth, 4) = 1', /expected true or false|true or false/],
    ['initial(geom) = 1', /expected a text/],
  ] as const) {
    const { status, json } = await ask(filter)
    assert.deepEqual([status, json.parameter], [400, 'filter'], filter)
    assert.match(json.detail, reason)
  }
})

test('a function that fails for a row is a problem that names it, and tells nothing of the row', async () => {
  for (const filter of [
    'fails_at(id, 5) = 1',
    'share_of(id, id - 3) = 1',
    'is_deep(depth, 99999999999)',
    'is_deep(depth, 2 ^ (id * 4))',
  ]) {
    const [name] = filter.split('(')
    for (const parameters of [{}, { limit: '5000' }, { f: 'html' }]) {
      const { status, json, text } = await ask(filter, parameters)
      assert.equal(status, 400, filter)
      assert.match(text, new RegExp(`${name}[^.]*failed for a feature`))
      assert.doesNotMatch(text, /secret/)
      if (json) assert.equal(json.parameter, 'filter')
      // The page keeps the line in which the filter can be changed.
      else assert.match(text, /<form[^>]*>.*name="filter"/s)
    }
  }
  assert.deepEqual(await idsOf('fails_at(id, 50) = 1'), [1])
  assert.equal(events.filter(({ type }) => type === 'request-failed').length, 0)
})

test('what is not marked, or cannot be called safely, is not published, and an event says why', async () => {
  const reasons = new Map(
    events.flatMap((event) =>
      event.type === 'function-unpublished' ? [[event.function, event.reason] as const] : [],
    ),
  )
  for (const [name, reason] of [
    ['public.is_volatile', /volatile/],
    ['public.rows_of', /no plain function/],
    ['public.many', /no plain function/],
    ['public.does', /no plain function/],
    ['public.longest', /no plain function/],
    ['public.of_json', /argument of type jsonb/],
    ['public.to_uuid', /type uuid/],
    ['public.casei', /word of CQL2/],
    ['tools.lower', /gateway has a function of this name/],
    ['public.two words', /quoted/],
    ['public.same', /another published function/],
    ['tools.Same', /another published function/],
    ['public.forbidden', /execute/],
  ] as const)
    assert.match(reasons.get(name) ?? 'none', reason, name)
  const { functions } = (await client('/functions')).json
  const names = functions.map(({ name }: { name: string }) => name)
  for (const name of ['not_marked', 'is_volatile', 'rows_of', 'same', 'forbidden']) {
    assert.ok(!names.includes(name), name)
    assert.match((await ask(`${name}(name) = 'x'`)).json.detail, /there is no function/)
  }
  assert.equal((await ask('pg_sleep(1) IS NULL')).status, 400)
})

test('a comment that is taken away takes the function away, without a restart', async () => {
  await session.query('comment on function tools.initial is null')
  await catalog.reload()
  assert.match((await ask("initial(name) = 'W'")).json.detail, /there is no function/)
  await session.query("comment on function tools.initial is '@filter'")
  await catalog.reload()
  assert.equal((await idsOf("initial(name) = 'W'")).length, 10)
})

test('functions that are dropped are no longer listed', async () => {
  await session.query(`
    drop schema tools cascade;
    drop routine is_deep, day_of, next_hour, longitude, fails_at, share_of, not_marked, is_volatile, rows_of, many, of_json,
      to_uuid, casei, "two words", same, forbidden, does, longest`)
  await catalog.reload()
  const { functions } = (await client('/functions')).json
  assert.deepEqual(
    functions.map(({ name }: { name: string }) => name),
    ['now', 'lower', 'upper', 'length', 'abs', 's_dwithin'],
  )
})
