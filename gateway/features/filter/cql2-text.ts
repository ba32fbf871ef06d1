// Owns the reader of CQL2 text (OGC 21-065r2, annex B): text → tree. A parser by precedence, which reads each character
// once.

import { quoted } from '../../errors.ts'
import {
  type Coordinates,
  type Expression,
  type GeometryCollection,
  type GeometryLiteral,
  type IntervalBound,
  isNumber,
  KEYWORDS,
  MAX_DEPTH,
  MAX_LENGTH,
  MAX_OPERATIONS,
  NAMED_OPERATORS,
  type NumberLiteral,
  OPERANDS,
  parseDate,
  parseTimestamp,
  type SimpleGeometry,
  WKT_TYPES,
} from './expression.ts'
import { filterFault, type Locate, makeOrFault, positionIn, tooLarge } from './fault.ts'
import { makeBbox, makeCollection, makeGeometry } from './geometry-literal.ts'
import { negate } from './number.ts'
import { readToken, type Token } from './token.ts'

export type Parsed = { readonly expression: Expression; readonly locate: Locate }

/** How strongly operators bind their operands; a prefix NOT binds less than a comparison. */
export const POWERS: Readonly<Record<string, number>> = {
  or: 1,
  and: 2,
  not: 3,
  '=': 4,
  '<>': 4,
  '<': 4,
  '>': 4,
  '<=': 4,
  '>=': 4,
  like: 4,
  ilike: 4,
  between: 4,
  in: 4,
  is: 4,
  '+': 5,
  '-': 5,
  '*': 6,
  '/': 6,
  '%': 6,
  div: 6,
  '^': 7,
}
const COMPARISON_POWER = 4
const ARITHMETIC_POWER = 5
const POWER_POWER = 7

