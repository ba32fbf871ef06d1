// Owns the id and the event of each request, and its trace.

import { randomBytes } from 'node:crypto'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { errors } from '../errors.ts'
import type { Emit } from '../events.ts'
import { type RequestTrace, traceRequest } from '../trace.ts'

declare module 'fastify' {
  interface FastifyRequest {
    trace: RequestTrace | undefined
  }
}

/**
 * Returns a function that returns an id for each request: one that no other process has, because the audit keeps it for
 * longer than this one runs.
 */
export function makeRequestIds(): () => string {
  const ofProcess = randomBytes(5).toString('hex')
  let count = 0
  return () => `req-${ofProcess}_${(++count).toString(36)}`
}

function enterTrace({ trace }: FastifyRequest, next: () => void) {
  if (trace) trace.enter(next)
  else next()
}

export function telemetry(app: FastifyInstance, { emit }: { emit: Emit }) {
  app.decorateRequest('trace', undefined)
  app.addHook('onRequest', (request, reply, done) => {
    const { id, method, url, headers } = request
    const start = performance.now()
    request.trace = traceRequest(method, url, headers)
    // Not Fastify's onResponse, which is not called if the client leaves before the response.
    reply.raw.once('close', () => {
      const route = request.routeOptions.url
      const status = reply.raw.writableFinished ? reply.statusCode : errors['request-abandoned'].status
      request.trace?.end({ route, status })
      emit({
        type: 'request-finished',
        id,
        method,
        url,
        route,
        status,
        milliseconds: performance.now() - start,
      })
    })
    enterTrace(request, done)
  })
  // The body arrives in events of the connection, which are outside of the request's trace.
  app.addHook('preValidation', (request, _reply, done) => enterTrace(request, done))
}
