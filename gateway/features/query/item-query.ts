// Owns the query of a page: request parameters → ItemQuery.

import { sql } from '../../database/sql.ts'
import { gatewayError, invalidParameter, listed, quoted } from '../../errors.ts'
import { type Collection, isSpread, isSpreadByCell } from '../collections/collection.ts'
import { type FilterParameters, filterCondition } from '../filter/filter.ts'
import { type FilterFunctions, OWN_FUNCTIONS } from '../filter/functions.ts'
import type { GeometryForm } from '../formats/encoder.ts'
import { cellsOf } from '../sharding/cell.ts'
import { bboxCondition } from '../values/bbox.ts'
import type { Box } from '../values/box.ts'
import { type Column, columnOf } from '../values/column.ts'
import { allOf, type Condition } from '../values/condition.ts'
import { type CoordinateSystem, systemOf } from '../values/coordinate-system.ts'
import { intervalCondition, parseDatetime } from '../values/datetime.ts'
import { describeValue, parseValue } from '../values/value.ts'
import { isUnlocated, type Located, planPlaces } from './locate.ts'
import {
  canBeInAnyOrder,
  type EndValue,
  parseCursor,
  refusedCursor,
  type SortKey,
  type Start,
} from './order.ts'
import { boxesToGoThrough, FIRST_QUADRANT, type Quadrants } from './quadtree.ts'

export const DEFAULT_LIMIT = 10
/** A large page occupies a connection until its client has read it; clients follow `next` links for more features. */
export const MAX_LIMIT = 10_000
/** PostgreSQL reads and drops every row before the offset; keyset paging has no such bound. */
export const MAX_OFFSET = 100_000
/** A keyset's condition grows with the square of its keys. */
const MAX_SORT_KEYS = 8
/**
 * Most cells that a query names. The fewer shards it reads, the faster it is (docs/decisions/0032 has figures). More
 * cells than this are in nearly all of Citus' usual 32 shards, and naming them gains nothing.
 */
const MAX_CELLS = 32

/** Value of `limit` for all features, as one answer. */
export const NO_LIMIT = 'none'
/** The limit of a query for all features: all that PostgreSQL's integer can count, and one more. */
export const ANY_NUMBER = 2 ** 31 - 2

/** Parameters of a request by their names; any other name is that of a column. */
export type ItemParameters = FilterParameters & {
  readonly limit?: number | typeof NO_LIMIT
  readonly offset?: number
  readonly cursor?: string
  readonly bbox?: readonly number[]
  readonly 'bbox-crs'?: string
  readonly crs?: string
  readonly datetime?: string
  readonly sortby?: readonly string[]
  readonly properties?: readonly string[]
  readonly skipGeometry?: boolean
  readonly 'csv-bom'?: boolean
  readonly f?: string
  readonly [column: string]: unknown
}
const OWN_PARAMETERS = [
  'limit',
  'offset',
  'cursor',
  'bbox',
  'bbox-crs',
  'crs',
  'datetime',
  'filter',
  'filter-lang',
  'filter-crs',
  'sortby',
  'properties',
  'skipGeometry',
  'csv-bom',
  'f',
  'profile',
  'explain',
]

export type ItemQuery = {
  readonly collection: Collection
  readonly limit: number
  /** True for all features in one answer, which either is complete or breaks off: there is no next page. */
  readonly isWhole: boolean
  /** Set only if the client pages by offset. */
  readonly offset: number | undefined
  /** Values of `order` in the last row of the page before, which may include null; undefined if there are none. */
  readonly after: readonly EndValue[] | undefined
  /** True for the features of the query, on whichever page; undefined if that is all of them. */
  readonly condition: Condition | undefined
  /** Names of the functions of the database that the condition calls. */
  readonly calls: readonly string[]
  /** The cells that hold all features that meet the conditions; undefined if these can be anywhere. */
  readonly cells: readonly number[] | undefined
  /**
   * The requested sort keys, then the collection's key, if it has one: this makes the order total. All features at once need
   * no order: sorting them, or reading them by an index, takes longer than reading them.
   */
  readonly order: readonly SortKey[]
  /** Set if pages go through boxes quadrant by quadrant; undefined if they are in `order` alone. */
  readonly quadrants: Quadrants | undefined
  /** True for a first page that takes the features that PostgreSQL finds first, in any order. */
  readonly isUnordered: boolean
  /** Keys of the features on such a first page, which are not shown again. */
  readonly shown: readonly string[]
  readonly properties: readonly Column[]
  readonly geometry: GeometryForm
  /** The system of the coordinates in the answer. */
  readonly system: CoordinateSystem
}

