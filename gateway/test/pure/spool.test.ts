// The spool: what is written for a feature, what is learned from it, and what a refused feature leaves behind.

import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type InvalidFeature, makeSpool, parseLine, type SpoolOptions } from '../../features/import/spool.ts'
import { parseExactJson } from '../../features/values/exact-json.ts'

const folder = mkdtempSync(join(tmpdir(), 'tessera-test-'))
after(() => rmSync(folder, { recursive: true, force: true }))

let files = 0
const open = (options: Partial<SpoolOptions> = {}, file = join(folder, `spool${files++}`)) =>
  makeSpool(file, {
    id: undefined,
    types: new Map(),
    jsonColumns: new Set(),
    hasTypes: true,
    hasDecimalCommas: false,
    note: () => {},
    ...options,
  })
const feature = (line: number, properties: Record<string, unknown>, geometry: unknown = null) => ({
  line,
  properties,
  geometry,
})
const point = { type: 'Point', coordinates: [1, 2] }
async function linesOf({ lines }: { lines: () => AsyncIterable<string[]> }) {
  const all = []
  for await (const some of lines()) all.push(...some)
  return all.map(parseLine)
}

test('a feature becomes a line, and columns get their types from all features', async () => {
  const spool = open()
  await spool.add({ ...feature(4, { n: 1, t: 'a\tb' }, point), id: 7 })
  await spool.add(feature(9, { n: 2.5, late: true }))
  const spooled = await spool.end()
  assert.deepEqual(spooled.columns, [
    { property: 'n', name: 'n', type: 'double precision', isComplete: true, commaExample: undefined },
    { property: 't', name: 't', type: 'text', isComplete: false, commaExample: undefined },
    { property: 'late', name: 'late', type: 'boolean', isComplete: false, commaExample: undefined },
  ])
  const { features, ids, idType, geometryTypes, dimensions, hasNullGeometry, footprints } = spooled
  assert.deepEqual([features, ids, idType, hasNullGeometry], [2, 1, 'integer', true])
  assert.deepEqual([[...geometryTypes], [...dimensions], footprints.length], [['Point'], [2], 1])
  assert.deepEqual(await linesOf(spooled), [
    {
      line: '4',
      id: '7',
      geometry: '{"type":"Point","coordinates":[1,2]}',
      footprint: footprints[0],
      properties: ['1', 'a\\tb'],
    },
    { line: '9', id: '\\N', geometry: '\\N', footprint: undefined, properties: ['2.5', '\\N', 'true'] },
  ])
})

test('a type that is known in advance is not inferred', async () => {
  const spool = open({ types: new Map([['code', 'text'] as const]) })
  await spool.add(feature(1, { code: 7, n: 7 }))
  const { columns } = await spool.end()
  assert.deepEqual(
    columns.map(({ type }) => type),
    ['text', 'integer'],
  )
})

test('in a source without types, the text of a column of jsonb must be JSON', async () => {
  const spool = open({ hasTypes: false, types: new Map([['n', 'jsonb'] as const]) })
  const texts = ['{"a": [1]}', '7', '"text"', 'null']
  for (const [index, text] of texts.entries()) await spool.add(feature(index, { n: text }))
  await assert.rejects(spool.add(feature(4, { n: 'text' })), {
    message: /^has text in n that is not valid JSON \(Unexpected token .*\); valid are for example .*"text"/,
  })
  const spooled = await spool.end()
  assert.deepEqual(spooled.columns, [
    { property: 'n', name: 'n', type: 'jsonb', isComplete: true, commaExample: undefined },
  ])
  assert.deepEqual(
    (await linesOf(spooled)).map(({ properties }) => properties[0]),
    texts,
  )
})

test('what goes into a column of JSON that exists becomes JSON', async () => {
  const spool = open({ jsonColumns: new Set(['j', 'id_']) })
  await spool.add(feature(1, { j: '5', id: 'x', t: '5' }))
  assert.deepEqual((await linesOf(await spool.end()))[0]!.properties, ['"5"', '"x"', '5'])
})

