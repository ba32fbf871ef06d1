// Owns the order of a page: its sort keys, the cursor that marks its end, and the condition to continue from there.

import { type SQL, sql } from '../../database/sql.ts'
import { gatewayError } from '../../errors.ts'
import { type Column, columnOf } from '../values/column.ts'
import type { Condition } from '../values/condition.ts'
import { parseStored } from '../values/value.ts'
import { FIRST_QUADRANT, isQuadrant } from './quadtree.ts'

export type SortKey = { readonly column: Column; readonly isDescending: boolean }

/** A value of the last row of a page; only the beginning of one that is too long for a link. */
export type EndValue = string | null | Beginning
type Beginning = { readonly beginning: string }

/** The end of a page, after which the next one goes on. */
export type Position = {
  /** Values of the order in the last feature; none after a page in any order. */
  readonly values: readonly (string | null)[]
  /** Quadrant in which the walk goes on, see quadtree.ts; undefined for pages that are in their order alone. */
  readonly from?: string | undefined
  /**
   * Keys of the features on a first page in any order, which further pages leave out: a list of texts, as JSON. PostgreSQL
   * returns it like this, and parsing it would take an eighth of the gateway's time for a page.
   */
  readonly shown?: string | undefined
}
/** A position as a cursor has it. */
export type Start = {
  readonly values: readonly EndValue[]
  readonly from?: string | undefined
  readonly shown: readonly string[]
}

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
 * Longest value in a cursor, in characters: with eight of them, of three bytes each, a link still fits into the header of
 * a request.
 */
const MAX_VALUE_LENGTH = 250

/**
 * Returns where a page ended. A cursor is opaque to clients: the order it belongs to, then the values of the last row.
 * It carries no limit. Of a long value it has only the beginning, in brackets; the key finds the row with the rest of it.
 * If pages go through quadrants, the position in these comes before the values, and the keys of a first page in any order.
 */
export function renderCursor(
  order: readonly SortKey[],
  { values, from, shown }: Position,
  key: readonly Column[],
): string {
  const ends = values.map((value, index) =>
    value !== null && value.length > MAX_VALUE_LENGTH && mayBeCut(order[index]!.column, key)
      ? [value.slice(0, MAX_VALUE_LENGTH).replace(/[\ud800-\udbff]$/, '')]
      : value,
  )
  const kind = from !== undefined ? QUADRANTS : shown !== undefined ? SHOWN : ''
  const texts = [
    JSON.stringify(kind + signatureOf(order)),
    ...(from !== undefined ? [JSON.stringify(from)] : []),
    ...(kind !== '' ? [shown ?? '[]'] : []),
    ...ends.map((end) => JSON.stringify(end)),
  ]
  return Buffer.from(`[${texts.join()}]`).toString('base64url')
}

/** Longest first page in any order: its keys are part of each link that follows. */
const MAX_SHOWN = 250

/** Returns true if a first page may be in any order: the link to the next has its keys. */
export const canBeInAnyOrder = (limit: number, key: readonly Column[]) =>
  limit <= MAX_SHOWN && key.length === 1

/** True for features that the first page did not show. */
export const notShown = ([column]: readonly Column[], keys: readonly string[]): Condition => ({
  shape: 'not shown',
  values: [keys],
  compose: (keys) => sql`${columnOf(column!)} <> all(${keys})`,
})

/** Longest list of keys in a cursor, in characters: next to a filter it still fits into the header of a request. */
const MAX_KEYS_LENGTH = 4_000

/** Returns false if the list of keys in a position is too long for a link. */
export const fitsIntoLink = ({ shown }: Position) => shown === undefined || shown.length <= MAX_KEYS_LENGTH

/** Begin the cursors of pages that go through quadrants, and of others after a first page in any order; no signature does. */
const QUADRANTS = 'quadrants '
const SHOWN = 'shown '

const mayBeCut = (column: Column, key: readonly Column[]) =>
  (column.kind === 'string' || column.type === 'numeric') && !key.includes(column)

/** Returns the position that a cursor stands for. @throws GatewayError naming cursor */
export function parseCursor(cursor: string, order: readonly SortKey[], key: readonly Column[]): Start {
  let parts: unknown
  try {
    parts = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'))
  } catch {
    parts = undefined
  }
  if (Array.isArray(parts) && order.length > 0) {
    const [signature, ...rest] = parts as unknown[]
    if (signature === signatureOf(order)) {
      const values = parseValues(rest, order, key)
      if (values) return { values, shown: [] }
    }
    const isShown = (keys: unknown): keys is string[] =>
      Array.isArray(keys) &&
      keys.length <= MAX_SHOWN &&
      keys.every((text) => key.length === 1 && isStored(text, key[0]!))
    if (signature === SHOWN + signatureOf(order)) {
      const [shown, ...given] = rest
      const values = given.length === 0 ? [] : parseValues(given, order, key)
      if (isShown(shown) && values) return { values, shown }
    }
    if (signature === QUADRANTS + signatureOf(order)) {
      const [from, shown, ...given] = rest
      const values = given.length === 0 ? [] : parseValues(given, order, key)
      // Without values nothing says where in a quadrant to go on, except before the first.
      if (isQuadrant(from) && isShown(shown) && values && (values.length > 0 || from === FIRST_QUADRANT))
        return { values, from, shown }
    }
  }
  throw refusedCursor()
}

