// Tests the summary of a property over HTTP: frequent values, classes of numbers, samples of large tables, and faults.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { distributeById } from '../support/distribute.ts'
import { startGateway } from '../support/gateway.ts'

const { client, session, catalog } = await startGateway()

await session.query(`
  create table springs (
    id int primary key, geom geometry(Point, 4326), "the kind" text, open boolean, stars int, flow float8, price numeric,
    long text, tags text[], seen date, extra jsonb)`)
await distributeById(session, 'springs')
await session.query(`
  insert into springs select i, 'SRID=4326;POINT(1 2)',
    case when i <= 60 then 'hot' when i <= 90 then 'cold, clear' else (array['a','b','c','d','e','f','g','h','i', null])[i - 90] end,
    i % 4 = 0, i % 6, i * 10, i % 2 + 0.50, repeat('x', 90 + i), '{a}', '2020-01-01', '{}' from generate_series(1, 100) i;
  update springs set flow = 'NaN' where id = 1;
  update springs set flow = 'Infinity' where id = 2;
  create view spring_view as select * from springs`)
await session.query('analyze springs')
await catalog.reload()

const summaryOf = async (property: string, id = 'springs') => {
  const { status, json } = await client(`/collections/${id}/summary?property=${encodeURIComponent(property)}`)
  assert.equal(status, 200, JSON.stringify(json))
  return json
}

test('the most frequent texts come first, with their numbers; others are left out', async () => {
  for (const id of ['springs', 'spring_view']) {
    const { values, ...rest } = await summaryOf('the kind', id)
    assert.deepEqual(rest, { property: 'the kind', sampled: 100, missing: 1 })
    assert.equal(values.length, 8)
    assert.deepEqual(values.slice(0, 3), [
      { value: 'hot', count: 60 },
      { value: 'cold, clear', count: 30 },
      { value: 'a', count: 1 },
    ])
  }
})

test('numbers with few values have these, in order; booleans too', async () => {
  assert.deepEqual(
    (await summaryOf('stars')).values.map(({ value }: { value: number }) => value),
    [0, 1, 2, 3, 4, 5],
  )
  assert.deepEqual((await summaryOf('price')).values, [
    { value: 0.5, count: 50 },
    { value: 1.5, count: 50 },
  ])
  assert.deepEqual((await summaryOf('open')).values, [
    { value: false, count: 75 },
    { value: true, count: 25 },
  ])
})

test('other numbers have classes with as many features each, with round bounds, and without those that are no numbers', async () => {
  assert.deepEqual(await summaryOf('flow'), {
    property: 'flow',
    sampled: 100,
    missing: 2,
    values: [],
    bounds: [30, 220, 420, 610, 810, 1000],
  })
})

test('texts that are too long for a legend are left out', async () => {
  const { values, sampled, missing } = await summaryOf('long')
  assert.deepEqual([sampled, missing], [100, 0])
  assert.ok(values.every(({ value }: { value: string }) => value.length <= 100))
})

test('of a large table a part is read', async () => {
  const { sampled, values } = await summaryOf('country', 'cities')
  assert.ok(sampled > 5_000 && sampled <= 100_000, `${sampled}`)
  const [{ held: most }] = (await session.query<{ held: string }>(
    'select country as held from cities group by 1 order by count(*) desc limit 1',
  )) as [{ held: string }]
  assert.ok(
    values.slice(0, 3).some(({ value }: { value: string }) => value === most),
    JSON.stringify(values),
  )
})

test('a property that cannot be summarized is refused with those that can', async () => {
  for (const name of ['nothing', 'tags', 'seen', 'extra', 'id', 'geom']) {
    const { status, json } = await client(`/collections/springs/summary?property=${name}`)
    assert.equal(status, 400)
    assert.equal(json.code, 'parameter-invalid')
    assert.equal(json.parameter, 'property')
    assert.equal(json.example, 'the kind')
    assert.match(json.detail, /one of "the kind", "open", "stars"/)
  }
  const { status, json } = await client('/collections/springs/summary')
  assert.deepEqual([status, json.parameter], [400, 'property'])
  assert.equal((await client('/collections/none/summary?property=x')).status, 404)
})
