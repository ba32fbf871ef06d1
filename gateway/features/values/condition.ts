// Owns conditions of a query: their SQL, the boxes that contain the rows that meet them, and how they are joined.

import { combine, type Fragment } from '../../database/fragment.ts'
import { type SQL, sql } from '../../database/sql.ts'
import { areaOf, type Box } from './box.ts'
import type { Column } from './column.ts'
import type { GeometryColumn } from './geometry-column.ts'

export type Condition = Fragment & {
  /** Boxes that every feature meeting the condition intersects one of; undefined if it can be anywhere. */
  readonly boxes?: readonly Box[] | undefined
  /** Equivalent of this condition without an index that cannot be used for some values; undefined if it uses none. */
  readonly withoutIndex?: Condition | undefined
  /** Names of the functions of the database that it calls, each of which can fail. */
  readonly calls?: readonly string[] | undefined
  /** True if a row can meet it at one time and not at another, although nothing has changed in the database. */
  readonly varies?: boolean | undefined
  /**
   * Set if PostGIS can fail to evaluate it for some geometry, which then fails the whole query. Returns the same in two
   * steps; undefined if there is none. It is composed only then.
   */
  readonly careful?: (() => CarefulCondition | undefined) | undefined
}

/** A condition in two steps, so that a geometry for which it fails costs nothing but itself. */
export type CarefulCondition = {
  /** Never fails, and is true for every row that meets the condition; undefined if that can be any row. */
  readonly rough: Condition | undefined
  /** True for rows that meet the condition whatever their geometry is; undefined if there are none. */
  readonly sure?: Fragment | undefined
  /** The rest of the condition, for one geometry. */
  readonly test: (geometry: GeometryColumn) => Fragment
  /** Columns that the test reads besides the geometry. */
  readonly columns: readonly Column[]
  /** Geometries that the condition itself contains, as EWKT: it fails for every row if one of them is not valid. */
  readonly literals: readonly string[]
}

/**
 * True if all of them are met; there must be at least one. It is confined to the smallest boxes that any of them is
 * confined to, and not to what these have in common: a long line meets two boxes that do not touch.
 */
export const allOf = (conditions: readonly Condition[]): Condition =>
  join(
    'and',
    conditions,
    (all) => all.flatMap(({ boxes }) => (boxes ? [boxes] : [])).toSorted((a, b) => areaOf(a) - areaOf(b))[0],
  )

/** True if any of them is met; there must be at least one. */
export const anyOf = (conditions: readonly Condition[]): Condition =>
  join('or', conditions, (all) =>
    all.every(({ boxes }) => boxes) ? all.flatMap(({ boxes }) => boxes!) : undefined,
  )

function join(
  operator: 'and' | 'or',
  conditions: readonly Condition[],
  confine: (conditions: readonly Condition[]) => readonly Box[] | undefined,
): Condition {
  if (conditions.length === 1) return conditions[0]!
  const compose = (...texts: (SQL | undefined)[]) =>
    sql`(${sql.join(texts as SQL[], sql.raw(` ${operator} `))})`
  const joined = {
    ...combine(operator, conditions, compose),
    boxes: confine(conditions),
    careful: () => joinCareful(operator, conditions, (fragments) => combine(operator, fragments, compose)),
  }
  if (!conditions.some(({ withoutIndex }) => withoutIndex)) return joined
  const others = conditions.map((condition) => condition.withoutIndex ?? condition)
  return { ...joined, withoutIndex: join(operator, others, confine) }
}

function joinCareful(
  operator: 'and' | 'or',
  conditions: readonly Condition[],
  joinFragments: (fragments: readonly Fragment[]) => Fragment,
): CarefulCondition | undefined {
  const split = conditions.map(({ careful, ...plain }) => careful?.() ?? plain)
  const tested = split.filter((part) => 'test' in part)
  // If one of the alternatives needs no geometry, the geometry alone does not decide.
  if (tested.length === 0 || (operator === 'or' && tested.length < conditions.length)) return undefined
  const rough = split.flatMap((part) => ('test' in part ? (part.rough ?? []) : part))
  const isAnywhere = rough.length === 0 || (operator === 'or' && rough.length < conditions.length)
  const sure = tested.flatMap(({ sure }) => sure ?? [])
  const isNeverSure = operator === 'and' ? sure.length < tested.length : sure.length === 0
  return {
    rough: isAnywhere ? undefined : operator === 'and' ? allOf(rough) : anyOf(rough),
    sure: isNeverSure ? undefined : joinFragments(sure),
    test: (geometry) => joinFragments(tested.map(({ test }) => test(geometry))),
    columns: [...new Set(tested.flatMap(({ columns }) => columns))],
    literals: tested.flatMap(({ literals }) => literals),
  }
}
