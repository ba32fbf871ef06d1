// Tests that a relation which is slow, broken, locked or forbidden costs only itself, and delays no other collection.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { openSession } from '../../database/session.ts'
import { openSuperuser, testDatabase } from '../support/database.ts'
import { startGateway, startGatewayOn, type TestGateway } from '../support/gateway.ts'
import { runTessera } from '../support/process.ts'
import { until } from '../support/until.ts'

const { client, session, catalog } = await startGateway()
const superuser = await openSuperuser()
after(() => superuser.close())

/** Milliseconds that a start takes on this machine. */
const usualStart = await (async () => {
  const start = performance.now()
  await startGateway()
  return performance.now() - start
})()

const statusOf = async (gateway: Pick<TestGateway, 'client'>, path: string) =>
  (await gateway.client(`/collections/${path}`)).status
const isListed = (gateway: Pick<TestGateway, 'catalog'>, id: string) =>
  gateway.catalog.list().some((collection) => collection.id === id)

test('a slow and a broken view delay neither a start, nor a new table, nor the list of collections', async () => {
  await session.query(`
    create table words (id int primary key, word text); insert into words values (1, 'POINT(1 1)'), (2, 'x');
    create view slow_view as select id, case when pg_sleep(30) is null then null else st_geomfromtext('POINT(1 1)') end as geom from words;
    create view slower_view as select * from slow_view;
    create view broken_view as select id, st_geomfromtext(word) as geom from words`)
  const start = performance.now()
  const second = await startGateway()
  assert.ok(performance.now() - start < usualStart * 2 + 4_000, 'the start was delayed')
  // This computes the extents.
  const asked = performance.now()
  const listed = await second.client('/collections')
  assert.equal(listed.status, 200)
  assert.ok(performance.now() - asked < 6_000, 'the list was delayed')
  assert.ok(listed.json.collections.some(({ id }: { id: string }) => id === 'slow_view'))
  await session.query('create table newcomer (id int primary key, geom geometry(Point, 4326))')
  for (const gateway of [second, { client, catalog }])
    await until(async () => (await statusOf(gateway, 'newcomer/items')) === 200, 5_000)
  await until(() => second.events.some(({ type }) => type === 'extent-unknown'), 30_000)
  const unknown = second.events.find(
    (event) => event.type === 'extent-unknown' && event.collection === 'broken_view',
  )
  assert.ok(unknown && 'retryMs' in unknown && unknown.retryMs >= 60_000)
  // What has failed is not tried again with each request.
  for (let request = 0; request < 3; request++) await second.client('/collections/broken_view')
  assert.equal(
    second.events.filter((event) => event.type === 'extent-unknown' && event.collection === 'broken_view')
      .length,
    1,
  )
  await session.query('drop view broken_view, slower_view, slow_view')
})

test('a table that somebody locks stays what it was, and delays no other', async () => {
  const { readUrl } = testDatabase()
  await session.query(`create table under_lock (id int primary key check (id > 0), geom geometry(Point, 4326), a text);
    create table read_at_length (id int primary key, geom geometry check (st_srid(geom) = 4326))`)
  await catalog.reload()
  const known = catalog.get('under_lock')
  assert.ok(known.capabilities?.canCreate)
  const reader = await openSession(readUrl, 'test')
  const waiting = await openSession(testDatabase().ownerUrl, 'test')
  after(() => Promise.all([reader.close(), waiting.close()]))
  await superuser.query('begin; lock table under_lock in access exclusive mode')
  // A lock that is waited for makes other readers wait as well.
  await reader.query('begin; select from read_at_length')
  const locking = waiting.query('begin; lock table read_at_length in access exclusive mode; commit')
  await until(
    async () =>
      (await session.query(`select from pg_locks where mode = 'AccessExclusiveLock' and not granted`))
        .length > 0,
  )
  try {
    const second = await startGateway()
    const start = performance.now()
    await session.query('create table unlocked (id int primary key, geom geometry(Point, 4326))')
    await catalog.reload()
    assert.ok(performance.now() - start < 5_000, 'a lock delayed discovery')
    assert.ok(isListed({ catalog }, 'unlocked'))
    assert.equal(catalog.get('under_lock'), known)
    assert.ok(!isListed(second, 'under_lock'))
    assert.deepEqual(
      second.events.filter((event) => event.type === 'relation-locked'),
      ['read_at_length', 'under_lock'].map((name) => ({
        type: 'relation-locked',
        relation: `public.${name}`,
      })),
    )
    await superuser.query('rollback')
    await reader.query('rollback')
    await locking
    await until(() => isListed(second, 'under_lock') && isListed(second, 'read_at_length'))
    assert.ok(second.catalog.get('under_lock').capabilities?.canCreate)
  } finally {
    await superuser.query('rollback')
  }
})

test('a role without a grant serves without titles, hears which grant is missing, and goes on with new tables', async () => {
  await session.query(`create table titled (id int primary key, geom geometry(Point, 4326));
    insert into tessera.collection (schema_name, table_name, title) values ('public', 'titled', 'A title')`)
  await superuser.query(`create role bare; grant bare to tessera_read; grant select on titled to bare`)
  const readUrl = `${testDatabase().readUrl}&options=-c%20role%3Dbare`
  const gateway = await startGatewayOn({ readUrl, writeUrl: undefined as never })
  assert.deepEqual(
    gateway.events
      .filter((event) => event.type === 'grant-missing')
      .map((event) => [event.role, event.grant]),
    [
      ['bare', 'SELECT on tessera.collection'],
      ['bare', 'USAGE on schema tessera'],
    ],
  )
  const title = async () => (await gateway.client('/collections/titled')).json.title
  assert.equal(await title(), 'titled')
  await superuser.query(
    'create table later (id int primary key, geom geometry); grant select on later to bare',
  )
  await until(async () => (await statusOf(gateway, 'later/items')) === 200)
  await superuser.query('grant usage on schema tessera to bare; grant select on tessera.collection to bare')
  await until(async () => (await title()) === 'A title')
  await superuser.query('revoke usage on schema tessera from bare')
  await until(() => gateway.events.filter((event) => event.type === 'grant-missing').length === 3)
  // Rules come from the same table: what was known of a collection holds on.
  assert.equal(await title(), 'A title')
  assert.ok(!gateway.events.some(({ type }) => type === 'catalog-load-failed'))
  // Tests of other files revoke this right from tessera_read, which would still have it as a member of bare.
  await superuser.query('revoke select on tessera.collection from bare')
})

