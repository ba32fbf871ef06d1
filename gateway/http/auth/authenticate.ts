// Owns the authentication of changes: by an API key, or without one if only this machine can reach the gateway.

import { isIP } from 'node:net'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { gatewayError } from '../../errors.ts'
import { type ApiKey, type ApiKeys, keyIn } from '../../features/access/api-key.ts'
import { holderOf } from '../../features/access/principal.ts'

export type LocalityOptions = {
  /** Host on which the gateway listens. */
  readonly host: string
  /** TESSERA_PUBLIC_URL: unless it names this machine, other machines are expected to call. */
  readonly publicUrl: string | undefined
}
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

/** Creates the check that a caller operates the gateway: it is on this machine, or has a key for all collections. */
export function makeOperatorCheck({ apiKeys, ...locality }: AuthenticateOptions) {
  const isFromHere = makeLocality(locality)
  return async (request: FastifyRequest, reply: FastifyReply) => {
    const { authorization } = request.headers
    if (authorization === undefined) {
      if (isFromHere(request)) return
      reply.header('www-authenticate', 'Bearer realm="tessera"')
      throw gatewayError(
        'credentials-missing',
        "This is shown to clients on the gateway's own machine; others need an API key: Authorization: Bearer tessera_…",
      )
    }
    const { id, collections } = await findKey(apiKeys, authorization, reply)
    if (collections)
      throw gatewayError('permission-missing', `The API key ${id} is only for ${collections.join(', ')}.`)
  }
}

/** @throws GatewayError credentials-invalid */
async function findKey(apiKeys: ApiKeys, authorization: string, reply: FastifyReply): Promise<ApiKey> {
  const text = keyIn(authorization)
  const key = text === undefined ? undefined : await apiKeys.find(text)
  if (key === undefined) {
    reply.header('www-authenticate', 'Bearer realm="tessera", error="invalid_token"')
    throw gatewayError('credentials-invalid', 'The API key does not exist, or has been revoked.')
  }
  return key
}

function checkAllowed({ id, canWrite, collections }: ApiKey, collection: string) {
  if (!canWrite)
    throw gatewayError('permission-missing', `The API key ${id} is for reading only.`, { collection })
  if (collections === undefined || collections.includes(collection)) return
  throw gatewayError('permission-missing', `The API key ${id} is not for the collection ${collection}.`, {
    collection,
  })
}

const isLoopback = (host: string) => {
  const name = host.replace(/^\[|\]$/g, '')
  return name === 'localhost' || name === '::1' || (isIP(name) === 4 && name.startsWith('127.'))
}

/** @returns a check that a request comes from this machine, and that the gateway is meant for this machine only */
export function makeLocality({ host, publicUrl }: LocalityOptions): (request: FastifyRequest) => boolean {
  const isOpen = isLoopback(host) && (publicUrl === undefined || isLoopback(new URL(publicUrl).hostname))
  return (request) => isOpen && isLocal(request)
}

/**
 * Returns true if every address on a request's way is this machine's, because a proxy names the client before it, which
 * may itself name others. The host name of the URL must be local too: a foreign page can let its own name resolve to
 * this machine.
 */
const isLocal = (request: FastifyRequest) =>
  (request.ips ?? [request.ip]).every(isLoopback) && isLoopback(request.hostname)

/** Refuses changes by pages of other origins, which browsers name: without keys, only the gateway's own pages may. */
function refuseOtherSites(request: FastifyRequest) {
  const { origin } = request.headers
  if (origin === undefined || origin === new URL(request.publicUrl).origin) return
  throw gatewayError(
    'origin-forbidden',
    `Pages of ${origin} cannot change features here without an API key; \`tessera keys create\` creates one.`,
  )
}
