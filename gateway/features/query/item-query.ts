// Owns reading features: request parameters → ItemQuery → SELECT.

import { type SQL, sql } from 'drizzle-orm'
import type { Row, Statement } from '../../database/database.ts'
import { fillTemplate, templateOf } from '../../database/template.ts'
import { gatewayError, invalidParameter } from '../../errors.ts'
import { type Collection, cellColumn, columnOf, isSpread, isSpreadByCell } from '../collections/collection.ts'
import { cellsOf } from '../sharding/cell.ts'
import { compileRead, type From, fromTable } from '../sharding/shard-statement.ts'
import { type Bbox, type Box, parseBbox } from '../values/bbox.ts'
import type { Column } from '../values/column.ts'
import { type Interval, parseDatetime } from '../values/datetime.ts'
import { describeValue, parseValue } from '../values/value.ts'
import { featureOf, itemOf } from './stored-feature.ts'

export const DEFAULT_LIMIT = 10
/** A page is held by a connection until its client has read it; more is for `next` to fetch. */
export const MAX_LIMIT = 10_000
/** PostgreSQL reads and drops every row before the offset; keyset paging has no such bound. */
export const MAX_OFFSET = 100_000
/** A keyset's condition grows with the square of its keys. */
const MAX_SORT_KEYS = 8
/** How far features are counted for numberMatched: about what a page costs to read. */
const COUNT_BOUND = 1_000
/**
 * Pages up to this many features are read in one go, larger ones through a cursor: that costs three more
 * round trips, and bounds memory. A point is some hundred bytes; a polygon can be a megabyte.
 */
const MAX_BUFFERED_POINTS = 1_000
const MAX_BUFFERED_FEATURES = 100
/**
 * How many cells a query names: the fewer shards it asks, the faster (docs/decisions/0032 has figures). More cells
 * than this lie in nearly all of Citus' usual 32 shards, and naming them gains nothing.
 */
const MAX_CELLS = 32
/** A wider box covers so much of a projected table that its index is of no use. */
const MAX_PROJECTED_DEGREES = 60

/** What a request may say, with its parameters' names; any other name is that of a column. */
export type ItemParameters = {
  readonly limit?: number
  readonly offset?: number
  readonly cursor?: string
  readonly bbox?: readonly number[]
  readonly datetime?: string
  readonly sortby?: readonly string[]
  readonly properties?: readonly string[]
  readonly f?: string
  readonly [column: string]: unknown
}
const OWN_PARAMETERS = [
  'limit',
  'offset',
  'cursor',
  'bbox',
  'datetime',
  'sortby',
  'properties',
  'f',
  'explain',
]

export type SortKey = { readonly column: Column; readonly isDescending: boolean }

export type ItemQuery = {
  readonly collection: Collection
  readonly limit: number
  /** Set only where the client pages by offset. */
  readonly offset: number | undefined
  /** Where the page before ended: the values of `order`, null among them. */
  readonly after: readonly (string | null)[] | undefined
  readonly bbox: Bbox | undefined
  /** Where all that meets the bbox is kept; undefined where it can be anywhere. */
  readonly cells: readonly number[] | undefined
  readonly interval: Interval | undefined
  readonly equals: readonly { readonly column: Column; readonly value: string }[]
  /** What was asked for, then the key: a total order, where the collection has a key. */
  readonly order: readonly SortKey[]
  readonly properties: readonly Column[]
}

/** @throws GatewayError naming the parameter and a value that would be right */
export function planItems(parameters: ItemParameters, collection: Collection): ItemQuery {
  const sorted = (parameters.sortby ?? []).filter(Boolean).map((name) => planSortKey(name, collection))
  refuseRepeated(
    'sortby',
    sorted.map(({ column }) => column.name),
  )
  if (sorted.length > MAX_SORT_KEYS)
    throw invalidParameter('sortby', `at most ${MAX_SORT_KEYS} properties`, sorted[0]!.column.name)
  const isSorted = ({ name }: Column) => sorted.some(({ column }) => column.name === name)
  const order = [
    ...sorted,
    ...collection.key
      .filter((column) => !isSorted(column))
      .map((column) => ({ column, isDescending: false })),
  ]
  if (parameters.cursor !== undefined && parameters.offset !== undefined) {
    throw gatewayError('parameter-invalid', 'cursor and offset exclude each other; leave one of them out.', {
      parameter: 'offset',
    })
  }
  const bbox = parameters.bbox && parseBbox(parameters.bbox)
  return {
    collection,
    limit: parameters.limit ?? DEFAULT_LIMIT,
    offset: parameters.offset,
    after: parameters.cursor === undefined ? undefined : parseCursor(parameters.cursor, order),
    bbox,
    cells: cellsToLookIn(bbox, collection),
    interval: parameters.datetime === undefined ? undefined : parseDatetime(parameters.datetime),
    equals: planEquals(parameters, collection),
    order,
    properties: parameters.properties
      ? planProperties(parameters.properties, collection)
      : collection.properties,
  }
}

