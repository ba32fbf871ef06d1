// Owns the list of collections and what is said of each.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { type Static, Type } from 'typebox'
import type { Catalog } from '../../features/collections/catalog.ts'
import { type Collection, distributionOf } from '../../features/collections/collection.ts'
import type { Extent, Extents } from '../../features/collections/extent.ts'
import { CRS84 } from '../../features/values/bbox.ts'
import { collectionUrl } from '../feature-response.ts'
import { baseMapOf, sendPage } from '../html/layout.ts'
import { collectionPage, collectionsPage } from '../html/overview-pages.ts'
import { type Link, licenseUrl, link, ownLinks, selfUrl } from '../links.ts'
import { GEOJSON, HTML, JSON_FORMAT, negotiate } from '../negotiate.ts'
import {
  type Collection as CollectionSchema,
  collectionParams,
  content,
  formatQuery,
  notFound,
  orPage,
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
        response: { 200: orPage(content('All collections.', JSON_FORMAT.types, Collections)), ...problems },
      },
    },
    async (request, reply) => {
      const type = negotiate(request, [JSON_FORMAT, HTML])
      const base = request.publicUrl
      const isHtml = type === HTML.types[0]
      const links = ownLinks(selfUrl(base, request.url), isHtml, JSON_FORMAT.types[0])
      if (isHtml) return sendPage(reply, collectionsPage(base, catalog.list(), links))
      const described = catalog.list().map(async (collection) => {
        const own = ownLinks(collectionUrl(base, collection), false, JSON_FORMAT.types[0])
        return render(collection, await extents.of(collection), base, own)
      })
      reply.type(type)
      return { links, collections: await Promise.all(described) }
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
          200: orPage(
            content('What is known of the collection.', JSON_FORMAT.types, Type.Ref('Collection#')),
          ),
          404: notFound,
          ...problems,
        },
      },
    },
    async (request, reply) => {
      const type = negotiate(request, [JSON_FORMAT, HTML])
      const collection = catalog.get(request.params.collectionId)
      const base = request.publicUrl
      const isHtml = type === HTML.types[0]
      const extent = await extents.of(collection)
      const own = ownLinks(selfUrl(base, request.url), isHtml, JSON_FORMAT.types[0])
      const document = render(collection, extent, base, own)
      if (isHtml)
        return sendPage(
          reply,
          collectionPage(base, collection, extent, document.links as Link[], baseMapOf(base, catalog.list())),
        )
      reply.type(type)
      return document
    },
  )
}

const GREGORIAN = 'http://www.opengis.net/def/uom/ISO-8601/0/Gregorian'

function render(
  collection: Collection,
  { bbox, interval }: Extent,
  base: string,
  own: readonly Link[],
): Static<typeof CollectionSchema> {
  const { id, title, description, license, attribution } = collection
  const distributed = distributionOf(collection)
  const items = `${collectionUrl(base, collection)}/items`
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
    ...(distributed ? { distribution: distributed } : {}),
    links: [
      ...own,
      link('items', items, GEOJSON.types[0], title),
      link('items', `${items}?f=html`, HTML.types[0], title),
      ...(license ? [link('license', licenseUrl(license), 'text/html')] : []),
    ],
  }
}
