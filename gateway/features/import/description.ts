// Owns the texts that describe an imported collection: in Tessera's table of collections.

import type { Session } from '../../database/session.ts'
import { sql } from '../../database/sql.ts'
import { SCHEMA } from '../collections/managed.ts'
import { execute } from './execute.ts'

export type Description = {
  readonly title?: string | undefined
  readonly description?: string | undefined
  /** An SPDX identifier or a URL. */
  readonly license?: string | undefined
  readonly attribution?: string | undefined
}

/**
 * Stores the texts that are given and keeps the others.
 * @param isCreated true if the import created the table. Only this marks a table as Tessera's own, which a later import
 * may replace; to append to a table or to describe it does not.
 */
export async function describeCollection(
  session: Session,
  collection: string,
  { title, description, license, attribution }: Description,
  isCreated: boolean,
) {
  const given = Object.entries({
    title,
    description,
    license,
    attribution,
    is_managed: isCreated || undefined,
  }).filter(([, value]) => value !== undefined)
  if (given.length === 0) return
  const isThisTable = sql`schema_name = ${SCHEMA} and table_name = ${collection}`
  const [row] = await execute(session, sql`select from tessera.collection where ${isThisTable}`)
  if (row) {
    for (const [name, value] of given) {
      await execute(
        session,
        sql`update tessera.collection set ${sql.identifier(name)} = ${value} where ${isThisTable}`,
      )
    }
    return
  }
  await execute(
    session,
    sql`insert into tessera.collection (schema_name, table_name, title, description, license, attribution, is_managed)
        values (${SCHEMA}, ${collection}, ${title ?? null}, ${description ?? null}, ${license ?? null}, ${attribution ?? null}, ${isCreated})`,
  )
}
