// Tests which geometries are accepted, and why others are refused.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseExactJson } from '../../features/values/exact-json.ts'
import { foreignCrsOf } from '../../features/values/geojson-crs.ts'
import { parseGeometry } from '../../features/values/geometry.ts'

const ring = [
  [0, 0],
  [1, 0],
  [1, 1],
  [0, 0],
]

test('every type of RFC 7946 is accepted, and its text is GeoJSON', () => {
  const geometries = [
    { type: 'Point', coordinates: [1, 2] },
    { type: 'MultiPoint', coordinates: [[1, 2]] },
    {
      type: 'LineString',
      coordinates: [
        [0, 0],
        [1, 1],
      ],
    },
    {
      type: 'MultiLineString',
      coordinates: [
        [
          [0, 0],
          [1, 1],
        ],
      ],
    },
    { type: 'Polygon', coordinates: [ring] },
    { type: 'MultiPolygon', coordinates: [[ring], [ring]] },
    { type: 'GeometryCollection', geometries: [{ type: 'Point', coordinates: [1, 2] }] },
    { type: 'Polygon', coordinates: [] },
    { type: 'Point', coordinates: [] },
  ]
  for (const geometry of geometries) assert.deepEqual(JSON.parse(parseGeometry(geometry).text), geometry)
})

test('a geometry with heights is three-dimensional', () => {
  assert.equal(parseGeometry({ type: 'Point', coordinates: [1, 2, 3] }).dimension, 3)
})

const refusals: [string, unknown, RegExp][] = [
  ['null', null, /not an object/],
  ['another type', { type: 'Circle', coordinates: [0, 0] }, /type "Circle"/],
  ['one number', { type: 'Point', coordinates: [1] }, /1 numbers/],
  ['text', { type: 'Point', coordinates: ['1', 2] }, /"1" where a number/],
  ['not a number', { type: 'Point', coordinates: [Number.NaN, 2] }, /NaN where a number/],
  ['out of range', { type: 'Point', coordinates: [181, 2] }, /longitude 181/],
  ['swapped axes', { type: 'Point', coordinates: [2, 91] }, /latitude 91/],
  [
    'an open ring',
    {
      type: 'Polygon',
      coordinates: [
        [
          [0, 0],
          [1, 0],
          [1, 1],
          [0, 1],
        ],
      ],
    },
    /not closed/,
  ],
  [
    'a short ring',
    {
      type: 'Polygon',
      coordinates: [
        [
          [0, 0],
          [1, 0],
          [0, 0],
        ],
      ],
    },
    /fewer than 4/,
  ],
  ['a line of one point', { type: 'LineString', coordinates: [[0, 0]] }, /fewer than 2/],
  [
    'mixed dimensions',
    {
      type: 'LineString',
      coordinates: [
        [0, 0],
        [1, 1, 1],
      ],
    },
    /mixes/,
  ],
  [
    'wrong nesting',
    {
      type: 'Polygon',
      coordinates: [
        [0, 0],
        [1, 1],
      ],
    },
    /not nested/,
  ],
]
for (const [what, value, reason] of refusals) {
  test(`refused: ${what}`, () => assert.throws(() => parseGeometry(value), { message: reason }))
}

test('nested geometry collections have a maximum depth', () => {
  let geometry: unknown = { type: 'Point', coordinates: [0, 0] }
  for (let depth = 0; depth < 100; depth++) geometry = { type: 'GeometryCollection', geometries: [geometry] }
  assert.throws(() => parseGeometry(geometry), /deep/)
})

const coordinatesOf = (geometry: object) => JSON.parse(parseGeometry(geometry).text).coordinates

test('positions just beyond the edge of the world are put on it, and others beyond it are refused', () => {
  const { text, extent } = parseGeometry({
    type: 'LineString',
    coordinates: [
      [180.0000000000002, 90.00000000001, 5],
      [-180.0000000005, -90, 6],
    ],
  })
  assert.deepEqual(JSON.parse(text).coordinates, [
    [180, 90, 5],
    [-180, -90, 6],
  ])
  assert.deepEqual(extent, { minLongitude: -180, maxLongitude: 180, minLatitude: -90, maxLatitude: 90 })
  for (const position of [
    [180.00001, 0],
    [0, -90.00001],
  ])
    assert.throws(() => parseGeometry({ type: 'Point', coordinates: position }), { message: /outside/ })
})

