// Owns the Idempotency-Key header, by which a client marks a repeated change as the same one.

import type { FastifyReply, FastifyRequest } from 'fastify'
import { errors, type GatewayError, gatewayError } from '../errors.ts'
import {
  type Done,
  type GivenKey,
  type IdempotencyKey,
  type IdempotencyKeys,
  KEY_HEADERS,
} from '../features/changes/idempotency-key.ts'
import { preferenceOf } from './prefer.ts'
import { Type } from './type.ts'
import { principalOf } from './view.ts'

/** Request header of changes. @see https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/ */
export const idempotencyHeaders = {
  'idempotency-key': Type.Optional(
    Type.String({
      description:
        'A text of your choice, a new one for each change, such as a UUID. A change that is repeated with the same key within a day is not made again, and gets the response of the first time.',
      example: '"8e03978e-40d5-43dd-bc93-6894a57f9324"',
    }),
  ),
}
/** Response header of repeated changes. */
export const repeatedHeader = {
  'Idempotent-Replayed': {
    type: 'string',
    enum: ['true'],
    description: 'The change had already been made under the same key; this is its outcome of that time.',
  },
}

/** A string of structured fields (RFC 8941), or the same without quotes. */
const KEY = /^(?:"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,255})"|([\x21\x23-\x2b\x2d-\x7e]{1,255}))$/

/** Returns the key of a request, the client's before a balancer's; `text` is undefined if the key is not valid. */
function sentKeyOf({ headers }: FastifyRequest) {
  for (const giver of ['client', 'balancer'] as const) {
    const written = headers[KEY_HEADERS[giver].toLowerCase()]
    if (written === undefined) continue
    const [, quoted, bare] = KEY.exec(String(written).trim()) ?? []
    return { giver, text: quoted?.replaceAll(/\\(.)/g, '$1') ?? bare }
  }
  return undefined
}

/** Returns the valid key of a request; undefined if it has none. @throws GatewayError header-invalid */
function givenKeyOf(request: FastifyRequest): GivenKey | undefined {
  const sent = sentKeyOf(request)
  if (!sent) return undefined
  const { giver, text } = sent
  if (text !== undefined) return { giver, text }
  const header = KEY_HEADERS[giver]
  throw gatewayError(
    'header-invalid',
    `${header} must be 1 to 255 visible characters, with or without quotes, for example "8e03978e-40d5-43dd-bc93-6894a57f9324".`,
    { header },
  )
}

/**
 * Adds a balancer's key to an error with status 503. The balancer may have sent the change to another gateway before,
 * which died; this gateway does not know whether it happened there, and only a repetition with the key finds out.
 * @returns the error, with the key if a balancer has given one
 */
export function withGivenKey(error: GatewayError, request: FastifyRequest): GatewayError {
  const { code, message, facts } = error
  if (errors[code].status !== 503 || facts.idempotencyKey) return error
  const { giver, text } = sentKeyOf(request) ?? {}
  if (giver !== 'balancer' || text === undefined) return error
  const advice = `Repeat it with Idempotency-Key: ${JSON.stringify(text)}, and it happens once.`
  return gatewayError(code, `${message} ${advice}`, { ...facts, idempotencyKey: text }, error)
}

/**
 * Returns the key of a change: the given one, or one of the gateway if that helps; undefined for none.
 * @param conditions whatever else decides the outcome
 * @throws GatewayError header-invalid
 */
export async function keyOfChange(
  request: FastifyRequest,
  keys: IdempotencyKeys,
  conditions: readonly string[] = [],
): Promise<IdempotencyKey | undefined> {
  const { headers, method, params } = request
  const { collectionId, featureId = null } = params as { collectionId: string; featureId?: string }
  return keys.keyOf(givenKeyOf(request), {
    caller: principalOf(request).id,
    target: JSON.stringify([method, collectionId, featureId]),
    content: () =>
      JSON.stringify([
        headers['if-match'],
        headers['if-none-match'],
        request.bodyHash,
        // Left out without them, so that keys of an earlier version stay the same.
        ...(headers['content-crs'] === undefined ? [] : [headers['content-crs']]),
        ...(headers['if-unmodified-since'] === undefined ? [] : [`date ${headers['if-unmodified-since']}`]),
        ...(preferenceOf(request, 'handling') === 'lenient' ? ['lenient'] : []),
        ...conditions,
      ]),
  })
}

export function tellRepeated(reply: FastifyReply, { isRepeated }: Done) {
  if (isRepeated) reply.header('idempotent-replayed', 'true')
}
