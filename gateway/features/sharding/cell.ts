// Owns the grid by which features are sharded: a place → its cell, boxes → the cells of features that may meet them.

import type { Box } from '../values/box.ts'

/**
 * Finest level. At each level the globe is divided into 2^level columns and 2^level rows of equal degrees. A
 * cell's number is its quadkey, read in base 4: without its last digit, it is that of the enclosing cell one level
 * up. Numbers of this level are below 2^30 and so fit into PostgreSQL's integer.
 */
export const MAX_LEVEL = 15

/** Cell of features that are larger than a cell of the level and so may reach into every one. */
export const OVERSIZE = -1
/** Cell of features without a footprint: their geometry is null or empty. */
export const NOWHERE = -2

/** Facts about a feature's extent that decide its cell at every level. */
export type Footprint = {
  /** Quadkey of the centre at MAX_LEVEL. */
  readonly quadkey: number
  /** Finest level at which the feature is no larger than a cell; -1 if it is larger than the globe. */
  readonly finest: number
}

export function footprintOf({ minLongitude, minLatitude, maxLongitude, maxLatitude }: Box): Footprint {
  const size = Math.max((maxLongitude - minLongitude) / 360, (maxLatitude - minLatitude) / 180)
  let finest = MAX_LEVEL
  while (finest >= 0 && size * 2 ** finest > 1) finest--
  const column = columnAt((minLongitude + maxLongitude) / 2, MAX_LEVEL)
  const row = rowAt((minLatitude + maxLatitude) / 2, MAX_LEVEL)
  return { quadkey: quadkeyOf(column, row), finest }
}

export function cellAt(footprint: Footprint | undefined, level: number): number {
  if (!footprint) return NOWHERE
  return level > footprint.finest ? OVERSIZE : footprint.quadkey >> (2 * (MAX_LEVEL - level))
}

/** Returns the cell of a feature with this extent. sql/0002_cells.sql computes the same. */
export const cellOf = (extent: Box | undefined, level: number) => cellAt(extent && footprintOf(extent), level)

/** A cell is about the size of a large city and its surroundings, so that a single shard answers for them. */
export const DEFAULT_LEVEL = 8
/** Enough cells per shard that hashing evens out shard sizes. */
const CELLS_PER_SHARD = 8
/** Average features per cell that are enough, so that a few features do not get one cell each. */
const FEATURES_PER_CELL = 10
/** Largest share of features in the oversize cell, which every query of a box reads. */
const MAX_OVERSIZE = 0.02

/** Chooses the level for features like these: finer if they are close together, coarser if many are large. */
export function chooseLevel(footprints: readonly Footprint[], shards: number): number {
  const enough = Math.min(CELLS_PER_SHARD * shards, footprints.length / FEATURES_PER_CELL)
  const countCells = (level: number) => new Set(footprints.map((footprint) => cellAt(footprint, level))).size
  const countOversize = (level: number) => footprints.filter(({ finest }) => finest < level).length
  let level = DEFAULT_LEVEL
  while (level < MAX_LEVEL && countCells(level) < enough) level++
  while (level > 0 && countOversize(level) > MAX_OVERSIZE * footprints.length) level--
  return level
}

/** Half a cell, with a margin for rounding errors. */
const HALF = 0.5 + 1e-9

/**
 * Returns the cells of features that may meet one of the boxes; undefined if there are more than `most`.
 * @param hasExtent true if features can be more than points: their centres, which decide their cells, may then
 * be up to half a cell outside of the box
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

/** Returns the column, counted from the west; longitudes beyond ±180° belong to the outermost column. */
const columnAt = (longitude: number, level: number) => stepAt((longitude + 180) / 360, level)
/** Returns the row, counted from the north. */
const rowAt = (latitude: number, level: number) => stepAt((90 - latitude) / 180, level)

const stepAt = (fraction: number, level: number) =>
  Math.min(Math.max(Math.floor(fraction * 2 ** level), 0), 2 ** level - 1)

/** Interleaves the bits of column and row. */
const quadkeyOf = (column: number, row: number) => spread(column) | (spread(row) << 1)

/** Puts a zero before each bit of a number below 2^16. */
function spread(number: number): number {
  let bits = number
  bits = (bits | (bits << 8)) & 0x00ff00ff
  bits = (bits | (bits << 4)) & 0x0f0f0f0f
  bits = (bits | (bits << 2)) & 0x33333333
  return (bits | (bits << 1)) & 0x55555555
}
