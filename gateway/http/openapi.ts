// Owns the OpenAPI document: the route schemas → OpenAPI 3.0, and the page that shows it.

import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'
import { named } from './schemas.ts'

/** Bumped with the API, not with each release of Tessera. */
const API_VERSION = '0.1.0'

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
      tags: [
        { name: 'Capabilities', description: 'What this API is and can do.' },
        { name: 'Data', description: 'Collections and their features.' },
        { name: 'Operations', description: 'For those who run it.' },
      ],
    },
    refResolver: { buildLocalReference: (json) => String(json.$id) },
  })
  await app.register(swaggerUi, {
    routePrefix: '/api.html',
    staticCSP: true,
    uiConfig: { deepLinking: true, docExpansion: 'list' },
    transformSpecification: (document, request) => ({ ...document, servers: [{ url: request.publicUrl }] }),
    transformSpecificationClone: false,
  })
}
