// Owns relations and their columns as catalog.sql would describe them, for tests that need no database.

import type { Relation } from '../../features/collections/collection.ts'
import type { GeometryColumn } from '../../features/values/geometry-column.ts'

type RelationColumn = Relation['columns'][number]

/** Returns a column of points in a coordinate system; with undefined each row has its own. */
export const pointColumn = (srid: number | undefined): GeometryColumn => ({
  column: 'geom',
  type: 'POINT',
  srid,
  cast: srid === undefined ? undefined : `geometry(Point,${srid})`,
  isGeography: false,
  isDomain: false,
  dimension: 2,
  isNullable: true,
})

export const column = (
  name: string,
  type: string,
  isNullable = true,
  facts: Partial<RelationColumn> = {},
): RelationColumn => ({
  name,
  type,
  category: 'S',
  isComparable: true,
  isComposite: false,
  isNullable,
  hasDefault: false,
  isComputed: false,
  maxLength: null,
  maxDigits: null,
  labels: null,
  checks: [],
  comment: null,
  ...facts,
})

/** Returns a table with a key `id` and a geometry in degrees. */
export const tableOf = (
  table: string,
  geometry: 'Point' | 'Geometry',
  columns: readonly RelationColumn[],
): Relation => ({
  oid: '1',
  schema: 'public',
  table,
  kind: 'r',
  comment: null,
  estimatedRows: 0,
  geometryColumn: 'geom',
  geometryType: geometry.toUpperCase(),
  geometryCast: `geometry(${geometry},4326)`,
  srid: 4326,
  isGeography: false,
  isGeometryDomain: false,
  isLocked: false,
  isSteady: true,
  hasInsertTrigger: false,
  isGeometryRequired: false,
  isGeometryIndexed: false,
  sampleLimits: [],
  isAnyGeometry: false,
  level: null,
  isOverCells: false,
  hidden: [],
  key: ['id'],
  hasChildren: false,
  isReadableAsWhole: true,
  columns: [column('id', 'int8', false), ...columns],
})
