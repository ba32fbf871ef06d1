// Tests geometry columns that are not of one declared coordinate system: undeclared, changing, domains and geography.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Feature } from 'geojson'
import type { Page } from '../support/client.ts'
import { startGateway } from '../support/gateway.ts'

const { client, session, catalog, events } = await startGateway()
const make = async (sql: string) => {
  await session.query(sql)
  await catalog.reload()
}
const page = async (path: string) => {
  const { status, json } = await client(`/collections/${path}`)
  assert.equal(status, 200, JSON.stringify(json))
  return json as Page
}
/** Positions of points by id, rounded to a metre or so. */
const positions = ({ features }: Page) =>
  features.map(({ id, geometry }) => [
    id,
    geometry &&
      (geometry as { coordinates: number[] }).coordinates.map((number) => Number(number.toFixed(3))),
  ])
const ids = ({ features }: Page) => features.map(({ id }) => id)
const send = (method: string, path: string, body: unknown) =>
  client(`/collections/${path}`, {
    method,
    headers: { 'content-type': method === 'PATCH' ? 'application/merge-patch+json' : 'application/geo+json' },
    body: JSON.stringify(body),
  })
const feature = (coordinates: number[], properties = {}, id?: number) => ({
  type: 'Feature',
  ...(id === undefined ? {} : { id }),
  geometry: { type: 'Point', coordinates },
  properties,
})
const sridOf = async (table: string, id: number, column = 'geom') =>
  (
    await session.query<{ srid: number }>(
      `select st_srid(${column}::geometry) as srid from ${table} where id = $1`,
      [id],
    )
  )[0]!.srid

const MIXED = `
  (1, 'SRID=4326;POINT(10 50)'), (2, 'SRID=3857;POINT(1113194.9 6446275.8)'), (3, 'POINT(10 50)'),
  (4, 'SRID=25832;POINT(571666 5539109)'), (5, 'POINT(571666 5539109)'), (6, null), (7, 'POINT EMPTY')`

test('each row of a column without a declared system is shown in degrees, and is found there', async () => {
  await make(`create table g_mixed (id int primary key, geom geometry, name text);
    insert into g_mixed (id, geom) values ${MIXED};
    create index on g_mixed using gist (geom);
    create view mixed_view as select id, st_force2d(geom) as geom from g_mixed;
    create table mixed_points (id int primary key, geom geometry(Point)); insert into mixed_points values ${MIXED}`)
  for (const name of ['g_mixed', 'mixed_view', 'mixed_points']) {
    assert.deepEqual(positions(await page(`${name}/items`)), [
      [1, [10, 50]],
      [2, [10, 50]],
      [3, [10, 50]],
      [4, [10, 50]],
      // Without a system, metres cannot be told from degrees, and these are no degrees.
      [5, null],
      [6, null],
      [7, []],
    ])
    for (const box of ['9,49,11,51', '0,0,20,60', '-180,-90,180,90', '170,-90,60,90'])
      assert.deepEqual(ids(await page(`${name}/items?bbox=${box}`)), [1, 2, 3, 4], `${name} ${box}`)
    assert.deepEqual(ids(await page(`${name}/items?bbox=20,49,21,51`)), [])
    assert.deepEqual(ids(await page(`${name}/items?bbox=9,49,0,11,51,5`)), [1, 2, 3, 4])
    const { extent } = (await client(`/collections/${name}`)).json
    assert.deepEqual(
      extent.spatial.bbox[0].map((number: number) => Math.round(number * 1000) / 1000),
      [10, 50, 10, 50],
    )
  }
})

test('a row of no system whose coordinates are no degrees is counted among those that cannot be shown', async () => {
  await make(`create table g_nowhere (id int primary key, geom geometry);
    insert into g_nowhere values (1, 'POINT(571666 5539109)'), (2, 'POLYGON((0 0, 500 0, 0 500, 0 0))'), (3, 'POINT(1 2)'), (4, null)`)
  for (const parameters of ['', '?f=jsonfg', '?crs=http://www.opengis.net/def/crs/EPSG/0/3857'])
    assert.deepEqual(
      (await page(`g_nowhere/items${parameters}`)).features.map(({ geometry }) => geometry !== null),
      [false, false, true, false],
      parameters,
    )
  const counted = events.filter(
    (event) => event.type === 'geometries-unshown' && event.collection === 'g_nowhere',
  )
  assert.deepEqual(
    counted.map((event) => 'count' in event && event.count),
    [2],
  )
})

