// Owns the authentication of changes: by an API key, or without one if only this machine can reach the gateway.

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { gatewayError, listed, quoted } from '../../errors.ts'
import { type ApiKey, type ApiKeys, keyIn } from '../../features/access/api-key.ts'
import { holderOf } from '../../features/access/principal.ts'
import { type LocalityOptions, makeLocality } from './locality.ts'

export type AuthenticateOptions = LocalityOptions & { readonly apiKeys: ApiKeys }

/** Checks, before a body is read, that the caller may make changes; every route of `scope` makes one. */
export function authenticate(scope: FastifyInstance, { apiKeys, ...locality }: AuthenticateOptions) {
  const isFromHere = makeLocality(locality)

  scope.addHook('onRequest', async (request, reply) => {
    const { authorization } = request.headers
    if (authorization === undefined) {
      if (isFromHere(request) && !(await apiKeys.exist())) return refuseOtherSites(request)
      reply.header('www-authenticate', 'Bearer realm="tessera"')
      throw gatewayError(
        'credentials-missing',
        'Changes need an API key here: Authorization: Bearer tessera_…; `tessera keys create` creates one.',
      )
    }
    const key = await findKey(apiKeys, authorization, reply)
    checkAllowed(key, (request.params as { collectionId: string }).collectionId)
    request.caller = holderOf(key.id)
  })
}

/**
 * Creates the question whether a caller may make changes to a collection, for answers that only say so. They do not wait
 * for a database that does not answer.
 */
export function makeChangeQuestion({ apiKeys, ...locality }: AuthenticateOptions) {
  const isFromHere = makeLocality(locality)
  return async (request: FastifyRequest, reply: FastifyReply, collection: string): Promise<boolean> => {
    const { authorization } = request.headers
    if (authorization === undefined)
      return isFromHere(request) && isOwnSite(request) && !(await apiKeys.remembered.exist())
    return allows(await findKey(apiKeys.remembered, authorization, reply), collection)
  }
}

const allows = ({ canWrite, collections }: ApiKey, collection: string) =>
  canWrite && (collections === undefined || collections.includes(collection))

/**
 * Creates the check that a caller operates the gateway: it has a key for all collections, or it is on this machine and
 * there is no key at all. It does not wait for a database that does not answer.
 */
export function makeOperatorCheck({ apiKeys, ...locality }: AuthenticateOptions) {
  const isFromHere = makeLocality(locality)
  return async (request: FastifyRequest, reply: FastifyReply) => {
    const { authorization } = request.headers
    if (authorization === undefined) {
      if (isFromHere(request) && !(await apiKeys.remembered.exist())) return refuseOtherSites(request)
      reply.header('www-authenticate', 'Bearer realm="tessera"')
      throw gatewayError(
        'credentials-missing',
        "This needs an API key: Authorization: Bearer tessera_…. Only while there is no key is it shown without one, to clients on the gateway's own machine.",
      )
    }
    const { id, collections } = await findKey(apiKeys.remembered, authorization, reply)
    if (collections)
      throw gatewayError('permission-missing', `The API key ${id} is only for ${listed(collections)}.`)
  }
}

/** @throws GatewayError credentials-invalid */
async function findKey(
  apiKeys: Pick<ApiKeys, 'find'>,
  authorization: string,
  reply: FastifyReply,
): Promise<ApiKey> {
  const text = keyIn(authorization)
  const key = text === undefined ? undefined : await apiKeys.find(text)
  if (key === undefined) {
    reply.header('www-authenticate', 'Bearer realm="tessera", error="invalid_token"')
    throw gatewayError('credentials-invalid', 'The API key does not exist, or has been revoked.')
  }
  return key
}

function checkAllowed(key: ApiKey, collection: string) {
  const { id, canWrite } = key
  if (allows(key, collection)) return
  if (!canWrite)
    throw gatewayError('permission-missing', `The API key ${id} is for reading only.`, { collection })
  throw gatewayError(
    'permission-missing',
    `The API key ${id} is not for the collection ${quoted(collection)}.`,
    {
      collection,
    },
  )
}

/** Refuses pages of other sites, which browsers name: without keys, only the gateway's own pages may do everything. */
function refuseOtherSites(request: FastifyRequest) {
  const { origin } = request.headers
  if (isOwnSite(request)) return
  throw gatewayError(
    'origin-forbidden',
    `Pages of ${origin === undefined ? 'other sites' : quoted(origin)} may not do this without an API key; \`tessera keys create\` creates one.`,
  )
}

function isOwnSite(request: FastifyRequest): boolean {
  const { origin, 'sec-fetch-site': site } = request.headers
  return origin === undefined ? !/^(cross|same)-site$/.test(String(site)) : isOwnOrigin(request)
}

const isOwnOrigin = ({ headers, publicUrl }: FastifyRequest) => headers.origin === new URL(publicUrl).origin
