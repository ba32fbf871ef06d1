// Owns the page with the map of all collections.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Extents } from '../../features/collections/extent.ts'
import { sendPage } from '../html/layout.ts'
import { localOf } from '../html/local.ts'
import { baseMapOf } from '../html/map.ts'
import { mapPage } from '../html/overview-pages.ts'
import { ownLinks, selfUrl } from '../links.ts'
import { HTML, negotiate } from '../negotiate.ts'
import { content, formatParameter, problems } from '../schemas.ts'
import { tileLinks } from '../tileset.ts'
import { Type } from '../type.ts'
import { principalOf } from '../view.ts'
import type { VisibleCollections } from '../visible.ts'

export const map: FastifyPluginAsyncTypebox<{ visible: VisibleCollections; extents: Extents }> = async (
  app,
  { visible, extents },
) => {
  app.get(
    '/map',
    {
      schema: {
        operationId: 'getMap',
        summary: 'A map of all collections, for people',
        tags: ['Tiles'],
        querystring: Type.Object({ f: formatParameter([HTML]) }, { additionalProperties: false }),
        response: { 200: content('A page.', HTML.types, Type.String()), ...problems },
      },
    },
    async (request, reply) => {
      negotiate(request, [HTML])
      const base = request.publicUrl
      const collections = visible.list(request)
      const shown = await Promise.all(
        collections.map(async (collection) => ({
          collection,
          extent: await extents.of(collection, principalOf(request)),
        })),
      )
      const links = [...ownLinks(selfUrl(base, request.url), HTML, [HTML]), ...tileLinks(base)]
      const baseMap = baseMapOf(base, collections)
      return sendPage(reply, mapPage(base, shown, links, baseMap, localOf(request)))
    },
  )
}
