// Pressure: a wait is told from the way and from clocks that are apart, and what is asked at once follows it.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { adapt, makePressureGauge, SURE } from '../../database/pressure.ts'

const WAY_MS = 0.2

/** A server whose clock is ahead, and goes too fast by a part of time. */
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

test('what is far away may take longer by a part of the way', () => {
  const ask = makeServer({ wayMs: 20 })
  ask(0, 0)
  assert.ok(ask(250, 10) < 0.5)
  assert.ok(ask(500, 50) > 2)
})

test('a clock that drifts and a way that has become longer are forgotten within a minute', () => {
  const drifting = makeServer({ drift: 2e-5 })
  for (let ms = 0; ms < 3_600_000; ms += 250) assert.ok(Math.abs(drifting(ms, 0)) < 1, String(ms))
  const ask = makeServer()
  ask(0, 0)
  let pressure = Number.NaN
  for (let ms = 250; ms <= 41_000; ms += 250) pressure = ask(ms, 5)
  assert.ok(pressure < 1e-6)
})

/** Limits over time, of a server that lets a question wait so long for each that is asked at once. */
function follow(
  waitMsOfEach: number,
  { from, most, isWanted = true }: { from: number; most: number; isWanted?: boolean },
) {
  const ask = makeServer()
  ask(-250, 0)
  const limits: number[] = []
  let limit = from
  // The scheduler's whims: of four questions, one gets through at once, and one waits twice as long.
  const whims = [1, 0, 2, 1]
  for (let turn = 0; turn < 400; turn++) {
    limit = adapt(limit, ask(turn * 250, waitMsOfEach * limit * whims[turn % whims.length]!), isWanted, most)
    limits.push(limit)
  }
  return limits
}

test('a server that has room is asked more, within seconds, and no more than there are connections', () => {
  const limits = follow(0, { from: SURE, most: 64 })
  assert.ok(limits[6 * 4]! >= 64)
  assert.equal(limits.at(-1), 64)
})

test('a server that is pressed is asked less, until a question waits as long as is right', () => {
  const limits = follow(0.1, { from: 64, most: 64 })
  assert.ok(limits[6 * 4]! < 20, String(limits[6 * 4]))
  for (const limit of limits.slice(200)) assert.ok(limit >= SURE && limit < 20, String(limit))
})

test('what is sure is asked in any case, and more only where somebody waits for it', () => {
  assert.equal(follow(100, { from: 64, most: 64 }).at(-1), SURE)
  assert.deepEqual(new Set(follow(100, { from: 4, most: 4 })), new Set([4]))
  assert.deepEqual(new Set(follow(0, { from: SURE, most: 64, isWanted: false })), new Set([SURE]))
})
