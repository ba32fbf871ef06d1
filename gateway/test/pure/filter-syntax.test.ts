// Tests how filters are read and written: CQL2 text and CQL2-JSON, their errors, and what reading costs.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import fc from 'fast-check'
import { compileFragment } from '../../database/fragment.ts'
import { GatewayError } from '../../errors.ts'
import { makeCollection } from '../../features/collections/collection.ts'
import { parseJson, printJson } from '../../features/filter/cql2-json.ts'
import { parseText } from '../../features/filter/cql2-text.ts'
import type { Expression } from '../../features/filter/expression.ts'
import { filterCondition } from '../../features/filter/filter.ts'
import { printText } from '../../features/filter/print.ts'
import { filterTree } from '../support/filter-tree.ts'
import { makeRandom } from '../support/random.ts'
import { column, tableOf } from '../support/relation.ts'

const read = (name: string) =>
  JSON.parse(readFileSync(new URL(`../data/cql2/${name}`, import.meta.url), 'utf8'))
const examples: { name: string; text: string; json: unknown }[] = read('examples.json')
const annex: { predicate: string }[] = read('annex-a.json')

const relation = tableOf('things', 'Geometry', [
  column('name', 'text'),
  column('number', 'int4'),
  column('na"me', 'float8'),
  column('day', 'date'),
  column('seen', 'timestamptz'),
  column('code', 'uuid'),
  column('mood', 'mood', true, { category: 'E', labels: ['good', 'bad'] }),
  column('tags', '_text', true, { category: 'A' }),
  column('extra', 'jsonb'),
])
const collection = makeCollection(relation, undefined, undefined, undefined, 1)

const fromText = (text: string): Expression => parseText(text).expression
const fromJson = (json: unknown): Expression =>
  parseJson(typeof json === 'string' ? json : JSON.stringify(json)).expression

test('every example of the standard is the same as text and as JSON', () => {
  assert.equal(examples.length, 120)
  for (const { name, text, json } of examples) {
    assert.deepEqual(fromText(text), fromJson(json), name)
  }
})

test('every predicate of annex A is itself after it is written as text or as JSON', () => {
  for (const { predicate } of annex) {
    const expression = fromText(predicate)
    assert.deepEqual(fromText(printText(expression)), expression, predicate)
    assert.deepEqual(fromJson(printJson(expression)), expression, predicate)
  }
})

/** Trees and mutations of the run; many more by hand, after a change to the reader. */
const RUNS = Number(process.env.FILTER_RUNS ?? 3_000)

/** An operand of an array function that begins with a bracket, and is no list. */
const GROUPED = {
  op: 'a_overlaps',
  args: [
    [],
    { op: 'and', args: [{ op: 'or', args: [{ property: 'a' }, { property: 'b' }] }, { property: 'c' }] },
  ],
}

test('any tree that is written and read is itself, as text and as JSON', () => {
  fc.assert(
    fc.property(filterTree, (tree) => {
      assert.deepEqual(fromText(printText(tree)), tree)
      assert.deepEqual(fromJson(printJson(tree)), tree)
    }),
    { numRuns: RUNS, examples: [[GROUPED]] },
  )
})

/** Reads and checks a filter as a request would; returns the error that the client would get, if any. */
function answer(source: string, language: 'cql2-text' | 'cql2-json'): GatewayError | undefined {
  try {
    const condition = filterCondition({ filter: source, 'filter-lang': language }, collection)
    compileFragment(condition!)
    return undefined
  } catch (error) {
    if (error instanceof GatewayError) return error
    throw new Error(`${language}: ${source}`, { cause: error })
  }
}

