// Owns a page of features: the statements that read it, and how their rows are parsed.

import { bound, type Fragment } from '../../database/fragment.ts'
import { type SQL, sql } from '../../database/sql.ts'
import type { BytesRow, Row, Statement } from '../../database/statement.ts'
import { isSpread } from '../collections/collection.ts'
import type { Encoder, Features } from '../formats/encoder.ts'
import { cellsCondition, compileRead, type From, where } from '../sharding/shard-statement.ts'
import { columnOf } from '../values/column.ts'
import { allOf } from '../values/condition.ts'
import type { ItemQuery } from './item-query.ts'
import { afterCondition, endCondition, notShown, orderBy, type Position, signatureOf } from './order.ts'
import { selectWalk, walkParts } from './quadtree.ts'

/** Features are counted for numberMatched up to this many: it costs about as much as reading a page. */
const COUNT_BOUND = 1_000
/** The same for pages that go through boxes: a count costs no more than reading a quadrant. */
const COUNT_BOUND_IN_BOXES = 100
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
  /** The quadrant in which a walk begins, and its boxes. */
  readonly start: SQL | undefined
  readonly boxes: SQL | undefined
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
  const { collection, condition, cells, after, order, limit, offset, quadrants, shown } = query
  const within = [
    ...(condition ? [condition] : []),
    ...(cells ? [cellsCondition(cells)] : []),
    ...(shown.length > 0 ? [notShown(collection.key, shown)] : []),
  ]
  const parts = [
    bound(limit),
    offset === undefined ? undefined : bound(offset),
    within.length > 0 ? allOf(within) : undefined,
    after && afterCondition(after, order),
    further,
    ...(quadrants && !query.isUnordered ? walkParts(quadrants, collection) : []),
  ]
  const composeFrom = (
    from: From,
    ...[limit, offset, matching, after, further, start, boxes]: (SQL | undefined)[]
  ) => compose(from, { limit: limit!, offset, matching, after, further, start, boxes })
  return compileRead(collection, kind, parts, composeFrom, cells)
}

/** Returns what the text of a page depends on, besides the collection and the conditions. */
function outlineOf(query: ItemQuery, { kind }: Encoder): string {
  const { order, properties, geometry, collection, quadrants, isUnordered } = query
  const way = isUnordered ? 'any order' : quadrants ? 'quadrants' : 'ordered'
  const names = properties === collection.properties ? '' : JSON.stringify(properties.map(({ name }) => name))
  return `${kind} ${geometry} ${way} ${signatureOf(order)}|${names}`
}

/**
 * Returns a statement whose rows are a feature's text, then the values of `order`, then its quadrant if pages go through
 * quadrants, then further columns. It reads one row more than the limit, which is not part of the page but shows that there
 * is a next one.
 */
export function compileItems(query: ItemQuery, encoder: Encoder, further?: Fragment): Statement {
  const ordered = inOrder(query)
  return compileQuery(
    ordered,
    `items ${outlineOf(ordered, encoder)}`,
    (from, texts) => selectItems(ordered, encoder, from, texts, texts.further),
    further,
  )
}

/** Returns the query with its features in an order, in which a page can go on from any of them. */
export const inOrder = (query: ItemQuery): ItemQuery => ({ ...query, isUnordered: false })

function selectItems(
  query: ItemQuery,
  encoder: Encoder,
  from: From,
  { limit, offset, matching, after, start, boxes }: Texts,
  further = sql``,
): SQL {
  const { collection, properties, geometry, order } = query
  const keys = order.map(
    ({ column }, index) => sql`, ${columnOf(column)} as ${sql.identifier(keyName(index))}`,
  )
  const feature = sql`${encoder.featureOf(collection, properties, geometry)} as feature`
  if (start && boxes) {
    const count = query.quadrants!.boxes.length
    return selectWalk(collection, from, { limit, matching, after, start, boxes, count }, feature, further)
  }
  const columns = sql`${feature}${sql.join(keys)}${further}`
  // Sorted once they are found, so that a page of all features looks like any other.
  if (query.isUnordered)
    return sql`select * from (select ${columns} from ${from.table} as item${where(from, matching)} limit ${limit} + 1) as found
      order by ${sql.identifier(keyName(0))}`
  return sql`select ${columns}
    from ${from.table} as item${where(from, matching, after)}
    ${orderBy(order)}
    limit ${limit} + 1${offset ? sql` offset ${offset}` : sql``}`
}

const keyName = (index: number) => `key${index}`

const countBoundOf = ({ quadrants }: ItemQuery) => (quadrants ? COUNT_BOUND_IN_BOXES : COUNT_BOUND)

/** Returns a query for one row: how many features match, counted no further than one past the bound. */
const countOf = (query: ItemQuery, from: From, { matching }: Texts): SQL =>
  sql`select count(*) from (select 1 from ${from.table} as item${where(from, matching)}
    limit ${sql.raw(String(countBoundOf(query) + 1))}) as matched`

