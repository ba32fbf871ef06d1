// Owns CORS: scripts of other origins may do whatever other clients may, because no cookie identifies a user.

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'

const EXPOSED_HEADERS = [
  'ETag',
  'Link',
  'Location',
  'Retry-After',
  'Allow',
  'Accept-Post',
  'Accept-Patch',
  'Consistency-Token',
  'Tessera-Source',
  'Tessera-Staleness',
  'Server-Timing',
  'Idempotent-Replayed',
].join(', ')
/** Seconds for which a browser may reuse the answer to a preflight. */
const PREFLIGHT_AGE_S = 86_400

/** Lets scripts of every origin read every response. */
export function crossOrigin(app: FastifyInstance) {
  app.addHook('onRequest', (_request, reply, done) => {
    reply.header('access-control-allow-origin', '*').header('access-control-expose-headers', EXPOSED_HEADERS)
    done()
  })
}

/** Allows a script what a browser's preflight requests for it. @param methods separated by commas */
export function answerPreflight({ headers }: FastifyRequest, reply: FastifyReply, methods: string) {
  if (!headers['access-control-request-method']) return
  reply
    .header('access-control-allow-methods', methods)
    .header('access-control-max-age', String(PREFLIGHT_AGE_S))
  // A script may send any headers except those with which only proxies may name the client.
  const allowed = headers['access-control-request-headers']
    ?.split(',')
    .filter((header) => !/^\s*(x-)?forwarded/i.test(header))
  if (allowed) reply.header('access-control-allow-headers', allowed.join(','))
}