/** Said again it means nothing more, but every name is work for PostgreSQL. */
function refuseRepeated(parameter: string, names: readonly string[]) {
  const repeated = names.find((name, index) => names.indexOf(name) !== index)
  if (repeated === undefined) return
  throw gatewayError(
    'parameter-invalid',
    `${parameter} names ${JSON.stringify(repeated)} twice; once is enough.`,
    {
      parameter,
    },
  )
}

function planSortKey(name: string, { queryables }: Collection): SortKey {
  const isDescending = name.startsWith('-')
  // A plus sign that was not encoded arrives as a space.
  const column = queryables.get(name.replace(/^[-+ ]/, ''))
  if (column) return { column, isDescending }
  throw gatewayError(
    'parameter-invalid',
    `sortby must name properties of this collection, each with - before it to descend: ${[...queryables.keys()].join(', ')}; "${name}" is none.`,
    { parameter: 'sortby' },
  )
}

function planProperties(names: readonly string[], { properties }: Collection): Column[] {
  refuseRepeated('properties', names.filter(Boolean))
  return names.filter(Boolean).map((name) => {
    const column = properties.find((property) => property.name === name)
    if (column) return column
    throw gatewayError(
      'parameter-invalid',
      `properties must name properties of this collection: ${properties.map((property) => property.name).join(', ')}; "${name}" is none.`,
      { parameter: 'properties' },
    )
  })
}

function planEquals(parameters: ItemParameters, { queryables }: Collection): ItemQuery['equals'] {
  const equals: { column: Column; value: string }[] = []
  for (const [name, text] of Object.entries(parameters)) {
    if (OWN_PARAMETERS.includes(name)) continue
    const column = queryables.get(name)
    if (!column) {
      throw gatewayError(
        'parameter-unknown',
        `There is no parameter ${JSON.stringify(name)}; known are ${[...OWN_PARAMETERS, ...queryables.keys()].join(', ')}.`,
        { parameter: name },
      )
    }
    const value = typeof text === 'string' ? parseValue(text, column) : undefined
    if (value === undefined) {
      const { expected, example } = describeValue(column)
      throw invalidParameter(name, `${typeof text === 'string' ? '' : 'given once, as '}${expected}`, example)
    }
    equals.push({ column, value })
  }
  return equals
}

/** A cursor is opaque to clients: the order it belongs to, then where in it a page ended. It carries no limit. */
export const renderCursor = (order: readonly SortKey[], values: readonly (string | null)[]) =>
  Buffer.from(JSON.stringify([signatureOf(order), ...values])).toString('base64url')

function parseCursor(cursor: string, order: readonly SortKey[]): (string | null)[] {
  let parts: unknown
  try {
    parts = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'))
  } catch {
    parts = undefined
  }
  const isForThis =
    Array.isArray(parts) && parts.length === order.length + 1 && parts[0] === signatureOf(order)
  const values = isForThis ? (parts as unknown[]).slice(1) : []
  const isValid = order.every(({ column }, index) => {
    const value = values[index]
    if (value === null) return column.isNullable
    return (
      typeof value === 'string' &&
      (column.type === 'tid' ? /^\(\d{1,10},\d{1,5}\)$/.test(value) : isStored(value, column))
    )
  })
  if (isForThis && isValid && order.length > 0) return values as (string | null)[]
  throw gatewayError(
    'parameter-invalid',
    'cursor must be taken from a next link of the same collection and sortby; leave it out to start from the first feature.',
    { parameter: 'cursor' },
  )
}

