// Tests which tables become collections, and how unusual ones are served.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Point } from 'geojson'
import { followPages, type Item, type Page } from '../support/client.ts'
import { startGateway } from '../support/gateway.ts'

const { client, session, catalog } = await startGateway()
const make = async (sql: string) => {
  await session.query(sql)
  await catalog.reload()
}
const page = async (path: string) => (await client(`/collections/${path}`)).json as Page
const countOf = async (path: string) => {
  const ids: unknown[] = []
  for await (const { features } of followPages(client, `/collections/${path}`))
    ids.push(...features.map((feature) => JSON.stringify([feature.id, feature.geometry])))
  return ids.length === new Set(ids).size ? ids.length : `${ids.length} with duplicates`
}

test('a new table, its changes and its removal are noticed within five seconds', async () => {
  const until = async (isReached: () => Promise<boolean>) => {
    const start = performance.now()
    while (!(await isReached())) {
      assert.ok(performance.now() - start < 5_000, 'took longer than five seconds')
      await sleep(50)
    }
  }
  const status = async () => (await client('/collections/fleeting/items')).status
  await session.query(
    'create table fleeting (id int primary key, geom geometry(Point, 4326)); insert into fleeting values (1, null)',
  )
  await until(async () => (await status()) === 200)
  await session.query('alter table fleeting add column later text default $$x$$')
  await until(async () => ((await page('fleeting/items')) as Page).features[0]?.properties?.later === 'x')
  await session.query('drop table fleeting')
  await until(async () => (await status()) === 404)
})

test('views and materialized views are collections; features without a key are listed, but have no URL', async () => {
  await make(`
    create view andorra as select *, 1 as one from cities where country = 'AD' order by id offset 0;
    create materialized view andorra_kept as select * from cities where country = 'AD'`)
  for (const name of ['andorra', 'andorra_kept']) {
    const total = Number((await session.query<{ count: string }>(`select count(*) from ${name}`))[0]!.count)
    assert.equal(await countOf(`${name}/items?limit=3`), total, name)
    const { status, json } = await client(`/collections/${name}/items/1`)
    assert.deepEqual([status, json.code], [404, 'feature-not-addressable'])
    assert.match(json.detail, /primary key/)
    assert.equal((await page(`${name}/items?limit=1`)).features[0]!.id, undefined)
  }
})

test("features of a view that has its table's key have URLs, and its pages follow the key", async () => {
  await make(`
    create view renamed as select name as what, geom, id as number from cities where country = 'AD';
    create view keyless_view as select name, geom from cities where country = 'AD';
    create view other_key as select id || '' as id, geom from cities where country = 'AD'`)
  assert.equal((await client('/collections/renamed/items/24587.5')).json.properties.what, 'Pas de la Casa')
  const { links } = (await client('/collections/renamed/items?limit=2')).json
  assert.match(links.find(({ rel }: { rel: string }) => rel === 'next').href, /cursor=/)
  for (const name of ['keyless_view', 'other_key'])
    assert.equal((await client(`/collections/${name}/items/5`)).json.code, 'feature-not-addressable', name)
})

test('a table without a key is paged by ctid', async () => {
  await make(
    `create table keyless as select st_setsrid(st_makepoint(i % 180, i % 90), 4326)::geometry(Point, 4326) geom, i n from generate_series(1, 777) i`,
  )
  const seen: number[] = []
  for await (const { features } of followPages(client, '/collections/keyless/items?limit=100'))
    seen.push(...features.map(({ properties }) => properties!.n))
  assert.deepEqual(
    seen.toSorted((a, b) => a - b),
    Array.from({ length: 777 }, (_, index) => index + 1),
  )
})

test('a unique index without nulls is used like a primary key', async () => {
  await make(
    `create table indexed (code text not null unique, geom geometry(Point, 4326)); insert into indexed values ('a/b ü', st_setsrid(st_makepoint(1, 2), 4326))`,
  )
  const { json } = (await client(`/collections/indexed/items/${encodeURIComponent('a/b ü')}`)) as {
    json: Item
  }
  assert.equal(json.id, 'a/b ü')
  assert.equal((await client(json.links.find(({ rel }) => rel === 'self')!.href)).status, 200)
})

test('a key of several columns orders pages, and an error explains why its features have no URL', async () => {
  await make(
    `create table paired (a int, b text, geom geometry(Point, 4326), primary key (a, b)); insert into paired select i / 10, 'b' || i, st_setsrid(st_makepoint(i, i), 4326) from generate_series(1, 80) i`,
  )
  assert.equal(await countOf('paired/items?limit=7'), 80)
  assert.match((await client('/collections/paired/items/1')).json.detail, /consists of a, b/)
})

