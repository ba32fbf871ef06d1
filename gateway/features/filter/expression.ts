// Owns the tree of a filter, which is CQL2-JSON (OGC 21-065r2) as types, its operators, and the bounds of a filter.

import { isDay } from '../values/calendar.ts'
import { ExactNumber } from '../values/exact-json.ts'

/** Longest filter, in UTF-16 units. An address holds less than 16 KiB; the rest is room for filters in a body. */
export const MAX_LENGTH = 65_536
/** Deepest nesting of operations and brackets: people nest five deep, and everything that walks a tree recurses. */
export const MAX_DEPTH = 100
/** Most operations: the planner of PostgreSQL takes about 20 µs for each, before it reads a row. */
export const MAX_OPERATIONS = 1_000
/** Longest text of a number; a longer one is no measurement. */
export const MAX_NUMBER_LENGTH = 100

export type NumberLiteral = number | ExactNumber
export type DateLiteral = { readonly date: string }
export type TimestampLiteral = { readonly timestamp: string }
export type Property = { readonly property: string }
export type BboxLiteral = { readonly bbox: readonly number[] }
export type Position = readonly number[]
export type Coordinates = readonly (number | Coordinates)[]
export type SimpleGeometry = {
  readonly type: 'Point' | 'LineString' | 'Polygon' | 'MultiPoint' | 'MultiLineString' | 'MultiPolygon'
  readonly coordinates: Coordinates
}
export type GeometryCollection = {
  readonly type: 'GeometryCollection'
  readonly geometries: readonly SimpleGeometry[]
}
export type GeometryLiteral = SimpleGeometry | GeometryCollection
/** A bound of an interval: a date, a timestamp, `..` for none, a property or a function. */
export type IntervalBound = string | Property | Operation
export type IntervalLiteral = { readonly interval: readonly [IntervalBound, IntervalBound] }

/** An operator or function with its operands. */
export type Operation = { readonly op: string; readonly args: readonly Expression[] }

/** Any part of a filter; the whole is one whose value is true, false or unknown. */
export type Expression =
  | string
  | NumberLiteral
  | boolean
  | DateLiteral
  | TimestampLiteral
  | Property
  | BboxLiteral
  | GeometryLiteral
  | IntervalLiteral
  | Operation
  | readonly Expression[]

export const isNumber = (value: Expression): value is NumberLiteral =>
  typeof value === 'number' || value instanceof ExactNumber

const has =
  <T extends object>(member: string) =>
  (value: Expression): value is Extract<Expression, T> =>
    typeof value === 'object' && member in value
export const isOperation = has<Operation>('op')
export const isProperty = has<Property>('property')
export const isDate = has<DateLiteral>('date')
export const isTimestamp = has<TimestampLiteral>('timestamp')
export const isInterval = has<IntervalLiteral>('interval')
export const isBbox = has<BboxLiteral>('bbox')
export const isGeometry = has<GeometryLiteral>('type')
export const isList = (value: Expression): value is readonly Expression[] => Array.isArray(value)

export const COMPARISONS = ['=', '<>', '<', '>', '<=', '>='] as const
export const ARITHMETIC = ['+', '-', '*', '/', '%', 'div', '^'] as const
export const SPATIAL = [
  's_contains',
  's_crosses',
  's_disjoint',
  's_equals',
  's_intersects',
  's_overlaps',
  's_touches',
  's_within',
] as const
export const TEMPORAL = [
  't_after',
  't_before',
  't_contains',
  't_disjoint',
  't_during',
  't_equals',
  't_finishedBy',
  't_finishes',
  't_intersects',
  't_meets',
  't_metBy',
  't_overlappedBy',
  't_overlaps',
  't_startedBy',
  't_starts',
] as const
export const ARRAY = ['a_containedBy', 'a_contains', 'a_equals', 'a_overlaps'] as const
export const FOLDS = ['casei', 'accenti'] as const

