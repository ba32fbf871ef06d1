// Trying again: a few dozen times at once, and a tenth of all requests in the long run.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { makeRetryBudget } from '../../database/budget.ts'

test('what quiet times have saved up is spent once, then a tenth of what comes in', () => {
  const budget = makeRetryBudget()
  const spendAll = () => {
    let spent = 0
    while (budget.spend()) spent++
    return spent
  }
  for (let request = 0; request < 10_000; request++) budget.earn()
  assert.equal(spendAll(), 50)
  for (let request = 0; request < 205; request++) budget.earn()
  assert.equal(spendAll(), 20)
})
