// Tests relations with unusual keys, defaults, domains, views and partitions: what exists is reached, and what fails says why.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { followPages, type Page } from '../support/client.ts'
import { openSuperuser } from '../support/database.ts'
import { startGateway } from '../support/gateway.ts'

const { client, session, catalog } = await startGateway()
const superuser = await openSuperuser()
after(() => superuser.close())
const make = async (sql: string) => {
  await session.query(sql)
  await catalog.reload()
}
const featuresOf = async (path: string) => {
  const features: Page['features'] = []
  for await (const page of followPages(client, `/collections/${path}`)) {
    assert.ok(page.features, `${path} ${JSON.stringify(page)}`)
    features.push(...page.features)
  }
  return features
}
const send = async (method: string, path: string, body: unknown) => {
  const { status, json } = await client(`/collections/${path}`, {
    method,
    headers: { 'content-type': method === 'PATCH' ? 'application/merge-patch+json' : 'application/geo+json' },
    body: JSON.stringify(body),
  })
  return { status, json }
}
const feature = (
  properties: object,
  id?: unknown,
  geometry: unknown = { type: 'Point', coordinates: [1, 2] },
) => ({
  type: 'Feature',
  ...(id === undefined ? {} : { id }),
  geometry,
  properties,
})

test('keys of lists, rows and types without comparison page by position and give no id', async () => {
  await superuser.query('create extension if not exists hstore')
  await make(`
    create type pair as (a int, b text); create domain pair_domain as pair; create domain list_domain as int[];
    create table by_list (id int[] primary key, geom geometry(Point, 4326));
    create table by_two (a int, b int[], geom geometry(Point, 4326), primary key (a, b));
    create table by_list_domain (id list_domain primary key, geom geometry(Point, 4326));
    create table by_row (id pair primary key, geom geometry(Point, 4326));
    create table by_row_domain (id pair_domain primary key, geom geometry(Point, 4326));
    create table by_hstore (id hstore primary key, geom geometry(Point, 4326)); insert into by_hstore values ('a=>1'), ('b=>2'), ('');
    create view over_list as select id, geom from by_list;
    insert into by_list values ('{1,2}', 'SRID=4326;POINT(1 1)'), ('{}', 'SRID=4326;POINT(2 2)'), ('{{1},{2}}', null);
    insert into by_two values (1, '{1,2}'), (1, '{}'), (2, '{3}'); insert into by_list_domain select id from by_list;
    insert into by_row values ((1, 'x')), ((2, 'y,"')), ((3, null)); insert into by_row_domain select id from by_row`)
  for (const name of [
    'by_list',
    'by_two',
    'by_list_domain',
    'by_row',
    'by_row_domain',
    'by_hstore',
    'over_list',
  ]) {
    for (const limit of [1, 10]) {
      const features = await featuresOf(`${name}/items?limit=${limit}`)
      assert.deepEqual(
        features.map(({ id }) => id),
        [undefined, undefined, undefined],
        name,
      )
    }
    const { status, json } = await client(`/collections/${name}/items/1`)
    assert.deepEqual([status, json.code], [404, 'feature-not-addressable'], name)
  }
})

