// Owns reading a page: in one go, or as a stream of batches, so that no more than some megabytes of it are in memory.

import { AnswerTooLong } from '../../database/exchange.ts'
import { bound, combine, compileFragment } from '../../database/fragment.ts'
import { isGeometryFailure } from '../../database/outcome.ts'
import { sql } from '../../database/sql.ts'
import { meanBytes, type Row } from '../../database/statement.ts'
import { gatewayError } from '../../errors.ts'
import type { Collection } from '../collections/collection.ts'
import type { Features } from '../formats/encoder.ts'
import { isAlwaysConvertible } from '../values/geometry-column.ts'
import { nameCalls } from './call-failure.ts'
import { ANY_NUMBER, type ItemQuery } from './item-query.ts'
import { completeEnd, fitsIntoLink, isBeginning } from './order.ts'
import {
  compileCount,
  compileEnd,
  compileItems,
  compilePage,
  endOf,
  hasManyFeatures,
  inOrder,
  isCountedApart,
  isFirst,
  MAX_PAGE_BYTES,
  type Page,
  parseCount,
  parsePage,
  positionOf,
  withoutIndex,
} from './page.ts'
import { carefulColumns, convertGeometries, type Reading } from './stored-geometry.ts'

export type PageReading = Reading & { readonly deadline: AbortSignal }

/** Why a page must be read as a stream: it is long, or has geometries that PostGIS cannot convert. */
export type Unread = 'long' | 'faulty'

/**
 * Returns how all features in one answer are read. That cannot go on from a row that fails, because it has no order and
 * sees a single snapshot: what may fail is computed apart from the start.
 */
export const wayOfWhole = ({ collection, condition, geometry, system }: ItemQuery): Unread =>
  condition?.careful?.() || (geometry !== 'none' && !isAlwaysConvertible(collection.geometry, system.srid))
    ? 'faulty'
    : 'long'

/** Bytes of a feature of a collection, as last read; only collections of which a page was too long have an entry. */
const heavy = new WeakMap<Collection, number>()

/** Returns true if the page is to be read through a cursor, batch by batch: that costs three more round trips. */
export const isLarge = (query: ItemQuery) =>
  hasManyFeatures(query) || (heavy.get(query.collection) ?? 0) * query.limit > MAX_PAGE_BYTES

/** Returns the query, then the same without the index of a projected table: PROJ may not project what it asks for. */
const waysOf = (query: ItemQuery) => [query, withoutIndex(query)].filter((way) => way !== undefined)

/** Completes the position at which a page begins, if its values were too long for the link. @throws GatewayError */
export async function completePosition(
  { database, deadline }: PageReading,
  query: ItemQuery,
): Promise<ItemQuery> {
  const { after, order } = query
  if (!after?.some(isBeginning)) return query
  const [row] = await database.read(compileEnd(query), { signal: deadline })
  return { ...query, after: completeEnd(after, order, row) }
}

/**
 * Reads a page that is held in memory.
 * @returns `long` if it is longer than `mostBytes`, or why else it must be read as a stream
 * @throws GatewayError
 */
export async function readPage(
  reading: PageReading,
  query: ItemQuery,
  mostBytes = MAX_PAGE_BYTES,
): Promise<Page | Unread> {
  for (const way of waysOf(query)) {
    try {
      return await readAtOnce(reading, way, mostBytes)
    } catch (error) {
      if (!isGeometryFailure(error)) throw nameCalls(error, query)
    }
  }
  return 'faulty'
}

async function readAtOnce(reading: PageReading, query: ItemQuery, mostBytes: number): Promise<Page | 'long'> {
  const { database, encoder, deadline } = reading
  const demand = { signal: deadline, priority: 'usual', mostBytes } as const
  const rows = await database
    .read(compilePage(query, encoder, mostBytes), demand)
    .catch((error) => (error instanceof AnswerTooLong ? undefined : Promise.reject(error)))
  const page = rows && parsePage(rows, query)
  if (!page) {
    const least = mostBytes / query.limit
    heavy.set(query.collection, Math.max(least, heavy.get(query.collection) ?? 0))
    return 'long'
  }
  // In an order a link needs no list of keys.
  if (page.end && query.isUnordered && !fitsIntoLink(page.end))
    return readAtOnce(reading, inOrder(query), mostBytes)
  const features = mendPage(reading, query, page.features)
  if (!page.end || !isCountedApart(query)) return { ...page, features }
  const [row] = await database.read(compileCount(query), demand)
  return { ...page, features, matched: parseCount(row![0], query) }
}

