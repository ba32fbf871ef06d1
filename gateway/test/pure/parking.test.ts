// Tests parking: while a node group has no primary, its changes are tried one at a time, and those of other groups do
// not wait.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { makeParking } from '../../database/parking.ts'

const INTERVAL_MS = 10
const LONG_MS = 5_000
const GROUP = 1

/** Returns a parking in which a first change has found that the group has no primary. */
async function parkingOfLostGroup(intervalMs = INTERVAL_MS) {
  const parking = makeParking(intervalMs)
  const turn = await parking.enter(GROUP, LONG_MS)
  turn!(false)
  return parking
}

test('no change waits while the group has a primary, however many there are', async () => {
  const parking = makeParking(INTERVAL_MS)
  const turns = await Promise.all(Array.from({ length: 500 }, () => parking.enter(GROUP, 0)))
  assert.ok(turns.every((turn) => turn !== undefined))
  for (const turn of turns) turn!(true)
  assert.equal(parking.waiting, 0)
})

test('if a group has no primary, one change at a time is tried, and once one was served all may go', async () => {
  const parking = await parkingOfLostGroup()
  let [attempts, trying, served] = [0, 0, 0]
  let isBack = false
  const change = async () => {
    for (;;) {
      const turn = await parking.enter(GROUP, LONG_MS)
      attempts++
      trying++
      if (!isBack) assert.equal(trying, 1)
      await sleep(2)
      const isServed = isBack
      trying--
      turn!(isServed)
      if (isServed) break
    }
    served++
  }
  const changes = Promise.all(Array.from({ length: 100 }, change))
  await sleep(20 * INTERVAL_MS)
  assert.ok(attempts > 3 && attempts <= 21, String(attempts))
  assert.ok(parking.waiting >= 99)
  isBack = true
  await changes
  assert.equal(served, 100)
  assert.ok(attempts <= 22 + 100, String(attempts))
  assert.equal(parking.waiting, 0)
})

test('changes of other groups do not wait', async () => {
  const parking = await parkingOfLostGroup()
  assert.ok(await parking.enter(GROUP + 1, 0))
})

test('changes that find it out at the same time wait in one line', async () => {
  const parking = makeParking(INTERVAL_MS)
  const turns = await Promise.all(Array.from({ length: 20 }, () => parking.enter(GROUP, LONG_MS)))
  for (const turn of turns) turn!(false)
  const waiting = turns.map(() => parking.enter(GROUP, LONG_MS))
  await sleep(INTERVAL_MS / 2)
  assert.equal(parking.waiting, 20)
  const first = await waiting[0]
  assert.equal(parking.waiting, 19)
  first!(true)
  await Promise.all(waiting)
})

test('a change that waits for too long is given up, and the next one has its turn', async () => {
  // Long enough that no turn comes before the patience of the first one has ended, also on a busy machine.
  const parking = await parkingOfLostGroup(300)
  assert.equal(await parking.enter(GROUP, 0), undefined)
  const [impatient, patient] = await Promise.all([parking.enter(GROUP, 1), parking.enter(GROUP, LONG_MS)])
  assert.equal(impatient, undefined)
  assert.ok(patient)
})

test('the number of waiting changes has a maximum', async () => {
  const parking = await parkingOfLostGroup()
  const many = Array.from({ length: 300 }, () => parking.enter(GROUP, LONG_MS))
  assert.equal(parking.waiting, 200)
  const first = await many[0]
  first!(true)
  const turns = await Promise.all(many)
  assert.equal(turns.filter((turn) => turn === undefined).length, 100)
})