export const compileCount = (query: ItemQuery): Statement =>
  compileQuery({ ...query, limit: 0, offset: undefined, after: undefined }, 'count', (from, texts) =>
    countOf(query, from, texts),
  )

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
  const statement = compileQuery(query, `page ${mostBytes} ${outlineOf(query, encoder)}`, (from, texts) =>
    selectPage(query, encoder, from, texts, mostBytes),
  )
  return { ...statement, isRaw: true }
}

/**
 * Returns a query for one row that holds the whole page: the features' text, joined by the encoder's separator, which is
 * null if there are none or if it would be too long; how many were read; how many match, counted no further than one past
 * the bound and only if the page is not all of them; then where the page ends: the values of `order` and the quadrant, or
 * the keys of a page in any order, as JSON.
 */
function selectPage(query: ItemQuery, encoder: Encoder, from: From, texts: Texts, mostBytes: number): SQL {
  const { limit } = texts
  const ends = query.order.map((_, index) => keyName(index)).concat(texts.start ? 'path' : [])
  const end = query.isUnordered
    ? [
        sql`, case when count(*) > ${limit} then array_to_json((array_agg(${sql.identifier(keyName(0))}::text))[1:${limit}]) end`,
      ]
    : ends.map((name) => sql`, (array_agg(${sql.identifier(name)}))[${limit}]`)
  const matched = isCountable(query)
    ? sql`case when count(*) > ${limit} then (${countOf(query, from, texts)}) end`
    : sql`null`
  const text = sql`array_to_string((array_agg(feature))[1:${limit}], ${literal(encoder.separator)})`
  return sql`select case when sum(octet_length(feature)) <= ${sql.raw(String(mostBytes))} then ${text} end, count(*), ${matched}${sql.join(end)}
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
 * further pages of a cursor, which would count the same again. In boxes they are counted only if that costs no more than
 * the page.
 */
function isCountable(query: ItemQuery): boolean {
  const { collection, condition, after, quadrants, limit, shown } = query
  if (quadrants) return isFirst(query) && limit < COUNT_BOUND_IN_BOXES
  if (after !== undefined || shown.length > 0) return false
  return condition !== undefined || collection.estimatedRows <= COUNT_BOUND
}

export type Page = {
  readonly features: Features
  readonly returned: number
  readonly matched: number | undefined
  /** The end of the page, if there is a next one. */
  readonly end: Position | undefined
}

/** Returns the page that the rows of compilePage hold; undefined if it was too long. */
export function parsePage(rows: readonly Row[], query: ItemQuery): Page | undefined {
  const { limit, order, offset = 0, collection } = query
  if (!isSpread(collection)) {
    const [features, read, matched, ...end] = rows[0] as unknown as BytesRow
    if (features === null && read !== '0') return undefined
    const position = () => (query.isUnordered ? afterShown(query, end[0]!) : positionOf(query, end))
    return makePage(features ?? [], Number(read), parseCount(matched, query), position, query)
  }
  const page = rows.slice(0, limit)
  const fromFirst = parseCount(rows[0]?.[1 + order.length], query)
  return makePage(
    page.map(([feature]) => feature!),
    rows.length,
    fromFirst === undefined ? undefined : offset + fromFirst,
    () => positionOf(query, endOf(query, page.at(-1)!)),
    query,
  )
}

/** Returns the position after the features of a page in any order. */
const afterShown = ({ quadrants }: ItemQuery, shown: string): Position => ({
  values: [],
  from: quadrants?.from,
  shown,
})

/** Returns the part of a row of compileItems that says where a page goes on after it. */
export const endOf = ({ order, quadrants }: ItemQuery, row: Row): Row =>
  row.slice(1, 1 + order.length + (quadrants ? 1 : 0))

/** Returns the position after a row. @param end what follows its feature in the rows of compileItems */
export const positionOf = ({ order, quadrants, shown }: ItemQuery, end: Row): Position => ({
  values: end.slice(0, order.length),
  from: quadrants && end[order.length]!,
  shown: shown.length > 0 ? JSON.stringify(shown) : undefined,
})

/** Returns the number in the row of compileCount; undefined if more match than are counted. */
export function parseCount(count: string | null | undefined, query: ItemQuery): number | undefined {
  return count == null || Number(count) > countBoundOf(query) ? undefined : Number(count)
}

function makePage(
  features: Features,
  read: number,
  matched: number | undefined,
  position: () => Position,
  query: ItemQuery,
): Page {
  const hasNext = read > query.limit
  return {
    features,
    returned: Math.min(read, query.limit),
    matched: !hasNext && isFirst(query) ? read : matched,
    end: hasNext ? position() : undefined,
  }
}

/** Returns true if no page comes before this one: if it has no next page either, it holds all matches. */
export const isFirst = ({ after, offset, shown }: ItemQuery) =>
  after === undefined && !offset && shown.length === 0

/**
 * Returns the query without the index of a projected table, for values that PROJ cannot project; undefined if it uses none,
 * or needs it to go on from a quadrant.
 */
export const withoutIndex = (query: ItemQuery): ItemQuery | undefined =>
  query.condition?.withoutIndex && (!query.quadrants || isFirst(query))
    ? { ...query, condition: query.condition.withoutIndex, quadrants: undefined }
    : undefined
