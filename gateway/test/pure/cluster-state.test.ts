// Tests what is remembered of outages, how values are shown that cannot be read, and in which language.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { makeOutages } from '../../database/outages.ts'
import { makeGlimpse } from '../../http/glimpse.ts'
import { localOf } from '../../http/html/local.ts'

const error = new Error('The database cannot be reached.', { cause: new Error('connect ECONNREFUSED') })

test('an outage lasts from its event to the one that ends it, and has the first error', () => {
  const { note, list } = makeOutages()
  note({ type: 'primary-missing', group: 1, error })
  note({ type: 'primary-missing', group: 1, error: new Error('later') })
  note({ type: 'secondary-missing', group: 1, error })
  note({ type: 'endpoint-down', port: 'read', endpoint: 'a:1', error })
  note({ type: 'endpoint-down', port: 'write', endpoint: 'a:1', error })
  note({ type: 'primary-back', group: 1 })
  note({ type: 'endpoint-up', port: 'read', endpoint: 'a:1' })
  const facts = list().map(({ lost, until, reason }) => ({ lost, isOver: until !== undefined, reason }))
  const reason = 'connect ECONNREFUSED'
  assert.deepEqual(facts, [
    { lost: { endpoint: 'a:1', port: 'write' }, isOver: false, reason },
    { lost: { endpoint: 'a:1', port: 'read' }, isOver: true, reason },
    { lost: { group: 1, role: 'secondary' }, isOver: false, reason },
    { lost: { group: 1, role: 'primary' }, isOver: true, reason },
  ])
})

test('what is remembered is bounded, and no outage is forgotten while it lasts', () => {
  const { note, list, failovers } = makeOutages()
  note({ type: 'secondary-missing', group: 7, error: new Error('x'.repeat(10_000)) })
  for (let round = 0; round < 100; round++) {
    note({ type: 'endpoint-down', port: 'read', endpoint: `a:${round}`, error })
    note({ type: 'endpoint-up', port: 'read', endpoint: `a:${round}` })
    note({ type: 'primary-replaced', group: 1, from: `a:${round}`, to: `a:${round + 1}` })
  }
  assert.equal(list().length, 21)
  assert.deepEqual(list().at(-1)!.lost, { group: 7, role: 'secondary' })
  assert.ok(list().at(-1)!.reason.length <= 200)
  assert.equal(failovers().length, 20)
  assert.equal(failovers()[0]!.to, 'a:100')
})

test('a value that hangs or fails delays nothing, and the last one is shown', async () => {
  let answer = () => Promise.resolve(1)
  let asked = 0
  const read = makeGlimpse(() => {
    asked++
    return answer()
  }, 50)
  assert.deepEqual(await read(), { value: 1, unknownSince: undefined })
  await Promise.all([read(), read()])
  assert.equal(asked, 1)
  await sleep(60)
  const failing = Promise.withResolvers<number>()
  answer = () => failing.promise
  const start = performance.now()
  assert.deepEqual(await read(), { value: 1, unknownSince: undefined })
  assert.ok(performance.now() - start < 1_000)
  await read()
  assert.equal(asked, 2)
  failing.reject(error)
  const { value, unknownSince } = await read()
  assert.equal(value, 1)
  assert.ok(unknownSince! <= new Date())
  await sleep(60)
  answer = () => Promise.resolve(2)
  assert.deepEqual(await read(), { value: 2, unknownSince: undefined })
})

test('the language of a reader is the first that is known here, and any header is read', () => {
  const languageOf = (header: string | undefined) =>
    localOf({ headers: { 'accept-language': header } } as never).language
  assert.equal(languageOf(undefined), 'en')
  assert.equal(languageOf('fr;q=0.5, de-AT, en;q=0.9'), 'de-AT')
  assert.equal(languageOf('zh-Hant-TW'), 'zh-Hant-TW')
  // Extensions choose other digits and calendars; there are too many of them to keep.
  assert.equal(languageOf('ar-EG-u-nu-latn-ca-buddhist'), 'ar-EG')
  for (const header of ['', '*', 'x', '-', 'tlh', 'de_DE', '\u0000', ',,;q', 'q'.repeat(10_000)])
    assert.equal(languageOf(header), 'en', header)
})

test('amounts of bytes have three digits, a unit, and the separators of the language', () => {
  const bytes = (language: string, value: number) =>
    localOf({ headers: { 'accept-language': language } } as never).bytes(value)
  assert.equal(bytes('en', 0), '0 bytes')
  assert.equal(bytes('en', 1), '1 byte')
  assert.equal(bytes('en', 16_777_216), '16.8 MB')
  assert.equal(bytes('de', 1_234), '1,23 kB')
  assert.equal(bytes('en', 1e17), '100,000 TB')
})