test('every key that has a text is reached by its own id, which is a string or a number', async () => {
  await make(`
    create type key_mood as enum ('glad', 'so so');
    create table k_float (id float8 primary key); insert into k_float values ('NaN'), ('-Infinity'), ('Infinity'), (1.5), (-0.1);
    create table k_real (id float4 primary key); insert into k_real values ('NaN'), (0.1), (3e10);
    create table k_numeric (id numeric primary key); insert into k_numeric values ('NaN'), ('-Infinity'), (1.50), (1e30);
    create table k_date (id date primary key); insert into k_date values ('infinity'), ('-infinity'), ('0044-03-15 BC'), ('12020-01-01'), ('2020-01-01');
    create table k_timestamp (id timestamp primary key); insert into k_timestamp values ('infinity'), ('0044-03-15 12:00 BC'), ('12020-01-01'), ('2020-01-01 01:02:03.5');
    create table k_timestamptz (id timestamptz primary key); insert into k_timestamptz values ('-infinity'), ('0044-03-15 12:00 BC'), ('12020-01-01'), ('2020-01-01 01:02:03.5');
    create table k_bool (id bool primary key); insert into k_bool values (true), (false);
    create table k_jsonb (id jsonb primary key); insert into k_jsonb values ('{"a": [1, "x/y?"]}'), ('1'), ('"t"'), ('null');
    create table k_range (id int4range primary key); insert into k_range values ('[1,5)'), ('empty');
    create table k_bytes (id bytea primary key); insert into k_bytes values ('\\x00ff');
    create table k_enum (id key_mood primary key); insert into k_enum values ('so so');
    create table k_interval (id interval primary key); insert into k_interval values ('1 day 2 hours');
    create table k_inet (id inet primary key); insert into k_inet values ('10.0.0.0/8'), ('::1');
    create table k_tid (id pg_lsn primary key); insert into k_tid values ('1/2')`)
  const names = catalog.list().flatMap(({ id }) => (id.startsWith('k_') ? id : []))
  assert.deepEqual(names, [], 'a table without a geometry is no collection')
  for (const { name } of await session.query<{ name: string }>(
    "select relname as name from pg_class where relname ~ '^k_[a-z]+$' and relkind = 'r'",
  )) {
    await make(
      `alter table ${name} add geom geometry(Point, 4326) default 'SRID=4326;POINT(1 2)', add note text`,
    )
    const [count] = await session.query<{ count: string }>(`select count(*) from ${name}`)
    const features = await featuresOf(`${name}/items?limit=1`)
    assert.equal(features.length, Number(count!.count), name)
    for (const { id, ...read } of features) {
      assert.match(typeof id, /^(string|number)$/, `${name} ${JSON.stringify(id)}`)
      const path = `${name}/items/${encodeURIComponent(id as string)}`
      const { status, json } = await client(`/collections/${path}`)
      assert.deepEqual([status, json?.id], [200, id], `${name} ${id}`)
      const patched = await send('PATCH', path, { id, properties: { note: 'x' } })
      assert.equal(patched.status, 200, `${name} ${id} ${JSON.stringify(patched.json)}`)
      const replaced = await send('PUT', path, { id, ...read })
      assert.equal(replaced.status, 200, `${name} ${id} ${JSON.stringify(replaced.json)}`)
    }
    assert.equal((await client(`/collections/${name}/items/nothing`)).status, 404, name)
    assert.equal((await client(`/collections/${name}/items/9999-99-99`)).status, 404, name)
  }
})

test('a trigger or a default of a domain gives a new feature its id', async () => {
  await make(`
    create sequence filled_id; create function fill() returns trigger language plpgsql as $$ begin
      new.id := coalesce(new.id, nextval('filled_id')); new.stamp := coalesce(new.stamp, 'filled'); return new; end $$;
    create table filled (id int primary key, stamp text not null, other text not null, geom geometry(Point, 4326));
    create trigger fill before insert on filled for each row execute function fill();
    create table unfilled (id int primary key, geom geometry(Point, 4326));
    create function pass() returns trigger language plpgsql as $$ begin return new; end $$;
    create trigger pass before insert on unfilled for each row execute function pass();
    create domain own_id as uuid default gen_random_uuid();
    create table by_domain (id own_id primary key, geom geometry(Point, 4326));
    grant usage on sequence filled_id to tessera_write`)
  const filled = await send('POST', 'filled/items', feature({ other: 'x' }))
  assert.deepEqual(
    [filled.status, filled.json.id, filled.json.properties],
    [201, 1, { stamp: 'filled', other: 'x' }],
    JSON.stringify(filled.json),
  )
  const chosen = await send('POST', 'filled/items', feature({ other: 'x', stamp: 'mine' }, 77))
  assert.deepEqual([chosen.status, chosen.json.id, chosen.json.properties.stamp], [201, 77, 'mine'])
  const lacking = await send('POST', 'filled/items', feature({}))
  assert.deepEqual([lacking.status, lacking.json.errors[0].pointer], [422, '/properties/other'])
  const unfilled = await send('POST', 'unfilled/items', feature({}))
  assert.deepEqual(
    [unfilled.status, unfilled.json.errors[0]],
    [422, { pointer: '/id', detail: 'must not be null' }],
  )
  assert.equal((await send('PUT', 'unfilled/items/5', feature({}))).status, 201)
  const domain = await send('POST', 'by_domain/items', feature({}))
  assert.equal(domain.status, 201, JSON.stringify(domain.json))
})

