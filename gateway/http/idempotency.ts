// Owns the Idempotency-Key header: how a client says that a change it repeats is the same one.

import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { errors, type GatewayError, gatewayError } from '../errors.ts'
import {
  type ChangeKey,
  type ChangeKeys,
  type Done,
  type GivenKey,
  KEY_HEADERS,
} from '../features/changes/idempotency-key.ts'

/** What a change may say of it. @see https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/ */
export const idempotencyHeaders = {
  'idempotency-key': Type.Optional(
    Type.String({
      description:
        'Of your choice, a new one for each change, such as a UUID: repeated with the same key within a day, the change is not made again, and answered as the first time.',
      example: '"8e03978e-40d5-43dd-bc93-6894a57f9324"',
    }),
  ),
}
/** What answers to changes say of it. */
export const repeatedHeader = {
  'Idempotent-Replayed': {
    type: 'string',
    enum: ['true'],
    description: 'The change had been made already, under the same key; this is what came of it then.',
  },
}

/** A string as structured fields write it (RFC 8941), or bare. */
const KEY = /^(?:"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\]){1,255})"|([\x21\x23-\x2b\x2d-\x7e]{1,255}))$/

/** The key that a request came with, the client's before a balancer's; `text` is undefined where it is not one. */
function sentKeyOf({ headers }: FastifyRequest) {
  for (const giver of ['client', 'balancer'] as const) {
    const written = headers[KEY_HEADERS[giver].toLowerCase()]
    if (written === undefined) continue
    const [, quoted, bare] = KEY.exec(String(written).trim()) ?? []
    return { giver, text: quoted?.replaceAll(/\\(.)/g, '$1') ?? bare }
  }
  return undefined
}

/** @throws GatewayError header-invalid */
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
 * What a balancer sends here it may have sent to another gateway before, which died over it: what this one knows of a
 * change is not all, and only its key tells.
 * @returns the error; of a change that comes again, with its key
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
 * The key of a change: as it was given, or one of ours where that helps; undefined for none.
 * @throws GatewayError header-invalid
 */
export async function keyOfChange(request: FastifyRequest, keys: ChangeKeys): Promise<ChangeKey | undefined> {
  const { headers, method, params, principal, bodyHash } = request
  const { collectionId, featureId = null } = params as { collectionId: string; featureId?: string }
  return keys.keyOf(givenKeyOf(request), {
    caller: principal.id,
    target: JSON.stringify([method, collectionId, featureId]),
    content: JSON.stringify([headers['if-match'], headers['if-none-match'], bodyHash]),
  })
}

export function tellRepeated(reply: FastifyReply, { isRepeated }: Done) {
  if (isRepeated) reply.header('idempotent-replayed', 'true')
}
