// Tests how request parameters become a query, and its SQL.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { hashOfInteger } from '../../database/shards.ts'
import { makeCollection, type Relation } from '../../features/collections/collection.ts'
import { geojson } from '../../features/formats/geojson.ts'
import { planItems } from '../../features/query/item-query.ts'
import { compileLookup } from '../../features/query/lookup-statement.ts'
import { renderCursor } from '../../features/query/order.ts'
import { compileItems, compilePage } from '../../features/query/page.ts'
import { column, tableOf } from '../support/relation.ts'

const relation = tableOf('od"d', 'Point', [
  column('na"me', 'text'),
  column('height', 'float8', false),
  column('extra', 'jsonb'),
])
const collection = makeCollection(relation, undefined, undefined, undefined, 1)

test('identifiers come from the catalog and are quoted, values are bound', () => {
  const evil = `x'; drop table a; --`
  const { text, values } = compileItems(planItems({ 'na"me': evil }, collection), geojson)
  assert.match(text, /from "public"."od""d"/)
  assert.match(text, /"na""me" = \$\d/)
  assert.ok(!text.includes(evil))
  assert.ok(values.includes(evil))
})

test('a page without geometries has a statement of its own, which reads none', () => {
  const page = (skipGeometry: boolean) => compilePage(planItems({ skipGeometry }, collection), geojson)
  assert.match(page(false).text, /ST_AsGeoJSON/)
  assert.doesNotMatch(page(true).text, /ST_AsGeoJSON/)
  assert.notEqual(page(true).name, page(false).name)
})

test('a type of PostgreSQL may have the name of what every object of JavaScript inherits', () => {
  const columns = [...relation.columns, column('odd', 'constructor')]
  const { properties, queryables } = makeCollection(
    { ...relation, columns },
    undefined,
    undefined,
    undefined,
    1,
  )
  assert.equal(properties.find(({ name }) => name === 'odd')!.kind, 'other')
  assert.equal(queryables.has('odd'), false)
})

test('requests of one shape share a prepared statement, whatever their values', () => {
  const statement = (bbox: number[], limit: number) =>
    compilePage(planItems({ bbox, limit }, collection), geojson)
  assert.equal(statement([1, 2, 3, 4], 10).name, statement([5, 6, 7, 8], 99).name)
  assert.notEqual(statement([1, 2, 3, 4], 10).text, statement([170, 2, -170, 4], 10).text)
})

