// Owns the answers to other methods: 405 to those that a resource does not have, and to OPTIONS those that it has.

import type { FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods } from 'fastify'
import { gatewayError } from '../errors.ts'
import { answerPreflight } from './cross-origin.ts'
import { METHODS as METHODS_OF_NODE } from './node-http.ts'

const METHODS: HTTPMethods[] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']
/** Methods that no resource has, such as TRACE. Node does not hand CONNECT to routes. */
const FOREIGN_METHODS = METHODS_OF_NODE.filter(
  (method) => !['CONNECT', 'OPTIONS', ...METHODS].includes(method),
) as HTTPMethods[]

/**
 * Records the methods of each URL that is registered from now on.
 * @returns a plugin that adds the missing methods, to be registered after all routes
 */
export function watchMethods(app: FastifyInstance) {
  for (const method of FOREIGN_METHODS) if (!app.supportedMethods.includes(method)) app.addHttpMethod(method)
  const methods = new Map<string, Set<string>>()
  app.addHook('onRoute', ({ url, method }) => {
    // Wildcards are from plugins, which answer any path; Tessera's own resources have none.
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
        method: [...METHODS.filter((method) => !known.has(method)), ...FOREIGN_METHODS],
        schema: { hide: true },
        // In this hook no body has been read yet.
        onRequest(request) {
          throw gatewayError(
            'method-not-allowed',
            `${request.method} is not allowed here; allowed are ${allow.join(', ')}.`,
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

/** Answers OPTIONS, also as the preflight of a browser. */
export function answerOptions(request: FastifyRequest, reply: FastifyReply, allow: readonly string[]) {
  const names = allow.join(', ')
  answerPreflight(request, reply, names)
  setSpelled(reply, 'Allow', names)
  return reply.code(200).send()
}

/**
 * Sets a header whose name keeps its capitals, which Fastify would change to lower case. Names are equal in either
 * case, but editors in use look for this spelling (QGIS before 3.44, https://github.com/qgis/QGIS/issues/61729).
 */
export function setSpelled(reply: FastifyReply, name: string, value: string) {
  reply.raw.setHeader(name, value)
}
