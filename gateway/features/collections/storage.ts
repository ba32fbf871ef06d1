// Owns how the tables of collections are stored: their indexes, rows and statistics, for people who look for what is wrong.

import { readFileSync } from 'node:fs'
import type { Database } from '../../database/contract.ts'
import type { Statement } from '../../database/statement.ts'
import type { Collection, Relation } from './collection.ts'

/** The storage of a relation, as storage.sql describes it. */
export type Storage = Pick<Relation, 'schema' | 'table' | 'kind'> & {
  /** As statistics have them; -1 if there are none. */
  readonly rows: number
  readonly liveRows: number
  readonly deadRows: number
  readonly brokenIndexes: readonly string[]
  readonly isIndexed: boolean
  readonly isIndexedAsGeometry: boolean
  readonly isSystemIndexed: boolean
  /** Column that could become the key; null if none has a usual name. */
  readonly candidate: string | null
}

const text = readFileSync(new URL('storage.sql', import.meta.url), 'utf8')

/** Returns the storage of collections. @throws GatewayError */
export async function readStorage(
  database: Database,
  collections: readonly Collection[],
): Promise<ReadonlyMap<Collection, Storage>> {
  const statement: Statement = {
    name: 'tessera_storage',
    text,
    values: [
      collections.map(({ schema }) => schema),
      collections.map(({ table }) => table),
      collections.map(({ geometry }) => geometry.column),
    ],
  }
  const [row] = await database.read(statement)
  const found = JSON.parse(row![0]!) as Storage[]
  return new Map(
    collections.flatMap((collection): [Collection, Storage][] => {
      const storage = found.find(
        ({ schema, table }) => schema === collection.schema && table === collection.table,
      )
      return storage ? [[collection, storage]] : []
    }),
  )
}