test('inputs that were changed at random are read or refused, and each refusal names the parameter', () => {
  const random = makeRandom(5)
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)]!
  const pieces = [
    ...'()\'",.<>=+-*/%^\\ \n\0é😀',
    'AND ',
    ' OR ',
    'NOT ',
    ' IN ',
    'BBOX(',
    'POINT(',
    "DATE('",
    '1e99',
    '-',
    'null',
    'casei(',
    'geom',
    '[',
    '{"op":"',
    '"args":',
    ']}',
  ]
  const corpus = {
    'cql2-text': [...annex.map(({ predicate }) => predicate), ...examples.map(({ text }) => text)],
    'cql2-json': examples.map(({ json }) => JSON.stringify(json)),
  }
  let refused = 0
  for (let run = 0; run < RUNS; run++)
    for (const language of ['cql2-text', 'cql2-json'] as const) {
      let source = pick(corpus[language])
      for (let change = 0; change <= run % 4; change++) {
        const [from, length] = [Math.floor(random() * source.length), Math.floor(random() * 6)]
        const inserted = random() < 0.3 ? pick(corpus[language]).slice(from, from + 20) : pick(pieces)
        source = source.slice(0, from) + inserted + source.slice(from + length)
      }
      const error = answer(source, language)
      if (!error) continue
      refused++
      assert.deepEqual([error.code, error.facts.parameter], ['parameter-invalid', 'filter'], source)
    }
  assert.ok(refused > RUNS / 2, `only ${refused}`)
})

const refusal = (source: string, language: 'cql2-text' | 'cql2-json' = 'cql2-text') => {
  const error = answer(source, language)
  assert.ok(error, source)
  const { position, line, pointer } = error.facts
  return { position, line, pointer, detail: error.message }
}

