// Owns GeoJSON (RFC 7946): a row as a feature, and pages of features.

import { type SQL, sql } from '../../database/sql.ts'
import type { Collection } from '../collections/collection.ts'
import { type Column, columnOf } from '../values/column.ts'
import type { CoordinateSystem } from '../values/coordinate-system.ts'
import { parseExactJson } from '../values/exact-json.ts'
import { type GeometryColumn, geometryIn, storedGeometry, straightened } from '../values/geometry-column.ts'
import { withoutNonNumbers } from '../values/non-numbers.ts'
import { concat } from './concat.ts'
import {
  type Encoder,
  type Features,
  type GeometryForm,
  makeEncoder,
  type PageEnd,
  type PageWriter,
  textsOf,
} from './encoder.ts'
import type { Format, Link } from './format.ts'

export const GEOJSON: Format = {
  name: 'json',
  types: ['application/geo+json', 'application/json'],
  title: 'GeoJSON',
}

/**
 * Returns the text of a feature without its last brace, so that links can be added. It is built member by member and
 * not as a record: Citus can plan neither a record of a subquery over shards nor a subquery in RETURNING, and a record
 * is no faster.
 */
function featureOf(
  { geometry, idColumn }: Collection,
  properties: readonly Column[],
  form: GeometryForm,
  convert: (column: GeometryColumn) => SQL,
  further: SQL | undefined,
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
    return [sql.raw(`'${name.replaceAll("'", "''")}'`), sql`coalesce(${propertyOf(column)}, 'null')`]
  })
  return concat([
    sql`'{"type":"Feature",'`,
    ...(id ?? []),
    sql`'"geometry":'`,
    geometryMember(form, geometry, convert),
    sql`',"properties":{'`,
    ...members,
    sql`'}'`,
    ...(further ? [further] : []),
  ])
}

/**
 * Returns the JSON of a column. NaN and infinity, which JSON has no numbers for, are null: as texts they would turn the
 * column into one of texts for clients that derive its type from a page.
 */
function propertyOf(column: Column): SQL {
  const value = columnOf(column)
  return column.kind === 'number'
    ? sql`case when ${value} < 'Infinity' and ${value} > '-Infinity' then ${value}::text end`
    : sql`to_json(${value})::text`
}

function geometryMember(
  form: GeometryForm,
  geometry: GeometryColumn,
  convert: (column: GeometryColumn) => SQL,
): SQL {
  switch (form) {
    case 'converted':
      return sql`coalesce(${convert(geometry)}, 'null')`
    case 'stored':
      return sql`coalesce('"' || ${columnOf({ name: geometry.column })}::text || '"', 'null')`
    case 'none':
      return sql`'null'`
  }
}

/** The geometry as stored in a feature, which can have no other geometry before it. */
const STORED_GEOMETRY = /"geometry":"([0-9A-F]*)"/

/** In place of a geometry whose coordinates cannot be degrees: it becomes null as one that is no number, and is counted. */
const NOWHERE = sql`ST_MakePoint('NaN', 'NaN')`

/**
 * Returns the text of the geometry as GeoJSON wants it: straight lines, rings by the right-hand rule, which holds on the
 * ground whatever the order of the axes is.
 */
export function geometryOf({ srid, isNorthFirst, decimals }: CoordinateSystem, column: GeometryColumn): SQL {
  const { type } = column
  let geometry = geometryIn(srid, column, straightened(column), NOWHERE)
  // ST_ForcePolygonCCW also turns lines round.
  if (/GEOMETRY|CURVE/.test(type))
    geometry = sql`case when ST_Dimension(${storedGeometry(column)}) < 2 then ${geometry} else ST_ForcePolygonCCW(${geometry}) end`
  else if (/POLYGON|SURFACE/.test(type)) geometry = sql`ST_ForcePolygonCCW(${geometry})`
  if (isNorthFirst) geometry = sql`ST_FlipCoordinates(${geometry})`
  return sql`ST_AsGeoJSON(${geometry}, ${sql.raw(String(decimals))}, 0)`
}

