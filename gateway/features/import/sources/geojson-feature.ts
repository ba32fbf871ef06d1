// Owns the check that JSON is a GeoJSON feature.

import { isUtf8 } from 'node:buffer'
import type { GeoJsonProperties } from 'geojson'
import { parseExactJson } from '../../values/exact-json.ts'
import type { Slice } from './json-array.ts'
import type { SourceFeature } from './source.ts'

/** Parses one feature; if the bytes are none, `problem` of the result is set. */
export function parseFeature({ line, bytes }: Slice): SourceFeature {
  let value: unknown
  try {
    if (!isUtf8(bytes)) return { line, problem: 'is not valid UTF-8' }
    value = parseExactJson(bytes.toString('utf8'))
  } catch (error) {
    return { line, problem: `is not valid JSON (${(error as Error).message})` }
  }
  return checkFeature(line, value)
}

/** Checks the members of a feature, but not its geometry; if the value is no feature, `problem` is set. */
export function checkFeature(line: number, value: unknown): SourceFeature {
  if (typeof value !== 'object' || value === null) return { line, problem: 'is not a GeoJSON feature' }
  const { type, id, geometry, properties } = value as Record<string, unknown>
  if (type !== 'Feature')
    return { line, problem: `has the type ${JSON.stringify(type)} instead of "Feature"` }
  if (properties !== null && (typeof properties !== 'object' || Array.isArray(properties))) {
    if (properties !== undefined) return { line, problem: 'has properties that are not an object' }
  }
  return { line, id, geometry: geometry ?? null, properties: (properties ?? {}) as GeoJsonProperties }
}
