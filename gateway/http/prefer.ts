// Owns the Prefer header (RFC 7240): the preferences of a client, and those that were applied.

import type { FastifyReply, FastifyRequest } from 'fastify'

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
