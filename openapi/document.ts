// Owns the making of openapi.json: the routes' own schemas, without a database.

import { buildApp } from '../gateway/app.ts'
import { readConfig } from '../gateway/config.ts'
import { openDatabase } from '../gateway/database/database.ts'
import type { Catalog } from '../gateway/features/catalog.ts'

export const DOCUMENT_FILE = new URL('openapi.json', import.meta.url)

/** The document as `npm run openapi` writes it. */
export async function makeDocument(): Promise<string> {
  const { config } = readConfig([], {}, {})
  const emit = () => {}
  // Never connected to: no request is made.
  const database = openDatabase({ ...config, readUrl: 'postgresql://nobody@localhost/none', emit })
  const catalog: Catalog = {
    get() {
      throw new Error('there are no collections in a document')
    },
    list: () => [],
    reload: async () => {},
    close() {},
  }
  const app = await buildApp({ config, database, catalog, emit, isDraining: () => false })
  await app.ready()
  const document = app.swagger()
  await app.close()
  return `${JSON.stringify(document, null, 2)}\n`
}
