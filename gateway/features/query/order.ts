// Owns the order of a page: its sort keys, the cursor that marks its end, and the condition to continue from there.

import { type SQL, sql } from 'drizzle-orm'
import { gatewayError } from '../../errors.ts'
import { type Column, columnOf } from '../values/column.ts'
import type { Condition } from '../values/condition.ts'
import { parseStored } from '../values/value.ts'

export type SortKey = { readonly column: Column; readonly isDescending: boolean }

/** Returns a text that is equal for equal orders only; names in it are quoted. */
export const signatureOf = (order: readonly SortKey[]) =>
  order.map(({ column, isDescending }) => (isDescending ? '-' : '') + JSON.stringify(column.name)).join()

/** Returns the clause, empty for no order. */
export function orderBy(order: readonly SortKey[]): SQL {
  const keys = order.map(
    // Qualified: the bare name could be that of an output column.
    ({ column, isDescending }) => sql`item.${columnOf(column)}${sql.raw(directionOf(column, isDescending))}`,
  )
  return keys.length > 0 ? sql`order by ${sql.join(keys, sql.raw(', '))}` : sql``
}

/** Nulls come last in both directions; a column without nulls keeps the order of its index. */
const directionOf = ({ isNullable }: Column, isDescending: boolean) =>
  (isDescending ? ' desc' : '') + (isNullable && isDescending ? ' nulls last' : '')

/**
 * Returns where a page ended. A cursor is opaque to clients: the order it belongs to, then the values of the last row.
 * It carries no limit.
 */
export const renderCursor = (order: readonly SortKey[], values: readonly (string | null)[]) =>
  Buffer.from(JSON.stringify([signatureOf(order), ...values])).toString('base64url')

/** Returns the values of a cursor. @throws GatewayError naming cursor */
export function parseCursor(cursor: string, order: readonly SortKey[]): (string | null)[] {
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
      (column.type === 'tid'
        ? /^\(\d{1,10},\d{1,5}\)$/.test(value)
        : parseStored(value, column) !== undefined)
    )
  })
  if (isForThis && isValid && order.length > 0) return values as (string | null)[]
  throw gatewayError(
    'parameter-invalid',
    'cursor must be taken from a next link of the same collection and sortby; leave it out to start from the first feature.',
    { parameter: 'cursor' },
  )
}

/**
 * True for rows after the given one: those whose first key comes after its first key, or whose first key is equal while
 * the second comes after, and so on. The bound of the first key is repeated by itself, so that an index scan can start
 * there.
 * @param after the values of `order` in the row where the page before ended
 */
export function afterCondition(after: readonly (string | null)[], order: readonly SortKey[]): Condition {
  return {
    shape: `after ${after.map((value) => (value === null ? 0 : 1)).join('')}`,
    values: after,
    compose: (...values) => composeAfter(after, order, values),
  }
}

function composeAfter(
  after: readonly (string | null)[],
  order: readonly SortKey[],
  values: readonly SQL[],
): SQL {
  const follows = ({ column, isDescending }: SortKey, index: number): SQL => {
    if (after[index] === null) return sql`false`
    const operator = sql.raw(isDescending ? ' < ' : ' > ')
    const beyond = sql`${columnOf(column)}${operator}${values[index]}`
    return column.isNullable ? sql`(${beyond} or ${columnOf(column)} is null)` : beyond
  }
  const equals = ({ column }: SortKey, index: number): SQL =>
    after[index] === null ? sql`${columnOf(column)} is null` : sql`${columnOf(column)} = ${values[index]}`
  const alternatives = order.map((key, index) => {
    const same = order.slice(0, index).map(equals)
    return sql`(${sql.join([...same, follows(key, index)], sql.raw(' and '))})`
  })
  const [first] = order
  const condition = sql`(${sql.join(alternatives, sql.raw(' or '))})`
  if (order.length === 1 || !first || first.column.isNullable) return condition
  const operator = sql.raw(first.isDescending ? ' <= ' : ' >= ')
  return sql`${columnOf(first.column)}${operator}${values[0]} and ${condition}`
}
