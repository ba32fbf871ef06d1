// Owns the geometries of a checked filter: their text for PostgreSQL, and the boxes around their parts.

import { boxOf, parseRectangles } from '../values/bbox.ts'
import { type Box, textOfRectangle } from '../values/box.ts'
import type { CoordinateSystem } from '../values/coordinate-system.ts'
import { type Position as EdgePosition, edgeOf, edgeThrough } from '../values/edge.ts'
import { GeometryError } from '../values/geometry.ts'
import {
  type BboxLiteral,
  type Coordinates,
  type GeometryLiteral,
  isBbox,
  type Position,
  type SimpleGeometry,
} from './expression.ts'

export type Shape = {
  /** Well-known text, without a coordinate system. */
  readonly text: string
  readonly srid: number
  /** Boxes in degrees that together contain it. */
  readonly boxes: readonly Box[]
  /** Least and greatest height, for a BBOX of six numbers. */
  readonly heights: readonly [number, number] | undefined
}

/** Parts beyond this many have one box together: each box costs the look-up of its cells. */
const MAX_BOXES = 16

/**
 * @param system that of the literal
 * @param located boxes around it, if it is in another system than degrees
 * @throws GatewayError for a BBOX that is none
 * @throws GeometryError for positions that are not on the Earth
 */
export function makeShape(
  value: GeometryLiteral | BboxLiteral,
  system: CoordinateSystem,
  located?: readonly Box[],
): Shape {
  const { srid, isNorthFirst } = system
  if (isBbox(value)) return shapeOfBbox(value.bbox, system, located)
  return {
    text: textOf(value, isNorthFirst),
    srid,
    boxes: fewer(located ?? boxesAround(value, isNorthFirst)),
    heights: undefined,
  }
}

const fewer = (boxes: readonly Box[]): readonly Box[] =>
  boxes.length > MAX_BOXES
    ? [
        boxAround(
          boxes.flatMap(({ minLongitude, minLatitude, maxLongitude, maxLatitude }) => [
            [minLongitude, minLatitude],
            [maxLongitude, maxLatitude],
          ]),
        ),
      ]
    : boxes

function boxesAround(value: GeometryLiteral, isLatitudeFirst: boolean): Box[] {
  const boxes = partsOf(value, isLatitudeFirst).map(boxAround)
  if (boxes.some(({ minLatitude, maxLatitude }) => minLatitude < -90 || maxLatitude > 90))
    throw new GeometryError(
      `has a latitude that is not between -90 and 90; positions are ${isLatitudeFirst ? 'latitude, longitude' : 'longitude, latitude'}`,
    )
  return boxes
}

/** Returns positions along the edge of each part of a literal in another system than degrees, east first. */
export function edgesOfLiteral(
  value: GeometryLiteral | BboxLiteral,
  system: CoordinateSystem,
): EdgePosition[][] {
  if (isBbox(value)) return parseRectangles(value.bbox, system).boxes.map(edgeOf)
  return linesOf(value).map((line) =>
    edgeThrough(line.map((position) => ordered(position, system.isNorthFirst) as unknown as EdgePosition)),
  )
}

/** Returns the lines of a geometry, and the outer rings of its polygons: the others lie within them. */
function linesOf(geometry: GeometryLiteral): Position[][] {
  if (geometry.type === 'GeometryCollection') return geometry.geometries.flatMap(linesOf)
  const { type, coordinates } = geometry
  const parts = (type.startsWith('Multi') ? coordinates : [coordinates]) as readonly Coordinates[]
  return parts.map((part) => flatten(type.endsWith('Polygon') ? (part[0] as Coordinates) : part))
}

function shapeOfBbox(
  sides: readonly number[],
  system: CoordinateSystem,
  located: readonly Box[] | undefined,
): Shape {
  const { boxes, heights } = parseRectangles(sides, system)
  // One that begins exactly at the antimeridian has a part without area there.
  const areas = boxes.filter(([west, , east]) => west < east)
  const parts = (areas.length > 0 ? areas : boxes).map((box) => textOfRectangle(box))
  return {
    text: parts.length === 1 ? parts[0]! : `GEOMETRYCOLLECTION(${parts.join(',')})`,
    srid: system.srid,
    boxes: located ?? boxes.map(boxOf),
    heights,
  }
}

