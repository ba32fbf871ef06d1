// Owns the reader and the writer of CQL2-JSON (OGC 21-065r2, clause 8.3): every part is checked before it is used.

import { quoted } from '../../errors.ts'
import { ExactNumber, isObject, type JsonObject, outlineOf, parseExactJson } from '../values/exact-json.ts'
import type { Parsed } from './cql2-text.ts'
import { parseBound } from './cql2-text.ts'
import {
  type Expression,
  GEOMETRY_TYPES,
  type GeometryLiteral,
  type IntervalBound,
  isFunctionName,
  isOperation,
  isProperty,
  MAX_DEPTH,
  MAX_LENGTH,
  MAX_OPERATIONS,
  OPERANDS,
  type Operation,
  parseDate,
  parseTimestamp,
  type SimpleGeometry,
} from './expression.ts'
import { filterFault, type Locate, makeOrFault, positionIn, tooLarge } from './fault.ts'
import { makeBbox, makeCollection, makeGeometry } from './geometry-literal.ts'
import { parseNumber } from './number.ts'

/** Brackets of JSON for one operation: an object and its list of operands. */
const BRACKETS_PER_OPERATION = 2
/** Brackets of JSON for the coordinates of a geometry. */
const BRACKETS_OF_GEOMETRY = 8

type Pointer = readonly (string | number)[]

/** Returns the filter as CQL2-JSON. */
export const printJson = (expression: Expression): string => JSON.stringify(expression)

/** Parses a filter. @throws GatewayError with a JSON pointer, or with a position if it is no JSON */
export function parseJson(source: string): Parsed {
  if (source.length > MAX_LENGTH) throw tooLarge(`at most ${MAX_LENGTH} characters`)
  if (outlineOf(source).depth > MAX_DEPTH * BRACKETS_PER_OPERATION + BRACKETS_OF_GEOMETRY) throw tooDeep([])
  const pointers = new WeakMap<object, Pointer>()
  let operations = 0

  function read(value: unknown, at: Pointer, depth: number): Expression {
    if (typeof value === 'string' || typeof value === 'boolean') return value
    if (typeof value === 'number' || value instanceof ExactNumber) return readNumber(value, at)
    if (Array.isArray(value)) return value.map((item, index) => read(item, [...at, index], depth))
    if (!isObject(value)) throw faultAt(at, 'null cannot stand here; {"op":"isNull"} tests for it')
    if ('op' in value) return readOperation(value, at, depth)
    if ('property' in value) {
      const { property } = members(value, at, 'property')
      if (typeof property === 'string') return { property }
      throw faultAt([...at, 'property'], 'expected the name of a property')
    }
    if ('date' in value) return readInstant(value, at, 'date')
    if ('timestamp' in value) return readInstant(value, at, 'timestamp')
    if ('interval' in value) return readInterval(value, at, depth)
    if ('type' in value) return readGeometry(value, at)
    if ('bbox' in value) {
      const { bbox } = members(value, at, 'bbox')
      if (!isNumbers(bbox)) throw faultAt([...at, 'bbox'], 'expected a list of numbers')
      return checked(at, () => makeBbox(bbox.map(withoutSign)))
    }
    throw faultAt(
      at,
      'expected a literal, or an object with "op", "property", "date", "timestamp", "interval", "bbox" or the "type" of a geometry',
    )
  }

  function readOperation(value: JsonObject, at: Pointer, outer: number): Operation {
    const { op, args } = members(value, at, 'op', 'args')
    const depth = outer + 1
    if (depth > MAX_DEPTH) throw tooDeep(at)
    if (++operations > MAX_OPERATIONS) throw tooLarge(`at most ${MAX_OPERATIONS} operations`)
    if (typeof op !== 'string' || !(OPERANDS.has(op) || isFunctionName(op)))
      throw faultAt([...at, 'op'], `there is no operator ${quoted(op)}`)
    if (!Array.isArray(args)) throw faultAt([...at, 'args'], 'expected a list of operands')
    const [least, most] = OPERANDS.get(op) ?? [0, Number.POSITIVE_INFINITY]
    if (args.length < least || args.length > most)
      throw faultAt(
        [...at, 'args'],
        `${op} takes ${least === most ? least : `at least ${least}`} operands, and not ${args.length}`,
      )
    if (op === 'in' && !Array.isArray(args[1])) throw faultAt([...at, 'args', 1], 'expected a list of values')
    const operation = { op, args: args.map((arg, index) => read(arg, [...at, 'args', index], depth)) }
    pointers.set(operation, at)
    return operation
  }

  function readInterval(value: JsonObject, at: Pointer, depth: number): Expression {
    const { interval } = members(value, at, 'interval')
    if (!Array.isArray(interval) || interval.length !== 2)
      throw faultAt([...at, 'interval'], 'expected a list of two bounds')
    const bounds = interval.map((bound, index): IntervalBound => {
      const place = [...at, 'interval', index]
      const result = typeof bound === 'string' ? parseBound(bound) : read(bound, place, depth)
      if (typeof result === 'string' || (result !== undefined && (isProperty(result) || isOperation(result))))
        return result
      throw faultAt(place, 'expected a date, a time in UTC, "..", a property or a function')
    })
    return { interval: bounds as [IntervalBound, IntervalBound] }
  }

  let json: unknown
  try {
    json = parseExactJson(source, 'all')
  } catch (error) {
    const { message } = error as Error
    const [, offset] = /position (\d+)/.exec(message) ?? []
    throw filterFault(positionIn(source, offset ? Number(offset) : 0), `it is no JSON: ${message}`)
  }
  const locate: Locate = (place) => {
    const at = (place && pointers.get(place.operation)) ?? []
    return pointed(place?.operand === undefined ? at : [...at, 'args', place.operand])
  }
  return { expression: read(json, [], 0), locate }
}

