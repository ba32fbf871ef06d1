// Owns the route of transactions: actions in several collections in one request (draft of OGC API Features, Part 11).

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { GatewayError, gatewayError } from '../../errors.ts'
import type { Group } from '../../features/access/rules.ts'
import type { IdempotencyKeys } from '../../features/changes/idempotency-key.ts'
import type { Precondition } from '../../features/changes/precondition.ts'
import { DEFAULT_MAX_AFFECTED } from '../../features/changes/selection-change.ts'
import {
  type AllowedAction,
  inTransaction,
  makeTransaction,
  planTransaction,
  type TransactionReport,
} from '../../features/changes/transaction.ts'
import {
  type Action,
  type ActionKind,
  invalidTransaction,
  MAX_STEPS,
  parseTransaction,
} from '../../features/changes/transaction-body.ts'
import type { Collection } from '../../features/collections/collection.ts'
import type { FilterFunctions } from '../../features/filter/functions.ts'
import { GEOJSON, geojson } from '../../features/formats/geojson.ts'
import type { Unshown } from '../../features/query/unshown.ts'
import type { Answers } from '../answers.ts'
import { type AuthenticateOptions, authenticateSender, checkChange } from '../auth/authenticate.ts'
import { acceptBodies } from '../body.ts'
import { type Capability, reasonAgainst } from '../capability.ts'
import { changeConsistency, consistencyHeaders } from '../consistency-headers.ts'
import {
  collectionUrl,
  featureLinks,
  featureTag,
  featureUrl,
  parseTags,
  systemOfBody,
} from '../feature-response.ts'
import { idempotencyHeaders, keyOfChange, repeatedHeader, tellRepeated } from '../idempotency.ts'
import { applyPreference, maxAffectedOf, preferenceOf } from '../prefer.ts'
import { changeProblems, conditionMissing, content, noQuery, notFound } from '../schemas.ts'
import { Type } from '../type.ts'
import { authorOf, type Views } from '../view.ts'
import type { VisibleCollections } from '../visible.ts'

type Services = AuthenticateOptions & {
  readonly answers: Answers
  readonly unshown: Unshown
  readonly visible: VisibleCollections
  readonly views: Views
  readonly idempotencyKeys: IdempotencyKeys
  /** True if changes in collections need a condition for which nothing else is set. */
  readonly requiresPrecondition: boolean
  /** Returns the functions that filters can call. */
  readonly functions: () => FilterFunctions
  /** False if the gateway has no write port. */
  readonly canWrite: boolean
}

/** The draft has a type of its own in its example, and names none in its requirements. */
export const TRANSACTION_TYPES = ['application/json', 'application/ogc-tx+json'] as const

/** What a caller must be, and the collection must take, for an action. */
const NEEDED: Readonly<Record<ActionKind, { readonly group: Group; readonly capability: Capability }>> = {
  insert: { group: 'creators', capability: 'canCreate' },
  replace: { group: 'editors', capability: 'canUpdate' },
  update: { group: 'editors', capability: 'canUpdate' },
  delete: { group: 'removers', capability: 'canRemove' },
}

/** Headers that mean a single feature. */
const CONDITIONS = ['if-match', 'if-none-match', 'if-unmodified-since'] as const

const headers = Type.Object({
  ...consistencyHeaders,
  ...idempotencyHeaders,
  'content-crs': Type.Optional(
    Type.String({
      description:
        'Coordinate system of the geometries in all actions, as a URI in angle brackets that each of the collections lists; by default CRS84 (longitude, latitude).',
      example: '<http://www.opengis.net/def/crs/EPSG/0/3857>',
    }),
  ),
  prefer: Type.Optional(
    Type.String({
      description: `With \`return=representation\`, the answer also contains the features, with \`return=minimal\` only their numbers, and with \`return=none\` nothing. With \`handling=lenient\`, members of features that the collection does not have, or that cannot be set, are left out and not refused. \`max-affected=5000\` is how many features an action may change by a condition: ${DEFAULT_MAX_AFFECTED} without it.`,
      example: 'return=representation',
    }),
  ),
})

