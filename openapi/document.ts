// Owns the making of openapi.json and of the client's types: the routes' own schemas, without a database.

import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { buildApp } from '../gateway/app.ts'
import { readConfig } from '../gateway/config.ts'
import { openDatabase } from '../gateway/database/database.ts'
import type { Catalog } from '../gateway/features/collections/catalog.ts'
import { QUERY_PLAN } from '../gateway/http/negotiate.ts'

export const DOCUMENT_FILE = new URL('openapi.json', import.meta.url)
export const TYPES_FILE = new URL('client/schema.d.ts', import.meta.url)

const CLIENT_FOLDER = fileURLToPath(new URL('client/', import.meta.url))
const GENERATOR = fileURLToPath(new URL('client/node_modules/openapi-typescript/bin/cli.js', import.meta.url))

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
  const readMetrics = async () => ''
  const app = await buildApp({ config, database, catalog, emit, readMetrics, isDraining: () => false })
  await app.ready()
  const document = app.swagger()
  await app.close()
  await database.close()
  return `${JSON.stringify(document, null, 2)}\n`
}

/** The types of a document, as the client uses them: features are features there, and plans for people. */
export async function makeTypes(document: string): Promise<string> {
  const generating = promisify(execFile)(process.execPath, [GENERATOR], {
    cwd: CLIENT_FOLDER,
    maxBuffer: 1 << 26,
  })
  const withoutPlans = JSON.parse(document, (name, value) => (name === QUERY_PLAN ? undefined : value))
  generating.child.stdin!.end(JSON.stringify(withoutPlans))
  const { stdout } = await generating
  return `// Generated from openapi.json by \`npm run openapi\`.\n\n${stdout}`
}
