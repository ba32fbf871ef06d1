// Tests which geometries are accepted, and why others are refused.

import assert from 'node:assert/strict'
import { test } from 'node:test'
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
  ['four numbers', { type: 'Point', coordinates: [1, 2, 3, 4] }, /4 numbers/],
  ['text', { type: 'Point', coordinates: ['1', 2] }, /"1" where a number/],
  ['not a number', { type: 'Point', coordinates: [Number.NaN, 2] }, /null where a number/],
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
