// Owns the generation of openapi.json and of the client's types from the schemas of the routes, without a database.

import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import swagger from '@fastify/swagger'
import type { FastifyInstance } from 'fastify'
import { buildApp } from '../gateway/app.ts'
import { readConfig } from '../gateway/config.ts'
import { openDatabase } from '../gateway/database/database.ts'
import type { Catalog } from '../gateway/features/collections/catalog.ts'
import { ANY_PROPERTY, SELECTING_PATHS } from '../gateway/http/collection-openapi.ts'
import { QUERY_PLAN } from '../gateway/http/negotiate.ts'

/** Changes with the API, not with each release of Tessera. */
const API_VERSION = '0.1.0'

export const DOCUMENT_FILE = new URL('openapi.json', import.meta.url)
export const TYPES_FILE = new URL('client/schema.d.ts', import.meta.url)

const CLIENT_FOLDER = fileURLToPath(new URL('client/', import.meta.url))
const GENERATOR = fileURLToPath(new URL('client/node_modules/openapi-typescript/bin/cli.js', import.meta.url))

/** One parameter for each property. Their names depend on the collection, which OpenAPI expresses as an object. */
const PROPERTY_PARAMETERS = {
  name: ANY_PROPERTY,
  in: 'query',
  description: 'Any property of the collection: features whose value is equal, as in country=AD.',
  required: false,
  style: 'form',
  explode: true,
  schema: { type: 'object', additionalProperties: { type: 'string' }, example: { country: 'AD' } },
}

/** Forms of parameters that the gateway checks by itself, because a pattern cannot tell what would be right. */
const PATTERNS: Readonly<Record<string, string>> = {
  cursor: '^[A-Za-z0-9_-]+$',
  'if-match': '^(\\*|"[!#-~]+"(, *"[!#-~]+")*)$',
  'idempotency-key': '^("[ !#-\\[\\]-~]{1,255}"|[!#-+\\--~]{1,255})$',
  'consistency-token': '^[A-Za-z0-9_-]+(, *[A-Za-z0-9_-]+)*$',
}

type Parameter = {
  in: string
  name?: string
  style?: string
  explode?: boolean
  schema: { type?: string; pattern?: string }
}
type Operation = { parameters?: Parameter[] }
type Document = { paths?: Record<string, Record<string, Operation> & { get?: Operation }> }

/** Adds what route schemas cannot express: how lists are written in a URL, and that properties are parameters. */
function completeParameters(document: Document) {
  for (const operations of Object.values(document.paths ?? {})) {
    for (const [method, { parameters = [] }] of Object.entries(operations)) {
      for (const parameter of parameters) {
        if (method !== 'post' && parameter.in === 'query')
          Object.assign(parameter, { style: 'form', explode: false })
        const pattern = PATTERNS[parameter.name ?? '']
        if (pattern) parameter.schema = { ...parameter.schema, pattern }
      }
    }
  }
  for (const path of SELECTING_PATHS) document.paths?.[path]?.get?.parameters?.push(PROPERTY_PARAMETERS)
}

/** Greatest value of an integer that fits into 32 bits. */
const GREATEST_INT32 = 2 ** 31 - 1

/**
 * Adds the width of numbers, which generators of clients otherwise take for 32 bits: positions would lose metres, ids and
 * counts their digits.
 */
function completeNumbers(value: unknown) {
  if (typeof value !== 'object' || value === null) return
  for (const inner of Object.values(value)) completeNumbers(inner)
  const schema = value as { type?: unknown; format?: string; maximum?: unknown }
  if (schema.type === 'number') schema.format ??= 'double'
  if (schema.type === 'integer' && !(Number(schema.maximum) <= GREATEST_INT32)) schema.format ??= 'int64'
}

/** Collects the routes that are added from now on into the document. */
async function collectRoutes(app: FastifyInstance) {
  await app.register(swagger, {
    openapi: {
      openapi: '3.0.3',
      info: {
        title: 'Tessera',
        description: 'PostGIS tables as OGC API Features.',
        version: API_VERSION,
        license: { name: 'Apache-2.0', url: 'https://www.apache.org/licenses/LICENSE-2.0' },
      },
      servers: [{ url: '/' }],
      components: {
        securitySchemes: {
          apiKey: {
            type: 'http',
            scheme: 'bearer',
            description:
              'A key that `tessera keys create` has created, or a token (JWT) of an issuer that the gateway accepts.',
          },
        },
      },
      // Reads need credentials only where a collection has readers.
      security: [{}, { apiKey: [] }],
      tags: [
        { name: 'Capabilities', description: 'What this API is and can do.' },
        { name: 'Data', description: 'Collections and their features.' },
        { name: 'Tiles', description: 'Collections as vector tiles for maps.' },
        { name: 'Changes', description: 'Create, change and remove features.' },
        { name: 'Access', description: 'API keys, and rules about who may read and change what.' },
        { name: 'Audit', description: 'Changes and who made them, and features as they were.' },
        { name: 'Operations', description: 'For operators of the gateway.' },
      ],
    },
    // Bodies are checked against the collection's own columns, which no route schema knows. Their description is
    // in the route's config, which Fastify does not validate against.
    transform({ schema, url, route }) {
      const body = route.config?.body
      if (!body) return { schema, url }
      const consumed = Object.fromEntries(
        body.types.map((type) => {
          const names = (body.others?.[type] ?? [body.schema]).map((name) => ({ $ref: `${name}#` }))
          return [type, { schema: names.length === 1 ? names[0] : { oneOf: names } }]
        }),
      )
      return { schema: { ...schema, body: { content: consumed } }, url }
    },
    transformObject(source) {
      const document = 'openapiObject' in source ? source.openapiObject : source.swaggerObject
      completeParameters(document as Document)
      completeNumbers(document)
      return document
    },
    refResolver: { buildLocalReference: (json) => String(json.$id) },
  })
}

/** Returns the document that `npm run openapi` writes. */
export async function makeDocument(): Promise<string> {
  const { config } = readConfig([], {}, {})
  const emit = () => {}
  // No request is sent to the app, so it does not matter whether a database answers at this URL.
  const database = openDatabase({ ...config, readUrl: 'postgresql://nobody@localhost/none', emit })
  const catalog: Catalog = {
    knowsCapabilities: true,
    isRestricted: false,
    get() {
      throw new Error('there are no collections in a document')
    },
    list: () => [],
    commonSystems: [],
    routines: [],
    reload: async () => {},
    close() {},
  }
  const readMetrics = async () => ''
  const app = await buildApp({
    config,
    database,
    catalog,
    emit,
    readMetrics,
    isDraining: () => false,
    describe: collectRoutes,
  })
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
