// Owns what a resource says to methods that it does not have: 405, and to OPTIONS: those that it has.

import type { FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods } from 'fastify'
import { gatewayError } from '../errors.ts'
import { answerPreflight } from './cross-origin.ts'

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
      const allow = [...METHODS.filter((method) => known.has(method)), 'OPTIONS']
      scope.route({
        url,
        method: METHODS.filter((method) => !known.has(method)),
        schema: { hide: true },
        // Before a body is looked at: whatever it is, it is not wanted.
        onRequest(request) {
          throw gatewayError(
            'method-not-allowed',
            `${request.method} is not possible here; ${allow.join(', ')} are.`,
            { allow },
          )
        },
        handler() {},
      })
      if (known.has('OPTIONS')) continue
      scope.route({
        url,
        method: 'OPTIONS',
        schema: { hide: true },
        handler: (request, reply) => answerOptions(request, reply, allow),
      })
    }
  }
}

/** Also to a browser that asks for a script. */
export function answerOptions(request: FastifyRequest, reply: FastifyReply, allow: readonly string[]) {
  const names = allow.join(', ')
  answerPreflight(request, reply, names)
  setSpelled(reply, 'Allow', names)
  return reply.code(204).send()
}

/**
 * A header whose name keeps its capitals, which Fastify would lower: the name means the same, but editors
 * in use look for exactly this one (QGIS before 3.44, https://github.com/qgis/QGIS/issues/61729).
 */
export function setSpelled(reply: FastifyReply, name: string, value: string) {
  reply.raw.setHeader(name, value)
}
