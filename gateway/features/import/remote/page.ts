// Owns one page of another server: read into the journal, and what is around its features.

import { hash } from 'node:crypto'
import { isObject, type JsonObject } from '../../values/exact-json.ts'
import { describeForeignCrs, foreignCrsOf } from '../../values/geojson-crs.ts'
import { decode } from '../decode.ts'
import { ImportError } from '../import-error.ts'
import { readDocuments } from '../sources/json-documents.ts'
import { SourceError } from '../sources/source.ts'
import type { Journal } from './journal.ts'
import { linkOf } from './remote-collection.ts'
import { type Answer, BrokenAnswer, bytesOf, checkIsJson, type Requests, shownAddress } from './requests.ts'

export type RemotePage = {
  readonly features: number
  /** Hash of the first feature; undefined if there is none. */
  readonly firstFeature: string | undefined
  /** Address of the next page. */
  readonly next: string | undefined
  /** Features of all pages, if the server says so. */
  readonly matched: number | undefined
}

const PAGE_TYPES = 'application/geo+json, application/json;q=0.9, */*;q=0.1'

export const hashOf = (bytes: Buffer) => hash('sha256', bytes, 'base64')

/**
 * Reads a page into the journal, in which it counts only when it is committed.
 * @throws RefusedRequest, or ImportError if it is no page of features
 */
export const readPage = (requests: Requests, journal: Journal, address: string): Promise<RemotePage> =>
  requests.get(address, PAGE_TYPES, (answer) => takePage(answer, journal))

async function takePage(answer: Answer, journal: Journal): Promise<RemotePage> {
  const shown = shownAddress(answer.address)
  checkIsJson(answer)
  checkSystem(answer)
  await journal.begin()
  let isAtEnd = false
  const bytes = (async function* () {
    const sent = bytesOf(answer)
    try {
      const { bytes: decoded } = await decode(sent, shown)
      for (let next = await decoded.next(); !next.done; next = await decoded.next()) {
        await journal.write(next.value)
        yield next.value
      }
      isAtEnd = true
    } finally {
      // It leaves the connection if the rest is not wanted.
      await sent.return(undefined)
    }
  })()
  let features = 0
  let firstFeature: string | undefined
  let frame: JsonObject | undefined
  try {
    for await (const parts of readDocuments(bytes))
      for (const { role, bytes: text } of parts) {
        if (role === 'element') {
          features++
          firstFeature ??= hashOf(text)
        } else if (role !== 'opening') {
          if (frame) throw new ImportError(`${shown} answered with more than one document of JSON.`)
          frame = parseFrame(text, role === 'closing', shown)
        }
      }
  } catch (cause) {
    if (!(cause instanceof SourceError)) throw cause
    if (isAtEnd) throw new BrokenAnswer(`The answer of ${shown} broke off.`, { cause })
    throw new ImportError(`${shown}: ${cause.message}`, { cause })
  }
  if (!frame) throw new BrokenAnswer(`The answer of ${shown} was empty.`)
  const next = linkOf(frame, ['next'])?.href ?? nextOfHeader(answer.response)
  const { numberMatched } = frame
  return {
    features,
    firstFeature,
    next: next === undefined ? undefined : addressOf(next, answer),
    matched: typeof numberMatched === 'number' ? numberMatched : undefined,
  }
}

/** @param isCollection true if the document has an array of features, or is an array */
function parseFrame(text: Buffer, isCollection: boolean, shown: string): JsonObject {
  let frame: unknown
  try {
    frame = JSON.parse(text.toString('utf8'))
  } catch (cause) {
    throw new ImportError(`${shown} did not answer with JSON (${(cause as Error).message}).`, { cause })
  }
  if (!isCollection || !isObject(frame))
    throw new ImportError(`${shown} did not answer with a FeatureCollection of GeoJSON.`)
  const foreign = foreignCrsOf(frame.crs)
  if (foreign !== undefined)
    throw new ImportError(`The answer of ${shown} has ${describeForeignCrs(foreign)}.`)
  return frame
}

/** Longitude and latitude in WGS 84, with heights or without. */
const CRS84 =
  /^<?https?:\/\/www\.opengis\.net\/def\/crs\/OGC\/[\d.]+\/CRS84h?>?$|^<?(urn:ogc:def:crs:)?OGC:[\d.]*:?CRS84h?>?$/i

/** @throws ImportError if the header names another system than that of GeoJSON */
function checkSystem({ response, address }: Answer) {
  const system = response.headers.get('content-crs')?.trim()
  if (system && !CRS84.test(system))
    throw new ImportError(
      `${shownAddress(address)} answered with coordinates in ${system}; they must be longitude and latitude in WGS 84. Name that in the address: crs=http://www.opengis.net/def/crs/OGC/1.3/CRS84.`,
    )
}

/** Returns the link to the next page in the header Link (RFC 8288), if it is there. */
const nextOfHeader = ({ headers }: Response): string | undefined =>
  /<([^>]*)>(?:\s*;\s*[\w-]+\*?=(?:"[^"]*"|[^\s";,]*))*?\s*;\s*rel="?next"?(?=[\s;,]|$)/i.exec(
    headers.get('link') ?? '',
  )?.[1]

function addressOf(next: string, { address }: Answer): string {
  const url = URL.canParse(next, address) ? new URL(next, address) : undefined
  if (url && /^https?:$/.test(url.protocol)) return url.href
  throw new ImportError(
    `${shownAddress(address)} links to "${shownAddress(next)}" as its next page, which is no address.`,
  )
}