/**
 * @param located its places, if they were converted to degrees or looked at before
 * @throws GatewayError naming the parameter and a value that would be right
 */
export function planItems(
  parameters: ItemParameters,
  collection: Collection,
  functions = OWN_FUNCTIONS,
  located?: Located,
): ItemQuery {
  const sorted = (parameters.sortby ?? []).filter(Boolean).map((name) => planSortKey(name, collection))
  refuseRepeated(
    'sortby',
    sorted.map(({ column }) => column.name),
  )
  if (sorted.length > MAX_SORT_KEYS)
    throw invalidParameter('sortby', `at most ${MAX_SORT_KEYS} properties`, sorted[0]!.column.name)
  const isWhole = parameters.limit === NO_LIMIT
  const isAnyOrder =
    isWhole && sorted.length === 0 && parameters.offset === undefined && parameters.cursor === undefined
  const isSorted = ({ name }: Column) => sorted.some(({ column }) => column.name === name)
  const order = isAnyOrder
    ? []
    : [
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
  const conditions = planConditions(parameters, collection, functions, OWN_PARAMETERS, located)
  const condition = conditions.length > 0 ? allOf(conditions) : undefined
  const start =
    parameters.cursor === undefined ? undefined : parseCursor(parameters.cursor, order, collection.key)
  const limit = parameters.limit === NO_LIMIT ? ANY_NUMBER : (parameters.limit ?? DEFAULT_LIMIT)
  // The order of a page without a condition is that of an index.
  const isUnordered =
    sorted.length === 0 &&
    parameters.offset === undefined &&
    start === undefined &&
    condition !== undefined &&
    !isSpread(collection) &&
    canBeInAnyOrder(limit, collection.key)
  return {
    collection,
    limit,
    isWhole,
    offset: parameters.offset,
    after: start?.values.length ? start.values : undefined,
    condition,
    calls: conditions.flatMap(({ calls }) => calls ?? []),
    cells: cellsToLookIn(condition?.boxes, collection),
    order,
    quadrants: planQuadrants(parameters, collection, condition, start),
    isUnordered,
    shown: start?.shown ?? [],
    properties: parameters.properties
      ? planProperties(parameters.properties, collection)
      : collection.properties,
    geometry: parameters.skipGeometry === true ? 'none' : 'converted',
    system: systemOf('crs', parameters.crs, collection),
  }
}

/** A cursor decides how pages go on, although an index may have come or gone since the first one. */
function planQuadrants(
  { sortby = [], offset, limit }: ItemParameters,
  collection: Collection,
  condition: Condition | undefined,
  start: Start | undefined,
): Quadrants | undefined {
  // A walk collects the keys of all its features before it reads the first one.
  const isOrdered = sortby.some(Boolean) || offset !== undefined || limit === NO_LIMIT
  const boxes = isOrdered ? undefined : boxesToGoThrough(collection, condition)
  if (!start) return boxes && collection.isGeometryIndexed ? { boxes, from: FIRST_QUADRANT } : undefined
  if (start.from === undefined) return undefined
  if (!boxes) throw refusedCursor()
  return { boxes, from: start.from }
}

/** Refuses a name that is given twice: it would mean nothing more, but every name costs PostgreSQL work. */
function refuseRepeated(parameter: string, names: readonly string[]) {
  const repeated = names.find((name, index) => names.indexOf(name) !== index)
  if (repeated === undefined) return
  throw gatewayError('parameter-invalid', `${parameter} names ${quoted(repeated)} twice; once is enough.`, {
    parameter,
  })
}

function planSortKey(name: string, { queryables }: Collection): SortKey {
  const isDescending = name.startsWith('-')
  // A plus sign that was not encoded arrives as a space.
  const column = queryables.get(name.replace(/^[-+ ]/, ''))
  if (column) return { column, isDescending }
  throw gatewayError(
    'parameter-invalid',
    `sortby must name properties of this collection, each with - before it to descend: ${listed(queryables.keys())}; ${quoted(name)} is none.`,
    { parameter: 'sortby' },
  )
}

/** @throws GatewayError naming properties */
export function planProperties(names: readonly string[], { properties }: Collection): Column[] {
  refuseRepeated('properties', names.filter(Boolean))
  return names.filter(Boolean).map((name) => {
    const column = properties.find((property) => property.name === name)
    if (column) return column
    throw gatewayError(
      'parameter-invalid',
      `properties must name properties of this collection: ${listed(properties.map((property) => property.name))}; ${quoted(name)} is none.`,
      { parameter: 'properties' },
    )
  })
}

/**
 * Plans the parameters that select features.
 * @param own names of the parameters that are none of the collection's properties
 * @throws GatewayError naming the parameter and a value that would be right
 */
export function planConditions(
  parameters: ItemParameters,
  collection: Collection,
  functions: FilterFunctions,
  own: readonly string[] = OWN_PARAMETERS,
  given?: Located,
): Condition[] {
  const { datetime } = parameters
  const places = given ?? planPlaces(parameters, collection, functions)
  if (isUnlocated(places)) throw new Error('A place in another system was not located.')
  const { bbox } = places
  const interval = datetime === undefined ? undefined : parseDatetime(datetime)
  const filter = filterCondition(parameters, collection, functions, places.filter)
  return [
    ...planEquals(parameters, collection, own),
    ...(bbox ? [bboxCondition(bbox, collection.geometry)] : []),
    // If the collection has no temporal property, `datetime` matches every feature (/req/core/fc-time-response).
    ...(interval && collection.temporal
      ? [intervalCondition(interval, collection.temporal, collection.temporalEnd)]
      : []),
    ...(filter ? [filter] : []),
  ]
}

function planEquals(
  parameters: ItemParameters,
  { queryables }: Collection,
  own: readonly string[],
): Condition[] {
  const conditions: Condition[] = []
  for (const [name, text] of Object.entries(parameters)) {
    if (own.includes(name)) continue
    const column = queryables.get(name)
    if (!column) {
      throw gatewayError(
        'parameter-unknown',
        `There is no parameter ${quoted(name)}; known are ${listed([...own, ...queryables.keys()])}.`,
        { parameter: name },
      )
    }
    const value = typeof text === 'string' ? parseValue(text, column) : undefined
    if (value === undefined) {
      const { expected, example } = describeValue(column)
      throw invalidParameter(name, `${typeof text === 'string' ? '' : 'given once, as '}${expected}`, example)
    }
    conditions.push(equals(column, value))
  }
  return conditions
}

const equals = (column: Column, value: string): Condition => ({
  shape: `equals ${JSON.stringify(column.name)}`,
  values: [value],
  compose: (value) => sql`${columnOf(column)} = ${value}`,
})

/** Returns the cells of features that intersect the boxes; undefined if naming them is not worth it. */
export const cellsToLookIn = (boxes: readonly Box[] | undefined, collection: Collection) =>
  boxes && isSpreadByCell(collection)
    ? cellsOf(boxes, collection.level!, !/^POINT/.test(collection.geometry.type), MAX_CELLS)
    : undefined
