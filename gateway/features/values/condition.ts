// Owns conditions of a query: their SQL, the boxes that contain the rows that meet them, and how they are joined.

import { type SQL, sql } from 'drizzle-orm'
import { combine, type Fragment } from '../../database/fragment.ts'
import { areaOf, type Box } from './box.ts'

export type Condition = Fragment & {
  /** Boxes that every feature meeting the condition intersects one of; undefined if it can be anywhere. */
  readonly boxes?: readonly Box[] | undefined
  /** Equivalent of this condition without an index that cannot be used for some values; undefined if it uses none. */
  readonly withoutIndex?: Condition | undefined
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
  const joined = { ...combine(operator, conditions, compose), boxes: confine(conditions) }
  if (!conditions.some(({ withoutIndex }) => withoutIndex)) return joined
  const others = conditions.map((condition) => condition.withoutIndex ?? condition)
  return { ...joined, withoutIndex: { ...combine(operator, others, compose), boxes: joined.boxes } }
}
