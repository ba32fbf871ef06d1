// Tests vector tiles over HTTP, decoded by a library that maps use: their documents, what is in them, and what is left out.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { distributeById } from '../support/distribute.ts'
import { startGateway } from '../support/gateway.ts'
import { featuresOf, fetchTile, leftOutOf } from '../support/tile.ts'

const { client, session, catalog } = await startGateway()
const MVT = 'application/vnd.mapbox-vector-tile'
const REL = 'http://www.opengis.net/def/rel/ogc/1.0/'
const tile = (path: string, headers?: Record<string, string>) => fetchTile(client, path, headers)
const json = async (path: string) => (await client(path)).json

/** Returns links by their relation. */
const linksOf = (
  document: { links: { rel: string; href: string; type?: string; templated?: boolean }[] },
  rel: string,
) => document.links.filter((link) => link.rel === rel)

test('/req/dataset-tilesets/landingpage, /req/geodata-tilesets/desc-links: tiles are found from the landing page and from each collection', async () => {
  const [all] = linksOf(await json('/'), `${REL}tilesets-vector`)
  assert.equal(all!.href, `${client.url}/tiles`)
  const [one] = linksOf(await json('/collections/cities'), `${REL}tilesets-vector`)
  assert.equal(one!.href, `${client.url}/collections/cities/tiles`)
})

