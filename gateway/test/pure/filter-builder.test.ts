// Tests the SDK's builder of filters: it has every operator and function that the gateway takes, writes them as the
// parser reads them, and the compiler refuses what a type of properties does not allow.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Point } from 'geojson'
import * as cql from 'tessera-client/filter'
import {
  and,
  bbox,
  between,
  call,
  casei,
  date,
  eq,
  interval,
  isIn,
  isNull,
  like,
  not,
  or,
  propertiesOf,
  sIntersects,
  tAfter,
  timestamp,
  where,
} from 'tessera-client/filter'
import { parseJson, printJson } from '../../features/filter/cql2-json.ts'
import { type Expression, isOperation, OPERANDS } from '../../features/filter/expression.ts'
import { OWN_FUNCTIONS } from '../../features/filter/functions.ts'
import { printText } from '../../features/filter/print.ts'

type Shop = {
  readonly id: number
  readonly name: string
  readonly brand?: 'one' | 'two' | null
  readonly seats: number | null
  readonly isOpen: boolean
  readonly opened: Date
  readonly closed?: string
  readonly tags: readonly string[] | null
  readonly extra: unknown
  readonly geom: Point
}
const shop = propertiesOf<Shop>()

/** Returns a condition as text, as the gateway's parser reads what the builder writes. */
const textOf = (condition: cql.Condition) => printText(parseJson(where(condition).filter).expression)

test('there is a builder for every operator and function, and each writes the operation that it is named after', () => {
  const names = [...OPERANDS.keys(), ...OWN_FUNCTIONS.list.map(({ name }) => name)]
  const written = Object.entries(cql).flatMap(([name, build]) => {
    if (['where', 'propertiesOf', 'call'].includes(name)) return []
    const part = (build as (...args: unknown[]) => Expression)('a', 'b')
    return isOperation(part) ? [part.op] : []
  })
  assert.deepEqual(written.toSorted(), names.toSorted())
})

test('filters are read as they are meant', () => {
  for (const [condition, text] of [
    [eq(shop.name, 'Bern'), "name = 'Bern'"],
    [
      and(eq(shop.seats, 5), or(like(shop.name, 'B%'), not(isNull(shop.brand)))),
      "seats = 5 AND (name LIKE 'B%' OR brand IS NOT NULL)",
    ],
    [isIn(shop.brand, ['one', 'two']), "brand IN ('one','two')"],
    [between(shop.seats, 1, cql.add(shop.id, 2.5)), 'seats BETWEEN 1 AND id + 2.5'],
    [eq(casei(shop.name), casei('Zürich')), "CASEI(name) = CASEI('Zürich')"],
    [cql.lt(cql.power(cql.divideWhole(shop.seats, 2), 2), cql.abs(-7)), '(seats div 2) ^ 2 < abs(-7)'],
    [sIntersects(shop.geom, bbox(5, 45, 11, 48)), 'S_INTERSECTS(geom,BBOX(5,45,11,48))'],
    [
      cql.sDwithin(shop.geom, { type: 'Point', coordinates: [7.4, 46.9] }, 5000),
      's_dwithin(geom,POINT(7.4 46.9),5000)',
    ],
    [tAfter(shop.opened, date('2024-02-29')), "T_AFTER(opened,DATE('2024-02-29'))"],
    [eq(shop.closed, new Date('2024-02-29T12:00:00Z')), "closed = TIMESTAMP('2024-02-29T12:00:00Z')"],
    [eq(shop.opened, date(new Date('2024-02-29T12:00:00Z'))), "opened = DATE('2024-02-29')"],
    [
      cql.tDuring(interval(shop.opened, shop.closed), interval(date('2024-01-01'), '..')),
      "T_DURING(INTERVAL(opened,closed),INTERVAL('2024-01-01','..'))",
    ],
    [
      cql.tIntersects(shop.opened, interval(timestamp('2024-01-01T00:00:00Z'), new Date('2024-02-29'))),
      "T_INTERSECTS(opened,INTERVAL('2024-01-01T00:00:00Z','2024-02-29T00:00:00Z'))",
    ],
    [cql.aContains(shop.tags, ['red', 'blue']), "A_CONTAINS(tags,('red','blue'))"],
    [cql.lte(shop.opened, cql.now()), 'opened <= now()'],
    [and(shop.isOpen, call<boolean>('isNear', shop.geom)), 'isOpen AND isNear(geom)'],
    [eq(propertiesOf()['population 2020'], 5), '"population 2020" = 5'],
  ] as const)
    assert.equal(textOf(condition), text)
})

