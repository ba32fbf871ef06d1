// Tests how polygons that were drawn for a globe are cut for a flat map.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cutPolygon } from '../../features/import/antimeridian.ts'

const square = [
  [
    [0, 0],
    [10, 0],
    [10, 10],
    [0, 10],
    [0, 0],
  ],
]

/** Returns twice the area, by the shoelace formula. */
const areaOf = (ring: readonly (readonly number[])[]) =>
  Math.abs(
    ring.slice(1).reduce((sum, [x, y], index) => sum + ring[index]![0]! * y! - x! * ring[index]![1]!, 0),
  )

test('a polygon that does not cross the antimeridian is returned as it is', () => {
  assert.equal(cutPolygon(square)[0], square)
})

test('a polygon that crosses it becomes two, with the same area', () => {
  const island = [
    [
      [170, 0],
      [-170, 0],
      [-170, 10],
      [170, 10],
      [170, 0],
    ],
  ]
  const parts = cutPolygon(island)
  assert.equal(parts.length, 2)
  for (const [ring] of parts) {
    assert.deepEqual(ring!.at(0), ring!.at(-1))
    assert.equal(areaOf(ring!), 200)
    assert.ok(ring!.every(([longitude]) => Math.abs(longitude!) >= 170 && Math.abs(longitude!) <= 180))
  }
})

test('a hole stays in the part that contains it', () => {
  const hole = [
    [-178, 2],
    [-178, 4],
    [-176, 4],
    [-176, 2],
    [-178, 2],
  ]
  const parts = cutPolygon([
    [
      [170, 0],
      [-170, 0],
      [-170, 10],
      [170, 10],
      [170, 0],
    ],
    hole,
  ])
  assert.deepEqual(parts.map((rings) => rings.length).toSorted(), [1, 2])
})

test('a continent around the pole reaches the pole', () => {
  const pole = [
    [-180, -89.999],
    [0, -89.999],
    [179, -89.999],
    [-180, -89.999],
  ]
  const coast = [
    [-180, -70],
    [-90, -65],
    [0, -70],
    [90, -65],
    [179, -70],
    [-180, -70],
  ]
  for (const drawn of [coast, coast.toReversed(), [...coast.slice(2, -1), ...coast.slice(0, 3)]]) {
    const [[ring]] = cutPolygon([pole, drawn]) as [[number[][]]]
    assert.deepEqual(ring!.at(0), ring!.at(-1))
    assert.ok(areaOf(ring!) > 2 * 360 * 20 && areaOf(ring!) < 2 * 360 * 25, String(areaOf(ring!)))
  }
})
