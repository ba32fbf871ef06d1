// Tests which bbox parameters are valid, and which boxes they mean.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseBbox } from '../../features/values/bbox.ts'

const longitudes = (...numbers: number[]) =>
  parseBbox(numbers).boxes.map((box) => [box.minLongitude, box.maxLongitude])

test('four numbers are one box', () => {
  assert.deepEqual(parseBbox([5, 45, 11, 48]), {
    boxes: [{ minLongitude: 5, minLatitude: 45, maxLongitude: 11, maxLatitude: 48 }],
    heights: undefined,
  })
})

test('six numbers include heights', () => {
  assert.deepEqual(parseBbox([5, 45, 0, 11, 48, 100]).heights, [0, 100])
})

test('a box whose west is east of its east crosses the antimeridian', () => {
  assert.deepEqual(longitudes(170, -50, -170, 50), [
    [170, 180],
    [-180, -170],
  ])
})

test('longitudes beyond 180 degrees, as from a map that repeats the world, are valid', () => {
  assert.deepEqual(longitudes(-190, 0, -170, 1), [
    [170, 180],
    [-180, -170],
  ])
  assert.deepEqual(longitudes(185, 0, 190, 1), [[-175, -170]])
  assert.deepEqual(longitudes(-220, 0, 220, 1), [[-180, 180]])
})

test('a point, a line and a pole are valid too', () => {
  assert.deepEqual(longitudes(7, 50, 7, 50), [[7, 7]])
  assert.equal(parseBbox([-180, 90, 180, 90]).boxes.length, 1)
})

test('an invalid bbox is refused, and the error shows a valid one', () => {
  for (const numbers of [
    [1, 2, 3],
    [1, 2, 3, 4, 5],
    [0, 91, 1, 92],
    [0, 5, 1, 4],
    [0, 0, 9, 1, 1, 1],
    [1e6, 0, 1e6, 1],
  ]) {
    assert.throws(() => parseBbox(numbers), {
      code: 'parameter-invalid',
      message: /^bbox must be .* for example bbox=5,45/,
    })
  }
})

test('any box in range becomes boxes in range', () => {
  const longitude = fc.double({ min: -540, max: 540, noNaN: true })
  const latitude = fc.double({ min: -90, max: 90, noNaN: true })
  fc.assert(
    fc.property(longitude, longitude, latitude, latitude, (west, east, a, b) => {
      const { boxes } = parseBbox([west, Math.min(a, b), east, Math.max(a, b)])
      for (const box of boxes) {
        assert.ok(box.minLongitude >= -180 && box.maxLongitude <= 180 && box.minLongitude <= box.maxLongitude)
      }
    }),
  )
})