export const transactions: FastifyPluginAsyncTypebox<Services> = async (
  app,
  { visible, views, answers, unshown, idempotencyKeys, requiresPrecondition, functions, canWrite, ...access },
) => {
  authenticateSender(app as unknown as FastifyInstance, access)
  // Before the change is made: its answer may have the features.
  app.addHook('onRequest', (_request, _reply, done) => done(answers.refusal()))
  acceptBodies(app as unknown as FastifyInstance, TRANSACTION_TYPES)

  /** Checks that the caller may do an action. @throws GatewayError with its place in the body */
  const allow = (request: FastifyRequest, reply: FastifyReply, action: Action): AllowedAction => {
    const { group, capability } = NEEDED[action.deed.kind]
    try {
      checkChange(group, request, action.collection, reply, visible)
      const collection = visible.get(request, action.collection)
      const reason = reasonAgainst(collection, capability, visible)
      if (reason !== undefined)
        throw gatewayError('change-forbidden', `This is not possible here: ${reason}.`)
      const condition = conditionOf(
        action,
        collection,
        collection.requiresPrecondition ?? requiresPrecondition,
      )
      return { action, collection, condition, system: systemOfBody(request, collection) }
    } catch (error) {
      if (!(error instanceof GatewayError) || error.facts.header === 'Content-Crs') throw error
      const part = OF_CONDITION.has(error.code) ? 'if-match' : 'collection'
      throw inTransaction(error, action, { pointer: `${action.pointer}/${part}`, of: (pointer) => pointer })
    }
  }

  app.post(
    '/transactions',
    {
      config: { body: { types: TRANSACTION_TYPES, schema: 'Transaction' } },
      schema: {
        operationId: 'executeTransaction',
        summary: 'Change features of several collections together',
        description: `The actions are done in their order in one transaction: all of them take effect, or none. They can name or insert at most ${MAX_STEPS} features. Follows the draft of OGC API Features, Part 11, with \`if-match\` besides.`,
        tags: ['Changes'],
        security: [{ apiKey: [] }],
        querystring: noQuery,
        headers,
        response: {
          200: {
            ...content(
              'All actions have taken effect.',
              ['application/json'],
              Type.Ref('TransactionResult#'),
            ),
            headers: { ...changeConsistency, ...repeatedHeader },
          },
          204: {
            description: 'All actions have taken effect, and the client wants no more than that.',
            type: 'null',
            headers: { ...changeConsistency, ...repeatedHeader },
          },
          404: notFound,
          428: conditionMissing,
          ...changeProblems,
        },
      },
    },
    async (request, reply) => {
      if (!canWrite)
        throw gatewayError('method-not-allowed', 'This gateway only reads.', { allow: ['OPTIONS'] })
      refuseConditions(request)
      const most = maxAffectedOf(request, DEFAULT_MAX_AFFECTED)
      const isLenient = preferenceOf(request, 'handling') === 'lenient'
      const wanted = preferenceOf(request, 'return')
      const allowed = parseTransaction(request.body).map((action) => allow(request, reply, action))
      const database = await views.openForChange(request)
      const steps = await planTransaction(database, allowed, {
        unshown,
        functions: functions(),
        most,
        isLenient,
        author: authorOf(request),
      })
      if (isLenient) applyPreference(reply, 'handling=lenient')
      if (preferenceOf(request, 'max-affected') !== undefined) applyPreference(reply, `max-affected=${most}`)
      const key = await keyOfChange(request, idempotencyKeys, [String(most)])
      const done = await makeTransaction(database, key, steps, wanted === 'representation')
      tellRepeated(reply, done)
      if (wanted !== undefined && /^(none|minimal|representation)$/.test(wanted))
        applyPreference(reply, `return=${wanted}`)
      if (wanted === 'none') return reply.code(204).send(null)
      const report = JSON.parse(done.kind === 'many' ? done.report : '') as TransactionReport
      const collections = new Map(allowed.map(({ collection }) => [collection.id, collection]))
      return reply
        .type('application/json')
        .send(renderReport(report, collections, request.publicUrl, wanted !== 'minimal'))
    },
  )
}

