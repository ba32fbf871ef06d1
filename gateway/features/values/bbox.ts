// Owns bounding boxes: what a request may write, and the boxes on the ground that it means.

import { invalidParameter } from '../../errors.ts'

export const CRS84 = 'http://www.opengis.net/def/crs/OGC/1.3/CRS84'

/** Degrees; `minLongitude <= maxLongitude` always: a box over the antimeridian is two. */
export type Box = {
  readonly minLongitude: number
  readonly minLatitude: number
  readonly maxLongitude: number
  readonly maxLatitude: number
}

export type Bbox = {
  /** One, or two where the box crosses the antimeridian. */
  readonly boxes: readonly Box[]
  /** Least and greatest height, where six numbers were given. */
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
 * East of west is normal; otherwise the box crosses the antimeridian (RFC 7946, 5.2). Maps that show the
 * world more than once also ask beyond 180°: that is brought back to where it is on the ground.
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
