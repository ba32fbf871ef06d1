// Tests the column type that values get, and how values are written for COPY.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  COLUMN_TYPES,
  ColumnObserver,
  type ColumnType,
  copyTextOf,
  isOfType,
  parseColumnType,
} from '../../features/import/column-type.ts'
import { ExactNumber } from '../../features/values/exact-json.ts'

const typeOf = (values: unknown[], hasTypes = true) => {
  const observer = new ColumnObserver(hasTypes)
  for (const value of values) observer.observe(value)
  return observer.type
}

const cases: [unknown[], string][] = [
  [[], 'text'],
  [[1, -2], 'integer'],
  [[1, 3e9], 'bigint'],
  [[1, 2.5], 'double precision'],
  [[1, 2 ** 60], 'bigint'],
  [[1, 2 ** 63], 'double precision'],
  [[true, false], 'boolean'],
  [[true, 1], 'text'],
  [['a'], 'text'],
  [['1'], 'text'],
  [[1, 'a'], 'text'],
  [['2024-02-29'], 'date'],
  [['2023-02-29'], 'text'],
  [['2024-02-29', '2024-02-29T10:00:00Z'], 'timestamptz'],
  [['2024-02-29T10:00:00.123+02:00'], 'timestamptz'],
  [[{ a: 1 }, [1]], 'jsonb'],
  [[{ a: 1 }, 'x'], 'text'],
]
for (const [values, type] of cases)
  test(`${JSON.stringify(values)} get the type ${type}`, () => assert.equal(typeOf(values), type))

test('a value is of the types that keep it as it is', () => {
  const exact = new ExactNumber('9007199254740993')
  const fits: [unknown, ColumnType[]][] = [
    [7, ['smallint', 'integer', 'bigint', 'real', 'double precision', 'numeric']],
    [-32769, ['integer', 'bigint', 'real', 'double precision', 'numeric']],
    [2 ** 60, ['bigint', 'real', 'double precision', 'numeric']],
    [exact, ['bigint', 'numeric']],
    [1e300, ['double precision', 'numeric']],
    [1e-60, ['double precision', 'numeric']],
    [true, ['boolean']],
    ['x', ['text']],
    ['2024-02-29', ['text', 'date', 'timestamptz']],
    ['2023-02-29', ['text']],
    ['10:00:00.5', ['text', 'time']],
    ['00000000-0000-0000-0000-00000000000A', ['text', 'uuid']],
    ['\\x00ff', ['text', 'bytea']],
    [{ a: 1 }, []],
  ]
  for (const [value, types] of fits)
    assert.deepEqual(
      COLUMN_TYPES.filter((type) => isOfType(value, type)),
      [...types, 'jsonb'],
      String(value),
    )
})

test('types have the names of the list and some short ones, and no others', () => {
  assert.equal(parseColumnType('double'), 'double precision')
  assert.equal(parseColumnType('date'), 'date')
  for (const name of ['complex', 'constructor', '__proto__']) assert.equal(parseColumnType(name), undefined)
})

test('integers beyond 2^53 keep their digits', () => {
  assert.equal(typeOf([1, new ExactNumber('9007199254740993')]), 'bigint')
  assert.equal(typeOf([new ExactNumber('99999999999999999999')]), 'numeric')
  assert.equal(typeOf(['12345678901234567890', '12345678901234567891'], false), 'text')
  assert.equal(copyTextOf(new ExactNumber('9007199254740993'), undefined, true), '9007199254740993')
  assert.equal(
    copyTextOf({ a: new ExactNumber('9007199254740993') }, undefined, true),
    '{"a":9007199254740993}',
  )
})

