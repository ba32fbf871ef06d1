// Owns what a request for all features at once needs besides a page: its limit, and the name of the file.

import type { FastifyReply, FastifyRequest } from 'fastify'
import { gatewayError } from '../errors.ts'
import type { Encoder } from '../features/formats/encoder.ts'
import { encoders } from '../features/formats/encoders.ts'
import { type ItemQuery, NO_LIMIT } from '../features/query/item-query.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** True if the client asks for all features: `limit=none`. */
    isWhole: boolean
  }
}

/**
 * Takes `limit=none` out of a query, before it is validated. The parameter has to be declared as an integer alone
 * (/req/core/fc-limit-definition).
 */
export function takeNoLimit(request: FastifyRequest) {
  const query = request.query as Record<string, unknown>
  request.isWhole = query.limit === NO_LIMIT
  if (request.isWhole) delete query.limit
}

/**
 * Refuses an answer of unknown length to a client of HTTP/1.0, which takes the end of a connection for the end of the
 * answer: a program that was killed would leave a file that looks complete.
 * @throws GatewayError
 */
export function checkVersion({ raw }: FastifyRequest) {
  if (raw.httpVersionMajor === 1 && raw.httpVersionMinor === 0)
    throw gatewayError(
      'http-version-unsupported',
      'limit=none needs HTTP/1.1, which shows whether an answer is complete; a proxy in between may have to be set to it.',
    )
}

const ITEMS = '/items.'
const ITEMS_FILE = /^([^?]*\/collections\/[^/?]+\/items)\.(\w+)(?:\?(.*))?$/

/** Returns the address of items for one that ends like the name of a file: `/items.csv` is `/items?f=csv`. */
export function withoutExtension(address: string): string {
  if (!address.includes(ITEMS)) return address
  const [, items, extension, query] = ITEMS_FILE.exec(address) ?? []
  const encoder = encoders.find(({ extensions }) => extensions.includes(extension ?? ''))
  if (!encoder) return address
  return `${items}?${query ? `${query}&` : ''}f=${encoder.format.name}`
}

/** Names the file in which a browser saves an answer; it shows pages that have links itself. */
export function nameFile(
  reply: FastifyReply,
  { collection: { id }, isWhole }: ItemQuery,
  { extensions, hasLinks }: Encoder,
): FastifyReply {
  if (hasLinks && !isWhole) return reply
  const name = `${id}.${extensions[0]}`
  const ascii = name.replace(/[^\w.-]/g, '_')
  const exact =
    ascii === name ? '' : `; filename*=UTF-8''${encodeURIComponent(name).replace(/['()*]/g, escaped)}`
  return reply.header('content-disposition', `attachment; filename="${ascii}"${exact}`)
}

const escaped = (character: string) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`
