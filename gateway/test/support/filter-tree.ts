// Owns random filters for tests: trees of every kind that CQL2 has, whether or not they make sense.

import fc from 'fast-check'
import {
  ARITHMETIC,
  ARRAY,
  COMPARISONS,
  type Coordinates,
  type Expression,
  FOLDS,
  type GeometryLiteral,
  type SimpleGeometry,
  SPATIAL,
  TEMPORAL,
} from '../../features/filter/expression.ts'
import { parseNumber } from '../../features/filter/number.ts'
import { ExactNumber } from '../../features/values/exact-json.ts'

const name = fc.oneof(
  fc.constantFrom(
    'a',
    'name',
    'date',
    'in',
    'NOT',
    'point',
    'lower',
    'eo:cloud',
    'a.b',
    'Ünïcode',
    'x y',
    '"',
    '😀',
    '',
  ),
  fc.string({ unit: 'grapheme', maxLength: 5 }),
)
const number = fc.oneof(
  fc.integer(),
  // One with more digits than every JavaScript number keeps is read as its text.
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => parseNumber(String(value))!),
  fc.constantFrom(new ExactNumber('9007199254740993'), new ExactNumber('-0.12345678901234567891')),
)
const text = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 8 }),
  fc.constantFrom("'", '\\', "\\'", '%_', '\n\t\0', '\\n'),
)
const date = fc.constantFrom('2024-02-29', '0001-01-01', '9999-12-31')
const timestamp = fc.constantFrom(
  '2024-02-29T12:00:00Z',
  '1969-07-20T20:17:40.123456Z',
  '2016-12-31T23:59:60Z',
)
const property = name.map((property) => ({ property }))

const coordinate = fc.oneof(fc.integer({ min: -180, max: 180 }), fc.constantFrom(0.5, -1e-7, 1e21))
const positions = (dimension: number) => fc.array(coordinate, { minLength: dimension, maxLength: dimension })
const closed = (ring: number[][]) => [...ring, ring[0]!]
const ring = (dimension: number) => fc.array(positions(dimension), { minLength: 3, maxLength: 5 }).map(closed)
const some = <T>(of: fc.Arbitrary<T>, minLength = 1) => fc.array(of, { minLength, maxLength: 3 })
const geometryOf = (type: SimpleGeometry['type'], coordinates: fc.Arbitrary<unknown>) =>
  coordinates.map((coordinates): SimpleGeometry => ({ type, coordinates: coordinates as Coordinates }))
const simple = (dimension: number) =>
  fc.oneof(
    geometryOf('Point', positions(dimension)),
    geometryOf('LineString', some(positions(dimension), 2)),
    geometryOf('Polygon', some(ring(dimension))),
    geometryOf('MultiPoint', some(positions(dimension))),
    geometryOf('MultiLineString', some(some(positions(dimension), 2))),
    geometryOf('MultiPolygon', some(some(ring(dimension)))),
  )
const geometry: fc.Arbitrary<GeometryLiteral> = fc.constantFrom(2, 3).chain((dimension) =>
  fc.oneof(
    simple(dimension),
    some(simple(dimension)).map((geometries) => ({ type: 'GeometryCollection' as const, geometries })),
  ),
)
const bbox = fc
  .constantFrom(4, 6)
  .chain((length) => fc.array(coordinate, { minLength: length, maxLength: length }))
  .map((bbox) => ({ bbox }))

const call = (op: string, ...args: fc.Arbitrary<unknown>[]) =>
  fc.tuple(...args).map((args) => ({ op, args }) as unknown as Expression)
const anyOf = (ops: readonly string[], ...args: fc.Arbitrary<unknown>[]) =>
  fc.constantFrom(...ops).chain((op) => call(op, ...args))

/** Trees in which every operator has operands of every kind. */
export const filterTree: fc.Arbitrary<Expression> = fc.letrec<{ tree: Expression; operand: Expression }>(
  (tie) => {
    const { tree, operand } = { tree: tie('tree'), operand: tie('operand') }
    const list = fc.array(operand, { maxLength: 3 })
    const bound = fc.oneof(date, timestamp, fc.constant('..'), property, call('now'))
    const chain = (op: string) => fc.array(tree, { minLength: 2, maxLength: 4 }).map((args) => ({ op, args }))
    const scalar = fc.oneof(
      number,
      text,
      fc.boolean(),
      property,
      date.map((date) => ({ date })),
      timestamp.map((timestamp) => ({ timestamp })),
    )
    const interval = fc.tuple(bound, bound).map((interval) => ({ interval }))
    return {
      operand: fc.oneof(
        { maxDepth: 4, depthIdentifier: 'filter' },
        { weight: 4, arbitrary: scalar as fc.Arbitrary<Expression> },
        geometry as fc.Arbitrary<Expression>,
        bbox as fc.Arbitrary<Expression>,
        interval as fc.Arbitrary<Expression>,
        tree,
      ),
      tree: fc.oneof(
        { maxDepth: 4, depthIdentifier: 'filter' },
        { weight: 2, arbitrary: property as fc.Arbitrary<Expression> },
        chain('and') as fc.Arbitrary<Expression>,
        chain('or') as fc.Arbitrary<Expression>,
        call('not', tree),
        call('isNull', operand),
        call('in', operand, list),
        call('like', operand, operand),
        call('between', operand, operand, operand),
        anyOf(COMPARISONS, operand, operand),
        anyOf(ARITHMETIC, operand, operand),
        anyOf([...SPATIAL, ...TEMPORAL], operand, operand),
        anyOf(FOLDS, operand),
        anyOf(ARRAY, fc.oneof(list, operand), fc.oneof(list, operand)) as fc.Arbitrary<Expression>,
        fc
          .tuple(fc.constantFrom('now', 'Foo', 'my:fn.x'), fc.array(operand, { maxLength: 3 }))
          .map(([op, args]) => ({ op, args })),
      ),
    }
  },
).tree
