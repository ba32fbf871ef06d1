// Tests rows whose geometries cannot be shown as they are stored: each costs only itself, and answers stay valid JSON.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { followPages, type Item, type Page } from '../support/client.ts'
import { distributeById } from '../support/distribute.ts'
import { startGateway } from '../support/gateway.ts'

const { client, session, catalog, events } = await startGateway()
await session.query(`
  create table f_nan (id int primary key, name text, geom geometry(Point, 4326));
  insert into f_nan values
    (1, 'x', ST_SetSRID(ST_MakePoint('NaN', 7), 4326)), (2, 'Infinity', ST_SetSRID(ST_MakePoint('Infinity', 5), 4326)),
    (3, '"geometry":{NaN},"properties":{', 'SRID=4326;POINT(1 1)'), (4, 'x', null);
  create table f_height (id int primary key, geom geometry(GeometryZ, 4326));
  insert into f_height values
    (1, ST_SetSRID(ST_MakePoint(1, 2, 'NaN'), 4326)), (2, 'SRID=4326;LINESTRING Z(0 0 NaN, 1 1 3)'),
    (3, ST_Collect(ST_SetSRID(ST_MakePoint(1, 2, '-Infinity'), 4326), 'SRID=4326;LINESTRING Z(0 0 5, 1 1 3)')),
    (4, 'SRID=4326;POINT Z(1 2 3)');
  create table f_outside (id int primary key, name text, geom geometry(Point, 25832));
  insert into f_outside values (1, 'a', 'SRID=25832;POINT(500000 5500000)'), (2, 'b', 'SRID=25832;POINT(1e30 1e30)'),
    (3, 'c', 'SRID=25832;POINT(9 50)'), (4, 'd', ST_SetSRID(ST_MakePoint('NaN', 5), 25832)),
    (5, 'e', ST_SetSRID(ST_MakePoint('Infinity', 5), 25832)), (6, 'f', null), (7, 'g', 'SRID=25832;POINT(600000 5600000)');
  create table f_stream (id int primary key, kind int default 1, geom geometry(Point, 25832));
  insert into f_stream (id, geom) select n, ST_SetSRID(case when n % 2500 = 0 then ST_MakePoint(1e30, n)
    else ST_MakePoint(500000 + n, 5500000) end, 25832) from generate_series(1, 6000) n;
  create view f_unkeyed as select * from f_stream union all select * from f_stream where false;
  create table f_faces (id int primary key, geom geometry(GeometryZ, 4326));
  insert into f_faces values (1, 'SRID=4326;POINT Z(1 1 1)'),
    (2, 'SRID=4326;POLYHEDRALSURFACE Z(((0 0 0,0 1 0,1 1 0,1 0 0,0 0 0)),((0 0 0,0 1 0,0 1 1,0 0 1,0 0 0)))'),
    (3, 'SRID=4326;GEOMETRYCOLLECTION Z(POINT Z(1 1 1),POLYHEDRALSURFACE Z(((0 0 0,0 1 0,1 1 0,1 0 0,0 0 0))))'),
    (4, 'SRID=4326;LINESTRING Z(20 20 0,30 30 0)');
  create type f_mood as enum ('sad', 'glad');
  create table f_names (id int primary key, text text, geometry int, position float8, mood f_mood, day date, tags text[],
    shape geometry(Point, 25832));
  insert into f_names select n, 'b', 1, 'NaN', 'glad', '2024-01-01', '{x,y}', ST_SetSRID(ST_MakePoint(case n when 2 then 1e30 else 500000 end, 5500000), 25832)
    from generate_series(1, 2) n;
  create table f_twisted (id int primary key, geom geometry(PolyhedralSurface, 25832));
  insert into f_twisted values (1, ST_Transform('SRID=4326;POLYHEDRALSURFACE(((9 50,9 51,10 51,10 50,9 50)))'::geometry, 25832));
`)
await distributeById(session, 'f_nan', 'f_outside', 'f_faces', 'f_names')
await catalog.reload()

const items = async (path: string) => {
  const answer = await client(`/collections/${path}`)
  assert.equal(answer.status, 200, `${path}: ${answer.status} ${answer.text.slice(0, 300)}`)
  return answer.json as Page
}
const item = async (path: string) => (await items(path)) as unknown as Item
async function pagesOf(path: string): Promise<Page[]> {
  const pages: Page[] = []
  for await (const page of followPages(client, `/collections/${path}`)) pages.push(page)
  return pages
}
const idsOf = (page: Page) => page.features.map(({ id }) => id)
const geometries = (page: Page) => page.features.map(({ geometry }) => geometry)