test('rings whose ends are apart by a rounding error are closed with the first position', () => {
  const almost = [...ring.slice(0, -1), [0, 1e-13]]
  assert.deepEqual(coordinatesOf({ type: 'Polygon', coordinates: [ring, almost] }), [ring, ring])
  assert.deepEqual(coordinatesOf({ type: 'MultiPolygon', coordinates: [[], [almost]] }), [[], [ring]])
  const apart = [...ring.slice(0, -1), [0, 1e-6]]
  assert.throws(() => parseGeometry({ type: 'Polygon', coordinates: [apart] }), { message: /not closed/ })
})

test('numbers of a position beyond the third are left out, and the result says so', () => {
  const parsed = parseGeometry({
    type: 'MultiPoint',
    coordinates: [
      [1, 2, 3, 4],
      [5, 6, 7, 8, 9],
    ],
  })
  assert.deepEqual(JSON.parse(parsed.text).coordinates, [
    [1, 2, 3],
    [5, 6, 7],
  ])
  assert.deepEqual([parsed.dimension, parsed.hasFurtherNumbers], [3, true])
  assert.equal(parseGeometry({ type: 'Point', coordinates: [1, 2, 3] }).hasFurtherNumbers, false)
})

test('coordinates with more digits than a double has are rounded to one, and an infinite one is refused', () => {
  const point = (x: string) => parseExactJson(`{"type":"Point","coordinates":[${x},2]}`, 'all') as object
  assert.deepEqual(coordinatesOf(point('1.00000000000000000001')), [1, 2])
  assert.throws(() => parseGeometry(point('1e400')), { message: /has "1e400" where a number belongs/ })
})

test('a crs that means longitude and latitude in WGS 84 is understood, in every old form', () => {
  const named = (name: unknown) => ({ type: 'name', properties: { name } })
  const understood = [
    undefined,
    null,
    ...[
      'EPSG:4326',
      'epsg:4326',
      'urn:ogc:def:crs:EPSG::4326',
      'urn:ogc:def:crs:EPSG:6.6:4326',
      'urn:x-ogc:def:crs:EPSG:4326',
      'http://www.opengis.net/def/crs/EPSG/0/4326',
      'CRS84',
      'OGC:CRS84',
      'urn:ogc:def:crs:OGC:1.3:CRS84',
      'urn:ogc:def:crs:OGC::CRS84',
      'https://www.opengis.net/def/crs/OGC/1.3/CRS84',
      'http://www.opengis.net/def/crs/OGC/0/CRS84h',
      'WGS84',
      'EPSG:4979',
    ].map(named),
    'EPSG:4326',
    { type: 'EPSG', properties: { code: 4326 } },
    { type: 'EPSG', properties: { code: '4326' } },
    { type: 'OGC', properties: { urn: 'urn:ogc:def:crs:OGC:1.3:CRS84' } },
    { type: 'link', properties: { href: 'http://spatialreference.org/ref/epsg/4326/proj4/', type: 'proj4' } },
  ]
  for (const crs of understood) assert.equal(foreignCrsOf(crs), undefined, JSON.stringify(crs))
  const refused: [unknown, string][] = [
    [named('EPSG:3857'), 'EPSG:3857'],
    [named('urn:ogc:def:crs:EPSG::43260'), 'urn:ogc:def:crs:EPSG::43260'],
    [named('urn:ogc:def:crs:EPSG::14326'), 'urn:ogc:def:crs:EPSG::14326'],
    [named('http://example.org/CRS84/other'), 'http://example.org/CRS84/other'],
    [{ type: 'EPSG', properties: { code: 25832 } }, 'EPSG:25832'],
    [{ type: 'link', properties: { href: 'http://example.org/a.prj' } }, 'http://example.org/a.prj'],
    ['EPSG:31370', 'EPSG:31370'],
    [named('constructor'), 'constructor'],
    [{}, '{}'],
    [7, '7'],
    [false, 'false'],
  ]
  for (const [crs, name] of refused) assert.equal(foreignCrsOf(crs), name)
})

test('a geometry in another crs is refused, also within a collection', () => {
  const crs = { type: 'name', properties: { name: 'EPSG:3857' } }
  const part = { type: 'Point', coordinates: [1, 2], crs }
  const reason = /has the crs EPSG:3857; coordinates must be .*ogr2ogr/
  assert.throws(() => parseGeometry(part), { message: reason })
  assert.throws(() => parseGeometry({ type: 'GeometryCollection', geometries: [part] }), { message: reason })
  assert.equal(parseGeometry({ ...part, crs: null }).text, '{"type":"Point","coordinates":[1,2]}')
})
