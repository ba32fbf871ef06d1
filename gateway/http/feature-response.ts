// Owns a single feature as an answer: its links, its entity tag, and the conditions that clients send with that tag.

import type { FastifyReply, FastifyRequest } from 'fastify'
import { gatewayError } from '../errors.ts'
import { ABSENT, type Precondition } from '../features/changes/precondition.ts'
import { type Collection, createsByPut } from '../features/collections/collection.ts'
import type { Encoder } from '../features/formats/encoder.ts'
import type { Format, Link } from '../features/formats/format.ts'
import { GEOJSON, geojson } from '../features/formats/geojson.ts'
import { JSONFG } from '../features/formats/jsonfg.ts'
import type { StoredFeature } from '../features/query/stored-feature.ts'
import { type CoordinateSystem, CRS84, CRS84H, findSystem } from '../features/values/coordinate-system.ts'
import { parseHttpDate, sendLastModified } from './http-date.ts'
import { link, ownLinks } from './links.ts'
import { type Formats, HTML, JSON_FORMAT } from './negotiate.ts'

export const collectionUrl = (base: string, { id }: Pick<Collection, 'id'>) =>
  `${base}/collections/${encodeURIComponent(id)}`

export const featureUrl = (base: string, collection: Collection, id: string) =>
  `${collectionUrl(base, collection)}/items/${encodeURIComponent(id)}`

/** Formats of a single feature. */
export const ITEM_FORMATS: Formats = [GEOJSON, HTML, JSONFG]

/** What a request says about how a feature is shown. */
export type Asked = {
  /** The system of its coordinates; undefined for the default one. */
  readonly system?: CoordinateSystem | undefined
  /** The parameter `profile`. */
  readonly profile?: readonly string[] | undefined
}

export function featureLinks(
  base: string,
  collection: Collection,
  id: string,
  format: Format,
  { system, profile }: Asked = {},
): Link[] {
  const query = [
    ...(system ? [`crs=${encodeURIComponent(system.uri)}`] : []),
    ...(profile ? [`profile=${encodeURIComponent(profile.join())}`] : []),
  ]
  const self = `${featureUrl(base, collection, id)}${query.length > 0 ? `?${query.join('&')}` : ''}`
  return [
    ...ownLinks(self, format, ITEM_FORMATS),
    link('collection', collectionUrl(base, collection), JSON_FORMAT.types[0], collection.title),
  ]
}

/**
 * Returns the strong entity tag of a feature, which changes with the version of its row and the columns of its table. A
 * feature in another system or profile has a tag of its own; its version is the same.
 */
export function featureTag({ fingerprint }: Collection, version: string, system = CRS84, encoder = geojson) {
  const isDefault = system.srid === CRS84.srid && !system.isNorthFirst
  const { name } = encoder.format
  const parts = [
    fingerprint,
    version,
    ...(isDefault ? [] : [system.srid]),
    ...(name === GEOJSON.name ? [] : [name]),
  ]
  return `"${parts.join('.')}"`
}

/** Reports the system of the coordinates of an answer (OGC 18-058r1, 6.3.3). */
export const tellSystem = (reply: FastifyReply, { uri }: CoordinateSystem) =>
  reply.header('content-crs', `<${uri}>`)

export function sendFeature(
  reply: FastifyReply,
  base: string,
  collection: Collection,
  id: string,
  { text, version, modified }: Omit<StoredFeature, 'id'>,
  type = GEOJSON.types[0],
  asked: Asked = {},
  encoder = geojson as Encoder,
) {
  const { system } = asked
  const format = type === GEOJSON.types[0] ? GEOJSON : encoder.format
  const links = featureLinks(base, collection, id, format, asked)
  const origin = { url: collectionUrl(base, collection) }
  tellSystem(reply, system ?? collection.defaultSystem)
  sendLastModified(reply, modified)
  // Node sends a string and its headers in one write; a second write would take an eighth of the time of such an answer.
  return reply
    .type(type)
    .header('etag', featureTag(collection, version, system, encoder))
    .send(encoder.document!(text, collection, origin, links))
}

const TAG = /^(W\/)?"([\x21\x23-\x7e\x80-\xff]*)"$/
const VERSION = /^-?\d{1,19}$/

/**
 * Returns what a change may find: versions from If-Match, or a time from If-Unmodified-Since, which counts only without
 * the former and for a collection that has such times (RFC 9110, 13.1.4).
 * @throws GatewayError header-invalid; feature-changed if all tags are weak
 */
