// Tests what clients may spend in a time, and how much memory that takes.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { makeAccounts } from '../../http/rates.ts'

const LIMITS = { rateRequests: 10, rateBytes: 1_000, rateWindow: 60 }

test('a client may spend its quotas in each window, which begins with its first request', () => {
  let now = 5_000
  const accounts = makeAccounts(LIMITS, () => now)
  accounts.spend(['a', 9, 300])
  assert.deepEqual(accounts.look('a'), { left: [1, 700], spent: [], seconds: 60 })
  now += 45_500
  accounts.spend(['a', 1, 0])
  const { left, spent, seconds } = accounts.look('a')
  assert.deepEqual([left, spent.map(({ name }) => name), seconds], [[0, 700], ['requests'], 15])
  assert.deepEqual(accounts.look('b').left, [10, 1_000])
  now += 14_500
  assert.deepEqual(accounts.look('a'), { left: [10, 1_000], spent: [], seconds: 60 })
})

test('an answer that was larger than its quota also counts in the next window, and in no further one', () => {
  let now = 0
  const accounts = makeAccounts(LIMITS, () => now)
  accounts.spend(['a', 1, 1_000_000])
  now += 60_000
  assert.deepEqual(accounts.look('a').left, [10, 0])
  now += 60_000
  assert.deepEqual(accounts.look('a').left, [10, 1_000])
  accounts.spend(['a', 1, 1_400])
  now += 60_000
  assert.deepEqual(accounts.look('a').left, [10, 600])
  // A client that was away for a window owes nothing.
  accounts.spend(['a', 1, 3_000])
  now += 120_001
  assert.deepEqual(accounts.look('a').left, [10, 1_000])
})

test('no more clients are remembered than a bound, and the oldest are forgotten first', () => {
  let now = 0
  const accounts = makeAccounts(LIMITS, () => now, 100)
  for (let client = 0; client < 100; client++) accounts.spend([`${client}`, 1, 0])
  now += 1
  accounts.spend(['one more', 1, 0])
  assert.equal(accounts.size, 100)
  assert.equal(accounts.look('99').left[0], 9)
  now += 60_000
  accounts.spend(['later', 1, 0])
  assert.ok(accounts.size < 5, 'windows that are over leave nothing')
})

test('without quotas there are no policies', () => {
  const none = makeAccounts({ ...LIMITS, rateRequests: 0, rateBytes: 0 }, () => 0)
  assert.deepEqual(none.policies, [])
  assert.deepEqual(
    makeAccounts({ ...LIMITS, rateRequests: 0 }, () => 0).policies.map(({ text }) => text),
    ['"bytes";q=1000;qu="content-bytes";w=60'],
  )
})