function mendPage(reading: PageReading, query: ItemQuery, features: Features): Features {
  if (!Buffer.isBuffer(features)) return features.map((text) => mend(reading, query, text))
  const mended = mend(reading, query, features)
  return typeof mended === 'string' ? Buffer.from(mended) : mended
}

function mend<Text extends string | Buffer>(
  { encoder, unshown }: PageReading,
  { collection }: ItemQuery,
  text: Text,
): Text | string {
  const mended = encoder.mend(text)
  if (!mended) return text
  unshown.note(collection, mended.mended)
  return mended.features
}

/** Mends the feature of each row; nearly none needs it, and then its row stays as it is. */
const mendRows = (reading: PageReading, query: ItemQuery, rows: readonly Row[]): Row[] =>
  rows.map((row) => {
    const text = row[0]!
    const mended = mend(reading, query, text)
    return mended === text ? row : row.with(0, mended)
  })

/**
 * Batches of rows: a feature's text, then the values of `order`; one row more than the limit. The iteration returns true
 * if it ended before the last row.
 */
type Batches = AsyncGenerator<Row[], boolean>

/** Rows of a page as they are read. */
export type PageBatches = {
  readonly first: IteratorResult<Row[], boolean>
  /** Batches after the first. If the iteration ends early, the connection is freed. */
  readonly rest: Batches
}

/** Returns once the first batch is read, so that an early failure can still be answered as one. @throws GatewayError */
export async function streamPage(
  reading: PageReading,
  query: ItemQuery,
  reason: Unread,
): Promise<PageBatches> {
  const { deadline } = reading
  const rowBytes = heavy.get(query.collection)
  const rest = reason === 'faulty' ? readCarefully(reading, query) : readInBatches(reading, query, rowBytes)
  const first = await rest.next().catch((error) => Promise.reject(nameCalls(error, query)))
  const batches = { first, rest }
  // The client may leave before anything is written. The generator that sends the page then never starts, and its
  // `finally` does not free the connection.
  const giveBack = () => void batches.rest.return(true)
  if (deadline.aborted) giveBack()
  else deadline.addEventListener('abort', giveBack, { once: true })
  if (rowBytes !== undefined && Array.isArray(batches.first.value))
    heavy.set(query.collection, meanBytes(batches.first.value))
  return batches
}

/** Reads the rows of a page. From a row that fails on, it goes on carefully, with a query of its own. */
async function* readInBatches(reading: PageReading, query: ItemQuery, rowBytes: number | undefined): Batches {
  const { database, encoder, deadline } = reading
  let read = 0
  let last: Row | undefined
  for (const way of waysOf(query)) {
    const statement = compileItems(restOf(way, read, last), encoder)
    const source = database.stream(statement, { signal: deadline, rowBytes, isWhole: query.isWhole })
    try {
      let batch = await source.next()
      for (; !batch.done; batch = await source.next()) {
        yield mendRows(reading, query, batch.value)
        read += batch.value.length
        last = batch.value.at(-1)
      }
      return batch.value
    } catch (error) {
      if (!isGeometryFailure(error)) throw error
    } finally {
      await source.return(true)
    }
  }
  return yield* readCarefully(reading, restOf(query, read, last))
}

/** Returns the query for what follows the rows that have been read. */
function restOf(query: ItemQuery, read: number, last: Row | undefined): ItemQuery {
  if (!last) return query
  if (query.isWhole)
    throw gatewayError(
      'gateway-busy',
      'The answer broke off, because all of its features must be of one moment.',
    )
  const limit = query.limit - read
  if (query.offset !== undefined || query.collection.key.length === 0)
    return { ...query, limit, offset: (query.offset ?? 0) + read }
  const { values, from } = positionOf(query, last.slice(1))
  return {
    ...query,
    limit,
    after: values,
    quadrants: query.quadrants && { ...query.quadrants, from: from! },
  }
}

/**
 * Reads the rows of a page with geometries that PostGIS cannot convert. They are read as they are stored; what fails is
 * left out of its feature, and what fails in the condition does not meet it.
 */
async function* readCarefully(reading: PageReading, query: ItemQuery): Batches {
  await checkLiterals(reading, query.condition?.careful?.()?.literals ?? [])
  const other = withoutIndex(query)
  const batches = readStored(reading, query)
  try {
    const first = await batches.next()
    if (first.done) return first.value
    yield first.value
    return yield* batches
  } catch (error) {
    if (!other || !isGeometryFailure(error)) throw error
  } finally {
    await batches.return(true)
  }
  return yield* readStored(reading, other)
}

