// Owns the choice of a format: ?f= and Accept → one of the formats that a resource has.

import type { FastifyRequest } from 'fastify'
import Negotiator from 'negotiator'
import { gatewayError, quoted } from '../errors.ts'
import { encoders } from '../features/formats/encoders.ts'
import type { Format } from '../features/formats/format.ts'

export const JSON_FORMAT: Format = { name: 'json', types: ['application/json'], title: 'JSON' }
/** The type of a query plan, for `explain`. */
export const QUERY_PLAN = 'application/vnd.tessera.query-plan+json'
export const HTML: Format = { name: 'html', types: ['text/html'], title: 'a page' }
/** Schemas; the standard's type comes first, because it is the one that a schema must be available as. */
export const JSON_SCHEMA: Format = {
  name: 'json',
  types: ['application/schema+json', 'application/json'],
  title: 'JSON Schema',
}
export const MVT: Format = {
  name: 'mvt',
  types: ['application/vnd.mapbox-vector-tile'],
  title: 'Mapbox Vector Tile',
}
export const TILEJSON: Format = {
  name: 'tilejson',
  types: ['application/vnd.mapbox.tile+json'],
  title: 'TileJSON',
}
export const OPENAPI: Format = {
  name: 'json',
  types: [
    'application/vnd.oai.openapi+json;version=3.0',
    'application/vnd.oai.openapi+json',
    'application/json',
  ],
  title: 'JSON',
}
/** Formats of documents that are not features, the first one for clients that do not choose. */
export const DOCUMENT_FORMATS: Formats = [JSON_FORMAT, HTML]
export const SCHEMA_FORMATS: Formats = [JSON_SCHEMA, HTML]
/** Formats of features. Of all texts, a page comes first, for clients that accept any text. */
const [DEFAULT_FORMAT, ...OTHER_FORMATS] = encoders.map(({ format }) => format)
export const FEATURE_FORMATS: Formats = [DEFAULT_FORMAT!, HTML, ...OTHER_FORMATS]

export type Formats = readonly [Format, ...Format[]]

export type Choice = {
  readonly format: Format
  /** One of the format's media types: the one that the client prefers. */
  readonly type: string
}

/**
 * Returns what to answer with.
 * @throws GatewayError parameter-invalid, not-acceptable
 */
export function negotiate(request: FastifyRequest, formats: Formats): Choice {
  const { f } = request.query as { f?: string }
  const accept = request.headers.accept
  if (f !== undefined) {
    const format = formats.find(({ name }) => name === f)
    if (format) return { format, type: format.types[0] }
    throw gatewayError(
      'parameter-invalid',
      `f must be ${formats.map(({ name }) => name).join(' or ')}, for example f=${formats[0].name}.`,
      { parameter: 'f', example: formats[0].name },
    )
  }
  if (!accept || accept === '*/*') return { format: formats[0], type: formats[0].types[0] }
  const available = formats.flatMap(({ types }) => types)
  const type = preferredType(accept, available)
  const format = type && formats.find(({ types }) => types.includes(type))
  if (type && format) return { format, type }
  throw gatewayError(
    'not-acceptable',
    `This is available as ${available.join(', ')}; Accept asks for ${quoted(accept)}.`,
    { available },
  )
}

/** Returns true if a person reads the answer; it also serves for problems, for which no format is negotiated. */
export function wantsHtml(request: FastifyRequest): boolean {
  if (request.method !== 'GET' && request.method !== 'HEAD') return false
  const { f } = (request.query ?? {}) as { f?: unknown }
  if (f !== undefined) return f === 'html'
  const { accept } = request.headers
  if (!accept?.includes('html')) return false
  return preferredType(accept, ['application/problem+json', 'application/json', 'text/html']) === 'text/html'
}

/** A parameter of a media type in Accept; all but the weight q, which is none of the type. */
const TYPE_PARAMETER = /;\s*(?!q\s*=)[^\s;,="]+\s*(?:=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]*))?/gi

/**
 * Returns the type that the client prefers; undefined if it accepts none. Parameters of types are disregarded, as RFC 9110
 * (12.5.1) allows: they do not choose among formats, and clients send back the types of responses with their charset.
 */
function preferredType(accept: string, available: readonly string[]): string | undefined {
  const bare = available.map((type) => type.replace(TYPE_PARAMETER, ''))
  const [preferred] = new Negotiator({ headers: { accept: accept.replace(TYPE_PARAMETER, '') } }).mediaTypes(
    bare,
  )
  return preferred === undefined ? undefined : available[bare.indexOf(preferred)]
}
