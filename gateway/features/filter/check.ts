// Owns the check of a filter against a collection: properties exist, operands have the types that their operators take,
// and literals are values of their columns. Returns what the filter means.

import { GatewayError, listed, quoted } from '../../errors.ts'
import { ExactNumber } from '../values/exact-json.ts'
import { GeometryError } from '../values/geometry.ts'
import { parseValue } from '../values/value.ts'
import type { Parsed } from './cql2-text.ts'
import {
  ARITHMETIC,
  ARRAY,
  type Arithmetic,
  type BboxLiteral,
  COMPARISONS,
  type Expression,
  FOLDS,
  type Fold,
  type GeometryLiteral,
  isBbox,
  isDate,
  isGeometry,
  isInterval,
  isList,
  isNumber,
  isProperty,
  isTimestamp,
  OPERANDS,
  type Operation,
  parseDate,
  parseTimestamp,
  SPATIAL,
  TEMPORAL,
} from './expression.ts'
import { filterFault, type Place, tooLarge } from './fault.ts'
import { foldText } from './fold.ts'
import type { FilterFunctions } from './functions.ts'
import { textOfNumber } from './number.ts'
import { elementOf, elementTypeOf, type Queryables } from './queryables.ts'
import type { Shape } from './shape.ts'
import { type ColumnTerm, type ListTerm, type Literal, literal, type Term, type ValueType } from './term.ts'

export type CheckOptions = {
  /** Returns the shape of a geometry, whose positions are in the system of the filter. */
  readonly makeShape: (value: GeometryLiteral | BboxLiteral) => Shape
  readonly functions: FilterFunctions
}

const NAMES: Readonly<Record<ValueType, string>> = {
  number: 'a number',
  string: 'a text',
  boolean: 'true or false',
  date: 'a date',
  timestamp: 'a time',
  interval: 'an interval',
  geometry: 'a geometry',
  list: 'a list',
  json: 'JSON',
  other: 'of a type that filters do not know',
}
const SCALARS: readonly ValueType[] = ['number', 'string', 'boolean', 'date', 'timestamp']
const ELEMENTS: readonly ValueType[] = [...SCALARS, 'geometry', 'interval', 'list']
/** Temporal functions that take an instant as well as an interval. */
const OF_INSTANTS: readonly string[] = ['t_after', 't_before', 't_disjoint', 't_equals', 't_intersects']
/** Powers within powers repeat their operands in SQL. */
const MAX_POWERS = 2

/** Each such pair is a condition of its own; see MAX_OPERATIONS. */
const MAX_PAIRS = 1_000

const isOneOf = (list: readonly string[], op: string) => list.includes(op)
const isTime = (type: ValueType) => type === 'date' || type === 'timestamp'