/** PostgreSQL's own text of a value: what requests may write, and what only stored values can be. */
const isStored = (value: string, column: Column) =>
  parseValue(value, column) !== undefined || (STORED_FORMS[column.kind]?.test(value) ?? false)

/** Such as the 15th of March of 44 BC. */
const STORED_TIME = /^[-\d :.+]{4,40}( BC)?$|^-?infinity$/
const STORED_FORMS: Partial<Record<Column['kind'], RegExp>> = {
  boolean: /^[tf]$/,
  number: /^(NaN|-?Infinity)$/,
  date: STORED_TIME,
  timestamp: STORED_TIME,
}

const signatureOf = (order: readonly SortKey[]) =>
  order.map(({ column, isDescending }) => (isDescending ? '-' : '') + column.name).join()

/** Whether the page is to be read through a cursor, batch by batch. */
export const isLarge = ({ limit, collection }: ItemQuery) =>
  limit > (collection.geometry.type.startsWith('POINT') ? MAX_BUFFERED_POINTS : MAX_BUFFERED_FEATURES)

/**
 * Rows: a feature's text, then the values of `order`. One more than the limit is read: it is not part of
 * the page, but tells that there is a next one.
 * @param isIndexed false to do without the index of a projected table, see boxCondition
 */
export function compileItems(query: ItemQuery, isIndexed = true): Statement {
  const template = templateOf(`items ${shapeOf(query)} ${isIndexed}`, () =>
    selectItems(query, isIndexed, fromTable(query.collection)),
  )
  return fillTemplate(template, valuesOf(query), query.cells)
}

function selectItems(query: ItemQuery, isIndexed: boolean, from: From, further = sql``): SQL {
  const { collection, properties, order, offset } = query
  const keys = order.map(
    ({ column }, index) => sql`, ${columnOf(column)} as ${sql.identifier(keyName(index))}`,
  )
  return sql`select ${featureOf(collection, properties)} as feature${sql.join(keys)}${further}
    from ${from.table} as item${where(query, isIndexed, true, from)}
    ${orderOf(query)}
    limit ${sql.placeholder('limit')} + 1${offset === undefined ? sql`` : sql` offset ${sql.placeholder('offset')}`}`
}

function orderOf({ order }: ItemQuery): SQL {
  const keys = order.map(
    // Of the item: by itself it could be the name of something that is selected.
    ({ column, isDescending }) => sql`item.${columnOf(column)}${sql.raw(directionOf(column, isDescending))}`,
  )
  return keys.length > 0 ? sql`order by ${sql.join(keys, sql.raw(', '))}` : sql``
}

const keyName = (index: number) => `key${index}`

/** One row: how many features match, counted no further than COUNT_BOUND. */
const countOf = (query: ItemQuery, isIndexed: boolean, from: From): SQL =>
  sql`select count(*) from (select 1 from ${from.table} as item${where(query, isIndexed, false, from)}
    limit ${sql.raw(String(COUNT_BOUND + 1))}) as matched`

export function compileCount(query: ItemQuery, isIndexed = true): Statement {
  const template = templateOf(`count ${shapeOf(query)} ${isIndexed}`, () =>
    countOf(query, isIndexed, fromTable(query.collection)),
  )
  return fillTemplate(template, valuesOf(query), query.cells)
}

/**
 * The statement for a page that is read in one go, for parsePage to understand. On Citus the rows come as they
 * are: it plans but once what is of one table and names one shard, and of many shards it takes rows, not the
 * work, to one place.
 */
export function compilePage(query: ItemQuery, isIndexed = true): Statement {
  const select = isSpread(query.collection) ? selectRows : selectPage
  const shape = `page ${shapeOf(query)} ${isIndexed}`
  const compose = (from: From) => select(query, isIndexed, from)
  return compileRead(query.collection, shape, compose, valuesOf(query), query.cells)
}

/**
 * One row for a whole page, made of the items' rows: their features' text, each up to its last brace and the
 * brace between them; how many were read; how many match, counted no further than COUNT_BOUND and only
 * where the page is not all of them; then the values of `order` where the page ends.
 */
function selectPage(query: ItemQuery, isIndexed: boolean, from: From): SQL {
  const limit = sql.placeholder('limit')
  const keys = query.order.map((_, index) => sql`, (array_agg(${sql.identifier(keyName(index))}))[${limit}]`)
  const matched = isCountable(query)
    ? sql`case when count(*) > ${limit} then (${countOf(query, isIndexed, from)}) end`
    : sql`null`
  return sql`select array_to_string((array_agg(feature))[1:${limit}], '},'), count(*), ${matched}${sql.join(keys)}
    from (${selectItems(query, isIndexed, from)}) as page`
}

