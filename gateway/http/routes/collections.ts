// Owns the list of collections and the description of each.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Static } from 'typebox'
import { type Collection, createsByPut, distributionOf } from '../../features/collections/collection.ts'
import type { Extent, Extents } from '../../features/collections/extent.ts'
import type { Link } from '../../features/formats/format.ts'
import { type CoordinateSystem, CRS84 } from '../../features/values/coordinate-system.ts'
import { collectionUrl } from '../feature-response.ts'
import { sendPage } from '../html/layout.ts'
import { localOf } from '../html/local.ts'
import { baseMapOf } from '../html/map.ts'
import { collectionPage, collectionsPage } from '../html/overview-pages.ts'
import { licenseUrl, link, ownLinks, selfUrl } from '../links.ts'
import { DOCUMENT_FORMATS, FEATURE_FORMATS, HTML, JSON_FORMAT, negotiate } from '../negotiate.ts'
import {
  type Collection as CollectionSchema,
  collectionParams,
  content,
  formatQuery,
  notFound,
  orPage,
  problems,
} from '../schemas.ts'
import { tileLinks } from '../tileset.ts'
import { Type } from '../type.ts'
import { principalOf } from '../view.ts'
import type { VisibleCollections } from '../visible.ts'
import { schemaLinks } from './schemas.ts'

export const conformance = ['http://www.opengis.net/spec/ogcapi-features-2/1.0/conf/crs']

const Collections = Type.Object({
  links: Type.Array(Type.Ref('Link#')),
  crs: Type.Array(Type.String({ format: 'uri' }), {
    description: 'Coordinate systems of every collection whose own list has `#/crs`.',
  }),
  collections: Type.Array(Type.Ref('Collection#')),
})

export const collections: FastifyPluginAsyncTypebox<{
  visible: VisibleCollections
  extents: Extents
}> = async (app, { visible, extents }) => {
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
      const { format, type } = negotiate(request, DOCUMENT_FORMATS)
      const base = request.publicUrl
      const links = ownLinks(selfUrl(base, request.url), format, DOCUMENT_FORMATS)
      if (format === HTML) return sendPage(reply, collectionsPage(base, visible.list(request), links))
      const common = [CRS84, ...visible.commonSystems]
      const described = visible.list(request).map(async (collection) => {
        const own = ownLinks(collectionUrl(base, collection), JSON_FORMAT, DOCUMENT_FORMATS)
        return render(collection, await extents.of(collection, principalOf(request)), base, own, common)
      })
      reply.type(type)
      return { links, crs: common.map(({ uri }) => uri), collections: await Promise.all(described) }
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
            content('The description of the collection.', JSON_FORMAT.types, Type.Ref('Collection#')),
          ),
          404: notFound,
          ...problems,
        },
      },
    },
    async (request, reply) => {
      const { format, type } = negotiate(request, DOCUMENT_FORMATS)
      const collection = visible.get(request, request.params.collectionId)
      const base = request.publicUrl
      const extent = await extents.of(collection, principalOf(request))
      const own = ownLinks(selfUrl(base, request.url), format, DOCUMENT_FORMATS)
      const document = render(collection, extent, base, own)
      if (format === HTML)
        return sendPage(
          reply,
          collectionPage(
            base,
            collection,
            extent,
            document.links as Link[],
            baseMapOf(base, visible.list(request)),
            localOf(request),
          ),
        )
      reply.type(type)
      return document
    },
  )
}

const GREGORIAN = 'http://www.opengis.net/def/uom/ISO-8601/0/Gregorian'

/** Points to the list of systems in the document that has all collections (RFC 6901). */
const GLOBAL_SYSTEMS = '#/crs'

/** @param common systems that the document lists for all collections */
function render(
  collection: Collection,
  { bbox, interval }: Extent,
  base: string,
  own: readonly Link[],
  common: readonly CoordinateSystem[] = [],
): Static<typeof CollectionSchema> {
  const { id, title, description, license, attribution, systems, storageSystem, coordinateEpoch } = collection
  const others = systems.filter((system) => !common.includes(system))
  const distributed = distributionOf(collection)
  const items = `${collectionUrl(base, collection)}/items`
  return {
    id,
    title,
    ...(description === undefined ? {} : { description }),
    ...(attribution === undefined ? {} : { attribution }),
    itemType: 'feature',
    extent: {
      ...(bbox ? { spatial: { bbox: [[...bbox]], crs: CRS84.uri } } : {}),
      ...(interval ? { temporal: { interval: [[...interval]], trs: GREGORIAN } } : {}),
    },
    crs: [...(common.length > 0 ? [GLOBAL_SYSTEMS] : []), ...others.map(({ uri }) => uri)],
    ...(storageSystem ? { storageCrs: storageSystem.uri } : {}),
    ...(storageSystem && coordinateEpoch !== undefined ? { storageCrsCoordinateEpoch: coordinateEpoch } : {}),
    ...(createsByPut(collection) ? { supportsNonAutogeneratedResourceIds: true } : {}),
    ...(distributed ? { distribution: distributed } : {}),
    links: [
      ...own,
      ...FEATURE_FORMATS.map((format, index) =>
        link('items', index === 0 ? items : `${items}?f=${format.name}`, format.types[0], title),
      ),
      ...schemaLinks(base, collection),
      ...tileLinks(collectionUrl(base, collection)),
      ...(license ? [link('license', licenseUrl(license), 'text/html')] : []),
    ],
  }
}
