// Tests how geometries become shapes for drawing, and shapes geometries.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Geometry, Position } from 'geojson'
import { areaAround, geometryOf, isShape, shapesOf } from '../../http/html/assets/shapes.js'

/** A square around a place, counter-clockwise. */
const square = (x: number, y: number, half: number): Position[] => [
  [x - half, y - half],
  [x + half, y - half],
  [x + half, y + half],
  [x - half, y + half],
  [x - half, y - half],
]
const hole = (x: number, y: number, half: number) => square(x, y, half).toReversed()

const geometries: Geometry[] = [
  { type: 'Point', coordinates: [1, 2] },
  {
    type: 'MultiPoint',
    coordinates: [
      [1, 2],
      [3, 4],
    ],
  },
  {
    type: 'LineString',
    coordinates: [
      [1, 2],
      [3, 4],
      [5, 5],
    ],
  },
  {
    type: 'MultiLineString',
    coordinates: [
      [
        [1, 2],
        [3, 4],
      ],
    ],
  },
  { type: 'Polygon', coordinates: [square(0, 0, 5), hole(1, 1, 1), hole(-2, -2, 1)] },
  // An island in the lake of another part.
  {
    type: 'MultiPolygon',
    coordinates: [
      [square(0, 0, 5), hole(0, 0, 4)],
      [square(0, 0, 2), hole(0, 0, 1)],
    ],
  },
]

test('a geometry is the same after it was taken apart into shapes and put together', () => {
  for (const geometry of geometries)
    assert.deepEqual(geometryOf(shapesOf(geometry)!, geometry.type.startsWith('Multi')), geometry)
  assert.equal(geometryOf(shapesOf(null)!, false), null)
  assert.equal(shapesOf({ type: 'GeometryCollection', geometries: [] }), undefined)
})

test('a drawn hole belongs to the smallest area around it, whatever their order and direction', () => {
  const shapes = [
    shapesOf({ type: 'Polygon', coordinates: [square(0, 0, 1)] })![0]!,
    ...shapesOf({
      type: 'MultiPolygon',
      coordinates: [[hole(0, 0, 5)], [square(0, 0, 3)], [square(20, 0, 2)]],
    })!,
  ]
  const [drawn, large, small, aside] = shapes
  const asHole = { ...drawn!, properties: { mode: 'hole' } }
  assert.equal(areaAround(asHole, [large!, small!, aside!]), small)
  assert.equal(areaAround(asHole, [aside!]), undefined)
  assert.deepEqual(geometryOf([asHole, large!, small!], false), {
    type: 'MultiPolygon',
    coordinates: [[square(0, 0, 5)], [square(0, 0, 3), hole(0, 0, 1)]],
  })
})

test('points that only help to draw, and what is not complete, are no part of a geometry', () => {
  const [area] = shapesOf({ type: 'Polygon', coordinates: [square(0, 0, 5)] })!
  const helper = { ...area!, geometry: { type: 'Point', coordinates: [0, 0] } }
  const begun = { ...area!, properties: { mode: 'area', currentlyDrawing: true } }
  assert.deepEqual([area!, helper, begun].filter(isShape), [area])
})