/**
 * The items' rows; in one shard each ends with how many match from it on, counted to one past COUNT_BOUND in the
 * order of the page, so that no more rows are read than are counted.
 */
const selectRows = (query: ItemQuery, isIndexed: boolean, from: From): SQL =>
  selectItems(
    query,
    isIndexed,
    from,
    isCountable(query) && !isCountedApart(query)
      ? sql`, count(*) over (${orderOf(query)} rows between current row and ${sql.raw(String(COUNT_BOUND))} following)`
      : undefined,
  )

/** Whether it takes compileCount to say how many match: what is counted over several shards is read from all. */
export const isCountedApart = (query: ItemQuery) =>
  isSpread(query.collection) && isCountable(query) && query.cells?.length !== 1

export type Page = {
  /** The features' text, with everything but the last brace. */
  readonly features: string
  readonly returned: number
  readonly matched: number | undefined
  /** Where the next page begins, if there is one. */
  readonly end: readonly (string | null)[] | undefined
}

/** What the rows of compilePage say. */
export function parsePage(rows: readonly Row[], query: ItemQuery): Page {
  if (!isSpread(query.collection)) {
    const [features, read, matched, ...end] = rows[0]!
    return makePage(features ?? '', Number(read), parseCount(matched), end, query)
  }
  const { limit, order, offset = 0 } = query
  const shown = rows.slice(0, limit)
  const features = shown.map(([feature]) => feature).join('},')
  const fromFirst = parseCount(rows[0]?.[1 + order.length])
  const matched = fromFirst === undefined ? undefined : offset + fromFirst
  return makePage(features, rows.length, matched, shown.at(-1)?.slice(1, 1 + order.length) ?? [], query)
}

/** What the row of compileCount says; undefined where more match than are counted. */
export function parseCount(count: string | null | undefined): number | undefined {
  return count == null || Number(count) > COUNT_BOUND ? undefined : Number(count)
}

function makePage(
  features: string,
  read: number,
  matched: number | undefined,
  end: readonly (string | null)[],
  query: ItemQuery,
): Page {
  const hasNext = read > query.limit
  const isWhole = !hasNext && query.after === undefined && !query.offset
  return {
    features,
    returned: Math.min(read, query.limit),
    matched: isWhole ? read : matched,
    end: hasNext ? end : undefined,
  }
}

/**
 * Whether to count: not where the table alone is known to be far larger, and not on a cursor's further
 * pages, which would count the same anew.
 */
export const isCountable = ({ collection, bbox, interval, equals, after }: ItemQuery) =>
  after === undefined &&
  (bbox !== undefined ||
    interval !== undefined ||
    equals.length > 0 ||
    collection.estimatedRows <= COUNT_BOUND)

/**
 * Rows of the features of these ids: the id as it was given, the feature, its version.
 * @param ids at least one
 * @param cells where they all are, at least one; undefined to look everywhere
 */
export function compileLookup(
  collection: Collection,
  ids: readonly string[],
  cells?: readonly number[],
): Statement {
  const id = columnOf(collection.idColumn!)
  const select = ({ table, conditions }: From, ...asked: SQL[]) =>
    sql`select ${itemOf(collection)} from ${table} where ${sql.join([...conditions, ...asked], sql` and `)}`
  const asked = isSpreadByCell(collection) ? cells : undefined
  if (cells && cells.length > 1) {
    const among = (column: SQL, values: string) => sql`${column} = any(${sql.placeholder(values)})`
    const compose = (from: From) => select(from, among(cellColumn, 'cells'), among(id, 'ids'))
    return compileRead(collection, `lookup ${collection.version} of cells`, compose, { ids, cells }, asked)
  }
  // A list whose length is a power of four, filled up with the last: of an array PostgreSQL does not know the length
  // beforehand, and plans the statement each time, which takes it as long as running it.
  const length = 4 ** Math.ceil(Math.log2(ids.length) / 2)
  const compose = (from: From) => {
    const within = cells ? [sql`${cellColumn} = ${sql.placeholder('cell')}`] : []
    const list = Array.from({ length }, (_, at) => sql`${sql.placeholder(String(at))}`)
    return select(from, ...within, sql`${id} in (${sql.join(list, sql`, `)})`)
  }
  const values: Record<string, unknown> = { cell: cells?.[0] }
  for (let at = 0; at < length; at++) values[at] = ids[Math.min(at, ids.length - 1)]
  const shape = `lookup ${collection.version} ${length} ${cells !== undefined}`
  return compileRead(collection, shape, compose, values, asked)
}

