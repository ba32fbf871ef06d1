// Owns the API's description of itself: landing page, conformance, definition.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { makeDescription } from '../collection-openapi.ts'
import { sendApiPage } from '../html/api-page.ts'
import { sendPage } from '../html/layout.ts'
import { conformancePage, landingPage } from '../html/overview-pages.ts'
import { link, ownLinks, selfUrl } from '../links.ts'
import { DOCUMENT_FORMATS, HTML, JSON_FORMAT, negotiate, OPENAPI } from '../negotiate.ts'
import { content, formatQuery, jsonQuery, orPage, problems } from '../schemas.ts'
import { TILING_SCHEMES, tileLinks } from '../tileset.ts'
import { Type } from '../type.ts'
import type { VisibleCollections } from '../visible.ts'

export const conformance = [
  'http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core',
  'http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/oas30',
  'http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/html',
]

/** Relation of the functions that filters can call. */
const FUNCTIONS = 'http://www.opengis.net/def/rel/ogc/1.0/functions'

const LandingPage = Type.Object({
  title: Type.String(),
  description: Type.String(),
  links: Type.Array(Type.Ref('Link#')),
})
const Conformance = Type.Object({ conformsTo: Type.Array(Type.String({ format: 'uri' })) })

type Services = { readonly conformsTo: readonly string[]; readonly visible: VisibleCollections }

export const landing: FastifyPluginAsyncTypebox<Services> = async (app, { conformsTo, visible }) => {
  app.get(
    '/',
    {
      schema: {
        operationId: 'getLandingPage',
        summary: 'The landing page, which links to everything else',
        tags: ['Capabilities'],
        querystring: formatQuery,
        response: {
          200: orPage(content('Links to the rest of the API.', JSON_FORMAT.types, LandingPage)),
          ...problems,
        },
      },
    },
    async (request, reply) => {
      const base = request.publicUrl
      const { format, type } = negotiate(request, DOCUMENT_FORMATS)
      const links = [
        ...ownLinks(selfUrl(base, request.url), format, DOCUMENT_FORMATS),
        link('service-desc', `${base}/api`, OPENAPI.types[0], 'The definition of the API'),
        link('service-doc', `${base}/api.html`, HTML.types[0], 'The documentation of the API'),
        link('conformance', `${base}/conformance`, JSON_FORMAT.types[0], 'The standards that it conforms to'),
        link('data', `${base}/collections`, JSON_FORMAT.types[0], 'The collections'),
        link(FUNCTIONS, `${base}/functions`, JSON_FORMAT.types[0], 'The functions that filters can call'),
        ...tileLinks(base),
        link(TILING_SCHEMES, `${base}/tileMatrixSets`, JSON_FORMAT.types[0], 'The tile matrix sets'),
      ]
      if (format === HTML) return sendPage(reply, landingPage(base, visible.list(request), links))
      reply.type(type)
      return { title: 'Tessera', description: 'PostGIS tables as OGC API Features.', links }
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
          200: orPage(content('URIs of conformance classes.', JSON_FORMAT.types, Conformance)),
          ...problems,
        },
      },
    },
    async (request, reply) => {
      const { format, type } = negotiate(request, DOCUMENT_FORMATS)
      if (format === HTML) {
        const links = ownLinks(selfUrl(request.publicUrl, request.url), HTML, DOCUMENT_FORMATS)
        return sendPage(reply, conformancePage(request.publicUrl, conformsTo, links))
      }
      reply.type(type)
      return { conformsTo: [...conformsTo] }
    },
  )

  let describe: ReturnType<typeof makeDescription> | undefined
  app.get(
    '/api',
    {
      schema: {
        operationId: 'getApiDefinition',
        summary: 'This document',
        tags: ['Capabilities'],
        querystring: jsonQuery,
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
      reply.type(negotiate(request, [OPENAPI]).type)
      describe ??= makeDescription(app.openapi())
      return reply.send(Buffer.from(describe(visible.list(request), request.publicUrl)))
    },
  )

  app.get('/api.html', { schema: { hide: true } }, async (request, reply) =>
    sendApiPage(reply, request.publicUrl),
  )
}
