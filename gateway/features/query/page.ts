// Owns a page of features: the statements that read it, and how their rows are parsed.

import { type SQL, sql } from 'drizzle-orm'
import { bound, type Fragment } from '../../database/fragment.ts'
import type { Row, Statement } from '../../database/statement.ts'
import { isSpread } from '../collections/collection.ts'
import type { Encoder } from '../formats/encoder.ts'
import { cellsCondition, compileRead, type From, where } from '../sharding/shard-statement.ts'
import { columnOf } from '../values/column.ts'
import { allOf } from '../values/condition.ts'
import type { ItemQuery } from './item-query.ts'
import { afterCondition, endCondition, orderBy, signatureOf } from './order.ts'

/** Features are counted for numberMatched up to this many: it costs about as much as reading a page. */
const COUNT_BOUND = 1_000
/**
 * Pages up to this many features may be read in one go, larger ones through a cursor. A point is some hundred bytes; a
 * polygon can be a megabyte.
 */
const MAX_BUFFERED_POINTS = 1_000
const MAX_BUFFERED_FEATURES = 100

/**
 * Longest page that is held in memory. The gateway holds it several times for a moment: as PostgreSQL sent it, as text,
 * and as bytes for the client.
 */
export const MAX_PAGE_BYTES = 2 * 1024 * 1024

/** Returns true if there are too many features on the page to read it in one go, whatever their size is. */
export const hasManyFeatures = ({ limit, collection }: ItemQuery) =>
  limit > (collection.geometry.type.startsWith('POINT') ? MAX_BUFFERED_POINTS : MAX_BUFFERED_FEATURES)

/** The texts of the parts that a query consists of. */
type Texts = {
  readonly limit: SQL
  readonly offset: SQL | undefined
  /** All conditions but the cursor's. */
  readonly matching: SQL | undefined
  readonly after: SQL | undefined
  readonly further: SQL | undefined
}

/**
 * @param kind names `compose`, and everything that it depends on besides the parts of the query
 * @param further more columns, each after a comma
 */
function compileQuery(
  query: ItemQuery,
  kind: string,
  compose: (from: From, texts: Texts) => SQL,
  further?: Fragment,
): Statement {
  const { collection, condition, cells, after, order, limit, offset } = query
  const within = [...(condition ? [condition] : []), ...(cells ? [cellsCondition(cells)] : [])]
  const parts = [
    bound(limit),
    offset === undefined ? undefined : bound(offset),
    within.length > 0 ? allOf(within) : undefined,
    after && afterCondition(after, order),
    further,
  ]
  const composeFrom = (from: From, ...[limit, offset, matching, after, further]: (SQL | undefined)[]) =>
    compose(from, { limit: limit!, offset, matching, after, further })
  return compileRead(collection, kind, parts, composeFrom, cells)
}

/** Returns what the text of a page depends on, besides the collection and the conditions. */
const outlineOf = ({ order, properties, geometry, collection }: ItemQuery, { format }: Encoder) =>
  `${format.name} ${geometry} ${signatureOf(order)}|${
    properties === collection.properties ? '' : JSON.stringify(properties.map(({ name }) => name))
  }`

/**
 * Returns a statement whose rows are a feature's text, then the values of `order`, then further columns. It reads one
 * row more than the limit, which is not part of the page but shows that there is a next one.
 */
export const compileItems = (query: ItemQuery, encoder: Encoder, further?: Fragment): Statement =>
  compileQuery(
    query,
    `items ${outlineOf(query, encoder)}`,
    (from, texts) => selectItems(query, encoder, from, texts, texts.further),
    further,
  )

function selectItems(
  { collection, properties, geometry, order }: ItemQuery,
  encoder: Encoder,
  from: From,
  { limit, offset, matching, after }: Texts,
  further = sql``,
): SQL {
  const keys = order.map(
    ({ column }, index) => sql`, ${columnOf(column)} as ${sql.identifier(keyName(index))}`,
  )
  return sql`select ${encoder.featureOf(collection, properties, geometry)} as feature${sql.join(keys)}${further}
    from ${from.table} as item${where(from, matching, after)}
    ${orderBy(order)}
    limit ${limit} + 1${offset ? sql` offset ${offset}` : sql``}`
}

const keyName = (index: number) => `key${index}`

/** Returns a query for one row: how many features match, counted no further than COUNT_BOUND. */
const countOf = (from: From, { matching }: Texts): SQL =>
  sql`select count(*) from (select 1 from ${from.table} as item${where(from, matching)}
    limit ${sql.raw(String(COUNT_BOUND + 1))}) as matched`

export const compileCount = (query: ItemQuery): Statement =>
  compileQuery({ ...query, limit: 0, offset: undefined, after: undefined }, 'count', countOf)

/** Returns the statement for the values of `order` in the row in which the page before ended. */
export function compileEnd({ collection, order, after }: ItemQuery): Statement {
  const columns = sql.join(
    order.map(({ column }) => columnOf(column)),
    sql.raw(', '),
  )
  const select = (from: From, end: SQL | undefined) =>
    sql`select ${columns} from ${from.table}${where(from, end)}`
  const end = endCondition(after!, order, collection.key)
  return compileRead(collection, `end ${signatureOf(order)}`, [end], select, undefined)
}

