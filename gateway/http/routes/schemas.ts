// Owns what a collection says about its properties: the schemas of all of them, of those that a filter may name and of
// those to sort by (OGC API Features Part 3 and Part 5), and the OpenAPI document of this collection alone.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Collection } from '../../features/collections/collection.ts'
import { type Aspect, schemaOf } from '../../features/collections/schema.ts'
import type { Link } from '../../features/formats/format.ts'
import { openapiOf } from '../collection-openapi.ts'
import { collectionUrl } from '../feature-response.ts'
import { sendPage } from '../html/layout.ts'
import { schemaPage } from '../html/overview-pages.ts'
import { link, ownLinks, selfUrl } from '../links.ts'
import { HTML, JSON_SCHEMA, negotiate, OPENAPI, SCHEMA_FORMATS } from '../negotiate.ts'
import { collectionParams, content, formatQuery, jsonQuery, notFound, orPage, problems } from '../schemas.ts'
import { Type } from '../type.ts'
import type { VisibleCollections } from '../visible.ts'

export const conformance = [
  'http://www.opengis.net/spec/ogcapi-common-3/1.0/conf/schemas',
  'http://www.opengis.net/spec/ogcapi-common-3/1.0/conf/advanced-property-roles',
  'http://www.opengis.net/spec/ogcapi-common-3/1.0/conf/returnables-and-receivables',
  'http://www.opengis.net/spec/ogcapi-common-3/1.0/conf/queryables',
  'http://www.opengis.net/spec/ogcapi-common-3/1.0/conf/sortables',
  'http://www.opengis.net/spec/ogcapi-features-3/1.0/conf/queryables',
  'http://www.opengis.net/spec/ogcapi-features-3/1.0/conf/queryables-query-parameters',
]

const ASPECTS: readonly { readonly aspect: Aspect; readonly operationId: string; readonly title: string }[] =
  [
    { aspect: 'schema', operationId: 'getSchema', title: 'The schema of the features' },
    { aspect: 'queryables', operationId: 'getQueryables', title: 'The properties that a filter can name' },
    { aspect: 'sortables', operationId: 'getSortables', title: 'The properties to sort by' },
  ]

const REL = 'http://www.opengis.net/def/rel/ogc/1.0/'

/** Returns the links from a collection to what it says about its properties. */
export const schemaLinks = (base: string, collection: Collection): Link[] => {
  const url = collectionUrl(base, collection)
  return [
    ...ASPECTS.map(({ aspect, title }) =>
      link(`${REL}${aspect}`, `${url}/${aspect}`, JSON_SCHEMA.types[0], title),
    ),
    link('service-desc', `${url}/api`, OPENAPI.types[0], 'The definition of the API of this collection'),
  ]
}

/** Returns the header Link of what can be filtered (/req/queryables/queryables-link). */
export const queryablesLink = (base: string, collection: Collection) =>
  `<${collectionUrl(base, collection)}/queryables>; rel="${REL}queryables"; type="${JSON_SCHEMA.types[0]}"`

/** Its members `$schema` and `$id` are left out: the resolver of references would take them for the schema's own. */
const Schema = Type.Object(
  {
    type: Type.Literal('object'),
    properties: Type.Object({}, { additionalProperties: true }),
  },
  { additionalProperties: true },
)

export const schemas: FastifyPluginAsyncTypebox<{ visible: VisibleCollections }> = async (
  app,
  { visible },
) => {
  for (const { aspect, operationId, title } of ASPECTS)
    app.get(
      `/collections/:collectionId/${aspect}`,
      {
        schema: {
          operationId,
          summary: title,
          tags: ['Data'],
          params: collectionParams,
          querystring: formatQuery,
          response: {
            200: orPage(content('A JSON Schema.', JSON_SCHEMA.types, Schema)),
            404: notFound,
            ...problems,
          },
        },
      },
      async (request, reply) => {
        const { format, type } = negotiate(request, SCHEMA_FORMATS)
        const collection = visible.get(request, request.params.collectionId)
        const base = request.publicUrl
        const schema = schemaOf(collection, aspect, `${collectionUrl(base, collection)}/${aspect}`)
        if (format === HTML) {
          const links = ownLinks(selfUrl(base, request.url), HTML, SCHEMA_FORMATS)
          return sendPage(reply, schemaPage({ base, collection, title, schema, links }))
        }
        return reply.type(type).send(JSON.stringify(schema))
      },
    )

  app.get(
    '/collections/:collectionId/api',
    {
      schema: {
        operationId: 'getCollectionDefinition',
        summary: 'The definition of the API of this collection, with its own properties',
        tags: ['Data'],
        params: collectionParams,
        querystring: jsonQuery,
        response: {
          200: content(
            'An OpenAPI document.',
            OPENAPI.types,
            Type.Object({}, { additionalProperties: true }),
          ),
          404: notFound,
          ...problems,
        },
      },
    },
    async (request, reply) => {
      const { type } = negotiate(request, [OPENAPI])
      const collection = visible.get(request, request.params.collectionId)
      const document = openapiOf(app.openapi(), collection, request.publicUrl)
      // Not as text, because Fastify would then rewrite the parameter of the media type.
      return reply.type(type).send(Buffer.from(JSON.stringify(document)))
    },
  )
}
