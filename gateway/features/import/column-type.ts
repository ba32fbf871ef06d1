// Owns the types of the columns that an import creates: their inference from values, and the text of values for COPY.

import { isDay } from '../values/calendar.ts'
import { ExactNumber, isWithinDouble } from '../values/exact-json.ts'

export const COLUMN_TYPES = [
  'smallint',
  'integer',
  'bigint',
  'real',
  'double precision',
  'numeric',
  'boolean',
  'text',
  'uuid',
  'date',
  'time',
  'timestamptz',
  'bytea',
  'jsonb',
] as const
export type ColumnType = (typeof COLUMN_TYPES)[number]

/** Short names, which people type. */
const ALIASES: ReadonlyMap<string, ColumnType> = new Map([
  ['int2', 'smallint'],
  ['int', 'integer'],
  ['int4', 'integer'],
  ['int8', 'bigint'],
  ['double', 'double precision'],
  ['float', 'double precision'],
  ['decimal', 'numeric'],
  ['bool', 'boolean'],
  ['string', 'text'],
  ['timestamp', 'timestamptz'],
  ['json', 'jsonb'],
])

export const parseColumnType = (name: string): ColumnType | undefined =>
  ALIASES.get(name) ?? COLUMN_TYPES.find((type) => type === name)

const INTEGER = /^-?(0|[1-9]\d{0,17})$/
const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?$/
const TIMESTAMP =
  /^(\d{4})-(\d{2})-(\d{2})[T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,9})?)?(Z|[-+]\d{2}(:?\d{2})?)?$/
const COMMA_NUMBER = /^-?(0|[1-9]\d*)(,\d+)?$/
const LONG_DIGITS = /^-?\d{19,}$/
const INT4_MAX = 2_147_483_647

const INT2_MAX = 32_767
const INT8_MAX = 9_223_372_036_854_775_807n
const isInt8 = (text: string) => {
  if (text.length > 20 || !/^-?\d+$/.test(text)) return false
  const value = BigInt(text)
  return value <= INT8_MAX && value >= -INT8_MAX - 1n
}

const CLOCK = /^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,9})?)?$/
const UUID = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i
const BYTES = /^\\x([\da-f]{2})*$/i
const isIntegerTo = (value: unknown, most: number) =>
  typeof value === 'number' && Number.isSafeInteger(value) && value <= most && value >= -most - 1
const isText = (value: unknown, test: (text: string) => boolean) => typeof value === 'string' && test(value)

/** Returns whether a value of JSON, not null, is one of a type, so that a column of it keeps the value as it is. */
const IS_OF_TYPE: Readonly<Record<ColumnType, (value: unknown) => boolean>> = {
  smallint: (value) => isIntegerTo(value, INT2_MAX),
  integer: (value) => isIntegerTo(value, INT4_MAX),
  bigint: (value) =>
    value instanceof ExactNumber ? isInt8(value.text) : typeof value === 'number' && isBigint(value),
  real: (value) => typeof value === 'number' && isWithinReal(value),
  'double precision': (value) =>
    value instanceof ExactNumber ? isWithinDouble(value.text) : typeof value === 'number',
  numeric: (value) => typeof value === 'number' || value instanceof ExactNumber,
  boolean: (value) => typeof value === 'boolean',
  text: (value) => typeof value === 'string',
  uuid: (value) => isText(value, (text) => UUID.test(text)),
  date: (value) => isText(value, isDay),
  time: (value) => isText(value, (text) => CLOCK.test(text)),
  timestamptz: (value) => isText(value, (text) => isDay(text, TIMESTAMP) || isDay(text)),
  bytea: (value) => isText(value, (text) => BYTES.test(text)),
  jsonb: () => true,
}

/** Real numbers have a smaller range; PostgreSQL refuses what would be 0 in it, too. */
const isWithinReal = (value: number) =>
  Number.isFinite(Math.fround(value)) && (Math.fround(value) !== 0 || value === 0)

export const isOfType = (value: unknown, type: ColumnType) => IS_OF_TYPE[type](value)

/** Beyond 2^53 a number is one that JavaScript has exactly: others are kept as their text. */
const isBigint = (value: number) =>
  Number.isSafeInteger(value) || (Number.isInteger(value) && isInt8(String(value)))

/** True for a type whose numbers can have decimals. */
export const isFractional = (type: ColumnType) => ['real', 'double precision', 'numeric'].includes(type)

/** Returns the number that a text with a decimal comma means, for example 10.5 for 10,5. */
export const withDecimalPoint = (text: string) => text.replace(',', '.')

/** Infers the type of one column from its values. */
export class ColumnObserver {
  /** Number of values that were observed; the caller leaves out null. */
  count = 0
  #isInteger = true
  #isSmall = true
  #isNumber = true
  /** True if a double has every digit of all values. */
  #isDouble = true
  #isCommaNumber: boolean
  /** The first value with a decimal comma. */
  #commaExample: string | undefined
  #isBoolean = true
  #isDate = true
  #isTimestamp = true
  #isJson = true
  readonly #hasTypes: boolean

  /**
   * @param hasTypes true if the source distinguishes 5 from "5", as JSON does and CSV does not
   * @param hasDecimalCommas true if 10,5 may be a number
   */
  constructor(hasTypes: boolean, hasDecimalCommas = false) {
    this.#hasTypes = hasTypes
    this.#isCommaNumber = hasDecimalCommas
  }

