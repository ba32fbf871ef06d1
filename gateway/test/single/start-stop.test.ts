// Tests a gateway with a database that others run: it waits for the database at its start, and at its end it serves
// until load balancers have left it.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { testDatabase } from '../support/database.ts'
import { startTessera } from '../support/process.ts'
import { openRelay } from '../support/relay.ts'

const DELAY_MS = 3_000

test('a gateway that is started before its database waits for it', async (t) => {
  const relay = await openRelay(testDatabase().readUrl)
  t.after(() => relay.close())
  relay.cut()
  const tessera = startTessera(['serve', '--port', '0', '--processes', '1'], { TESSERA_READ_URL: relay.url })
  await tessera.event('database-awaited')
  assert.equal(tessera.count('gateway-listening'), 0)
  relay.mend()
  const { url } = await tessera.event('gateway-listening')
  assert.equal((await fetch(`${url}/collections`)).status, 200)
})

test('a gateway that stops is no longer ready, and serves until load balancers have left it', async () => {
  const args = ['serve', '--port', '0', '--processes', '1', '--drain-delay-ms', String(DELAY_MS)]
  const tessera = startTessera(args, { TESSERA_READ_URL: testDatabase().readUrl })
  const { url } = await tessera.event('gateway-listening')
  const ask = async (path: string) => {
    const response = await fetch(url + path)
    await response.text()
    return [response.status, response.headers.get('connection')]
  }
  assert.deepEqual(await ask('/health/ready'), [200, 'keep-alive'])
  const start = performance.now()
  tessera.child.kill('SIGTERM')
  while ((await ask('/health/ready'))[0] === 200) await sleep(20)
  assert.ok(performance.now() - start < DELAY_MS / 2)
  // The client is to connect again, to another gateway, and not to use a connection that is about to be closed.
  assert.deepEqual(await ask('/health/ready'), [503, 'close'])
  assert.deepEqual(await ask('/collections'), [200, 'close'])
  assert.equal(await tessera.ended, 0)
  assert.ok(performance.now() - start >= DELAY_MS)
})

test('no key gets into the log, wherever a client sends it', async () => {
  const args = ['serve', '--port', '0', '--processes', '1', '--log-level', 'trace']
  const tessera = startTessera(args, { TESSERA_READ_URL: testDatabase().readUrl })
  const { url } = await tessera.event('gateway-listening')
  const secret = 'Ab0_-xyz'.repeat(4)
  const key = `tessera_0123456789ab_${secret}`
  for (const [path, headers] of [
    [`/collections?access_token=${key}`, {}],
    [`/collections/${key}/items`, {}],
    ['/metrics', { authorization: `Bearer ${key}` }],
    ['/collections?api_key=hunter2', { 'x-api-key': key }],
  ] as const)
    assert.ok((await fetch(url + path, { headers })).status >= 400)
  tessera.child.kill('SIGTERM')
  assert.equal(await tessera.ended, 0)
  assert.match(tessera.output(), /access_token=…/)
  assert.match(tessera.output(), /tessera_0123456789ab_…/)
  assert.doesNotMatch(tessera.output(), /Ab0_-xyz|hunter2/)
})