test('ids of other types are found in any notation of the type', async () => {
  await make(`
    create table by_uuid (id uuid primary key, geom geometry); insert into by_uuid values ('6F9619FF-8B86-4D01-B42D-00CF4FC964FF', 'SRID=4326;POINT(1 2)');
    create table by_date (id date primary key, geom geometry); insert into by_date values ('2024-02-29', 'SRID=4326;POINT(1 2)');
    create table by_numeric (id numeric primary key, geom geometry); insert into by_numeric values (1.50, 'SRID=4326;POINT(1 2)')`)
  for (const path of [
    'by_uuid/items/6f9619ff-8b86-4d01-b42d-00cf4fc964ff',
    'by_uuid/items/6F9619FF8B864D01B42D00CF4FC964FF',
    'by_date/items/2024-02-29',
    'by_numeric/items/1.5',
    'countries/items/007',
  ]) {
    assert.equal((await client(`/collections/${path}`)).status, 200, path)
  }
  for (const path of [
    'by_uuid/items/x',
    'by_date/items/2023-02-29',
    'by_numeric/items/x',
    'countries/items/99999999999999999999',
  ]) {
    assert.equal((await client(`/collections/${path}`)).status, 404, path)
  }
})

test('an id that is not valid for the type of the key is not found, and does not disturb other look-ups', async () => {
  await make(`
    create type letter as enum ('a', 'b'); create table by_letter (id letter primary key, geom geometry); insert into by_letter values ('a', null);
    create table by_address (id inet primary key, geom geometry)`)
  const asked = Array.from({ length: 60 }, (_, index) =>
    client(`/collections/by_letter/items/${index % 2 ? 'a' : 'zzz'}`),
  )
  const statuses = (await Promise.all(asked)).map(({ status }) => status)
  assert.deepEqual(
    statuses,
    statuses.map((_, index) => (index % 2 ? 200 : 404)),
  )
  assert.equal((await client('/collections/by_address/items/abc')).status, 404)
})

test('a parent table shows every row of its child tables', async () => {
  await make(`
    create table parent (id int primary key, geom geometry(Point, 4326)); create table child_a () inherits (parent); create table child_b () inherits (parent);
    insert into child_a select i, st_setsrid(st_makepoint(i, 1), 4326) from generate_series(1, 5) i; insert into child_b select i, st_setsrid(st_makepoint(i, 2), 4326) from generate_series(1, 5) i`)
  assert.equal(await countOf('parent/items?limit=3'), 10)
})

test('names of any kind are quoted', async () => {
  await make(`
    create schema "We""ird; schema"; create table "We""ird; schema"."Ta ble'--" ("I d" int primary key, "p" text, "Ge om" geometry(Point, 4326), "limit" int);
    insert into "We""ird; schema"."Ta ble'--" values (1, 'v', st_setsrid(st_makepoint(1, 2), 4326), 5)`)
  const id = `We"ird; schema.Ta ble'--`
  const collection = `/collections/${encodeURIComponent(id)}`
  assert.equal((await client(collection)).json.id, id)
  const { json } = await client(`${collection}/items/1`)
  assert.deepEqual([json.id, json.properties], [1, { p: 'v', limit: 5 }])
  assert.equal(
    (await client(`${collection}/items?p=v&sortby=p&bbox=0,0,3,3&properties=p`)).json.numberReturned,
    1,
  )
})

test('schemas can be chosen and excluded', async () => {
  await session.query(
    'create schema if not exists other; create table if not exists other.thing (id int primary key, geom geometry(Point, 4326))',
  )
  const ids = (gateway: { catalog: { list(): readonly { id: string }[] } }) =>
    gateway.catalog.list().map(({ id }) => id)
  assert.deepEqual(ids(await startGateway('--schemas', 'other')), ['other.thing'])
  assert.ok(!ids(await startGateway('--exclude-schemas', 'other')).includes('other.thing'))
})

test('tables and columns that the role may not read are not served', async () => {
  await make(`
    create table secret (id int primary key, geom geometry(Point, 4326)); revoke all on secret from tessera_read;
    create table half (id int primary key, geom geometry(Point, 4326), hidden text, shown text); revoke all on half from tessera_read;
    grant select (id, geom, shown) on half to tessera_read; insert into half values (1, null, 'hidden', 'shown')`)
  assert.equal((await client('/collections/secret')).status, 404)
  assert.deepEqual((await page('half/items')).features[0]!.properties, { shown: 'shown' })
})

