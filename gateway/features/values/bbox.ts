// Owns the bbox parameter: its syntax, the boxes on the ground that it means, and its condition.

import { type SQL, sql } from '../../database/sql.ts'
import { invalidParameter } from '../../errors.ts'
import { type Box, isTooWideForProjection, textOfBox } from './box.ts'
import { allOf, anyOf, type CarefulCondition, type Condition } from './condition.ts'
import { type GeometryColumn, geometryInDegrees, storedGeometry } from './geometry-column.ts'

export const CRS84 = 'http://www.opengis.net/def/crs/OGC/1.3/CRS84'

export type Bbox = {
  /** One box, or two if it crosses the antimeridian. */
  readonly boxes: readonly Box[]
  /** Least and greatest height, if six numbers were given. */
  readonly heights: readonly [number, number] | undefined
}

const EXAMPLE = '5,45,11,48'

/** @throws GatewayError naming bbox; `numbers` are known to be 4 or 6 finite ones */
export function parseBbox(numbers: readonly number[]): Bbox {
  const isFlat = numbers.length === 4
  if (!isFlat && numbers.length !== 6) throw invalidParameter('bbox', 'four or six numbers', EXAMPLE)
  const [west, south] = numbers as [number, number]
  const [east, north] = numbers.slice(isFlat ? 2 : 3) as [number, number]
  if (Math.abs(south) > 90 || Math.abs(north) > 90) {
    throw invalidParameter(
      'bbox',
      'a box whose latitudes (second and last but one) lie between -90 and 90',
      EXAMPLE,
    )
  }
  if (south > north) throw invalidParameter('bbox', 'a box whose southern latitude comes first', EXAMPLE)
  if (Math.abs(west) > 540 || Math.abs(east) > 540) {
    throw invalidParameter('bbox', 'a box whose longitudes lie between -180 and 180', EXAMPLE)
  }
  const heights = isFlat ? undefined : ([numbers[2]!, numbers[5]!] as const)
  if (heights && heights[0] > heights[1])
    throw invalidParameter('bbox', 'a box whose lower height comes first', '5,45,0,11,48,100')
  const toBox = (minLongitude: number, maxLongitude: number): Box => ({
    minLongitude,
    minLatitude: south,
    maxLongitude,
    maxLatitude: north,
  })
  return { boxes: splitLongitudes(west, east).map(([from, to]) => toBox(from, to)), heights }
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
 * A projected table is queried in its own system, which its index is in, and then exactly in degrees. PROJ can refuse
 * to project the box: the condition without the index gives the right answer then. If each row has a system of its own,
 * an index of the geometries finds those in degrees, and an index of the other SRIDs finds the rest.
 */
function boxCondition(box: Box, geometryColumn: GeometryColumn): Condition {
  const { srid } = geometryColumn
  const geometry = storedGeometry(geometryColumn)
  const common = { values: [textOfBox(box)], boxes: [box] }
  const exactly = (column: GeometryColumn): Condition => ({
    ...common,
    shape: 'bbox exact',
    compose: (box) => sql`ST_Intersects(${geometryInDegrees(column)}, ${box}::geometry)`,
  })
  const exact = exactly(geometryColumn)
  const carefulFrom = (rough: Condition | undefined) => (): CarefulCondition => ({
    rough,
    test: exactly,
    columns: [],
    literals: [],
  })
  const overlapping: Condition = {
    ...common,
    shape: 'bbox overlapping',
    compose(box) {
      if (srid !== undefined) return sql`${geometry} && ${boxIn(srid, box!)}`
      return sql`(${geometry} && ${box}::geometry and ST_SRID(${geometry}) in (0, 4326) or ST_SRID(${geometry}) not in (0, 4326))`
    },
  }
  if (srid === 4326) return { ...exact, careful: carefulFrom(overlapping) }
  const both = {
    ...common,
    compose: (...sides: SQL[]) => sql`(${overlapping.compose(...sides)} and ${exact.compose(...sides)})`,
    careful: carefulFrom(overlapping),
  }
  if (srid === undefined) return { ...both, shape: 'bbox by row' }
  const anywhere = { ...exact, careful: carefulFrom(undefined) }
  return isTooWideForProjection(box) ? anywhere : { ...both, shape: 'bbox indexed', withoutIndex: anywhere }
}

/** Returns a bound box in the coordinate system of a table. A straight side in degrees is a curve in a projection, so it gets a point at every degree. */
export const boxIn = (srid: number, box: SQL) =>
  srid === 4326
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
