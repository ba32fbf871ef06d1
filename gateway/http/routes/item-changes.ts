// Owns the routes that change features: create, replace, patch and remove them.

import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { gatewayError, invalidParameter } from '../../errors.ts'
import { type Group, isAmong } from '../../features/access/rules.ts'
import type { Mode } from '../../features/bulk/batch-statement.ts'
import { canUpsert, storeMany } from '../../features/bulk/bulk-change.ts'
import { MANY_TYPES, readFeatures } from '../../features/bulk/feature-stream.ts'
import type { Done, IdempotencyKeys } from '../../features/changes/idempotency-key.ts'
import { type ItemChanges, makeItemChanges } from '../../features/changes/item-change.ts'
import {
  changeSelection,
  countSelection,
  DEFAULT_MAX_AFFECTED,
  parseSelectionPatch,
  planSelection,
  planSelectionChange,
} from '../../features/changes/selection-change.ts'
import type { Collection } from '../../features/collections/collection.ts'
import type { FilterFunctions } from '../../features/filter/functions.ts'
import { GEOJSON } from '../../features/formats/geojson.ts'
import type { ItemParameters } from '../../features/query/item-query.ts'
import type { Unshown } from '../../features/query/unshown.ts'
import { answerOptions, setSpelled } from '../allowed-methods.ts'
import type { Answers } from '../answers.ts'
import {
  type AuthenticateOptions,
  authenticate,
  checkAmong,
  makeIdentification,
} from '../auth/authenticate.ts'
import { acceptBodies, acceptStreams, FEATURE_TYPES, PATCH_TYPES } from '../body.ts'
import { type Capability, reasonAgainst } from '../capability.ts'
import { changeConsistency, consistencyHeaders } from '../consistency-headers.ts'
import { boxParameters, selectionParameters, takeDraft } from '../feature-parameters.ts'
import {
  checkConditionOfMany,
  featureTag,
  featureUrl,
  parsePrecondition,
  requirePrecondition,
  sendFeature,
  systemOfBody,
  unmodifiedSinceOf,
} from '../feature-response.ts'
import { sendLastModified } from '../http-date.ts'
import { idempotencyHeaders, keyOfChange, repeatedHeader, tellRepeated } from '../idempotency.ts'
import { openBody } from '../open-body.ts'
import { applyPreference, maxAffectedOf, preferenceOf } from '../prefer.ts'
import {
  changeProblems,
  collectionParams,
  conditionMissing,
  content,
  contentCrs,
  itemParams,
  lastModified,
  noQuery,
  notFound,
  problemOf,
} from '../schemas.ts'
import { Type } from '../type.ts'
import type { Upload, Uploads } from '../upload.ts'
import { authorOf, principalOf, type Views } from '../view.ts'
import type { VisibleCollections } from '../visible.ts'

/** Classes that were part of Features, and are part of Common now. Clients look for either. */
const CLASSES = [
  'create-replace-delete',
  'update',
  'optimistic-locking-etags',
  'optimistic-locking-timestamps',
]
export const conformance = [
  ...['ogcapi-common-5', 'ogcapi-features-4'].flatMap((standard) =>
    CLASSES.map((name) => `http://www.opengis.net/spec/${standard}/1.0/conf/${name}`),
  ),
  'http://www.opengis.net/spec/ogcapi-features-4/1.0/conf/features',
]

const changeHeaders = { ...consistencyHeaders, ...idempotencyHeaders }
const conditionHeaders = Type.Object({
  ...changeHeaders,
  'if-match': Type.Optional(
    Type.String({
      description:
        'ETag of the feature as it was read. If the feature has changed since, nothing is changed, and the answer is 412.',
    }),
  ),
  'if-unmodified-since': Type.Optional(
    Type.String({
      description:
        'Last-Modified of the feature as it was read, with the same effect; it counts only without If-Match, and in collections whose features have Last-Modified.',
      example: 'Sat, 13 Mar 2021 11:28:17 GMT',
    }),
  ),
})
const answerHeaders = Type.Object({
  ...changeHeaders,
  'content-crs': Type.Optional(
    Type.String({
      description:
        'Coordinate system of the body, as a URI from the list of the collection in angle brackets; by default CRS84 (longitude, latitude).',
      example: '<http://www.opengis.net/def/crs/EPSG/0/3857>',
    }),
  ),
  prefer: Type.Optional(
    Type.String({
      description:
        'With `return=representation`, the answer contains the feature, and with `return=minimal` it does not; without either, that of POST does not, and others do. With `handling=lenient`, members that the collection does not have, or that cannot be set, are left out and not refused.',
      example: 'return=representation',
    }),
  ),
})

