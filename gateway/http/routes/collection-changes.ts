// Owns the routes that change collections themselves: create, describe, extend and remove them.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import type { Database } from '../../database/contract.ts'
import { gatewayError, invalidParameter } from '../../errors.ts'
import type { CollectionChanges } from '../../features/changes/collection-change.ts'
import { parseCollectionPatch, parseNewCollection } from '../../features/changes/collection-definition.ts'
import { setSpelled } from '../allowed-methods.ts'
import { type AuthenticateOptions, authenticateManager, checkScope } from '../auth/authenticate.ts'
import { acceptBodies, PATCH_TYPES } from '../body.ts'
import { collectionUrl } from '../feature-response.ts'
import { changeProblems, collectionParams, noQuery, notFound, problemOf } from '../schemas.ts'
import { Type } from '../type.ts'
import type { Views } from '../view.ts'
import type { VisibleCollections } from '../visible.ts'

type Services = AuthenticateOptions & {
  readonly visible: VisibleCollections
  /** @param database as a request must see it */
  readonly changesFor: (database: Database) => CollectionChanges
  readonly views: Views
  /** False if the gateway has no write port. */
  readonly canWrite: boolean
}

const COLLECTIONS = '/collections'
const COLLECTION = `${COLLECTIONS}/:collectionId`
const NEW_TYPES = ['application/json'] as const
const security = [{ apiKey: [] }]
const tags = ['Changes']
const nothing = (description: string, headers: object = {}) => ({ description, type: 'null', headers })
const collectionProblems = {
  ...changeProblems,
  409: problemOf('Another table has the name, or a view needs this one; nothing has changed.'),
  422: problemOf('The collection is not valid: each fault is named; nothing has changed.'),
}

export const collectionChanges: FastifyPluginAsyncTypebox<Services> = async (
  app,
  { visible, changesFor, views, canWrite, ...access },
) => {
  const checkWritable = () => {
    if (!canWrite)
      throw gatewayError('method-not-allowed', 'This gateway only reads.', {
        allow: ['GET', 'HEAD', 'OPTIONS'],
      })
  }

  app.register(async (scope) => {
    authenticateManager(scope as unknown as FastifyInstance, access)
    acceptBodies(scope as unknown as FastifyInstance, NEW_TYPES)
    scope.post(
      COLLECTIONS,
      {
        config: { body: { types: NEW_TYPES, schema: 'NewCollection' } },
        schema: {
          operationId: 'createCollection',
          summary: 'Create a collection',
          description:
            'Creates an empty table for features of this schema, in longitude and latitude (WGS 84). A schema is written as `/collections/{collectionId}/schema` returns it. This gateway serves the collection at once, and others within two seconds.',
          tags,
          security,
          querystring: noQuery,
          response: {
            201: nothing('The collection was created.', {
              Location: { type: 'string', description: 'URL of the new collection.' },
            }),
            ...collectionProblems,
          },
        },
      },
      async (request, reply) => {
        checkWritable()
        const given = parseNewCollection(request.body)
        checkScope(request, given.id, reply)
        await changesFor(await views.openForChange(request)).create(given)
        setSpelled(reply, 'Location', collectionUrl(request.publicUrl, { id: given.id }))
        return reply.code(201).send()
      },
    )
  })

  app.register(async (scope) => {
    authenticateManager(scope as unknown as FastifyInstance, access)
    acceptBodies(scope as unknown as FastifyInstance, PATCH_TYPES)
    scope.patch<{ Params: { collectionId: string } }>(
      COLLECTION,
      {
        config: { body: { types: PATCH_TYPES, schema: 'CollectionPatch' } },
        schema: {
          operationId: 'updateCollection',
          summary: 'Change a collection',
          description:
            'The body is a merge patch (RFC 7396): members that it leaves out stay as they are, and null removes a text. `schema.properties` has the properties that the collection gets besides those that it has.',
          tags,
          security,
          params: collectionParams,
          querystring: noQuery,
          response: { 204: nothing('The collection was changed.'), 404: notFound, ...collectionProblems },
        },
        onRequest: async (_request, reply) => {
          reply.header('accept-patch', PATCH_TYPES.join(', '))
        },
      },
      async (request, reply) => {
        checkWritable()
        const collection = visible.get(request, request.params.collectionId)
        const patch = parseCollectionPatch(
          request.body,
          (name) =>
            collection.columns.some((column) => column.name === name) || name === collection.geometry.column,
        )
        await changesFor(await views.openForChange(request)).change(collection, patch)
        return reply.code(204).send()
      },
    )

    scope.delete<{ Params: { collectionId: string }; Querystring: { confirm?: string } }>(
      COLLECTION,
      {
        schema: {
          operationId: 'deleteCollection',
          summary: 'Remove a collection',
          description:
            'Removes the collection with all of its features. Only one that Tessera created can be removed.',
          tags,
          security,
          params: collectionParams,
          querystring: Type.Object(
            {
              confirm: Type.Optional(
                Type.String({
                  description: 'The id of the collection once more: without it nothing is removed.',
                  example: 'my_roads',
                  'x-expected': 'the id of the collection',
                }),
              ),
            },
            { additionalProperties: false },
          ),
          response: {
            204: nothing('The collection was removed.'),
            404: notFound,
            428: problemOf('The request lacks the confirmation; nothing has changed.'),
            ...collectionProblems,
          },
        },
      },
      async (request, reply) => {
        checkWritable()
        const collection = visible.get(request, request.params.collectionId)
        const { id } = collection
        const { confirm } = request.query
        if (confirm === undefined)
          throw gatewayError(
            'precondition-required',
            `This removes ${id} with all of its features; confirm it with its id: confirm=${encodeURIComponent(id)}.`,
            { parameter: 'confirm', example: id },
          )
        if (confirm !== id)
          throw invalidParameter('confirm', 'the id of the collection', encodeURIComponent(id))
        await changesFor(await views.openForChange(request)).remove(collection)
        return reply.code(204).send()
      },
    )
  })
}
