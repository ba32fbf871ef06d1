// Owns the reading of bodies: which media types are accepted, and which JSON is refused before it costs memory.

import { isUtf8 } from 'node:buffer'
import { hash } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { gatewayError, quoted } from '../errors.ts'
import { describeExcess, parseExactJson, TooManyNumbers } from '../features/values/exact-json.ts'

export const FEATURE_TYPES = ['application/geo+json', 'application/json', 'application/fg+json'] as const
export const PATCH_TYPES = ['application/merge-patch+json', 'application/json'] as const

declare module 'fastify' {
  interface FastifyRequest {
    /** Hash of the body; empty without one. */
    bodyHash: string
  }
}

const CHARSET = /;\s*charset\s*=\s*"?([^";\s]*)/i
/** UTF-8, also by its short name, and its subset of seven bits. */
const UTF_8 = /^(utf-?8|us-ascii)$/i

/** Most numbers in a body that a double does not hold: each takes as long, because its text is kept. */
const MAX_LONG_NUMBERS = 100_000

/** Accepts bodies of these types within `scope` and parses them as JSON; others are refused. */
export function acceptBodies(scope: FastifyInstance, types: readonly string[]) {
  checkHeaders(scope, types)
  scope.addContentTypeParser([...types], { parseAs: 'buffer' }, (request, body, done) => {
    // Some clients send a Content-Type, but no body.
    if (request.method === 'DELETE') return done(null)
    request.bodyHash = hash('sha256', body)
    try {
      done(null, parseBody(body as Buffer))
    } catch (error) {
      done(error as Error)
    }
  })
}

/** Accepts bodies of these types within `scope` as streams, which their routes read; others are refused. */
export function acceptStreams(scope: FastifyInstance, types: readonly string[]) {
  checkHeaders(scope, types)
  scope.addContentTypeParser([...types], (_request, payload, done) => done(null, payload))
}

function checkHeaders(scope: FastifyInstance, types: readonly string[]) {
  scope.decorateRequest('bodyHash', '')
  scope.removeAllContentTypeParsers()
  scope.addHook('onRequest', ({ headers, method }, _reply, done) => {
    if (!headers['content-type'] && method !== 'DELETE')
      return done(
        gatewayError('header-invalid', `Content-Type is missing: it must be ${types.join(' or ')}.`, {
          header: 'Content-Type',
        }),
      )
    const [, charset] = CHARSET.exec(headers['content-type'] ?? '') ?? []
    if (charset !== undefined && !UTF_8.test(charset))
      return done(
        gatewayError(
          'media-type-unsupported',
          `Bodies must be in UTF-8, not in the charset ${quoted(charset)}.`,
        ),
      )
    const encoding = headers['content-encoding']
    if (encoding === undefined || encoding === 'identity') return done()
    done(
      gatewayError(
        'media-type-unsupported',
        `Bodies must be sent without the Content-Encoding ${quoted(encoding)}.`,
      ),
    )
  })
}

/** Parses a body as JSON. @throws GatewayError request-malformed */
export function parseBody(bytes: Buffer): unknown {
  if (!isUtf8(bytes)) throw malformed('is not valid UTF-8')
  const text = bytes.toString('utf8').replace(/^\uFEFF/, '')
  const excess = describeExcess(text)
  if (excess !== undefined) throw malformed(excess)
  try {
    return parseExactJson(text, 'all', MAX_LONG_NUMBERS)
  } catch (error) {
    if (error instanceof TooManyNumbers)
      throw malformed(`has more than ${MAX_LONG_NUMBERS} numbers that a double does not hold`)
    throw malformed(`is not valid JSON: ${(error as Error).message}`)
  }
}

const malformed = (reason: string) => gatewayError('request-malformed', `The body ${reason}.`)
