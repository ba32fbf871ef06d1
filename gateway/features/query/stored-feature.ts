// Owns what a row is as a feature, in SQL: its text, and what tells one version of it from another.

import { type SQL, sql } from 'drizzle-orm'
import { gatewayError } from '../../errors.ts'
import { type Collection, columnOf } from '../collections/collection.ts'
import type { Column } from '../values/column.ts'

/** A feature as it is at some time; `text` up to its last brace. */
export type StoredItem = { readonly id: string; readonly text: string; readonly version: string }

/** Nine decimals of a degree: a tenth of a millimetre. */
const DECIMALS = 9

/**
 * A feature's text up to its last brace, which is left to whoever has links to add. Member by member rather than as a
 * record: Citus can neither plan a record of a subquery over shards, nor a subquery in RETURNING; and it is no slower.
 */
export function featureOf({ geometry, idColumn }: Collection, properties: readonly Column[]): SQL {
  const id = idColumn && [
    sql`'"id":'`,
    idColumn.kind === 'integer' ? columnOf(idColumn) : sql`to_json(${columnOf(idColumn)})`,
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
    sql`coalesce(ST_AsGeoJSON(${geometryOf(geometry)}, ${sql.raw(String(DECIMALS))}, 0), 'null')`,
    sql`',"properties":{'`,
    ...members,
    sql`'}'`,
  ])
}

/** PostgreSQL passes no more to one function. */
const MOST_ARGUMENTS = 100

/**
 * In one call: a chain of operators is as deep as it is long, and Citus copies it for each execution (a look-up at a
 * worker by 60 of 540 µs faster).
 */
function concat(texts: readonly SQL[]): SQL {
  if (texts.length <= MOST_ARGUMENTS) return sql`concat(${sql.join([...texts], sql.raw(', '))})`
  const parts = Math.ceil(texts.length / MOST_ARGUMENTS)
  return concat(
    Array.from({ length: parts }, (_, part) =>
      concat(texts.slice(part * MOST_ARGUMENTS, (part + 1) * MOST_ARGUMENTS)),
    ),
  )
}

/** The geometry as GeoJSON wants it: longitude and latitude, straight lines, rings by the right-hand rule. */
function geometryOf({ column, type, srid }: Collection['geometry']): SQL {
  let geometry = sql`${sql.identifier(column)}`
  if (!/^(MULTI)?(POINT|LINESTRING|POLYGON)(Z|M|ZM)?$/.test(type)) geometry = sql`ST_CurveToLine(${geometry})`
  if (srid !== 4326 && srid !== 0) geometry = sql`ST_Transform(${geometry}, 4326)`
  if (/POLYGON|GEOMETRY|CURVE|SURFACE/.test(type)) geometry = sql`ST_ForcePolygonCCW(${geometry})`
  return geometry
}

/** Types whose values are hashed as they are; others as their text, which PostgreSQL can always make. */
const HASHED = new Set([
  'int2',
  'int4',
  'int8',
  'bool',
  'text',
  'varchar',
  'bpchar',
  'uuid',
  'date',
  'timestamp',
  'timestamptz',
])
const TEXTS = new Set(['text', 'varchar', 'bpchar'])
const HASHED_ARRAY = /^_(int[248]|bool|text|varchar|uuid|date|timestamptz?)$/

/**
 * A 64-bit number that differs whenever a row does. By its content and not by xmin, so that it is the same
 * on a secondary, after a shard has moved or a dump was restored, and through a view. Of immutable functions
 * alone, because Citus takes no others into the condition of a change: the text of a time is not, its hash is.
 */
export function versionOf({ columns, geometry }: Collection): SQL {
  const values = columns.map((column) => {
    const isHashed = HASHED.has(column.type) || HASHED_ARRAY.test(column.type) || column.labels !== undefined
    // Byte by byte: a collation may take different texts for equal.
    if (TEXTS.has(column.type) || !isHashed) return sql`${columnOf(column)}::text collate "C"`
    return columnOf(column)
  })
  return sql`hash_record_extended(row(${sql.join([...values, sql`${sql.identifier(geometry.column)}::text`], sql.raw(', '))}), 0)`
}

/** What is read of a single feature: its id, its text, its version. */
export const itemOf = (collection: Collection): SQL =>
  sql`${columnOf(collection.idColumn!)}::text, ${featureOf(collection, collection.properties)}, ${versionOf(collection)}`

export const featureNotFound = (collection: Collection, id: string) =>
  gatewayError(
    'feature-not-found',
    `There is no feature ${JSON.stringify(id)} in the collection ${collection.id}.`,
    { collection: collection.id, feature: id },
  )
