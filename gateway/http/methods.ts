// Owns what a resource says to methods that it does not have: 405, and to OPTIONS: those that it has.

import type { FastifyInstance, HTTPMethods } from 'fastify'
import { gatewayError } from '../errors.ts'

const METHODS: HTTPMethods[] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']

/**
 * Notes the methods of each URL from now on.
 * @returns what completes them, to be registered after all routes
 */
export function watchMethods(app: FastifyInstance) {
  const methods = new Map<string, Set<string>>()
  app.addHook('onRoute', ({ url, method }) => {
    // Plugins answer to anything with wildcards; a resource of ours has an address.
    if (url.includes('*')) return
    const known = methods.get(url) ?? new Set()
    for (const name of [method].flat()) known.add(name)
    methods.set(url, known)
  })
  return async function completeMethods(scope: FastifyInstance) {
    for (const [url, known] of [...methods]) {
      const allow = [...METHODS.filter((method) => known.has(method)), 'OPTIONS'].join(', ')
      scope.route({
        url,
        method: METHODS.filter((method) => !known.has(method)),
        schema: { hide: true },
        // Before a body is looked at: whatever it is, it is not wanted.
        onRequest(request, reply) {
          reply.header('allow', allow)
          throw gatewayError('method-not-allowed', `${request.method} is not possible here; ${allow} are.`, {
            allow: allow.split(', '),
          })
        },
        handler() {},
      })
      if (known.has('OPTIONS')) continue
      scope.route({
        url,
        method: 'OPTIONS',
        schema: { hide: true },
        handler: (request, reply) => {
          // A browser's preflight asks whether a script of another origin may.
          const headers = request.headers['access-control-request-headers']
          if (request.headers['access-control-request-method']) {
            reply.header('access-control-allow-methods', allow).header('access-control-max-age', '86400')
            if (headers) reply.header('access-control-allow-headers', headers)
          }
          return reply.code(204).header('allow', allow).send()
        },
      })
    }
  }
}
