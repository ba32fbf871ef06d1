// Tests that each failure is answered by a small problem, also if the description of the failure fails itself.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import Fastify from 'fastify'
import { GatewayError, gatewayError, listed, quoted } from '../../errors.ts'
import type { Event } from '../../events.ts'
import { problem } from '../../http/problem.ts'

async function answerTo(error: Error) {
  const events: Event[] = []
  const app = Fastify()
  problem(app, { emit: (event) => events.push(event) })
  app.get('/', () => {
    throw error
  })
  const answer = await app.inject('/')
  await app.close()
  return { answer, events }
}

test('an error that cannot be written as JSON is answered by a problem, and logged', async () => {
  const { answer, events } = await answerTo(
    gatewayError('feature-invalid', 'is wrong', { size: 1n as never }),
  )
  assert.equal(answer.statusCode, 500)
  assert.match(String(answer.headers['content-type']), /^application\/problem\+json/)
  assert.equal(answer.headers['cache-control'], 'no-store')
  assert.equal(answer.json().code, 'internal-error')
  assert.equal(events.at(-1)!.type, 'request-failed')
})

test('the texts and facts of an error have a greatest length', async () => {
  const long = 'x'.repeat(1_000_000)
  const faults = Array.from({ length: 1_000 }, () => ({ pointer: `/${long}`, detail: long }))
  const { answer } = await answerTo(
    gatewayError('feature-invalid', long, { errors: faults, parameter: long }),
  )
  assert.equal(answer.statusCode, 422)
  assert.ok(answer.payload.length < 120_000, String(answer.payload.length))
  assert.equal(answer.json().errors.length, 20)
  assert.ok(new GatewayError('internal-error', long).message.length < 5_000)
})

test('values of clients are shown in quotes, and shortened', () => {
  assert.equal(quoted('a "b"'), '"a \\"b\\""')
  assert.equal(quoted('x'.repeat(1_000)), `"${'x'.repeat(100)}…"`)
  assert.deepEqual([null, 1, true, undefined, [1], { a: 1 }].map(quoted), [
    'null',
    '1',
    'true',
    'undefined',
    'a list',
    'an object',
  ])
  assert.equal(listed(['a', 'b']), 'a, b')
  assert.match(listed(Array.from({ length: 53 }, (_, index) => String(index))), /, 49 and 3 more$/)
})
