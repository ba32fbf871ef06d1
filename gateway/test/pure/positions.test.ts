// Tests how pages list the positions of a geometry.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { listPositions } from '../../http/html/assets/positions.js'

const AXES = ['Easting', 'Northing']
const list = (geometry: Parameters<typeof listPositions>[0]) => listPositions(geometry, AXES)

test('a row has a position, and the number of its part only if there are several', () => {
  assert.deepEqual(list({ coordinates: [1, 2.5] }), { head: AXES, rows: [['1', '2.5']] })
  assert.deepEqual(
    list({
      coordinates: [
        [
          [1, 2],
          [3, 4],
        ],
      ],
    }).rows,
    [
      ['1', '2'],
      ['3', '4'],
    ],
  )
  assert.deepEqual(list({ coordinates: [[[[1, 2]], [[3, 4]]], [[[5, 6]]]] }), {
    head: ['Part', ...AXES],
    rows: [
      ['1.1', '1', '2'],
      ['1.2', '3', '4'],
      ['2.1', '5', '6'],
    ],
  })
  const collection = { geometries: [{ coordinates: [1, 2] }, { coordinates: [[3, 4]] }] }
  assert.deepEqual(list(collection).rows, [
    ['1', '1', '2'],
    ['2', '3', '4'],
  ])
})

test('heights have a column, and what is empty has no row', () => {
  assert.deepEqual(list({ coordinates: [1, 2, 3] }).head, [...AXES, 'Height'])
  for (const geometry of [null, { coordinates: [] }, { coordinates: [[]] }, { geometries: [] }])
    assert.deepEqual(list(geometry), { head: AXES, rows: [] })
})
