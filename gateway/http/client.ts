// Owns the name of a request's client, under which it shares the database and the memory for answers with others.

import { isIPv6 } from 'node:net'
import type { FastifyRequest } from 'fastify'
import type { ApiKeys } from '../features/access/api-key.ts'

/**
 * Returns the name of a request's client: its API key, or the subject of its token once that is checked; without one, its
 * network as trusted proxies report it.
 */
export type ClientOf = (request: FastifyRequest) => string

/** Groups of an IPv6 address that name a network: a single machine has all addresses of one (RFC 6177). */
const NETWORK_GROUPS = 4
const MAPPED_IPV4 = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i

export const makeClientOf =
  (apiKeys: Pick<ApiKeys, 'recognize'>): ClientOf =>
  (request) => {
    const { authorization } = request.headers
    const id =
      authorization === undefined ? undefined : (request.caller?.id ?? apiKeys.recognize(authorization))
    return id ? `caller ${id}` : networkOf(request.ip)
  }

/** Returns an IPv4 address as it is, and the network of an IPv6 address, always written in the same way. */
export function networkOf(address: string): string {
  if (!isIPv6(address)) return address
  const mapped = MAPPED_IPV4.exec(address)
  if (mapped) return mapped[1]!
  const [head, tail] = address.split('::').map((part) => part.split(':').filter(Boolean)) as [
    string[],
    string[]?,
  ]
  const zeros = tail ? Array.from({ length: Math.max(0, 8 - head.length - tail.length) }, () => '0') : []
  const groups = [...head, ...zeros, ...(tail ?? [])].slice(0, NETWORK_GROUPS)
  return `${groups.map((group) => Number.parseInt(group, 16).toString(16)).join(':')}::`
}
