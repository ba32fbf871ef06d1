// Owns JSON whose numbers keep their text if a JavaScript number would change them.

import { randomBytes } from 'node:crypto'

/** A number that is kept as its text, so that PostgreSQL and JSON output get every digit. */
export class ExactNumber {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
  get isInteger(): boolean {
    return INTEGER.test(this.text)
  }
  toString(): string {
    return this.text
  }
  /** Lets JSON.stringify write the text; see https://github.com/tc39/proposal-json-parse-with-source */
  toJSON(): unknown {
    return (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON(this.text)
  }
}

export type JsonObject = Readonly<Record<string, unknown>>

/** Returns true for an object of JSON, which is not null, a list, or a number that is kept as its text. */
export const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof ExactNumber)

const INTEGER = /^-?\d+$/
/** A number of JSON. */
const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?$/
/** Any decimal number of up to this many digits fits into a JavaScript number. */
const SAFE_DIGITS = 15
const MANY_DIGITS = /\d[\d.]{15,}|[eE][-+]?\d{3}/
const LONG_INTEGER = /\d{16,}/

/** Returns true if JSON may have a number that a JavaScript number would change; it looks at no more than its digits. */
export const mayLoseDigits = (text: string) => MANY_DIGITS.test(text)

type Keep = 'integers' | 'all'

/** The text of more numbers would have to be kept than is allowed. */
export class TooManyNumbers extends Error {}

/**
 * Parses JSON.
 * @param keep 'integers' keeps the text of integers beyond 2^53; 'all' also that of decimals with too many digits
 * @param most numbers whose text is kept; each takes some microseconds, in which the process does nothing else
 * @throws SyntaxError
 * @throws TooManyNumbers
 */
export function parseExactJson(
  text: string,
  keep: Keep = 'integers',
  most = Number.POSITIVE_INFINITY,
): unknown {
  if (!(keep === 'all' ? MANY_DIGITS : LONG_INTEGER).test(text)) return JSON.parse(text)
  // A reviver would be called for every value, which takes seconds for a page or body of some megabytes.
  const marked = markNumbers(text, keep, most)
  if (marked === text) return JSON.parse(text)
  let value: unknown
  try {
    value = JSON.parse(marked)
  } catch {
    // The message is about the text as it was sent.
    return JSON.parse(text)
  }
  return restoreNumbers(value)
}

/** Begins a text that stands for a number. No client knows it, so no text in the data begins with it. */
const MARK = randomBytes(12).toString('base64url')

const [QUOTE, BACKSLASH, MINUS, PLUS, DOT, SMALL_E, LARGE_E, COLON, ZERO, NINE, SPACE] = [
  ...'"\\-+.eE:09 ',
].map((character) => character.charCodeAt(0)) as number[] as CodeList
type CodeList = [number, number, number, number, number, number, number, number, number, number, number]

/** Returns JSON in which each number that JavaScript would change is a text that begins with MARK. */
function markNumbers(text: string, keep: Keep, most: number): string {
  const parts: string[] = []
  let copied = 0
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index)
    if (code === QUOTE) index = endOfString(text, index)
    else if (code === MINUS || isDigit(code)) {
      const start = index
      let isShort = true
      for (; isOfNumber(text.charCodeAt(index)); index++)
        if (index - start >= SAFE_DIGITS || isExponent(text.charCodeAt(index))) isShort = false
      const source = isShort ? '' : text.slice(start, index)
      // A number in the place of a name stays what it is: a fault.
      if (!isShort && isChanged(source, keep) && !isBeforeColon(text, index)) {
        if (parts.length >= 2 * most) throw new TooManyNumbers()
        parts.push(text.slice(copied, start), `"${MARK}${source}"`)
        copied = index
      }
      index--
    }
  }
  return copied === 0 ? text : parts.join('') + text.slice(copied)
}

/** Returns the index of the quote that ends a string of JSON; the end of the text if none does. */
function endOfString(text: string, start: number): number {
  let index = start + 1
  for (; index < text.length && text.charCodeAt(index) !== QUOTE; index++)
    if (text.charCodeAt(index) === BACKSLASH) index++
  return index
}

const isDigit = (code: number) => code >= ZERO && code <= NINE
const isExponent = (code: number) => code === SMALL_E || code === LARGE_E
const isOfNumber = (code: number) =>
  isDigit(code) || isExponent(code) || code === MINUS || code === PLUS || code === DOT