  observe(value: unknown) {
    this.count++
    if (typeof value === 'string') {
      this.#isJson = false
      if (this.#hasTypes) this.#isNumber = this.#isInteger = this.#isBoolean = this.#isCommaNumber = false
      else this.#observeUntyped(value)
      if (this.#isDate) this.#isDate = isDay(value)
      if (this.#isTimestamp) this.#isTimestamp = isDay(value, TIMESTAMP) || isDay(value)
      return
    }
    this.#isDate = this.#isTimestamp = false
    if (value instanceof ExactNumber) {
      this.#isSmall = this.#isJson = this.#isBoolean = false
      if (!isInt8(value.text)) this.#isInteger = false
      if (!isWithinDouble(value.text)) this.#isDouble = false
      return
    }
    if (typeof value !== 'number') this.#isNumber = this.#isInteger = false
    else {
      if (!isBigint(value)) this.#isInteger = false
      if (Math.abs(value) > INT4_MAX) this.#isSmall = false
    }
    if (typeof value !== 'boolean') this.#isBoolean = false
    if (typeof value !== 'object') this.#isJson = false
  }

  #observeUntyped(text: string) {
    if (this.#isInteger) this.#isInteger = INTEGER.test(text)
    if (this.#isInteger && Math.abs(Number(text)) > INT4_MAX) this.#isSmall = false
    // A number with more digits than a double can hold is an identifier, and not a measurement.
    if (this.#isNumber) this.#isNumber = NUMBER.test(text) && !LONG_DIGITS.test(text) && !isHuge(text)
    if (this.#isCommaNumber) this.#isCommaNumber = COMMA_NUMBER.test(text) && !LONG_DIGITS.test(text)
    if (this.#isCommaNumber && text.includes(',')) this.#commaExample ??= text
    if (this.#isDouble && (this.#isNumber || this.#isCommaNumber))
      this.#isDouble = isWithinDouble(withDecimalPoint(text))
    if (this.#isBoolean) this.#isBoolean = text === 'true' || text === 'false'
  }

  /** A value that shows that the numbers of the column have decimal commas; undefined if they have none. */
  get commaExample(): string | undefined {
    return this.#hasCommaNumbers ? this.#commaExample : undefined
  }

  get #hasCommaNumbers() {
    return this.#isCommaNumber && this.#commaExample !== undefined
  }

  /** The narrowest type that fits all values so far; text if there are none. */
  get type(): ColumnType {
    if (this.count === 0) return 'text'
    if (this.#isBoolean) return 'boolean'
    if (this.#isInteger) return this.#isSmall ? 'integer' : 'bigint'
    if (this.#isNumber || this.#hasCommaNumbers) return this.#isDouble ? 'double precision' : 'numeric'
    if (this.#isJson) return 'jsonb'
    if (this.#isDate) return 'date'
    if (this.#isTimestamp) return 'timestamptz'
    return 'text'
  }
}

/** Largest exponent of a number: a larger one is no measurement, and PostgreSQL would write out every digit. */
const MAX_EXPONENT = 400

/** Digits of the longest number: PostgreSQL has 131,072 before the point, but no measurement needs them. */
const MAX_DIGITS = 1_000

/** Returns true if a number is too large, too small or too long to be stored. */
const isHuge = (text: string) =>
  text.length > MAX_DIGITS || Math.abs(Number(/[eE](.*)$/.exec(text)?.[1] ?? 0)) > MAX_EXPONENT

/** Returns the text of a number that cannot be stored, if the value is or contains one. */
export function findHugeNumber(value: unknown): string | undefined {
  if (value instanceof ExactNumber) return isHuge(value.text) ? value.text : undefined
  if (typeof value !== 'object' || value === null) return undefined
  for (const part of Object.values(value)) {
    const found = findHugeNumber(part)
    if (found !== undefined) return found
  }
  return undefined
}

const NEEDS_ESCAPE = /[\\\t\n\r]/
const ESCAPES: Record<string, string> = { '\\': '\\\\', '\t': '\\t', '\n': '\\n', '\r': '\\r' }
export const NULL_TEXT = '\\N'

/**
 * Returns the text of a value, which is the same for every type that may be inferred for its column later.
 * @param type of the column if it is known in advance: in a column of jsonb, a string needs its quotes
 * @param hasTypes false if the source has only text: in a column of jsonb, it is JSON already
 * @returns null for no value; undefined if PostgreSQL cannot store it, because it contains NUL or half a surrogate pair
 */
export function textOfValue(
  value: unknown,
  type: ColumnType | undefined,
  hasTypes: boolean,
): string | null | undefined {
  if (value === null || value === undefined) return null
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  if (value instanceof ExactNumber) return value.text
  const isJson = typeof value === 'object' || type === 'jsonb'
  const text = typeof value === 'string' && !(isJson && hasTypes) ? value : JSON.stringify(value)
  return isStorable(text) && !(isJson && text.includes('\\u') && !isStorable(decodeEscapes(text)))
    ? text
    : undefined
}

/** Writes a value in COPY's text format; see textOfValue. */
export function copyTextOf(
  value: unknown,
  type: ColumnType | undefined,
  hasTypes: boolean,
): string | undefined {
  const text = textOfValue(value, type, hasTypes)
  if (text === null) return NULL_TEXT
  return text !== undefined && NEEDS_ESCAPE.test(text)
    ? text.replace(/[\\\t\n\r]/g, (character) => ESCAPES[character]!)
    : text
}

const isStorable = (text: string) => !text.includes('\0') && text.isWellFormed()

/** Returns JSON with the characters of its `\u` escapes, and a space for each other escape. */
const decodeEscapes = (json: string) =>
  json.replace(/\\(?:u([\da-f]{4})|.)/gi, (_escape, code?: string) =>
    code === undefined ? ' ' : String.fromCharCode(Number.parseInt(code, 16)),
  )
