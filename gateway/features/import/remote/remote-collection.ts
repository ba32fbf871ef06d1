// Owns a collection of another server of OGC API Features: its address, its texts, and the types that it declares.

import { isObject, type JsonObject } from '../../values/exact-json.ts'
import type { ColumnType } from '../column-type.ts'
import type { Description } from '../description.ts'
import { ImportError } from '../import-error.ts'
import { typesOfSchema } from './declared-types.ts'
import { RefusedRequest, type Requests, readJson, shownAddress } from './requests.ts'

export type RemoteCollection = {
  /** Address of its description, without parameters. */
  readonly url: string
  readonly id: string
  /** Address of its features, with the parameters that were given. */
  readonly items: URL
  readonly parameters: string
}

const EXAMPLE = 'https://example.org/collections/roads'

/**
 * Reads the address of a collection, or of its items; parameters choose among these.
 * @throws ImportError
 */
export function parseCollectionAddress(text: string): RemoteCollection {
  const url = URL.canParse(text) ? new URL(text) : undefined
  const [, base = '', id = ''] = /^(.*\/collections\/([^/]+))(?:\/items)?\/?$/.exec(url?.pathname ?? '') ?? []
  if (!url || !/^https?:$/.test(url.protocol) || id === '')
    throw new ImportError(
      `${shownAddress(text)} must be the address of a collection, such as ${EXAMPLE}, or of some of its features, such as ${EXAMPLE}/items?bbox=5,45,11,48.`,
    )
  if (url.username || url.password)
    throw new ImportError(
      'The address has a name or password, which messages and logs would show; put them into a file of headers (Authorization: Basic …) and name that with --headers.',
    )
  return {
    url: `${url.origin}${base}`,
    id: decodeURIComponent(id),
    items: new URL(`${url.origin}${base}/items${url.search}`),
    parameters: url.search,
  }
}

export type RemoteDescription = {
  readonly description: Description
  /** Types that any value of JSON has. */
  readonly columnTypes: Readonly<Record<string, ColumnType>>
  readonly declaredTypes: Readonly<Record<string, ColumnType>>
}

const JSON_TYPES = 'application/json, */*;q=0.1'
const SCHEMA_TYPES = 'application/schema+json, application/json;q=0.9, */*;q=0.1'

/** @throws ImportError if there is no such collection, or if it cannot be read */
export async function describeRemote(
  requests: Requests,
  collection: RemoteCollection,
  note: (note: string) => void,
): Promise<RemoteDescription> {
  const { url, parameters } = collection
  const document = await readDescription(requests, url + parameters)
    .catch((error) => {
      // The parameters may be of its items alone.
      if (parameters !== '' && error instanceof RefusedRequest && error.status === 400)
        return readDescription(requests, url)
      throw error
    })
    .catch((error) => explainAbsence(requests, collection, error))
  const types = await readTypes(requests, document, url).catch((error) => {
    if (!(error instanceof ImportError)) throw error
    note(`The schema of the source cannot be read, so types come from the values: ${error.message}`)
    return new Map<string, ColumnType>()
  })
  const { title, description, attribution } = document
  const texts = { title, description, attribution, license: licenseOf(document) }
  return {
    description: Object.fromEntries(
      Object.entries(texts).filter(([, text]) => typeof text === 'string' && text !== ''),
    ),
    columnTypes: Object.fromEntries([...types].filter(([, type]) => type === 'jsonb')),
    declaredTypes: Object.fromEntries([...types].filter(([, type]) => type !== 'jsonb')),
  }
}

/** Returns the identifier of SPDX if the link has one, so that the copy shows what the source shows. */
function licenseOf(document: JsonObject): string | undefined {
  const href = linkOf(document, ['license'])?.href
  return /^https?:\/\/spdx\.org\/licenses\/([\w.+-]+?)(?:\.html|\.json)?$/.exec(href ?? '')?.[1] ?? href
}

async function readDescription(requests: Requests, address: string): Promise<JsonObject> {
  const document = await requests.get(address, JSON_TYPES, readJson)
  if (isObject(document)) return document
  throw new ImportError(`${shownAddress(address)} did not answer with the description of a collection.`)
}

/** Collections that a message names. */
const MAX_LISTED = 20

/** Names the collections that there are, if the server has not the one that is named. */
async function explainAbsence(
  requests: Requests,
  { url, id, parameters }: RemoteCollection,
  error: unknown,
): Promise<never> {
  if (!(error instanceof RefusedRequest) || error.status !== 404) throw error
  const all = url.slice(0, url.lastIndexOf('/'))
  const document = await requests.get(all + parameters, JSON_TYPES, readJson).catch(() => undefined)
  const collections = isObject(document) && Array.isArray(document.collections) ? document.collections : []
  const ids = collections.filter(isObject).map((collection) => String(collection.id))
  if (ids.length === 0) throw error
  const listed = `${ids.slice(0, MAX_LISTED).join(', ')}${ids.length > MAX_LISTED ? ', …' : ''}`
  throw new ImportError(`There is no collection ${id} at ${shownAddress(all)}; it has ${listed}.`, {
    cause: error,
  })
}

/** Reads the types of the schema of all properties, or else of those that a filter may name. */
async function readTypes(
  requests: Requests,
  document: JsonObject,
  base: string,
): Promise<Map<string, ColumnType>> {
  for (const aspect of ['schema', 'queryables'] as const) {
    const rels = [aspect, `http://www.opengis.net/def/rel/ogc/1.0/${aspect}`, `[ogc-rel:${aspect}]`]
    const link = linkOf(document, aspect === 'schema' ? rels.slice(1) : rels)
    if (!link) continue
    const address = new URL(link.href, base).href
    const types = typesOfSchema(await requests.get(address, SCHEMA_TYPES, readJson), aspect)
    if (types.size > 0) return types
  }
  return new Map()
}

/** Returns the link of a document with one of these relations, and of JSON rather than another type. */
export function linkOf(document: JsonObject, rels: readonly string[]): { readonly href: string } | undefined {
  const links = (Array.isArray(document.links) ? document.links : [])
    .filter(isObject)
    .filter(({ rel, href }) => rels.includes(String(rel)) && typeof href === 'string')
  const isJson = ({ type }: JsonObject) => typeof type === 'string' && type.includes('json')
  const found =
    links.find(isJson) ?? links.find(({ type }) => type === undefined || type === null) ?? links[0]
  return found && { href: String(found.href) }
}