const changeAnswer = { ...changeConsistency, ...repeatedHeader }
const etag = {
  ETag: { type: 'string', description: 'Entity tag of the feature after the change.' },
  ...lastModified,
  ...contentCrs,
  ...changeAnswer,
}
const location = { Location: { type: 'string', description: 'URL of the new feature.' } }
const feature = (description: string, headers: object) => ({
  ...content(description, [GEOJSON.types[0]], Type.Ref('Feature#')),
  headers,
})
const nothing = (description: string, headers: object = {}) => ({ description, type: 'null', headers })
const security = [{ apiKey: [] }]

/** Schemas of requests that change a feature, and of their answers. */
const changedItem = (done: string) => ({
  params: itemParams,
  querystring: noQuery,
  headers: Type.Object({ ...conditionHeaders.properties, ...answerHeaders.properties }),
  response: {
    200: feature('The feature after the change.', etag),
    204: nothing(done, etag),
    404: notFound,
    428: conditionMissing,
    ...changeProblems,
  },
})

const replacedItem = changedItem('The feature was replaced.')

type Services = AuthenticateOptions & {
  readonly answers: Answers
  readonly unshown: Unshown
  readonly visible: VisibleCollections
  readonly views: Views
  readonly idempotencyKeys: IdempotencyKeys
  readonly uploads: Uploads
  /** Most bytes of a feature. */
  readonly bodyLimit: number
  /** True if changes in collections need a condition for which nothing else is set. */
  readonly requiresPrecondition: boolean
  /** Returns the functions that filters can call. */
  readonly functions: () => FilterFunctions
}

const manyQuery = Type.Object(
  {
    mode: Type.Optional(
      Type.Enum(['insert', 'upsert'], {
        type: 'string',
        description:
          'For many features: `upsert` replaces those whose ids exist. It needs a collection whose ids clients choose, and an id of each feature.',
        example: 'insert',
        'x-expected': 'insert or upsert',
      }),
    ),
  },
  { additionalProperties: false },
)

const selectionQuery = Type.Object(
  {
    ...boxParameters,
    ...selectionParameters,
    'dry-run': Type.Optional(
      Type.Boolean({
        description: 'Counts the features, and changes none.',
        default: false,
        example: true,
        'x-expected': 'true or false',
      }),
    ),
  },
  {
    additionalProperties: Type.String({
      description: 'Selects features whose property of this name has this value.',
    }),
  },
)
/** Names of its parameters, which are no properties of a collection. */
const SELECTION_PARAMETERS = Object.keys(selectionQuery.properties)
const selectionHeaders = Type.Object({
  ...changeHeaders,
  'if-match': Type.Optional(
    Type.String({
      description:
        '`*`: the features are changed whatever they are now, which a collection can require to be said (428).',
      example: '*',
    }),
  ),
  prefer: Type.Optional(
    Type.String({
      description: `\`max-affected=5000\`: most features that may be changed; more are an error (412), and none is changed. ${DEFAULT_MAX_AFFECTED} without it.`,
      example: 'max-affected=5000',
    }),
  ),
})
const selectionAnswer = {
  200: {
    ...content('The numbers of features.', ['application/json'], Type.Ref('ChangedFeatures#')),
    headers: changeAnswer,
  },
  404: notFound,
  428: conditionMissing,
  ...changeProblems,
  412: problemOf('More features meet the conditions than may be changed; nothing has changed.'),
}

type ManyFeaturesOfBody = {
  readonly type: string
  readonly start: Buffer
  readonly bytes: AsyncIterable<Buffer>
  readonly upload: Upload
  readonly mode: Mode
}

