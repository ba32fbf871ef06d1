// Owns what scripts of other origins may do here (CORS): whatever other clients may, since no cookie knows who they are.

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
/** For how many seconds a browser need not ask again. */
const PREFLIGHT_AGE_S = 86_400

/** Every answer may be read. */
export function crossOrigin(app: FastifyInstance) {
  app.addHook('onRequest', (_request, reply, done) => {
    reply.header('access-control-allow-origin', '*').header('access-control-expose-headers', EXPOSED_HEADERS)
    done()
  })
}

/** Where a browser asks whether a script may (a preflight), it may. @param methods separated by commas */
export function answerPreflight({ headers }: FastifyRequest, reply: FastifyReply, methods: string) {
  if (!headers['access-control-request-method']) return
  reply
    .header('access-control-allow-methods', methods)
    .header('access-control-max-age', String(PREFLIGHT_AGE_S))
  // Whatever a script may send, but never what only proxies may say: whom it comes from.
  const allowed = headers['access-control-request-headers']
    ?.split(',')
    .filter((header) => !/^\s*(x-)?forwarded/i.test(header))
  if (allowed) reply.header('access-control-allow-headers', allowed.join(','))
}
