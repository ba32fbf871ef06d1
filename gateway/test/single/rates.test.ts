// Tests the rates of clients over HTTP: what they are told, who counts as one client, and what is not limited.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { openSession } from '../../database/session.ts'
import { createApiKey } from '../../features/access/api-key.ts'
import { testDatabase } from '../support/database.ts'
import { startGateway } from '../support/gateway.ts'
import { startTessera } from '../support/process.ts'
import { until } from '../support/until.ts'

const { client, session, events } = await startGateway('--rate-requests=5', '--cors=*')
// The keys are removed, because other tests change features without one.
after(async () => {
  const owner = await openSession(testDatabase().ownerUrl, 'test')
  await owner.query('delete from tessera.api_key')
  await owner.close()
})

/** Sends a request for a client with this address. */
const from = (address: string, path = '/conformance', headers: Record<string, string> = {}) =>
  client(path, { headers: { 'x-forwarded-for': address, ...headers } })

test('a client learns what is left, and gets 429 with Retry-After when nothing is', async () => {
  for (let left = 4; left >= 0; left--) {
    const { status, headers } = await from('192.0.2.1')
    assert.equal(status, 200)
    assert.equal(headers.get('ratelimit-policy'), '"requests";q=5;w=60')
    assert.match(headers.get('ratelimit')!, new RegExp(`^"requests";r=${left};t=(60|5\\d)$`))
  }
  const { status, json, headers } = await from('192.0.2.1')
  assert.equal(status, 429)
  assert.equal(json.code, 'rate-exceeded')
  assert.deepEqual(json['violated-policies'], ['requests'])
  // Scripts of other origins read that, too.
  assert.equal(headers.get('access-control-allow-origin'), '*')
  assert.match(headers.get('access-control-expose-headers')!, /RateLimit, RateLimit-Policy/)
  const seconds = Number(headers.get('retry-after'))
  assert.ok(seconds > 50 && seconds <= 60)
  assert.equal(headers.get('ratelimit'), `"requests";r=0;t=${seconds}`)
  assert.match(json.detail, /has had its 5 requests of 60 s; try again in \d+ s\.$/)
  assert.ok(events.some((event) => event.type === 'rate-exceeded' && event.policy === 'requests'))
  // Others go on, and so do those who look at the gateway.
  assert.equal((await from('192.0.2.2')).status, 200)
  assert.equal((await from('192.0.2.1', '/health/ready')).status, 200)
})

test('a network of IPv6 is one client, also if a page does not exist', async () => {
  for (let host = 1; host <= 5; host++)
    assert.equal(
      (await from(`2001:db8:0:7::${host}`, host === 5 ? '/nowhere' : '/conformance')).status,
      host === 5 ? 404 : 200,
    )
  assert.equal((await from('2001:db8::7:0:0:0:9')).status, 429)
  assert.equal((await from('2001:db8:0:8::1')).status, 200)
})

test('a key is a client of its own, wherever it is used, and a wrong one counts for its address', async () => {
  const key = { canWrite: false, canManage: false, collections: undefined }
  const [one, other] = [
    await createApiKey(session, { ...key, name: 'one' }),
    await createApiKey(session, { ...key, name: 'other' }),
  ]
  const withKey = (text: string, address: string) =>
    from(address, '/conformance', { authorization: `Bearer ${text}` })
  // Keys that are new are read in the background, and count as none until then.
  let host = 0
  await until(async () => (await withKey(one, `10.0.0.${host++}`)).status === 429, 5_000)
  assert.equal((await withKey(other, '10.9.9.9')).status, 200)
  assert.equal((await from('10.9.9.9')).status, 200)
  const wrong = one.replace(/.{6}$/, 'AAAAAA')
  for (let count = 0; count < 5; count++) await withKey(wrong, '10.8.8.8')
  assert.equal((await withKey(wrong, '10.8.8.8')).status, 429)
  assert.equal((await from('10.8.8.8')).status, 429)
})

test('bytes of answers count, when they have been sent', async () => {
  const { client: bounded } = await startGateway('--rate-bytes=200000')
  const sizes: number[] = []
  for (let count = 0; count < 40; count++) {
    const { status, text, headers } = await bounded('/collections/countries/items?limit=10', {
      headers: { 'accept-encoding': 'identity' },
    })
    if (status === 429) {
      assert.match(headers.get('ratelimit')!, /^"bytes";r=0;t=\d+$/)
      break
    }
    sizes.push(text.length)
  }
  const sum = sizes.reduce((one, other) => one + other, 0)
  assert.ok(
    sum > 150_000 && sum < 200_000 + 2 * Math.max(...sizes),
    `${sum} bytes in ${sizes.length} answers`,
  )
})

test('the processes of a gateway count together', async () => {
  const args = ['serve', '--port', '0', '--processes', '2', '--rate-requests', '40']
  const tessera = startTessera(args, { TESSERA_READ_URL: testDatabase().readUrl })
  const { url } = await tessera.event('gateway-listening')
  await until(async () => tessera.count('process-serving') === 2, 20_000)
  let served = 0
  // A connection for each request, so that both processes get some.
  await until(async () => {
    const { status } = await fetch(`${url}/conformance`, { headers: { connection: 'close' } })
    if (status === 200) served++
    return status === 429
  }, 20_000)
  assert.ok(served >= 35 && served <= 60, `${served} served`)
  tessera.child.kill('SIGTERM')
  assert.equal(await tessera.ended, 0)
})