/** @throws GatewayError naming filter if one of its own geometries is not valid: no row is to blame then */
export async function checkLiterals(
  { database, deadline }: Pick<PageReading, 'database' | 'deadline'>,
  literals: readonly string[],
) {
  if (literals.length === 0) return
  const [row] = await database.read(compileValidity(literals), { signal: deadline })
  if (row)
    throw gatewayError(
      'parameter-invalid',
      `filter has a geometry that is not valid: ${row[0]}. The rings of a polygon must not cross themselves or one another.`,
      { parameter: 'filter' },
    )
}

const compileValidity = (literals: readonly string[]) =>
  compileFragment(
    combine(
      'validity',
      [bound(literals)],
      (list) => sql`select ST_IsValidReason(geometry)
        from unnest(${list}::text[]) as given (text)
        cross join lateral (select text::geometry as geometry) as read
        where not ST_IsValid(geometry) limit 1`,
    ),
  )

async function* readStored(reading: PageReading, query: ItemQuery): Batches {
  const { database, encoder, deadline } = reading
  const { collection, condition, geometry, limit, offset = 0 } = query
  const careful = condition?.careful?.()
  const isShown = geometry !== 'none'
  let rest: ItemQuery = {
    ...query,
    geometry: careful || isShown ? 'stored' : 'none',
    ...(careful ? { condition: careful.rough, limit: ANY_NUMBER, offset: undefined } : {}),
  }
  let left = limit + 1
  let skipped = careful ? offset : 0
  for (;;) {
    const statement = compileItems(rest, encoder, careful && carefulColumns(careful))
    const source = database.stream(statement, { signal: deadline, isWhole: query.isWhole })
    let read = 0
    let last: Row | undefined
    try {
      let batch = await source.next()
      for (; !batch.done; batch = await source.next()) {
        const features = await convertGeometries(
          reading,
          collection,
          batch.value.map(([feature]) => feature!),
          {
            careful: careful && {
              condition: careful,
              rows: batch.value.map((row) => [row.at(-2)!, row.at(-1)!]),
            },
            isShown,
          },
        )
        const met = batch.value.flatMap((row, index): Row[] => {
          const feature = features[index]
          return feature === undefined ? [] : [[mend(reading, query, feature), ...endOf(query, row)]]
        })
        const rows = met.slice(skipped, skipped + left)
        skipped = Math.max(0, skipped - met.length)
        left -= rows.length
        read += batch.value.length
        last = batch.value.at(-1)
        if (rows.length > 0) yield rows
        if (left === 0) return false
      }
      // The page may end early if it has a row, after which the next one can go on. Without one, reading goes on here.
      if (!batch.value || left <= limit || !last) return batch.value
    } finally {
      await source.return(true)
    }
    rest = restOf(rest, read, last)
  }
}

/** Reads a page that is held in memory, and ends it early if it is longer than `mostBytes`. @throws GatewayError */
export async function readPageWithin(
  reading: PageReading,
  query: ItemQuery,
  mostBytes: number,
): Promise<Page> {
  const page = await readPage(reading, query, mostBytes)
  if (typeof page === 'object') return page
  const { first, rest } = await streamPage(reading, query, page)
  const rows: Row[] = []
  let bytes = 0
  try {
    let batch = first
    for (; !batch.done; batch = await rest.next())
      for (const row of batch.value) {
        bytes += row[0]!.length
        // The first feature is shown however long it is: otherwise nobody would get past it.
        const isFull = rows.length > 0 && (bytes > mostBytes || rows.length === query.limit)
        if (isFull) return makeCutPage(rows, query)
        rows.push(row)
      }
    return batch.value ? makeCutPage(rows, query) : makeLastPage(rows, query)
  } finally {
    await rest.return(true)
  }
}

function makeCutPage(rows: readonly Row[], query: ItemQuery): Page {
  const last = rows.at(-1)
  return {
    features: rows.map(([feature]) => feature!),
    returned: rows.length,
    matched: undefined,
    end: last && positionOf(query, last.slice(1)),
  }
}

const makeLastPage = (rows: readonly Row[], query: ItemQuery): Page => ({
  ...makeCutPage(rows, query),
  matched: isFirst(query) ? rows.length : undefined,
  end: undefined,
})