/** Parses a filter. @throws GatewayError with a position */
export function parseText(source: string): Parsed {
  if (source.length > MAX_LENGTH) throw tooLarge(`at most ${MAX_LENGTH} characters`)
  let token = readToken(source, 0)
  let nesting = 0
  let operations = 0
  /** The offsets at which each operation and its operands begin. */
  const starts = new WeakMap<object, readonly number[]>()
  /** How deep operations nest in each. */
  const depths = new WeakMap<object, number>()

  const faultAt = (start: number, reason: string) => filterFault(positionIn(source, start), reason)
  const checked = <T>(start: number, make: () => T): T =>
    makeOrFault(make, (reason) => faultAt(start, reason))
  const found = ({ kind, text }: Token) => (kind === 'end' ? 'the filter ends' : `found ${quoted(text)}`)
  const expected = (what: string) => faultAt(token.start, `expected ${what}, but ${found(token)}`)
  const advance = (): Token => {
    const read = token
    token = readToken(source, token.end)
    return read
  }
  const isNext = (word: string) => token.word === word
  const accept = (word: string) => isNext(word) && advance() !== undefined
  const expect = (word: string): Token => {
    if (!isNext(word)) throw expected(`"${word.toUpperCase()}"`)
    return advance()
  }

  function nested<T>(read: () => T): T {
    if (++nesting > MAX_DEPTH) throw tooDeep(token.start)
    const result = read()
    nesting--
    return result
  }
  const tooDeep = (start: number) => faultAt(start, `nests more than ${MAX_DEPTH} deep`)

  function make(op: string, args: readonly Expression[], start: number, operands: readonly number[]) {
    if (++operations > MAX_OPERATIONS) throw tooLarge(`at most ${MAX_OPERATIONS} operations`)
    const depth = 1 + args.reduce((deepest: number, arg) => Math.max(deepest, depthOf(arg)), 0)
    if (depth > MAX_DEPTH) throw tooDeep(start)
    const operation = { op, args }
    depths.set(operation, depth)
    starts.set(operation, [start, ...operands])
    return operation
  }
  const depthOf = (value: Expression) =>
    typeof value === 'object' && !isNumber(value) ? (depths.get(value) ?? 0) : 0

  function makeList(items: readonly Expression[]): readonly Expression[] {
    depths.set(
      items,
      items.reduce((deepest: number, item) => Math.max(deepest, depthOf(item)), 0),
    )
    return items
  }

  /** Reads an expression whose operators bind at least this strongly. */
  const parseExpression = (least: number): Expression =>
    nested(() => {
      const { start } = token
      return parseRest(parseOperand(), start, least)
    })

  /** Reads the operators that follow an operand, as long as they bind strongly enough. */
  function parseRest(first: Expression, start: number, least: number): Expression {
    let left = first
    for (;;) {
      const power = powerOf(token)
      if (power === undefined || power < least) return left
      if (power < COMPARISON_POWER) left = parseChain(left, start, power)
      else if (power === COMPARISON_POWER) {
        left = parseComparison(left, start)
        // Comparisons cannot be chained.
        if (powerOf(token) === COMPARISON_POWER) throw expected('AND, OR, a bracket or the end')
      } else {
        const op = advance().word
        const second = token.start
        left = make(op, [left, parseExpression(power + 1)], start, [start, second])
        if (power === POWER_POWER && isNext('^'))
          throw faultAt(token.start, 'put brackets around one of two powers that follow each other')
      }
    }
  }

  /** Reads `a AND b AND c`, which is one operation. */
  function parseChain(first: Expression, start: number, power: number): Expression {
    const { word } = token
    const args = [first]
    const operands = [start]
    while (accept(word)) {
      operands.push(token.start)
      args.push(parseExpression(power + 1))
    }
    return make(word, args, start, operands)
  }

  function parseComparison(left: Expression, start: number): Expression {
    const isNegated = token.word === 'not'
    if (isNegated) advance()
    if (isNegated && !['like', 'ilike', 'between', 'in'].includes(token.word))
      throw expected('LIKE, BETWEEN or IN')
    const { word } = advance()
    const within = (op: string, args: readonly Expression[], operands: readonly number[]) => {
      const operation = make(op, [left, ...args], start, [start, ...operands])
      return isNegated ? make('not', [operation], start, [start]) : operation
    }
    const second = token.start
    switch (word) {
      case 'is': {
        const isNot = accept('not')
        expect('null')
        const operation = make('isNull', [left], start, [start])
        return isNot ? make('not', [operation], start, [start]) : operation
      }
      case 'between': {
        const low = parseExpression(ARITHMETIC_POWER)
        expect('and')
        const third = token.start
        return within('between', [low, parseExpression(ARITHMETIC_POWER)], [second, third])
      }
      case 'in': {
        expect('(')
        const items = isNext(')') ? [] : parseItems(() => parseExpression(ARITHMETIC_POWER))
        expect(')')
        return within('in', [makeList(items)], [second])
      }
      // GDAL writes LIKE without regard to case in this way.
      case 'ilike': {
        const pattern = make('casei', [parseExpression(ARITHMETIC_POWER)], second, [second])
        const text = make('casei', [left], start, [start])
        const operation = make('like', [text, pattern], start, [start, second])
        return isNegated ? make('not', [operation], start, [start]) : operation
      }
      default:
        return within(word, [parseExpression(ARITHMETIC_POWER)], [second])
    }
  }

  function parseItems<T>(parse: () => T): T[] {
    const items = [parse()]
    while (accept(',')) items.push(parse())
    return items
  }

  function parseOperand(): Expression {
    const { kind, start, text, word } = token
    switch (kind) {
      case 'string':
        return advance().text
      case 'quoted':
        return { property: advance().text }
      case 'number':
        return advance().number!
      case 'name':
        return parseWord(start, text, word)
      default:
    }
    if (accept('-')) return parseNegative(start)
    if (accept('+')) {
      if (token.kind !== 'number') throw expected('a number')
      return advance().number!
    }
    if (isNext('(')) {
      const items = parseBracket(() => parseExpression(0))
      return items.length === 1 ? items[0]! : makeList(items)
    }
    throw expected('a property, a literal or a bracket')
  }

  /** Reads what follows a minus: -foo is the product of -1 and foo. */
  function parseNegative(start: number): Expression {
    if (token.kind === 'number') return negate(advance().number!)
    const second = token.start
    const operand = nested(parseOperand)
    return make('*', [-1, operand], start, [start, second])
  }

  function parseBracket<T>(parse: () => T): T[] {
    expect('(')
    const items = isNext(')') ? [] : parseItems(parse)
    if (!isNext(')')) throw expected('an operator, "," or ")"')
    advance()
    return items
  }

  function parseWord(start: number, text: string, word: string): Expression {
    if (word === 'not') {
      advance()
      const second = token.start
      return make('not', [parseExpression(POWERS.not!)], start, [second])
    }
    if (word === 'true' || word === 'false') return advance().word === 'true'
    if (KEYWORDS.has(word)) throw expected('a property, a literal or a bracket')
    advance()
    const type = WKT_TYPES.get(word)
    if (type && (isNext('(') || isNext('z'))) return parseGeometry(type, start)
    if (!isNext('(')) return { property: text }
    switch (word) {
      case 'date':
      case 'timestamp':
        return parseInstant(word)
      case 'interval':
        return parseInterval()
      case 'bbox': {
        const numbers = parseBracket(parseSigned)
        return checked(start, () => makeBbox(numbers))
      }
      default:
        return parseCall(NAMED_OPERATORS.get(word) ?? text, start)
    }
  }

  function parseCall(op: string, start: number): Expression {
    const operands: number[] = []
    const args = parseBracket(() => {
      operands.push(token.start)
      return op.startsWith('a_') && NAMED_OPERATORS.has(op.toLowerCase())
        ? parseElement()
        : parseExpression(0)
    })
    const [least, most] = OPERANDS.get(op) ?? [0, Number.POSITIVE_INFINITY]
    if (args.length < least || args.length > most)
      throw faultAt(start, `${op} takes ${least} operand${least === 1 ? '' : 's'}, and not ${args.length}`)
    return make(op, args, start, operands)
  }

  /**
   * Reads an operand of an array function, or an element of a list: brackets around all of it make a list, even around
   * a single element; those that an operator follows group.
   */
  const parseElement = (): Expression =>
    nested(() => {
      const { start } = token
      if (!isNext('(')) return parseRest(parseOperand(), start, 0)
      const items = parseBracket(parseElement)
      const isWhole = isNext(',') || isNext(')')
      if (items.length !== 1 || isWhole) return makeList(items)
      return parseRest(items[0]!, start, 0)
    })

  function parseInstant(word: 'date' | 'timestamp'): Expression {
    expect('(')
    const { kind, start, text } = token
    const value = kind === 'string' ? (word === 'date' ? parseDate(text) : parseTimestamp(text)) : undefined
    if (value === undefined)
      throw faultAt(
        start,
        word === 'date'
          ? "expected a date such as '2024-02-29'"
          : "expected a time in UTC such as '2024-02-29T12:00:00Z'",
      )
    advance()
    expect(')')
    return word === 'date' ? { date: value } : { timestamp: value }
  }

  function parseInterval(): Expression {
    const { start } = token
    const bounds = parseBracket((): IntervalBound => {
      if (token.kind === 'string') {
        const bound = parseBound(token.text)
        if (bound === undefined) throw expected(BOUND)
        advance()
        return bound
      }
      if (token.kind !== 'name' && token.kind !== 'quoted') throw expected(BOUND)
      const operand = nested(parseOperand)
      if (typeof operand === 'object' && ('property' in operand || 'op' in operand)) return operand
      throw faultAt(start, `expected ${BOUND}`)
    })
    if (bounds.length !== 2) throw faultAt(start, 'an interval has two bounds')
    const interval = { interval: bounds as [IntervalBound, IntervalBound] }
    depths.set(interval, Math.max(...bounds.map(depthOf)))
    return interval
  }

  function parseSigned(): number {
    const isNegative = accept('-')
    if (!isNegative) accept('+')
    if (token.kind !== 'number') throw expected('a number')
    const number = asDouble(advance().number!)
    return isNegative && number !== 0 ? -number : number
  }

  const parsePosition = (): number[] => {
    const position: number[] = []
    do position.push(parseSigned())
    while (token.kind === 'number' || isNext('-') || isNext('+'))
    return position
  }
  const parseLine = (): Coordinates => parseBracket(parsePosition)
  const parsePolygon = (): Coordinates => parseBracket(parseLine)
  const parsePoint = (): Coordinates => {
    expect('(')
    const position = parsePosition()
    expect(')')
    return position
  }
  const COORDINATES: Readonly<Record<SimpleGeometry['type'], () => Coordinates>> = {
    Point: parsePoint,
    LineString: parseLine,
    Polygon: parsePolygon,
    // Many programs leave out the brackets of its points, and so does annex A of the standard.
    MultiPoint: () => parseBracket(() => (isNext('(') ? parsePoint() : parsePosition())),
    MultiLineString: () => parseBracket(parseLine),
    MultiPolygon: () => parseBracket(parsePolygon),
  }

  function parseGeometry(type: GeometryLiteral['type'], start: number): GeometryLiteral {
    const hasHeights = accept('z')
    if (type === 'GeometryCollection') {
      const parts = parseBracket(() => {
        const name = token
        const part = WKT_TYPES.get(name.word)
        if (!part || part === 'GeometryCollection') throw expected('a geometry that is no collection')
        advance()
        return parseGeometry(part, name.start) as SimpleGeometry
      })
      return checked(start, (): GeometryCollection => makeCollection(parts, hasHeights))
    }
    const coordinates = COORDINATES[type]()
    return checked(start, () => makeGeometry(type, coordinates, hasHeights))
  }

  const expression = parseExpression(0)
  if (token.kind !== 'end') throw expected('an operator or the end')
  return {
    expression,
    locate(place) {
      const [start, ...operands] = (place && starts.get(place.operation)) ?? [0]
      return positionIn(source, operands[place?.operand ?? -1] ?? start!)
    },
  }
}

const BOUND = "a date, a time in UTC, '..' or a property"

/** Returns a bound of an interval that is no property; undefined if the text is none. */
export const parseBound = (text: string): string | undefined =>
  text === '..' ? text : (parseDate(text) ?? parseTimestamp(text))

const asDouble = (value: NumberLiteral) => (typeof value === 'number' ? value : Number(value.text))

/** Returns how strongly the operator of this token binds; undefined if it is none. */
const powerOf = ({ word }: Token): number | undefined =>
  word === 'not' ? COMPARISON_POWER : Object.hasOwn(POWERS, word) ? POWERS[word] : undefined
