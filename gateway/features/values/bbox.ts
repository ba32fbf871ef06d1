// Owns the bbox parameter: its syntax, the boxes on the ground that it means, and its condition.

import { type SQL, sql } from '../../database/sql.ts'
import { invalidParameter } from '../../errors.ts'
import { type Box, isTooWideForProjection, type Rectangle, textOfBox } from './box.ts'
import { allOf, anyOf, type CarefulCondition, type Condition } from './condition.ts'
import { type CoordinateSystem, CRS84, DEGREES } from './coordinate-system.ts'
import { type GeometryColumn, geometryIn, storedGeometry } from './geometry-column.ts'

/** A box as a client gave it, in any coordinate system. */
export type Bbox<Shape = Box> = {
  /** One box, or two if it crosses the antimeridian. */
  readonly boxes: readonly Shape[]
  /** Least and greatest height, if six numbers were given. */
  readonly heights: readonly [number, number] | undefined
}

/** Returns a box in degrees. @param numbers known to be 4 or 6 finite ones @throws GatewayError naming bbox */
export function parseBbox(numbers: readonly number[], system = CRS84): Bbox {
  const { boxes, heights } = parseRectangles(numbers, system)
  return { boxes: boxes.map(boxOf), heights }
}

export const boxOf = ([minLongitude, minLatitude, maxLongitude, maxLatitude]: Rectangle): Box => ({
  minLongitude,
  minLatitude,
  maxLongitude,
  maxLatitude,
})

/** Returns a box in the coordinates of its system, east before north. @throws GatewayError naming bbox */
export function parseRectangles(
  numbers: readonly number[],
  { isGeographic, isNorthFirst, uri }: CoordinateSystem,
): Bbox<Rectangle> {
  const example = !isGeographic ? '500000,5000000,600000,5100000' : isNorthFirst ? '45,5,48,11' : '5,45,11,48'
  const refuse = (expected: string) => invalidParameter('bbox', expected, example)
  const isFlat = numbers.length === 4
  if (!isFlat && numbers.length !== 6) throw refuse('four or six numbers')
  const ordered = (corner: readonly number[]) =>
    (isNorthFirst ? [corner[1], corner[0]] : [corner[0], corner[1]]) as [number, number]
  const [west, south] = ordered(numbers)
  const [east, north] = ordered(numbers.slice(isFlat ? 2 : 3))
  const heights = isFlat ? undefined : ([numbers[2]!, numbers[5]!] as const)
  if (isGeographic) {
    const place = isNorthFirst ? `before the longitudes in ${uri}` : 'second and last but one'
    if (Math.abs(south) > 90 || Math.abs(north) > 90)
      throw refuse(`a box whose latitudes (${place}) lie between -90 and 90`)
    if (south > north) throw refuse('a box whose southern latitude comes first')
    if (Math.abs(west) > 540 || Math.abs(east) > 540)
      throw refuse('a box whose longitudes lie between -180 and 180')
  } else if (west > east || south > north) throw refuse('a box whose lower numbers come first')
  if (heights && heights[0] > heights[1])
    throw invalidParameter('bbox', 'a box whose lower height comes first', '5,45,0,11,48,100')
  const ranges: [number, number][] = isGeographic ? splitLongitudes(west, east) : [[west, east]]
  return { boxes: ranges.map(([from, to]): Rectangle => [from, south, to, north]), heights }
}

/**
 * Returns the ranges of longitudes from west to east: two if west is greater than east, because the box then crosses the
 * antimeridian (RFC 7946, 5.2). Maps that show the world more than once also send longitudes beyond 180°, which are
 * wrapped to the same meridian within ±180°.
 */
function splitLongitudes(west: number, east: number): [number, number][] {
  if (east - west >= 360) return [[-180, 180]]
  const [from, to] = [wrapLongitude(west), wrapLongitude(east)]
  if (from <= to) return [[from, to]]
  return [
    [from, 180],
    [-180, to],
  ]
}

