// Owns purges: gateways give up what they keep of a collection, because its metadata change.

import type { Session } from '../../database/session.ts'
import type { Collection } from './collection.ts'

/** Purges collections. Every process sees it when it reads the catalog next, and takes each for a new version. */
export async function purgeCollections(session: Session, collections: readonly Collection[]): Promise<void> {
  await session.query(
    `insert into tessera.collection (schema_name, table_name, purged_at)
      select schema_name, table_name, clock_timestamp()
      from unnest($1::text[], $2::text[]) as purged (schema_name, table_name)
      on conflict (schema_name, table_name) do update set purged_at = excluded.purged_at`,
    [collections.map(({ schema }) => schema), collections.map(({ table }) => table)],
  )
}
