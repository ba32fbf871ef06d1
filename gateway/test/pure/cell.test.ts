// Tests the grid of cells: the cell of a feature, and that features that intersect a box are in the cells of the box.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  cellOf,
  cellsOf,
  chooseLevel,
  footprintOf,
  MAX_LEVEL,
  NOWHERE,
  OVERSIZE,
} from '../../features/sharding/cell.ts'
import type { Box } from '../../features/values/box.ts'
import { makeRandom } from '../support/random.ts'

const box = (west: number, south: number, east = west, north = south): Box => ({
  minLongitude: west,
  minLatitude: south,
  maxLongitude: east,
  maxLatitude: north,
})

test('a cell is the quadkey of the centre', () => {
  // 0 is in the north-west, 1 next to it, 2 and 3 below.
  assert.deepEqual(
    [box(-90, 45), box(90, 45), box(-90, -45), box(90, -45)].map((one) => cellOf(one, 1)),
    [0, 1, 2, 3],
  )
  assert.equal(
    cellOf(box(13.4, 52.5), 8).toString(4),
    cellOf(box(13.4, 52.5), MAX_LEVEL).toString(4).padStart(15, '0').slice(0, 8).replace(/^0+/, ''),
  )
  assert.equal(cellOf(box(-180, 90), 8), 0)
  assert.equal(cellOf(box(180, -90), 8), 4 ** 8 - 1)
})

test('features larger than a cell, and features without a location, have cells of their own', () => {
  assert.equal(cellOf(undefined, 8), NOWHERE)
  assert.notEqual(cellOf(box(0, 0, 360 / 2 ** 8, 180 / 2 ** 8), 8), OVERSIZE)
  assert.equal(cellOf(box(0, 0, 360 / 2 ** 8 + 1e-9, 0), 8), OVERSIZE)
  assert.equal(cellOf(box(-180, -90, 180, 90), 1), OVERSIZE)
  assert.equal(cellOf(box(-180, -90, 180, 90), 0), 0)
  assert.equal(cellOf(box(-400, 0, 400, 0), 0), OVERSIZE)
})

test('a feature that intersects a box is in one of the cells computed for the box', () => {
  const random = makeRandom(7)
  const from = (least: number, most: number) => least + random() * (most - least)
  // Half of the values are on the border of a cell.
  const snapped = (value: number, step: number) => (random() < 0.5 ? value : Math.round(value / step) * step)
  for (let number = 0; number < 200_000; number++) {
    const level = Math.floor(random() * (MAX_LEVEL + 1))
    const [width, height] = [360 / 2 ** level, 180 / 2 ** level]
    const isPoint = random() < 0.3
    const west = snapped(from(-180, 180), width)
    const south = snapped(from(-90, 90), height)
    const [across, up] = isPoint
      ? [0, 0]
      : [snapped(from(0, 1.5 * width), width), snapped(from(0, 1.5 * height), height)]
    const feature = box(west, south, Math.min(west + across, 180), Math.min(south + up, 90))
    // A box that at least touches the feature.
    const left = random() < 0.5 ? feature.maxLongitude : feature.minLongitude - from(0, 2 * width)
    const bottom = random() < 0.5 ? feature.maxLatitude : feature.minLatitude - from(0, 2 * height)
    const query = box(
      Math.max(left, -180),
      Math.max(bottom, -90),
      Math.min(Math.max(left + from(0, 2 * width), feature.minLongitude), 180),
      Math.min(Math.max(bottom + from(0, 2 * height), feature.minLatitude), 90),
    )
    const cells = cellsOf([query], level, !isPoint, 100)
    assert.ok(cells, 'so few cells are named')
    assert.ok(cells.includes(cellOf(feature, level)), JSON.stringify({ level, feature, query }))
  }
})

test('a box of a city has one cell; for a box of a continent no cells are listed', () => {
  assert.equal(cellsOf([box(13.09, 52.34, 13.76, 52.68)], 8, false, 16)?.length, 1)
  assert.equal(cellsOf([box(-10, 35, 30, 70)], 8, false, 16), undefined)
  assert.equal(cellsOf([box(179.9, 0.1, 180, 0.2), box(-180, 0.1, -179.9, 0.2)], 8, false, 16)?.length, 2)
})

test('the level is finer if features are close together, and coarser if many are large', () => {
  const random = makeRandom(3)
  const places = (count: number, spread: number, size: number) =>
    Array.from({ length: count }, () => {
      const [x, y] = [random() * spread, random() * spread]
      return footprintOf(box(x, y, x + size, y + size / 2))
    })
  assert.equal(chooseLevel(places(10_000, 90, 0), 32), 8)
  assert.ok(chooseLevel(places(10_000, 0.5, 0), 32) >= 12)
  assert.equal(chooseLevel(places(10_000, 80, 5), 32), 6)
  assert.ok(chooseLevel(places(20, 0.5, 0), 32) <= 10)
  assert.equal(chooseLevel([], 32), 8)
})
