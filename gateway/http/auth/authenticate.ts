// Owns the authentication of changes and of operators: by an API key or a token, or without one if only this machine can
// reach the gateway.

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { gatewayError, listed, quoted } from '../../errors.ts'
import {
  mayChange,
  mayOperate,
  OPERATE_ROLE,
  type Principal,
  WRITE_ROLE,
} from '../../features/access/principal.ts'
import { type CredentialOptions, callerIn, credentialsFor, insufficient, missing } from './credentials.ts'
import { type LocalityOptions, makeLocality } from './locality.ts'

export type AuthenticateOptions = LocalityOptions & CredentialOptions

/** Checks, before a body is read, that the caller may make changes; every route of `scope` makes one. */
export function authenticate(scope: FastifyInstance, { apiKeys, tokens, ...locality }: AuthenticateOptions) {
  const isFromHere = makeLocality(locality)

  scope.addHook('onRequest', async (request, reply) => {
    const { authorization } = request.headers
    if (authorization === undefined) {
      if (!tokens && isFromHere(request) && !(await apiKeys.exist())) return refuseOtherSites(request)
      throw missing(
        reply,
        `Changes need ${credentialsFor({ tokens })} here: Authorization: Bearer tessera_…; \`tessera keys create\` creates a key.`,
      )
    }
    const caller = await callerIn(authorization, reply, apiKeys, tokens)
    checkAllowed(caller, (request.params as { collectionId: string }).collectionId, reply)
    request.caller = caller
  })
}

/**
 * Creates the question whether a caller may make changes to a collection, for answers that only say so. They do not wait
 * for a database that does not answer.
 */
export function makeChangeQuestion({ apiKeys, tokens, ...locality }: AuthenticateOptions) {
  const isFromHere = makeLocality(locality)
  return async (request: FastifyRequest, reply: FastifyReply, collection: string): Promise<boolean> => {
    const { authorization } = request.headers
    if (authorization === undefined)
      return !tokens && isFromHere(request) && isOwnSite(request) && !(await apiKeys.remembered.exist())
    return mayChange(await callerIn(authorization, reply, apiKeys.remembered, tokens), collection)
  }
}

/**
 * Creates the check that a caller operates the gateway: it has a key for all collections or the role for it, or it is on
 * this machine and there are no credentials at all. It does not wait for a database that does not answer.
 */
export function makeOperatorCheck({ apiKeys, tokens, ...locality }: AuthenticateOptions) {
  const isFromHere = makeLocality(locality)
  return async (request: FastifyRequest, reply: FastifyReply) => {
    const { authorization } = request.headers
    if (authorization === undefined) {
      if (!tokens && isFromHere(request) && !(await apiKeys.remembered.exist()))
        return refuseOtherSites(request)
      throw missing(
        reply,
        `This needs ${credentialsFor({ tokens })}: Authorization: Bearer tessera_…. Only while there is neither a key nor an issuer is it shown without one, to clients on the gateway's own machine.`,
      )
    }
    const caller = await callerIn(authorization, reply, apiKeys.remembered, tokens)
    if (mayOperate(caller)) return
    throw caller.key
      ? insufficient(reply, `${caller.title} is only for ${listed(caller.key.collections!)}.`, {})
      : insufficient(reply, `${caller.title} does not have the role ${OPERATE_ROLE}.`, {}, OPERATE_ROLE)
  }
}

function checkAllowed(caller: Principal, collection: string, reply: FastifyReply) {
  if (mayChange(caller, collection)) return
  const { key, title } = caller
  if (!key)
    throw insufficient(reply, `${title} does not have the role ${WRITE_ROLE}.`, { collection }, WRITE_ROLE)
  const reason = key.canWrite ? `not for the collection ${quoted(collection)}` : 'for reading only'
  throw insufficient(reply, `${title} is ${reason}.`, { collection })
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