test('a domain over a domain is treated as what is below', async () => {
  await make(`create domain positive as int check (value > 0); create domain small as positive check (value < 100);
    create domain short as varchar(3); create domain shorter as short;
    create table domains (id int primary key, n small, s shorter, geom geometry(Point, 4326)); insert into domains values (1, 5, 'abc'), (2, 6, 'd')`)
  assert.deepEqual(
    (await featuresOf('domains/items?n=5&s=abc')).map(({ id }) => id),
    [1],
  )
  assert.equal((await client('/collections/domains/items?n=x')).status, 400)
  const { status, json } = await send('PATCH', 'domains/items/1', { properties: { s: 'abcd' } })
  assert.equal(status, 422)
  assert.match(json.errors[0].detail, /at most 3 characters/)
})

test('OPTIONS offers POST only if a new feature can be complete', async () => {
  await make(`create table below (id int primary key, name text, geom geometry(Point, 4326));
    create view shifted as select id, name, st_translate(geom, 1, 1) as geom from below;
    create view straight as select id, name, geom from below;
    create table demanding (id int primary key, secret text not null, geom geometry(Point, 4326));
    revoke insert on demanding from tessera_write; grant insert (id, geom) on demanding to tessera_write`)
  const allowed = async (path: string) =>
    (await client(`/collections/${path}`, { method: 'OPTIONS' })).headers.get('allow')
  assert.equal(await allowed('shifted/items'), 'GET, HEAD, PATCH, DELETE, OPTIONS')
  assert.equal(await allowed('straight/items'), 'GET, HEAD, POST, PATCH, DELETE, OPTIONS')
  const { status, json } = await send('POST', 'shifted/items', feature({}, 1))
  assert.deepEqual([status, json.code], [405, 'method-not-allowed'])
})

test('a row without a partition, and a single part of a multiple geometry', async () => {
  await make(`create table parted (id int, day date, geom geometry(MultiPolygon, 4326), primary key (id)) ;
    create table by_day (id int, n int, geom geometry(Point, 4326), primary key (id)) partition by range (id);
    create table by_day_1 partition of by_day for values from (1) to (10)`)
  const missing = await send('POST', 'by_day/items', feature({}, 11))
  assert.deepEqual(
    [missing.status, missing.json.errors[0].detail],
    [422, 'has a value for which the table has no partition'],
  )
  assert.equal((await send('POST', 'by_day/items', feature({}, 1))).status, 201)
  const ring = [
    [0, 0],
    [1, 0],
    [1, 1],
    [0, 0],
  ]
  const polygon = { type: 'Polygon', coordinates: [ring] }
  const created = await send('POST', 'parted/items', feature({}, 1, polygon))
  assert.deepEqual(
    [created.status, created.json.geometry],
    [201, { type: 'MultiPolygon', coordinates: [[ring]] }],
  )
  const empty = await send('PUT', 'parted/items/1', feature({}, 1, { type: 'Polygon', coordinates: [] }))
  assert.deepEqual([empty.status, empty.json.geometry], [200, { type: 'MultiPolygon', coordinates: [] }])
  assert.equal((await send('POST', 'parted/items', feature({}, 2))).status, 422)
})

test('the role that changes features changes neither the metadata of collections nor the history of the schema', async () => {
  const rights = await superuser.query(
    `select c.relname as name, r.name as right from pg_class c, unnest(array['insert', 'update', 'delete', 'truncate']) r (name)
     where c.oid in ('tessera.collection'::regclass, 'tessera.migration'::regclass) and has_table_privilege('tessera_write', c.oid, r.name)`,
  )
  assert.deepEqual(rights, [])
  const [{ may }] = (await superuser.query<{ may: boolean }>(
    "select has_table_privilege('tessera_write', 'tessera.collection', 'select') as may",
  )) as [{ may: boolean }]
  assert.ok(may)
})
