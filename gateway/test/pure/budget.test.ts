// Tests the budget of retries: 50 at once, and a tenth of all requests in the long run.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { makeRetryBudget } from '../../database/budget.ts'

test('what quiet times have saved is spent once, and then a tenth of the requests', () => {
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
