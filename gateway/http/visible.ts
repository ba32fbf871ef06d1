// Owns which collections a request sees: one that its caller may not read is not there. Routes have no other way to them.

import type { FastifyRequest } from 'fastify'
import { isAmong } from '../features/access/rules.ts'
import { type Catalog, collectionNotFound } from '../features/collections/catalog.ts'
import type { Collection } from '../features/collections/collection.ts'
import { principalOf } from './view.ts'

export interface VisibleCollections extends Pick<Catalog, 'commonSystems' | 'knowsCapabilities'> {
  /** @throws GatewayError collection-not-found */
  get(request: FastifyRequest, id: string): Collection
  /** Ordered by id. */
  list(request: FastifyRequest): readonly Collection[]
}

export const makeVisible = (catalog: Catalog): VisibleCollections => ({
  get(request, id) {
    const collection = catalog.get(id)
    if (isAmong('readers', principalOf(request), collection)) return collection
    throw collectionNotFound(id)
  },
  list(request) {
    const collections = catalog.list()
    if (!catalog.isRestricted) return collections
    return collections.filter((collection) => isAmong('readers', principalOf(request), collection))
  },
  get commonSystems() {
    return catalog.commonSystems
  },
  get knowsCapabilities() {
    return catalog.knowsCapabilities
  },
})
