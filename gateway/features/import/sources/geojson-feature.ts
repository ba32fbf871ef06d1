// Owns the check that JSON is a GeoJSON feature, or can be read as some.

import { isUtf8 } from 'node:buffer'
import type { GeoJsonProperties } from 'geojson'
import { isObject, type JsonObject, mayLoseDigits, parseExactJson } from '../../values/exact-json.ts'
import { describeForeignCrs, foreignCrsOf } from '../../values/geojson-crs.ts'
import { GEOMETRY_TYPES } from '../../values/geometry.ts'
import type { Slice } from './json-documents.ts'
import type { SourceFeature, SourceInput } from './source.ts'
import { describeInvalidByte } from './source-text.ts'

/** How features are read, see SourceInput. */
export type FeatureReading = Pick<SourceInput, 'limits' | 'system'>

/** Parses one feature; if the bytes are none, `problem` of the result is set. */
export function parseFeature(slice: Slice, reading: FeatureReading = {}): SourceFeature {
  const { line } = slice
  const { value, problem } = parseJson(slice, reading)
  return problem === undefined ? checkFeature(line, value, reading) : { line, problem }
}

/** Parses a GeoJSON text of any kind: a feature, a geometry, a collection, or an array of features. */
export function parseFeatures(slice: Slice, reading: FeatureReading = {}): SourceFeature[] {
  const { line } = slice
  const { value, problem } = parseJson(slice, reading)
  if (problem !== undefined) return [{ line, problem }]
  if (Array.isArray(value)) return value.map((element) => checkFeature(line, element, reading))
  if (!isObject(value) || value.type !== 'FeatureCollection') return [checkFeature(line, value, reading)]
  const foreignCrs = foreignCrsOf(value.crs, reading.system)
  if (foreignCrs !== undefined)
    return [{ line, problem: `has ${describeForeignCrs(foreignCrs, reading.system)}` }]
  if (!Array.isArray(value.features))
    return [{ line, problem: 'is a FeatureCollection without an array of features' }]
  return value.features.map((element) => checkFeature(line, element, reading))
}

/**
 * Checks the members of a feature, but not its geometry; if the value is no feature, `problem` is set. A geometry is a
 * feature without properties.
 */
export function checkFeature(line: number, value: unknown, { system }: FeatureReading = {}): SourceFeature {
  if (!isObject(value)) return { line, problem: 'is not a GeoJSON feature' }
  const { type, id, geometry, properties, crs } = value
  if (GEOMETRY_TYPES.some((name) => name === type))
    return { line, body: value, geometry: value, properties: {} }
  if (type !== 'Feature')
    return {
      line,
      problem: `has the type ${JSON.stringify(type)} instead of "Feature" or that of a geometry`,
    }
  const foreignCrs = foreignCrsOf(crs, system)
  if (foreignCrs !== undefined) return { line, problem: `has ${describeForeignCrs(foreignCrs, system)}` }
  if (properties !== null && properties !== undefined && !isObject(properties))
    return { line, problem: 'has properties that are not an object' }
  return {
    line,
    body: value,
    id,
    geometry: geometry ?? null,
    properties: (properties ?? {}) as GeoJsonProperties,
  }
}

type Parsed = { readonly value?: unknown; readonly problem?: string }

function parseJson({ offset, bytes }: Slice, { limits }: FeatureReading): Parsed {
  if (!isUtf8(bytes)) return { problem: `has ${describeInvalidByte(bytes, offset)}` }
  const text = bytes.toString('utf8')
  const problem = limits?.check?.(text)
  if (problem !== undefined) return { problem }
  try {
    return { value: parseGeoJson(text) }
  } catch (error) {
    return { problem: `is not valid JSON (${(error as Error).message})` }
  }
}

const COORDINATES = '"coordinates"'
const NUMBERS = /[\s:[\],\d.eE+-]*/y

/**
 * Parses JSON and keeps every digit of its numbers, except for those of coordinates: they are doubles in PostGIS, often
 * have many digits, and make most of a feature. They are left out of the exact parsing, which is several times slower.
 */
function parseGeoJson(text: string): unknown {
  const start = text.indexOf(COORDINATES)
  // If there are several, one may be a property; so it may if a name is written with escapes.
  if (start < 0 || start !== text.lastIndexOf(COORDINATES) || text.includes('\\u'))
    return parseExactJson(text, 'all')
  NUMBERS.lastIndex = start + COORDINATES.length
  NUMBERS.exec(text)
  // The commas after the last bracket belong to what follows.
  const end = text.lastIndexOf(']', NUMBERS.lastIndex - 1) + 1
  const [before, after] = [text.slice(0, start), text.slice(Math.max(start, end))]
  const value = JSON.parse(text)
  if (!mayLoseDigits(before) && !mayLoseDigits(after)) return value
  if (!isObject(value) || !isObject(value.geometry) || !Array.isArray(value.geometry.coordinates))
    return parseExactJson(text, 'all')
  try {
    const rest = parseExactJson(`${before}${COORDINATES}:[]${after}`, 'all') as JsonObject
    return { ...rest, geometry: value.geometry }
  } catch {
    // The coordinates are more than numbers, which is reported later.
    return parseExactJson(text, 'all')
  }
}
