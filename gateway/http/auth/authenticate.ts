// Owns who may change features: an API key, or nobody in particular where only this machine can ask.

import { isIP } from 'node:net'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { gatewayError } from '../../errors.ts'
import type { ApiKey, ApiKeys } from '../../features/access/api-key.ts'
import { holderOf } from '../../features/access/principal.ts'

export type LocalityOptions = {
  /** What the gateway listens on. */
  readonly host: string
  /** TESSERA_PUBLIC_URL: whoever sets it means others to come. */
  readonly publicUrl: string | undefined
}
export type AuthenticateOptions = LocalityOptions & { readonly keys: ApiKeys }

/** Every route of `scope` changes something: before its body is looked at, its client must be allowed to. */
export function authenticate(scope: FastifyInstance, { keys, ...locality }: AuthenticateOptions) {
  const isFromHere = makeLocality(locality)

  scope.addHook('onRequest', async (request, reply) => {
    const { authorization } = request.headers
    if (authorization === undefined) {
      if (isFromHere(request) && !(await keys.exist())) return refuseOtherSites(request)
      reply.header('www-authenticate', 'Bearer realm="tessera"')
      throw gatewayError(
        'credentials-missing',
        'Changes need an API key here: Authorization: Bearer tessera_…; `tessera keys create` makes one.',
      )
    }
    const key = await findKey(keys, authorization, reply)
    checkAllowed(key, (request.params as { collectionId: string }).collectionId)
    request.principal = holderOf(key.id)
  })
}

/** Who operates the gateway: whoever is at this machine, or has a key that is for all collections. */
export function makeOperatorCheck({ keys, ...locality }: AuthenticateOptions) {
  const isFromHere = makeLocality(locality)
  return async (request: FastifyRequest, reply: FastifyReply) => {
    const { authorization } = request.headers
    if (authorization === undefined) {
      if (isFromHere(request)) return
      reply.header('www-authenticate', 'Bearer realm="tessera"')
      throw gatewayError(
        'credentials-missing',
        'This is shown to the machine itself; from elsewhere it needs an API key: Authorization: Bearer tessera_…',
      )
    }
    const { id, collections } = await findKey(keys, authorization, reply)
    if (collections)
      throw gatewayError('permission-missing', `The API key ${id} is for ${collections.join(', ')} alone.`)
  }
}

/** @throws GatewayError credentials-invalid */
async function findKey(keys: ApiKeys, authorization: string, reply: FastifyReply): Promise<ApiKey> {
  const [, text] = /^Bearer +(\S+)$/i.exec(authorization) ?? []
  const key = text === undefined ? undefined : await keys.find(text)
  if (key === undefined) {
    reply.header('www-authenticate', 'Bearer realm="tessera", error="invalid_token"')
    throw gatewayError('credentials-invalid', 'The API key is none, or has been revoked.')
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

/** @returns whether a request comes from this machine, and nobody else's could have come */
export function makeLocality({ host, publicUrl }: LocalityOptions): (request: FastifyRequest) => boolean {
  const isOpen = isLoopback(host) && (publicUrl === undefined || isLoopback(new URL(publicUrl).hostname))
  return (request) => isOpen && isLocal(request)
}

/** All the way: whoever a proxy names is heard, and may name others before itself. By the name asked for too: a page may have its own name resolve to this machine. */
const isLocal = (request: FastifyRequest) =>
  (request.ips ?? [request.ip]).every(isLoopback) && isLoopback(request.hostname)

/** A browser tells whose page it is that asks; on a machine without keys it must be ours. */
function refuseOtherSites(request: FastifyRequest) {
  const { origin } = request.headers
  if (origin === undefined || origin === new URL(request.publicUrl).origin) return
  throw gatewayError(
    'origin-forbidden',
    `Pages of ${origin} cannot change features here without an API key; \`tessera keys create\` makes one.`,
  )
}
