// Owns how bodies are read: which types there are, and JSON that is refused before it costs memory.

import { isUtf8 } from 'node:buffer'
import { hash } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { gatewayError } from '../errors.ts'
import { parseExactJson } from '../features/values/exact-json.ts'

export const FEATURE_TYPES = ['application/geo+json', 'application/json'] as const
export const PATCH_TYPES = ['application/merge-patch+json', 'application/json'] as const

declare module 'fastify' {
  interface FastifyRequest {
    /** What tells one body from another; empty for none. */
    bodyHash: string
  }
}

/** Deeper than any feature: a collection within a collection takes three levels. */
const MAX_DEPTH = 100

/** Within `scope`, bodies of these types are JSON, and others are refused. */
export function acceptBodies(scope: FastifyInstance, types: readonly string[]) {
  scope.decorateRequest('bodyHash', '')
  scope.removeAllContentTypeParsers()
  scope.addContentTypeParser([...types], { parseAs: 'buffer' }, (request, body, done) => {
    // Some clients name a type for the body that they do not send.
    if (request.method === 'DELETE') return done(null)
    request.bodyHash = hash('sha256', body)
    try {
      done(null, parseBody(body as Buffer))
    } catch (error) {
      done(error as Error)
    }
  })
  scope.addHook('onRequest', (request, _reply, done) => {
    const encoding = request.headers['content-encoding']
    if (encoding === undefined || encoding === 'identity') return done()
    done(gatewayError('media-type-unsupported', `Bodies must be sent as they are, without ${encoding}.`))
  })
}

/** @throws GatewayError request-malformed */
export function parseBody(bytes: Buffer): unknown {
  if (!isUtf8(bytes)) throw malformed('is not valid UTF-8')
  const text = bytes.toString('utf8').replace(/^\uFEFF/, '')
  if (depthOf(text) > MAX_DEPTH) throw malformed(`nests more than ${MAX_DEPTH} deep`)
  try {
    return parseExactJson(text, 'all')
  } catch (error) {
    throw malformed(`is not valid JSON: ${(error as Error).message}`)
  }
}

const malformed = (reason: string) => gatewayError('request-malformed', `The body ${reason}.`)

const [QUOTE, BACKSLASH] = ['"', '\\'].map((character) => character.charCodeAt(0))
const [OPEN_BRACE, OPEN_BRACKET, CLOSE_BRACE, CLOSE_BRACKET] = [...'{[}]'].map((character) =>
  character.charCodeAt(0),
)

/** How deep brackets nest, strings left out. */
function depthOf(text: string): number {
  let depth = 0
  let deepest = 0
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index)
    if (code === QUOTE) {
      for (index++; index < text.length && text.charCodeAt(index) !== QUOTE; index++)
        if (text.charCodeAt(index) === BACKSLASH) index++
    } else if (code === OPEN_BRACE || code === OPEN_BRACKET) {
      if (++depth > deepest) deepest = depth
    } else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) depth--
  }
  return deepest
}
