// Owns how recent an answer must be, as the client says it, and what the answer says of where it came from.

import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { advance, Consistency, type Origin } from '../database/consistency.ts'
import { gatewayError } from '../errors.ts'
import type { ConsistencyTokens } from './consistency-token.ts'
import { applyPreference, preferenceOf } from './prefer.ts'

/** What a request may say of it. */
export const consistencyHeaders = {
  'consistency-token': Type.Optional(
    Type.String({
      description:
        'Of an earlier answer, or several with commas between: what was done or seen then is seen now. Sent with a change, its answer has one that stands for all.',
    }),
  ),
}
const token = {
  'Consistency-Token': {
    type: 'string',
    description: 'Sent with a read, at whichever gateway, it makes sure that what was done here is seen.',
  },
}
/** What answers to changes say of it. */
export const changeConsistency = token
/** What answers to reads say of it. */
export const readConsistency = {
  ...token,
  'Tessera-Source': {
    type: 'string',
    enum: ['secondary', 'primary'],
    description: 'Who was asked.',
  },
  'Tessera-Staleness': {
    type: 'integer',
    description:
      'There is no primary of what was asked, and whatever was changed in the last so many seconds is not seen, as far as this gateway can know. Absent where there is a primary.',
  },
}

const LEVELS = 'strong, monotonic, eventual, or max-staleness= and a number of seconds'

/**
 * What a read must see: what its tokens name, by default; what was committed anywhere (`Prefer: consistency=strong`)
 * or some time ago (`max-staleness=5`); or whatever there is (`eventual`). `monotonic`: as the tokens name, and the
 * answer has one in its turn.
 * @throws GatewayError header-invalid
 */
export async function consistencyOf(
  request: FastifyRequest,
  reply: FastifyReply,
  tokens: ConsistencyTokens,
): Promise<Consistency> {
  const given = request.headers['consistency-token']
  const level = preferenceOf(request, 'consistency')
  const [, staleness] = /^max-staleness=(\d{1,6})$/.exec(level ?? '') ?? []
  const seconds = staleness ?? preferenceOf(request, 'max-staleness')
  if (level !== undefined) applyPreference(reply, `consistency=${level}`)
  if (level === 'eventual') return new Consistency()
  if (level === 'strong') return new Consistency({ required: 'everything' })
  if (level !== undefined && level !== 'monotonic' && staleness === undefined)
    throw gatewayError('header-invalid', `Prefer: consistency= takes ${LEVELS}.`, { header: 'Prefer' })
  const required = given === undefined ? new Map() : await decodeAll(String(given), tokens)
  const isTracked = level === 'monotonic'
  if (seconds === undefined) return new Consistency({ required, isTracked })
  if (!/^\d{1,6}$/.test(seconds))
    throw gatewayError('header-invalid', 'Prefer: max-staleness= takes a number of seconds.', {
      header: 'Prefer',
    })
  return new Consistency({ required, isTracked, maxStalenessMs: Number(seconds) * 1_000 })
}

/**
 * Of a change: its token stands for those that came with it, too, so that a client has to keep no more than one.
 * @throws GatewayError header-invalid
 */
export async function consistencyOfChange(
  { headers }: FastifyRequest,
  tokens: ConsistencyTokens,
): Promise<Consistency> {
  const given = headers['consistency-token']
  const required = given === undefined ? undefined : await decodeAll(String(given), tokens)
  return new Consistency(required === undefined || required === 'everything' ? {} : { required })
}

/** What all of them name together. */
async function decodeAll(given: string, tokens: ConsistencyTokens): Promise<Consistency['required']> {
  const merged = new Map<number, bigint>()
  let isEverything = false
  for (const text of given.split(',')) {
    const position = await tokens.decode(text.trim())
    if (position === undefined)
      throw gatewayError(
        'header-invalid',
        'Consistency-Token must be one of an earlier answer, as it was, or several with commas between.',
        { header: 'Consistency-Token' },
      )
    if (position === 'everything') isEverything = true
    else for (const [group, lsn] of position) advance(merged, group, lsn)
  }
  return isEverything ? 'everything' : merged
}

export function tellOrigin(reply: FastifyReply, { source, orphanedForMs }: Origin) {
  if (source) reply.header('tessera-source', source)
  if (orphanedForMs !== undefined) reply.header('tessera-staleness', Math.ceil(orphanedForMs / 1_000))
}

/** With which a read sees what has been done. */
export async function sendToken(
  reply: FastifyReply,
  { position }: Consistency,
  tokens: ConsistencyTokens,
): Promise<void> {
  // What was changed has been: without the key, the client is not told that it failed.
  const token = await tokens.encode(position).catch(() => undefined)
  if (token !== undefined) reply.header('consistency-token', token)
}
