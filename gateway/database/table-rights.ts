// Owns the question whether one of Tessera's own tables is there, and what the role of a connection may do with it.

import type { Statement } from './statement.ts'

type Right = 'select' | 'insert' | 'update' | 'delete'

/**
 * Returns a statement with one row, `t` if schema tessera has the table and the role has all of these rights to it.
 * @param column one that a later migration has added to the table
 */
export const hasRights = (table: string, rights: readonly Right[], column?: string): Statement => ({
  text: `select exists (
    select from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'tessera' and c.relname = $1 and has_schema_privilege(n.oid, 'usage')
      and (select bool_and(has_table_privilege(c.oid, wanted)) from unnest($2::text[]) wanted)
      and ($3::text is null or exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = $3)))`,
  values: [table, rights, column ?? null],
})
