// Tests tile matrix sets: their definitions, and where tiles are.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { GatewayError } from '../../errors.ts'
import {
  boundsOf,
  gridOf,
  groundOf,
  isWithin,
  limitsOf,
  parseTile,
  TILE_MATRIX_SETS,
  type Tile,
  tileMatrixSetDocument,
  tileMatrixSetOf,
  WEB_MERCATOR_QUAD,
  WORLD_CRS84_QUAD,
} from '../../features/tiles/tile-matrix-set.ts'

const isNear = (value: number, expected: number) => Math.abs(value / expected - 1) < 1e-9

test('/conf/tilematrixset: the definitions have the numbers of the register of OGC', () => {
  const mercator = tileMatrixSetDocument(WEB_MERCATOR_QUAD)
  assert.equal(mercator.tileMatrices.length, 25)
  assert.equal(mercator.crs, 'http://www.opengis.net/def/crs/EPSG/0/3857')
  const [first] = mercator.tileMatrices
  assert.ok(isNear(first!.scaleDenominator, 559082264.028717))
  assert.ok(isNear(first!.cellSize, 156543.033928041))
  assert.ok(isNear(first!.pointOfOrigin[0]!, -20037508.3427892))
  assert.ok(isNear(mercator.tileMatrices[24]!.cellSize, 0.0093306919293428))
  assert.equal(mercator.tileMatrices[5]!.matrixWidth, 32)
  const degrees = tileMatrixSetDocument(WORLD_CRS84_QUAD)
  assert.equal(degrees.tileMatrices.length, 24)
  assert.deepEqual(degrees.orderedAxes, ['Lon', 'Lat'])
  assert.ok(isNear(degrees.tileMatrices[0]!.scaleDenominator, 279541132.014358))
  assert.equal(degrees.tileMatrices[0]!.cellSize, 0.703125)
  assert.deepEqual(
    degrees.tileMatrices.slice(0, 3).map(({ matrixWidth, matrixHeight }) => [matrixWidth, matrixHeight]),
    [
      [2, 1],
      [4, 2],
      [8, 4],
    ],
  )
})

test('tiles that are next to each other share their edge to the last bit', () => {
  for (const set of TILE_MATRIX_SETS)
    for (const level of [0, 1, 7, 16]) {
      const at = (row: number, column: number) => groundOf({ set, level, row, column })
      const most = 2 ** level - 1
      for (const step of [0, 0.3, 0.9].map((share) => Math.floor(share * most))) {
        if (step === most) continue
        assert.equal(at(0, step).maxLongitude, at(0, step + 1).minLongitude)
        assert.equal(at(step, 0).minLatitude, at(step + 1, 0).maxLatitude)
      }
    }
})

test('a grid in a tile has the edges of finer tiles, and the far edges of the world are inside', () => {
  const at = (level: number, row: number, column: number) => ({ set: WEB_MERCATOR_QUAD, level, row, column })
  const sidesOf = (one: Tile) => {
    const { minLongitude, minLatitude, maxLongitude, maxLatitude } = groundOf(one)
    return [minLongitude, minLatitude, maxLongitude, maxLatitude] as const
  }
  const coarse = gridOf(at(4, 5, 8), 3, sidesOf)
  const south = gridOf(at(5, 11, 17), 2, sidesOf)
  assert.equal(coarse.across.length, 9)
  assert.deepEqual(coarse.across.slice(4), south.across)
  assert.deepEqual(coarse.up.slice(0, 5), south.up)
  assert.deepEqual(
    coarse.up.toSorted((a, b) => a - b),
    coarse.up,
  )
  assert.ok(gridOf(at(0, 0, 0), 3, sidesOf).across[8]! > 180)
  assert.equal(gridOf(at(1, 0, 0), 3, sidesOf).across[8], 0)
})

test('a tile is where others have it', () => {
  const tile = parseTile(WEB_MERCATOR_QUAD, '4', 5, 8)
  const { minLongitude, maxLongitude, minLatitude, maxLatitude } = groundOf(tile)
  assert.deepEqual([minLongitude, maxLongitude], [0, 22.5])
  assert.ok(Math.abs(minLatitude - 40.97989806962013) < 1e-9)
  assert.ok(Math.abs(maxLatitude - 55.77657301866769) < 1e-9)
  const [left, bottom, right, top] = boundsOf(tile)
  assert.ok(Math.abs(right - left - (top - bottom)) < 1e-6)
})

test('limits are the tiles that a box meets', () => {
  const limits = limitsOf(WEB_MERCATOR_QUAD, [5, 45, 11, 48])
  assert.deepEqual(limits[4], {
    tileMatrix: '4',
    minTileRow: 5,
    maxTileRow: 5,
    minTileCol: 8,
    maxTileCol: 8,
  })
  assert.ok(isWithin(parseTile(WEB_MERCATOR_QUAD, '4', 5, 8), limits))
  assert.ok(!isWithin(parseTile(WEB_MERCATOR_QUAD, '4', 5, 9), limits))
  const whole = limitsOf(WORLD_CRS84_QUAD, undefined)
  assert.deepEqual(whole[1], {
    tileMatrix: '1',
    minTileRow: 0,
    maxTileRow: 1,
    minTileCol: 0,
    maxTileCol: 3,
  })
})

test('what is no tile of a set is refused with the bounds that would be right', () => {
  const refused = (work: () => unknown) => {
    try {
      work()
    } catch (error) {
      assert.ok(error instanceof GatewayError)
      return [error.code, error.message] as const
    }
    return assert.fail('nothing was refused')
  }
  for (const matrix of ['25', '-1', 'x', '1.5', '007', ''])
    assert.equal(refused(() => parseTile(WEB_MERCATOR_QUAD, matrix, 0, 0))[0], 'tile-not-found', matrix)
  const [code, message] = refused(() => parseTile(WEB_MERCATOR_QUAD, '3', 8, 0))
  assert.equal(code, 'tile-not-found')
  assert.match(message, /rows 0 to 7/)
  assert.equal(refused(() => tileMatrixSetOf('webmercatorquad'))[0], 'tile-matrix-set-not-found')
})
