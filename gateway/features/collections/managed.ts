// Owns the mark of the tables that imports have created, which later imports may replace.

import { type SQL, sql } from '../../database/sql.ts'

/** Column with the time of the last change, which Tessera keeps in the tables that it creates. */
export const TOUCHED_COLUMN = 'updated_at'

/**
 * Comment of this column. It marks the table itself: the row in tessera.collection has only a name, which another table
 * may have taken since. Unlike an OID, a comment survives a dump, and it is gone with the table.
 */
export const MANAGED_COMMENT = 'Time of the last change through Tessera, which has created this table.'

/** Returns the condition that a table has the mark. @param oid expression of its OID */
export const isMarked = (oid: SQL): SQL =>
  sql`exists (
        select from pg_catalog.pg_attribute a where a.attrelid = ${oid} and a.attname = '${sql.raw(TOUCHED_COLUMN)}'
          and pg_catalog.col_description(a.attrelid, a.attnum) = '${sql.raw(MANAGED_COMMENT)}')`
