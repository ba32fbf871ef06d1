// Tests what is read from the text of check constraints. The texts are PostgreSQL's own.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Limits, limitsOf } from '../../features/values/limits.ts'

const cases: readonly (readonly [constraint: string, limits: Limits])[] = [
  ['CHECK ((x >= 0))', { minimum: 0 }],
  ['CHECK (((x >= 0) AND (x <= 10)))', { minimum: 0, maximum: 10 }],
  ["CHECK (((x > ('-5'::integer)::numeric) AND (x < 7.5)))", { exclusiveMinimum: -5, exclusiveMaximum: 7.5 }],
  ['CHECK ((0 <= x))', { minimum: 0 }],
  ['CHECK ((VALUE > 0))', { exclusiveMinimum: 0 }],
  ['CHECK (("a b" >= (1)::double precision))', { minimum: 1 }],
  ['CHECK (((a >= 1) AND ((a <= 5) AND (a <> 3))))', { minimum: 1, maximum: 5 }],
  ["CHECK ((kind = ANY (ARRAY['a'::text, 'b''c, d]'::text])))", { values: ['a', "b'c, d]"] }],
  [
    "CHECK (((kind)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))",
    { values: ['a', 'b'] },
  ],
  ['CHECK ((n = ANY (ARRAY[1, 2, 3])))', { values: [1, 2, 3] }],
  ['CHECK (((length(name) > 2) AND (char_length((name)::text) <= 9)))', { minLength: 3, maxLength: 9 }],
  // Whatever a schema cannot say is left out, not guessed.
  ['CHECK (((x > 0) OR (x < -5)))', {}],
  ['CHECK ((NOT (x > 5)))', {}],
  ['CHECK (((x)::integer >= 5))', {}],
  ['CHECK ((abs(x) >= 5))', {}],
  ["CHECK ((name ~ '^( AND | OR )+$'::text))", {}],
  ["CHECK ((d >= '2000-01-01'::date))", {}],
  ['CHECK ((x = ANY (ARRAY[1, y])))', {}],
  ['CHECK ((', {}],
  ["CHECK ((a > 'unclosed))", {}],
]

for (const [constraint, limits] of cases)
  test(constraint, () => assert.deepEqual(limitsOf([constraint]), limits))

test('several constraints hold together', () => {
  const constraints = ['CHECK ((x >= 0))', 'CHECK ((x >= 3))', 'CHECK ((x <= 9))', 'CHECK ((x <= 12))']
  assert.deepEqual(limitsOf(constraints), { minimum: 3, maximum: 9 })
  const lists = ['CHECK ((x = ANY (ARRAY[1, 2, 3])))', 'CHECK ((x = ANY (ARRAY[2, 3, 4])))']
  assert.deepEqual(limitsOf(lists), { values: [2, 3] })
})
