// Owns the distribution of a test's tables by their ids, if the run's database is a Citus cluster.

import type { Session } from '../../database/session.ts'

export async function distributeById(session: Session, ...tables: readonly string[]): Promise<void> {
  const [row] = await session.query<{ citus: boolean }>(
    "select to_regproc('pg_catalog.create_distributed_table') is not null as citus",
  )
  if (!row!.citus) return
  for (const table of tables) await session.query('select create_distributed_table($1, $2)', [table, 'id'])
}
