// Owns the Prefer header (RFC 7240): the preferences of a client, and those that were applied.

import type { FastifyReply, FastifyRequest } from 'fastify'
import { gatewayError } from '../errors.ts'

/** Returns the value of a preference, empty if it has none; undefined if the request has no such preference. */
export function preferenceOf({ headers }: FastifyRequest, name: string): string | undefined {
  if (headers.prefer === undefined) return undefined
  for (const preference of String(headers.prefer).split(',')) {
    const [, found, value] = /^\s*([\w-]+)\s*(?:=\s*"?([^";]*?)"?)?\s*(?:;|$)/.exec(preference) ?? []
    if (found?.toLowerCase() === name) return value ?? ''
  }
  return undefined
}

export function applyPreference(reply: FastifyReply, preference: string) {
  const before = reply.getHeader('preference-applied')
  reply.header('preference-applied', before === undefined ? preference : `${before}, ${preference}`)
}

/**
 * Returns how many features a condition may change.
 * @param usual without the preference
 * @throws GatewayError, because a limit that is not understood protects nothing
 */
export function maxAffectedOf(request: FastifyRequest, usual: number): number {
  const given = preferenceOf(request, 'max-affected')
  if (given === undefined) return usual
  if (/^\d{1,9}$/.test(given)) return Number(given)
  throw gatewayError('header-invalid', 'Prefer: max-affected must be a number, as in max-affected=5000.', {
    header: 'Prefer',
  })
}
