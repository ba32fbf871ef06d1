// Owns features as records, from which binary formats are written: a JSON list of the geometry, the id and the properties,
// each as PostgreSQL's text.

import { type SQL, sql } from '../../database/sql.ts'
import type { Collection } from '../collections/collection.ts'
import { type Column, columnOf } from '../values/column.ts'
import type { CoordinateSystem } from '../values/coordinate-system.ts'
import { type GeometryColumn, geometryIn, straightened } from '../values/geometry-column.ts'
import { type Encoder, type Features, type GeometryForm, type Layout, textsOf } from './encoder.ts'

/** Texts of a feature: its geometry as hexadecimal EWKB, then the values of the columns. */
export type FeatureRecord = readonly [geometry: string | null, ...values: (string | null)[]]

/** Returns the columns of a file: the id, which is none of the properties, comes first. */
export const columnsOf = ({
  collection: { idColumn },
  properties,
}: Pick<Layout, 'collection' | 'properties'>) => (idColumn ? [idColumn, ...properties] : properties)

/** Returns a value as a text that does not depend on the settings of a session; JSON for lists and objects. */
export function textOf(column: Column): SQL {
  const value = columnOf(column)
  if (column.isArray) return sql`to_json(${value})::text`
  switch (column.kind) {
    case 'date':
    case 'timestamp':
    case 'other':
      return sql`to_json(${value}) #>> '{}'`
    default:
      return sql`${value}::text`
  }
}

function featureOf(
  system: CoordinateSystem,
  collection: Collection,
  properties: readonly Column[],
  form: GeometryForm,
): SQL {
  const values = columnsOf({ collection, properties }).map(textOf)
  return sql`to_json(array[${sql.join([geometryMember(form, system, collection.geometry), ...values], sql.raw(', '))}])::text`
}

function geometryMember(form: GeometryForm, system: CoordinateSystem, geometry: GeometryColumn): SQL {
  if (form === 'none') return sql`null::text`
  return form === 'converted'
    ? geometryOf(system, geometry)
    : sql`${columnOf({ name: geometry.column })}::text`
}

/**
 * Returns the geometry with straight lines, because most programs know no others. East comes first in any system: that is
 * what these formats define.
 */
const geometryOf = ({ srid }: CoordinateSystem, column: GeometryColumn) =>
  sql`(${geometryIn(srid, column, straightened(column))})::text`

const STORED_GEOMETRY = /^\["([0-9A-F]+)"/

/** Returns the functions of every format whose features are records. */
export const recordFeatures = (system: CoordinateSystem) =>
  ({
    featureOf: (collection, properties, form) => featureOf(system, collection, properties, form),
    geometryOf: (column) => geometryOf(system, column),
    storedGeometryOf: (feature) => STORED_GEOMETRY.exec(feature)?.[1],
    fillGeometry: (feature, geometry) =>
      feature.replace(STORED_GEOMETRY, geometry === undefined ? '[null' : `["${geometry}"`),
    mend: () => undefined,
    separator: ',',
    hasLinks: false,
  }) satisfies Partial<Encoder>

export const parseRecords = (features: Features) =>
  JSON.parse(`[${textsOf(features).join()}]`) as FeatureRecord[]
