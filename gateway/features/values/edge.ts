// Owns the edges of boxes and shapes in other coordinate systems than degrees, and the boxes in degrees around them.

import type { Box, Rectangle } from './box.ts'

export type Position = readonly [number, number]

/** Returns positions in a coordinate system as EWKT: a point or a line. */
export function textOfEdge(positions: readonly Position[], srid: number): string {
  const text = positions.map(([x, y]) => `${x} ${y}`).join()
  return `SRID=${srid};${positions.length === 1 ? 'POINT' : 'LINESTRING'}(${text})`
}

/** Returns the positions in a text of PostGIS. */
export const positionsIn = (text: string): Position[] =>
  [...text.matchAll(/([^\s(),]+) ([^\s(),]+)/g)].map(([, x, y]) => [Number(x), Number(y)])

/** Positions between two corners: a straight side is a curve in another system. */
const MOST_STEPS = 32
const LEAST_STEPS = 4
/** About as many positions has an edge, unless it has more corners. */
const USUAL_POSITIONS = 128

/** Returns positions along the straight line through corners. */
export function edgeThrough(corners: readonly Position[]): Position[] {
  const steps = Math.min(MOST_STEPS, Math.max(LEAST_STEPS, Math.ceil(USUAL_POSITIONS / corners.length)))
  const sides = corners.slice(1).flatMap(([toX, toY], index) => {
    const [fromX, fromY] = corners[index]!
    return Array.from({ length: steps }, (_, step): Position => {
      const part = step / steps
      return [fromX + (toX - fromX) * part, fromY + (toY - fromY) * part]
    })
  })
  return [...sides, corners.at(-1)!]
}

/** Returns positions along the sides of a box, in order. */
export const edgeOf = ([west, south, east, north]: Rectangle): Position[] =>
  edgeThrough([
    [west, south],
    [east, south],
    [east, north],
    [west, north],
    [west, south],
  ])

/** Share of a box by which its curved sides can leave the positions on them; those of so many steps leave them by less. */
const MARGIN = 0.01
/** Edges are rounded to a tenth of a metre, so that every node has the same: pages go on from one to another. */
const ROUNDING = 1e6

/**
 * Returns a box around positions along a closed edge, in degrees; undefined if one of them is nowhere. An edge that
 * crosses the antimeridian surrounds all longitudes, and one that crosses it an odd number of times also surrounds a pole.
 */
export function surround(edge: readonly Position[]): Box | undefined {
  let [west, south, east, north] = [Infinity, Infinity, -Infinity, -Infinity]
  let crossings = 0
  for (const [index, [longitude, latitude]] of edge.entries()) {
    if (!Number.isFinite(longitude) || !Number.isFinite(latitude)) return undefined
    if (index > 0 && Math.abs(longitude - edge[index - 1]![0]) > 180) crossings++
    west = Math.min(west, longitude)
    south = Math.min(south, latitude)
    east = Math.max(east, longitude)
    north = Math.max(north, latitude)
  }
  const margin = Math.max(east - west, north - south) * MARGIN
  const down = (degrees: number) => Math.floor((degrees - margin) * ROUNDING) / ROUNDING
  const up = (degrees: number) => Math.ceil((degrees + margin) * ROUNDING) / ROUNDING
  const hasPole = crossings % 2 === 1
  const isNorthern = south + north > 0
  return {
    minLongitude: crossings > 0 ? -180 : Math.max(down(west), -180),
    minLatitude: hasPole && !isNorthern ? -90 : Math.max(down(south), -90),
    maxLongitude: crossings > 0 ? 180 : Math.min(up(east), 180),
    maxLatitude: hasPole && isNorthern ? 90 : Math.min(up(north), 90),
  }
}