/**
 * PostGIS writes NaN and Infinity where a coordinate is no number; both can also be in texts of the feature. V8 looks for
 * a short text by its first character, which takes a tenth of the time that the complete word takes.
 */
const hasNonNumbers = (text: string | Buffer) => text.includes('NaN') || text.includes('Infi')

/**
 * Returns the function that replaces geometries with NaN or infinite coordinates by what is left of them, or returns
 * undefined if there are none.
 * @param before text before a geometry, with its first brace @param after text after it
 */
export const mendMember =
  (before: string, after: string) =>
  (given: string | Buffer): { features: string; mended: number } | undefined => {
    if (!hasNonNumbers(given)) return undefined
    const features = String(given)
    let mended = 0
    let text = ''
    let done = 0
    for (let start = features.indexOf(before); start >= 0; ) {
      const from = start + before.length - 1
      const end = features.indexOf(after, from)
      if (end < 0) break
      const geometry = features.slice(from, end)
      const left = hasNonNumbers(geometry) ? withoutNonNumbers(geometry) : geometry
      if (left !== geometry) {
        mended++
        text += features.slice(done, from) + left
        done = end
      }
      start = features.indexOf(before, end)
    }
    return { features: text + features.slice(done), mended }
  }
const mend = mendMember('"geometry":{', ',"properties":{')

/** Returns a single feature as a document. @param feature as featureOf returns it */
export const closeFeature = (feature: string, links: readonly Link[]) =>
  `${feature},"links":${JSON.stringify(links)}}`

export const SEPARATOR = '},'

/** Returns features as values whose numbers keep all digits. @param features as featureOf returns them */
export const parseFeatures = (features: Features): unknown[] =>
  features.length === 0 ? [] : (parseExactJson(`[${textsOf(features).join(SEPARATOR)}}]`) as unknown[])

const renderEnd = ({ returned, matched, links }: PageEnd) =>
  `],"numberReturned":${returned}${matched === undefined ? '' : `,"numberMatched":${matched}`},"links":${JSON.stringify(links)}`

/**
 * Returns the functions of every format whose features are GeoJSON.
 * @param convert returns the text of a geometry in SQL @param furtherOf returns members after the properties in SQL
 */
export const geojsonFeatures = (
  system: CoordinateSystem,
  convert = (column: GeometryColumn) => geometryOf(system, column),
  furtherOf: (collection: Collection) => SQL | undefined = () => undefined,
) =>
  ({
    featureOf: (collection, properties, form) =>
      featureOf(collection, properties, form, convert, furtherOf(collection)),
    geometryOf: convert,
    storedGeometryOf: (feature) => STORED_GEOMETRY.exec(feature)?.[1],
    // A function, because a text as the replacement could have patterns such as $1.
    fillGeometry: (feature, geometry) =>
      feature.replace(STORED_GEOMETRY, () => `"geometry":${geometry ?? 'null'}`),
    mend,
  }) satisfies Partial<Encoder>

/** @param members of the collection before its features, each with a comma behind it */
export function collectionWriter(members = ''): PageWriter {
  let between = ''
  return {
    start: () => `{"type":"FeatureCollection",${members}"features":[`,
    write(features) {
      const before = between
      // The last brace of a batch comes with the next one.
      between = SEPARATOR
      // A page that PostgreSQL has joined is passed on as it is.
      if (before === '' && Buffer.isBuffer(features)) return features
      // Not `join`, which copies all features once more and takes five times as long.
      let text = ''
      for (const feature of textsOf(features)) text += (text === '' ? before : SEPARATOR) + feature
      return text
    },
    end: (end) => (between === '' ? '' : '}') + renderEnd(end),
    stamp: () => `,"timeStamp":"${new Date().toISOString()}"}`,
  }
}

export const geojson = makeEncoder((system) => ({
  ...geojsonFeatures(system),
  format: GEOJSON,
  extensions: ['geojson', 'json'],
  hasLinks: true,
  separator: SEPARATOR,
  document: (feature, _collection, _origin, links) => closeFeature(feature, links),
  open: () => collectionWriter(),
}))
