// Owns GeoJSON (RFC 7946): a row as a feature, and pages of features.

import { type SQL, sql } from 'drizzle-orm'
import type { Collection } from '../collections/collection.ts'
import { type Column, columnOf } from '../values/column.ts'
import { parseExactJson } from '../values/exact-json.ts'
import { type GeometryColumn, geometryInDegrees } from '../values/geometry-column.ts'
import type { Encoder, PageEnd } from './encoder.ts'
import type { Format, Link } from './format.ts'

export const GEOJSON: Format = {
  name: 'json',
  types: ['application/geo+json', 'application/json'],
  title: 'GeoJSON',
}

/** Nine decimals of a degree: a tenth of a millimetre. */
const DECIMALS = 9

/**
 * Returns the text of a feature without its last brace, so that links can be added. It is built member by member and
 * not as a record: Citus can plan neither a record of a subquery over shards nor a subquery in RETURNING, and a record
 * is no faster.
 */
export function featureOf(
  { geometry, idColumn }: Collection,
  properties: readonly Column[],
  skipsGeometry = false,
): SQL {
  const id = idColumn && [
    sql`'"id":'`,
    idColumn.kind === 'integer'
      ? columnOf(idColumn)
      : // The id of a feature is a string or a number.
        sql`to_json(${columnOf(idColumn)}${sql.raw(/^(json|boolean|other)$/.test(idColumn.kind) ? '::text' : '')})`,
    sql`','`,
  ]
  const members = properties.flatMap((column, index) => {
    const name = `${index > 0 ? ',' : ''}${JSON.stringify(column.name)}:`
    return [
      sql.raw(`'${name.replaceAll("'", "''")}'`),
      sql`coalesce(to_json(${columnOf(column)})::text, 'null')`,
    ]
  })
  return concat([
    sql`'{"type":"Feature",'`,
    ...(id ?? []),
    sql`'"geometry":'`,
    skipsGeometry
      ? sql`'null'`
      : sql`coalesce(ST_AsGeoJSON(${geometryOf(geometry)}, ${sql.raw(String(DECIMALS))}, 0), 'null')`,
    sql`',"properties":{'`,
    ...members,
    sql`'}'`,
  ])
}

/** PostgreSQL passes at most this many arguments to one function. */
const MAX_ARGUMENTS = 100

/**
 * Joins texts in one call: a chain of operators is as deep as it is long, and Citus copies it for each execution (one
 * call makes a look-up at a worker 60 of 540 µs faster).
 */
function concat(texts: readonly SQL[]): SQL {
  if (texts.length <= MAX_ARGUMENTS) return sql`concat(${sql.join([...texts], sql.raw(', '))})`
  const parts = Math.ceil(texts.length / MAX_ARGUMENTS)
  return concat(
    Array.from({ length: parts }, (_, part) =>
      concat(texts.slice(part * MAX_ARGUMENTS, (part + 1) * MAX_ARGUMENTS)),
    ),
  )
}

/** Returns the geometry as GeoJSON wants it: longitude and latitude, straight lines, rings by the right-hand rule. */
function geometryOf(column: GeometryColumn): SQL {
  const { type } = column
  const isStraight = /^(MULTI)?(POINT|LINESTRING|POLYGON)(Z|M|ZM)?$/.test(type)
  let geometry = geometryInDegrees(
    column,
    isStraight ? undefined : (curved) => sql`ST_CurveToLine(${curved})`,
  )
  if (/POLYGON|GEOMETRY|CURVE|SURFACE/.test(type)) geometry = sql`ST_ForcePolygonCCW(${geometry})`
  return geometry
}

/** Returns a single feature as a document. @param feature as featureOf returns it */
export const closeFeature = (feature: string, links: readonly Link[]) =>
  `${feature},"links":${JSON.stringify(links)}}`

const SEPARATOR = '},'

/** Returns features as values whose numbers keep all digits. @param features as featureOf returns them */
export const parseFeatures = (features: readonly string[]): unknown[] =>
  features.length === 0 ? [] : (parseExactJson(`[${features.join(SEPARATOR)}}]`) as unknown[])

const renderEnd = ({ returned, matched, links }: PageEnd) =>
  `],"numberReturned":${returned}${matched === undefined ? '' : `,"numberMatched":${matched}`},"links":${JSON.stringify(links)}`

export const geojson: Encoder = {
  format: GEOJSON,
  featureOf,
  separator: SEPARATOR,
  open() {
    let isEmpty = true
    return {
      start: () => '{"type":"FeatureCollection","features":[',
      write(features) {
        // Not `join`, which copies all features once more and takes five times as long.
        let text = ''
        for (const feature of features) {
          text += isEmpty ? feature : `,${feature}`
          text += '}'
          isEmpty = false
        }
        return text
      },
      end: renderEnd,
      stamp: () => `,"timeStamp":"${new Date().toISOString()}"}`,
    }
  },
}
