// Owns the numbers of filters: JavaScript's where these hold every digit, else their text.

import { ExactNumber, parseExactJson } from '../values/exact-json.ts'
import { MAX_NUMBER_LENGTH, type NumberLiteral } from './expression.ts'

const SHORT_INTEGER = /^\d{1,15}$/
const PARTS = /^(-?)0*(\d*)\.?(\d*)(?:[eE]([-+]?\d+))?$/
/** An exponent of more digits is beyond every type of PostgreSQL. */
const MAX_EXPONENT_DIGITS = 3

/** Parses a number of CQL2 text or JSON; returns undefined if it is out of bounds. */
export function parseNumber(text: string): NumberLiteral | undefined {
  if (SHORT_INTEGER.test(text)) return Number(text)
  if (text.length > MAX_NUMBER_LENGTH) return undefined
  const [, sign, whole, fraction, exponent] = PARTS.exec(text)!
  if (exponent && exponent.replace(/^[-+]?0*/, '').length > MAX_EXPONENT_DIGITS) return undefined
  const value = parseExactJson(
    `${sign}${whole || '0'}${fraction ? `.${fraction}` : ''}${exponent ? `e${exponent}` : ''}`,
    'all',
  ) as NumberLiteral
  return value === 0 ? 0 : value
}

/** Returns the number with its sign changed. */
export const negate = (value: NumberLiteral): NumberLiteral => {
  if (typeof value === 'number') return value === 0 ? 0 : -value
  return new ExactNumber(value.text.startsWith('-') ? value.text.slice(1) : `-${value.text}`)
}

/** Returns the text of a number for PostgreSQL. */
export const textOfNumber = (value: NumberLiteral) => (typeof value === 'number' ? String(value) : value.text)
