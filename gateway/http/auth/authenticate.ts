// Owns the authentication of changes, of managers, of those who give keys and of operators: by an API key or a token, or without one if only this machine can
// reach the gateway.

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { gatewayError, listed, quoted } from '../../errors.ts'
import { bearerIn } from '../../features/access/api-key.ts'
import {
  ANYONE,
  GRANT_ROLE,
  hasOwnRights,
  LOCAL,
  MANAGE_ROLE,
  mayGrant,
  mayManage,
  mayOperate,
  OPERATE_ROLE,
  type Principal,
  WRITE_ROLE,
} from '../../features/access/principal.ts'
import { auditorsOf, type Group, isAmong, isKeyFor, mayAudit } from '../../features/access/rules.ts'
import type { Collection } from '../../features/collections/collection.ts'
import { principalOf } from '../view.ts'
import type { VisibleCollections } from '../visible.ts'
import { type CredentialOptions, callerIn, credentialsFor, insufficient, missing } from './credentials.ts'
import { type LocalityOptions, makeLocality } from './locality.ts'

export type AuthenticateOptions = LocalityOptions & CredentialOptions

/** Groups of callers who may make changes, by the method of the request. PUT also creates, for those who may. */
const GROUP_OF_METHOD: Readonly<Record<string, Group>> = {
  POST: 'creators',
  PUT: 'editors',
  PATCH: 'editors',
  DELETE: 'removers',
}

/**
 * Creates the question who sends a change, or asks who has made some. Without credentials only this machine does, and only
 * while there are none.
 * @param what begins a sentence about what needs credentials
 */
function makeSender({ apiKeys, tokens, ...locality }: AuthenticateOptions, what = 'Changes need') {
  const isFromHere = makeLocality(locality)
  return async (request: FastifyRequest, reply: FastifyReply): Promise<Principal> => {
    const { authorization } = request.headers
    if (authorization !== undefined) return callerIn(authorization, reply, apiKeys, tokens)
    if (tokens || !isFromHere(request) || (await apiKeys.exist()))
      throw missing(
        reply,
        `${what} ${credentialsFor({ tokens })} here: Authorization: Bearer tessera_…; \`tessera keys create\` creates a key.`,
      )
    refuseOtherSites(request)
    return LOCAL
  }
}

/** Checks, before a body is read, that the caller may change features; every route of `scope` changes some. */
export function authenticate(
  scope: FastifyInstance,
  { visible, ...access }: AuthenticateOptions & { readonly visible: VisibleCollections },
) {
  const senderOf = makeSender(access)
  scope.addHook('onRequest', async (request, reply) => {
    const caller = await senderOf(request, reply)
    request.caller = caller
    const { collectionId } = request.params as { collectionId: string }
    checkChange(GROUP_OF_METHOD[request.method]!, request, collectionId, reply, visible)
  })
}

/** Checks that the caller may see the audit of the collection that the route names; every route of `scope` shows some of it. */
export function authenticateAuditor(
  scope: FastifyInstance,
  { visible, ...access }: AuthenticateOptions & { readonly visible: VisibleCollections },
) {
  const callerOf = makeSender(access, 'The audit needs')
  scope.addHook('onRequest', async (request, reply) => {
    // It has names and addresses of people.
    reply.header('cache-control', 'no-store')
    const caller = await callerOf(request, reply)
    request.caller = caller
    const collection = visible.get(request, (request.params as { collectionId: string }).collectionId)
    if (mayAudit(caller, collection)) return
    const roles = auditorsOf(collection)
    throw insufficient(
      reply,
      roles.length > 0
        ? `${caller.title} may not see the audit of ${collection.id}: it has none of the roles ${listed(roles)}.`
        : `Nobody may see the audit of ${collection.id}.`,
      { collection: collection.id },
      roles.join(' ') || undefined,
    )
  })
}

/**
 * Checks, before a body is read, that the caller changes features of some collection. Which ones it may change, a route of
 * `scope` checks when it knows them, by `checkChange`.
 */
export function authenticateSender(scope: FastifyInstance, access: AuthenticateOptions) {
  const senderOf = makeSender(access)
  scope.addHook('onRequest', async (request, reply) => {
    const caller = await senderOf(request, reply)
    request.caller = caller
    if (caller.key && !caller.key.canWrite)
      throw insufficient(reply, `${caller.title} is for reading only.`, {})
  })
}

/** Checks that the caller of a change may make it in a collection. @throws GatewayError collection-not-found, permission-missing */
export function checkChange(
  group: Group,
  request: FastifyRequest,
  collection: string,
  reply: FastifyReply,
  visible: VisibleCollections,
) {
  const caller = principalOf(request)
  // The scope of a key does not depend on which collections there are, and neither does this answer.
  if (caller.key) checkKey(caller, collection, group, reply)
  if (!hasOwnRights(caller.key)) checkAmong(group, request, visible.get(request, collection), reply)
}

/**
 * Checks, before a body is read, that the caller manages collections; every route of `scope` changes one. A route whose
 * address names none calls `checkScope` when it knows which one it is.
 */