/** The cells to look in for what meets the boxes; undefined where they are not worth naming. */
const cellsToLookIn = (bbox: Bbox | undefined, collection: Collection) =>
  bbox && isSpreadByCell(collection)
    ? cellsOf(bbox.boxes, collection.level!, !/^POINT/.test(collection.geometry.type), MAX_CELLS)
    : undefined

/** Everything that the text of a statement depends on. */
function shapeOf({
  collection,
  offset,
  after,
  bbox,
  interval,
  equals,
  order,
  properties,
  cells,
}: ItemQuery): string {
  return [
    collection.version,
    offset === undefined ? '' : 'o',
    after ? after.map((value) => (value === null ? '0' : '1')).join('') : '',
    bbox ? bbox.boxes.map(shapeOfBox).join('+') + (bbox.heights ? 'z' : '') : '',
    cells ? (cells.length === 1 ? '1' : 'n') : '',
    interval ? `${interval.start ? 's' : ''}${interval.end ? 'e' : ''}t` : '',
    JSON.stringify([
      equals.map(({ column }) => column.name),
      signatureOf(order),
      properties === collection.properties ? 0 : properties.map(({ name }) => name),
    ]),
  ].join('|')
}

/** A box without area is a point or a line to PostGIS; a wide one does not use a projected index. */
const shapeOfBox = (box: Box) => `${isDegenerate(box) ? 'd' : 'b'}${isWide(box) ? 'w' : ''}`
const isDegenerate = (box: Box) =>
  box.minLongitude === box.maxLongitude || box.minLatitude === box.maxLatitude
const isWide = (box: Box) =>
  Math.max(box.maxLongitude - box.minLongitude, box.maxLatitude - box.minLatitude) > MAX_PROJECTED_DEGREES

function valuesOf({
  limit,
  offset,
  after,
  bbox,
  interval,
  equals,
  cells,
}: ItemQuery): Record<string, unknown> {
  const values: Record<string, unknown> = { limit, offset, start: interval?.start, end: interval?.end }
  if (cells) values.cells = cells.length === 1 ? cells[0] : cells
  after?.forEach((value, index) => {
    values[`after${index}`] = value
  })
  bbox?.boxes.forEach((box, index) => {
    values[`west${index}`] = box.minLongitude
    values[`south${index}`] = box.minLatitude
    values[`east${index}`] = box.maxLongitude
    values[`north${index}`] = box.maxLatitude
  })
  if (bbox?.heights) [values.low, values.high] = bbox.heights
  equals.forEach(({ value }, index) => {
    values[`value${index}`] = value
  })
  return values
}

/** Nulls last in both directions; where there are none, the index's own order serves. */
const directionOf = ({ isNullable }: Column, isDescending: boolean) =>
  (isDescending ? ' desc' : '') + (isNullable && isDescending ? ' nulls last' : '')

function where(query: ItemQuery, isIndexed: boolean, isPage: boolean, from: From): SQL {
  const { collection, bbox, interval, equals, after, order, cells } = query
  const conditions: SQL[] = [
    ...from.conditions,
    ...equals.map(({ column }, index) => sql`${columnOf(column)} = ${sql.placeholder(`value${index}`)}`),
  ]
  // Citus sends the query to the shards of these cells alone; one value is the way that it plans but once.
  if (cells) {
    const value = sql.placeholder('cells')
    conditions.push(cells.length === 1 ? sql`${cellColumn} = ${value}` : sql`${cellColumn} = any(${value})`)
  }
  if (bbox) {
    const boxes = bbox.boxes.map((box, index) => boxCondition(box, index, collection.geometry, isIndexed))
    conditions.push(sql`(${sql.join(boxes, sql.raw(' or '))})`)
    if (bbox.heights) conditions.push(heightCondition(collection.geometry.column))
  }
  if (interval && collection.temporal) conditions.push(...temporalConditions(interval, collection.temporal))
  if (after && isPage) conditions.push(afterCondition(after, order))
  return conditions.length > 0 ? sql` where ${sql.join(conditions, sql.raw(' and '))}` : sql``
}

