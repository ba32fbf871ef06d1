// Tests tiles of tables that are not ours: any coordinate system and geometry type, any column, faulty rows, and any size.

import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { groundOf, WEB_MERCATOR_QUAD } from '../../features/tiles/tile-matrix-set.ts'
import { distributeById } from '../support/distribute.ts'
import { startGateway } from '../support/gateway.ts'
import { featuresOf, fetchTile, leftOutOf } from '../support/tile.ts'

const { client, session, catalog, events } = await startGateway()

/** Latitude of the edge between two rows of tiles of level 4. */
const LATITUDE = groundOf({ set: WEB_MERCATOR_QUAD, level: 4, row: 5, column: 8 }).minLatitude

before(async () => {
  await session.query(`
    create table t_values (id int8 primary key, geom geometry(Point, 4326), small int2, big int8, real float4, double float8,
      exact numeric, flag boolean, words text, day date, moment timestamptz, code uuid, doc jsonb, list int[], names text[],
      geometry text, "tile's ""name""" text);
    insert into t_values values
      (7, 'SRID=4326;POINT(7.5 46.5)', 1, 9007199254740993, 1.5, 2.25, 123456789012345678901234567890.5, true, 'Bern', '2024-02-29',
        '2024-02-29T12:00:00Z', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"a": [1]}', '{1,2}', '{x,y}', 'own', 'quoted'),
      (-7, 'SRID=4326;POINT(7.5 46.6)', null, null, null, null, null, null, null, null, null, null, null, null, null, null, null),
      (9007199254740993, 'SRID=4326;POINT(7.5 46.7)', null, null, null, null, null, false, '', null, null, null, null, null, null, null, null);

    create table t_metres (id int primary key, geom geometry(Point, 3857));
    insert into t_metres select n, ST_Transform(ST_SetSRID(ST_MakePoint(7 + n / 100.0, 46.5), 4326), 3857) from generate_series(1, 50) n;
    create index on t_metres using gist (geom);
    create table t_utm (id int primary key, geom geometry(Polygon, 25832));
    insert into t_utm select n, ST_Transform(ST_MakeEnvelope(7 + n / 100.0, 46.5, 7.004 + n / 100.0, 46.504, 4326), 25832) from generate_series(1, 50) n;
    create index on t_utm using gist (geom);
    create table t_geography (id int primary key, geom geography(Point, 4326));
    insert into t_geography select n, ST_SetSRID(ST_MakePoint(7 + n / 100.0, 46.5), 4326)::geography from generate_series(1, 50) n;
    create table t_mixed (id int primary key, geom geometry);
    insert into t_mixed values (1, 'SRID=4326;POINT(7.5 46.5)'), (2, 'SRID=25832;LINESTRING(384000 5151000, 385000 5152000)'),
      (3, 'SRID=3857;POLYGON((834000 5860000,836000 5860000,836000 5862000,834000 5862000,834000 5860000))'), (4, null),
      (5, 'POINT(7.6 46.6)'), (6, 'SRID=4326;POINT EMPTY'), (7, 'SRID=4326;CURVEPOLYGON(CIRCULARSTRING(7.5 46.5,7.6 46.6,7.7 46.5,7.6 46.4,7.5 46.5))'),
      (8, 'SRID=4326;GEOMETRYCOLLECTION(POINT(7.5 46.5),LINESTRING(7.5 46.5,7.6 46.6))'), (9, 'SRID=4326;MULTIPOINT(7.5 46.5,7.6 46.6)'),
      (10, 'SRID=4326;POLYHEDRALSURFACE Z(((7 46 0,7 47 0,8 47 0,8 46 0,7 46 0)))'), (11, 'SRID=4326;POINT ZM(7.5 46.5 1 2)');
    create table t_faulty (id int primary key, name text, geom geometry(Polygon, 25832));
    insert into t_faulty select n, 'sound', ST_Transform(ST_MakeEnvelope(7 + n / 100.0, 46.5, 7.004 + n / 100.0, 46.504, 4326), 25832) from generate_series(1, 50) n;
    insert into t_faulty values (51, 'faulty', ST_MakeEnvelope(-1e30, -1e30, 1e30, 1e30, 25832));
    create index on t_faulty using gist (geom);
    create view t_faulty_view as select id, name, geom from t_faulty where id > 0;
    create table t_edges (id int primary key, geom geometry(Point, 4326));
    insert into t_edges values (1, 'SRID=4326;POINT(22.5 ${LATITUDE})'), (2, 'SRID=4326;POINT(22.5 45)'), (3, 'SRID=4326;POINT(23 ${LATITUDE})'),
      (4, 'SRID=4326;POINT(180 45)'), (5, 'SRID=4326;POINT(-180 45)'), (6, 'SRID=4326;POINT(0 0)');
    create table t_edges_in_metres (id int primary key, geom geometry(Point, 3857));
    insert into t_edges_in_metres select id, ST_Transform(geom, 3857) from t_edges;
    create table t_corner (id int primary key, geom geometry(Polygon, 4326));
    insert into t_corner values (1, 'SRID=4326;POLYGON((0 41,0 70,22 70,0.1 69,0 41))'), (2, 'SRID=4326;POLYGON((5 45,6 45,6 46,5 45))');
    create table t_columns (id int primary key, secret text, geom geometry(Point, 4326));
    insert into t_columns select n, 'secret', ST_SetSRID(ST_MakePoint(5.7 + n / 1000.0, 46), 4326) from generate_series(1, 5000) n;
    create table t_keyless (secret text, geom geometry(Point, 4326));
    insert into t_keyless select 'secret', geom from t_columns;
    revoke select on t_columns, t_keyless from tessera_read;
    grant select (id, geom) on t_columns to tessera_read;
    grant select (geom) on t_keyless to tessera_read;
    create table t_pole (id int primary key, geom geometry(Polygon, 4326));
    insert into t_pole values (1, ST_MakeEnvelope(-180, -90, 180, -60, 4326)), (2, ST_MakeEnvelope(-170, 80, 170, 90, 4326));
    create table t_heavy (id int primary key, geom geometry(Point, 4326), words text);
    insert into t_heavy select n, ST_SetSRID(ST_MakePoint(7 + (n % 60) / 100.0, 46 + n / 6000.0), 4326), repeat(md5(n::text), 20) from generate_series(1, 3000) n;
    insert into t_heavy values (9999, 'SRID=4326;POINT(7.3 46.3)', repeat('x', 2000000));
    create table t_crowd (id int primary key, geom geometry(Point, 4326), same text);
    insert into t_crowd select n, ST_SetSRID(ST_MakePoint(5.7 + 5.5 * ((n * 7919) % 100003) / 100003.0, 45.2 + 3 * ((n * 104729) % 99991) / 99991.0), 4326), 'same' from generate_series(1::bigint, 60000) n;
    create index on t_crowd using gist (geom);
    create table t_squares (id int primary key, geom geometry(Polygon, 4326), name text);
    insert into t_squares select n, ST_MakeEnvelope(5.7 + (n % 250) * 0.022, 45.1 + (n / 250) * 0.024, 5.7 + (n % 250) * 0.022 + 0.02, 45.1 + (n / 250) * 0.024 + 0.02 * (n % 7 + 1) / 7, 4326), md5(n::text)
      from generate_series(1, 30000) n;
    create index on t_squares using gist (geom);
    analyze`)
  await distributeById(session, 't_values', 't_metres', 't_utm', 't_mixed', 't_heavy', 't_crowd', 't_squares')
  await catalog.reload()
})

