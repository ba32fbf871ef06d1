// Owns reading features: pages of a collection's items, and single ones.

import { Readable } from 'node:stream'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply } from 'fastify'
import { Type } from 'typebox'
import type { Database, Row } from '../../database/database.ts'
import { isProjectionFailure } from '../../database/outcome.ts'
import { gatewayError } from '../../errors.ts'
import type { Catalog } from '../../features/catalog.ts'
import type { Collection } from '../../features/collection.ts'
import type { ItemLookup } from '../../features/item-lookup.ts'
import {
  compileItems,
  compilePage,
  DEFAULT_LIMIT,
  type ItemParameters,
  type ItemQuery,
  isLarge,
  MAX_LIMIT,
  MAX_OFFSET,
  type Page,
  parsePage,
  planItems,
  renderCursor,
} from '../../features/item-query.ts'
import { entityTag } from '../conditional.ts'
import { type Link, link, selfUrl } from '../links.ts'
import { GEOJSON, JSON_FORMAT, negotiate } from '../negotiate.ts'
import { collectionParams, content, formatParameter, formatQuery, notFound, problems } from '../schemas.ts'

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
    f: formatParameter('json'),
  },
  {
    // Any other parameter names a property of the collection, whose value is to be equal.
    additionalProperties: Type.String({ description: 'The value that the property of this name has.' }),
  },
)

const itemParams = Type.Object({
  ...collectionParams.properties,
  featureId: Type.String({ description: "A feature's id.", example: '1' }),
})

type Services = { readonly database: Database; readonly catalog: Catalog; readonly lookup: ItemLookup }

export const items: FastifyPluginAsyncTypebox<Services> = async (app, { database, catalog, lookup }) => {
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
        response: {
          200: content('A page of features.', GEOJSON.types, Type.Ref('FeatureCollection#')),
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
      const type = negotiate(request, [GEOJSON])
      const query = planItems(request.query as ItemParameters, collection)
      const urls = pageUrls(request.publicUrl, request.url, collection)
      const gone = abortWhenGone(reply)
      reply.type(type)
      if (isLarge(query)) return reply.send(await streamPage(database, query, urls, gone))
      return sendPage(reply, renderPage(await readPage(database, query, gone), query, urls))
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
        querystring: formatQuery,
        response: {
          200: content('The feature.', GEOJSON.types, Type.Ref('Feature#')),
          404: notFound,
          ...problems,
        },
      },
    },
    async (request, reply) => {
      const { collectionId, featureId } = request.params
      const collection = catalog.get(collectionId)
      const type = negotiate(request, [GEOJSON])
      const feature = collection.idColumn
        ? await lookup.find(collection, featureId)
        : refuseAddress(collection)
      if (feature === undefined) {
        throw gatewayError(
          'feature-not-found',
          `There is no feature ${JSON.stringify(featureId)} in the collection ${collectionId}.`,
          { collection: collectionId, feature: featureId },
        )
      }
      reply.type(type)
      const links = JSON.stringify(featureLinks(request.publicUrl, collection, featureId))
      // Text leaves in one write with its headers, which for so small an answer is an eighth of the whole.
      return reply.send(`${feature},"links":${links}}`)
    },
  )
}

function refuseAddress({ id, key, isKeyPhysical }: Collection): never {
  const reason =
    key.length > 1 && !isKeyPhysical
      ? `its key consists of ${key.map(({ name }) => name).join(', ')}`
      : 'its table has neither a primary key nor a unique index'
  throw gatewayError('feature-not-addressable', `Features of ${id} cannot be asked for by id: ${reason}.`, {
    collection: id,
  })
}

const collectionUrl = (base: string, { id }: Collection) => `${base}/collections/${encodeURIComponent(id)}`

function featureLinks(base: string, collection: Collection, featureId: string): Link[] {
  const url = collectionUrl(base, collection)
  return [
    link('self', `${url}/items/${encodeURIComponent(featureId)}`, GEOJSON.types[0]),
    link('collection', url, JSON_FORMAT.types[0], collection.title),
  ]
}

type PageUrls = {
  readonly self: string
  readonly collection: string
  readonly next: (parameters: Record<string, string>) => string
}

function pageUrls(base: string, requestUrl: string, collection: Collection): PageUrls {
  const [path, query] = requestUrl.split('?', 2)
  return {
    self: selfUrl(base, requestUrl),
    collection: collectionUrl(base, collection),
    next(parameters) {
      const search = new URLSearchParams(query)
      for (const [name, value] of Object.entries(parameters)) search.set(name, value)
      return `${base}${path}?${search}`
    },
  }
}

