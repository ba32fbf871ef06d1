// Owns reading a page: in one go, or as a stream of batches, so that no more than some megabytes of it are in memory.

import type { Database } from '../../database/contract.ts'
import { AnswerTooLong } from '../../database/lease.ts'
import { isProjectionFailure } from '../../database/outcome.ts'
import { meanBytes, type Row } from '../../database/statement.ts'
import type { Collection } from '../collections/collection.ts'
import type { Encoder } from '../formats/encoder.ts'
import type { ItemQuery } from './item-query.ts'
import {
  compileCount,
  compileItems,
  compilePage,
  hasManyFeatures,
  isCountedApart,
  MAX_PAGE_BYTES,
  type Page,
  parseCount,
  parsePage,
  withoutIndex,
} from './page.ts'

/** Bytes of a feature of a collection, as last read; only collections of which a page was too long have an entry. */
const heavy = new WeakMap<Collection, number>()

/** Returns true if the page is to be read through a cursor, batch by batch: that costs three more round trips. */
export const isLarge = (query: ItemQuery) =>
  hasManyFeatures(query) || (heavy.get(query.collection) ?? 0) * query.limit > MAX_PAGE_BYTES

/** Reads again without the index of a projected table if PROJ could not project what the query asks for. */
async function withoutIndexIfNeeded<T>(query: ItemQuery, read: (query: ItemQuery) => Promise<T>): Promise<T> {
  try {
    return await read(query)
  } catch (error) {
    const other = isProjectionFailure(error) ? withoutIndex(query) : undefined
    if (!other) throw error
    return read(other)
  }
}

/**
 * Reads a page that is held in memory.
 * @returns undefined if it is longer than `mostBytes`, and must be read as a stream
 * @throws GatewayError
 */
export const readPage = (
  database: Database,
  query: ItemQuery,
  encoder: Encoder,
  deadline: AbortSignal,
  mostBytes = MAX_PAGE_BYTES,
): Promise<Page | undefined> =>
  withoutIndexIfNeeded(query, async (query) => {
    const demand = { signal: deadline, priority: 'usual', mostBytes } as const
    const rows = await database
      .read(compilePage(query, encoder, mostBytes), demand)
      .catch((error) => (error instanceof AnswerTooLong ? undefined : Promise.reject(error)))
    const page = rows && parsePage(rows, query)
    if (!page) {
      const least = mostBytes / query.limit
      heavy.set(query.collection, Math.max(least, heavy.get(query.collection) ?? 0))
      return undefined
    }
    if (!page.end || !isCountedApart(query)) return page
    const [row] = await database.read(compileCount(query), demand)
    return { ...page, matched: parseCount(row![0]) }
  })

/** Rows of a page as they are read: a feature's text, then the values of `order`; one row more than the limit. */
export type PageBatches = {
  readonly first: IteratorResult<Row[], boolean>
  /**
   * Batches after the first. If the iteration ends early, the connection is freed. It returns true if it ended before
   * the last row.
   */
  readonly rest: AsyncGenerator<Row[], boolean>
}

/** Returns once the first batch is read, so that an early failure can still be answered as one. @throws GatewayError */
export async function streamPage(
  database: Database,
  query: ItemQuery,
  encoder: Encoder,
  deadline: AbortSignal,
): Promise<PageBatches> {
  const rowBytes = heavy.get(query.collection)
  const batches = await withoutIndexIfNeeded(query, async (query) => {
    const rest = database.stream(compileItems(query, encoder), { signal: deadline, rowBytes })
    return { first: await rest.next(), rest }
  })
  // The client may leave before anything is written. The generator that sends the page then never starts, and its
  // `finally` does not free the connection.
  const giveBack = () => void batches.rest.return(true)
  if (deadline.aborted) giveBack()
  else deadline.addEventListener('abort', giveBack, { once: true })
  if (rowBytes !== undefined && Array.isArray(batches.first.value))
    heavy.set(query.collection, meanBytes(batches.first.value))
  return batches
}

/** Reads a page that is held in memory, and ends it early if it is longer than `mostBytes`. @throws GatewayError */
export async function readPageWithin(
  database: Database,
  query: ItemQuery,
  encoder: Encoder,
  deadline: AbortSignal,
  mostBytes: number,
): Promise<Page> {
  const page = await readPage(database, query, encoder, deadline, mostBytes)
  if (page) return page
  const { first, rest } = await streamPage(database, query, encoder, deadline)
  const rows: Row[] = []
  let bytes = 0
  try {
    for (let batch = first; !batch.done; batch = await rest.next())
      for (const row of batch.value) {
        bytes += row[0]!.length
        // The first feature is shown however long it is: otherwise nobody would get past it.
        const isFull = rows.length > 0 && (bytes > mostBytes || rows.length === query.limit)
        if (isFull) return makeCutPage(rows)
        rows.push(row)
      }
  } finally {
    await rest.return(true)
  }
  return makeCutPage(rows)
}

const makeCutPage = (rows: readonly Row[]): Page => ({
  features: rows.map(([feature]) => feature!),
  returned: rows.length,
  matched: undefined,
  end: rows.at(-1)?.slice(1),
})
