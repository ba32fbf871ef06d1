// Owns boxes on the ground, in degrees of longitude and latitude.

import { DEGREES } from './coordinate-system.ts'

/** Degrees; `minLongitude <= maxLongitude` always: a box that crosses the antimeridian is two. */
export type Box = {
  readonly minLongitude: number
  readonly minLatitude: number
  readonly maxLongitude: number
  readonly maxLatitude: number
  /** The box that a client gave in a system of its own, if this is the box around that. */
  readonly given?: GivenBox
}

export type GivenBox = {
  readonly srid: number
  /** As textOfBox has it. */
  readonly text: string
}

/** Least x and y, then greatest x and y, in any system. */
export type Rectangle = readonly [number, number, number, number]

/** Returns the area of boxes in square degrees; boxes that overlap count twice. */
export const areaOf = (boxes: readonly Box[]): number =>
  boxes.reduce(
    (sum, { minLongitude, minLatitude, maxLongitude, maxLatitude }) =>
      sum + (maxLongitude - minLongitude) * (maxLatitude - minLatitude),
    0,
  )

/** A wider box covers so much of a projected table that its index is of no use. */
const MAX_PROJECTED_DEGREES = 60

export const isTooWideForProjection = ({ minLongitude, minLatitude, maxLongitude, maxLatitude }: Box) =>
  Math.max(maxLongitude - minLongitude, maxLatitude - minLatitude) > MAX_PROJECTED_DEGREES

/**
 * Returns a box as a geometry in EWKT: a point or a line if it has no area. It is bound as one value, which PostgreSQL
 * parses once; a function of its sides would be evaluated for each row.
 */
export const textOfBox = ({ minLongitude, minLatitude, maxLongitude, maxLatitude }: Box) =>
  `SRID=${DEGREES};${textOfRectangle([minLongitude, minLatitude, maxLongitude, maxLatitude])}`

/** Returns a box as well-known text, without a coordinate system. */
export function textOfRectangle([west, south, east, north]: Rectangle) {
  if (west === east && south === north) return `POINT(${west} ${south})`
  if (west === east || south === north) return `LINESTRING(${west} ${south},${east} ${north})`
  return `POLYGON((${west} ${south},${west} ${north},${east} ${north},${east} ${south},${west} ${south}))`
}