export function parsePrecondition(request: FastifyRequest, collection: Collection): Precondition {
  const { headers } = request
  if (headers['if-none-match']?.trim() === '*') return ABSENT
  const tags = headers['if-match']?.trim()
  if (tags !== undefined) return tags === '*' ? undefined : { versions: parseTags(tags, collection) }
  const unmodifiedSince = unmodifiedSinceOf(request, collection)
  return unmodifiedSince === undefined ? undefined : { unmodifiedSince }
}

/**
 * Refuses a change without a condition (RFC 6585, 3). `If-Match: *` is one: its client overwrites knowingly.
 * @throws GatewayError precondition-required
 */
export function requirePrecondition(request: FastifyRequest, collection: Collection) {
  const { headers, method } = request
  if (headers['if-match'] !== undefined || headers['if-none-match']?.trim() === '*') return
  if (unmodifiedSinceOf(request, collection) !== undefined) return
  const byDate = collection.touched === undefined ? '' : ', or If-Unmodified-Since with its Last-Modified'
  const byAbsence = method === 'PUT' && createsByPut(collection) ? ' If-None-Match: * creates a feature.' : ''
  throw gatewayError(
    'precondition-required',
    `Changes in ${collection.id} need a condition: send If-Match with the ETag of the feature as it was read${byDate}.${byAbsence}`,
    { header: 'If-Match', collection: collection.id },
  )
}

/**
 * Checks the condition of a change of many features that exist. There is only one, `If-Match: *`, by which the client says
 * that it overwrites whatever they are now.
 * @param isRequired true in a collection whose changes need a condition
 * @throws GatewayError header-invalid, precondition-required
 */
export function checkConditionOfMany({ headers }: FastifyRequest, { id }: Collection, isRequired: boolean) {
  if (headers['if-none-match'] !== undefined)
    throw gatewayError('header-invalid', 'If-None-Match is for a single feature; leave it out here.', {
      header: 'If-None-Match',
    })
  const tags = headers['if-match']?.trim()
  if (tags !== undefined && tags !== '*')
    throw gatewayError(
      'header-invalid',
      'If-Match can name a single feature alone; send If-Match: * here, or leave it out.',
      { header: 'If-Match' },
    )
  if (isRequired && tags === undefined)
    throw gatewayError(
      'precondition-required',
      `Changes in ${id} need a condition: send If-Match: * to change these features whatever they are now.`,
      { header: 'If-Match', collection: id },
    )
}

/** Returns the second since 1970 that If-Unmodified-Since names; undefined if it does not count. */
export const unmodifiedSinceOf = ({ headers }: FastifyRequest, { touched }: Collection) =>
  touched === undefined || headers['if-match'] !== undefined
    ? undefined
    : parseHttpDate(headers['if-unmodified-since'])

/**
 * Returns the versions that If-Match names. Tags of another shape belong to something else and match nothing, and neither
 * do weak tags (RFC 9110, 13.1.1).
 */
export function parseTags(given: string, { fingerprint }: Collection): string[] {
  const tags = given.split(',').map((text) => text.trim())
  if (tags.every((tag) => tag.startsWith('W/') && TAG.test(tag)))
    throw gatewayError(
      'feature-changed',
      `If-Match has the weak tag ${tags[0]}, which matches no feature (RFC 9110, 13.1.1). Send the ETag of the feature itself, without W/; a proxy that compresses responses may have added it, and pages have weak tags.`,
      { header: 'If-Match' },
    )
  return tags.flatMap((text) => {
    const match = TAG.exec(text)
    if (!match) {
      throw gatewayError(
        'header-invalid',
        'If-Match must be the ETag of the feature as it was read, in its quotes, or *.',
        { header: 'If-Match' },
      )
    }
    const [, weak, tag] = match
    const [shape, version] = tag!.split('.')
    const isOurs = weak === undefined && shape === fingerprint && VERSION.test(version ?? '')
    return isOurs && BigInt.asIntN(64, BigInt(version!)) === BigInt(version!) ? [version!] : []
  })
}

/**
 * Returns the system of the coordinates of a body, from Content-Crs (OGC 18-058r1, 6.3).
 * @throws GatewayError header-invalid, because the feature would be stored at another place
 */
export function systemOfBody({ headers }: FastifyRequest, collection: Collection): CoordinateSystem {
  const given = headers['content-crs']
  if (given === undefined) return collection.defaultSystem
  const system = findSystem(String(given).trim().replace(/^<|>$/g, ''), [...collection.systems, CRS84H])
  if (system) return system
  throw gatewayError(
    'header-invalid',
    `Content-Crs must be one of the coordinate systems of this collection in angle brackets, or left out for longitude and latitude: ${collection.systems.map(({ uri }) => `<${uri}>`).join(', ')}.`,
    { header: 'Content-Crs' },
  )
}
