// Owns the types of columns that an import makes: inferred from values, and each value's text for COPY.

import { ExactNumber } from '../values/exact-json.ts'
import { isDay } from '../values/value.ts'

export const COLUMN_TYPES = [
  'integer',
  'bigint',
  'double precision',
  'boolean',
  'text',
  'date',
  'timestamptz',
  'jsonb',
] as const
export type ColumnType = (typeof COLUMN_TYPES)[number]

/** `double` and `int` are what people type. */
const ALIASES: Record<string, ColumnType> = {
  int: 'integer',
  int4: 'integer',
  int8: 'bigint',
  double: 'double precision',
  float: 'double precision',
  bool: 'boolean',
  string: 'text',
  timestamp: 'timestamptz',
  json: 'jsonb',
}

export const parseColumnType = (name: string): ColumnType | undefined =>
  ALIASES[name] ?? COLUMN_TYPES.find((type) => type === name)

const INTEGER = /^-?(0|[1-9]\d{0,17})$/
const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?$/
const DATE = /^(\d{4})-(\d{2})-(\d{2})$/
const TIMESTAMP =
  /^(\d{4})-(\d{2})-(\d{2})[T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,9})?)?(Z|[-+]\d{2}(:?\d{2})?)?$/
const LONG_DIGITS = /^-?\d{19,}$/
const INT4_MAX = 2_147_483_647

const INT8_MAX = 9_223_372_036_854_775_807n
const isInt8 = (text: string) => {
  const value = BigInt(text)
  return value <= INT8_MAX && value >= -INT8_MAX - 1n
}

/** What the values of one column have in common so far. */
export class ColumnObserver {
  /** Values other than null that were seen. */
  count = 0
  #isInteger = true
  #isSmall = true
  #isNumber = true
  #isBoolean = true
  #isDate = true
  #isTimestamp = true
  #isJson = true
  readonly #hasTypes: boolean

  /** @param hasTypes whether the source tells 5 from "5": JSON does, CSV does not */
  constructor(hasTypes: boolean) {
    this.#hasTypes = hasTypes
  }

  observe(value: unknown) {
    this.count++
    if (typeof value === 'string') {
      this.#isJson = false
      if (this.#hasTypes) this.#isNumber = this.#isInteger = this.#isBoolean = false
      else this.#observeUntyped(value)
      if (this.#isDate) this.#isDate = isDay(value, DATE)
      if (this.#isTimestamp) this.#isTimestamp = isDay(value, TIMESTAMP) || isDay(value, DATE)
      return
    }
    this.#isDate = this.#isTimestamp = false
    if (value instanceof ExactNumber) {
      this.#isSmall = this.#isJson = this.#isBoolean = false
      if (!isInt8(value.text)) this.#isInteger = this.#isNumber = false
      return
    }
    if (typeof value !== 'number') this.#isNumber = this.#isInteger = false
    else {
      if (!Number.isSafeInteger(value)) this.#isInteger = false
      if (Math.abs(value) > INT4_MAX) this.#isSmall = false
    }
    if (typeof value !== 'boolean') this.#isBoolean = false
    if (typeof value !== 'object') this.#isJson = false
  }

  #observeUntyped(text: string) {
    if (this.#isInteger) this.#isInteger = INTEGER.test(text)
    if (this.#isInteger && Math.abs(Number(text)) > INT4_MAX) this.#isSmall = false
    // More digits than a double keeps are an identifier, not a measurement.
    if (this.#isNumber) this.#isNumber = NUMBER.test(text) && !LONG_DIGITS.test(text)
    if (this.#isBoolean) this.#isBoolean = text === 'true' || text === 'false'
  }

  get type(): ColumnType {
    if (this.count === 0) return 'text'
    if (this.#isBoolean) return 'boolean'
    if (this.#isInteger) return this.#isSmall ? 'integer' : 'bigint'
    if (this.#isNumber) return 'double precision'
    if (this.#isJson) return 'jsonb'
    if (this.#isDate) return 'date'
    if (this.#isTimestamp) return 'timestamptz'
    return 'text'
  }
}

const NEEDS_ESCAPE = /[\\\t\n\r]/
const ESCAPES: Record<string, string> = { '\\': '\\\\', '\t': '\\t', '\n': '\\n', '\r': '\\r' }
export const NULL_TEXT = '\\N'

/**
 * A value as COPY's text format wants it: the same for every type that the column may turn out to have.
 * @returns undefined where PostgreSQL cannot store it: NUL, or half a surrogate pair
 */
export function copyTextOf(value: unknown, type: ColumnType | undefined): string | undefined {
  if (value === null || value === undefined) return NULL_TEXT
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  if (value instanceof ExactNumber) return value.text
  const text = typeof value === 'string' && type !== 'jsonb' ? value : JSON.stringify(value)
  if (text.includes('\0') || !text.isWellFormed() || (typeof value === 'object' && text.includes('\\u0000')))
    return undefined
  return NEEDS_ESCAPE.test(text) ? text.replace(/[\\\t\n\r]/g, (character) => ESCAPES[character]!) : text
}
