// Owns what the API says of itself: landing page, conformance, definition.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { link, selfUrl } from '../links.ts'
import { JSON_FORMAT, negotiate, OPENAPI } from '../negotiate.ts'
import { content, formatQuery, problems } from '../schemas.ts'

export const conformance = [
  'http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core',
  'http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/oas30',
]

const LandingPage = Type.Object({
  title: Type.String(),
  description: Type.String(),
  links: Type.Array(Type.Ref('Link#')),
})
const Conformance = Type.Object({ conformsTo: Type.Array(Type.String({ format: 'uri' })) })

export const landing: FastifyPluginAsyncTypebox<{ conformsTo: readonly string[] }> = async (
  app,
  { conformsTo },
) => {
  app.get(
    '/',
    {
      schema: {
        operationId: 'getLandingPage',
        summary: 'Where everything else is',
        tags: ['Capabilities'],
        querystring: formatQuery,
        response: {
          200: content('Links to the rest of the API.', JSON_FORMAT.types, LandingPage),
          ...problems,
        },
      },
    },
    async (request, reply) => {
      const base = request.publicUrl
      reply.type(negotiate(request, [JSON_FORMAT]))
      return {
        title: 'Tessera',
        description: 'PostGIS tables as OGC API Features.',
        links: [
          link('self', selfUrl(base, request.url), JSON_FORMAT.types[0], 'This document'),
          link('service-desc', `${base}/api`, OPENAPI.types[0], 'The definition of the API'),
          link('service-doc', `${base}/api.html`, 'text/html', 'The documentation of the API'),
          link(
            'conformance',
            `${base}/conformance`,
            JSON_FORMAT.types[0],
            'The standards that it conforms to',
          ),
          link('data', `${base}/collections`, JSON_FORMAT.types[0], 'The collections'),
        ],
      }
    },
  )

  app.get(
    '/conformance',
    {
      schema: {
        operationId: 'getConformance',
        summary: 'The standards that this API conforms to',
        tags: ['Capabilities'],
        querystring: formatQuery,
        response: {
          200: content('URIs of conformance classes.', JSON_FORMAT.types, Conformance),
          ...problems,
        },
      },
    },
    async (request, reply) => {
      reply.type(negotiate(request, [JSON_FORMAT]))
      return { conformsTo: [...conformsTo] }
    },
  )

  app.get(
    '/api',
    {
      schema: {
        operationId: 'getApiDefinition',
        summary: 'This document',
        tags: ['Capabilities'],
        querystring: formatQuery,
        response: {
          200: content(
            'The definition of the API.',
            OPENAPI.types,
            Type.Object({}, { additionalProperties: true }),
          ),
          ...problems,
        },
      },
    },
    async (request, reply) => {
      reply.type(negotiate(request, [OPENAPI]))
      return reply.send(
        Buffer.from(JSON.stringify({ ...app.swagger(), servers: [{ url: request.publicUrl }] })),
      )
    },
  )
}