/** Aborts when the client leaves before it has its answer. */
function abortWhenGone(reply: FastifyReply): AbortSignal {
  const controller = new AbortController()
  const abort = () => {
    if (!reply.raw.writableFinished) controller.abort()
  }
  // It may have left before we got here, and would not be heard leaving again.
  if (reply.raw.destroyed || reply.raw.socket?.destroyed) abort()
  else reply.raw.once('close', abort)
  return controller.signal
}

/** Once more without the index of a projected table where PROJ could not project the box. */
async function withoutIndexIfNeeded<T>(
  query: ItemQuery,
  read: (isIndexed: boolean) => Promise<T>,
): Promise<T> {
  try {
    return await read(true)
  } catch (error) {
    if (!query.bbox || !isProjectionFailure(error)) throw error
    return read(false)
  }
}

async function readPage(database: Database, query: ItemQuery, gone: AbortSignal): Promise<Page> {
  const [row] = await withoutIndexIfNeeded(query, (isIndexed) =>
    database.read(compilePage(query, isIndexed), gone),
  )
  return parsePage(row!, query)
}

/** The end of a page: what is only known when all of it has been read. */
function renderEnd({ returned, matched, end }: Omit<Page, 'features'>, query: ItemQuery, urls: PageUrls) {
  const next = end && nextUrl(end, query, urls)
  const links = [
    link('self', urls.self, GEOJSON.types[0]),
    link('collection', urls.collection, JSON_FORMAT.types[0], query.collection.title),
    ...(next ? [link('next', next, GEOJSON.types[0], 'The next page')] : []),
  ]
  const matches = matched === undefined ? '' : `,"numberMatched":${matched}`
  return `],"numberReturned":${returned}${matches},"links":${JSON.stringify(links)}`
}

/** By the last feature's place in the order; by number where the client counts, or nothing tells features apart. */
function nextUrl(end: readonly (string | null)[], query: ItemQuery, urls: PageUrls): string | undefined {
  const { order, collection, limit, offset } = query
  if (offset === undefined && collection.key.length > 0)
    return urls.next({ cursor: renderCursor(order, end) })
  const next = (offset ?? 0) + limit
  return next <= MAX_OFFSET ? urls.next({ offset: String(next) }) : undefined
}

const timeStamp = () => `,"timeStamp":"${new Date().toISOString()}"}`

const START = '{"type":"FeatureCollection","features":['

const renderPage = (page: Page, query: ItemQuery, urls: PageUrls) =>
  `${START}${page.features}${page.returned > 0 ? '}' : ''}${renderEnd(page, query, urls)}`

/** Tagged without its time: the same features are the same page. */
function sendPage(reply: FastifyReply, page: string) {
  const end = timeStamp()
  const body = Buffer.from(page + end)
  return reply.header('etag', `W/${entityTag(body.subarray(0, body.length - end.length))}`).send(body)
}

/** The same as it is read; the first batch is awaited, so that what fails at once still is a problem document. */
async function streamPage(
  database: Database,
  query: ItemQuery,
  urls: PageUrls,
  gone: AbortSignal,
): Promise<Readable> {
  const { batches, first } = await withoutIndexIfNeeded(query, async (isIndexed) => {
    const batches = database.stream(compileItems(query, isIndexed), gone)
    return { batches, first: await batches.next() }
  })
  // The client may leave before the answer has begun: a generator that has not, has no end to run either.
  const giveBack = () => void batches.return()
  if (gone.aborted) giveBack()
  else gone.addEventListener('abort', giveBack, { once: true })
  return Readable.from(renderStream(batches, first, query, urls), { objectMode: false })
}

async function* renderStream(
  batches: AsyncGenerator<Row[], void>,
  first: IteratorResult<Row[], void>,
  query: ItemQuery,
  urls: PageUrls,
): AsyncGenerator<string> {
  let returned = 0
  let last: Row | undefined
  let hasNext = false
  yield START
  try {
    for (let batch = first; !batch.done; batch = await batches.next()) {
      let text = ''
      for (const row of batch.value) {
        if (returned === query.limit) {
          hasNext = true
          break
        }
        text += (returned > 0 ? ',' : '') + row[0] + '}'
        last = row
        returned++
      }
      yield text
    }
  } finally {
    // One row more than the page was asked for, and the connection must not wait for who reads no further.
    await batches.return()
  }
  const matched = !hasNext && query.after === undefined && !query.offset ? returned : undefined
  yield renderEnd({ returned, matched, end: hasNext ? last?.slice(1) : undefined }, query, urls) + timeStamp()
}