/**
 * Returns the statement for a page that is read in one go, to be parsed by parsePage. On Citus it returns plain rows:
 * Citus caches the plan of a query of a single table and a single shard but not that of an aggregate, and for several
 * shards it would gather all rows on the coordinator before aggregating.
 * @param mostBytes bytes of features beyond which a single node returns none of them
 */
export function compilePage(query: ItemQuery, encoder: Encoder, mostBytes = MAX_PAGE_BYTES): Statement {
  if (isSpread(query.collection))
    return compileQuery(query, `rows ${outlineOf(query, encoder)}`, (from, texts) =>
      selectRows(query, encoder, from, texts),
    )
  return compileQuery(query, `page ${mostBytes} ${outlineOf(query, encoder)}`, (from, texts) =>
    selectPage(query, encoder, from, texts, mostBytes),
  )
}

/**
 * Returns a query for one row that holds the whole page: the features' text, joined by the encoder's separator, which is
 * null if there are none or if it would be too long; how
 * many were read; how many match, counted no further than COUNT_BOUND and only if the page is not all of them; then the
 * values of `order` where the page ends.
 */
function selectPage(query: ItemQuery, encoder: Encoder, from: From, texts: Texts, mostBytes: number): SQL {
  const { limit } = texts
  const keys = query.order.map((_, index) => sql`, (array_agg(${sql.identifier(keyName(index))}))[${limit}]`)
  const matched = isCountable(query)
    ? sql`case when count(*) > ${limit} then (${countOf(from, texts)}) end`
    : sql`null`
  const text = sql`array_to_string((array_agg(feature))[1:${limit}], ${literal(encoder.separator)})`
  return sql`select case when sum(octet_length(feature)) <= ${sql.raw(String(mostBytes))} then ${text} end, count(*), ${matched}${sql.join(keys)}
    from (${selectItems(query, encoder, from, texts)}) as page`
}

const literal = (text: string) => sql.raw(`'${text.replaceAll("'", "''")}'`)

/**
 * Returns a query for the rows of the page; in one shard each row ends with how many features match from it on, counted
 * to one past COUNT_BOUND in the order of the page, so that no more rows are read than are counted.
 */
const selectRows = (query: ItemQuery, encoder: Encoder, from: From, texts: Texts): SQL =>
  selectItems(
    query,
    encoder,
    from,
    texts,
    isCountable(query) && !isCountedApart(query)
      ? sql`, count(*) over (${orderBy(query.order)} rows between current row and ${sql.raw(String(COUNT_BOUND))} following)`
      : undefined,
  )

/** Returns true if compileCount must count the matches: a count over several shards reads all of them. */
export const isCountedApart = (query: ItemQuery) =>
  isSpread(query.collection) && isCountable(query) && query.cells?.length !== 1

/**
 * Returns true if matches are counted: not if the table alone is known to be far larger than the bound, and not on the
 * further pages of a cursor, which would count the same again.
 */
const isCountable = ({ collection, condition, after }: ItemQuery) =>
  after === undefined && (condition !== undefined || collection.estimatedRows <= COUNT_BOUND)

export type Page = {
  /** The features' texts; those that PostgreSQL has joined by the encoder's separator are one. */
  readonly features: readonly string[]
  readonly returned: number
  readonly matched: number | undefined
  /** The values of `order` in the last feature, if there is a next page. */
  readonly end: readonly (string | null)[] | undefined
}

/** Returns the page that the rows of compilePage hold; undefined if it was too long. */
export function parsePage(rows: readonly Row[], query: ItemQuery): Page | undefined {
  if (!isSpread(query.collection)) {
    const [features, read, matched, ...end] = rows[0]!
    if (features === null && read !== '0') return undefined
    return makePage(features ? [features] : [], Number(read), parseCount(matched), end, query)
  }
  const { limit, order, offset = 0 } = query
  const shown = rows.slice(0, limit)
  const fromFirst = parseCount(rows[0]?.[1 + order.length])
  const matched = fromFirst === undefined ? undefined : offset + fromFirst
  const end = shown.at(-1)?.slice(1, 1 + order.length) ?? []
  return makePage(
    shown.map(([feature]) => feature!),
    rows.length,
    matched,
    end,
    query,
  )
}

/** Returns the number in the row of compileCount; undefined if more match than are counted. */
export function parseCount(count: string | null | undefined): number | undefined {
  return count == null || Number(count) > COUNT_BOUND ? undefined : Number(count)
}

function makePage(
  features: readonly string[],
  read: number,
  matched: number | undefined,
  end: readonly (string | null)[],
  query: ItemQuery,
): Page {
  const hasNext = read > query.limit
  return {
    features,
    returned: Math.min(read, query.limit),
    matched: !hasNext && isFirst(query) ? read : matched,
    end: hasNext ? end : undefined,
  }
}

/** Returns true if no page comes before this one: if it has no next page either, it holds all matches. */
export const isFirst = ({ after, offset }: ItemQuery) => after === undefined && !offset

/** Returns the query without the index of a projected table, for values that PROJ cannot project; undefined if it uses none. */
export const withoutIndex = (query: ItemQuery): ItemQuery | undefined =>
  query.condition?.withoutIndex && { ...query, condition: query.condition.withoutIndex }