export type Comparison = (typeof COMPARISONS)[number]
export type Arithmetic = (typeof ARITHMETIC)[number]
export type Spatial = (typeof SPATIAL)[number]
export type Temporal = (typeof TEMPORAL)[number]
export type ArrayOperator = (typeof ARRAY)[number]
export type Fold = (typeof FOLDS)[number]

/** Least and most operands of the operators of the standard. */
export const OPERANDS: ReadonlyMap<string, readonly [least: number, most: number]> = new Map<
  string,
  readonly [number, number]
>([
  ...['and', 'or'].map((op) => [op, [2, Number.POSITIVE_INFINITY]] as const),
  ...['not', 'isNull', ...FOLDS].map((op) => [op, [1, 1]] as const),
  ...['like', 'in', ...COMPARISONS, ...ARITHMETIC, ...SPATIAL, ...TEMPORAL, ...ARRAY].map(
    (op) => [op, [2, 2]] as const,
  ),
  ['between', [3, 3]],
])

/** Operators that are written as functions, by their name in lower case. */
export const NAMED_OPERATORS: ReadonlyMap<string, string> = new Map(
  [...FOLDS, ...SPATIAL, ...TEMPORAL, ...ARRAY].map((op) => [op.toLowerCase(), op]),
)

export const GEOMETRY_TYPES = [
  'Point',
  'LineString',
  'Polygon',
  'MultiPoint',
  'MultiLineString',
  'MultiPolygon',
  'GeometryCollection',
] as const
/** Types of geometries by their names in WKT, in lower case. */
export const WKT_TYPES: ReadonlyMap<string, GeometryLiteral['type']> = new Map(
  GEOMETRY_TYPES.map((type) => [type.toLowerCase(), type]),
)

/** Words that a property must be quoted to have as its name. */
export const KEYWORDS: ReadonlySet<string> = new Set(
  'and or not like between in is null true false div'.split(' '),
)
/** Words that begin a literal if a bracket follows. */
export const CONSTRUCTORS: ReadonlySet<string> = new Set([
  'date',
  'timestamp',
  'interval',
  'bbox',
  ...WKT_TYPES.keys(),
])

/** What may begin an identifier without quotes, and what may follow (the rules identifierStart and identifierPart). */
const START =
  ':_A-Za-z\\u00C0-\\u00D6\\u00D8-\\u00F6\\u00F8-\\u02FF\\u0370-\\u037D\\u037F-\\u167F\\u1681-\\u1FFE\\u200C\\u200D\\u2070-\\u218F\\u2C00-\\u2FEF\\u3001-\\uD7FF\\uF900-\\uFDCF\\uFDF0-\\uFFFD\\u{10000}-\\u{EFFFF}'
export const IDENTIFIER = `[${START}][${START}.0-9\\u0300-\\u036F\\u203F\\u2040]*`
const WHOLE_IDENTIFIER = new RegExp(`^${IDENTIFIER}$`, 'u')

/** True if the text is an identifier that means a name and nothing else. */
export const isPlainName = (name: string) =>
  WHOLE_IDENTIFIER.test(name) && !KEYWORDS.has(name.toLowerCase()) && !CONSTRUCTORS.has(name.toLowerCase())

/** True if a function can have the name: no operator or literal may be meant, in any case of its letters. */
export const isFunctionName = (name: string) => isPlainName(name) && !NAMED_OPERATORS.has(name.toLowerCase())

const TIMESTAMP_TEXT = /^(\d{4})-(\d{2})-(\d{2})T(?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d+)?Z$/

/** Returns the date; undefined if there is no such day. */
export const parseDate = (text: string): string | undefined => (isDay(text) ? text : undefined)

/** Digits of a fraction of a second beyond these are left out: PostgreSQL keeps six. */
const LONG_FRACTION = /(?<=\.\d{9})\d+/

/** Returns the timestamp without zeros at the end of a fraction; undefined if there is none such. */
export function parseTimestamp(text: string): string | undefined {
  const upper = text.toUpperCase()
  if (!isDay(upper, TIMESTAMP_TEXT)) return undefined
  return upper.includes('.') ? upper.replace(LONG_FRACTION, '').replace(/\.?0*Z$/, 'Z') : upper
}