const ITEMS = '/collections/:collectionId/items'
const ITEM = `${ITEMS}/:featureId`
type ItemRoute = { Params: { collectionId: string; featureId: string } }

export const itemChanges: FastifyPluginAsyncTypebox<Services> = async (
  app,
  {
    visible,
    views,
    answers,
    unshown,
    idempotencyKeys,
    uploads,
    bodyLimit,
    requiresPrecondition,
    functions,
    ...access
  },
) => {
  const change = async (
    request: FastifyRequest,
    reply: FastifyReply,
    collection: Collection,
    make: (changes: ItemChanges) => Promise<Done>,
  ): Promise<Done> => {
    const system = systemOfBody(request, collection)
    const handling = preferenceOf(request, 'handling')
    // Before the change is made: a refusal says so, too.
    if (handling === 'strict' || handling === 'lenient') applyPreference(reply, `handling=${handling}`)
    const key = await keyOfChange(request, idempotencyKeys)
    const done = await make(
      makeItemChanges(await views.openForChange(request), unshown, authorOf(request), key, {
        system,
        takesJsonFg: true,
        isSystemNamed: request.headers['content-crs'] !== undefined,
        isLenient: handling === 'lenient',
      }),
    )
    tellRepeated(reply, done)
    return done
  }
  /** Stores many features. */
  const store = async (
    request: FastifyRequest,
    reply: FastifyReply,
    collection: Collection,
    { type, start, bytes, upload, mode }: ManyFeaturesOfBody,
  ) => {
    const system = systemOfBody(request, collection)
    const isLenient = preferenceOf(request, 'handling') === 'lenient'
    if (isLenient) applyPreference(reply, 'handling=lenient')
    const leave = uploads.enter(request)
    try {
      const key = await keyOfChange(request, idempotencyKeys, [mode])
      const features = readFeatures({ type, start, bytes, collection, system, mostBytes: bodyLimit })
      const done = await storeMany(await views.openForChange(request), key, {
        collection,
        features,
        mode,
        reading: { system, isLenient },
        drain: upload.drain,
        author: authorOf(request),
      })
      tellRepeated(reply, done)
      // Prefer: return=representation is not applied: the features may be more than an answer can have.
      if (preferenceOf(request, 'return') === 'minimal') applyPreference(reply, 'return=minimal')
      return reply
        .code(201)
        .type('application/json')
        .send(done.kind === 'many' ? done.report : '')
    } finally {
      leave()
    }
  }
  /** Changes or removes all features that a request selects. */
  const changeSelected = async (request: FastifyRequest, reply: FastifyReply, collection: Collection) => {
    const { 'dry-run': isDryRun = false, ...parameters } = request.query as ItemParameters & {
      'dry-run'?: boolean
    }
    checkConditionOfMany(request, collection, !isDryRun && requiresCondition(collection))
    const most = maxAffectedOf(request, DEFAULT_MAX_AFFECTED)
    const patch =
      request.method === 'PATCH'
        ? parseSelectionPatch(request.body, collection, {
            system: collection.defaultSystem,
            isLenient: preferenceOf(request, 'handling') === 'lenient',
          })
        : undefined
    const database = await views.openForChange(request)
    const selection = await planSelection(database, parameters, collection, functions(), SELECTION_PARAMETERS)
    if (selection.conditions.length === 0)
      throw gatewayError(
        'parameter-invalid',
        `${request.method} of items needs a condition: filter, bbox, datetime or a property; filter=true selects all features.`,
        { parameter: 'filter', example: "name = 'x'" },
      )
    if (isDryRun) return reply.send(await countSelection(database, selection))
    if (preferenceOf(request, 'max-affected') !== undefined) applyPreference(reply, `max-affected=${most}`)
    const key = await keyOfChange(request, idempotencyKeys, [
      request.url.split('?', 2)[1] ?? '',
      String(most),
    ])
    const done = await changeSelection(
      database,
      key,
      planSelectionChange(selection, patch, most, authorOf(request)),
    )
    tellRepeated(reply, done)
    return reply.type('application/json').send(done.kind === 'many' ? done.report : '')
  }
  const find = (request: FastifyRequest, action: Capability): Collection => {
    const collection = visible.get(request, (request.params as { collectionId: string }).collectionId)
    const reason = reasonAgainst(collection, action, visible)
    if (reason === undefined) return collection
    const isItem = 'featureId' in (request.params as object)
    throw gatewayError('method-not-allowed', `${request.method} is not possible here: ${reason}.`, {
      allow: allowOf(collection, isItem),
      collection: collection.id,
    })
  }
  const requiresCondition = (collection: Collection) =>
    collection.requiresPrecondition ?? requiresPrecondition
  const conditionOf = (request: FastifyRequest, collection: Collection) => {
    if (requiresCondition(collection)) requirePrecondition(request, collection)
    return parsePrecondition(request, collection)
  }
  /** Sends the result of a change. */
  const answer = async (
    request: FastifyRequest,
    reply: FastifyReply,
    collection: Collection,
    { kind, item }: Done,
  ) => {
    if (!item) return reply.code(204).send()
    if (unmodifiedSinceOf(request, collection) !== undefined) await comeTo(item.modified)
    if (kind === 'created') {
      reply.code(201)
      setSpelled(reply, 'Location', featureUrl(request.publicUrl, collection, item.id))
    }
    const { id, text, version, modified } = item
    const wanted = preferenceOf(request, 'return')
    if (wanted === 'minimal' || wanted === 'representation') applyPreference(reply, `return=${wanted}`)
    // As the standard recommends, a new feature is shown to a client that asks for it.
    const isWanted = wanted === 'representation' || (wanted !== 'minimal' && request.method !== 'POST')
    if (isWanted && text !== undefined)
      return sendFeature(reply, request.publicUrl, collection, id, { text, version, modified })
    reply.header('etag', featureTag(collection, version))
    sendLastModified(reply, modified)
    return reply.code(kind === 'created' ? 201 : 204).send()
  }

  app.register(async (scope) => {
    authenticate(scope as unknown as FastifyInstance, { ...access, visible })
    // Before the change is made: its answer has the feature.
    scope.addHook('onRequest', (_request, _reply, done) => done(answers.refusal()))
    acceptBodies(scope as unknown as FastifyInstance, FEATURE_TYPES)

    scope.put<ItemRoute>(
      ITEM,
      {
        config: { body: { types: FEATURE_TYPES, schema: 'NewFeature' } },
        schema: {
          operationId: 'replaceFeature',
          summary: 'Replace a feature',
          description:
            'Properties that are left out get the values of a new feature. If clients may choose ids, a feature that does not exist is created; with `If-None-Match: *` the request only creates.',
          tags: ['Changes'],
          security,
          ...replacedItem,
          response: {
            ...replacedItem.response,
            201: feature('The new feature.', { ...etag, ...location }),
          },
        },
      },
      async (request, reply) => {
        const collection = find(request, 'canUpdate')
        const condition = conditionOf(request, collection)
        // A client that sends If-Match, even with *, or the date of a feature, means one that exists.
        const isConditional =
          request.headers['if-match'] !== undefined || unmodifiedSinceOf(request, collection) !== undefined
        const isCreator = isAmong('creators', principalOf(request), collection)
        const whenAbsent = isConditional ? 'unmatched' : isCreator ? 'created' : 'missing'
        const { featureId } = request.params
        const done = await change(request, reply, collection, (changes) =>
          changes.replace(collection, featureId, request.body, condition, whenAbsent),
        )
        return answer(request, reply, collection, done)
      },
    )

    scope.delete<ItemRoute>(
      ITEM,
      {
        schema: {
          operationId: 'deleteFeature',
          summary: 'Remove a feature',
          tags: ['Changes'],
          security,
          params: itemParams,
          querystring: noQuery,
          headers: conditionHeaders,
          response: {
            204: nothing('The feature was removed.', changeAnswer),
            404: notFound,
            428: conditionMissing,
            ...changeProblems,
          },
        },
      },
      async (request, reply) => {
        const collection = find(request, 'canRemove')
        const condition = conditionOf(request, collection)
        const done = await change(request, reply, collection, (changes) =>
          changes.remove(collection, request.params.featureId, condition),
        )
        return answer(request, reply, collection, done)
      },
    )
  })

  app.register(async (scope) => {
    authenticate(scope as unknown as FastifyInstance, { ...access, visible })
    scope.addHook('onRequest', (_request, _reply, done) => done(answers.refusal()))
    acceptStreams(scope as unknown as FastifyInstance, POST_TYPES)
    scope.post<{ Params: { collectionId: string }; Querystring: { mode?: Mode } }>(
      ITEMS,
      {
        config: {
          body: {
            types: POST_TYPES,
            schema: 'FeatureLines',
            others: Object.fromEntries(FEATURE_TYPES.map((type) => [type, ['NewFeature', 'NewFeatures']])),
          },
        },
        schema: {
          operationId: 'createFeature',
          summary: 'Create a feature, or many',
          description:
            'A single feature is answered with its address. Many features (a FeatureCollection, lines of GeoJSON, or CSV) are stored as they arrive, in one transaction: all of them or none. The answer counts them. With `Prefer: handling=lenient`, features that are not valid are left out and reported.',
          tags: ['Changes'],
          security,
          params: collectionParams,
          querystring: manyQuery,
          headers: answerHeaders,
          response: {
            201: {
              ...feature(
                'The feature was created; with `return=representation` it is here. Of many features, there are the numbers.',
                { ...etag, ...location },
              ),
              content: {
                [GEOJSON.types[0]]: { schema: Type.Ref('Feature#') },
                'application/json': { schema: Type.Ref('StoredFeatures#') },
              },
            },
            404: notFound,
            428: conditionMissing,
            ...changeProblems,
          },
        },
      },
      async (request, reply) => {
        const collection = find(request, 'canCreate')
        const { mode } = request.query
        if (mode === 'upsert' && !canUpsert(collection))
          throw invalidParameter(
            'mode',
            'insert in this collection, whose features get their ids from the server',
            'insert',
          )
        if (mode === 'upsert') {
          checkAmong('editors', request, collection, reply)
          checkConditionOfMany(request, collection, requiresCondition(collection))
        }
        const create = async (body: unknown) => {
          const done = await change(request, reply, collection, (changes) => changes.create(collection, body))
          return answer(request, reply, collection, done)
        }
        // A request without a body has nothing to read.
        if (request.body === undefined) return create(undefined)
        const upload = uploads.read(request)
        try {
          const opened = await openBody(request, upload, bodyLimit)
          if (!opened.isMany) {
            if (mode !== undefined)
              throw invalidParameter('mode', 'left out for a single feature: PUT replaces one', 'insert')
            return await create(opened.body)
          }
          return await store(request, reply, collection, { ...opened, upload, mode: mode ?? 'insert' })
        } catch (error) {
          upload.discard()
          throw error
        }
      },
    )
  })

  app.register(async (scope) => {
    authenticate(scope as unknown as FastifyInstance, { ...access, visible })
    acceptBodies(scope as unknown as FastifyInstance, PATCH_TYPES)
    scope.addHook('preValidation', async ({ query }) => takeDraft(query as Record<string, unknown>))
    for (const { method, action, operationId, summary, body } of SELECTION_METHODS)
      scope.route<{ Params: { collectionId: string } }>({
        method,
        url: ITEMS,
        config: body ? { body } : {},
        schema: {
          operationId,
          summary,
          description:
            'The features that meet all conditions of the parameters are counted and changed in one transaction. There must be a condition.',
          tags: ['Changes'],
          security,
          params: collectionParams,
          querystring: selectionQuery,
          headers: selectionHeaders,
          response: selectionAnswer,
        },
        handler: (request, reply) => changeSelected(request, reply, find(request, action)),
      })
    scope.patch<ItemRoute>(
      ITEM,
      {
        config: { body: { types: PATCH_TYPES, schema: 'FeaturePatch' } },
        schema: {
          operationId: 'updateFeature',
          summary: 'Change parts of a feature',
          description:
            'The body is a merge patch (RFC 7396): members that it leaves out stay as they are, and null removes a member.',
          tags: ['Changes'],
          security,
          ...changedItem('The feature was changed.'),
        },
        // Every answer of this route has Accept-Patch, because an answer of 415 should have it (RFC 5789, 2.2).
        onRequest: async (_request, reply) => {
          reply.header('accept-patch', PATCH_TYPES.join(', '))
        },
      },
      async (request, reply) => {
        const collection = find(request, 'canUpdate')
        const condition = conditionOf(request, collection)
        const done = await change(request, reply, collection, (changes) =>
          changes.update(collection, request.params.featureId, request.body, condition),
        )
        return answer(request, reply, collection, done)
      },
    )
  })

  const callerOf = makeIdentification(access)
  /** Returns the methods for this caller. */
  const methodsFor = async (request: FastifyRequest, reply: FastifyReply, isItem: boolean) => {
    // The preflight of a browser has no credentials. What it may send does not depend on which collections there are.
    if (request.headers['access-control-request-method'] !== undefined)
      return METHODS[isItem ? 'item' : 'items']
    const caller = await callerOf(request, reply)
    request.caller = caller
    const collection = visible.get(request, (request.params as { collectionId: string }).collectionId)
    return allowOf(collection, isItem, (group) => isAmong(group, caller, collection))
  }

  // Editors find out here which changes they can offer. The answer does not depend on whether the feature exists.
  app.options<ItemRoute>(ITEMS, { schema: { hide: true } }, async (request, reply) => {
    const allow = await methodsFor(request, reply, false)
    if (allow.includes('POST')) reply.header('accept-post', POST_TYPES.join(', '))
    if (allow.includes('PATCH')) reply.header('accept-patch', PATCH_TYPES.join(', '))
    return answerOptions(request, reply, allow)
  })
  app.options<ItemRoute>(ITEM, { schema: { hide: true } }, async (request, reply) => {
    const allow = await methodsFor(request, reply, true)
    if (allow.includes('PUT'))
      reply.header('accept-put', FEATURE_TYPES.join(', ')).header('accept-patch', PATCH_TYPES.join(', '))
    return answerOptions(request, reply, allow)
  })
}

