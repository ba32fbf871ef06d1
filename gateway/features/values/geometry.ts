// Owns the check of GeoJSON geometries (RFC 7946), and their text for PostgreSQL.

import { quoted } from '../../errors.ts'
import type { Box } from './box.ts'

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
  /** Undefined if it has no positions. */
  readonly extent: Box | undefined
  /** GeoJSON with only the members of a geometry. */
  readonly text: string
}

/** A geometry is not valid; the message completes "the geometry …". */
export class GeometryError extends Error {}

type Check = { dimension: 2 | 3 | undefined; west: number; south: number; east: number; north: number }

/** Deepest nesting of geometry collections: RFC 7946 advises against any nesting; PostGIS itself takes 200 levels. */
const MAX_NESTING = 32

/** @throws GeometryError */
export function parseGeometry(value: unknown): ParsedGeometry {
  const check: Check = { dimension: undefined, west: 180, south: 90, east: -180, north: -90 }
  const text = textOf(value, check, 0)
  const { dimension, west, south, east, north } = check
  return {
    type: (value as { type: GeometryType }).type,
    dimension: dimension ?? 2,
    extent: dimension && { minLongitude: west, minLatitude: south, maxLongitude: east, maxLatitude: north },
    text,
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
  const { type, coordinates, geometries } = value as {
    type?: unknown
    coordinates?: unknown
    geometries?: unknown
  }
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
  return `{"type":"${type}","coordinates":${JSON.stringify(coordinates)}}`
}

function fail(reason: string): never {
  throw new GeometryError(reason)
}

function arrayOf(value: unknown): unknown[] {
  if (!Array.isArray(value)) fail('has coordinates that are not nested as its type requires')
  return value
}

function checkPosition(value: unknown, check: Check) {
  if (!Array.isArray(value)) fail('has coordinates that are not nested as its type requires')
  const [longitude, latitude] = value
  if (value.length < 2 || value.length > 3)
    fail(`has a position of ${value.length} numbers instead of 2 or 3`)
  for (const number of value) {
    if (typeof number !== 'number' || !Number.isFinite(number)) {
      fail(`has ${quoted(number)} where a number belongs`)
    }
  }
  if (longitude < -180 || longitude > 180) fail(`has the longitude ${longitude}, outside -180 to 180`)
  if (latitude < -90 || latitude > 90) fail(`has the latitude ${latitude}, outside -90 to 90`)
  if (check.dimension === undefined) check.dimension = value.length as 2 | 3
  else if (check.dimension !== value.length) fail('mixes positions with and without a height')
  if (longitude < check.west) check.west = longitude
  if (longitude > check.east) check.east = longitude
  if (latitude < check.south) check.south = latitude
  if (latitude > check.north) check.north = latitude
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
    const positions = ring as number[][]
    const first = positions[0]
    const last = positions.at(-1)
    if (first && last && first.some((number, index) => number !== last[index]))
      fail('has a ring that is not closed')
  }
}