const layerOf = async (name: string, place: string, query = '') => {
  const answer = await fetchTile(client, `/collections/${name}/tiles/${place}${query}`)
  assert.ok(
    [200, 204, 404].includes(answer.status),
    `${name}/${place}${query}: ${answer.status} ${answer.body.toString().slice(0, 300)}`,
  )
  return { ...answer, features: featuresOf(answer, name) }
}
const SWISS = 'WebMercatorQuad/6/22/33'
const SETS = [SWISS, 'WorldCRS84Quad/5/7/33', 'WebMercatorQuad/0/0/0']

test('a property that tiles have no word for is text, and an id is one only if it is a number that maps can hold', async () => {
  const { features } = await layerOf('t_values', SWISS)
  const first = features.find(({ id }) => id === 7)
  assert.deepEqual(
    { ...first?.properties },
    {
      small: 1,
      big: 9007199254740992,
      real: 1.5,
      double: 2.25,
      exact: '123456789012345678901234567890.5',
      flag: true,
      words: 'Bern',
      day: '2024-02-29',
      moment: '2024-02-29T12:00:00+00:00',
      code: 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
      doc: '{"a": [1]}',
      list: '[1,2]',
      names: '["x","y"]',
      geometry: 'own',
      'tile\'s "name"': 'quoted',
    },
  )
  assert.deepEqual(
    features
      .filter((feature) => feature !== first)
      .map(({ id, properties }) => [id, properties.id])
      .toSorted((a, b) => Number(a[1]) - Number(b[1])),
    [
      [undefined, -7],
      [undefined, 9007199254740992],
    ],
  )
})

