// Owns the grid that features are sharded by: a place → its cell, boxes → the cells that can hold what meets them.

import type { Box } from '../values/box.ts'

/**
 * At a level the globe is cut into 2^level columns and 2^level rows of equal degrees. A cell's number is its
 * quadkey, read in base 4: dropping the last digit gives the cell around it, one level up. Numbers of this
 * level are below 2^30, and so fit into PostgreSQL's integer.
 */
export const MAX_LEVEL = 15

/** The cell of features that are larger than any cell of the level, and so may reach into every one. */
export const OVERSIZE = -1
/** The cell of features that are at no place: without a geometry, or with an empty one. */
export const NOWHERE = -2

/** What of a feature's extent decides on its cell, at whatever level. */
export type Place = {
  /** Of the centre, at MAX_LEVEL. */
  readonly quadkey: number
  /** The finest level at which the feature is no larger than a cell; -1 where it is larger than the globe. */
  readonly finest: number
}

export function placeOf({ minLongitude, minLatitude, maxLongitude, maxLatitude }: Box): Place {
  const size = Math.max((maxLongitude - minLongitude) / 360, (maxLatitude - minLatitude) / 180)
  let finest = MAX_LEVEL
  while (finest >= 0 && size * 2 ** finest > 1) finest--
  const column = columnAt((minLongitude + maxLongitude) / 2, MAX_LEVEL)
  const row = rowAt((minLatitude + maxLatitude) / 2, MAX_LEVEL)
  return { quadkey: quadkeyOf(column, row), finest }
}

export function cellAt(place: Place | undefined, level: number): number {
  if (!place) return NOWHERE
  return level > place.finest ? OVERSIZE : place.quadkey >> (2 * (MAX_LEVEL - level))
}

/** The cell of a feature with this extent. sql/0002_cells.sql computes the same. */
export const cellOf = (extent: Box | undefined, level: number) => cellAt(extent && placeOf(extent), level)

/** About the size of a large city and its surroundings, which one shard then answers for. */
const DEFAULT_LEVEL = 8
/** So many that shards are of like size, whichever cells fall to which. */
const CELLS_PER_SHARD = 8
/** Where there are few features, not one cell for each. */
const FEATURES_PER_CELL = 10
/** Features in the oversize cell are looked through by every query. */
const MAX_OVERSIZE = 0.02

/** The level for features like these: finer where they lie close together, coarser where many are large. */
export function chooseLevel(places: readonly Place[], shards: number): number {
  const enough = Math.min(CELLS_PER_SHARD * shards, places.length / FEATURES_PER_CELL)
  const countCells = (level: number) => new Set(places.map((place) => cellAt(place, level))).size
  const countOversize = (level: number) => places.filter(({ finest }) => finest < level).length
  let level = DEFAULT_LEVEL
  while (level < MAX_LEVEL && countCells(level) < enough) level++
  while (level > 0 && countOversize(level) > MAX_OVERSIZE * places.length) level--
  return level
}

/** With a hair more, for what rounding does. */
const HALF = 0.5 + 1e-9

/**
 * The cells to look in for features that meet a box; undefined where there would be more than `most`.
 * @param hasExtent whether features can be more than points: then their centres, which decide on the cell,
 * may lie up to half a cell outside of the box
 */
export function cellsOf(
  boxes: readonly Box[],
  level: number,
  hasExtent: boolean,
  most: number,
): number[] | undefined {
  const reach = hasExtent ? HALF / 2 ** level : 0
  const cells = new Set<number>(hasExtent ? [OVERSIZE] : [])
  for (const { minLongitude, minLatitude, maxLongitude, maxLatitude } of boxes) {
    const west = columnAt(minLongitude - reach * 360, level)
    const east = columnAt(maxLongitude + reach * 360, level)
    const north = rowAt(maxLatitude + reach * 180, level)
    const south = rowAt(minLatitude - reach * 180, level)
    if ((east - west + 1) * (south - north + 1) > most) return undefined
    for (let row = north; row <= south; row++)
      for (let column = west; column <= east; column++) cells.add(quadkeyOf(column, row))
  }
  return cells.size > most ? undefined : [...cells]
}

/** From the west; what lies beyond ±180° belongs to the outermost column. */
const columnAt = (longitude: number, level: number) => stepAt((longitude + 180) / 360, level)
/** From the north. */
const rowAt = (latitude: number, level: number) => stepAt((90 - latitude) / 180, level)

const stepAt = (fraction: number, level: number) =>
  Math.min(Math.max(Math.floor(fraction * 2 ** level), 0), 2 ** level - 1)

/** The bits of column and row by turns. */
const quadkeyOf = (column: number, row: number) => spread(column) | (spread(row) << 1)

/** Puts a zero before each bit of a number below 2^16. */
function spread(number: number): number {
  let bits = number
  bits = (bits | (bits << 8)) & 0x00ff00ff
  bits = (bits | (bits << 4)) & 0x0f0f0f0f
  bits = (bits | (bits << 2)) & 0x33333333
  return (bits | (bits << 1)) & 0x55555555
}