test('a feature that is refused is not counted, decides on no type and adds no column', async () => {
  const spool = open({ id: 'code' })
  const refuse = (invalid: Parameters<typeof spool.add>[0], message: RegExp) =>
    assert.rejects(spool.add(invalid), (error: InvalidFeature) => message.test(error.message))
  await spool.add(feature(1, { code: 1, n: 1 }))
  await refuse({ line: 2, problem: 'is not valid JSON' }, /^is not valid JSON$/)
  await refuse(
    feature(3, { code: 2, before: 1, n: 'text\0', after: 1 }),
    /^has text in n that PostgreSQL cannot store/,
  )
  await refuse(feature(4, { n: 'text' }), /^has no property code/)
  await refuse(feature(5, { code: [1], n: 'text' }), /^has an id that is no text or number$/)
  await refuse(
    feature(6, { code: 3, n: 'text' }, { type: 'Point', coordinates: [1, 91] }),
    /^has a geometry that/,
  )
  await refuse(
    feature(7, { code: 4, before: 1, n: parseExactJson('[1,{"a":1e401}]', 'all') }),
    /^has 1e401 in n, a number that is too large/,
  )
  const deep = JSON.parse(`${'['.repeat(100_000)}${']'.repeat(100_000)}`)
  await refuse(feature(8, { code: 5, n: deep }), /^has a value in n that is nested too deeply$/)
  const spooled = await spool.end()
  assert.deepEqual([spooled.features, spooled.ids], [1, 1])
  assert.deepEqual(spooled.columns, [
    { property: 'n', name: 'n', type: 'integer', isComplete: true, commaExample: undefined },
  ])
  assert.deepEqual(
    (await linesOf(spooled)).map(({ line }) => line),
    ['1'],
  )
})

test('features that are refused do not count towards the number of columns', async () => {
  const spool = open()
  const properties = (count: number, prefix: string) =>
    Object.fromEntries(Array.from({ length: count }, (_, index) => [`${prefix}${index}`, 'text']))
  for (let line = 1; line <= 3; line++)
    await assert.rejects(spool.add(feature(line, { ...properties(1_000, `${line}_`), n: '\0' })), /NUL/)
  await spool.add(feature(4, properties(1_500, 'p')))
  await assert.rejects(spool.add(feature(5, { other: 1 })), {
    message: /more than 1500 different properties/,
  })
  assert.equal((await spool.end()).columns.length, 1_500)
})

test('a property that is missing is null, even if every object of JavaScript inherits one of its name', async () => {
  const names = ['constructor', 'toString', '__proto__']
  const all = JSON.parse('{"constructor":1,"toString":2,"__proto__":3}')
  const spool = open()
  await spool.add(feature(1, all))
  await spool.add(feature(2, {}))
  const spooled = await spool.end()
  assert.deepEqual(
    spooled.columns.map(({ property, type, isComplete }) => [property, type, isComplete]),
    names.map((name) => [name, 'integer', false]),
  )
  assert.deepEqual(
    (await linesOf(spooled)).map(({ properties }) => properties),
    [
      ['1', '2', '3'],
      ['\\N', '\\N', '\\N'],
    ],
  )
  for (const id of names) {
    const byId = open({ id })
    await byId.add(feature(1, all))
    await assert.rejects(byId.add(feature(2, {})), {
      message: `has no property ${id}, which is to be its id`,
    })
    await byId.end()
  }
})

test('lines that are longer than a chunk of the file come back complete', async () => {
  const spool = open()
  const text = 'ä'.repeat(100_000)
  for (let line = 1; line <= 5; line++) await spool.add(feature(line, { text }))
  const lines = await linesOf(await spool.end())
  assert.deepEqual(
    lines.map(({ line, properties }) => [line, properties[0] === text]),
    [1, 2, 3, 4, 5].map((line) => [String(line), true]),
  )
})

const skip = existsSync('/dev/full') ? false : 'there is no /dev/full'
test('a disk without space fails the import, and not the process', { skip, timeout: 10_000 }, async () => {
  const text = 'x'.repeat(100_000)
  const fill = async (pauseMs: number) => {
    const spool = open({}, '/dev/full')
    for (let line = 1; line <= 10; line++) {
      await spool.add(feature(line, { text }))
      await sleep(pauseMs)
    }
    await spool.end()
  }
  // The file fails while the spool waits for it, or in between.
  for (const pauseMs of [0, 100]) await assert.rejects(fill(pauseMs), { code: 'ENOSPC' })
})

