// Owns the routes of those who say who may do what: API keys, and the rules of collections. They call what the commands call.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { atWritePort } from '../../database/json-rows.ts'
import { type Fault, gatewayError, quoted } from '../../errors.ts'
import {
  createApiKey,
  idOfKey,
  KEY_FUNCTIONS,
  type ListedApiKey,
  revokeApiKey,
  rotateApiKey,
} from '../../features/access/api-key.ts'
import { excessOf, excessOfRule, excessOfTime } from '../../features/access/giving.ts'
import { parseNewKey, parseRotation, parseRules } from '../../features/access/key-definition.ts'
import type { Rules } from '../../features/access/rules.ts'
import { SET_RULES, setRules } from '../../features/collections/settings.ts'
import { setSpelled } from '../allowed-methods.ts'
import { authenticateGiver } from '../auth/authenticate.ts'
import type { CredentialOptions } from '../auth/credentials.ts'
import { acceptBodies, PATCH_TYPES } from '../body.ts'
import { changeProblems, collectionParams, content, noQuery, notFound, problemOf } from '../schemas.ts'
import { Type } from '../type.ts'
import { principalOf, type Views } from '../view.ts'
import type { VisibleCollections } from '../visible.ts'

type Services = CredentialOptions & {
  readonly visible: VisibleCollections
  readonly views: Views
  /** False if the gateway has no write port. */
  readonly canWrite: boolean
  /** Reads the collections with their rules again. */
  readonly reload: () => Promise<void>
}

const KEYS = '/keys'
const KEY = `${KEYS}/:keyId`
const RULES = '/collections/:collectionId/rules'
const KEY_TYPES = ['application/json'] as const
const security = [{ apiKey: [] }]
const tags = ['Access']
const JSON_TYPE = 'application/json'
const { 409: _conflict, 412: _changed, 422: _invalid, ...common } = changeProblems
const refusals = {
  ...common,
  403: problemOf('The caller does not give keys and set rules, or not those: each excess is named.'),
  405: problemOf('This gateway only reads.'),
}
const invalidKey = problemOf('The key is not valid: each fault is named; nothing has changed.')
const noKey = problemOf('The caller may not give what this key may do, or there is no such key.')
const keyParams = Type.Object({
  keyId: Type.String({ description: 'The id of a key, which is the part of it that may be shown.' }),
})
const ruled = content('The rules of the collection.', [JSON_TYPE], Type.Ref('Rules#'))
const created = (description: string) => ({
  ...content(description, [JSON_TYPE], Type.Ref('CreatedApiKey#')),
  headers: { Location: { type: 'string', description: 'URL of the new key.' } },
})

const describeKey = (key: ListedApiKey) => ({
  id: key.id,
  name: key.name,
  readOnly: !key.canWrite,
  manage: key.canManage,
  grant: key.canGrant,
  collections: key.collections,
  roles: key.roles,
  created: key.createdAt,
  createdBy: key.createdBy,
  expires: key.expiresAt,
  lastUsed: key.lastUsedAt,
})

const describeRules = (rules: Rules | undefined) => ({
  readers: rules?.readers ?? null,
  creators: rules?.creators ?? null,
  editors: rules?.editors ?? null,
  removers: rules?.removers ?? null,
})

/** @throws GatewayError permission-missing if there is any */
function refuseExcess(excess: readonly Fault[]) {
  const [first] = excess
  if (first)
    throw gatewayError(
      'permission-missing',
      `Nobody gives what they may not do: ${first.pointer} ${first.detail}.`,
      {
        errors: excess,
      },
    )
}

