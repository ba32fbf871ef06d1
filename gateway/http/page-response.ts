// Owns a page of features as an answer: read whole or as a stream, its links around the text of PostgreSQL.

import { Readable } from 'node:stream'
import type { FastifyReply } from 'fastify'
import type { Database, Row } from '../database/database.ts'
import { isProjectionFailure } from '../database/outcome.ts'
import type { Collection } from '../features/collections/collection.ts'
import {
  compileCount,
  compileItems,
  compilePage,
  type ItemQuery,
  isCountedApart,
  MAX_OFFSET,
  type Page,
  parseCount,
  parsePage,
  renderCursor,
} from '../features/query/item-query.ts'
import { entityTag } from './conditional.ts'
import { collectionUrl } from './feature-response.ts'
import { type Link, link, ownLinks, selfUrl } from './links.ts'
import { GEOJSON, JSON_FORMAT } from './negotiate.ts'

export type PageUrls = {
  /** The page itself and its other format. */
  readonly own: readonly Link[]
  readonly collection: string
  readonly next: (parameters: Record<string, string>) => string
}

export function pageUrls(
  base: string,
  requestUrl: string,
  collection: Collection,
  isHtml: boolean,
): PageUrls {
  const [path, query] = requestUrl.split('?', 2)
  return {
    own: ownLinks(selfUrl(base, requestUrl), isHtml, GEOJSON.types[0]),
    collection: collectionUrl(base, collection),
    next(parameters) {
      const search = new URLSearchParams(query)
      for (const [name, value] of Object.entries(parameters)) search.set(name, value)
      return `${base}${path}?${search}`
    },
  }
}

/** Once more without the index of a projected table where PROJ could not project the box. */
async function withoutIndexIfNeeded<T>(
  query: ItemQuery,
  read: (isIndexed: boolean) => Promise<T>,
): Promise<T> {
  try {
    return await read(true)
  } catch (error) {
    if (!query.bbox || !isProjectionFailure(error)) throw error
    return read(false)
  }
}

export async function readPage(database: Database, query: ItemQuery, deadline: AbortSignal): Promise<Page> {
  const demand = { signal: deadline, priority: 'usual' } as const
  return withoutIndexIfNeeded(query, async (isIndexed) => {
    const page = parsePage(await database.read(compilePage(query, isIndexed), demand), query)
    if (!page.end || !isCountedApart(query)) return page
    const [row] = await database.read(compileCount(query, isIndexed), demand)
    return { ...page, matched: parseCount(row![0]) }
  })
}

/** The end of a page: what is only known when all of it has been read. */
function renderEnd({ returned, matched, end }: PageEnd, query: ItemQuery, urls: PageUrls) {
  const matches = matched === undefined ? '' : `,"numberMatched":${matched}`
  const links = pageLinks({ returned, matched, end }, query, urls)
  return `],"numberReturned":${returned}${matches},"links":${JSON.stringify(links)}`
}

type PageEnd = Omit<Page, 'features'>

export function pageLinks({ end }: PageEnd, query: ItemQuery, urls: PageUrls): Link[] {
  const next = end && nextUrl(end, query, urls)
  const type = urls.own[0]!.type ?? GEOJSON.types[0]
  return [
    ...urls.own,
    link('collection', urls.collection, JSON_FORMAT.types[0], query.collection.title),
    ...(next ? [link('next', next, type, 'The next page')] : []),
  ]
}

/** By the last feature's place in the order; by number where the client counts, or nothing tells features apart. */
function nextUrl(end: readonly (string | null)[], query: ItemQuery, urls: PageUrls): string | undefined {
  const { order, collection, limit, offset } = query
  if (offset === undefined && collection.key.length > 0)
    return urls.next({ cursor: renderCursor(order, end) })
  const next = (offset ?? 0) + limit
  return next <= MAX_OFFSET ? urls.next({ offset: String(next) }) : undefined
}

const timeStamp = () => `,"timeStamp":"${new Date().toISOString()}"}`

const START = '{"type":"FeatureCollection","features":['

/** The features' text, each whole, with commas between them. */
export const featuresText = ({ features, returned }: Page) => features + (returned > 0 ? '}' : '')

export const renderPage = (page: Page, query: ItemQuery, urls: PageUrls) =>
  `${START}${featuresText(page)}${renderEnd(page, query, urls)}`

/** Tagged without its time: the same features are the same page. */
export function sendPage(reply: FastifyReply, page: string) {
  const end = timeStamp()
  const body = Buffer.from(page + end)
  return reply.header('etag', `W/${entityTag(body.subarray(0, body.length - end.length))}`).send(body)
}

/** The same as it is read; the first batch is awaited, so that what fails at once still is a problem document. */
export async function streamPage(
  database: Database,
  query: ItemQuery,
  urls: PageUrls,
  gone: AbortSignal,
): Promise<Readable> {
  const { batches, first } = await withoutIndexIfNeeded(query, async (isIndexed) => {
    const batches = database.stream(compileItems(query, isIndexed), gone)
    return { batches, first: await batches.next() }
  })
  // The client may leave before the answer has begun: a generator that has not, has no end to run either.
  const giveBack = () => void batches.return()
  if (gone.aborted) giveBack()
  else gone.addEventListener('abort', giveBack, { once: true })
  return Readable.from(renderStream(batches, first, query, urls), { objectMode: false })
}

async function* renderStream(
  batches: AsyncGenerator<Row[], void>,
  first: IteratorResult<Row[], void>,
  query: ItemQuery,
  urls: PageUrls,
): AsyncGenerator<string> {
  let returned = 0
  let last: Row | undefined
  let hasNext = false
  yield START
  try {
    for (let batch = first; !batch.done; batch = await batches.next()) {
      let text = ''
      for (const row of batch.value) {
        if (returned === query.limit) {
          hasNext = true
          break
        }
        text += (returned > 0 ? ',' : '') + row[0] + '}'
        last = row
        returned++
      }
      yield text
    }
  } finally {
    // One row more than the page was asked for, and the connection must not wait for who reads no further.
    await batches.return()
  }
  const matched = !hasNext && query.after === undefined && !query.offset ? returned : undefined
  yield renderEnd({ returned, matched, end: hasNext ? last?.slice(1) : undefined }, query, urls) + timeStamp()
}