/** Types of bodies with one feature, or with many. */
const POST_TYPES = [...new Set([...FEATURE_TYPES, ...MANY_TYPES])]

/** Methods of the two resources, in any collection. */
const METHODS = {
  items: ['GET', 'HEAD', 'POST', 'PATCH', 'DELETE', 'OPTIONS'],
  item: ['GET', 'HEAD', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'],
}

/** Most seconds that an answer waits for its date. */
const MAX_AHEAD_S = 2

/**
 * Waits until a feature's date is no longer in the future. A client that makes changes by dates can then send this one
 * with its next change, which the date of now would not allow.
 */
async function comeTo(second: number | undefined) {
  const ahead = (second ?? 0) * 1000 - Date.now()
  if (ahead > 0 && ahead <= MAX_AHEAD_S * 1000) await sleep(ahead)
}

const SELECTION_METHODS = [
  {
    method: 'PATCH',
    action: 'canUpdate',
    operationId: 'updateFeatures',
    summary: 'Change the features that meet a condition',
    body: { types: PATCH_TYPES, schema: 'PropertiesPatch' },
  },
  {
    method: 'DELETE',
    action: 'canRemove',
    operationId: 'deleteFeatures',
    summary: 'Remove the features that meet a condition',
    body: undefined,
  },
] as const

/** @param may returns true if the caller is in a group */
function allowOf({ capabilities }: Collection, isItem: boolean, may = (_group: Group) => true): string[] {
  const { canCreate, canUpdate, canRemove } = capabilities ?? {}
  return [
    'GET',
    'HEAD',
    ...(!isItem && canCreate && may('creators') ? ['POST'] : []),
    ...(canUpdate && may('editors') ? (isItem ? ['PUT', 'PATCH'] : ['PATCH']) : []),
    ...(canRemove && may('removers') ? ['DELETE'] : []),
    'OPTIONS',
  ]
}
