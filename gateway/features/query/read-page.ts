// Owns reading a page: in one go, or as a stream of batches.

import type { Database } from '../../database/contract.ts'
import { isProjectionFailure } from '../../database/outcome.ts'
import type { Row } from '../../database/statement.ts'
import type { Encoder } from '../formats/encoder.ts'
import type { ItemQuery } from './item-query.ts'
import {
  compileCount,
  compileItems,
  compilePage,
  isCountedApart,
  type Page,
  parseCount,
  parsePage,
  withoutIndex,
} from './page.ts'

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

/** Reads a page that is held in memory; see isLarge. @throws GatewayError */
export const readPage = (
  database: Database,
  query: ItemQuery,
  encoder: Encoder,
  deadline: AbortSignal,
): Promise<Page> =>
  withoutIndexIfNeeded(query, async (query) => {
    const demand = { signal: deadline, priority: 'usual' } as const
    const page = parsePage(await database.read(compilePage(query, encoder), demand), query)
    if (!page.end || !isCountedApart(query)) return page
    const [row] = await database.read(compileCount(query), demand)
    return { ...page, matched: parseCount(row![0]) }
  })

/** Rows of a page as they are read: a feature's text, then the values of `order`; one row more than the limit. */
export type PageBatches = {
  readonly first: IteratorResult<Row[], void>
  /** Batches after the first. If the iteration ends early, the connection is freed. */
  readonly rest: AsyncGenerator<Row[], void>
}

/** Returns once the first batch is read, so that an early failure can still be answered as one. @throws GatewayError */
export async function streamPage(
  database: Database,
  query: ItemQuery,
  encoder: Encoder,
  deadline: AbortSignal,
): Promise<PageBatches> {
  const batches = await withoutIndexIfNeeded(query, async (query) => {
    const rest = database.stream(compileItems(query, encoder), deadline)
    return { first: await rest.next(), rest }
  })
  // The client may leave before anything is written. The generator that sends the page then never starts, and its
  // `finally` does not free the connection.
  const giveBack = () => void batches.rest.return()
  if (deadline.aborted) giveBack()
  else deadline.addEventListener('abort', giveBack, { once: true })
  return batches
}