const sendTo = (method: string, path: string, body: object) =>
  client(`/collections/${path}`, {
    method,
    headers: { 'content-type': method === 'PATCH' ? 'application/merge-patch+json' : 'application/geo+json' },
    body: JSON.stringify(body),
  })

test('a point with NaN or infinite coordinates is null, and the others are served', async () => {
  const point = { type: 'Point', coordinates: [1, 1] }
  const page = await items('f_nan/items')
  assert.deepEqual(geometries(page), [null, null, point, null])
  assert.equal(page.features[2]!.properties!.name, '"geometry":{NaN},"properties":{')
  assert.deepEqual(geometries(await items('f_nan/items?limit=5000')), [null, null, point, null])
  assert.equal((await item('f_nan/items/1')).geometry, null)
  assert.deepEqual((await item('f_nan/items/3')).geometry, point)
  assert.deepEqual(idsOf(await items('f_nan/items?bbox=-180,-90,180,90')), [3])
})

test('heights that are no numbers are left out', async () => {
  assert.deepEqual(geometries(await items('f_height/items')), [
    { type: 'Point', coordinates: [1, 2] },
    {
      type: 'LineString',
      coordinates: [
        [0, 0],
        [1, 1],
      ],
    },
    {
      type: 'GeometryCollection',
      geometries: [
        { type: 'Point', coordinates: [1, 2] },
        {
          type: 'LineString',
          coordinates: [
            [0, 0],
            [1, 1],
          ],
        },
      ],
    },
    { type: 'Point', coordinates: [1, 2, 3] },
  ])
})

test('a point outside of its projection is null, alone and on pages', async () => {
  const shown = (page: Page) => page.features.filter(({ geometry }) => geometry !== null).map(({ id }) => id)
  for (const path of ['f_outside/items', 'f_outside/items?limit=5000', 'f_outside/items?offset=0']) {
    const page = await items(path)
    assert.deepEqual(idsOf(page), [1, 2, 3, 4, 5, 6, 7], path)
    assert.deepEqual(shown(page), [1, 3, 7], path)
    assert.equal(page.numberMatched, 7, path)
  }
  const pages = await pagesOf('f_outside/items?limit=2')
  assert.deepEqual(pages.flatMap(idsOf), [1, 2, 3, 4, 5, 6, 7])
  assert.equal((await item('f_outside/items/2')).geometry, null)
  assert.ok((await item('f_outside/items/1')).geometry)
  const together = await Promise.all([1, 2, 3, 4, 5, 6, 7].map((id) => item(`f_outside/items/${id}`)))
  assert.deepEqual(
    together.map(({ geometry }) => geometry !== null),
    [true, false, true, false, false, false, true],
  )
  const waiting = await client('/collections/f_outside/items/2', { headers: { prefer: 'wait=5' } })
  assert.equal(waiting.json.geometry, null)
})

test('a bbox finds what is in it in spite of a point outside of the projection', async () => {
  for (const bbox of ['-180,-90,180,90', '170,-90,169,90', '0,0,20,60', '0,-90,180,90']) {
    assert.deepEqual(idsOf(await items(`f_outside/items?bbox=${bbox}`)), [1, 3, 7], bbox)
    assert.deepEqual(idsOf(await items(`f_outside/items?limit=5000&bbox=${bbox}`)), [1, 3, 7], bbox)
    const paged = await pagesOf(`f_outside/items?limit=1&bbox=${bbox}`)
    assert.deepEqual(paged.flatMap(idsOf), [1, 3, 7], bbox)
  }
  assert.deepEqual(idsOf(await items('f_outside/items?bbox=170,-90,-170,90')), [])
  assert.deepEqual(idsOf(await items('f_outside/items?bbox=-180,-90,180,90&offset=1&limit=1')), [3])
  assert.deepEqual(idsOf(await items('f_outside/items?bbox=-180,-90,180,90&name=g')), [7])
  const bare = await items('f_outside/items?bbox=-180,-90,180,90&skipGeometry=true')
  assert.deepEqual(
    [idsOf(bare), geometries(bare)],
    [
      [1, 3, 7],
      [null, null, null],
    ],
  )
})