test('conditions that are collected in a list are joined, however many they are', () => {
  const one = eq(shop.id, 1)
  assert.equal(textOf(and()), 'TRUE')
  assert.equal(textOf(or()), 'FALSE')
  assert.equal(textOf(and(one)), 'id = 1')
  assert.equal(textOf(or(...[one, one, one])), 'id = 1 OR id = 1 OR id = 1')
})

test('a condition or value that is missing is refused, and does not find everything', () => {
  // @ts-expect-error: a condition is needed
  for (const parameters of [where(), where(eq(shop.name, undefined)), where(and(eq(shop.id, 1), undefined))])
    assert.throws(() => parseJson(parameters.filter), /null cannot stand here/)
})

test('a filter is plain CQL2-JSON', () => {
  const condition = and(eq(shop.opened, date('2024-02-29')), eq(shop.name, "Dell'Orto"))
  const { expression } = parseJson(where(condition).filter)
  assert.equal(printJson(expression), JSON.stringify(condition))
  assert.equal(where(condition)['filter-lang'], 'cql2-json')
})

// The compiler checks this function, which never runs: a line that is expected to fail and does not is an error of tsc.
export function whatTheCompilerRefuses() {
  // @ts-expect-error: there is no such property
  eq(shop.population, 5)
  // @ts-expect-error: a text is no number
  eq(shop.seats, '5')
  // @ts-expect-error: a number is no text
  eq(shop.name, 5)
  // @ts-expect-error: not one of the values
  eq(shop.brand, 'three')
  // @ts-expect-error: one of the list is not one of the values
  isIn(shop.brand, ['one', 'three'])
  // @ts-expect-error: a value that is missing is found by isNull
  eq(shop.brand, null)
  // @ts-expect-error: properties of different types
  eq(shop.name, shop.seats)
  // @ts-expect-error: a text is no time where the type is Date
  eq(shop.opened, '2024-02-29')
  // @ts-expect-error: a time is no value of an enumeration
  eq(shop.brand, date('2024-02-29'))
  // @ts-expect-error: geometries are not compared
  eq(shop.geom, shop.geom)
  // @ts-expect-error: lists are not compared
  eq(shop.tags, shop.tags)
  // @ts-expect-error: JSON is only tested for a value
  eq(shop.extra, 'a')
  // @ts-expect-error: bounds of other types
  between(shop.seats, 'a', 'z')
  // @ts-expect-error: a pattern is for texts
  like(shop.seats, '5%')
  // @ts-expect-error: case is one of texts
  casei(shop.isOpen)
  // @ts-expect-error: arithmetic is for numbers
  cql.add(shop.name, 1)
  // @ts-expect-error: no geometry
  sIntersects(shop.name, bbox(5, 45, 11, 48))
  // @ts-expect-error: no box
  bbox(5, 45, 11)
  // @ts-expect-error: no type of geometries
  sIntersects(shop.geom, { type: 'Feature', coordinates: [] })
  // @ts-expect-error: a number is no time
  tAfter(shop.seats, date('2024-02-29'))
  // @ts-expect-error: an instant is no interval
  cql.tDuring(shop.opened, interval('2024-01-01', '..'))
  // @ts-expect-error: no list
  cql.aContains(shop.name, ['red'])
  // @ts-expect-error: elements of another type
  cql.aContains(shop.tags, [5])
  // @ts-expect-error: a number is no condition
  and(shop.isOpen, cql.add(shop.seats, 1))
  // @ts-expect-error: a text is no condition
  where(shop.name)
  // @ts-expect-error: a condition is no text
  like(eq(shop.name, 'a'), 'b')
  // @ts-expect-error: a box is no distance
  cql.sDwithin(shop.geom, shop.geom, bbox(5, 45, 11, 48))
  // @ts-expect-error: the function returns no condition
  not(call<number>('isNear', shop.geom))
}
