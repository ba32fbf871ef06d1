// Owns the OpenAPI document: the route schemas → OpenAPI 3.0, and the page that shows it.

import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'
import { ANY_PROPERTY } from './collection-openapi.ts'
import { forbidSniffing } from './html/assets.ts'
import { named } from './schemas.ts'

/** Changes with the API, not with each release of Tessera. */
const API_VERSION = '0.1.0'

/**
 * Policy of the page that shows the document. It loads nothing from other hosts and works over plain HTTP under any name:
 * the policy that comes with the page would have browsers load its scripts over HTTPS. The page styles its own
 * elements, and draws images from data URLs.
 */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "font-src 'self'",
  "connect-src 'self'",
  "form-action 'none'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join('; ')

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
        if (method === 'get' && parameter.in === 'query')
          Object.assign(parameter, { style: 'form', explode: false })
        const pattern = PATTERNS[parameter.name ?? '']
        if (pattern) parameter.schema = { ...parameter.schema, pattern }
      }
    }
  }
  document.paths?.['/collections/{collectionId}/items']?.get?.parameters?.push(PROPERTY_PARAMETERS)
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Description of the body in the document: its media types, and the name of its schema. */
    readonly body?: { readonly types: readonly string[]; readonly schema: string }
  }
}

export async function registerOpenapi(app: FastifyInstance) {
  for (const schema of named) app.addSchema(schema)
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
            description: 'A key that `tessera keys create` has created.',
          },
        },
      },
      // Reads need no key.
      security: [],
      tags: [
        { name: 'Capabilities', description: 'What this API is and can do.' },
        { name: 'Data', description: 'Collections and their features.' },
        { name: 'Changes', description: 'Create, change and remove features.' },
        { name: 'Operations', description: 'For operators of the gateway.' },
      ],
    },
    // Bodies are checked against the collection's own columns, which no route schema knows. Their description is
    // in the route's config, which Fastify does not validate against.
    transform({ schema, url, route }) {
      const body = route.config?.body
      if (!body) return { schema, url }
      const consumed = Object.fromEntries(
        body.types.map((type) => [type, { schema: { $ref: `${body.schema}#` } }]),
      )
      return { schema: { ...schema, body: { content: consumed } }, url }
    },
    transformObject(source) {
      const document = 'openapiObject' in source ? source.openapiObject : source.swaggerObject
      completeParameters(document as Document)
      return document
    },
    refResolver: { buildLocalReference: (json) => String(json.$id) },
  })
  await app.register(async (scope) => {
    scope.addHook('onRequest', forbidSniffing)
    await scope.register(swaggerUi, {
      routePrefix: '/api.html',
      staticCSP: CONTENT_SECURITY_POLICY,
      uiConfig: { deepLinking: true, docExpansion: 'list' },
      transformSpecification: (document, request) => ({ ...document, servers: [{ url: request.publicUrl }] }),
      transformSpecificationClone: false,
    })
  })
}