test('tables in any coordinate system have their features where they are', async () => {
  for (const name of ['t_metres', 't_utm', 't_geography'])
    for (const place of SETS) {
      const { features } = await layerOf(name, place)
      const most = place.endsWith('0/0/0') && name === 't_utm' ? 0 : 50
      assert.equal(features.length, most, `${name} ${place}`)
    }
  const places = async (name: string) =>
    (await layerOf(name, 'WebMercatorQuad/9/181/266')).features
      .map((feature) => [feature.id, ...feature.loadGeometry()[0]!.map(({ x, y }) => [x, y])])
      .toSorted((a, b) => Number(a[0]) - Number(b[0]))
  const inMetres = await places('t_metres')
  assert.ok(inMetres.length > 20)
  assert.deepEqual(await places('t_geography'), inMetres)
})

test('every type of geometry in every system of a row is drawn', async () => {
  for (const place of [SWISS, 'WorldCRS84Quad/5/7/33']) {
    const { features } = await layerOf('t_mixed', place)
    assert.deepEqual(
      features.map(({ id, type }) => [id, type]).toSorted((a, b) => a[0]! - b[0]!),
      [
        [1, 1],
        [2, 2],
        [3, 3],
        [5, 1],
        [7, 3],
        [8, 2],
        [9, 1],
        [10, 3],
        [11, 1],
      ], // prettier-ignore
    )
  }
})

test('a geometry that cannot be converted costs only itself', async () => {
  for (const name of ['t_faulty', 't_faulty_view']) {
    const { features } = await layerOf(name, 'WebMercatorQuad/7/45/66')
    assert.ok(features.length > 10, `${name} ${features.length}`)
    for (const { properties } of features) assert.equal(properties.name, 'sound')
    const filtered = await layerOf(
      name,
      'WebMercatorQuad/7/45/66',
      '?filter=S_INTERSECTS(geom,BBOX(6,46,8,47))',
    )
    assert.equal(filtered.features.length, features.length)
  }
  assert.ok(events.some((event) => event.type === 'geometries-unshown' && event.collection === 't_faulty'))
  const both = await fetchTile(client, '/tiles/WebMercatorQuad/7/45/66?collections=t_faulty,t_metres')
  assert.deepEqual(Object.keys(both.layers), ['t_faulty', 't_metres'])
})

test('a filter with a polygon that is not valid is refused, whatever the rows are', async () => {
  const filter = encodeURIComponent('S_INTERSECTS(geom,POLYGON((6 46,8 47,8 46,6 47,6 46)))')
  const { status, json } = await client(
    `/collections/t_faulty/tiles/WebMercatorQuad/7/45/66?filter=${filter}`,
  )
  if (status !== 200) assert.equal(json.parameter, 'filter')
})

test('what reaches a pole is drawn up to the edge of the tile', async () => {
  const { features } = await layerOf('t_pole', 'WebMercatorQuad/0/0/0')
  assert.equal(features.length, 2)
  const degrees = await layerOf('t_pole', 'WorldCRS84Quad/0/0/0')
  assert.equal(degrees.features.length, 2)
})