/** Returns the positions of each part, longitude first. */
function partsOf(geometry: GeometryLiteral, isLatitudeFirst: boolean): Position[][] {
  if (geometry.type === 'GeometryCollection')
    return geometry.geometries.flatMap((part) => partsOf(part, isLatitudeFirst))
  const { type, coordinates } = geometry
  const parts = (type.startsWith('Multi') ? coordinates : [coordinates]) as readonly Coordinates[]
  return parts.map((part) => flatten(part).map((position) => ordered(position, isLatitudeFirst)))
}

const flatten = (coordinates: Coordinates): Position[] =>
  typeof coordinates[0] === 'number'
    ? [coordinates as Position]
    : (coordinates as readonly Coordinates[]).flatMap(flatten)

const ordered = ([first, second, ...height]: Position, isLatitudeFirst: boolean): Position =>
  isLatitudeFirst ? [second!, first!, ...height] : [first!, second!, ...height]

function boxAround(positions: readonly Position[]): Box {
  let [west, south, east, north] = [
    Number.POSITIVE_INFINITY,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
  ]
  for (const [longitude, latitude] of positions as readonly [number, number][]) {
    if (longitude < west) west = longitude
    if (longitude > east) east = longitude
    if (latitude < south) south = latitude
    if (latitude > north) north = latitude
  }
  return { minLongitude: west, minLatitude: south, maxLongitude: east, maxLatitude: north }
}

function textOf(geometry: GeometryLiteral, isLatitudeFirst: boolean): string {
  if (geometry.type === 'GeometryCollection')
    return `GEOMETRYCOLLECTION(${geometry.geometries.map((part) => textOf(part, isLatitudeFirst)).join(',')})`
  const text = textOfCoordinates(geometry.coordinates, isLatitudeFirst)
  return `${geometry.type.toUpperCase()}${isPoint(geometry) ? `(${text})` : text}`
}

const isPoint = ({ type }: SimpleGeometry) => type === 'Point'

const textOfCoordinates = (coordinates: Coordinates, isLatitudeFirst: boolean): string =>
  typeof coordinates[0] === 'number'
    ? ordered(coordinates as Position, isLatitudeFirst).join(' ')
    : `(${(coordinates as readonly Coordinates[]).map((part) => textOfCoordinates(part, isLatitudeFirst)).join(',')})`

/** Shortest degree of latitude on the ground, and a longitude's at the equator, in metres; both a little too small. */
const METRES_PER_DEGREE = 110_500
/** Nearer to a pole, a distance can reach around it. */
const POLAR_LATITUDE = 89

/** The nearest way along a parallel leaves it; for a wider shape it can leave it by more than is worth computing. */
const MAX_WIDTH = 60

/** Returns boxes that contain everything at most this far from the shape; undefined if it is too wide to tell. */
export function reachOf({ boxes }: Shape, metres: number): readonly Box[] | undefined {
  if (boxes.some(({ minLongitude, maxLongitude }) => maxLongitude - minLongitude > MAX_WIDTH))
    return undefined
  return boxes.flatMap((box) => reachOfBox(box, Math.max(metres, 0)))
}

function reachOfBox({ minLongitude, minLatitude, maxLongitude, maxLatitude }: Box, metres: number): Box[] {
  const width = ((maxLongitude - minLongitude) * Math.PI) / 180
  // An eighth of the square of the width is what a great circle gains on its chord, at most half of it in latitude.
  const gain = ((width * width) / 8) * (180 / Math.PI)
  const reach = metres / METRES_PER_DEGREE + gain
  const [south, north] = [minLatitude - reach, maxLatitude + reach]
  const farthest = Math.max(Math.abs(south), Math.abs(north))
  const aside = reach / Math.cos((Math.min(farthest, POLAR_LATITUDE) * Math.PI) / 180)
  const [west, east] = [minLongitude - aside, maxLongitude + aside]
  const ranges: (readonly [number, number])[] =
    farthest > POLAR_LATITUDE || east - west >= 360
      ? [[-180, 180]]
      : west < -180
        ? [
            [-180, east],
            [west + 360, 180],
          ]
        : east > 180
          ? [
              [west, 180],
              [-180, east - 360],
            ]
          : [[west, east]]
  const latitudes = { minLatitude: Math.max(south, -90), maxLatitude: Math.min(north, 90) }
  return ranges.map(([from, to]) => ({ minLongitude: from, maxLongitude: to, ...latitudes }))
}
