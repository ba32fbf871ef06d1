// Owns the writer of CQL2 text: tree → text that parses to the same tree, with no brackets that it does not need.

import { POWERS } from './cql2-text.ts'
import {
  type Coordinates,
  type Expression,
  type GeometryLiteral,
  isBbox,
  isDate,
  isGeometry,
  isInterval,
  isList,
  isNumber,
  isPlainName,
  isProperty,
  isTimestamp,
  NAMED_OPERATORS,
  OPERANDS,
  type Operation,
  type Property,
} from './expression.ts'
import { textOfNumber } from './number.ts'

/** Stronger than any operator: a literal, a property or a function. */
const ATOM = 9
const ARITHMETIC = POWERS['+']!
const COMPARISON = POWERS['=']!
const FUNCTIONS = new Set(NAMED_OPERATORS.values())

/** Returns the filter as CQL2 text. */
export const printText = (expression: Expression): string => print(expression, 0)

/** @param least brackets are put around an operation that binds less than this */
function print(value: Expression, least: number): string {
  if (typeof value === 'string') return quote(value)
  if (typeof value === 'boolean') return value ? 'TRUE' : 'FALSE'
  if (isNumber(value)) return textOfNumber(value)
  if (isList(value)) return printList(value)
  if (isProperty(value)) return printProperty(value)
  if (isDate(value)) return `DATE(${quote(value.date)})`
  if (isTimestamp(value)) return `TIMESTAMP(${quote(value.timestamp)})`
  if (isBbox(value)) return `BBOX(${value.bbox.join(',')})`
  if (isInterval(value)) return `INTERVAL(${value.interval.map((bound) => print(bound, 0)).join(',')})`
  if (isGeometry(value)) return printGeometry(value)
  const [text, power] = printOperation(value)
  return power < least ? `(${text})` : text
}

function printOperation({ op, args }: Operation): readonly [text: string, power: number] {
  const [first, second, third] = args as [Expression, Expression, Expression]
  switch (op) {
    case 'and':
    case 'or':
      return [args.map((arg) => print(arg, POWERS[op]! + 1)).join(` ${op.toUpperCase()} `), POWERS[op]!]
    case 'not':
      return printNegated(first)
    case 'isNull':
    case 'like':
    case 'between':
    case 'in':
      return [printComparison(op, first, second, third, ''), COMPARISON]
    default:
  }
  if (FUNCTIONS.has(op) || !OPERANDS.has(op)) {
    const name = FUNCTIONS.has(op) ? op.toUpperCase() : op
    return [`${name}(${args.map((arg) => print(arg, 0)).join(',')})`, ATOM]
  }
  const power = POWERS[op]!
  // Comparisons and powers cannot be chained; other operators are read from the left.
  const isChained = power > COMPARISON && op !== '^'
  return [`${print(first, isChained ? power : power + 1)} ${op} ${print(second, power + 1)}`, power]
}

function printNegated(value: Expression): readonly [string, number] {
  if (typeof value === 'object' && 'op' in value && /^(isNull|like|between|in)$/.test(value.op)) {
    const [first, second, third] = value.args as [Expression, Expression, Expression]
    return [printComparison(value.op, first, second, third, 'NOT '), COMPARISON]
  }
  return [`NOT ${print(value, COMPARISON)}`, POWERS.not!]
}

function printComparison(op: string, first: Expression, second: Expression, third: Expression, not: string) {
  const left = print(first, ARITHMETIC)
  switch (op) {
    case 'isNull':
      return `${left} IS ${not}NULL`
    case 'between':
      return `${left} ${not}BETWEEN ${print(second, ARITHMETIC)} AND ${print(third, ARITHMETIC)}`
    case 'in':
      return `${left} ${not}IN (${(second as readonly Expression[]).map((item) => print(item, ARITHMETIC)).join(',')})`
    default:
      return `${left} ${not}LIKE ${print(second, ARITHMETIC)}`
  }
}

const printList = (items: readonly Expression[]) => `(${items.map((item) => print(item, 0)).join(',')})`

const printProperty = ({ property }: Property) =>
  isPlainName(property) ? property : `"${property.replaceAll('"', '""')}"`

/** Line breaks are escaped, so that a filter without one in a name is a single line. */
const ESCAPED: Readonly<Record<string, string>> = { '\\': '\\\\', "'": "''", '\n': '\\n', '\r': '\\r' }
const quote = (text: string) => `'${text.replace(/[\\'\n\r]/g, (character) => ESCAPED[character]!)}'`

function printGeometry(geometry: GeometryLiteral): string {
  const name = geometry.type.toUpperCase()
  if (geometry.type === 'GeometryCollection')
    return `${name}(${geometry.geometries.map(printGeometry).join(',')})`
  const coordinates = printCoordinates(geometry.coordinates, geometry.type.startsWith('Multi') ? 1 : 0)
  return geometry.type === 'Point' ? `${name}(${coordinates})` : `${name}${coordinates}`
}

/** @param nesting points of a MultiPoint are in brackets of their own, positions of a line are not */
function printCoordinates(coordinates: Coordinates, nesting: number): string {
  if (typeof coordinates[0] === 'number') return coordinates.join(' ')
  const parts = (coordinates as readonly Coordinates[]).map((part) => {
    const text = printCoordinates(part, 0)
    return nesting === 1 && typeof part[0] === 'number' ? `(${text})` : text
  })
  return `(${parts.join(',')})`
}
