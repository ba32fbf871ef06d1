// Owns the texts that describe an imported collection: in Tessera's table of collections.

import { and, eq, sql } from 'drizzle-orm'
import type { Session } from '../../database/session.ts'
import { collectionTable } from '../../database/tables.ts'
import { execute } from './execute.ts'
import { SCHEMA } from './target-table.ts'

export type Description = {
  readonly title?: string | undefined
  readonly description?: string | undefined
  /** An SPDX identifier or a URL. */
  readonly license?: string | undefined
  readonly attribution?: string | undefined
}

/**
 * Stores the texts that are given and keeps the others. A collection that has no row yet gets one, which also marks its
 * table as created by Tessera.
 * @param existing see ImportOptions: to append without texts changes nothing here
 */
export async function describeCollection(
  session: Session,
  collection: string,
  { title, description, license, attribution }: Description,
  existing: 'append' | 'replace' | undefined,
) {
  const given = Object.entries({ title, description, license, attribution }).filter(
    ([, value]) => value !== undefined,
  )
  if (existing === 'append' && given.length === 0) return
  const isThisTable = and(eq(collectionTable.schemaName, SCHEMA), eq(collectionTable.tableName, collection))
  const [row] = await execute(session, sql`select from ${collectionTable} where ${isThisTable}`)
  if (row) {
    for (const [name, value] of given) {
      await execute(
        session,
        sql`update ${collectionTable} set ${sql.identifier(name)} = ${value} where ${isThisTable}`,
      )
    }
    return
  }
  await execute(
    session,
    sql`insert into ${collectionTable} (schema_name, table_name, title, description, license, attribution, is_managed)
        values (${SCHEMA}, ${collection}, ${title ?? null}, ${description ?? null}, ${license ?? null}, ${attribution ?? null}, true)`,
  )
}
