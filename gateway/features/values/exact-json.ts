// Owns JSON whose numbers stay what was written, where a JavaScript number would change them.

/** A number as the text it was: it goes to PostgreSQL, and into JSON, digit by digit. */
export class ExactNumber {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
  get isInteger(): boolean {
    return INTEGER.test(this.text)
  }
  /** For JSON.stringify; see https://github.com/tc39/proposal-json-parse-with-source */
  toJSON(): unknown {
    return (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON(this.text)
  }
}

export type JsonObject = Readonly<Record<string, unknown>>

/** JSON's own objects: neither null, nor a list, nor a number that is kept as its text. */
export const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof ExactNumber)

const INTEGER = /^-?\d+$/
/** Fewer digits than this fit into a JavaScript number, whatever they are. */
const SAFE_DIGITS = 15
const MANY_DIGITS = /\d[\d.]{15,}|[eE]\+?\d{3}/
const LONG_INTEGER = /\d{16,}/

type Keep = 'integers' | 'all'

/**
 * @param keep 'integers' for those beyond 2^53 alone; 'all' for decimals of more digits than a number has too
 * @throws SyntaxError
 */
export function parseExactJson(text: string, keep: Keep = 'integers'): unknown {
  // The reviver makes it many times slower, and such numbers are rare.
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
  // By hand: a pattern for zeros at the end takes the square of the time where there are many within.
  let [start, end] = [0, digits.length]
  while (digits[start] === '0') start++
  while (end > start && digits[end - 1] === '0') end--
  return end - start
}