test('a property of any name has a column, and a name that changes is said once', async () => {
  const notes: string[] = []
  const spool = open({ note: (note) => notes.push(note) })
  const long = 'Anzahl der gemeldeten Personen mit Migrationshintergrund 2023 insgesamt'
  const names = [
    '',
    'id',
    'a\0b',
    long,
    `${long}, davon weiblich`,
    'ж'.repeat(40),
    '😀'.repeat(20),
    'plain',
    '\ud83d',
  ]
  const properties = Object.fromEntries(names.map((name, index) => [name, index]))
  await spool.add(feature(1, properties))
  await spool.add(feature(2, properties))
  const { columns } = await spool.end()
  const columnOf = (name: string) => columns.find(({ property }) => property === name)!.name
  assert.deepEqual(['', 'id', 'a\0b', 'plain', '\ud83d'].map(columnOf), [
    'column_1',
    'id_',
    'a\ufffdb',
    'plain',
    '\ufffd',
  ])
  assert.match(columnOf(long), /^Anzahl der gemeldeten Personen mit Migrationshintergru_[0-9a-f]{8}$/)
  assert.match(columnOf('ж'.repeat(40)), /^ж{27}_[0-9a-f]{8}$/)
  assert.match(columnOf('😀'.repeat(20)), /^(😀){13}_[0-9a-f]{8}$/u)
  assert.equal(new Set(columns.map(({ name }) => name)).size, names.length)
  for (const { name } of columns) assert.ok(Buffer.byteLength(name) <= 63 && name.isWellFormed(), name)
  assert.equal(notes.length, names.length - 1)
  assert.ok(notes.includes(`The property "${long}" becomes the column ${columnOf(long)}.`))
})

test('a long name gets the same column whichever property a source names first', async () => {
  const names = ['x'.repeat(70), `${'x'.repeat(70)}y`]
  const columnsOf = async (order: string[]) => {
    const spool = open()
    await spool.add(feature(1, Object.fromEntries(order.map((name) => [name, 1]))))
    return new Map((await spool.end()).columns.map(({ property, name }) => [property, name]))
  }
  const [forward, backward] = [await columnsOf(names), await columnsOf(names.toReversed())]
  for (const name of names) assert.equal(forward.get(name), backward.get(name))
})

test('a name that another property has already gets a number', async () => {
  const spool = open()
  await spool.add(feature(1, { id_: 1, id: 2, column_4: 3, '': 4 }))
  assert.deepEqual(
    (await spool.end()).columns.map(({ name }) => name),
    ['id_', 'id_2', 'column_4', 'column_4_2'],
  )
})

test('numbers beyond the third of a position are said to be left out, once', async () => {
  const notes: string[] = []
  const spool = open({ note: (note) => notes.push(note) })
  for (const line of [5, 6]) await spool.add(feature(line, {}, { type: 'Point', coordinates: [1, 2, 3, 4] }))
  assert.deepEqual((await spool.end()).dimensions, new Set([3]))
  assert.equal(notes.length, 1)
  assert.match(notes[0]!, /^Line 5 has positions of more than three numbers/)
})

test('a column of decimal commas is one of numbers, unless its type is known to be another', async () => {
  const columnsOf = async (types: SpoolOptions['types']) => {
    const spool = open({ hasTypes: false, hasDecimalCommas: true, types })
    await spool.add(feature(1, { n: '10,5' }))
    await spool.add(feature(2, { n: '3' }))
    return (await spool.end()).columns.map(({ type, commaExample }) => [type, commaExample])
  }
  assert.deepEqual(await columnsOf(new Map()), [['double precision', '10,5']])
  assert.deepEqual(await columnsOf(new Map([['n', 'numeric']])), [['numeric', '10,5']])
  assert.deepEqual(await columnsOf(new Map([['n', 'text']])), [['text', undefined]])
})
