// Owns the page with the map of all collections.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Catalog } from '../../features/collections/catalog.ts'
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

export const map: FastifyPluginAsyncTypebox<{ catalog: Catalog; extents: Extents }> = async (
  app,
  { catalog, extents },
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
      const collections = catalog.list()
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