/** Errors about the condition of an action. */
const OF_CONDITION = new Set(['precondition-required', 'feature-changed', 'transaction-invalid'])

/** @throws GatewayError header-invalid: if it were ignored, a change of another client would be overwritten */
function refuseConditions({ headers }: FastifyRequest) {
  const name = CONDITIONS.find((header) => headers[header] !== undefined)
  if (name !== undefined)
    throw gatewayError(
      'header-invalid',
      'A transaction has no condition as a whole; leave this header out, and give if-match to each action that needs it.',
      { header: name },
    )
}

/**
 * Returns what a feature must be for an action, as its `if-match` says.
 * @param isRequired true in a collection whose changes need a condition
 * @throws GatewayError
 */
function conditionOf(
  { ifMatch, pointer, deed }: Action,
  collection: Collection,
  isRequired: boolean,
): Precondition {
  const own = `${pointer}/if-match`
  if (deed.kind === 'insert') return undefined
  if (ifMatch === undefined) {
    if (!isRequired) return undefined
    throw gatewayError(
      'precondition-required',
      `Changes in ${collection.id} need a condition: the ETag of the feature as it was read, or "*" to change it whatever it is now.`,
      { collection: collection.id },
    )
  }
  if (ifMatch.trim() === '*') return undefined
  if (!('ids' in deed.chosen))
    throw invalidTransaction([{ pointer: own, detail: 'can only be "*" for features that meet a condition' }])
  try {
    return { versions: parseTags(ifMatch.trim(), collection) }
  } catch (error) {
    if (!(error instanceof GatewayError) || error.code !== 'header-invalid') throw error
    throw invalidTransaction([
      { pointer: own, detail: 'must be the ETag of the feature as it was read, in its quotes, or "*"' },
    ])
  }
}

/** Returns the answer of the draft, with entity tags, and with features as far as the report has them. */
function renderReport(
  { counts, items }: TransactionReport,
  collections: ReadonlyMap<string, Collection>,
  base: string,
  isComplete: boolean,
): string {
  const summary = {
    totalInserted: counts.insert,
    totalUpdated: counts.update,
    totalReplaced: counts.replace,
    totalDeleted: counts.delete,
  }
  if (!isComplete) return JSON.stringify({ semantic: 'atomic', summary })
  const urls: Record<ActionKind, string[]> = { insert: [], update: [], replace: [], delete: [] }
  const entityTags = new Map<string, string>()
  const features = new Map<string, string>()
  for (const { kind, collection: id, id: featureId, version, text } of items) {
    const collection = collections.get(id)!
    const url = featureUrl(base, collection, featureId)
    urls[kind].push(url)
    features.delete(url)
    if (version === undefined) entityTags.delete(url)
    else entityTags.set(url, featureTag(collection, version))
    if (text === undefined) continue
    const links = featureLinks(base, collection, featureId, GEOJSON)
    features.set(url, geojson.document!(text, collection, { url: collectionUrl(base, collection) }, links))
  }
  const results = JSON.stringify({
    semantic: 'atomic',
    summary,
    insertResults: urls.insert,
    updateResults: urls.update,
    replaceResults: urls.replace,
    deleteResults: urls.delete,
    entityTags: Object.fromEntries(entityTags),
  })
  if (features.size === 0) return results
  const members = [...features].map(([url, text]) => `${JSON.stringify(url)}:${text}`)
  // The features pass through as the database has written them.
  return `${results.slice(0, -1)},"representations":{${members.join()}}}`
}
