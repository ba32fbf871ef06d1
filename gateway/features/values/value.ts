// Owns the text of single values: what a request may write for a column, and what PostgreSQL gets.

import { isDay } from './calendar.ts'
import type { Column } from './column.ts'

const BOUNDS: Record<string, readonly [bigint, bigint]> = {
  int2: [-32_768n, 32_767n],
  int4: [-2_147_483_648n, 2_147_483_647n],
  int8: [-9_223_372_036_854_775_808n, 9_223_372_036_854_775_807n],
}
const INTEGER = /^[-+]?\d{1,20}$/
const NUMBER = /^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?$/
/** Numbers that JSON has no word for, as PostgreSQL writes them. */
const NON_FINITE = /^(NaN|-?Infinity)$/
/** Days as PostgreSQL writes them: the year 10000 and later have more than four digits, and there are years before Christ. */
const DAY = /^(\d{4,7})-(\d{2})-(\d{2})( BC)?$/
const TIMESTAMP =
  /^(\d{4,6})-(\d{2})-(\d{2})[Tt ]([01]\d|2[0-3]):[0-5]\d(:([0-5]\d|60)(\.\d{1,9})?)?([Zz]|[-+]([01]\d|2[0-3]):?[0-5]\d)?( BC)?$/
const INFINITE_TIME = /^-?infinity$/
/** An offset from UTC other than zero. */
const OFFSET = /:.*[-+](?!00:?00( BC)?$)\d{2}:?\d{2}( BC)?$/
const UUID = /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i
/** Longest text of a number of floating point: a longer one is no measurement, and only costs the server time. */
const MAX_FLOAT_LENGTH = 100
/** Longest text that PostgreSQL writes for a numeric: 131,072 digits before the decimal point and 16,383 after it. */
const MAX_NUMERIC_LENGTH = 150_000

/** Returns true for the text of a number that is none in JSON. */
export const isNonFinite = (text: string) => NON_FINITE.test(text)

/** Returns the value for PostgreSQL, integers and UUIDs in canonical form; undefined if no row can hold it. */
export function parseValue(text: string, { kind, type }: Column): string | undefined {
  // PostgreSQL's text has no NUL.
  if (text.includes('\0')) return undefined
  switch (kind) {
    case 'integer': {
      if (!INTEGER.test(text)) return undefined
      const [least, most] = BOUNDS[type]!
      const value = BigInt(text.replace('+', ''))
      return value >= least && value <= most ? String(value) : undefined
    }
    case 'number':
      if (isNonFinite(text)) return text
      if (text.length > (type === 'numeric' ? MAX_NUMERIC_LENGTH : MAX_FLOAT_LENGTH)) return undefined
      if (!NUMBER.test(text)) return undefined
      return type === 'numeric' || Number.isFinite(Number(text)) ? text : undefined
    case 'boolean':
      return text === 'true' || text === 'false' ? text : undefined
    case 'date':
      return isDay(text, DAY) || INFINITE_TIME.test(text) ? text : undefined
    case 'timestamp':
      // In a timestamp without time zone, PostgreSQL would drop the offset and so store another time.
      if (type === 'timestamp' && OFFSET.test(text)) return undefined
      return isDay(text, TIMESTAMP) || isDay(text, DAY) || INFINITE_TIME.test(text) ? text : undefined
    case 'uuid':
      return UUID.test(text)
        ? text
            .toLowerCase()
            .replace(/-/g, '')
            .replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
        : undefined
    default:
      return text
  }
}

/** Returns the same for PostgreSQL's own text of a stored value, which can be one that no request may write. */
export const parseStored = (text: string, column: Column): string | undefined =>
  parseValue(text, column) ?? (STORED_FORMS[column.kind]?.test(text) ? text : undefined)

/** Texts that parseValue refuses but PostgreSQL can return, such as an offset from UTC in hours alone. */
const STORED_FORMS: Partial<Record<Column['kind'], RegExp>> = {
  boolean: /^[tf]$/,
  timestamp: /^[-\d :.+]{4,40}( BC)?$/,
}

/** Describes the values of a column: `expected` completes "must be …", `example` is such a value. */
export function describeValue({ kind, type }: Column): {
  readonly expected: string
  readonly example: string
} {
  switch (kind) {
    case 'integer': {
      const [least, most] = BOUNDS[type]!
      return { expected: `an integer from ${least} to ${most}`, example: '42' }
    }
    case 'number':
      return { expected: 'a number', example: '3.14' }
    case 'boolean':
      return { expected: 'true or false', example: 'true' }
    case 'date':
      return { expected: 'a date', example: '2024-02-29' }
    case 'timestamp':
      return {
        expected: type === 'timestamp' ? 'a date and time in UTC' : 'a date and time',
        example: '2024-02-29T12:00:00Z',
      }
    case 'uuid':
      return { expected: 'a UUID', example: '6f9619ff-8b86-4d01-b42d-00cf4fc964ff' }
    default:
      return { expected: 'text without a NUL character', example: 'text' }
  }
}
