// Owns the check of GeoJSON geometries (RFC 7946), and their text for PostgreSQL.

import { quoted } from '../../errors.ts'
import type { Box } from './box.ts'
import { type CoordinateSystem, CRS84, DEGREES } from './coordinate-system.ts'
import { ExactNumber } from './exact-json.ts'
import { describeForeignCrs, foreignCrsOf } from './geojson-crs.ts'

export const GEOMETRY_TYPES = [
  'Point',
  'MultiPoint',
  'LineString',
  'MultiLineString',
  'Polygon',
  'MultiPolygon',
  'GeometryCollection',
] as const
export type GeometryType = (typeof GEOMETRY_TYPES)[number]

export type ParsedGeometry = {
  readonly type: GeometryType
  /** 3 if positions have a height, otherwise 2. */
  readonly dimension: 2 | 3
  /** Undefined if it has no positions, and as long as it is not known in degrees. */
  readonly extent: Box | undefined
  readonly isEmpty: boolean
  /** The system of its coordinates. */
  readonly system: CoordinateSystem
  /**
   * GeoJSON with only the members of a geometry, east before north. Positions just beyond the edge of the world are on it, rings that are
   * almost closed are closed, and positions have at most three numbers.
   */
  readonly text: string
  /** True if a position had more than three numbers. RFC 7946 (3.1.1) gives the further ones no meaning. */
  readonly hasFurtherNumbers: boolean
}

/** A geometry is not valid; the message completes "the geometry …". */
export class GeometryError extends Error {}

type Check = {
  readonly system: CoordinateSystem
  dimension: 2 | 3 | undefined
  west: number
  south: number
  east: number
  north: number
  hasFurtherNumbers: boolean
  /** True if the coordinates need `mend` before they are written. */
  isInexact: boolean
}

/**
 * Returns by how much a position may be beyond the edge of the world, and the ends of a ring apart: 0.1 mm on the ground.
 * Programs that compute coordinates miss such values by rounding, for example 180.0000000000002.
 */
const toleranceOf = ({ decimals }: CoordinateSystem) => Number(`1e-${decimals}`)

/** Deepest nesting of geometry collections: RFC 7946 advises against any nesting; PostGIS itself takes 200 levels. */
const MAX_NESTING = 32

/** @throws GeometryError */
export function parseGeometry(value: unknown, system = CRS84): ParsedGeometry {
  const check: Check = {
    system,
    dimension: undefined,
    west: 180,
    south: 90,
    east: -180,
    north: -90,
    hasFurtherNumbers: false,
    isInexact: system.isNorthFirst,
  }
  const text = textOf(value, check, 0)
  const { dimension, west, south, east, north, hasFurtherNumbers } = check
  return {
    type: (value as { type: GeometryType }).type,
    dimension: dimension ?? 2,
    extent:
      dimension && system.srid === DEGREES
        ? { minLongitude: west, minLatitude: south, maxLongitude: east, maxLatitude: north }
        : undefined,
    isEmpty: dimension === undefined,
    system,
    text,
    hasFurtherNumbers,
  }
}

/** Converts the text of a single geometry, for example a Point, to that of a multiple one; other texts stay. */
export function asMultiple(text: string, single: string): string {
  const prefix = `{"type":"${single}","coordinates":`
  if (!text.startsWith(prefix)) return text
  const coordinates = text.slice(prefix.length, -1)
  return `{"type":"Multi${single}","coordinates":[${coordinates === '[]' ? '' : coordinates}]}`
}

function textOf(value: unknown, check: Check, nesting: number): string {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) fail('is not an object')
  const { type, coordinates, geometries, crs } = value as {
    type?: unknown
    coordinates?: unknown
    geometries?: unknown
    crs?: unknown
  }
  const foreignCrs = foreignCrsOf(crs, check.system)
  if (foreignCrs !== undefined) fail(`has ${describeForeignCrs(foreignCrs, check.system)}`)
  switch (type) {
    case 'Point':
      if (Array.isArray(coordinates) && coordinates.length === 0) break
      checkPosition(coordinates, check)
      break
    case 'MultiPoint':
      checkPositions(coordinates, check, 0)
      break
    case 'LineString':
      checkLine(coordinates, check)
      break
    case 'MultiLineString':
      for (const line of arrayOf(coordinates)) checkLine(line, check)
      break
    case 'Polygon':
      checkPolygon(coordinates, check)
      break
    case 'MultiPolygon':
      for (const polygon of arrayOf(coordinates)) checkPolygon(polygon, check)
      break
    case 'GeometryCollection': {
      if (!Array.isArray(geometries)) fail('is a GeometryCollection without an array of geometries')
      if (nesting >= MAX_NESTING) fail(`nests collections more than ${MAX_NESTING} deep`)
      const parts = geometries.map((part) => textOf(part, check, nesting + 1))
      return `{"type":"GeometryCollection","geometries":[${parts.join()}]}`
    }
    default:
      fail(`has the type ${quoted(type)}, which is none of ${GEOMETRY_TYPES.join(', ')}`)
  }
  const exact = check.isInexact
    ? mend(coordinates as unknown[], type.endsWith('Polygon'), check.system)
    : coordinates
  return `{"type":"${type}","coordinates":${JSON.stringify(exact)}}`
}

