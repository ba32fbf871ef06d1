// Owns the tokens of CQL2 text.

import { IDENTIFIER, MAX_NUMBER_LENGTH, type NumberLiteral } from './expression.ts'
import { filterFault, positionIn } from './fault.ts'
import { parseNumber } from './number.ts'

export type Token = {
  readonly kind: 'name' | 'quoted' | 'string' | 'number' | 'symbol' | 'end'
  /** A name as it is written, the content of quotes, or a symbol. */
  readonly text: string
  /** A name in lower case, by which words are known, or a symbol; empty for everything else. */
  readonly word: string
  readonly number?: NumberLiteral
  readonly start: number
  readonly end: number
}

/** White space of the standard's grammar. */
const SPACE = /[\t-\r \u0085\u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000]*/y
const NAME = new RegExp(IDENTIFIER, 'uy')
const NUMBER = /(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?/y
const SYMBOL = /<>|<=|>=|[=<>()+\-*/%^,]/y

const QUOTE = "'"
/** Control characters by the letter that follows a backslash (/req/cql2-text/escaping). */
const ESCAPES: Readonly<Record<string, string>> = {
  a: '\x07',
  b: '\b',
  t: '\t',
  n: '\n',
  v: '\v',
  f: '\f',
  r: '\r',
  "'": "'",
  '\\': '\\',
}

/** Reads the token that begins at or after the offset. @throws GatewayError */
export function readToken(source: string, offset: number): Token {
  const start = offset + matchAt(SPACE, source, offset)!.length
  if (start >= source.length) return { kind: 'end', text: '', word: '', start, end: start }
  const first = source[start]!
  if (first === QUOTE) return readString(source, start)
  if (first === '"') return readQuoted(source, start)
  // Symbols and numbers are tried first: most tokens are short, and the pattern of names is the slowest.
  const symbol = matchAt(SYMBOL, source, start)
  if (symbol !== undefined)
    return { kind: 'symbol', text: symbol, word: symbol, start, end: start + symbol.length }
  const number = matchAt(NUMBER, source, start)
  if (number !== undefined) return readNumber(source, start, number)
  const name = matchAt(NAME, source, start)
  if (name !== undefined)
    return { kind: 'name', text: name, word: name.toLowerCase(), start, end: start + name.length }
  const character = String.fromCodePoint(source.codePointAt(start)!)
  throw filterFault(
    positionIn(source, start),
    `${JSON.stringify(character)} cannot stand here; texts are in single quotes, names of properties in double quotes`,
  )
}

function matchAt(pattern: RegExp, source: string, offset: number): string | undefined {
  pattern.lastIndex = offset
  return pattern.exec(source)?.[0]
}

function readNumber(source: string, start: number, text: string): Token {
  const number = text.length > MAX_NUMBER_LENGTH ? undefined : parseNumber(text)
  if (number !== undefined) return { kind: 'number', text, word: '', number, start, end: start + text.length }
  throw filterFault(
    positionIn(source, start),
    `expected a number of at most ${MAX_NUMBER_LENGTH} characters and an exponent of at most three digits`,
  )
}

function readString(source: string, start: number): Token {
  let text = ''
  let from = start + 1
  for (let index = from; index < source.length; index++) {
    const character = source[index]
    const next = source[index + 1]
    if (character === '\\' && next !== undefined && next in ESCAPES) {
      text += source.slice(from, index) + ESCAPES[next]
      from = ++index + 1
    } else if (character === QUOTE && next === QUOTE) {
      text += source.slice(from, ++index)
      from = index + 1
    } else if (character === QUOTE)
      return { kind: 'string', text: text + source.slice(from, index), word: '', start, end: index + 1 }
  }
  throw filterFault(positionIn(source, start), "the text that begins here has no closing '")
}

function readQuoted(source: string, start: number): Token {
  let text = ''
  let from = start + 1
  for (;;) {
    const quote = source.indexOf('"', from)
    if (quote < 0) throw filterFault(positionIn(source, start), 'the name that begins here has no closing "')
    text += source.slice(from, quote)
    from = quote + 1
    if (source[from] !== '"') return { kind: 'quoted', text, word: '', start, end: from }
    text += '"'
    from++
  }
}
