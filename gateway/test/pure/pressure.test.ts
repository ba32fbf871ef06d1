// Tests pressure: a wait at the server is told apart from the network's delay and from differences of the clocks, and
// the limit of concurrent queries follows it.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { adapt, adaptShare, makePressureGauge, SURE } from '../../database/pressure.ts'

const WAY_MS = 0.2

/**
 * Simulates a server whose clock is ahead, and too fast by the fraction `drift`.
 * @returns a function that measures the pressure of the server
 */
function makeServer({ aheadMs = 0, drift = 0, wayMs = WAY_MS } = {}) {
  const pressureOf = makePressureGauge()
  return (sentMs: number, waitMs: number) => {
    const arrivedMs = sentMs + wayMs + waitMs
    return pressureOf({
      sentMs,
      servedMs: arrivedMs * (1 + drift) + aheadMs,
      receivedMs: arrivedMs + wayMs,
    })
  }
}

test('a wait is pressure, whatever the clocks say', () => {
  for (const aheadMs of [0, 5_000, -3_600_000]) {
    const ask = makeServer({ aheadMs })
    assert.equal(ask(0, 0), 0)
    assert.ok(Math.abs(ask(250, 1 + WAY_MS) - 1) < 1e-6)
    assert.ok(ask(500, 10) > 5)
    assert.ok(ask(750, 0) < 1e-6)
  }
})

test('a part of the delay of a distant server is not counted as a wait', () => {
  const ask = makeServer({ wayMs: 20 })
  ask(0, 0)
  assert.ok(ask(250, 10) < 0.5)
  assert.ok(ask(500, 50) > 2)
})

test('the drift of a clock and a longer network delay no longer count within a minute', () => {
  const drifting = makeServer({ drift: 2e-5 })
  for (let ms = 0; ms < 3_600_000; ms += 250) assert.ok(Math.abs(drifting(ms, 0)) < 1, String(ms))
  const ask = makeServer()
  ask(0, 0)
  let pressure = Number.NaN
  for (let ms = 250; ms <= 41_000; ms += 250) pressure = ask(ms, 5)
  assert.ok(pressure < 1e-6)
})

/** Returns the limits over time for a server at which a query waits `waitMsOfEach` for each concurrent query. */
function follow(
  waitMsOfEach: number,
  { from, most, isWanted = true }: { from: number; most: number; isWanted?: boolean },
) {
  const ask = makeServer()
  ask(-250, 0)
  const limits: number[] = []
  let limit = from
  // Scheduling is uneven: one of four queries does not wait at all, and one waits twice as long.
  const whims = [1, 0, 2, 1]
  for (let turn = 0; turn < 400; turn++) {
    limit = adapt(limit, ask(turn * 250, waitMsOfEach * limit * whims[turn % whims.length]!), isWanted, most)
    limits.push(limit)
  }
  return limits
}

test('the limit of a server with spare capacity rises within seconds, up to the number of connections', () => {
  const limits = follow(0, { from: SURE, most: 64 })
  assert.ok(limits[6 * 4]! >= 64)
  assert.equal(limits.at(-1), 64)
})

test('the limit of a server under pressure falls until queries wait no longer than is right', () => {
  const limits = follow(0.1, { from: 64, most: 64 })
  assert.ok(limits[6 * 4]! < 20, String(limits[6 * 4]))
  for (const limit of limits.slice(200)) assert.ok(limit >= SURE && limit < 20, String(limit))
})

test('the limit does not fall below SURE, and rises only if queries wait for their turn', () => {
  assert.equal(follow(100, { from: 64, most: 64 }).at(-1), SURE)
  assert.deepEqual(new Set(follow(100, { from: 4, most: 4 })), new Set([4]))
  assert.deepEqual(new Set(follow(0, { from: SURE, most: 64, isWanted: false })), new Set([SURE]))
})

test('the share of a client falls to one if one probe of four waits, and rises at once when it is alone', () => {
  let share = 8
  for (let count = 0; count < 40; count++) share = adaptShare(share, count % 4 === 0 ? 3 : 0, true, 8)
  assert.equal(Math.floor(share), 1)
  for (let count = 0; count < 8; count++) share = adaptShare(share, 0, true, 8)
  assert.equal(Math.floor(share), 1, 'others still come')
  for (let count = 0; count < 24; count++) share = adaptShare(share, 3, false, 8)
  assert.equal(share, 8)
})