test('errors name the position and what was expected', () => {
  for (const [source, position, line, detail] of [
    ['', undefined, undefined, /must not be empty/],
    ['name =', 6, 1, /expected a property, a literal or a bracket, but the filter ends/],
    ['name = 1 AND', 12, 1, /but the filter ends/],
    ["name = 'a\nOR number ~ 3", 7, 1, /has no closing '/],
    ['number = 1\n  AND\n  number ~ 3', 26, 3, /"~" cannot stand here/],
    ['number = 1 = 2', 11, 1, /expected AND, OR, a bracket or the end, but found "="/],
    ['(number = 1', 11, 1, /expected an operator, "," or "\)", but the filter ends/],
    ['number BETWEEN 1 OR 2', 17, 1, /expected "AND", but found "OR"/],
    ['number NOT = 2', 11, 1, /expected LIKE, BETWEEN or IN/],
    ['2 ^ 3 ^ 4 = number', 6, 1, /brackets around one of two powers/],
    ["day = DATE('2023-02-29')", 11, 1, /expected a date such as/],
    ["seen = TIMESTAMP('2023-02-28T10:00:00+01:00')", 17, 1, /expected a time in UTC such as/],
    ['S_INTERSECTS(geom, POINT(1))', 19, 1, /a position of 1 numbers/],
    ['S_INTERSECTS(geom, POLYGON((0 0,1 0,1 1,0 1)))', 19, 1, /a ring that is not closed/],
    ['S_INTERSECTS(geom, BBOX(1,2,3))', 19, 1, /four or six numbers/],
    ['S_INTERSECTS(geom, BBOX(1,50,3,40))', 19, 1, /southern latitude comes first/],
    ['S_INTERSECTS(geom)', 0, 1, /takes 2 operands, and not 1/],
    ['nothing = 1', 0, 1, /there is no property "nothing"; there are id, name/],
    ["name = 'x' AND\nnothing(name) = 1", 15, 2, /there is no function "nothing"; there are .*s_dwithin/],
    ['length(name, 2) = 1', 0, 1, /length takes 1 operands \(text\), and not 2/],
    ["number = 'x'", 9, 1, /"number" must be compared with a number, and not with a text/],
    ["day > 'yesterday'", 6, 1, /"day" must be compared with a date or time/],
    ['extra = 1', 0, 1, /"extra" is JSON/],
    ['geom = 1', 0, 1, /this is a geometry/],
    ['name = number', 0, 1, /expected a number to compare, but "name" is a text/],
    ["number LIKE '1%'", 0, 1, /expected a text, but "number" is a number/],
    ['name LIKE name', 10, 1, /which is no property/],
    ["name LIKE 'a\\\\'", 10, 1, /cannot end with a single backslash/],
    ['name', 0, 1, /expected a condition, which is true or false, but "name" is a text/],
    ["T_DURING(day, DATE('2020-01-01'))", 9, 1, /t_during compares intervals/],
    ["T_AFTER(day, INTERVAL('2021-01-01','2020-01-01'))", 13, 1, /must not end before it starts/],
    ['A_CONTAINS(tags, (1))', 17, 1, /"tags" must be compared with a text/],
    ["A_CONTAINS(name, ('a'))", 11, 1, /expected a list or a property of lists/],
    ["name = 'a\0'", 7, 1, /cannot contain the character NUL/],
  ] as const) {
    const { detail: found, ...facts } = refusal(source)
    assert.match(found, detail, source)
    assert.deepEqual([facts.position, facts.line], [position, line], source)
  }
  for (const [source, pointer, detail] of [
    ['{"op":"=","args":[{"property":"nothing"},1]}', '/args/0', /there is no property "nothing"/],
    ['{"op":"and","args":[true,{"op":"=","args":[1]}]}', '/args/1/args', /= takes 2 operands, and not 1/],
    ['{"op":"S_INTERSECTS","args":[]}', '/op', /there is no operator "S_INTERSECTS"/],
    [
      '{"op":"isNull","args":[{"property":"name","x":1}]}',
      '/args/0',
      /there is no member "x" next to "property"/,
    ],
    ['{"op":"=","args":[null,1]}', '/args/0', /null cannot stand here/],
    ['{"op":"in","args":[{"property":"number"},1]}', '/args/1', /expected a list of values/],
    ['{"op":"t_after","args":[{"property":"day"},{"date":"2020-1-1"}]}', '/args/1/date', /expected a date/],
    ['[1,2]', '', /expected a condition/],
  ] as const) {
    const { detail: found, ...facts } = refusal(source, 'cql2-json')
    assert.match(found, detail, source)
    assert.equal(facts.pointer, pointer, source)
  }
  const { position, detail } = refusal('{"op":"=" "args"}', 'cql2-json')
  assert.equal(position, 10)
  assert.match(detail, /it is no JSON/)
})

test('no input costs more than a millisecond a kilobyte, or ends in anything but an answer', () => {
  const many = (text: string, length = 60_000) =>
    text.repeat(Math.ceil(length / text.length)).slice(0, length)
  const inputs: [string, string, 'cql2-text' | 'cql2-json'][] = [
    ...[
      '(',
      ')',
      'NOT ',
      '-',
      '+',
      "'",
      '"',
      "''",
      '\\',
      ' ',
      '\n',
      '1',
      '1.',
      '1e',
      '.',
      '((1',
      'a',
      'a.',
      'casei(',
      'lower(',
      'a_equals((',
      'name=1 AND ',
      '1+',
      '2^',
      'POINT(',
      'POLYGON((',
      '<',
      '=',
      'name LIKE ',
      'é',
      '😀',
      'name IS ',
      'INTERVAL(',
      "DATE('",
      'GEOMETRYCOLLECTION(',
      '(1,',
      '\0',
      'NOT(',
      '-(',
      'not name=1 or ',
    ].map((piece) => [`${piece}…`, many(piece), 'cql2-text'] as [string, string, 'cql2-text']),
    ['wide AND', many("name='x' AND ", 10_000) + 'true', 'cql2-text'],
    ['long list', `number IN (${many('123456,')}1)`, 'cql2-text'],
    ['long list of texts', `name IN (${many("'ab',")}'a')`, 'cql2-text'],
    ['long list of sums', `number IN (${many('id+1,', 4_000)}1)`, 'cql2-text'],
    ['long text', `name='${many('x')}'`, 'cql2-text'],
    ['long name', `${many('x')}=1`, 'cql2-text'],
    ['long line', `s_intersects(geom,LINESTRING(${many('1 2,')}3 4))`, 'cql2-text'],
    ['many points', `s_intersects(geom,MULTIPOINT(${many('(1 2),')}(3 4)))`, 'cql2-text'],
    ['deep brackets', `${many('(', 99)}true${many(')', 99)}`, 'cql2-text'],
    ['deep not', `${many('NOT ', 4 * 98)}true`, 'cql2-text'],
    ['deep sum', `${many('id+', 3 * 90)}1=1`, 'cql2-text'],
    ['wide of deep', many(`${many('(', 40)}id=1${many(')', 40)} OR `, 50_000) + 'true', 'cql2-text'],
    ...['[', '{"op":', '{"op":"not","args":[', '1,', '"', '{"a":'].map(
      (piece) => [`${piece}…`, many(piece), 'cql2-json'] as [string, string, 'cql2-json'],
    ),
    ['JSON list', `{"op":"in","args":[{"property":"number"},[${many('1234567,')}1]]}`, 'cql2-json'],
    [
      'JSON exact list',
      `{"op":"in","args":[{"property":"number"},[${many('12345678901234567890,')}1]]}`,
      'cql2-json',
    ],
    [
      'JSON line',
      `{"op":"s_within","args":[{"property":"geom"},{"type":"LineString","coordinates":[${many('[1,2],')}[1,2]]}]}`,
      'cql2-json',
    ],
    ['JSON deep', `${many('{"op":"not","args":[', 98 * 20)}true${many(']}', 98 * 2)}`, 'cql2-json'],
  ]
  for (const [name, source, language] of inputs) {
    answer(source, language)
    const times = Array.from({ length: 3 }, () => {
      const before = process.threadCpuUsage()
      answer(source, language)
      return process.threadCpuUsage(before).user / 1_000
    })
    // Ten times as much is allowed as is promised, for slow machines; the time of other processes does not count.
    const allowed = 10 * Math.max(source.length / 1_000, 1)
    assert.ok(
      Math.min(...times) < allowed,
      `${name}: ${Math.min(...times)} ms for ${source.length} characters`,
    )
  }
})

test('a form of a filter has one text, whatever its values', () => {
  const compiled = (filter: string) => compileFragment(filterCondition({ filter }, collection)!)
  const one = compiled("name = 'a' AND number IN (1,2) AND s_intersects(geom, POINT(1 2))")
  const other = compiled(
    "name = 'b''; drop table x; --' AND number IN (3,4,5,6) AND s_intersects(geom, POINT(7 8))",
  )
  assert.equal(one.text, other.text)
  assert.ok(!other.text.includes('drop'))
  assert.deepEqual(other.values, ["b'; drop table x; --", ['3', '4', '5', '6'], 'SRID=4326;POINT(7 8)'])
  assert.match(compiled('"na""me" = 1').text, /"na""me" = \$1/)
})

test('a filter is confined to the boxes of its geometries, also below AND and within OR', () => {
  const boxesOf = (filter: string) =>
    filterCondition({ filter }, collection)!.boxes?.map((box) => Object.values(box))
  const a = 's_intersects(geom, BBOX(1,2,3,4))'
  const b = 's_within(geom, POLYGON((10 10,11 10,11 11,10 10)))'
  assert.deepEqual(boxesOf(a), [[1, 2, 3, 4]])
  assert.deepEqual(boxesOf(`number = 1 AND (${a} OR ${b})`), [
    [1, 2, 3, 4],
    [10, 10, 11, 11],
  ])
  assert.deepEqual(boxesOf(`${a} AND ${b}`), [[10, 10, 11, 11]])
  for (const anywhere of [
    `${a} OR number = 1`,
    `NOT ${a}`,
    's_disjoint(geom, POINT(1 2))',
    's_intersects(POINT(1 2), POINT(1 2))',
  ])
    assert.equal(boxesOf(anywhere), undefined, anywhere)
  assert.deepEqual(boxesOf('s_intersects(geom, BBOX(170,0,-170,10))'), [
    [170, 0, 180, 10],
    [-180, 0, -170, 10],
  ])
})
