// How conditions are joined: their text, their values, where they confine a query to, and their form without an index.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compileFragment } from '../../database/fragment.ts'
import { sql } from '../../database/sql.ts'
import { bboxCondition, parseBbox } from '../../features/values/bbox.ts'
import { allOf, anyOf, type Condition } from '../../features/values/condition.ts'
import { pointColumn } from '../support/relation.ts'

const projected = pointColumn(25832)
const geographic = pointColumn(4326)
const named = (name: string, value: unknown): Condition => ({
  shape: `named ${JSON.stringify(name)}`,
  values: [value],
  compose: (value) => sql`${sql.identifier(name)} = ${value}`,
})
const textOf = (condition: Condition) => compileFragment(condition).text

test('values go to the parts that they belong to, however deep they are joined', () => {
  const condition = allOf([named('a', 1), anyOf([named('b', 2), allOf([named('c', 3), named('d', 4)])])])
  const { text, values } = compileFragment(condition)
  assert.equal(text, '("a" = $1 and ("b" = $2 or ("c" = $3 and "d" = $4)))')
  assert.deepEqual(values, [1, 2, 3, 4])
})

test('conditions of one shape share a text, and names cannot make two shapes look the same', () => {
  assert.equal(allOf([named('a', 1), named('b', 2)]).shape, allOf([named('a', 3), named('b', 4)]).shape)
  assert.notEqual(allOf([named('a', 1), named('b', 2)]).shape, anyOf([named('a', 1), named('b', 2)]).shape)
  assert.notEqual(
    allOf([named('a,named "b"', 1), named('c', 2)]).shape,
    allOf([named('a', 1), named('b', 2), named('c', 2)]).shape,
  )
})

test('a query is confined to the smallest boxes among all, and to the boxes of each alternative', () => {
  const wide = bboxCondition(parseBbox([0, 0, 40, 40]), geographic)
  const small = bboxCondition(parseBbox([50, 50, 51, 51]), geographic)
  const anywhere = named('a', 1)
  assert.deepEqual(allOf([wide, anywhere, small]).boxes, small.boxes)
  assert.equal(allOf([anywhere, named('b', 2)]).boxes, undefined)
  assert.deepEqual(anyOf([wide, small]).boxes, [...wide.boxes!, ...small.boxes!])
  assert.equal(anyOf([wide, anywhere]).boxes, undefined)
  assert.equal(bboxCondition(parseBbox([170, 0, -170, 10]), geographic).boxes!.length, 2)
})

test('without the index of a projected table everything else stays as it is', () => {
  const bbox = bboxCondition(parseBbox([5, 45, 11, 48]), projected)
  assert.match(textOf(bbox), /&& ST_Transform/)
  assert.doesNotMatch(textOf(bbox.withoutIndex!), /&&/)
  const joined = allOf([named('a', 1), bbox])
  assert.doesNotMatch(textOf(joined.withoutIndex!), /&&/)
  assert.deepEqual(compileFragment(joined.withoutIndex!).values, [
    1,
    'SRID=4326;POLYGON((5 45,5 48,11 48,11 45,5 45))',
  ])
  assert.deepEqual(joined.withoutIndex!.boxes, joined.boxes)
  // A condition that uses no index of that kind has no other form.
  assert.equal(bboxCondition(parseBbox([5, 45, 11, 48]), geographic).withoutIndex, undefined)
  assert.equal(bboxCondition(parseBbox([-170, -80, 170, 80]), projected).withoutIndex, undefined)
})
