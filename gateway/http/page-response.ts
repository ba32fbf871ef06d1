// Owns a page of features as an answer: its links, and the encoder's text in one piece or as a stream.

import { Readable } from 'node:stream'
import type { FastifyReply } from 'fastify'
import type { Row } from '../database/statement.ts'
import { gatewayError } from '../errors.ts'
import type { Collection } from '../features/collections/collection.ts'
import type { Encoder, Layout, Part } from '../features/formats/encoder.ts'
import { encoders } from '../features/formats/encoders.ts'
import type { Format, Link } from '../features/formats/format.ts'
import { type ItemQuery, MAX_OFFSET } from '../features/query/item-query.ts'
import { type Position, renderCursor } from '../features/query/order.ts'
import { isFirst, type Page, positionOf } from '../features/query/page.ts'
import type { PageBatches } from '../features/query/read-page.ts'
import { type CoordinateSystem, DEGREES } from '../features/values/coordinate-system.ts'
import type { LargeAnswer } from './answers.ts'
import { entityTag } from './conditional.ts'
import { nameFile } from './download.ts'
import { collectionUrl } from './feature-response.ts'
import { addressWith, link, linkHeader, ownLinks, selfUrl } from './links.ts'
import { FEATURE_FORMATS, JSON_FORMAT } from './negotiate.ts'

export type PageUrls = {
  readonly format: Format
  /** Links to the page itself and to its other formats. */
  readonly own: readonly Link[]
  readonly collection: string
  /** Returns the URL of the same page from another position. */
  readonly next: (name: 'cursor' | 'offset', value: string) => string
}

/** @param system that of the page: links lead to the formats that take it */
export function pageUrls(
  base: string,
  requestUrl: string,
  collection: Collection,
  format: Format,
  system: CoordinateSystem,
): PageUrls {
  const self = selfUrl(base, requestUrl)
  return {
    format,
    own: ownLinks(self, format, formatsIn(system)),
    collection: collectionUrl(base, collection),
    next: (name, value) => addressWith(self, name, value),
  }
}

const FORMATS_OF_ANY_SYSTEM = FEATURE_FORMATS.filter(
  (format) => !encoders.some((encoder) => encoder.format === format && encoder.isOnlyInDegrees),
)
const formatsIn = ({ srid }: CoordinateSystem): readonly Format[] =>
  srid === DEGREES ? FEATURE_FORMATS : FORMATS_OF_ANY_SYSTEM

export function pageLinks(
  { end, returned }: Pick<Page, 'end' | 'returned'>,
  query: ItemQuery,
  urls: PageUrls,
): Link[] {
  const next = end && nextUrl(end, returned, query, urls)
  return [
    ...urls.own,
    link('collection', urls.collection, JSON_FORMAT.types[0], query.collection.title),
    ...(next ? [link('next', next, urls.format.types[0], 'The next page')] : []),
  ]
}

/** Returns a URL with a cursor; with an offset if the client pages by offset or the collection has no key. */
function nextUrl(
  end: Position,
  returned: number,
  { order, collection, offset, isWhole }: ItemQuery,
  urls: PageUrls,
): string | undefined {
  // All features in no order: nothing says which ones come after the last.
  if (isWhole && order.length === 0) return undefined
  if (offset === undefined && collection.key.length > 0)
    return urls.next('cursor', renderCursor(order, end, collection.key))
  const next = (offset ?? 0) + returned
  return next <= MAX_OFFSET ? urls.next('offset', String(next)) : undefined
}

/** Headers with what a format has no place for; others know these names, too. */
const COUNTS = { returned: 'OGC-NumberReturned', matched: 'OGC-NumberMatched' } as const

/** Sends a page that is in memory. Its tag leaves out the stamp: the same features are the same page. */
export async function sendPage(
  reply: FastifyReply,
  page: Page,
  query: ItemQuery,
  urls: PageUrls,
  encoder: Encoder,
  layout: Layout,
) {
  const writer = await encoder.open(layout)
  const { features, returned, matched } = page
  const links = pageLinks(page, query, urls)
  if (!encoder.hasLinks) {
    const next = links.find(({ rel }) => rel === 'next')
    if (next) reply.header('link', `${reply.getHeader('link')}, ${linkHeader(next)}`)
    reply.header(COUNTS.returned, returned)
    if (matched !== undefined) reply.header(COUNTS.matched, matched)
  }
  const start = writer.start()
  const written = features.length > 0 ? writer.write(features) : ''
  const end = writer.end({ returned, matched, links })
  const stamp = writer.stamp()
  const body = joined(start, written, end, stamp)
  const tagged = body.subarray(0, body.length - Buffer.byteLength(stamp))
  return nameFile(reply, query, encoder)
    .header('etag', `W/${entityTag(tagged)}`)
    .send(body)
}

const isText = (part: Part) => typeof part === 'string'
const joined = (...parts: readonly Part[]): Buffer =>
  parts.every(isText) ? Buffer.from(parts.join('')) : Buffer.concat(parts.map(bytesOf))
const bytesOf = (part: Part) => (isText(part) ? Buffer.from(part) : part)

/** Sends a page, or all features, as they are read. */
export async function sendStream(
  reply: FastifyReply,
  batches: PageBatches,
  query: ItemQuery,
  urls: PageUrls,
  encoder: Encoder,
  layout: Layout,
  answer: LargeAnswer,
) {
  const parts = encodeStream(batches, query, urls, encoder, layout, answer)
  return nameFile(reply, query, encoder).send(Readable.from(parts, { objectMode: false }))
}

async function* encodeStream(
  { first, rest }: PageBatches,
  query: ItemQuery,
  urls: PageUrls,
  { open, hasLinks }: Encoder,
  layout: Layout,
  answer: LargeAnswer,
): AsyncGenerator<Part> {
  let returned = 0
  let last: Row | undefined
  let hasNext = false
  try {
    const writer = await open(layout)
    yield writer.start()
    try {
      let batch = first
      for (; !batch.done; batch = await rest.next()) {
        const shown = batch.value.slice(0, query.limit - returned)
        if (shown.length < batch.value.length) hasNext = true
        if (shown.length === 0) continue
        returned += shown.length
        last = shown.at(-1)
        const part = writer.write(shown.map(([feature]) => feature!))
        // A format whose features are written in groups returns nothing until a group is complete.
        if (part.length > 0) {
          answer.hold(part.length)
          yield part
          answer.hold(0)
        }
        // The client has taken very long, or lost its connection to the database by reading slowly: the page ends here,
        // and its client goes on with the next one.
        if (answer.isOver) break
      }
      if (!batch.done || batch.value) hasNext = true
    } finally {
      // One row more than the limit was read, and the connection must not wait for a client that reads no further.
      await rest.return(true)
    }
    const matched = !hasNext && isFirst(query) ? returned : undefined
    const end = hasNext && last ? positionOf(query, last.slice(1)) : undefined
    const links = pageLinks({ end, returned }, query, urls)
    if (returned < query.limit && hasNext && !(hasLinks && links.some(({ rel }) => rel === 'next')))
      throw gatewayError(
        'gateway-busy',
        'The answer was read too slowly, and no link could lead to its rest.',
      )
    yield joined(writer.end({ returned, matched, links }), writer.stamp())
  } catch (error) {
    answer.breakOff(error as Error)
    throw error
  }
}
