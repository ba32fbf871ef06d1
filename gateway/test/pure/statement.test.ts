// Tests how many shapes of statements are remembered, and how many are prepared.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sql } from '../../database/sql.ts'
import { templateOf } from '../../database/template.ts'

let composed = 0
const ask = (shape: number) =>
  templateOf(`shape ${shape}`, () => {
    composed++
    return sql`select ${sql.raw(String(shape))}`
  })
const isPrepared = (shape: number) => ask(shape).name !== undefined

test('the first shapes are prepared, and later ones replace those that have not been used for long', (t) => {
  const shapes = Array.from({ length: 300 }, (_, shape) => shape)
  assert.equal(shapes.filter(isPrepared).length, 200)
  assert.deepEqual([isPrepared(0), isPrepared(299)], [true, false])
  assert.equal(ask(7).text, 'select 7')
  const before = ask(0).name
  const now = performance.now()
  t.mock.method(performance, 'now', () => now + 1_801_000)
  // A shape that was just used makes no room: 0 stays, and after 199 others have been replaced none is left for 299.
  assert.equal(ask(0).name, before)
  assert.equal(shapes.slice(100).filter(isPrepared).length, 199)
  assert.deepEqual([0, 1, 298, 299].map(isPrepared), [true, false, true, false])
  assert.equal(ask(0).name, before)
})

test('shapes in use are not forgotten for shapes that come once', () => {
  assert.equal(isPrepared(5_000), false)
  composed = 0
  for (let shape = 1_000; shape < 3_000; shape++) {
    ask(shape)
    // A shape that is prepared, and one that is not.
    ask(0)
    ask(5_000)
  }
  assert.equal(composed, 2_000)
  ask(1_000)
  assert.equal(composed, 2_001)
})
