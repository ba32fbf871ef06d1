// Owns reading features: pages of a collection's items, and single ones.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import type { Database, Statement } from '../../database/database.ts'
import { type GatewayError, gatewayError } from '../../errors.ts'
import type { Catalog } from '../../features/collections/catalog.ts'
import type { Collection } from '../../features/collections/collection.ts'
import { explainQuery } from '../../features/query/explanation.ts'
import {
  compileItems,
  compilePage,
  DEFAULT_LIMIT,
  type ItemParameters,
  isLarge,
  MAX_LIMIT,
  MAX_OFFSET,
  planItems,
} from '../../features/query/item-query.ts'
import { type ItemLookup, makeItemLookup } from '../../features/query/lookup.ts'
import { featureNotFound } from '../../features/query/stored-feature.ts'
import { parseExactJson } from '../../features/values/exact-json.ts'
import { type LocalityOptions, makeLocality } from '../auth/authenticate.ts'
import {
  consistencyHeaders,
  consistencyOf,
  readConsistency,
  tellConsistency,
  tellOrigin,
} from '../consistency-headers.ts'
import type { ConsistencyTokens } from '../consistency-token.ts'
import { before, deadlineOf, preferHeader } from '../deadline.ts'
import { featureLinks, sendFeature } from '../feature-response.ts'
import { itemPage, itemsPage, type ShownFeature } from '../html/feature-pages.ts'
import { baseMapOf, sendPage as sendHtml } from '../html/layout.ts'
import { GEOJSON, HTML, negotiate, QUERY_PLAN } from '../negotiate.ts'
import {
  featuresText,
  pageLinks,
  pageUrls,
  readPage,
  renderPage,
  sendPage,
  streamPage,
} from '../page-response.ts'
import {
  collectionParams,
  content,
  explainParameter,
  formatParameter,
  formatQuery,
  itemParams,
  notFound,
  orPage,
  problemOf,
  problems,
} from '../schemas.ts'

export const conformance = ['http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson']

const itemsQuery = Type.Object(
  {
    limit: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: MAX_LIMIT,
        default: DEFAULT_LIMIT,
        description: 'How many features a page has; more than the maximum is served as the maximum.',
        example: 100,
        'x-expected': `an integer from 1 to ${MAX_LIMIT}`,
      }),
    ),
    bbox: Type.Optional(
      Type.Array(Type.Number(), {
        minItems: 4,
        maxItems: 6,
        description:
          'Features that intersect the box: west, south, east, north in degrees, or with heights west, south, low, east, north, high. West of the antimeridian to east of it if the first is greater.',
        example: [5, 45, 11, 48],
        'x-expected': 'four or six numbers separated by commas',
      }),
    ),
    datetime: Type.Optional(
      Type.String({
        description: 'Features of an instant or an interval, either side of which may be open (..).',
        example: '2018-02-12T00:00:00Z/2018-03-18T12:31:12Z',
        'x-expected': 'an RFC 3339 date or time, or an interval of two',
      }),
    ),
    sortby: Type.Optional(
      Type.Array(Type.String(), {
        description: 'Properties to sort by, each with - before it to descend.',
        example: ['-name'],
        'x-expected': 'names of properties separated by commas',
      }),
    ),
    properties: Type.Optional(
      Type.Array(Type.String(), {
        description: 'The properties that features shall have; without it, all.',
        example: ['name'],
        'x-expected': 'names of properties separated by commas',
      }),
    ),
    offset: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: MAX_OFFSET,
        description:
          'How many features to leave out first. Next links do without it, faster and without a bound.',
        example: 0,
        'x-expected': `an integer from 0 to ${MAX_OFFSET}; follow the next links to go further`,
      }),
    ),
    cursor: Type.Optional(
      Type.String({
        description: 'Where a page begins: only as a next link has it.',
        example: 'WyJpZCIsIjEwIl0',
        'x-expected': 'as a next link has it',
      }),
    ),
    f: formatParameter('json', 'html'),
    explain: explainParameter,
  },
  {
    // Any other parameter names a property of the collection, whose value is to be equal.
    additionalProperties: Type.String({ description: 'The value that the property of this name has.' }),
  },
)

/** What a page for people shows at the most: its features are read whole, and each is a row. */
const MAX_SHOWN = 1_000

const itemQuery = Type.Object(
  { ...formatQuery.properties, explain: explainParameter },
  { additionalProperties: false },
)

/** A response that can be a query's plan instead. */
const orExplained = <T extends { content: object }>(response: T) => ({
  ...response,
  content: { ...response.content, [QUERY_PLAN]: { schema: Type.Ref('QueryPlan#') } },
})
const explanationForbidden = problemOf('Plans are shown to this machine only.')

const readHeaders = Type.Object({ ...preferHeader, ...consistencyHeaders })

type Services = LocalityOptions & {
  readonly database: Database
  readonly catalog: Catalog
  readonly lookup: ItemLookup
  readonly tokens: ConsistencyTokens
  /** The longest that a page is waited for. */
  readonly timeoutMs: number
}