const pointed = (at: Pointer): ReturnType<Locate> => {
  const pointer = at.map((part) => `/${part}`).join('')
  return { text: pointer ? `at ${pointer}` : 'as a whole', facts: { pointer } }
}
const faultAt = (at: Pointer, reason: string) => filterFault(pointed(at), reason)
const checked = <T>(at: Pointer, make: () => T): T => makeOrFault(make, (reason) => faultAt(at, reason))
const tooDeep = (at: Pointer) => faultAt(at, `nests more than ${MAX_DEPTH} deep`)

/** Returns an object that is known to have no other members: a member that is misspelt must not be ignored. */
function members(value: JsonObject, at: Pointer, ...names: readonly string[]): JsonObject {
  const other = Object.keys(value).find((name) => !names.includes(name))
  if (other === undefined) return value
  throw faultAt(at, `there is no member ${quoted(other)} next to "${names[0]}"`)
}

function readNumber(value: number | ExactNumber, at: Pointer): Expression {
  const number = typeof value === 'number' ? withoutSign(value) : parseNumber(value.text)
  if (number !== undefined) return number
  throw faultAt(at, 'expected a number of at most 100 characters and an exponent of at most three digits')
}

/** There is one zero. */
const withoutSign = (value: number) => (value === 0 ? 0 : value)

function readInstant(value: JsonObject, at: Pointer, kind: 'date' | 'timestamp'): Expression {
  const { [kind]: text } = members(value, at, kind)
  const instant =
    typeof text !== 'string' ? undefined : kind === 'date' ? parseDate(text) : parseTimestamp(text)
  if (instant !== undefined) return kind === 'date' ? { date: instant } : { timestamp: instant }
  throw faultAt(
    [...at, kind],
    kind === 'date'
      ? 'expected a date such as "2024-02-29"'
      : 'expected a time in UTC such as "2024-02-29T12:00:00Z"',
  )
}

function readGeometry(value: JsonObject, at: Pointer): GeometryLiteral {
  const { type, coordinates, geometries } = members(value, at, 'type', 'coordinates', 'geometries', 'bbox')
  if (!GEOMETRY_TYPES.includes(type as GeometryLiteral['type']))
    throw faultAt([...at, 'type'], `expected one of ${GEOMETRY_TYPES.join(', ')}`)
  if (type !== 'GeometryCollection')
    return checked(at, () => makeGeometry(type as SimpleGeometry['type'], doubles(coordinates), false))
  if (!Array.isArray(geometries)) throw faultAt([...at, 'geometries'], 'expected a list of geometries')
  const parts = geometries.map((part, index) => {
    const place = [...at, 'geometries', index]
    const read = isObject(part) ? readGeometry(part, place) : undefined
    if (read && read.type !== 'GeometryCollection') return read
    throw faultAt(place, 'expected a geometry that is no collection')
  })
  return checked(at, () => makeCollection(parts, false))
}

/** Returns coordinates with every number as JavaScript has it; other parts are left as they are. */
const doubles = (value: unknown): unknown =>
  Array.isArray(value)
    ? value.map(doubles)
    : value instanceof ExactNumber
      ? Number(value.text)
      : typeof value === 'number'
        ? withoutSign(value)
        : value

const isNumbers = (value: unknown): value is number[] =>
  Array.isArray(value) && value.every((number) => typeof number === 'number')
