// Owns the OpenAPI document as the gateway serves it. `npm run openapi` generates it from the schemas of the routes, see
// openapi/document.ts, and a test compares the two: what generates it is not loaded to serve it.

import { readFileSync } from 'node:fs'
import type { FastifyInstance } from 'fastify'
import { named } from './schemas.ts'

const DOCUMENT = new URL('../../openapi/openapi.json', import.meta.url)

declare module 'fastify' {
  interface FastifyInstance {
    /** Returns the document, which callers must not change. */
    openapi(): object
  }
  interface FastifyContextConfig {
    /** Description of the body in the document: its media types, and the name of its schema. */
    readonly body?: {
      readonly types: readonly string[]
      /** Name of a schema, or names of several for each type that has others than the first one. */
      readonly schema: string
      readonly others?: Readonly<Record<string, readonly string[]>>
    }
  }
}

export function openapi(app: FastifyInstance) {
  for (const schema of named) app.addSchema(schema)
  let document: object | undefined
  app.decorate('openapi', () => {
    document ??= JSON.parse(readFileSync(DOCUMENT, 'utf8')) as object
    return document
  })
}
