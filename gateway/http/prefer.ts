// Owns the Prefer header: what a client would like, and what of it was done (RFC 7240).

import type { FastifyReply, FastifyRequest } from 'fastify'

/** The value of a preference, empty where it has none; undefined where it is not there. */
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