const wrapLongitude = (degrees: number) =>
  degrees > 180 ? degrees - 360 : degrees < -180 ? degrees + 360 : degrees

/** True for features that intersect the box, at some height of it if it has heights. */
export const bboxCondition = ({ boxes, heights }: Bbox, geometry: GeometryColumn): Condition => {
  const onGround = anyOf(boxes.map((box) => boxCondition(box, geometry)))
  return heights ? allOf([onGround, heightCondition(heights, geometry)]) : onGround
}

/**
 * True for features whose geometry itself intersects the box, not only its bounding box, which the index holds rounded.
 * A table is queried in its own system, which its index is in, and then exactly in that of the box. PROJ can refuse to
 * project the box: the condition without the index gives the right answer then. If each row has a system of its own, an
 * index of the geometries finds those in degrees, and an index of the other SRIDs finds the rest.
 */
function boxCondition(box: Box, geometryColumn: GeometryColumn): Condition {
  const { srid, cast } = geometryColumn
  const { given } = box
  const geometry = storedGeometry(geometryColumn)
  const inDegrees = { values: [textOfBox(box)], boxes: [box] }
  const asGiven = given ? { values: [given.text], boxes: [box] } : inDegrees
  const givenIn = given?.srid ?? DEGREES
  const kind = given ? ` in ${givenIn}` : ''
  const exactly = (column: GeometryColumn): Condition => ({
    ...asGiven,
    shape: `bbox exact${kind}`,
    compose: (box) => sql`ST_Intersects(${geometryIn(givenIn, column)}, ${box}::geometry)`,
  })
  const exact = exactly(geometryColumn)
  const carefulFrom = (rough: Condition | undefined) => (): CarefulCondition => ({
    rough,
    test: exactly,
    columns: [],
    literals: [],
  })
  const isInOwnSystem = srid === givenIn
  const overlapping: Condition = {
    ...(isInOwnSystem ? asGiven : inDegrees),
    shape: `bbox overlapping${isInOwnSystem ? kind : ''}`,
    compose(box) {
      if (isInOwnSystem) return sql`${geometry} && ${box}::geometry`
      if (srid !== undefined) return sql`${geometry} && ${boxIn(srid, box!)}`
      return sql`(${geometry} && ${box}::geometry and ST_SRID(${geometry}) in (0, 4326) or ST_SRID(${geometry}) not in (0, 4326))`
    },
  }
  // PostGIS uses the index of a column that needs no transformation by itself.
  if (isInOwnSystem && (!given || cast !== undefined)) return { ...exact, careful: carefulFrom(overlapping) }
  const both: Condition = given
    ? { ...allOf([overlapping, exact]), careful: carefulFrom(overlapping) }
    : {
        ...inDegrees,
        shape: srid === undefined ? 'bbox by row' : 'bbox indexed',
        compose: (...sides: SQL[]) => sql`(${overlapping.compose(...sides)} and ${exact.compose(...sides)})`,
        careful: carefulFrom(overlapping),
      }
  if (srid === undefined || srid === DEGREES || isInOwnSystem) return both
  const anywhere = { ...exact, careful: carefulFrom(undefined) }
  return isTooWideForProjection(box) ? anywhere : { ...both, withoutIndex: anywhere }
}

/** Returns a bound box in the coordinate system of a table. A straight side in degrees is a curve in a projection, so it gets a point at every degree. */
export const boxIn = (srid: number, box: SQL) =>
  srid === DEGREES
    ? sql`${box}::geometry`
    : sql`ST_Transform(ST_Segmentize(${box}::geometry, 1), ${sql.raw(String(srid))})`

/** True for features at some height between these; a geometry without heights is at every height. */
function heightCondition([low, high]: readonly [number, number], column: GeometryColumn): Condition {
  const geometry = storedGeometry(column)
  return {
    shape: 'heights',
    values: [low, high],
    compose: (low, high) =>
      sql`(ST_Zmflag(${geometry}) < 2 or (ST_ZMin(${geometry}) <= ${high} and ST_ZMax(${geometry}) >= ${low}))`,
  }
}
