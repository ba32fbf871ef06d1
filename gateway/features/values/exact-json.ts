// Owns JSON whose numbers keep their text if a JavaScript number would change them.

/** A number that is kept as its text, so that PostgreSQL and JSON output get every digit. */
export class ExactNumber {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
  get isInteger(): boolean {
    return INTEGER.test(this.text)
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
/** Any decimal number of up to this many digits fits into a JavaScript number. */
const SAFE_DIGITS = 15
const MANY_DIGITS = /\d[\d.]{15,}|[eE]\+?\d{3}/
const LONG_INTEGER = /\d{16,}/

type Keep = 'integers' | 'all'

/**
 * Parses JSON.
 * @param keep 'integers' keeps the text of integers beyond 2^53; 'all' also that of decimals with too many digits
 * @throws SyntaxError
 */
export function parseExactJson(text: string, keep: Keep = 'integers'): unknown {
  // A reviver makes parsing many times slower, and such numbers are rare.
  if (!(keep === 'all' ? MANY_DIGITS : LONG_INTEGER).test(text)) return JSON.parse(text)
  return JSON.parse(text, (_name, value, context?: { source?: string }) => {
    const source = context?.source
    if (typeof value !== 'number' || source === undefined) return value
    const isChanged = INTEGER.test(source)
      ? !Number.isSafeInteger(value)
      : keep === 'all' && (significantDigits(source) > SAFE_DIGITS || !Number.isFinite(value))
    return isChanged ? new ExactNumber(source) : value
  })
}

function significantDigits(source: string): number {
  const digits = source.replace(/[eE].*$/, '').replace(/[-.]/g, '')
  // Loops, because a pattern for trailing zeros takes quadratic time if there are many zeros inside.
  let [start, end] = [0, digits.length]
  while (digits[start] === '0') start++
  while (end > start && digits[end - 1] === '0') end--
  return end - start
}
