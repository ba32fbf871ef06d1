// Tests JSON whose numbers keep every digit.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ExactNumber, parseExactJson, TooManyNumbers } from '../../features/values/exact-json.ts'

const exact = (text: string) => new ExactNumber(text)

test('numbers that JavaScript would change keep their text, wherever they are', () => {
  assert.deepEqual(parseExactJson('12345678901234567890', 'all'), exact('12345678901234567890'))
  assert.deepEqual(
    parseExactJson(
      '{"a":[1,{"b": -12345678901234567890 }],"c":1e400,"d":0.1234567890123456789,"e":null}',
      'all',
    ),
    {
      a: [1, { b: exact('-12345678901234567890') }],
      c: exact('1e400'),
      d: exact('0.1234567890123456789'),
      e: null,
    },
  )
  assert.deepEqual(parseExactJson('[1e400,0.1234567890123456789,9007199254740993,9007199254740991]'), [
    Infinity,
    0.12345678901234568,
    exact('9007199254740993'),
    9007199254740991,
  ])
})

test('numbers within texts and names stay text', () => {
  const text = '{"12345678901234567890":"\\"12345678901234567890","x\\\\":[12345678901234567890,"1e400"]}'
  assert.equal(JSON.stringify(parseExactJson(text, 'all')), text)
  const named = parseExactJson('{"__proto__":12345678901234567890}', 'all') as object
  assert.deepEqual(Object.getOwnPropertyDescriptor(named, '__proto__')!.value, exact('12345678901234567890'))
})

test('a number in a wrong place or of a wrong form is refused as in any JSON', () => {
  for (const text of [
    '{12345678901234567890:1}',
    '{12345678901234567890 \n:1}',
    '[012345678901234567890]',
    '[12345678901234567890.]',
    '[12345678901234567890"x"]',
    '[+12345678901234567890]',
    '[-]12345678901234567890',
    '[12345678901234567890e]',
  ]) {
    assert.throws(() => parseExactJson(text, 'all'), SyntaxError, text)
    assert.throws(() => JSON.parse(text), SyntaxError, text)
  }
})

test('a number whose text JavaScript writes again needs no text of its own, whatever the number of its digits', () => {
  for (const text of [
    '10.123456789012346',
    '0.1234567890123456',
    '9007199254740992',
    '-1.7976931348623157e+308',
  ])
    assert.doesNotThrow(() => parseExactJson(`[${text}]`, 'all', 0), text)
})

test('no more numbers are kept as text than allowed', () => {
  const of = (count: number) => `[${Array(count).fill('1e400').join()}]`
  assert.equal((parseExactJson(of(10), 'all', 10) as unknown[]).length, 10)
  assert.throws(() => parseExactJson(of(11), 'all', 10), TooManyNumbers)
})
