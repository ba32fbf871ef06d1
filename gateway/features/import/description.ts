// Owns what is said of a collection that was imported.

import { and, eq, sql } from 'drizzle-orm'
import type { Session } from '../../database/session.ts'
import { collectionTable } from '../../database/tables.ts'
import { execute, SCHEMA } from './target-table.ts'

export type Describe = {
  readonly title?: string | undefined
  readonly description?: string | undefined
  readonly license?: string | undefined
  readonly attribution?: string | undefined
}

export async function describe(
  session: Session,
  options: Describe & { readonly collection: string; readonly existing?: 'append' | 'replace' | undefined },
) {
  const { collection, existing, title, description, license, attribution } = options
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