test("a query of one shard also has a statement for the shard's own table, with the same values", () => {
  const ranges = [
    { id: 102_008, least: -(2 ** 31), most: -1, table: 'od"d_102008' },
    { id: 102_009, least: 0, most: 2 ** 31 - 1, table: 'od"d_102009' },
  ]
  const celled: Relation = {
    ...relation,
    level: 8,
    columns: [...relation.columns, column('cell', 'int4', false)],
  }
  const spread = makeCollection(
    celled,
    undefined,
    undefined,
    { by: 'column', column: 'cell', shards: ranges },
    2,
  )
  const cellIn = ({ least, most }: (typeof ranges)[0]) => {
    for (let cell = 0; ; cell++) if (hashOfInteger(cell) >= least && hashOfInteger(cell) <= most) return cell
  }
  const [low, high] = ranges.map(cellIn) as [number, number]
  const [one, other] = [low, high].map((cell) => compileLookup(spread, ['5'], [cell]))
  assert.match(one!.text, /from "public"\."od""d" /)
  assert.match(one!.ofShard!().text, /from "public"\."od""d_102008" where 1 \/ .*shardid = 102008/s)
  assert.match(other!.ofShard!().text, /from "public"\."od""d_102009" /)
  assert.notEqual(one!.ofShard!().name, other!.ofShard!().name)
  assert.deepEqual(one!.ofShard!().values, one!.values)
  assert.equal(one!.ofShard!().name, compileLookup(spread, ['6'], [low]).ofShard!().name)
  assert.ok(compileLookup(spread, ['5'], [low, low]).ofShard)
  assert.equal(compileLookup(spread, ['5'], [low, high]).ofShard, undefined)
  assert.equal(compileLookup(spread, ['5']).ofShard, undefined)
  const page = compilePage(planItems({ bbox: [1, 1, 1.1, 1.1], 'na"me': 'x' }, spread), geojson)
  assert.equal(page.cells!.length, 1)
  assert.match(page.ofShard!().text, /from "public"\."od""d_10200[89]" as item where 1 \//)
  assert.deepEqual(page.ofShard!().values, page.values)
  assert.equal(compilePage(planItems({ bbox: [-180, -90, 180, 90] }, spread), geojson).ofShard, undefined)
})

test('ids looked up together are padded to lists of few lengths, so that plans are kept', () => {
  const ids = ['5', '6', '7', '8', '9']
  const statements = ids.map((_, at) => compileLookup(collection, ids.slice(0, at + 1)))
  assert.deepEqual(
    statements.map(({ values }) => values.length),
    [1, 4, 4, 4, 16],
  )
  assert.deepEqual(statements[4]!.values, [...ids, ...Array(11).fill('9')])
  assert.equal(statements[2]!.name, statements[3]!.name)
})

test('the order is total: the key follows the requested columns', () => {
  assert.match(
    compileItems(planItems({ sortby: ['-height'] }, collection), geojson).text,
    /order by item\."height" desc, item\."id"/,
  )
  assert.match(
    compileItems(planItems({ sortby: ['+id'] }, collection), geojson).text,
    /order by item\."id"\s/,
  )
  assert.match(
    compileItems(planItems({ sortby: [' na"me'] }, collection), geojson).text,
    /order by item\."na""me", item\."id"/,
  )
})

test('a cursor is valid only for its order, and only with values that its columns can store', () => {
  const query = planItems({ sortby: ['height'] }, collection)
  const cursor = renderCursor(query.order, { values: ['1.5', '7'] }, collection.key)
  assert.deepEqual(planItems({ sortby: ['height'], cursor }, collection).after, ['1.5', '7'])
  const forged = [
    cursor.slice(1),
    'x',
    '',
    renderCursor(query.order, { values: ['1;drop', '7'] }, collection.key),
    renderCursor(query.order, { values: [null, '7'] }, collection.key),
    renderCursor(query.order, { values: ['1'] }, collection.key),
  ]
  for (const bad of [
    ...forged,
    renderCursor(planItems({}, collection).order, { values: ['7'] }, collection.key),
  ]) {
    assert.throws(() => planItems({ sortby: ['height'], cursor: bad }, collection), {
      code: 'parameter-invalid',
    })
  }
  assert.throws(() => planItems({ cursor, offset: 1 }, collection), /exclude each other/)
})

test('only the first page of a condition is in any order, and its cursor has keys that the column can store', () => {
  const parameters = { height: '7', limit: 100 }
  const isUnordered = (given: object) => planItems({ ...parameters, ...given }, collection).isUnordered
  assert.equal(isUnordered({}), true)
  for (const given of [{ sortby: ['height'] }, { offset: 0 }, { limit: 1000 }, { limit: 'none' }])
    assert.equal(isUnordered(given), false, JSON.stringify(given))
  assert.equal(planItems({ limit: 100 }, collection).isUnordered, false)
  const { order, key } = { ...planItems(parameters, collection), key: collection.key }
  for (const values of [[], ['7']]) {
    const cursor = renderCursor(order, { values, shown: '["1","5"]' }, key)
    const next = planItems({ ...parameters, cursor }, collection)
    assert.deepEqual([next.isUnordered, next.shown, next.after ?? []], [false, ['1', '5'], values])
    const { text, values: bound } = compilePage(next, geojson)
    assert.match(text, /"id" <> all\(\$\d\)/)
    assert.ok(bound.some((value) => String(value) === '1,5'))
  }
  for (const shown of ['["x"]', '"1"', '[1]', JSON.stringify(Array(251).fill('1'))]) {
    const cursor = renderCursor(order, { values: [], shown }, key)
    assert.throws(() => planItems({ ...parameters, cursor }, collection), { code: 'parameter-invalid' })
  }
})

test('unknown parameters and columns, and invalid values, are refused by name', () => {
  assert.throws(() => planItems({ nothing: '1' }, collection), { code: 'parameter-unknown' })
  assert.throws(() => planItems({ extra: '{}' }, collection), { code: 'parameter-unknown' })
  assert.throws(() => planItems({ sortby: ['extra'] }, collection), /sortby must name/)
  assert.throws(() => planItems({ properties: ['nothing'] }, collection), /properties must name/)
  assert.throws(() => planItems({ id: 'abc' }, collection), /id must be an integer from/)
  assert.throws(() => planItems({ id: ['1', '2'] }, collection), /id must be given once/)
})
