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