for (const origin of ['', '/collections/cities'])
  test(`/req/tilesets-list/tileset-path, /req/tilesets-list/tileset-links, /req/dataset-tilesets/operation, /req/geodata-tilesets/operation: ${origin}/tiles lists a tileset for each tile matrix set`, async () => {
    const { status, json: list } = await client(`${origin}/tiles`)
    assert.equal(status, 200)
    assert.equal(list.tilesets.length, 2)
    for (const one of list.tilesets) {
      assert.equal(one.dataType, 'vector')
      assert.match(one.crs, /crs/)
      assert.match(one.tileMatrixSetURI, /^http:\/\/www\.opengis\.net\/def\/tilematrixset\/OGC\/1\.0\//)
      const { status: found, json: tileset } = await client(linksOf(one, 'self')[0]!.href)
      assert.equal(found, 200)
      assert.equal(tileset.tileMatrixSetURI, one.tileMatrixSetURI)
      const { json: definition } = await client(linksOf(one, `${REL}tiling-scheme`)[0]!.href)
      assert.equal(definition.uri, one.tileMatrixSetURI)
    }
  })

test('/req/tileset/description, /req/core/tc-op, /conf/tilesetmetadata, /conf/json-tilesetmetadata, /conf/tilematrixsetlimits, /conf/json-tilematrixsetlimits: a tileset has its limits, its layers with their properties, and a template of its tiles', async () => {
  const tileset = await json('/collections/cities/tiles/WebMercatorQuad')
  assert.equal(tileset.crs, 'http://www.opengis.net/def/crs/EPSG/0/3857')
  assert.equal(linksOf(tileset, `${REL}tiling-scheme`).length, 1)
  const [template] = linksOf(tileset, 'item')
  assert.equal(template!.templated, true)
  assert.equal(template!.type, MVT)
  const address = template!.href
    .replace('{tileMatrix}', '4')
    .replace('{tileRow}', '5')
    .replace('{tileCol}', '8')
  const { status, layers } = await tile(address)
  assert.equal(status, 200)
  const [layer] = tileset.layers
  assert.equal(layer.id, 'cities')
  assert.equal(layer.geometryDimension, 0)
  for (const name of Object.keys(featuresOf({ layers }, 'cities')[0]!.properties))
    assert.ok(name === 'tessera_left_out' || name in layer.propertiesSchema.properties, name)
  const [limits] = tileset.tileMatrixSetLimits.filter((one: { tileMatrix: string }) => one.tileMatrix === '4')
  assert.ok(limits.minTileRow <= 5 && limits.maxTileRow >= 5)
})

test('/req/core/conformance-success: the classes are declared', async () => {
  const { conformsTo } = await json('/conformance')
  assert.ok(conformsTo.includes('http://www.opengis.net/spec/ogcapi-tiles-1/1.0/conf/core'))
})

test('/conf/json-tilematrixset: tile matrix sets are listed and defined', async () => {
  const { tileMatrixSets } = await json('/tileMatrixSets')
  assert.deepEqual(
    tileMatrixSets.map(({ id }: { id: string }) => id),
    ['WebMercatorQuad', 'WorldCRS84Quad'],
  )
  for (const one of tileMatrixSets) {
    const definition = await json(linksOf(one, 'self')[0]!.href)
    assert.equal(definition.id, one.id)
    assert.equal(definition.tileMatrices[1].matrixWidth, 2 * definition.tileMatrices[0].matrixWidth)
  }
})

test('/req/core/tc-success, /req/mvt/content: a tile has the features that meet it, at their places', async () => {
  const answer = await tile('/collections/cities/tiles/WebMercatorQuad/8/90/133?f=mvt')
  assert.equal(answer.status, 200)
  assert.equal(answer.headers.get('content-type'), MVT)
  const features = featuresOf(answer, 'cities')
  const { features: expected } = await json(
    '/collections/cities/items?limit=1000&bbox=7.03125,46.07323062540835,8.4375,47.04018214480666',
  )
  assert.deepEqual(
    features.map(({ properties }) => properties.id).toSorted(),
    expected.map(({ id }: { id: string }) => id).toSorted(),
  )
  for (const feature of features) {
    const { geometry } = feature.toGeoJSON(133, 90, 8)
    const same = expected.find(({ id }: { id: string }) => id === feature.properties.id)
    const [longitude, latitude] = (geometry as { coordinates: number[] }).coordinates
    assert.ok(Math.abs(longitude! - same.geometry.coordinates[0]) < 0.0005)
    assert.ok(Math.abs(latitude! - same.geometry.coordinates[1]) < 0.0005)
  }
})

test('each point is in exactly one of the tiles next to each other', async () => {
  const parts = [
    [8, 90, 133],
    [9, 180, 266],
    [9, 180, 267],
    [9, 181, 266],
    [9, 181, 267],
  ]
  const [whole, ...quarters] = await Promise.all(
    parts.map(async (part) =>
      featuresOf(await tile(`/collections/cities/tiles/WebMercatorQuad/${part.join('/')}`), 'cities').map(
        ({ properties }) => properties.id,
      ),
    ),
  )
  assert.deepEqual(quarters.flat().toSorted(), whole!.toSorted())
})

test('the same tile is at the address of other servers, with the column first', async () => {
  const { body } = await tile('/collections/cities/tiles/WebMercatorQuad/8/90/133')
  for (const path of ['/collections/cities/8/133/90.mvt', '/cities/8/133/90.mvt'])
    assert.ok((await tile(path)).body.equals(body), path)
})

test('tiles in degrees have the same features', async () => {
  const answer = await tile('/collections/cities/tiles/WorldCRS84Quad/7/31/133')
  const features = featuresOf(answer, 'cities')
  const [west, south] = [-180 + 133 * 1.40625, 90 - 32 * 1.40625]
  const { numberMatched } = await json(
    `/collections/cities/items?filter=S_INTERSECTS(geom,BBOX(${west},${south},${west + 1.40625},${south + 1.40625}))&limit=1000`,
  )
  assert.ok(features.length > 0)
  assert.equal(features.length, numberMatched)
})

test('/req/core/tc-error: what is outside is not found, and what is empty has no content', async () => {
  const statusOf = async (path: string) => (await client(path)).status
  assert.equal(await statusOf('/collections/cities/tiles/WebMercatorQuad/14/8000/8000'), 204)
  assert.equal(await statusOf('/collections/counties/tiles/WebMercatorQuad/8/255/100'), 404)
  assert.equal(await statusOf('/collections/cities/tiles/WebMercatorQuad/25/0/0'), 404)
  assert.equal(await statusOf('/collections/cities/tiles/WebMercatorQuad/2/4/0'), 404)
  assert.equal(await statusOf('/collections/cities/tiles/Nothing/2/1/1'), 404)
  assert.equal(await statusOf('/collections/nothing/tiles/WebMercatorQuad/2/1/1'), 404)
})

test('/req/core/tc-tilematrix-definition, /req/core/tc-tilerow-definition, /req/core/tc-tilecol-definition: a row or a column that is no number is named', async () => {
  for (const [path, name] of [
    ['4/x/8', 'tileRow'],
    ['4/5/-1', 'tileCol'],
    ['4/5/1.5', 'tileCol'],
  ] as const) {
    const { status, json: problem } = await client(`/collections/cities/tiles/WebMercatorQuad/${path}`)
    assert.equal(status, 400, path)
    assert.equal(problem.parameter, name)
  }
})

test('a tile of too many points is thinned below the limit, and says how many are left out', async () => {
  const answer = await tile('/collections/cities/tiles/WebMercatorQuad/4/5/8')
  const features = featuresOf(answer, 'cities')
  assert.ok(answer.body.length <= 500_000 && features.length > 3_000, `${answer.body.length}`)
  const { count } = (
    await session.query<{ count: number }>(
      `select count(*)::int as count from cities where st_x(geom) >= 0 and st_x(geom) < 22.5
        and st_y(geom) >= 40.97989806962013 and st_y(geom) < 55.77657301866769`,
    )
  )[0]!
  assert.equal(features.length + leftOutOf(features), count)
  assert.equal(features.filter(({ properties }) => 'tessera_left_out' in properties).length, 1)
})

test('a point that is shown at one level is shown at the next', async () => {
  const path = '/collections/cities/tiles/WebMercatorQuad'
  const idsIn = async (part: string) =>
    featuresOf(await tile(`${path}/${part}`), 'cities').map(({ properties }) => properties.id)
  const finer = new Set((await Promise.all(['3/2/0', '3/2/1', '3/3/0', '3/3/1'].map(idsIn))).flat())
  const coarse = await idsIn('2/1/0')
  assert.ok(coarse.length > 300)
  assert.deepEqual(
    coarse.filter((id) => !finer.has(id)),
    [],
  )
})

test('areas at a low zoom are simplified, below the limit, and valid for a map', async () => {
  const answer = await tile('/collections/counties/tiles/WebMercatorQuad/2/1/0')
  const features = featuresOf(answer, 'counties')
  assert.ok(features.length > 1_000)
  assert.ok(answer.body.length < 200_000, `${answer.body.length}`)
  for (const feature of features) {
    assert.equal(feature.type, 3)
    for (const ring of feature.loadGeometry()) {
      assert.ok(ring.length >= 4)
      for (const { x, y } of ring) assert.ok(Math.min(x, y) >= -64 && Math.max(x, y) <= 4160)
    }
  }
})

test('clusters have as many points as there are, and what is their own if they are one', async () => {
  const { features: [one] = [] } = await json('/collections/cities/items?filter=name=%27Wolfenschiessen%27')
  const answer = await tile('/collections/cities/tiles/WebMercatorQuad/10/360/535?cluster=true')
  const clusters = featuresOf(answer, 'cities')
  const single = clusters.find(({ properties }) => properties.id === one.id)
  assert.equal(single?.properties.point_count, 1)
  assert.equal(single?.properties.name, 'Wolfenschiessen')
  const world = featuresOf(
    await tile('/collections/cities/tiles/WebMercatorQuad/0/0/0?cluster=true'),
    'cities',
  )
  const { count } = (await session.query<{ count: number }>('select count(*)::int as count from cities'))[0]!
  assert.ok(world.length <= 256)
  assert.equal(
    world.reduce((sum, { properties }) => sum + Number(properties.point_count), 0),
    count,
  )
  assert.equal(leftOutOf(world), 0)
  const { status, json: problem } = await client(
    '/collections/counties/tiles/WebMercatorQuad/2/1/0?cluster=true',
  )
  assert.equal(status, 400)
  assert.equal(problem.parameter, 'cluster')
})

test('a tile can be filtered, and have some of the properties', async () => {
  const path = '/collections/cities/tiles/WebMercatorQuad/6/22/33'
  const swiss = featuresOf(await tile(`${path}?country=CH&properties=name`), 'cities')
  const same = featuresOf(await tile(`${path}?filter=country=%27CH%27&properties=name`), 'cities')
  assert.ok(swiss.length > 100)
  assert.deepEqual(
    swiss.map(({ properties }) => properties.id).toSorted(),
    same.map(({ properties }) => properties.id).toSorted(),
  )
  for (const { properties } of swiss) assert.deepEqual(Object.keys(properties).toSorted(), ['id', 'name'])
  const inside = featuresOf(
    await tile(`${path}?filter=S_WITHIN(geom,POLYGON((7 46,8 46,8 47,7 47,7 46)))`),
    'cities',
  )
  assert.ok(inside.length > 50)
  for (const [query, name] of [
    ['limit=3', 'limit'],
    ['filter=nothing=1', 'filter'],
    ['properties=nothing', 'properties'],
    ['collections=cities', 'collections'],
    ['datetime=yesterday', 'datetime'],
  ]) {
    const { status, json: problem } = await client(`${path}?${query}`)
    assert.equal(status, 400, query)
    assert.equal(problem.parameter, name, query)
  }
})

test('the geometries of a filter can be in another system than the tile', async () => {
  const [box] = await session.query<{ text: string }>(
    'select ST_AsText(ST_Transform(ST_MakeEnvelope(8.3, 47.2, 8.8, 47.6, 4326), 3857)) as text',
  )
  const inSystem = (text: string, crs: string) =>
    tile(
      `/collections/cities/tiles/WebMercatorQuad/8/89/134?filter-crs=${crs}&filter=${encodeURIComponent(`S_INTERSECTS(geom, ${text})`)}`,
    )
  const projected = await inSystem(box!.text, 'http://www.opengis.net/def/crs/EPSG/0/3857')
  const plain = await inSystem('BBOX(8.3,47.2,8.8,47.6)', 'http://www.opengis.net/def/crs/OGC/1.3/CRS84')
  assert.equal(projected.status, 200)
  assert.ok(featuresOf(plain, 'cities').length > 5)
  assert.equal(featuresOf(projected, 'cities').length, featuresOf(plain, 'cities').length)
  const { status, body } = await inSystem(box!.text, 'http://www.opengis.net/def/crs/EPSG/0/2056')
  assert.deepEqual([status, JSON.parse(body.toString()).parameter], [400, 'filter-crs'])
})

test('/req/collections-selection/query-collections, /req/collections-selection/collections-response: a tile has the collections that are named, in their order', async () => {
  const path = '/tiles/WebMercatorQuad/2/1/0'
  assert.deepEqual(Object.keys((await tile(`${path}?collections=counties,countries`)).layers), [
    'counties',
    'countries',
  ])
  const byUrl = `${client.url}/collections/countries,cities`
  assert.deepEqual(Object.keys((await tile(`${path}?collections=${byUrl}`)).layers), ['countries', 'cities'])
  const { layers, body } = await tile(path)
  for (const name of ['counties', 'countries', 'cities']) assert.ok(layers[name], name)
  assert.ok(body.length <= 500_000)
  const tileset = await json('/tiles/WebMercatorQuad?collections=countries')
  assert.deepEqual(
    tileset.layers.map(({ id }: { id: string }) => id),
    ['countries'],
  )
  assert.match(linksOf(tileset, 'item')[0]!.href, /\?collections=countries$/)
  for (const names of ['', ',', 'cities,', Array(51).fill('cities').join()]) {
    const refused = await client(`${path}?collections=${names}`)
    assert.deepEqual([refused.status, refused.json.parameter], [400, 'collections'], names)
    assert.match(refused.json.detail, /1 to 50 ids of collections/)
  }
  const { status, json: problem } = await client(`${path}?collections=cities,nothing`)
  assert.equal(status, 400)
  assert.equal(problem.parameter, 'collections')
})

test('a tile that has not changed is not sent again', async () => {
  const path = '/collections/countries/tiles/WebMercatorQuad/3/2/4'
  const { headers } = await tile(path)
  const tag = headers.get('etag')!
  const again = await tile(path, { 'if-none-match': tag })
  assert.equal(again.status, 304)
  assert.equal(again.body.length, 0)
})

test('TileJSON and a style for MapLibre lead to the tiles', async () => {
  for (const origin of ['', '/collections/cities']) {
    const style = await json(`${origin}/style.json`)
    assert.equal(style.version, 8)
    const tilejson = await json(style.sources.tessera.url)
    assert.equal(tilejson.tilejson, '3.0.0')
    const { layers } = await tile(
      tilejson.tiles[0].replace('{z}', '8').replace('{x}', '133').replace('{y}', '90'),
    )
    assert.ok(layers.cities)
    const known = tilejson.vector_layers.map(({ id }: { id: string }) => id)
    for (const layer of style.layers.filter((one: { source?: string }) => one.source))
      assert.ok(known.includes(layer['source-layer']))
    const { json: same } = await client(`${origin}/tiles/WebMercatorQuad?f=tilejson`)
    assert.deepEqual(same, tilejson)
  }
})

test('/req/oas30/completeness, /req/oas30/operation-id: the definition of the API has the paths of tiles', async () => {
  const { paths } = await json('/api')
  const idOf = (path: string) => paths[path].get.operationId as string
  assert.match(idOf('/collections/{collectionId}/tiles'), /\.collection\.vector\.getTileSetsList$/)
  assert.match(
    idOf('/collections/{collectionId}/tiles/{tileMatrixSetId}'),
    /\.collection\.vector\.getTileSet$/,
  )
  const one = '/collections/{collectionId}/tiles/{tileMatrixSetId}/{tileMatrix}/{tileRow}/{tileCol}'
  assert.match(idOf(one), /\.collection\.vector\.getTile$/)
  assert.match(idOf('/tiles'), /\.dataset\.vector\.getTileSetsList$/)
  assert.match(idOf('/tiles/{tileMatrixSetId}'), /\.dataset\.vector\.getTileSet$/)
  assert.match(
    idOf('/tiles/{tileMatrixSetId}/{tileMatrix}/{tileRow}/{tileCol}'),
    /\.dataset\.vector\.getTile$/,
  )
})

test('a tile shows a change to the client that sends its token', async () => {
  await session.query('create table tile_changes (id int primary key, name text, geom geometry(Point, 4326))')
  await distributeById(session, 'tile_changes')
  await catalog.reload()
  const place = '/collections/tile_changes/tiles/WebMercatorQuad/8/90/133'
  for (const id of [1, 2, 3]) {
    const change = await client('/collections/tile_changes/items', {
      method: 'POST',
      headers: { 'content-type': 'application/geo+json' },
      body: JSON.stringify({
        type: 'Feature',
        id,
        geometry: { type: 'Point', coordinates: [7.5, 46.5] },
        properties: { name: 'new' },
      }),
    })
    assert.equal(change.status, 201, change.text)
    const token = change.headers.get('consistency-token')
    const answer = await tile(place, token ? { 'consistency-token': token } : {})
    assert.equal(featuresOf(answer, 'tile_changes').length, id)
    assert.match(answer.headers.get('tessera-source')!, /primary|secondary/)
  }
})