export const refusedCursor = () =>
  gatewayError(
    'parameter-invalid',
    'cursor must be taken from a next link of the same collection and sortby; leave it out to start from the first feature.',
    { parameter: 'cursor' },
  )

/** Returns the values of a cursor; undefined if its order cannot have them. */
function parseValues(
  parts: readonly unknown[],
  order: readonly SortKey[],
  key: readonly Column[],
): EndValue[] | undefined {
  const values = parts.map(endValueOf)
  const isValid = order.every(({ column }, index) => {
    const value = values[index]
    if (value === null) return column.isNullable
    if (isBeginning(value)) return mayBeCut(column, key) && parseStored(value.beginning, column) !== undefined
    return isStored(value, column)
  })
  return isValid && parts.length === order.length ? (values as EndValue[]) : undefined
}

const isStored = (value: unknown, column: Column) =>
  typeof value === 'string' &&
  (column.type === 'tid' ? /^\(\d{1,10},\d{1,5}\)$/.test(value) : parseStored(value, column) !== undefined)

/** Returns a value of a cursor; undefined for what renderCursor does not write. */
function endValueOf(part: unknown): EndValue | undefined {
  if (part === null || typeof part === 'string') return part
  return Array.isArray(part) && part.length === 1 && typeof part[0] === 'string'
    ? { beginning: part[0] }
    : undefined
}

export const isBeginning = (value: EndValue | undefined): value is Beginning =>
  typeof value === 'object' && value !== null

/** True for the row of the collection's key in which a page ended. */
export function endCondition(
  after: readonly EndValue[],
  order: readonly SortKey[],
  key: readonly Column[],
): Condition {
  const values = key.map((column) => after[order.findIndex((one) => one.column === column)] as string)
  return {
    shape: 'end',
    values,
    compose: (...values) =>
      sql.join(
        key.map((column, index) => sql`${columnOf(column)} = ${values[index]}`),
        sql.raw(' and '),
      ),
  }
}

/**
 * Completes the values of a cursor from the row in which the page ended.
 * @param row the values of `order` in that row; undefined if it no longer exists
 * @returns a value that has changed is still only a beginning: the rows that have it too may come again, and none is left out
 * @throws GatewayError naming cursor
 */
export const completeEnd = (
  after: readonly EndValue[],
  order: readonly SortKey[],
  row: readonly (string | null)[] | undefined,
): EndValue[] =>
  after.map((value, index) => {
    if (!isBeginning(value)) return value
    const whole = row?.[index]
    if (whole?.startsWith(value.beginning)) return whole
    if (order[index]!.column.kind === 'string') return value
    throw gatewayError(
      'parameter-invalid',
      'cursor names a feature that has changed or was removed; leave cursor out to start from the first feature.',
      { parameter: 'cursor' },
    )
  })

/**
 * True for rows after the given one: those whose first key comes after its first key, or whose first key is equal while
 * the second comes after, and so on. The bound of the first key is repeated by itself, so that an index scan can start
 * there.
 * @param after the values of `order` in the row where the page before ended
 */
export function afterCondition(after: readonly EndValue[], order: readonly SortKey[]): Condition {
  return {
    shape: `after ${after.map((value) => (value === null ? 0 : isBeginning(value) ? 2 : 1)).join('')}`,
    values: after.map((value) => (isBeginning(value) ? value.beginning : value)),
    compose: (...values) => composeAfter(after, order, values),
  }
}

function composeAfter(after: readonly EndValue[], order: readonly SortKey[], values: readonly SQL[]): SQL {
  const follows = ({ column, isDescending }: SortKey, index: number): SQL => {
    if (after[index] === null) return sql`false`
    const operator = sql.raw(isDescending ? ' < ' : ' > ')
    const beyond = isBeginning(after[index])
      ? sql`(${columnOf(column)}${operator}${values[index]} or left(${columnOf(column)}::text, char_length(${values[index]}::text)) = ${values[index]}::text)`
      : sql`${columnOf(column)}${operator}${values[index]}`
    return column.isNullable ? sql`(${beyond} or ${columnOf(column)} is null)` : beyond
  }
  const equals = ({ column }: SortKey, index: number): SQL => {
    if (isBeginning(after[index])) return sql`false`
    return after[index] === null
      ? sql`${columnOf(column)} is null`
      : sql`${columnOf(column)} = ${values[index]}`
  }
  const alternatives = order.map((key, index) => {
    const same = order.slice(0, index).map(equals)
    return sql`(${sql.join([...same, follows(key, index)], sql.raw(' and '))})`
  })
  const [first] = order
  const condition = sql`(${sql.join(alternatives, sql.raw(' or '))})`
  if (order.length === 1 || !first || first.column.isNullable || isBeginning(after[0])) return condition
  const operator = sql.raw(first.isDescending ? ' <= ' : ' >= ')
  return sql`${columnOf(first.column)}${operator}${values[0]} and ${condition}`
}