export function authenticateManager(scope: FastifyInstance, access: AuthenticateOptions) {
  const senderOf = makeSender(access)
  scope.addHook('onRequest', async (request, reply) => {
    const caller = await senderOf(request, reply)
    request.caller = caller
    if (!mayManage(caller))
      throw hasOwnRights(caller.key)
        ? insufficient(
            reply,
            `${caller.title} may not change collections themselves; \`tessera keys create --manage\` creates one that may.`,
            {},
          )
        : insufficient(reply, `${caller.title} does not have the role ${MANAGE_ROLE}.`, {}, MANAGE_ROLE)
    const { collectionId } = request.params as { collectionId?: string }
    if (collectionId !== undefined) checkScope(request, collectionId, reply)
  })
}

/**
 * Checks, before a body is read, that the caller gives keys and sets rules; every route of `scope` does. A key is looked at as
 * it is in the database now: one that was revoked a moment ago must not live on in another one.
 */
export function authenticateGiver(scope: FastifyInstance, { apiKeys, tokens }: CredentialOptions) {
  const callerOf = async (authorization: string, reply: FastifyReply) => {
    const caller = await callerIn(authorization, reply, apiKeys, tokens)
    if (mayGrant(caller)) return caller
    throw hasOwnRights(caller.key)
      ? insufficient(
          reply,
          `${caller.title} may not give keys or set rules; \`tessera keys create --grant\` creates one that may.`,
          {},
        )
      : insufficient(reply, `${caller.title} does not have the role ${GRANT_ROLE}.`, {}, GRANT_ROLE)
  }
  scope.addHook('onRequest', async (request, reply) => {
    reply.header('cache-control', 'private, no-store')
    const { authorization } = request.headers
    if (authorization === undefined)
      throw missing(
        reply,
        `This needs ${credentialsFor({ tokens })} that may give keys: Authorization: Bearer tessera_…; \`tessera keys create --grant\` creates a key.`,
      )
    request.caller = await callerOf(authorization, reply)
    if (request.caller.key === undefined) return
    await apiKeys.renew()
    request.caller = await callerOf(authorization, reply)
  })
}

/** Checks that the key of a request, if it has one, is for this collection. @throws GatewayError permission-missing */
export function checkScope(request: FastifyRequest, collection: string, reply: FastifyReply) {
  const caller = principalOf(request)
  if (caller.key) checkKey(caller, collection, 'editors', reply)
}

/**
 * Returns who asks, for answers that only say what the caller may do. They do not wait for a database that does not
 * answer.
 */
export function makeIdentification({ apiKeys, tokens, ...locality }: AuthenticateOptions) {
  const isFromHere = makeLocality(locality)
  return async (request: FastifyRequest, reply: FastifyReply): Promise<Principal> => {
    const { authorization } = request.headers
    if (authorization !== undefined) return callerIn(authorization, reply, apiKeys.remembered, tokens)
    const isOpen = !tokens && isFromHere(request) && isOwnSite(request) && !(await apiKeys.remembered.exist())
    return isOpen ? LOCAL : ANYONE
  }
}

/**
 * Identifies the callers of the reads of `scope`, if it can make a difference: without issuers, and as long as everybody
 * may read everything, credentials are not looked at. It does not wait for a database that does not answer.
 */
export function identify(scope: FastifyInstance, { apiKeys, tokens, isRestricted }: IdentifyOptions) {
  scope.addHook('onRequest', (request, reply, done) => {
    const { authorization } = request.headers
    if (authorization === undefined || !(tokens || isRestricted()) || bearerIn(authorization) === undefined)
      return done()
    callerIn(authorization, reply, apiKeys.remembered, tokens).then((caller) => {
      request.caller = caller
      // An answer that is for everybody says so by itself.
      reply.header('cache-control', 'private')
      done()
    }, done)
  })
}

export type IdentifyOptions = CredentialOptions & {
  /** Returns true if there is a collection that not everybody may read. */
  readonly isRestricted: () => boolean
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
    throw hasOwnRights(caller.key)
      ? insufficient(reply, `${caller.title} is only for ${listed(caller.key.collections!)}.`, {})
      : insufficient(reply, `${caller.title} does not have the role ${OPERATE_ROLE}.`, {}, OPERATE_ROLE)
  }
}

function checkKey({ key, title }: Principal, collection: string, group: Group, reply: FastifyReply) {
  if (isKeyFor(key!, collection, group)) return
  const reason = key!.canWrite ? `not for the collection ${quoted(collection)}` : 'for reading only'
  throw insufficient(reply, `${title} is ${reason}.`, { collection })
}

/** Checks that the caller is among those who may do something. @throws GatewayError permission-missing */
export function checkAmong(
  group: Group,
  request: FastifyRequest,
  collection: Collection,
  reply: FastifyReply,
) {
  const caller = principalOf(request)
  if (isAmong(group, caller, collection)) return
  const roles = collection.rules?.[group] ?? [WRITE_ROLE]
  throw insufficient(
    reply,
    roles.length > 0
      ? `${caller.title} is not among the ${group} of ${collection.id}: it has none of the roles ${listed(roles)}.`
      : `${caller.title} is not among the ${group} of ${collection.id}, who have API keys.`,
    { collection: collection.id },
    roles.join(' ') || undefined,
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

/** Returns true for a request of a page that this gateway has served, as its browser says. */
export const isOwnOrigin = ({ headers, publicUrl }: FastifyRequest) =>
  headers.origin === new URL(publicUrl).origin
