// Owns what commands that read collections share: the database, for reading alone, and its catalog.

import type { Config } from '../config.ts'
import { openDatabase } from '../database/database.ts'
import type { Emit } from '../events.ts'
import { openCatalog } from '../features/collections/catalog.ts'
import { type Cleanup, findDatabase } from './lifecycle.ts'

/** Finds the database, or starts the embedded one, and opens its collections; all is closed by the cleanup. */
export async function openCollections(config: Config, cleanup: Cleanup, emit: Emit) {
  const { addresses } = await findDatabase(config, cleanup, true, emit)
  const database = openDatabase({ ...config, ...addresses, writeUrl: undefined, emit })
  cleanup.defer(() => database.close())
  const catalog = await openCatalog({ database, ...config, emit })
  cleanup.defer(() => catalog.close())
  return { addresses, database, catalog }
}
