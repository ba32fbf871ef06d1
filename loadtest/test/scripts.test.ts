// Tests the settings of scripts, the errors of invalid ones, and draws by Zipf's law.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readSettings, SettingsError } from '../scripts/settings.ts'
import { makeZipf } from '../scripts/zipf.ts'

test('the default is 50 users for 30 seconds, and a script may have another', () => {
  const { users, spawnRate, runTime, readRatio, writeRatio, target } = readSettings({})
  assert.deepEqual([users, spawnRate, runTime, readRatio, writeRatio], [50, 10, 30, 80, 20])
  assert.equal(target, 'http://localhost:8080')
  assert.equal(readSettings({}, { runTime: 3_600 }).runTime, 3_600)
  assert.equal(readSettings({ RUN_TIME: '5' }, { runTime: 3_600 }).runTime, 5)
})

test('times may have units, and a slash at the end of the address is removed', () => {
  const timeOf = (text: string) => readSettings({ RUN_TIME: text }).runTime
  assert.deepEqual(['120', '90s', '10m', '2h'].map(timeOf), [120, 90, 600, 7_200])
  assert.equal(readSettings({ TARGET: 'https://maps.example/api/' }).target, 'https://maps.example/api')
})

test('an invalid setting is reported by its name, with its value and what is allowed', () => {
  const wrong: readonly (readonly [Record<string, string>, RegExp])[] = [
    [{ USERS: 'many' }, /^USERS=many: must be a whole number from 1 to 100000\.$/],
    [{ USERS: '0' }, /^USERS=0: /],
    [{ SPAWN_RATE: '1.5' }, /^SPAWN_RATE=1\.5: /],
    [{ RUN_TIME: '5 days' }, /^RUN_TIME=5 days: must be a time such as 30, 90s, 10m or 1h\.$/],
    [{ RUN_TIME: '0' }, /^RUN_TIME=0: /],
    [{ TARGET: 'localhost:8080' }, /^TARGET=localhost:8080: must be an address such as http:/],
    [{ COLLECTION: 'a/b' }, /^COLLECTION=a\/b: /],
    [{ READ_RATIO: '-1' }, /^READ_RATIO=-1: /],
    [{ READ_RATIO: '0', WRITE_RATIO: '0' }, /^WRITE_RATIO=0: must be more than 0 if READ_RATIO is 0\.$/],
    [{ P95: 'fast' }, /^P95=fast: /],
  ]
  for (const [environment, message] of wrong)
    assert.throws(
      () => readSettings(environment),
      (error: Error) => error instanceof SettingsError && message.test(error.message),
      JSON.stringify(environment),
    )
})

test('rank 2 is drawn half as often as rank 1, rank 10 a tenth as often, and the last rank is still drawn', () => {
  const draw = makeZipf(100)
  const counts = Array(100).fill(0)
  const draws = 1_000_000
  for (let number = 0; number < draws; number++) counts[draw((number + 0.5) / draws)]++
  assert.ok(Math.abs(counts[1] / counts[0] - 1 / 2) < 0.001)
  assert.ok(Math.abs(counts[9] / counts[0] - 1 / 10) < 0.001)
  assert.ok(Math.abs(counts[99] / counts[0] - 1 / 100) < 0.001)
  assert.equal(draw(0), 0)
  assert.equal(draw(1), 99)
  assert.equal(makeZipf(1)(0.5), 0)
})
