// Owns what differs if the run's database is a Citus cluster: a test's tables are distributed, and policies have no sub-select.

import type { Session } from '../../database/session.ts'

export async function isCitus(session: Session): Promise<boolean> {
  const [row] = await session.query<{ citus: boolean }>(
    "select to_regproc('pg_catalog.create_distributed_table') is not null as citus",
  )
  return row!.citus
}

/** Returns the SQL of the caller's claims in a policy. Citus has none with a sub-select, by which it is computed once. */
export async function claimsInPolicy(session: Session): Promise<string> {
  const claims = "nullif(current_setting('request.jwt.claims', true), '')::jsonb"
  return (await isCitus(session)) ? claims : `(select ${claims})`
}

export async function distributeById(session: Session, ...tables: readonly string[]): Promise<void> {
  if (!(await isCitus(session))) return
  for (const table of tables) await session.query('select create_distributed_table($1, $2)', [table, 'id'])
}
