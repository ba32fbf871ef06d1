// Owns ETag and 304 (RFC 9110, 8.8.3, 13.1.2 and 13.1.3). @fastify/etag supports neither lists nor `*`, and tags errors.

import { hash } from 'node:crypto'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { parseHttpDate } from './http-date.ts'

/** Returns the entity tag of a text. */
export const entityTag = (text: string | Buffer) => `"${hash('sha1', text, 'base64url')}"`

/** Headers of a request that a response depends on: its format, encoding and preferences. */
const VARY = 'accept, accept-encoding, prefer, consistency-token'
/** Headers that links depend on, unless the operator has set the public URL. */
const VARY_BY_PROXY = 'x-forwarded-host, x-forwarded-proto, x-forwarded-port, x-forwarded-prefix'

type Dependence = {
  /** True if links do not depend on headers. */
  readonly hasFixedUrl: boolean
  /** Returns true if responses can depend on who asks. */
  readonly dependsOnCaller: () => boolean
  /** True if a cookie can say who asks. */
  readonly hasSessions: boolean
}

/** Tags every complete response that has no tag yet, and answers 304 if the client has it already. */
export function conditional(app: FastifyInstance, { hasFixedUrl, dependsOnCaller, hasSessions }: Dependence) {
  const vary = hasFixedUrl ? VARY : `${VARY}, ${VARY_BY_PROXY}`
  const byCaller = hasSessions ? `${vary}, authorization, cookie` : `${vary}, authorization`
  app.addHook('onSend', (request, reply, payload, done) => {
    if (reply.statusCode !== 200 || (request.method !== 'GET' && request.method !== 'HEAD')) return done()
    const before = reply.getHeader('vary')
    const depends = dependsOnCaller() ? byCaller : vary
    reply.header('vary', before === undefined ? depends : `${before}, ${depends}`)
    let tag = reply.getHeader('etag') as string | undefined
    if (tag === undefined && (typeof payload === 'string' || Buffer.isBuffer(payload))) {
      tag = entityTag(payload)
      reply.header('etag', tag)
    }
    const date = reply.getHeader('last-modified') as string | undefined
    if (!(tag !== undefined && isKnown(request, tag)) && !isUnmodified(request, date)) return done()
    reply.code(304).removeHeader('content-type').removeHeader('content-length')
    // Fastify itself removes the body of a response to HEAD, and needs one to remove.
    return request.method === 'HEAD' ? done() : done(null, null)
  })
}

/** Returns true if If-None-Match names the tag, by the weak comparison that it requires. */
export function isKnown({ headers }: FastifyRequest, tag: string): boolean {
  const known = headers['if-none-match']
  if (known === undefined) return false
  const strip = (text: string) => text.trim().replace(/^W\//, '')
  return known.trim() === '*' || known.split(',').some((candidate) => strip(candidate) === strip(tag))
}

/** Returns true if the answer has not changed since If-Modified-Since, which counts only without If-None-Match. */
function isUnmodified({ headers }: FastifyRequest, date: string | undefined): boolean {
  const modified = parseHttpDate(date)
  const since = parseHttpDate(headers['if-modified-since'])
  if (modified === undefined || since === undefined || headers['if-none-match'] !== undefined) return false
  // A date of just now may stand for a later one, see sendLastModified.
  return modified <= since && Date.now() / 1000 - modified >= SETTLED_S
}
/** A date that is this old was sent as it is, even if a second has passed since. */
const SETTLED_S = 2
