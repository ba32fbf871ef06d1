// Owns the choice of a representation: ?f= and Accept → one of the formats that a resource has.

import type { FastifyRequest } from 'fastify'
import Negotiator from 'negotiator'
import { gatewayError } from '../errors.ts'

export type Format = {
  /** What `f` calls it. */
  readonly name: string
  /** The media types it is known under, the preferred first. */
  readonly types: readonly [string, ...string[]]
}

export const JSON_FORMAT: Format = { name: 'json', types: ['application/json'] }
export const GEOJSON: Format = { name: 'json', types: ['application/geo+json', 'application/json'] }
/** Of a query, for `explain`. */
export const QUERY_PLAN = 'application/vnd.tessera.query-plan+json'
export const HTML: Format = { name: 'html', types: ['text/html'] }
export const OPENAPI: Format = {
  name: 'json',
  types: [
    'application/vnd.oai.openapi+json;version=3.0',
    'application/vnd.oai.openapi+json',
    'application/json',
  ],
}

/**
 * The media type to answer with.
 * @throws GatewayError not-acceptable, where the client wants none of what there is
 */
export function negotiate(request: FastifyRequest, formats: readonly [Format, ...Format[]]): string {
  const { f } = request.query as { f?: string }
  const accept = request.headers.accept
  if (f !== undefined) {
    const format = formats.find(({ name }) => name === f)
    if (format) return format.types[0]
    throw gatewayError(
      'parameter-invalid',
      `f must be ${formats.map(({ name }) => name).join(' or ')}, for example f=${formats[0].name}.`,
      {
        parameter: 'f',
        example: formats[0].name,
      },
    )
  }
  if (!accept || accept === '*/*') return formats[0].types[0]
  const available = formats.flatMap(({ types }) => types)
  const type = new Negotiator(request.raw).mediaTypes([...available])[0]
  if (type) return type
  throw gatewayError(
    'not-acceptable',
    `This is available as ${available.join(', ')}; Accept asks for ${accept}.`,
    {
      available,
    },
  )
}

/** Whether a person reads the answer, also where it is a problem and there was nothing to negotiate about. */
export function wantsHtml(request: FastifyRequest): boolean {
  if (request.method !== 'GET' && request.method !== 'HEAD') return false
  const { f } = (request.query ?? {}) as { f?: unknown }
  if (f !== undefined) return f === 'html'
  const { accept } = request.headers
  if (!accept?.includes('html')) return false
  return (
    new Negotiator(request.raw).mediaTypes([
      'application/problem+json',
      'application/json',
      'text/html',
    ])[0] === 'text/html'
  )
}
