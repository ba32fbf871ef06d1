// Tests which tiles are kept: only those that change with stored rows alone, and that are the same for every role.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openSuperuser } from '../support/database.ts'
import { startGateway } from '../support/gateway.ts'
import { featuresOf, fetchTile } from '../support/tile.ts'

const { client, session, catalog, events } = await startGateway('--tile-max-age=3600')
const superuser = await openSuperuser()
await superuser.query(`
  create extension if not exists file_fdw;
  create server steady_files foreign data wrapper file_fdw;
  create foreign table unsteady_foreign (id int, geom geometry(Point, 4326))
    server steady_files options (filename '/dev/null', format 'csv');
  create view unsteady_over_foreign as select * from unsteady_foreign;
  grant select on unsteady_foreign, unsteady_over_foreign to tessera_read`)
await superuser.close()

await session.query(`
  create table steady_base (id int primary key, born timestamptz default now(), name text, geom geometry(Point, 4326));
  insert into steady_base values (1, now() - interval '1 hour', 'a', 'SRID=4326;POINT(7.5 46.5)');
  create materialized view steady_stored as select id, name, geom, now() as made from steady_base;
  create table steady_parts (id int, name text, geom geometry(Point, 4326)) partition by range (id);
  create table steady_part partition of steady_parts for values from (0) to (100);
  create view steady_plain as select id, name, geom from steady_base where id < 100;
  create view steady_nested as select id, upper(name) as name, geom from steady_plain;
  create view steady_aggregate as select min(id) as id, st_centroid(st_collect(geom))::geometry(Point, 4326) as geom from steady_base;
  create view unsteady_now as select id, geom from steady_base where born > now() - interval '1 day';
  create view unsteady_date as select id, geom, current_date as today from steady_base;
  create view unsteady_text as select id, geom from steady_base where born < (name || '-01-01')::timestamptz;
  create view unsteady_random as select id, geom, random() as number from steady_base;
  create view unsteady_nested as select id, geom from unsteady_now;
  create function unsteady_of(int) returns int language sql volatile as 'select $1';
  create view unsteady_call as select unsteady_of(id) as id, geom from steady_base;
  create view unsteady_sample as select id, geom from steady_base tablesample bernoulli (50);
  create table unsteady_secured (id int primary key, geom geometry(Point, 4326));
  alter table unsteady_secured enable row level security;
  create view unsteady_over_secured as select * from unsteady_secured;
  create function steady_long(text) returns boolean immutable language sql as 'select length($1) > 0';
  comment on function steady_long(text) is '@filter True.';
  create function unsteady_long(text) returns boolean stable language sql as 'select length($1) > 0';
  comment on function unsteady_long(text) is '@filter True.'`)
await catalog.reload()

test('tables, partitions and views of these are steady; what depends on time, chance or roles is not', async () => {
  const steadiness = catalog
    .list()
    .filter(({ id }) => /^(un)?steady_/.test(id))
    .map(({ id, isSteady }) => [id, isSteady])
  assert.deepEqual(
    steadiness,
    steadiness.map(([id]) => [id, String(id).startsWith('steady_')]),
  )
  assert.ok(steadiness.length >= 15, String(steadiness.length))
  assert.equal(catalog.get('cities').isSteady, true)
})

const ask = async (path: string) => {
  const seen = events.length
  const answer = await fetchTile(client, path)
  const from = events.slice(seen).flatMap((event) => (event.type === 'tile-served' ? event.from : []))
  return { ...answer, from: from.join() }
}
const PLACE = '8/90/133'

test('a tile of an unsteady view is made each time, and no cache may show it', async () => {
  for (const [collection, from] of [
    ['steady_plain', 'memory'],
    ['unsteady_now', 'database'],
  ] as const) {
    const path = `/collections/${collection}/tiles/WebMercatorQuad/${PLACE}`
    const first = await ask(path)
    assert.equal(featuresOf(first, collection).length, 1)
    const again = await ask(path)
    assert.equal(again.from, from)
    assert.match(again.headers.get('cache-control')!, from === 'memory' ? /max-age=3600/ : /no-cache/)
    assert.equal(again.headers.get('etag'), first.headers.get('etag'))
  }
})

test('a filter is steady unless it calls what is not', async () => {
  for (const [filter, from] of [
    ["lower(name)='a'", 'memory'],
    ['steady_long(name)=true', 'memory'],
    ['unsteady_long(name)=true', 'database'],
    ['born < now()', 'database'],
    ['id = 1 and not (born > now())', 'database'],
  ] as const) {
    const path = `/collections/steady_base/tiles/WebMercatorQuad/${PLACE}?filter=${encodeURIComponent(filter)}`
    const first = await ask(path)
    assert.equal(first.status, 200, filter)
    assert.equal((await ask(path)).from, from, filter)
  }
})

test('a tile of several collections is kept only if all are steady', async () => {
  const path = `/tiles/WebMercatorQuad/${PLACE}?collections=steady_base,unsteady_now`
  await ask(path)
  assert.equal((await ask(path)).from, 'database')
})

test('a new definition of a view is a change, too', async () => {
  const path = `/collections/steady_nested/tiles/WebMercatorQuad/${PLACE}`
  assert.equal(featuresOf(await ask(path), 'steady_nested')[0]!.properties.name, 'A')
  await session.query('create or replace view steady_nested as select id, name, geom from steady_plain')
  const answer = await fetchTile(client, path, { prefer: 'max-staleness=0' })
  assert.equal(featuresOf(answer, 'steady_nested')[0]!.properties.name, 'a')
})