test('no tile is above the limit, and what is shown and what is left out are all that there is', async () => {
  for (const [name, total] of [
    ['t_heavy', 3_001],
    ['t_crowd', 60_000],
    ['t_squares', 30_000],
  ] as const)
    for (const place of ['WebMercatorQuad/6/22/33', 'WebMercatorQuad/3/2/4', 'WorldCRS84Quad/2/0/4']) {
      const { body, features } = await layerOf(name, place)
      assert.ok(body.length <= 500_000, `${name} ${place}: ${body.length}`)
      assert.ok(features.length > 30, `${name} ${place}: ${features.length}`)
      assert.equal(features.length + leftOutOf(features), total, `${name} ${place}`)
    }
  const { features } = await layerOf('t_squares', 'WebMercatorQuad/6/22/33')
  const areaOf = (id: number) => (id % 7) + 1
  const shown = features.map(({ id }) => areaOf(id!))
  const mean = shown.reduce((sum, one) => sum + one, 0) / shown.length
  assert.ok(mean > 4.2, `the larger ones are shown first: ${mean}`)
})

test('a table of which the role may read some columns alone is served', async () => {
  for (const name of ['t_columns', 't_keyless']) {
    const { features } = await layerOf(name, SWISS)
    assert.equal(features.length + leftOutOf(features), 5_000, name)
    assert.ok(features.length < 5_000)
    for (const { properties } of features) assert.ok(!('secret' in properties))
    const { status, json: page } = await client(`/collections/${name}/items?limit=2`)
    assert.equal(status, 200, JSON.stringify(page))
    assert.equal(page.features.length, 2)
  }
})

test('a point on the edge of tiles is in one of them, also in clusters', async () => {
  const all = [1, 2, 3, 4, 5, 6]
  for (const name of ['t_edges', 't_edges_in_metres'])
    for (const query of ['', '?cluster=true'])
      for (const level of [0, 1, 4]) {
        const numbers = Array.from({ length: 2 ** level }, (_, index) => index)
        // Rows that have points, and those around them.
        const rows = level < 4 ? numbers : [4, 5, 6, 7, 8]
        const found = await Promise.all(
          rows.flatMap((row) =>
            numbers.map(async (column) =>
              (await layerOf(name, `WebMercatorQuad/${level}/${row}/${column}`, query)).features.reduce(
                (sum, { properties }) => sum + Number(properties.point_count ?? 1),
                0,
              ),
            ),
          ),
        )
        const total = found.reduce((sum, one) => sum + one, 0)
        // Their transformation may move points off an edge that has no whole number of metres.
        if (name === 't_edges' || level < 4) assert.equal(total, all.length, `${name} ${level}${query}`)
      }
  const { features } = await layerOf('t_edges', 'WorldCRS84Quad/0/0/1')
  assert.deepEqual(features.map(({ id }) => id).toSorted(), [1, 2, 3, 4, 6])
})

test('a feature whose box alone meets a tile is neither in it nor left out of it', async () => {
  const { features } = await layerOf('t_corner', 'WebMercatorQuad/4/5/8')
  assert.deepEqual(features.map(({ id }) => id).toSorted(), [1, 2])
  const other = await layerOf('t_corner', 'WebMercatorQuad/6/20/35')
  assert.equal(other.features.length, 0)
  const { features: inside } = await layerOf('t_corner', 'WebMercatorQuad/5/11/16')
  assert.equal(inside.length + leftOutOf(inside), 2)
  const near = await layerOf('t_corner', 'WebMercatorQuad/7/45/66')
  assert.equal(near.features.length + leftOutOf(near.features), 1)
})

test('a tile of two collections that are each too large is not too large', async () => {
  const { body, layers } = await fetchTile(
    client,
    '/tiles/WebMercatorQuad/6/22/33?collections=t_heavy,t_crowd,t_squares',
  )
  assert.ok(body.length <= 500_000 && body.length > 200_000, `${body.length}`)
  assert.deepEqual(Object.keys(layers), ['t_heavy', 't_crowd', 't_squares'])
})