test('/req/core/crs84: projected tables are queried and shown in degrees, with the same results as tables in degrees', async () => {
  await make(`
    create table utm as select id, name, st_transform(geom, 25832)::geometry(Point, 25832) geom from cities where country in ('CH', 'AT'); alter table utm add primary key (id); create index on utm using gist (geom);
    create table mercator as select id, name, st_transform(geom, 3857)::geometry(MultiPolygon, 3857) geom from countries where name <> 'Antarctica'; alter table mercator add primary key (id); create index on mercator using gist (geom);
    analyze utm; analyze mercator`)
  const boxes = [
    '8,47,9,48',
    '-180,-90,180,90',
    '5.5,45.25,17,55.125',
    '-120,-60,-110,-50',
    '170,-80,-170,80',
    '10,50,10,50',
    '-90,-90,-89,90',
  ]
  for (const box of boxes) {
    for (const [projected, plain, filter] of [
      ['utm', 'cities', `country in ('CH','AT')`],
      ['mercator', 'countries', `name <> 'Antarctica'`],
    ]) {
      const found = (await page(`${projected}/items?limit=10000&bbox=${box}`)).features.map(({ id }) =>
        String(id),
      )
      const [w, s, e, n] = box.split(',').map(Number) as [number, number, number, number]
      const envelopes =
        w <= e
          ? [[w, e]]
          : [
              [w, 180],
              [-180, e],
            ]
      const condition = envelopes
        .map(
          ([from, to]) =>
            `st_intersects(geom, st_envelope(st_makeline(st_setsrid(st_makepoint(${from}, ${s}), 4326), st_setsrid(st_makepoint(${to}, ${n}), 4326))))`,
        )
        .join(' or ')
      const expected = (
        await session.query<{ id: string }>(
          `select id from ${plain} where ${filter} and (${condition}) order by id`,
        )
      ).map(({ id }) => id)
      // A coordinate that was projected and transformed back may be on the other side of a box's edge.
      const difference =
        found.filter((id) => !expected.includes(id)).length +
        expected.filter((id) => !found.includes(id)).length
      assert.ok(
        difference <= expected.length / 1000,
        `${projected} ${box}: ${difference} of ${expected.length} differ`,
      )
    }
  }
  const [feature] = (await page('utm/items?limit=1&bbox=8,47,9,48')).features
  const [x, y] = (feature!.geometry as Point).coordinates
  assert.ok(x! >= 8 && x! <= 9 && y! >= 47 && y! <= 48)
  const { json } = await client('/collections/utm')
  const [west, south, east, north] = json.extent.spatial.bbox[0]
  assert.ok(west > 5 && south > 45 && east < 18 && north < 56)
})

test('for a view without a declared reference system, that of its first geometry is used', async () => {
  await make(
    `create view unsaid as select id, st_transform(geom, 3857) geom from cities where country = 'LI'`,
  )
  assert.ok((await page('unsaid/items?bbox=9,46.9,10,47.4')).numberMatched! > 5)
})

test('/req/geojson/content: geometries of every kind are returned as GeoJSON, or as null', async () => {
  await make(`
    create table kinds (id serial primary key, geom geometry);
    insert into kinds (geom) values ('POINT EMPTY'), (null), ('POINT Z (1 2 3)'), ('LINESTRING M (0 0 1, 1 1 2)'), ('GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(0 0,1 1))'), ('POLYGON((0 0,0 1,1 1,0 0))'), ('MULTIPOINT((1 2),(3 4))')`)
  const { features } = await page('kinds/items?limit=100')
  assert.deepEqual(
    features.map(({ geometry }) => geometry?.type),
    ['Point', undefined, 'Point', 'LineString', 'GeometryCollection', 'Polygon', 'MultiPoint'],
  )
  assert.equal((await page('kinds/items?bbox=-10,-10,10,10')).numberMatched, 5)
})

test('a table may have hundreds of columns', async () => {
  const names = Array.from({ length: 260 }, (_, index) => `c${index}`)
  await make(`
    create table wide (id int primary key, geom geometry(Point, 4326), ${names.map((name) => `${name} int`).join()});
    insert into wide values (1, null, ${names.map((_, index) => index).join()})`)
  const properties = Object.fromEntries(names.map((name, index) => [name, index]))
  const [feature] = (await page('wide/items')).features
  assert.deepEqual(feature!.properties, properties)
  const { json } = await client('/collections/wide/items/1')
  assert.deepEqual((json as Item).properties, properties)
  const patched = await client('/collections/wide/items/1', {
    method: 'PATCH',
    headers: { 'content-type': 'application/merge-patch+json' },
    body: '{"properties":{"c259":0}}',
  })
  assert.deepEqual((patched.json as Item).properties, { ...properties, c259: 0 })
})

test('values of every type are returned as JSON', async () => {
  await make(`
    create type mood as enum ('happy', 'sad'); create domain score as int check (value > 0);
    create table typed (id int primary key, geom geometry(Point, 4326), a int8, b numeric, c float8, d float8, e jsonb, f mood, g score, h int[], i bytea, j interval, k timestamptz, l text, m char(3), n timestamp, o time, p inet);
    insert into typed values (1, null, 9007199254740993, 1.10, 'NaN', '-Infinity', '{"x":[1]}', 'happy', 5, '{1,2}', '\\x00ff', '1 day', '2024-01-01T00:00:00+02', E'"\\\\\\t</script>', 'a', '2024-01-01', '10:00', '10.0.0.1')`)
  const { text } = await client('/collections/typed/items')
  assert.match(text, /"a":9007199254740993,"b":1\.10,"c":null,"d":null/)
  const [feature] = (JSON.parse(text) as Page).features
  const { e, f, g, h, k, l } = feature!.properties!
  assert.deepEqual(
    { e, f, g, h, k, l },
    { e: { x: [1] }, f: 'happy', g: 5, h: [1, 2], k: '2023-12-31T22:00:00+00:00', l: '"\\\t</script>' },
  )
  assert.equal((await page('typed/items?f=json&m=a')).numberReturned, 1)
  assert.equal((await page('typed/items?g=5')).numberReturned, 1)
  assert.equal((await client('/collections/typed/items?sortby=p')).json.parameter, 'sortby')
})