test('a filter finds what it describes in spite of geometries that cannot be transformed or related', async () => {
  const found = async (table: string, filter: string, more = '') =>
    idsOf(await items(`${table}/items?filter=${encodeURIComponent(filter)}${more}`))
  const world = 'BBOX(-180,-90,180,90)'
  const near = 's_dwithin(geom, POINT(9 49.65), 50000)'
  for (const more of ['', '&limit=5000', '&offset=0', '&bbox=-180,-90,180,90']) {
    assert.deepEqual(await found('f_outside', `S_INTERSECTS(geom, ${world})`, more), [1, 3, 7], more)
    assert.deepEqual(await found('f_outside', `S_INTERSECTS(geom, BBOX(8,49,10,50))`, more), [1], more)
    assert.deepEqual(await found('f_outside', near, more), [1], more)
  }
  // A geometry that cannot be transformed meets neither a condition nor its opposite; the rest of the filter decides.
  // One with an infinite coordinate can be, and is nowhere.
  assert.deepEqual(await found('f_outside', `NOT S_INTERSECTS(geom, BBOX(8,49,10,50))`), [3, 5, 7])
  assert.deepEqual(
    await found('f_outside', `S_INTERSECTS(geom, BBOX(8,49,10,50)) OR name IN ('b','f')`),
    [1, 2, 6],
  )
  assert.deepEqual(await found('f_outside', `S_INTERSECTS(geom, ${world}) AND name > 'a' AND id < 7`), [3])
  assert.deepEqual(await found('f_outside', `NOT (S_DISJOINT(geom, ${world}) OR name = 'g')`), [1, 3])
  assert.deepEqual(await found('f_outside', `geom IS NULL OR ${near}`), [1, 6])
  assert.deepEqual(await found('f_outside', `S_INTERSECTS(geom, ${world})`, '&sortby=-name&limit=2'), [7, 3])
  assert.deepEqual(await found('f_outside', `S_INTERSECTS(geom, ${world})`, '&offset=1&limit=1'), [3])
  const paged = await pagesOf(
    `f_outside/items?limit=1&filter=${encodeURIComponent(`S_INTERSECTS(geom, ${world}) OR name='b'`)}`,
  )
  assert.deepEqual(paged.flatMap(idsOf), [1, 2, 3, 7])
  const [, second] = (
    await items(`f_outside/items?filter=${encodeURIComponent(`NOT S_DISJOINT(geom, ${world}) OR id = 2`)}`)
  ).features
  assert.equal(second!.geometry, null)
  assert.deepEqual(await found('f_faces', `S_INTERSECTS(geom, BBOX(0.5,0.5,0.6,0.6))`), [2, 3])
  assert.deepEqual(await found('f_faces', `NOT S_INTERSECTS(geom, BBOX(0.5,0.5,0.6,0.6)) AND id <> 4`), [1])
})

test('a filter on columns of every name and type is tested row by row beside a geometry that fails', async () => {
  const filter = `"text" = 'b' AND "geometry" = 1 AND "position" > 0.5 AND mood >= 'sad' AND day < DATE('2024-01-02') AND A_CONTAINS(tags, ('x')) AND S_INTERSECTS(shape, BBOX(-180,-90,180,90))`
  const page = await items(`f_names/items?filter=${encodeURIComponent(filter)}`)
  assert.deepEqual(idsOf(page), [1])
})

test('a long page goes on after a row that cannot be shown', async () => {
  for (const table of ['f_stream', 'f_unkeyed']) {
    const page = await items(`${table}/items?limit=10000${table === 'f_unkeyed' ? '&sortby=kind' : ''}`)
    assert.equal(page.numberReturned, 6_000, table)
    assert.equal(new Set(page.features.map(({ id, properties }) => id ?? properties!.id)).size, 6_000, table)
    assert.equal(geometries(page).filter((geometry) => geometry === null).length, 2, table)
  }
  const pages = await pagesOf('f_stream/items?limit=4000')
  assert.deepEqual(
    pages.flatMap(idsOf),
    Array.from({ length: 6_000 }, (_, index) => index + 1),
  )
  assert.equal((await items('f_stream/items?limit=10000&bbox=-180,-90,180,90')).numberReturned, 5_998)
})

