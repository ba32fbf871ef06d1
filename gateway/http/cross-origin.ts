// Owns CORS: which origins' scripts may read responses. They may do whatever other clients may, because no answer
// lets them send the cookie of a person.

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { isLoopback } from './auth/locality.ts'

const EXPOSED_HEADERS = [
  'ETag',
  'Content-Crs',
  'Link',
  'Location',
  'Retry-After',
  'RateLimit',
  'RateLimit-Policy',
  'Allow',
  'Accept-Post',
  'Accept-Patch',
  'Consistency-Token',
  'Tessera-Source',
  'Tessera-Staleness',
  'Server-Timing',
  'Idempotent-Replayed',
  'WWW-Authenticate',
  'Content-Disposition',
  'OGC-NumberReturned',
  'OGC-NumberMatched',
].join(', ')
/** Seconds for which a browser may reuse the answer to a preflight. */
const PREFLIGHT_AGE_S = 86_400

export type CrossOriginOptions = {
  /** TESSERA_CORS: the origins whose scripts may read responses; undefined to choose by `isForThisMachine`. */
  readonly cors: readonly string[] | undefined
  readonly isForThisMachine: boolean
}

/** Returns the value of access-control-allow-origin for an origin; undefined if its scripts may read nothing. */
function makeAllowance({ cors, isForThisMachine }: CrossOriginOptions) {
  // A gateway that only this machine can reach would otherwise be read by every page that its user visits.
  if (cors === undefined && isForThisMachine)
    return (origin: string) => (isOfThisMachine(origin) ? origin : undefined)
  if (cors === undefined || cors.includes(ANY)) return () => ANY
  return (origin: string) => (cors.includes(origin) ? origin : undefined)
}
const ANY = '*'
const isOfThisMachine = (origin: string) => URL.canParse(origin) && isLoopback(new URL(origin).hostname)

/** Routes that no script of another origin may read, because they answer this machine without a key. */
const CLOSED = new Set(['/metrics', '/cluster'])

/** Lets scripts of allowed origins read every response, except those of closed routes. */
export function crossOrigin(app: FastifyInstance, options: CrossOriginOptions) {
  const allowedFor = makeAllowance(options)
  app.addHook('onRequest', (request, reply, done) => {
    const allowed = CLOSED.has(request.routeOptions.url ?? '')
      ? undefined
      : allowedFor(request.headers.origin ?? '')
    // Otherwise a cache would give the response for one origin to another.
    if (allowed !== ANY) reply.header('vary', 'origin')
    if (allowed !== undefined)
      reply.header(ALLOWED, allowed).header('access-control-expose-headers', EXPOSED_HEADERS)
    done()
  })
}
const ALLOWED = 'access-control-allow-origin'

/** Withdraws a response from scripts of other origins. */
export const closeToOthers = (reply: FastifyReply) => reply.removeHeader(ALLOWED)

/** Allows a script what a browser's preflight requests for it. @param methods separated by commas */
export function answerPreflight({ headers }: FastifyRequest, reply: FastifyReply, methods: string) {
  if (!headers['access-control-request-method'] || !reply.hasHeader(ALLOWED)) return
  reply
    .header('access-control-allow-methods', methods)
    .header('access-control-max-age', String(PREFLIGHT_AGE_S))
  // A script may send any headers except those with which only proxies may name the client.
  const allowed = headers['access-control-request-headers']
    ?.split(',')
    .filter((header) => !/^\s*(x-)?forwarded/i.test(header))
  if (allowed) reply.header('access-control-allow-headers', allowed.join(','))
}
