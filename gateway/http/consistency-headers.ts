// Owns the headers with which a client requests how recent an answer must be, and those that report the answer's origin.

import type { FastifyReply, FastifyRequest } from 'fastify'
import { advance, Consistency, type Origin } from '../database/consistency.ts'
import { gatewayError } from '../errors.ts'
import type { ConsistencyTokens } from './consistency-token.ts'
import { applyPreference, preferenceOf } from './prefer.ts'
import { Type } from './type.ts'

/** Headers of requests. */
export const consistencyHeaders = {
  'consistency-token': Type.Optional(
    Type.String({
      description:
        'The token of an earlier answer, or several tokens separated by commas. A read then sees everything that those requests changed or saw. If a change sends tokens, the token of its answer also stands for them.',
    }),
  ),
}
const token = {
  'Consistency-Token': {
    type: 'string',
    description:
      'A later read that sends this token, to any gateway, sees everything that this request changed or saw.',
  },
}
/** Headers of answers to changes. */
export const changeConsistency = token
/** Headers of answers to reads. */
export const readConsistency = {
  ...token,
  'Tessera-Source': {
    type: 'string',
    enum: ['secondary', 'primary'],
    description: 'Role of the servers that were read: `primary` if one of them was a primary.',
  },
  'Tessera-Staleness': {
    type: 'integer',
    description:
      'The data that was read has no primary at present. Changes of the last so many seconds, if there were any, are not seen, as far as this gateway knows. The header is absent if there is a primary.',
  },
}

/** Returns true if a read may see whatever any server has. */
export const requiresNothing = ({ headers }: FastifyRequest) =>
  headers['consistency-token'] === undefined && headers.prefer === undefined

const LEVELS = 'strong, monotonic, eventual, or max-staleness= and a number of seconds'

/**
 * Returns what a read must see: by default, the position that its tokens name; with `max-staleness=5` also everything
 * that was committed 5 seconds ago; with `Prefer: consistency=strong` everything that was committed; with `eventual`
 * nothing in particular. With `monotonic` it must see what the tokens name, and the answer gets a token too.
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
 * Returns the consistency of a change. The token of its answer also stands for those that the request sent, so that a
 * client has to keep only one.
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

/** Returns the position that all tokens name together. */
async function decodeAll(given: string, tokens: ConsistencyTokens): Promise<Consistency['required']> {
  const merged = new Map<number, bigint>()
  let isEverything = false
  for (const text of given.split(',')) {
    const position = await tokens.decode(text.trim())
    if (position === undefined)
      throw gatewayError(
        'header-invalid',
        'Consistency-Token must be the unchanged token of an earlier answer, or several tokens separated by commas.',
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

/** Sends the token with which a later read sees what this request changed or saw. */
export async function sendToken(
  reply: FastifyReply,
  { position }: Consistency,
  tokens: ConsistencyTokens,
): Promise<void> {
  // A change has taken effect: if the key of tokens cannot be read, the answer has no token, rather than an error.
  const token = await tokens.encode(position).catch(() => undefined)
  if (token !== undefined) reply.header('consistency-token', token)
}