test('an index of geometries and one of other SRIDs are enough for a box in such a column', async () => {
  await make(`create table indexed_rows (id int primary key, geom geometry);
    insert into indexed_rows select i, st_setsrid(st_makepoint(i % 360 - 180, i % 170 - 85), 4326) from generate_series(1, 20000) i;
    insert into indexed_rows values (0, 'SRID=3857;POINT(1113194.9 6446275.8)');
    create index on indexed_rows using gist (geom);
    create index on indexed_rows (st_srid(geom)) where st_srid(geom) not in (0, 4326); analyze indexed_rows`)
  assert.ok(ids(await page('indexed_rows/items?bbox=9.5,49.5,10.5,50.5')).includes(0))
  const { plan } = (await client('/collections/indexed_rows/items?bbox=9.5,49.5,10.5,50.5&explain=1')).json
  assert.doesNotMatch(JSON.stringify(plan), /Seq Scan/)
  assert.match(JSON.stringify(plan), /BitmapOr/)
})

test('a change keeps the system of its row, and a new row in such a column is in degrees', async () => {
  await make(
    `create table kept (id int primary key, geom geometry, name text); insert into kept (id, geom) values ${MIXED}`,
  )
  assert.equal((await send('POST', 'kept/items', feature([11, 51], {}, 10))).status, 201)
  assert.equal(await sridOf('kept', 10), 4326)
  for (const [id, srid] of [
    [1, 4326],
    [2, 3857],
    [3, 0],
    [4, 25832],
    [5, 0],
    [6, 4326],
  ] as const) {
    const before = await session.query(`select geom::text from kept where id = ${id}`)
    const named = await send('PATCH', `kept/items/${id}`, { properties: { name: 'new' } })
    assert.deepEqual([named.status, named.json.properties.name], [200, 'new'])
    assert.deepEqual(await session.query(`select geom::text from kept where id = ${id}`), before)
    for (const [method, body] of [
      ['PUT', feature([12, 52])],
      ['PATCH', { geometry: { type: 'Point', coordinates: [13, 53] } }],
    ] as const) {
      const { status, json } = await send(method, `kept/items/${id}`, body)
      assert.equal(status, 200, JSON.stringify(json))
      assert.equal(await sridOf('kept', id), srid)
      const [longitude] = ((json as Feature).geometry as { coordinates: number[] }).coordinates
      assert.ok(Math.abs(longitude! - (method === 'PUT' ? 12 : 13)) < 1e-6)
    }
  }
})

test('a system that changes while the gateway runs is never served as degrees', async () => {
  await make(`create table empty_at_first (id int primary key, geom geometry(Point, 3857)); create table loose_at_first (id int primary key, geom geometry);
    create view buffered as select id, st_buffer(geom, 10) as geom from empty_at_first;
    create table g_moving (id int primary key, geom geometry(Point, 4326), name text); insert into g_moving values (1, 'SRID=4326;POINT(10 50)')`)
  // None of these is read before: the statement of a gateway that has just learned of a table is compiled now.
  await session.query(`insert into empty_at_first values (1, 'SRID=3857;POINT(1113194.9 6446275.8)');
    insert into loose_at_first select * from empty_at_first`)
  assert.deepEqual(positions(await page('loose_at_first/items')), [[1, [10, 50]]])
  assert.deepEqual(ids(await page('buffered/items?bbox=9,49,11,51')), [1])
  assert.deepEqual(ids(await page('loose_at_first/items?bbox=9,49,11,51')), [1])

  assert.deepEqual(positions(await page('g_moving/items')), [[1, [10, 50]]])
  await session.query(
    'alter table g_moving alter column geom type geometry(Point, 3857) using st_transform(geom, 3857)',
  )
  const changing = async (answer: Promise<{ status: number; json: any }>) => {
    const { status, json } = await answer
    assert.deepEqual([status, json.code], [503, 'collection-changing'], JSON.stringify(json))
  }
  await changing(client('/collections/g_moving/items'))
  await changing(client('/collections/g_moving/items/1'))
  await changing(client('/collections/g_moving/items?bbox=9,49,11,51'))
  // A page for people reads no geometry, so that nothing in it can be in the wrong system.
  assert.equal((await client('/collections/g_moving/items?f=html')).status, 200)
  await changing(send('POST', 'g_moving/items', feature([1, 2], {}, 2)))
  await changing(send('PATCH', 'g_moving/items/1', { properties: { name: 'x' } }))
  assert.deepEqual(await session.query('select id, name from g_moving'), [{ id: 1, name: null }])
  await catalog.reload()
  assert.deepEqual(positions(await page('g_moving/items?bbox=9,49,11,51')), [[1, [10, 50]]])
  await session.query('alter table g_moving alter column geom type geometry using geom')
  assert.deepEqual(positions(await page('g_moving/items')), [[1, [10, 50]]])
})

