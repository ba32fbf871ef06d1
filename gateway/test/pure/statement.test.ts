// How many shapes of statements are remembered, and how many are prepared.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sql } from 'drizzle-orm'
import { templateOf } from '../../database/template.ts'

let composed = 0
const ask = (shape: number) =>
  templateOf(`shape ${shape}`, () => {
    composed++
    return sql`select ${sql.raw(String(shape))}`
  })
const isPrepared = (shape: number) => ask(shape).name !== undefined

test('of many shapes the first are prepared, and others in the place of what is long out of use', (t) => {
  const shapes = Array.from({ length: 300 }, (_, shape) => shape)
  assert.equal(shapes.filter(isPrepared).length, 200)
  assert.deepEqual([isPrepared(0), isPrepared(299)], [true, false])
  assert.equal(ask(7).text, 'select 7')
  const before = ask(0).name
  const now = performance.now()
  t.mock.method(performance, 'now', () => now + 1_801_000)
  // Used just now: none makes room for another.
  assert.equal(ask(0).name, before)
  assert.equal(shapes.slice(100).filter(isPrepared).length, 199)
  assert.deepEqual([0, 1, 298, 299].map(isPrepared), [true, false, true, false])
  assert.equal(ask(0).name, before)
})

test('what is in use is not forgotten for what comes once', () => {
  assert.equal(isPrepared(5_000), false)
  composed = 0
  for (let shape = 1_000; shape < 3_000; shape++) {
    ask(shape)
    // One that is prepared, and one that is not.
    ask(0)
    ask(5_000)
  }
  assert.equal(composed, 2_000)
  ask(1_000)
  assert.equal(composed, 2_001)
})