/** Returns the term of the filter. @throws GatewayError with the position of the fault */
export function checkFilter(
  { expression, locate }: Parsed,
  { geometry, columns }: Queryables,
  { makeShape, functions }: CheckOptions,
): Term {
  const faultAt = (place: Place, reason: string) => filterFault(locate(place), reason)
  /** How many pairs of elements are compared one by one. */
  let pairs = 0
  /** Returns the part for people. */
  const describe = (term: Term) =>
    term.is === 'column'
      ? `${JSON.stringify(term.column.name)} is ${NAMES[term.type]}`
      : `this is ${NAMES[term.type]}`

  const checkPredicate = (value: Expression, place: Place): Term =>
    expectType(check(value, place), ['boolean'], place, 'a condition, which is true or false')

  function expectType(term: Term, types: readonly ValueType[], place: Place, what?: string): Term {
    if (types.includes(term.type)) return term
    const wanted = what ?? types.map((type) => NAMES[type]).join(' or ')
    throw faultAt(place, `expected ${wanted}, but ${describe(term)}`)
  }

  /** Checks a part by itself, whatever stands around it. */
  function check(value: Expression, place: Place): Term {
    if (typeof value === 'string') return checkText(value, place)
    if (typeof value === 'boolean') return literal('boolean', String(value))
    if (isNumber(value)) return literal('number', textOfNumber(value))
    if (isList(value))
      return { is: 'list', type: 'list', items: value.map((item) => checkElement(item, place)) }
    if (isProperty(value)) return checkProperty(value.property, place)
    if (isDate(value)) return literal('date', value.date)
    if (isTimestamp(value)) return literal('timestamp', value.timestamp)
    if (isInterval(value)) return checkInterval(value.interval, place)
    if (isGeometry(value) || isBbox(value)) {
      try {
        return { is: 'shape', type: 'geometry', shape: makeShape(value) }
      } catch (error) {
        if (error instanceof GatewayError) throw faultAt(place, error.message.replace(/\.$/, ''))
        if (error instanceof GeometryError) throw faultAt(place, `the geometry ${error.message}`)
        throw error
      }
    }
    return checkOperation(value)
  }

  function checkText(text: string, place: Place): Literal {
    if (text.includes('\0')) throw faultAt(place, 'a text cannot contain the character NUL')
    return literal('string', text)
  }

  function checkProperty(name: string, place: Place): Term {
    if (name === geometry.column) return { is: 'geometry', type: 'geometry' }
    const term = columns.get(name)
    if (term?.type === 'other') throw faultAt(place, `${quoted(name)} is of a type that filters do not know`)
    if (term) return term
    const known = [...columns.values()].flatMap(({ type, column }) => (type === 'other' ? [] : column.name))
    throw faultAt(
      place,
      `there is no property ${quoted(name)}; there are ${listed([...known, geometry.column])}`,
    )
  }

  const checkElement = (value: Expression, place: Place): Term =>
    expectType(check(value, place), ELEMENTS, place, 'a value, a geometry, an interval or a list')

  const checkItem = (value: Expression, place: Place): Term =>
    expectType(check(value, place), SCALARS, place, 'a number, a text, true, false, a date or a time')

  function checkInterval(bounds: readonly Expression[], place: Place): Term {
    const [start, end] = bounds.map((bound, index): Term => {
      if (bound === '..') return literal('timestamp', index === 0 ? '-infinity' : 'infinity')
      if (typeof bound !== 'string') return expectType(check(bound, place), ['date', 'timestamp'], place)
      return literal(parseDate(bound) ? 'date' : 'timestamp', bound)
    })
    if (start!.is === 'literal' && end!.is === 'literal' && isAfter(start!.text, end!.text))
      throw faultAt(place, 'an interval must not end before it starts')
    return { is: 'interval', type: 'interval', start: start!, end: end! }
  }

  function checkOperation(operation: Operation): Term {
    const { op, args } = operation
    const at = (operand: number) => ({ operation, operand })
    const all = () => args.map((arg, index) => check(arg, at(index)))
    if (op === 'and' || op === 'or' || op === 'not')
      return predicate(
        op,
        args.map((arg, index) => checkPredicate(arg, at(index))),
      )
    if (op === 'isNull') return predicate(op, all())
    if (isOneOf(COMPARISONS, op)) return predicate(op, matched(...(all() as [Term, Term]), operation, 1))
    if (op === 'between') {
      const [value, low, high] = all() as [Term, Term, Term]
      const [first, least] = matched(value, low, operation, 1)
      const [, most] = matched(value, high, operation, 2)
      return predicate(op, [first, least, most])
    }
    if (op === 'in') return checkIn(operation)
    if (op === 'like') return checkLike(operation)
    if (isOneOf(FOLDS, op)) return checkFold(operation)
    if (isOneOf(ARITHMETIC, op)) return checkArithmetic(operation)
    if (isOneOf(SPATIAL, op)) {
      return predicate(
        op,
        all().map((term, index) => expectType(term, ['geometry'], at(index))),
      )
    }
    if (isOneOf(TEMPORAL, op)) return predicate(op, checkTemporal(operation, all()))
    if (isOneOf(ARRAY, op)) return checkLists(operation)
    return checkCall(operation, all())
  }

  /** Functions would leave the heights of a BBOX out of account. */
  function withoutHeights(term: Term, place: Place): Term {
    if (term.is !== 'shape' || !term.shape.heights) return term
    throw faultAt(place, 'a BBOX with heights is only for spatial operators')
  }

  /**
   * Returns two operands of a comparison, which are of one type; a literal becomes a value of the column that it is
   * compared with.
   */
  function matched(left: Term, right: Term, operation: Operation, operand: number): [Term, Term] {
    const places = [
      { operation, operand: 0 },
      { operation, operand },
    ] as const
    expectType(left, SCALARS, places[0], SCALAR)
    expectType(right, SCALARS, places[1], SCALAR)
    return [converted(left, right, places[0]), converted(right, left, places[1])]
  }

  /** Returns a term as a value that can be compared with the other. */
  function converted(term: Term, other: Term, place: Place): Term {
    if (term.is === 'literal' && other.is === 'column') return asValueOf(term, other, place)
    if (term.type === other.type || (isTime(term.type) && isTime(other.type))) return term
    const instant = term.is === 'literal' && isTime(other.type) ? asInstant(term) : undefined
    if (instant) return instant
    // The fault is that of the literal, if one of them is one.
    if (other.is === 'literal' && term.is !== 'literal') return term
    throw faultAt(place, `expected ${NAMES[other.type]} to compare, but ${describe(term)}`)
  }

  /**
   * Texts of dates and times are taken as these; other types are not converted. GDAL writes a date with a T at its end.
   */
  function asInstant({ type, text: written }: Literal): Literal | undefined {
    if (type !== 'string') return undefined
    const text = written.replace(/T$/, '')
    const [date, timestamp] = [parseDate(text), parseTimestamp(text)]
    return date ? literal('date', date) : timestamp ? literal('timestamp', timestamp) : undefined
  }

  function asValueOf(term: Literal, { type, column }: ColumnTerm, place: Place): Literal {
    const wrong = (expected: string) =>
      faultAt(place, `${JSON.stringify(column.name)} must be compared with ${expected}`)
    if (isTime(type)) {
      const instant = isTime(term.type) ? term : asInstant(term)
      if (instant) return instant
      throw wrong("a date or time, for example DATE('2024-02-29') or TIMESTAMP('2024-02-29T12:00:00Z')")
    }
    if (term.type !== type) throw wrong(`${NAMES[type]}, and not with ${NAMES[term.type]}`)
    if (column.labels) return column.labels.includes(term.text) ? term : { ...term, isForeign: true }
    if (column.kind !== 'uuid') return term
    const value = parseValue(term.text, column)
    return value === undefined ? { ...term, isForeign: true } : literal('string', value)
  }

  function checkIn(operation: Operation): Term {
    const [value, items] = operation.args as readonly [Expression, readonly Expression[]]
    const place = { operation, operand: 1 }
    const term = expectType(
      check(value, { operation, operand: 0 }),
      SCALARS,
      { operation, operand: 0 },
      SCALAR,
    )
    const list: ListTerm = {
      is: 'list',
      type: 'list',
      items: items.map((item) => matched(term, checkItem(item, place), operation, 1)[1]),
    }
    return predicate('in', [term, list])
  }

  function checkLike(operation: Operation): Term {
    const [value, pattern] = operation.args.map((arg, index) =>
      expectType(check(arg, { operation, operand: index }), ['string'], { operation, operand: index }),
    ) as [Term, Term]
    const place = { operation, operand: 1 }
    if (!isConstant(pattern)) throw faultAt(place, "expected a pattern such as 'Ber%', which is no property")
    // PostgreSQL refuses a pattern that ends in its escape character.
    if (pattern.is === 'literal' && /(?:^|[^\\])(?:\\\\)*\\$/.test(pattern.text))
      throw faultAt(
        place,
        'a pattern cannot end with a single backslash, which takes away the meaning of % or _ after it',
      )
    return predicate('like', [value, pattern])
  }

  const isConstant = (term: Term): boolean =>
    term.is === 'literal' || (term.is === 'call' && term.operands.every(isConstant))

  function checkFold(operation: Operation): Term {
    const how = operation.op as Fold
    const place = { operation, operand: 0 }
    const operand = expectType(check(operation.args[0]!, place), ['string'], place)
    if (operand.is === 'literal') return literal('string', foldText(how, operand.text))
    return { is: 'fold', type: 'string', how, operand }
  }

  function checkArithmetic(operation: Operation): Term {
    const op = operation.op as Arithmetic
    const [left, right] = operation.args.map((arg, index) =>
      expectType(check(arg, { operation, operand: index }), ['number'], { operation, operand: index }),
    ) as [Term, Term]
    const result = compute(op, operation.args[0]!, operation.args[1]!, left, right)
    if (result !== undefined) return literal('number', String(result))
    const term: Term = { is: 'arithmetic', type: 'number', op, operands: [left, right] }
    if (powersIn(term) > MAX_POWERS)
      throw faultAt({ operation }, `nests more than ${MAX_POWERS} powers of properties in each other`)
    return term
  }

  function checkTemporal(operation: Operation, terms: readonly Term[]): Term[] {
    const { op } = operation
    return terms.map((term, operand) => {
      const place = { operation, operand }
      const instant = term.is === 'literal' && asInstant(term)
      const checked = expectType(instant || term, ['date', 'timestamp', 'interval'], place)
      if (checked.is === 'interval' || isOneOf(OF_INSTANTS, op)) return checked
      throw faultAt(place, `${op} compares intervals; expected INTERVAL(start,end), but ${describe(checked)}`)
    })
  }

  function checkLists(operation: Operation): Term {
    const [left, right] = operation.args.map((arg, operand) =>
      expectType(
        check(arg, { operation, operand }),
        ['list'],
        { operation, operand },
        'a list or a property of lists',
      ),
    ) as [Term, Term]
    return relateLists(operation.op, left, right, operation)
  }

  function relateLists(op: string, left: Term, right: Term, operation: Operation): Term {
    const column = [left, right].find((term) => term.is === 'column')?.column
    const types = [left, right].flatMap((term) =>
      term.is === 'list' ? term.items.map(({ type }) => type) : [],
    )
    const type = column ? elementTypeOf(column) : types[0]
    const isSame = (one: ValueType) => one === type || (isTime(one) && type !== undefined && isTime(type))
    // PostgreSQL has no lists of values of several types, or of geometries, intervals and lists.
    if (
      left.is === 'list' &&
      right.is === 'list' &&
      !types.every((one) => isSame(one) && SCALARS.includes(one))
    )
      return relateElements(op, left.items, right.items, operation)
    const operands = [left, right].map((term, operand) => {
      const place = { operation, operand }
      if (term.is === 'column' && type !== undefined && !isSame(elementTypeOf(term.column)))
        throw faultAt(place, `expected a list whose elements are each ${NAMES[type]}`)
      if (term.is !== 'list') return term
      const items = term.items.map((item): Term => {
        if (type && item.is === 'literal' && column)
          return asValueOf(item, { is: 'column', type, column: elementOf(column) }, place)
        if (isSame(item.type)) return item
        throw faultAt(place, `expected a list whose elements are each ${NAMES[type!]}, but ${describe(item)}`)
      })
      return { ...term, items }
    })
    return predicate(op, operands)
  }

  /** Compares every element of one list with every one of the other. */
  function relateElements(
    op: string,
    left: readonly Term[],
    right: readonly Term[],
    operation: Operation,
  ): Term {
    pairs += left.length * right.length
    if (pairs > MAX_PAIRS)
      throw tooLarge(`lists of values of several types with at most ${MAX_PAIRS} pairs of elements`)
    const place = { operation }
    const equal = (one: Term, other: Term): Term => {
      if (one.type === 'list' && other.type === 'list') return relateLists('a_equals', one, other, operation)
      if (one.type === 'geometry' && other.type === 'geometry') return predicate('s_equals', [one, other])
      if (one.type === 'interval' && other.type === 'interval') return predicate('t_equals', [one, other])
      const isComparable = one.type === other.type || (isTime(one.type) && isTime(other.type))
      return isComparable
        ? predicate('=', [converted(one, other, place), converted(other, one, place)])
        : literal('boolean', 'false')
    }
    const contains = (all: readonly Term[], some: readonly Term[]) =>
      joined(
        'and',
        some.map((one) =>
          joined(
            'or',
            all.map((other) => equal(other, one)),
          ),
        ),
      )
    switch (op) {
      case 'a_contains':
        return contains(left, right)
      case 'a_containedBy':
        return contains(right, left)
      case 'a_overlaps':
        return joined(
          'or',
          left.flatMap((one) => right.map((other) => equal(one, other))),
        )
      default:
        return joined('and', [contains(left, right), contains(right, left)])
    }
  }

  function checkCall(operation: Operation, terms: readonly Term[]): Term {
    const { op } = operation
    const called = functions.of(op)
    if (!called) {
      const known = [
        ...[...OPERANDS.keys()].filter((name) => /^[a-z]+_|^(casei|accenti)$/.test(name)),
        ...functions.list.map(({ name }) => name),
      ]
      throw faultAt({ operation }, `there is no function ${quoted(op)}; there are ${listed(known)}`)
    }
    const { name, parameters, returns } = called
    if (terms.length !== parameters.length)
      throw faultAt(
        { operation },
        `${name} takes ${parameters.length} operands (${parameters.map((one) => one.name).join(', ')}), and not ${terms.length}`,
      )
    const operands = terms.map((term, operand) => {
      const place = { operation, operand }
      return withoutHeights(expectType(term, [parameters[operand]!.type], place), place)
    })
    return { is: 'call', type: returns, called, operands }
  }

  return checkPredicate(expression, undefined)
}