test('two tables never share the id of a collection', async () => {
  await session.query(`create schema a; create table a.b (id int primary key, what text, geom geometry(Point, 4326)); insert into a.b values (1, 'b of a');
    create schema "a.b"; create table "a.b".c (like a.b including all); insert into "a.b".c values (1, 'c of a.b')`)
  await catalog.reload()
  assert.equal((await client('/collections/a.b/items/1')).json.properties.what, 'b of a')
  await session.query(`create table public."a.b" (like a.b including all); insert into "a.b" values (1, 'a.b of public');
    create table a."b.c" (like a.b including all); insert into a."b.c" values (1, 'b.c of a');
    create schema """a"; create table """a"."b""" (like a.b including all); insert into """a"."b""" values (1, 'odd')`)
  await catalog.reload()
  const { json } = await client('/collections')
  const items = (json.collections as { id: string; links: { rel: string; href: string }[] }[])
    .filter(({ id }) => /^"*a"*\.|a\.b|b\.c/.test(id))
    .map(({ links }) => links.find(({ rel }) => rel === 'items')!.href)
  const found = await Promise.all(
    items.map(async (href) => (await client(href)).json.features[0].properties.what),
  )
  assert.deepEqual(found.toSorted(), ['a.b of public', 'b of a', 'b.c of a', 'c of a.b', 'odd'])
  assert.equal((await client('/collections/a.b/items/1')).json.properties.what, 'b of a')
})

test('PostGIS in a schema outside of the search path serves, changes and imports; a short time limit does not keep it from starting', async () => {
  const inElsewhere = (url: string) => url.replace('/tessera?', '/elsewhere?')
  const { readUrl, writeUrl, ownerUrl, superuserUrl } = testDatabase()
  await superuser.query('create database elsewhere owner tessera_owner')
  const admin = await openSession(inElsewhere(superuserUrl), 'test')
  after(() => admin.close())
  await admin.query(`create schema "Post GIS"; create extension postgis schema "Post GIS"; grant usage on schema "Post GIS" to public;
    create table public.other_geometry (id int primary key, geom "Post GIS".geometry(Point, 25832), name text);
    insert into other_geometry values (1, 'SRID=25832;POINT(571666 5539109)', 'a'); create index on other_geometry using gist (geom);
    grant all on other_geometry to tessera_read, tessera_write`)
  const urls = {
    readUrl: inElsewhere(readUrl),
    writeUrl: inElsewhere(writeUrl),
    ownerUrl: inElsewhere(ownerUrl),
  }
  const imported = await runTessera(
    ['import', '-', '--collection', 'brought'],
    '{"type":"Feature","properties":{"n":1},"geometry":{"type":"Point","coordinates":[1,2]}}\n{"type":"Feature","properties":{"n":2},"geometry":{"type":"Point","coordinates":[1,2,3]}}\n',
    { TESSERA_WRITE_URL: urls.ownerUrl },
  )
  assert.equal(imported.code, 0, imported.output)
  await admin.query(
    'grant select on brought to tessera_read; grant select, insert, update, delete on brought to tessera_write; grant usage on schema tessera to tessera_read, tessera_write; grant select on tessera.collection to tessera_read; grant select on tessera.api_key to tessera_write',
  )
  const gateway = await startGatewayOn(urls)
  assert.equal((await gateway.client('/collections/brought/items?bbox=0,0,3,3')).json.numberMatched, 2)
  assert.equal(
    (await gateway.client('/collections/other_geometry/items?bbox=9,49,11,51')).json.numberMatched,
    1,
  )
  const { status, json } = await gateway.client('/collections/other_geometry/items/1', {
    method: 'PATCH',
    headers: { 'content-type': 'application/merge-patch+json' },
    body: '{"geometry":{"coordinates":[10,50]},"properties":{"name":"b"}}',
  })
  assert.deepEqual([status, json.properties], [200, { name: 'b' }], JSON.stringify(json))

  for (let first = 1; first <= 1500; first += 300)
    await admin.query(`do $$ begin for i in ${first}..${first + 299} loop
      execute format('create table many_%s (id int primary key, geom "Post GIS".geometry(Point, 4326), a text check (a > %L), b int, c float8, d date, e text, f text)', i, 'b');
    end loop; end $$`)
  await admin.query('grant select on all tables in schema public to tessera_read')
  const hasty = await startGatewayOn(urls, '--statement-timeout-ms', '100')
  assert.ok(hasty.catalog.list().length > 1500)
  const slow = await hasty.database.read({ text: 'select pg_sleep(2)', values: [] }).catch((error) => error)
  assert.equal(slow.code, 'query-too-slow')
  await admin.query('revoke usage on schema "Post GIS" from public')
  const barred = await startGatewayOn({ ...urls, writeUrl: undefined as never })
  assert.deepEqual(
    [
      barred.catalog.list().length,
      barred.events.flatMap((event) => (event.type === 'grant-missing' ? event.grant : [])),
    ],
    [0, ['USAGE on schema "Post GIS"']],
  )
})
