// Tests what answers under way may hold of memory, and how many answers with all features there are at once.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import Fastify from 'fastify'
import { GatewayError } from '../../errors.ts'
import { type AnswerLimits, makeAnswers } from '../../http/answers.ts'
import { until } from '../support/until.ts'

/** Starts a server whose answers hold memory until they are released. */
async function start(limits: Partial<AnswerLimits>) {
  const app = Fastify({ forceCloseConnections: true })
  const answers = makeAnswers(app, {
    bufferLimit: 1_000,
    leastRate: 0,
    answerTimeoutMs: 60_000,
    clientStreams: 100,
    poolSize: 16,
    clientOf: ({ headers }) => String(headers.client),
    emit: () => {},
    ...limits,
  })
  const waiting: (() => void)[] = []
  app.get<{ Params: { bytes: string } }>('/:bytes', async (request, reply) => {
    const { bytes } = request.params
    try {
      if (bytes === 'whole') answers.openLarge(request, reply, true)
      else answers.reserve(reply, Number(bytes))
    } catch (error) {
      assert.ok(error instanceof GatewayError)
      return reply.code(503).send(error.code)
    }
    await new Promise<void>((resolve) => waiting.push(resolve))
    return 'done'
  })
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  return {
    ask: (what: string, client = 'a', signal?: AbortSignal) =>
      fetch(`${url}/${what}`, { headers: { client }, ...(signal ? { signal } : {}) }),
    /** Waits until this many answers are under way. */
    untilUnderWay: (count: number) => until(async () => waiting.length === count, 5_000),
    release: () => {
      for (const end of waiting.splice(0)) end()
    },
    close: () => app.close(),
  }
}

test('a large feature gets no memory that others have left no place for, unless nobody else waits', async () => {
  const { ask, untilUnderWay, release, close } = await start({ bufferLimit: 1_000 })
  const first = ask('800')
  await untilUnderWay(1)
  const refused = await ask('300')
  assert.deepEqual([refused.status, await refused.text()], [503, 'gateway-busy'])
  const small = ask('200')
  await untilUnderWay(2)
  release()
  assert.deepEqual([(await first).status, (await small).status], [200, 200])
  // One that is larger than the limit is served when it is alone; one whose client has left waits for nobody.
  const leaving = new AbortController()
  const left = ask('5000', 'a', leaving.signal).catch(() => undefined)
  await untilUnderWay(1)
  assert.equal((await ask('1')).status, 503)
  leaving.abort()
  await left
  release()
  const alone = ask('5000')
  await untilUnderWay(1)
  release()
  assert.equal((await alone).status, 200)
  await close()
})

test('answers with all features have a quarter of the connections, and one client half of that', async () => {
  const { ask, untilUnderWay, release, close } = await start({ poolSize: 16 })
  const under = [ask('whole', 'a'), ask('whole', 'a')]
  await untilUnderWay(2)
  assert.equal((await ask('whole', 'a')).status, 503)
  under.push(ask('whole', 'b'), ask('whole', 'b'))
  await untilUnderWay(4)
  assert.equal((await ask('whole', 'c')).status, 503)
  release()
  assert.deepEqual(
    (await Promise.all(under)).map(({ status }) => status),
    [200, 200, 200, 200],
  )
  const again = ask('whole', 'c')
  await untilUnderWay(1)
  release()
  assert.equal((await again).status, 200)
  await close()
})