export const items: FastifyPluginAsyncTypebox<Services> = async (
  app,
  { database, catalog, lookup, tokens, timeoutMs, ...locality },
) => {
  const isFromHere = makeLocality(locality)
  const explain = async (request: FastifyRequest, reply: FastifyReply, statement: Statement) => {
    if (!isFromHere(request)) {
      throw gatewayError(
        'explanation-forbidden',
        'Plans tell of the database: explain is for this machine only, on a gateway that listens on loopback.',
      )
    }
    return reply.type(QUERY_PLAN).send(await explainQuery(database, statement))
  }

  /** Joined with what others ask for, unless it must see what they need not. */
  const find = async (
    request: FastifyRequest,
    reply: FastifyReply,
    collection: Collection,
    featureId: string,
  ) => {
    const { prefer, 'consistency-token': token } = request.headers
    if (prefer === undefined && token === undefined) {
      const feature = await lookup.find(collection, featureId)
      if (feature) tellOrigin(reply, feature.origin)
      return feature
    }
    const consistency = await consistencyOf(request, reply, tokens)
    const deadline = deadlineOf(request, reply, undefined)
    const feature = await before(deadline, makeItemLookup(database, consistency).find(collection, featureId))
    await tellConsistency(reply, consistency, tokens)
    return feature
  }

  app.get(
    '/collections/:collectionId/items',
    {
      schema: {
        operationId: 'getFeatures',
        summary: 'Features of a collection',
        description: 'Every property of the collection is a parameter too: features whose value is equal.',
        tags: ['Data'],
        params: collectionParams,
        querystring: itemsQuery,
        headers: readHeaders,
        response: {
          200: orExplained({
            ...orPage(content('A page of features.', GEOJSON.types, Type.Ref('FeatureCollection#'))),
            headers: readConsistency,
          }),
          403: explanationForbidden,
          404: notFound,
          ...problems,
        },
      },
      // The standard wants a limit beyond the maximum served, not refused (/req/core/fc-limit-response-1).
      preValidation: (request, _reply, done) => {
        const query = request.query as { limit?: unknown }
        if (typeof query.limit === 'string' && /^\d+$/.test(query.limit) && Number(query.limit) > MAX_LIMIT) {
          query.limit = String(MAX_LIMIT)
        }
        done()
      },
    },
    async (request, reply) => {
      const collection = catalog.get(request.params.collectionId)
      const type = negotiate(request, [GEOJSON, HTML])
      const isHtml = type === HTML.types[0]
      const query = planItems(request.query as ItemParameters, collection)
      if (request.query.explain) {
        const statement = isLarge(query) ? compileItems(query) : compilePage(query)
        return explain(request, reply, statement)
      }
      const base = request.publicUrl
      const urls = pageUrls(base, request.url, collection, isHtml)
      const isStreamed = !isHtml && isLarge(query)
      // A long page takes as long as its client; PostgreSQL keeps the time of each batch.
      const deadline = deadlineOf(request, reply, isStreamed ? undefined : timeoutMs)
      const consistency = await consistencyOf(request, reply, tokens)
      const view = database.within(consistency)
      if (isHtml) {
        const shown = { ...query, limit: Math.min(query.limit, MAX_SHOWN) }
        const page = await readPage(view, shown, deadline)
        await tellConsistency(reply, consistency, tokens)
        const links = pageLinks(page, shown, urls)
        const baseMap = baseMapOf(base, catalog.list())
        return sendHtml(
          reply,
          itemsPage(
            base,
            collection,
            parseExactJson(`[${featuresText(page)}]`) as ShownFeature[],
            query.properties,
            links,
            baseMap,
          ),
        )
      }
      reply.type(type)
      if (isStreamed) {
        const stream = await streamPage(view, query, urls, deadline)
        await tellConsistency(reply, consistency, tokens)
        return reply.send(stream)
      }
      const page = await readPage(view, query, deadline)
      await tellConsistency(reply, consistency, tokens)
      return sendPage(reply, renderPage(page, query, urls))
    },
  )

  app.get(
    '/collections/:collectionId/items/:featureId',
    {
      schema: {
        operationId: 'getFeature',
        summary: 'A feature',
        tags: ['Data'],
        params: itemParams,
        querystring: itemQuery,
        headers: readHeaders,
        response: {
          200: orExplained({
            ...orPage(content('The feature.', GEOJSON.types, Type.Ref('Feature#'))),
            headers: readConsistency,
          }),
          403: explanationForbidden,
          404: notFound,
          ...problems,
        },
      },
    },
    async (request, reply) => {
      const { collectionId, featureId } = request.params
      const collection = catalog.get(collectionId)
      const type = negotiate(request, [GEOJSON, HTML])
      if (!collection.idColumn) throw refusedAddress(collection)
      if (request.query.explain) {
        const planned = lookup.plan(collection, featureId)
        if (!planned) throw featureNotFound(collection, featureId)
        return explain(request, reply, planned)
      }
      const feature = await find(request, reply, collection, featureId)
      if (feature === undefined) throw featureNotFound(collection, featureId)
      const base = request.publicUrl
      if (type !== HTML.types[0]) return sendFeature(reply, base, collection, featureId, feature, type)
      const links = featureLinks(base, collection, featureId, true)
      const baseMap = baseMapOf(base, catalog.list())
      return sendHtml(
        reply,
        itemPage(
          base,
          collection,
          featureId,
          parseExactJson(`${feature.text}}`) as ShownFeature,
          links,
          baseMap,
        ),
      )
    },
  )
}

function refusedAddress({ id, key, isKeyPhysical }: Collection): GatewayError {
  const reason =
    key.length > 1 && !isKeyPhysical
      ? `its key consists of ${key.map(({ name }) => name).join(', ')}`
      : 'its table has neither a primary key nor a unique index'
  return gatewayError('feature-not-addressable', `Features of ${id} cannot be asked for by id: ${reason}.`, {
    collection: id,
  })
}
