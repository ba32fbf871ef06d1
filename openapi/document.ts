// Owns the generation of openapi.json and of the client's types from the schemas of the routes, without a database.

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

/** Returns the document that `npm run openapi` writes. */
export async function makeDocument(): Promise<string> {
  const { config } = readConfig([], {}, {})
  const emit = () => {}
  // No request is sent to the app, so it does not matter whether a database answers at this URL.
  const database = openDatabase({ ...config, readUrl: 'postgresql://nobody@localhost/none', emit })
  const catalog: Catalog = {
    knowsCapabilities: true,
    get() {
      throw new Error('there are no collections in a document')
    },
    list: () => [],
    routines: [],
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

/**
 * Returns the TypeScript types of a document for the client, without query plans: they are for people to read, and with
 * them the type of a response would be a feature or a plan.
 */
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