const predicate = (op: string, operands: readonly Term[]): Term => ({
  is: 'predicate',
  type: 'boolean',
  op,
  operands,
})

/** Returns the condition that all or any of the conditions are met; there can be none. */
const joined = (op: 'and' | 'or', all: readonly Term[]): Term =>
  all.length > 1 ? predicate(op, all) : (all[0] ?? literal('boolean', String(op === 'and')))

const SCALAR = 'a number, a text, true, false, a date or a time'

/** Returns true if the first comes after the second, to the second; `infinity` comes neither before nor after. */
function isAfter(start: string, end: string): boolean {
  if (!/^\d/.test(start) || !/^\d/.test(end)) return false
  const length = Math.min(start.length, end.length, 'YYYY-MM-DDTHH:MM:SS'.length)
  return start.slice(0, length) > end.slice(0, length)
}

/** Integers from here on have more digits than a JavaScript number keeps through an operation. */
const MAX_COMPUTED = 1e15
const DIGITS = 15

/** Computes an operation of two numbers that the filter contains, so that the result is a literal. */
function compute(op: Arithmetic, first: Expression, second: Expression, left: Term, right: Term) {
  if (left.is !== 'literal' || right.is !== 'literal') return undefined
  if (first instanceof ExactNumber || second instanceof ExactNumber) return undefined
  const [a, b] = [Number(left.text), Number(right.text)]
  const result = Number(COMPUTED[op](a, b).toPrecision(DIGITS))
  return Number.isFinite(result) && Math.abs(result) < MAX_COMPUTED ? result : undefined
}

const COMPUTED: Readonly<Record<Arithmetic, (a: number, b: number) => number>> = {
  '+': (a, b) => a + b,
  '-': (a, b) => a - b,
  '*': (a, b) => a * b,
  '/': (a, b) => a / b,
  '%': (a, b) => a % b,
  div: (a, b) => Math.trunc(a / b),
  '^': (a, b) => a ** b,
}

/** Returns how many powers nest in a term, at most. */
function powersIn(term: Term): number {
  if (term.is !== 'arithmetic') return term.is === 'call' ? deepest(term.operands) : 0
  return deepest(term.operands) + (term.op === '^' ? 1 : 0)
}
const deepest = (terms: readonly Term[]) => Math.max(0, ...terms.map(powersIn))
