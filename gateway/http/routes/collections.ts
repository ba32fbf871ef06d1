// Owns the list of collections and what is said of each.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { type Static, Type } from 'typebox'
import type { Catalog } from '../../features/catalog.ts'
import type { Collection } from '../../features/collection.ts'
import { CRS84 } from '../../features/crs.ts'
import type { Extent, Extents } from '../../features/extent.ts'
import { licenseUrl, link, selfUrl } from '../links.ts'
import { GEOJSON, JSON_FORMAT, negotiate } from '../negotiate.ts'
import {
  type Collection as CollectionSchema,
  collectionParams,
  content,
  formatQuery,
  notFound,
  problems,
} from '../schemas.ts'

const Collections = Type.Object({
  links: Type.Array(Type.Ref('Link#')),
  collections: Type.Array(Type.Ref('Collection#')),
})

export const collections: FastifyPluginAsyncTypebox<{ catalog: Catalog; extents: Extents }> = async (
  app,
  { catalog, extents },
) => {
  app.get(
    '/collections',
    {
      schema: {
        operationId: 'getCollections',
        summary: 'The collections',
        tags: ['Data'],
        querystring: formatQuery,
        response: { 200: content('All collections.', JSON_FORMAT.types, Collections), ...problems },
      },
    },
    async (request, reply) => {
      const type = negotiate(request, [JSON_FORMAT])
      const base = request.publicUrl
      const described = catalog
        .list()
        .map(async (collection) => render(collection, await extents.of(collection), base))
      reply.type(type)
      return {
        links: [link('self', selfUrl(base, request.url), JSON_FORMAT.types[0])],
        collections: await Promise.all(described),
      }
    },
  )

  app.get(
    '/collections/:collectionId',
    {
      schema: {
        operationId: 'getCollection',
        summary: 'A collection',
        tags: ['Data'],
        params: collectionParams,
        querystring: formatQuery,
        response: {
          200: content('What is known of the collection.', JSON_FORMAT.types, Type.Ref('Collection#')),
          404: notFound,
          ...problems,
        },
      },
    },
    async (request, reply) => {
      const type = negotiate(request, [JSON_FORMAT])
      const collection = catalog.get(request.params.collectionId)
      reply.type(type)
      return render(collection, await extents.of(collection), request.publicUrl)
    },
  )
}

const GREGORIAN = 'http://www.opengis.net/def/uom/ISO-8601/0/Gregorian'

function render(
  collection: Collection,
  { bbox, interval }: Extent,
  base: string,
): Static<typeof CollectionSchema> {
  const { id, title, description, license, attribution } = collection
  const self = `${base}/collections/${encodeURIComponent(id)}`
  return {
    id,
    title,
    ...(description === undefined ? {} : { description }),
    ...(attribution === undefined ? {} : { attribution }),
    itemType: 'feature',
    extent: {
      ...(bbox ? { spatial: { bbox: [[...bbox]], crs: CRS84 } } : {}),
      ...(interval ? { temporal: { interval: [[...interval]], trs: GREGORIAN } } : {}),
    },
    crs: [CRS84],
    links: [
      link('self', self, JSON_FORMAT.types[0]),
      link('items', `${self}/items`, GEOJSON.types[0], title),
      ...(license ? [link('license', licenseUrl(license), 'text/html')] : []),
    ],
  }
}
