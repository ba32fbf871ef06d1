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