/** Returns checked coordinates as `ParsedGeometry.text` has them. */
function mend(coordinates: readonly unknown[], isPolygonal: boolean, system: CoordinateSystem): unknown[] {
  if (!Array.isArray(coordinates[0])) {
    if (coordinates.length === 0) return []
    const numbers = coordinates.map(Number)
    const [east, north] = eastFirst(numbers, system)
    const height = numbers.slice(2, 3)
    return system.isGeographic ? [clamp(east, 180), clamp(north, 90), ...height] : [east, north, ...height]
  }
  const mended = coordinates.map((part) => mend(part as unknown[], isPolygonal, system))
  const isRing = isPolygonal && typeof mended[0]![0] === 'number'
  return isRing ? [...mended.slice(0, -1), mended[0]!] : mended
}

const eastFirst = ([first, second]: readonly number[], { isNorthFirst }: CoordinateSystem) =>
  (isNorthFirst ? [second, first] : [first, second]) as [number, number]

const clamp = (degrees: number, edge: number) => Math.min(Math.max(degrees, -edge), edge)

function fail(reason: string): never {
  throw new GeometryError(reason)
}

function arrayOf(value: unknown): unknown[] {
  if (!Array.isArray(value)) fail('has coordinates that are not nested as its type requires')
  return value
}

function checkPosition(value: unknown, check: Check) {
  if (!Array.isArray(value)) fail('has coordinates that are not nested as its type requires')
  if (value.length < 2) fail(`has a position of ${value.length} numbers instead of 2 or 3`)
  for (const number of value) {
    if (number instanceof ExactNumber) check.isInexact = true
    else if (typeof number !== 'number') fail(`has ${quoted(number)} where a number belongs`)
    // Number, because PostGIS stores no more digits than a JavaScript number has.
    if (!Number.isFinite(Number(number)))
      fail(`has ${quoted(number instanceof ExactNumber ? number.text : number)} where a number belongs`)
  }
  if (value.length > 3) check.hasFurtherNumbers = check.isInexact = true
  const [east, north] = eastFirst([Number(value[0]), Number(value[1])], check.system)
  const { isGeographic } = check.system
  const longitude = isGeographic ? checkDegrees(east, 180, 'longitude', check) : east
  const latitude = isGeographic ? checkDegrees(north, 90, 'latitude', check) : north
  const dimension = value.length === 2 ? 2 : 3
  if (check.dimension === undefined) check.dimension = dimension
  else if (check.dimension !== dimension) fail('mixes positions with and without a height')
  if (longitude < check.west) check.west = longitude
  if (longitude > check.east) check.east = longitude
  if (latitude < check.south) check.south = latitude
  if (latitude > check.north) check.north = latitude
}

/** Reminds of the order of the axes if it is not that of GeoJSON. */
const orderOf = ({ isNorthFirst, uri }: CoordinateSystem) =>
  isNorthFirst ? `; latitude comes first in ${uri}` : ''

/** @returns the degrees, on the edge of the world if they are just beyond it */
function checkDegrees(degrees: number, edge: number, name: string, check: Check): number {
  if (degrees >= -edge && degrees <= edge) return degrees
  if (Math.abs(degrees) > edge + toleranceOf(check.system))
    fail(`has the ${name} ${degrees}, outside -${edge} to ${edge}${orderOf(check.system)}`)
  check.isInexact = true
  return clamp(degrees, edge)
}

function checkPositions(value: unknown, check: Check, least: number) {
  const positions = arrayOf(value)
  for (const position of positions) checkPosition(position, check)
  if (positions.length > 0 && positions.length < least) {
    fail(`has a line or ring of ${positions.length} positions, fewer than ${least}`)
  }
}

const checkLine = (value: unknown, check: Check) => checkPositions(value, check, 2)

function checkPolygon(value: unknown, check: Check) {
  for (const ring of arrayOf(value)) {
    checkPositions(ring, check, 4)
    const positions = ring as unknown[][]
    const first = positions[0]
    const last = positions.at(-1)
    // Only three numbers: the further ones are not stored.
    const gap = Math.max(
      ...(first ?? []).slice(0, 3).map((number, index) => Math.abs(Number(number) - Number(last![index]))),
    )
    if (gap > toleranceOf(check.system)) fail('has a ring that is not closed')
    if (gap > 0) check.isInexact = true
  }
}