test('a column becomes numeric if a double would lose a digit, and only then', () => {
  const exact = (text: string) => new ExactNumber(text)
  const cases: [unknown[], string][] = [
    [[exact('9007199254740993'), 1.5], 'numeric'],
    [[1.5, exact('9007199254740993')], 'numeric'],
    [[exact('9007199254740992'), 1.5], 'double precision'],
    [[exact('1000000000000000000'), 1.5], 'double precision'],
    [[exact('0.30000000000000004')], 'double precision'],
    [[exact('0.1000000000000000055511151231257827')], 'numeric'],
    [[exact('1.00000000000000000001')], 'numeric'],
    [[exact('-1.50000000000000000000e-3')], 'double precision'],
    [[exact('1e400')], 'numeric'],
    [[exact('1e-400')], 'numeric'],
    [[exact('1e300')], 'double precision'],
    [[exact('1e400'), 'x'], 'text'],
  ]
  for (const [values, type] of cases) assert.equal(typeOf(values), type, values.join())
  const texts: [string[], string][] = [
    [['1.5', '9007199254740993'], 'numeric'],
    [['1.5', '2.25'], 'double precision'],
    [['0.12345678901234567890'], 'numeric'],
    [['1e400'], 'numeric'],
    [['1e100000'], 'text'],
    [['1.'.padEnd(2000, '1')], 'text'],
  ]
  for (const [values, type] of texts) assert.equal(typeOf(values, false), type, values.join())
})

test('decimal commas are numbers if they may be and the column has no other numbers; separated thousands never are', () => {
  const observe = (values: string[], may = true) => {
    const observer = new ColumnObserver(false, may)
    for (const value of values) observer.observe(value)
    return [observer.type, observer.commaExample]
  }
  assert.deepEqual(observe(['10,5', '-3', '0,25']), ['double precision', '10,5'])
  assert.deepEqual(observe(['3', '10,5']), ['double precision', '10,5'])
  assert.deepEqual(observe(['3', '4']), ['integer', undefined])
  assert.deepEqual(observe(['3.5', '4']), ['double precision', undefined])
  assert.deepEqual(observe(['10,12345678901234567890']), ['numeric', '10,12345678901234567890'])
  for (const values of [
    ['10,5', '3.5'],
    ['1.234,5'],
    ['1,234,567'],
    ['1 234,5'],
    ['01,5'],
    [',5'],
    ['10,5', 'x'],
  ])
    assert.deepEqual(observe(values), ['text', undefined], values.join())
  assert.deepEqual(observe(['10,5'], false), ['text', undefined])
})

test('in a format without types, text that looks like a value of a type gets that type', () => {
  assert.equal(typeOf(['1', '-20'], false), 'integer')
  assert.equal(typeOf(['1.5', '2'], false), 'double precision')
  assert.equal(typeOf(['true', 'false'], false), 'boolean')
  assert.equal(typeOf(['01001', '2'], false), 'text')
})

test('special characters of COPY are escaped, and text that cannot be stored is refused', () => {
  assert.equal(copyTextOf('a\tb\\c\nd', undefined, true), 'a\\tb\\\\c\\nd')
  assert.equal(copyTextOf(null, undefined, true), '\\N')
  assert.equal(copyTextOf('\\N', undefined, true), '\\\\N')
  assert.equal(copyTextOf({ a: '\n' }, undefined, true), '{"a":"\\\\n"}')
  assert.equal(copyTextOf('a\0b', undefined, true), undefined)
  assert.equal(copyTextOf('\ud800', undefined, true), undefined)
})

test('in a column of jsonb, text is a string if the source has types, and otherwise JSON', () => {
  assert.equal(copyTextOf('[1]', 'jsonb', true), '"[1]"')
  assert.equal(copyTextOf('[1]', 'jsonb', false), '[1]')
  assert.equal(copyTextOf('{"a": "\\n"}', 'jsonb', false), '{"a": "\\\\n"}')
  assert.equal(copyTextOf('[1]', 'text', false), '[1]')
})

test('JSON with escapes that jsonb cannot store is refused, and other escapes are not', () => {
  assert.equal(copyTextOf({ a: ['\0'] }, undefined, true), undefined)
  assert.equal(copyTextOf({ '\ud800': 1 }, undefined, true), undefined)
  assert.equal(copyTextOf('\0', 'jsonb', true), undefined)
  for (const text of ['"\\u0000"', '"\\ud800"', '"\\uDC00\\uD800"', '"\\\\\\u0000"', '"\\ud83d\\n\\ude00"'])
    assert.equal(copyTextOf(text, 'jsonb', false), undefined, text)
  for (const text of ['"\\ud83d\\ude00"', '"\\\\u0000"', '"\\u0001"', '"\\\\ud800"'])
    assert.equal(copyTextOf(text, 'jsonb', false), text.replaceAll('\\', '\\\\'), text)
})