export const access: FastifyPluginAsyncTypebox<Services> = async (
  app,
  { visible, views, canWrite, reload, apiKeys, tokens },
) => {
  const credentials = { apiKeys, tokens }
  const checkWritable = () => {
    if (!canWrite)
      throw gatewayError('method-not-allowed', 'This gateway only reads.', { allow: ['OPTIONS'] })
  }
  const runsFor = async (request: FastifyRequest, signature: string) =>
    atWritePort(await views.openForChange(request), signature)

  /** Returns the keys that the caller could give; others are not there for it. */
  async function keysFor(request: FastifyRequest): Promise<ListedApiKey[]> {
    checkWritable()
    await apiKeys.renew()
    return apiKeys.list().filter((key) => excessOf(principalOf(request), key).length === 0)
  }

  async function keyFor(request: FastifyRequest<{ Params: { keyId: string } }>): Promise<ListedApiKey> {
    const { keyId } = request.params
    const found = (await keysFor(request)).find(({ id }) => id === keyId)
    if (found) return found
    throw gatewayError(
      'key-not-found',
      `There is no key ${quoted(keyId)} that you may give; ${KEYS} lists them.`,
    )
  }

  /** Answers with a key that has just been created. @param text the key itself */
  async function showCreated(request: FastifyRequest, reply: FastifyReply, text: string) {
    await apiKeys.renew()
    const id = idOfKey(text)!
    const key = apiKeys.list().find((one) => one.id === id)!
    setSpelled(reply, 'Location', `${request.publicUrl}${KEYS}/${id}`)
    return reply.code(201).send({ ...describeKey(key), key: text } as never)
  }

  app.register(async (scope) => {
    authenticateGiver(scope as unknown as FastifyInstance, credentials)
    scope.get(
      KEYS,
      {
        schema: {
          operationId: 'getKeys',
          summary: 'The API keys that the caller may give',
          description:
            'Keys that permit more than the caller may do are left out, and so are those that were revoked.',
          tags,
          security,
          querystring: noQuery,
          response: {
            200: content('The keys.', [JSON_TYPE], Type.Object({ keys: Type.Array(Type.Ref('ApiKey#')) })),
            ...refusals,
          },
        },
      },
      async (request, reply) => reply.send({ keys: (await keysFor(request)).map(describeKey) } as never),
    )

    scope.get<{ Params: { keyId: string } }>(
      KEY,
      {
        schema: {
          operationId: 'getKey',
          summary: 'An API key',
          tags,
          security,
          params: keyParams,
          querystring: noQuery,
          response: { 200: content('The key.', [JSON_TYPE], Type.Ref('ApiKey#')), 404: noKey, ...refusals },
        },
      },
      async (request, reply) => reply.send(describeKey(await keyFor(request)) as never),
    )

    scope.delete<{ Params: { keyId: string } }>(
      KEY,
      {
        schema: {
          operationId: 'revokeKey',
          summary: 'Revoke an API key',
          description: 'Every gateway refuses the key within a second.',
          tags,
          security,
          params: keyParams,
          querystring: noQuery,
          response: { 204: { description: 'The key was revoked.', type: 'null' }, 404: noKey, ...refusals },
        },
      },
      async (request, reply) => {
        const { id } = await keyFor(request)
        await revokeApiKey(await runsFor(request, KEY_FUNCTIONS.revoke), id)
        await apiKeys.renew()
        return reply.code(204).send()
      },
    )

    scope.get<{ Params: { collectionId: string } }>(
      RULES,
      {
        schema: {
          operationId: 'getRules',
          summary: 'The rules of a collection',
          tags,
          security,
          params: collectionParams,
          querystring: noQuery,
          response: { 200: ruled, 404: notFound, ...refusals },
        },
      },
      async (request, reply) =>
        reply.send(describeRules(visible.get(request, request.params.collectionId).rules) as never),
    )
  })

  app.register(async (scope) => {
    authenticateGiver(scope as unknown as FastifyInstance, credentials)
    acceptBodies(scope as unknown as FastifyInstance, KEY_TYPES)
    scope.post(
      KEYS,
      {
        config: { body: { types: KEY_TYPES, schema: 'NewApiKey' } },
        schema: {
          operationId: 'createKey',
          summary: 'Create an API key',
          description:
            'The key may do no more than the caller. One that is created with a key that expires does not live longer. The answer has the key itself, which is stored nowhere.',
          tags,
          security,
          querystring: noQuery,
          response: { 201: created('The key was created.'), 422: invalidKey, ...refusals },
        },
      },
      async (request, reply) => {
        checkWritable()
        const given = parseNewKey(request.body)
        const giver = principalOf(request)
        refuseExcess([...excessOf(giver, given), ...excessOfTime(giver, given.expiresAt)])
        const expiresAt = given.expiresAt ?? giver.key?.expiresAt
        const runs = await runsFor(request, KEY_FUNCTIONS.create)
        return showCreated(request, reply, await createApiKey(runs, { ...given, expiresAt }, giver.id))
      },
    )

    scope.post<{ Params: { keyId: string } }>(
      `${KEY}/rotate`,
      {
        config: { body: { types: KEY_TYPES, schema: 'KeyRotation' } },
        schema: {
          operationId: 'rotateKey',
          summary: 'Replace an API key',
          description:
            'Creates a key that may do the same, and lets the old one expire after the overlap. Without `expires` the new key lives as long as the old one was meant to.',
          tags,
          security,
          params: keyParams,
          querystring: noQuery,
          response: {
            201: created('The new key was created.'),
            404: noKey,
            422: invalidKey,
            ...refusals,
          },
        },
      },
      async (request, reply) => {
        const { id } = await keyFor(request)
        const { until, expiresAt } = parseRotation(request.body)
        const giver = principalOf(request)
        refuseExcess(excessOfTime(giver, expiresAt))
        const runs = await runsFor(request, KEY_FUNCTIONS.rotate)
        const latest = giver.key?.expiresAt
        const text = await rotateApiKey(runs, id, { until, expiresAt, latest, createdBy: giver.id })
        if (text === undefined)
          throw gatewayError('key-not-found', `The key ${id} has expired or was revoked.`)
        return showCreated(request, reply, text)
      },
    )
  })

  app.register(async (scope) => {
    authenticateGiver(scope as unknown as FastifyInstance, credentials)
    acceptBodies(scope as unknown as FastifyInstance, PATCH_TYPES)
    scope.patch<{ Params: { collectionId: string } }>(
      RULES,
      {
        config: { body: { types: PATCH_TYPES, schema: 'Rules' } },
        schema: {
          operationId: 'setRules',
          summary: 'Set the rules of a collection',
          description:
            'The body is a merge patch (RFC 7396): groups that it leaves out stay as they are, and null removes the rule of a group. Callers set groups that they are among. Every gateway follows within a second.',
          tags,
          security,
          params: collectionParams,
          querystring: noQuery,
          response: {
            200: ruled,
            404: notFound,
            409: problemOf('Somebody else has changed the rules at the same time; nothing has changed.'),
            422: problemOf('The rules are not valid: each fault is named; nothing has changed.'),
            ...refusals,
          },
        },
        onRequest: async (_request, reply) => {
          reply.header('accept-patch', PATCH_TYPES.join(', '))
        },
      },
      async (request, reply) => {
        checkWritable()
        const { collectionId } = request.params
        visible.get(request, collectionId)
        const given = parseRules(request.body)
        const runs = await runsFor(request, SET_RULES)
        // The rules by which it is decided may be some moments old; the database compares them with its own.
        for (let attempt = 1; attempt <= MOST_ATTEMPTS; attempt += 1) {
          const collection = visible.get(request, collectionId)
          refuseExcess(excessOfRule(principalOf(request), collection, given))
          const isDone = await setRules(runs, collectionId, given, collection.rules)
          await reload()
          if (isDone)
            return reply.send(describeRules({ ...NO_RULES, ...collection.rules, ...given }) as never)
        }
        throw gatewayError(
          'rules-changed',
          `Somebody else has changed the rules of ${collectionId} at the same time; try again.`,
          { collection: collectionId },
        )
      },
    )
  })
}

/** The second attempt knows what the first one found out of date. */
const MOST_ATTEMPTS = 2
const NO_RULES = { readers: undefined, creators: undefined, editors: undefined, removers: undefined }
