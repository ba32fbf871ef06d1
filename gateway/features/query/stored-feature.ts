// Owns a single feature as it is stored, in SQL: its id, its text, and the version that it has.

import { type SQL, sql } from '../../database/sql.ts'
import type { Row } from '../../database/statement.ts'
import { gatewayError, quoted } from '../../errors.ts'
import type { Collection } from '../collections/collection.ts'
import type { Encoder, GeometryForm } from '../formats/encoder.ts'
import { geojson } from '../formats/geojson.ts'
import { columnOf } from '../values/column.ts'
import { modificationTimeOf } from './modification-time.ts'

/** A feature as it is at some time; `text` is its GeoJSON, see featureOf. */
export type StoredFeature = {
  readonly id: string
  readonly text: string
  readonly version: string
  /** Second since 1970 from which on it is so; undefined if the table does not tell, or no calendar has it. */
  readonly modified?: number | undefined
}

/** @param row of itemOf */
export const storedFeature = ([id, text, version, modified]: Row): StoredFeature => ({
  id: id!,
  text: text!,
  version: version!,
  modified: modified != null && Number.isFinite(Number(modified)) ? Number(modified) : undefined,
})

/** Types whose values are hashed directly; others are hashed as their text, which every type has. */
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
 * Returns a 64-bit number that differs whenever a row does. It is computed from the content and not from xmin, so that
 * it is the same on a secondary, after a shard has moved or a dump was restored, and through a view. It uses immutable
 * functions alone, because Citus allows no others in the condition of a change: the text of a time is not immutable,
 * its hash is.
 */
export function versionOf({ columns, geometry }: Collection): SQL {
  const values = columns.map((column) => {
    const isHashed = HASHED.has(column.type) || HASHED_ARRAY.test(column.type) || column.labels !== undefined
    // Compared byte by byte: a collation may treat different texts as equal.
    if (TEXTS.has(column.type) || !isHashed) return sql`${columnOf(column)}::text collate "C"`
    return columnOf(column)
  })
  return sql`hash_record_extended(row(${sql.join([...values, sql`${sql.identifier(geometry.column)}::text`], sql.raw(', '))}), 0)`
}

/** Bytes of a geometry, as it is stored, from which on a feature is large: its text has up to four times as many. */
const LARGE_BYTES = 256 * 1024

/** Returns the columns of a single feature: its id, its text, its version, the second of its last change. */
export const itemOf = (collection: Collection, form: GeometryForm, encoder = geojson): SQL =>
  sql`${columnOf(collection.idColumn!)}::text, ${encoder.featureOf(collection, collection.properties, form)}, ${versionOf(collection)}, ${modificationTimeOf(collection)}`

/** Returns the columns of a feature without its text: its id, its version, the second of its last change. */
export const onlyVersionOf = (collection: Collection): SQL =>
  sql`${columnOf(collection.idColumn!)}::text, null, ${versionOf(collection)}, ${modificationTimeOf(collection)}`

/**
 * Returns the columns of a feature that may be read with others: if its geometry is large, text and version are null,
 * and a fifth column has its bytes. PostgreSQL knows these without reading the geometry.
 */
export function itemUnlessLarge(collection: Collection, encoder: Encoder): SQL {
  const { column, type } = collection.geometry
  if (type.startsWith('POINT')) return itemOf(collection, 'converted', encoder)
  const bytes = sql`pg_column_size(${sql.identifier(column)})`
  const unlessLarge = (value: SQL) =>
    sql`case when ${bytes} > ${sql.raw(String(LARGE_BYTES))} then null else ${value} end`
  return sql`${columnOf(collection.idColumn!)}::text, ${unlessLarge(encoder.featureOf(collection, collection.properties, 'converted'))}, ${unlessLarge(versionOf(collection))}, ${modificationTimeOf(collection)}, ${bytes}`
}

/** Bytes of a geometry, as it is stored, up to which a page shows its coordinates: about a thousand positions. */
const SHOWN_BYTES = 16 * 1024

/** A feature as a page shows it. */
export type PageFeature = {
  readonly text: string
  /** True if its geometry is left out, because it is long. */
  readonly isLong: boolean
}

/** @param row of pageOf; of itemOf if the feature was found on its way to another cell */
export const pageFeature = ([, text, , , isLong]: Row): PageFeature => ({
  text: text!,
  isLong: isLong === 't',
})

/** Returns the columns of a feature for a page: those of itemOf, without the version, and whether its geometry is left out. */
export function pageOf(collection: Collection, encoder: Encoder, form: GeometryForm): SQL {
  const bytes = sql`pg_column_size(${sql.identifier(collection.geometry.column)})`
  const isLong = sql`coalesce(${bytes} > ${sql.raw(String(SHOWN_BYTES))}, false)`
  const featureIn = (one: GeometryForm) => encoder.featureOf(collection, collection.properties, one)
  return sql`${columnOf(collection.idColumn!)}::text, case when ${isLong} then ${featureIn('none')} else ${featureIn(form)} end, '', null, ${isLong}`
}

export const featureNotFound = (collection: Collection, id: string) =>
  gatewayError('feature-not-found', `There is no feature ${quoted(id)} in the collection ${collection.id}.`, {
    collection: collection.id,
    feature: id,
  })
