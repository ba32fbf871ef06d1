// Owns boxes on the ground, in degrees of longitude and latitude.

/** Degrees; `minLongitude <= maxLongitude` always: a box that crosses the antimeridian is two. */
export type Box = {
  readonly minLongitude: number
  readonly minLatitude: number
  readonly maxLongitude: number
  readonly maxLatitude: number
}

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
export function textOfBox({
  minLongitude: west,
  minLatitude: south,
  maxLongitude: east,
  maxLatitude: north,
}: Box) {
  if (west === east && south === north) return `SRID=4326;POINT(${west} ${south})`
  if (west === east || south === north) return `SRID=4326;LINESTRING(${west} ${south},${east} ${north})`
  return `SRID=4326;POLYGON((${west} ${south},${west} ${north},${east} ${north},${east} ${south},${west} ${south}))`
}
