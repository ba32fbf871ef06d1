// Owns JSON-FG (OGC 21-045r1): GeoJSON with geometries in any system, the time of a feature, and its type.
//
// In longitude and latitude a feature has its geometry where GeoJSON has it. In any other system `place` has it, and
// `geometry` is null, or has the same in longitude and latitude for programs that know only GeoJSON. Both are one part of
// a feature's text, so that a geometry that PostGIS cannot convert costs neither page nor feature.

import { type SQL, sql } from '../../database/sql.ts'
import type { Collection } from '../collections/collection.ts'
import { type Column, columnOf } from '../values/column.ts'
import { type CoordinateSystem, CRS84, DEGREES } from '../values/coordinate-system.ts'
import type { GeometryColumn } from '../values/geometry-column.ts'
import { type Encoder, makeEncoder, type Origin } from './encoder.ts'
import type { Format } from './format.ts'
import {
  closeFeature,
  collectionWriter,
  geojsonFeatures,
  geometryOf,
  mendMember,
  SEPARATOR,
} from './geojson.ts'

/** The type of drafts: by that of the standard, which is GeoJSON's, a client asks for a profile. */
const TYPES = ['application/fg+json', 'application/vnd.ogc.fg+json'] as const
export const JSONFG: Format = { name: 'jsonfg', types: TYPES, title: 'JSON-FG' }
const JSONFG_PLUS: Format = {
  name: 'jsonfg-plus',
  types: TYPES,
  title: 'JSON-FG with geometries in longitude and latitude',
}

export const CONFORMANCE = ['core', 'types-schemas'].map(
  (name) => `http://www.opengis.net/spec/json-fg-1/1.0/conf/${name}`,
)

/** True if geometries in this system are in `place`. */
export const hasPlaces = ({ srid, isNorthFirst }: CoordinateSystem) => srid !== DEGREES || isNorthFirst

/** Returns the text after `"geometry":` in SQL; null if there is no geometry. */
function geometriesOf(system: CoordinateSystem, column: GeometryColumn, hasBoth: boolean): SQL {
  const own = geometryOf(system, column)
  if (!hasPlaces(system)) return own
  return sql`${hasBoth ? geometryOf(CRS84, column) : sql`'null'`} || ',"place":' || ${own}`
}

/** Returns the members after the properties in SQL. Times that RFC 3339 does not know are null. */
function furtherOf({ temporal, temporalEnd }: Collection): SQL | undefined {
  if (!temporal) return undefined
  const time = temporalEnd ? periodOf(temporal, temporalEnd) : instantOf(temporal)
  return sql`',"time":' || coalesce(${time}, 'null')`
}

const instantOf = (column: Column): SQL => {
  const member = sql.raw(column.kind === 'date' ? `'{"date":'` : `'{"timestamp":'`)
  return sql`case when ${isKnown(column)} then ${member} || ${textOf(column)} || '}' end`
}

/** A time that is open on one side, but not on both; its start is not after its end. */
function periodOf(column: Column, ending: Column): SQL {
  const [first, last] = [columnOf(column), columnOf(ending)]
  const side = (one: Column) => sql`coalesce(${textOf(one)}, '".."')`
  const isPeriod = sql`coalesce(${isKnown(column)}, true) and coalesce(${isKnown(ending)}, true)
    and (${first} is not null or ${last} is not null) and (${first} <= ${last}) is not false`
  return sql`case when ${isPeriod} then '{"interval":[' || ${side(column)} || ',' || ${side(ending)} || ']}' end`
}

const isKnown = (column: Column): SQL =>
  sql`${columnOf(column)} >= '0001-01-01' and ${columnOf(column)} < '10000-01-01'`

/** Returns the text of a date, or of a time in UTC, in quotes. */
function textOf(column: Column): SQL {
  const value = columnOf(column)
  if (column.kind === 'date') return sql`to_json(${value})::text`
  const inUtc = column.type === 'timestamptz' ? sql`(${value} at time zone 'UTC')` : value
  return sql`left(to_json(${inUtc})::text, -1) || 'Z"'`
}

/** Dimension of all geometries of a type; undefined if there are several. */
function dimensionOf({ type }: GeometryColumn): number | undefined {
  if (/^(MULTI)?POINT/.test(type)) return 0
  if (/^((MULTI)?(LINESTRING|CURVE(?!POLYGON))|CIRCULARSTRING|COMPOUNDCURVE)/.test(type)) return 1
  return /^((MULTI)?(POLYGON|SURFACE)|CURVEPOLYGON|TRIANGLE)/.test(type) ? 2 : undefined
}

/** Returns the members of a document's root, each with a comma behind it. */
function rootOf({ id }: Collection, system: CoordinateSystem, { url }: Origin): string {
  const members = {
    conformsTo: CONFORMANCE,
    featureType: id,
    ...(url === undefined ? {} : { featureSchema: `${url}/schema` }),
    ...(hasPlaces(system) ? { coordRefSys: system.uri } : {}),
  }
  return `${JSON.stringify(members).slice(1, -1)},`
}

const encoderOf = (format: Format, hasBoth: boolean): Encoder =>
  makeEncoder((system) => {
    const features = geojsonFeatures(system, (column) => geometriesOf(system, column, hasBoth), furtherOf)
    const mendPlace = mendMember('"place":{', ',"properties":{')
    const mendGeometry = mendMember('"geometry":{', ',"place":{')
    return {
      ...features,
      format,
      extensions: ['jsonfg'],
      hasLinks: true,
      separator: SEPARATOR,
      mend(text) {
        if (!hasPlaces(system)) return features.mend(text)
        const mended = mendPlace(text)
        return mended && hasBoth
          ? { ...mended, ...mendGeometry(mended.features), mended: mended.mended }
          : mended
      },
      document: (feature, collection, origin, links) =>
        closeFeature(`${feature},${rootOf(collection, system, origin).slice(0, -1)}`, links),
      open({ collection, origin }) {
        const dimension = dimensionOf(collection.geometry)
        const root = rootOf(collection, system, origin)
        return collectionWriter(root + (dimension === undefined ? '' : `"geometryDimension":${dimension},`))
      },
    }
  })

export const jsonfg = encoderOf(JSONFG, false)
/** With a geometry in longitude and latitude in each feature. It is a profile of the same format. */
export const jsonfgPlus = encoderOf(JSONFG_PLUS, true)