function isBeforeColon(text: string, from: number): boolean {
  let index = from
  while (text.charCodeAt(index) <= SPACE) index++
  return text.charCodeAt(index) === COLON
}

/** Returns true for a number whose text JavaScript would change. */
function isChanged(source: string, keep: Keep): boolean {
  const value = Number(source)
  // Most programs write the fewest digits that lead back to the same double, as JavaScript does.
  if (String(value) === source || !NUMBER.test(source)) return false
  if (INTEGER.test(source)) return !Number.isSafeInteger(value)
  return keep === 'all' && !(Number.isFinite(value) && isSurelyWithinDouble(source, value))
}

/** Returns true if a JavaScript number surely has all digits of a decimal, and is neither infinite nor zero instead. */
function isSurelyWithinDouble(source: string, value: number): boolean {
  const digits = significantDigits(source)
  return digits <= SAFE_DIGITS && Number.isFinite(value) && (value !== 0 || digits === 0)
}

/** Puts numbers, kept as their text, where texts with a MARK are, also within lists and objects. */
function restoreNumbers(value: unknown): unknown {
  if (typeof value === 'string')
    return value.startsWith(MARK) ? new ExactNumber(value.slice(MARK.length)) : value
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index++)
      if (mayHoldNumber(value[index])) value[index] = restoreNumbers(value[index])
  } else if (typeof value === 'object' && value !== null) {
    const members = value as Record<string, unknown>
    for (const name of Object.keys(members))
      if (mayHoldNumber(members[name])) members[name] = restoreNumbers(members[name])
  }
  return value
}

const mayHoldNumber = (member: unknown) => typeof member === 'string' || typeof member === 'object'

/** Returns true if a JavaScript number has all digits of a decimal number: it is written with the same ones again. */
export function isWithinDouble(source: string): boolean {
  const value = Number(source)
  return isSurelyWithinDouble(source, value) || normalize(source) === normalize(String(value))
}

/** Returns the digits of a number without zeros around them, and its exponent; other texts stay. */
function normalize(number: string): string {
  const [, sign, whole, fraction = '', exponent = '0'] =
    /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([-+]?\d+))?$/.exec(number) ?? []
  if (whole === undefined) return number
  const digits = (whole + fraction).replace(/^0+/, '')
  const shown = trimZeros(digits)
  return `${sign}${shown}e${Number(exponent) - fraction.length + digits.length - shown.length}`
}

function trimZeros(digits: string): string {
  // A loop, because a pattern for trailing zeros takes quadratic time if there are many zeros inside.
  let end = digits.length
  while (digits[end - 1] === '0') end--
  return digits.slice(0, end)
}

function significantDigits(source: string): number {
  const digits = source.replace(/[eE].*$/, '').replace(/[-.]/g, '')
  return trimZeros(digits.replace(/^0+/, '')).length
}

const [OPEN_BRACE, OPEN_BRACKET, CLOSE_BRACE, CLOSE_BRACKET] = [...'{[}]'].map((character) =>
  character.charCodeAt(0),
)

/** Returns how deep brackets of a JSON text nest outside of its strings, and how many names of members there are. */
export function outlineOf(text: string): { readonly depth: number; readonly names: number } {
  let depth = 0
  let deepest = 0
  let names = 0
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index)
    if (code === QUOTE) index = endOfString(text, index)
    else if (code === OPEN_BRACE || code === OPEN_BRACKET) {
      if (++depth > deepest) deepest = depth
    } else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) depth--
    else if (code === COLON) names++
  }
  return { depth: deepest, names }
}

/** Deepest nesting of brackets, more than any feature needs: each geometry collection in another takes two levels. */
const MAX_DEPTH = 100
/** Most names of members in a JSON text, all objects together, because each takes up to three microseconds to parse. */
const MAX_NAMES = 100_000

/** Returns why a JSON text that a client has sent must not be parsed, completing "The body …"; undefined if it may. */
export function describeExcess(text: string): string | undefined {
  const { depth, names } = outlineOf(text)
  if (depth > MAX_DEPTH) return `nests more than ${MAX_DEPTH} deep`
  if (names > MAX_NAMES) return `has more than ${MAX_NAMES} names of members`
  return undefined
}
