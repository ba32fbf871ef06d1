// Owns the tables that Tessera creates: their definition, the names of their columns, and the mark that distinguishes them.

import { type SQL, sql } from '../../database/sql.ts'

/** Schema of the tables that Tessera creates: names of collections there have no prefix. */
export const SCHEMA = 'public'

/** PostgreSQL allows 63 bytes; the names of the collection's indexes and its sequence need the rest. */
export const COLLECTION_NAME = /^[A-Za-z_][A-Za-z0-9_-]{0,47}$/

/** Bytes of the longest name that PostgreSQL does not cut off. */
export const MAX_NAME_BYTES = 63
export const GEOMETRY_COLUMN = 'geom'
/** Column with the time of the last change, which Tessera keeps in the tables that it creates. */
export const TOUCHED_COLUMN = 'updated_at'

/** Columns that Tessera or PostgreSQL creates; no property can have such a name. */
export const OWN_COLUMNS: ReadonlySet<string> = new Set([
  'id',
  GEOMETRY_COLUMN,
  'cell',
  TOUCHED_COLUMN,
  'tableoid',
  'xmin',
  'cmin',
  'xmax',
  'cmax',
  'ctid',
])

/**
 * How Citus distributes features. `cell`: features that are near each other are stored together. `id`: features are
 * spread by their ids, which suits features that move all the time or whose ids clients choose. `reference`: every node
 * has all features, which suits small collections.
 */
export const DISTRIBUTIONS = ['cell', 'id', 'reference'] as const
export type DistributeBy = (typeof DISTRIBUTIONS)[number]

/** What the function tessera.create_table takes, see sql/0012_managed_collections.sql. */
export type TableDefinition = {
  readonly columns: readonly ColumnDefinition[]
  readonly geometry: {
    /** As PostGIS writes it, for example PointZ; null for any type and dimension. */
    readonly type: string | null
    readonly isRequired: boolean
  }
  /** Type of the ids, if features are not distributed by cell. */
  readonly idType: 'bigint' | 'text'
  /** Level of the cells; null if features are not distributed by cell. */
  readonly level: number | null
  readonly distribution: DistributeBy
}

export type ColumnDefinition = {
  readonly name: string
  /** A type of PostgreSQL. */
  readonly type: string
  readonly isRequired: boolean
  /** Characters, if the type is varchar. */
  readonly maxLength?: number | undefined
  readonly minLength?: number | undefined
  /** Numbers as their text, which has every digit. */
  readonly minimum?: string | undefined
  readonly exclusiveMinimum?: string | undefined
  readonly maximum?: string | undefined
  readonly exclusiveMaximum?: string | undefined
  /** All values that are allowed. */
  readonly values?: readonly string[] | undefined
  readonly comment?: string | undefined
}

/**
 * Comment of the column TOUCHED_COLUMN. It marks the table itself: the row in tessera.collection has only a name, which
 * another table may have taken since. Unlike an OID, a comment survives a dump, and it is gone with the table.
 */
export const MANAGED_COMMENT = 'Time of the last change through Tessera, which has created this table.'

/** Returns the condition that a table has the mark. @param oid expression of its OID */
export const isMarked = (oid: SQL): SQL =>
  sql`exists (
        select from pg_catalog.pg_attribute a where a.attrelid = ${oid} and a.attname = '${sql.raw(TOUCHED_COLUMN)}'
          and pg_catalog.col_description(a.attrelid, a.attnum) = '${sql.raw(MANAGED_COMMENT)}')`