/**
 * Features whose geometry intersects the box, not only their own boxes, which the index holds rounded.
 * A projected table is asked in its own system, where its index is, and then exactly in degrees. PROJ can
 * refuse to project the box: then the same without the index has the right answer.
 */
function boxCondition(
  box: Box,
  index: number,
  { column, srid }: Collection['geometry'],
  isIndexed: boolean,
): SQL {
  const [west, south, east, north] = ['west', 'south', 'east', 'north'].map((side) =>
    sql.placeholder(`${side}${index}`),
  )
  const geometry = sql`${sql.identifier(column)}`
  const reference = sql.raw(srid === 0 ? '0' : '4326')
  const envelope = isDegenerate(box)
    ? sql`ST_SetSRID(ST_Envelope(ST_MakeLine(ST_MakePoint(${west}, ${south}), ST_MakePoint(${east}, ${north}))), ${reference})`
    : sql`ST_MakeEnvelope(${west}, ${south}, ${east}, ${north}, ${reference})`
  if (srid === 4326 || srid === 0) return sql`ST_Intersects(${geometry}, ${envelope})`
  const exact = sql`ST_Intersects(ST_Transform(${geometry}, 4326), ${envelope})`
  if (!isIndexed || isWide(box)) return exact
  // A straight side in degrees is a curve in the projection: it is followed at every degree.
  return sql`(${geometry} && ST_Transform(ST_Segmentize(${envelope}, 1), ${sql.raw(String(srid))}) and ${exact})`
}

/** A geometry without heights is at every height. */
function heightCondition(column: string): SQL {
  const geometry = sql`${sql.identifier(column)}`
  return sql`(ST_Zmflag(${geometry}) < 2 or (ST_ZMin(${geometry}) <= ${sql.placeholder('high')} and ST_ZMax(${geometry}) >= ${sql.placeholder('low')}))`
}

/** The bounds are turned into the column's type, not the column into theirs: its index stays of use. */
function temporalConditions({ start, end }: Interval, column: Column): SQL[] {
  const bound = (name: string) => {
    const instant = sql`${sql.placeholder(name)}::timestamptz`
    if (column.type === 'timestamptz') return instant
    const inUtc = sql`(${instant} at time zone 'UTC')`
    return column.type === 'date' ? sql`${inUtc}::date` : inUtc
  }
  const conditions: SQL[] = []
  if (start) conditions.push(sql`${columnOf(column)} >= ${bound('start')}`)
  if (end) conditions.push(sql`${columnOf(column)} <= ${bound('end')}`)
  if (!start && !end) conditions.push(sql`${columnOf(column)} is not null`)
  return conditions
}

/**
 * Rows after the given one: those whose first key comes after, or is equal while the second comes after,
 * and so on. The first key's own bound is said once more by itself, so that an index can begin there.
 */
function afterCondition(after: readonly (string | null)[], order: readonly SortKey[]): SQL {
  const value = (index: number) => sql.placeholder(`after${index}`)
  const follows = ({ column, isDescending }: SortKey, index: number): SQL => {
    if (after[index] === null) return sql`false`
    const operator = sql.raw(isDescending ? ' < ' : ' > ')
    const beyond = sql`${columnOf(column)}${operator}${value(index)}`
    return column.isNullable ? sql`(${beyond} or ${columnOf(column)} is null)` : beyond
  }
  const equals = ({ column }: SortKey, index: number): SQL =>
    after[index] === null ? sql`${columnOf(column)} is null` : sql`${columnOf(column)} = ${value(index)}`
  const alternatives = order.map((key, index) => {
    const same = order.slice(0, index).map(equals)
    return sql`(${sql.join([...same, follows(key, index)], sql.raw(' and '))})`
  })
  const [first] = order
  const condition = sql`(${sql.join(alternatives, sql.raw(' or '))})`
  if (order.length === 1 || !first || first.column.isNullable) return condition
  const operator = sql.raw(first.isDescending ? ' <= ' : ' >= ')
  return sql`${columnOf(first.column)}${operator}${value(0)} and ${condition}`
}