test('a polyhedral surface is shown as its faces, also within collections', async () => {
  const page = await items('f_faces/items')
  assert.deepEqual(
    geometries(page).map((geometry) => geometry!.type),
    ['Point', 'MultiPolygon', 'GeometryCollection', 'LineString'],
  )
  assert.equal((geometries(page)[1] as { coordinates: unknown[] }).coordinates.length, 2)
  assert.deepEqual(geometries(page)[2], {
    type: 'GeometryCollection',
    geometries: [
      { type: 'Point', coordinates: [1, 1, 1] },
      {
        type: 'Polygon',
        coordinates: [
          [
            [0, 0, 0],
            [1, 0, 0],
            [1, 1, 0],
            [0, 1, 0],
            [0, 0, 0],
          ],
        ],
      },
    ],
  })
  assert.equal((await item('f_faces/items/2')).geometry!.type, 'MultiPolygon')
  assert.deepEqual(idsOf(await items('f_faces/items?bbox=0.2,0.2,0.4,0.4')), [2, 3])
  assert.deepEqual(idsOf(await items('f_faces/items?bbox=25,25,26,26')), [4])
  assert.equal((await item('f_twisted/items/1')).geometry!.type, 'MultiPolygon')
  assert.deepEqual(idsOf(await items('f_twisted/items?bbox=9.4,50.4,9.5,50.5')), [1])
})

test('pages for people show them as well', async () => {
  for (const table of ['f_nan', 'f_height', 'f_outside', 'f_faces', 'f_twisted'])
    for (const path of ['', '/1', '/2'].slice(0, table === 'f_twisted' ? 2 : 3)) {
      const answer = await client(`/collections/${table}/items${path}?f=html`)
      assert.equal(answer.status, 200, `${table}${path}`)
    }
})

test('the extent is that of the geometries that are somewhere', async () => {
  const bboxOf = async (table: string) => (await client(`/collections/${table}`)).json.extent.spatial.bbox[0]
  assert.deepEqual(await bboxOf('f_nan'), [1, 1, 1, 1])
  const [west, south, east, north] = await bboxOf('f_outside')
  assert.ok(west > 4 && west < 5 && south < 1 && east > 10 && east < 11 && north > 50 && north < 51)
  assert.deepEqual(await bboxOf('f_faces'), [0, 0, 30, 30])
})

test('the extent does not reach beyond the globe, although features do', async () => {
  await session.query(`
    create table f_beyond (id int primary key, geom geometry(Geometry, 4326));
    insert into f_beyond values (1, 'SRID=4326;POINT(-540 10)'), (2, 'SRID=4326;LINESTRING(170 5, 190 1e20)')`)
  await catalog.reload()
  assert.deepEqual((await client('/collections/f_beyond')).json.extent.spatial.bbox, [[170, 5, 180, 90]])
  assert.deepEqual((await item('f_beyond/items/1')).geometry, { type: 'Point', coordinates: [-540, 10] })
})

test('a row that cannot be shown can be changed', async () => {
  const patched = await sendTo('PATCH', 'f_outside/items/2', { properties: { name: 'bb' } })
  assert.equal(patched.status, 200, patched.text)
  assert.deepEqual([patched.json.geometry, patched.json.properties.name], [null, 'bb'])
  const [row] = await session.query<{ geom: string }>(
    'select ST_AsText(geom) as geom from f_outside where id = 2',
  )
  assert.equal(row!.geom, 'POINT(1e+30 1e+30)')
  const keyed = await client('/collections/f_outside/items/2', {
    method: 'PATCH',
    headers: { 'content-type': 'application/merge-patch+json', 'idempotency-key': 'outside' },
    body: JSON.stringify({ properties: { name: 'bbb' } }),
  })
  assert.deepEqual([keyed.status, keyed.json.geometry], [200, null])
  const stale = await client('/collections/f_outside/items/2', {
    method: 'PATCH',
    headers: { 'content-type': 'application/merge-patch+json', 'if-match': '"AAAAAAAA.1"' },
    body: JSON.stringify({ properties: { name: 'c' } }),
  })
  assert.equal(stale.status, 412)
  const named = await sendTo('PATCH', 'f_nan/items/1', { properties: { name: 'y' } })
  assert.deepEqual([named.status, named.json.geometry], [200, null])
  const placed = await sendTo('PATCH', 'f_outside/items/2', {
    geometry: { type: 'Point', coordinates: [9, 50] },
  })
  assert.equal(placed.status, 200, placed.text)
  assert.ok(placed.json.geometry)
  const wrong = await sendTo('PATCH', 'f_outside/items/3', {
    geometry: { type: 'Point', coordinates: [-81, 0] },
  })
  assert.equal(wrong.status, 422, wrong.text)
})

test('they are counted in an event for each collection, not for each row', () => {
  for (const table of ['f_nan', 'f_height', 'f_outside', 'f_stream']) {
    const told = events.filter((event) => event.type === 'geometries-unshown' && event.collection === table)
    assert.equal(told.length, 1, table)
  }
})
