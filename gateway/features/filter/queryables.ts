// Owns what a filter can name: the columns of a collection with their types, and its geometry.

import { composeOnce } from '../../database/template.ts'
import { type Collection, elementKindOf, isFilterable } from '../collections/collection.ts'
import type { Column, ColumnKind } from '../values/column.ts'
import { type GeometryColumn, geometryIn, storedGeometry } from '../values/geometry-column.ts'
import type { ColumnTerm, ValueType } from './term.ts'

/** The geometry of features, and its SQL, which has no values. */
export type QueryableGeometry = Pick<GeometryColumn, 'column' | 'type' | 'srid'> & {
  /** As it is stored, so that its index is used. */
  readonly stored: string
  readonly in: (srid: number) => string
}

export type Queryables = {
  readonly geometry: QueryableGeometry
  readonly columns: ReadonlyMap<string, ColumnTerm>
}

const TYPES: Readonly<Record<ColumnKind, ValueType>> = {
  integer: 'number',
  number: 'number',
  boolean: 'boolean',
  string: 'string',
  date: 'date',
  timestamp: 'timestamp',
  uuid: 'string',
  json: 'json',
  other: 'other',
}

/** Kept for as long as their collections: a table can have more columns than a filter has operations. */
const known = new WeakMap<Collection, Queryables>()

export function queryablesOf(collection: Collection): Queryables {
  const { geometry, idColumn, properties } = collection
  const columns = idColumn ? [idColumn, ...properties] : properties
  const queryables = known.get(collection) ?? {
    geometry: queryableGeometry(geometry),
    columns: new Map(columns.map((column) => [column.name, termOf(column)])),
  }
  known.set(collection, queryables)
  return queryables
}

export const queryableGeometry = (geometry: GeometryColumn): QueryableGeometry => ({
  column: geometry.column,
  type: geometry.type,
  srid: geometry.srid,
  stored: composeOnce(storedGeometry(geometry)).text,
  in: (srid) => composeOnce(geometryIn(srid, geometry)).text,
})

const termOf = (column: Column): ColumnTerm => ({
  is: 'column',
  type: !isFilterable(column) ? 'other' : column.isArray ? 'list' : TYPES[column.kind],
  column,
})

/** Returns the elements of a column of lists as a column. */
export const elementOf = (column: Column): Column => ({
  ...column,
  type: column.type.replace(/^_/, ''),
  kind: elementKindOf(column),
  isArray: false,
})

/** Returns the type of the elements of a column of lists. */
export const elementTypeOf = (column: Column): ValueType => TYPES[elementKindOf(column)]
