// Owns comparisons of numbers in SQL. A literal becomes a value of its column, so that an index is used; one that no row
// can hold is decided here.

import type { Column } from '../values/column.ts'
import { parseValue } from '../values/value.ts'
import { columnSql } from './column-sql.ts'
import type { Comparison } from './expression.ts'
import type { Term, Writer } from './term.ts'

const FLIPPED: Readonly<Record<Comparison, Comparison>> = {
  '=': '=',
  '<>': '<>',
  '<': '>',
  '>': '<',
  '<=': '>=',
  '>=': '<=',
}
export const flip = (op: Comparison) => FLIPPED[op]

export function compareNumbers(writer: Writer, left: Term, op: Comparison, right: Term): string {
  if (left.is === 'literal' && right.is === 'column') return compareNumbers(writer, right, flip(op), left)
  if (left.is === 'column' && right.is === 'literal')
    return compareColumn(writer, left.column, op, right.text)
  // PostgreSQL has comparisons of all types of numbers with each other.
  if (left.is === 'column' && right.is === 'column')
    return `(${columnSql(left.column)} ${op} ${columnSql(right.column)})`
  return `(${writer.term(left)} ${op} ${writer.term(right)})`
}

function compareColumn(writer: Writer, column: Column, op: Comparison, text: string): string {
  const sql = columnSql(column)
  if (column.kind !== 'integer') return `(${sql} ${op} ${bindNumber(writer, column, text)})`
  const { floor, isWhole } = splitInteger(text)
  if (!isWhole && (op === '=' || op === '<>')) return op === '=' ? never(column) : always(column)
  // Less than 2.5 is less than 3, and more than 2.5 is more than 2.
  const bound = isWhole || op === '>' || op === '<=' ? floor : floor + 1n
  if (parseValue(String(bound), column) !== undefined) return `(${sql} ${op} ${writer.bind(String(bound))})`
  const isMet = op === '<>' || (bound > 0n ? op.startsWith('<') : op.startsWith('>'))
  return isMet ? always(column) : never(column)
}

/** Returns a condition that is false, but unknown if there is no value; the planner decides it without reading a row. */
export const never = (column: Column) =>
  column.isNullable ? `(${columnSql(column)} is null and null)` : 'false'
export const always = (column: Column) =>
  column.isNullable ? `(${columnSql(column)} is not null or null)` : 'true'

/** Returns the condition for a column whose value is one of these literals. */
export function isAnyNumber(writer: Writer, column: Column, texts: readonly string[]): string {
  if (column.kind !== 'integer') {
    const values = texts.map((text) => numberOf(column, text))
    const cast = values.every(({ isOfColumn }) => isOfColumn) ? '' : '::float8[]'
    return `(${columnSql(column)} = any(${writer.bind(values.map(({ value }) => value))}${cast}))`
  }
  const values = texts.flatMap((text) => wholeValue(column, text) ?? [])
  return values.length > 0 ? `(${columnSql(column)} = any(${writer.bind(values)}))` : never(column)
}

/** Returns the literal as a value of a column of integers; undefined if no row can hold it. */
function wholeValue(column: Column, text: string): string | undefined {
  if (/^-?\d+$/.test(text)) return parseValue(text, column)
  const { floor, isWhole } = splitInteger(text)
  return isWhole ? parseValue(String(floor), column) : undefined
}

function bindNumber(writer: Writer, column: Column, text: string): string {
  const { value, isOfColumn } = numberOf(column, text)
  return isOfColumn ? writer.bind(value) : `${writer.bind(value)}::float8`
}

/** Returns the literal as PostgreSQL reads it for the column; it refuses one that overflows or underflows its type. */
function numberOf({ type }: Column, text: string): { value: string; isOfColumn: boolean } {
  if (type === 'numeric') return { value: text, isOfColumn: true }
  const double = Number(text)
  const isZero = !/[1-9]/.test(text.replace(/e.*/i, ''))
  const value =
    double === 0 && !isZero
      ? String(text.startsWith('-') ? -Number.MIN_VALUE : Number.MIN_VALUE)
      : String(double)
  const single = Math.fround(double)
  return { value, isOfColumn: type !== 'float4' || (Number.isFinite(single) && (single !== 0 || isZero)) }
}

/** Returns the greatest integer that is not above the number, and whether it is the number itself. */
export function splitInteger(text: string): { readonly floor: bigint; readonly isWhole: boolean } {
  const [, sign, whole, fraction = '', exponent = '0'] = /^(-?)(\d+)(?:\.(\d+))?(?:e([-+]?\d+))?$/i.exec(
    text,
  )!
  const point = whole!.length + Number(exponent)
  const digits = whole! + fraction
  const head = point <= 0 ? '0' : digits.slice(0, point).padEnd(point, '0')
  const isWhole = !/[1-9]/.test(point <= 0 ? digits : digits.slice(point))
  const magnitude = BigInt(head)
  if (!sign) return { floor: magnitude, isWhole }
  return { floor: isWhole ? -magnitude : -magnitude - 1n, isWhole }
}