test('a check of the SRID declares the system of a column', async () => {
  await make(`create table checked (id int primary key, "Geom" geometry check (st_srid("Geom") = 25832)); create index on checked using gist ("Geom");
    create table half_checked (id int primary key, geom geometry check (st_srid(geom) = 25832 or id > 5));
    insert into checked values (1, 'SRID=25832;POINT(571666 5539109)')`)
  assert.deepEqual(positions(await page('checked/items?bbox=9,49,11,51')), [[1, [10, 50]]])
  assert.equal((await send('POST', 'checked/items', feature([10, 50], {}, 2))).status, 201)
  assert.equal(await sridOf('checked', 2, '"Geom"'), 25832)
  assert.equal((await send('POST', 'half_checked/items', feature([10, 50], {}, 9))).status, 201)
  assert.equal(await sridOf('half_checked', 9), 4326)
})

test('columns of geography and of domains are served, read by box and changed', async () => {
  await make(`
    create domain place as geometry(Point, 25832); create domain place_of_place as place; create domain g_spot as geography(Point, 4326);
    create table geographies (id int primary key, geom geography(Point, 4326), name text);
    create table plain_geographies (id int primary key, geom geography, name text);
    create table places_of_domain (id int primary key, geom place, name text);
    create table places_of_places (id int primary key, geom place_of_place, name text);
    create table g_spots (id int primary key, geom g_spot, name text);
    create table beside (id int primary key, g_spot geography(Point, 4326), geom geometry(Point, 4326), name text);
    create materialized view kept_geographies as select * from geographies`)
  for (const name of [
    'geographies',
    'plain_geographies',
    'places_of_domain',
    'places_of_places',
    'g_spots',
    'beside',
  ]) {
    const created = await send('POST', `${name}/items`, feature([10, 50], { name: 'a' }, 1))
    assert.equal(created.status, 201, JSON.stringify(created.json))
    await send('POST', `${name}/items`, feature([40, 50], { name: 'b' }, 2))
    assert.deepEqual(positions(await page(`${name}/items`)), [
      [1, [10, 50]],
      [2, [40, 50]],
    ])
    for (const box of ['9,49,11,51', '9,49,0,11,51,5', '10,50,10,50.5'])
      assert.deepEqual(
        ids(await page(`${name}/items?bbox=${box}`)).slice(0, 1),
        box.startsWith('10') && name.startsWith('place') ? [] : [1],
        `${name} ${box}`,
      )
    const replaced = await send('PUT', `${name}/items/2`, feature([11, 50], { name: 'c' }))
    assert.equal(replaced.status, 200, JSON.stringify(replaced.json))
    const { extent } = (await client(`/collections/${name}`)).json
    assert.equal(Math.round(extent.spatial.bbox[0][0] * 1000) / 1000, 10, name)
    const { status, json } = await send('PATCH', `${name}/items/1`, { properties: { name: 'd' } })
    assert.deepEqual([status, json.properties], [200, { name: 'd' }])
    const page2 = await client(`/collections/${name}/items?f=html`)
    assert.equal(page2.status, 200)
  }
  assert.equal((await client('/collections/kept_geographies/items')).status, 200)
  assert.equal(events.filter(({ type }) => type === 'request-failed').length, 0)
})
