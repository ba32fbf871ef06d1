// Tests what every answer has to protect its reader, and whom it names for reports of vulnerabilities.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startGateway } from '../support/gateway.ts'

const { client } = await startGateway(
  '--security-contact=mailto:security@example.org,https://example.org/report',
)

test('every answer forbids to guess its type, to frame it, and to load what is not its own', async () => {
  const policies = new Map<string, string>()
  for (const path of [
    '/?f=json',
    '/collections/cities/items?limit=1',
    '/collections/cities/items?limit=1&f=csv',
    '/collections/cities/items?f=nonsense',
    '/tiles/WebMercatorQuad/0/0/0?f=mvt',
    '/nowhere',
    '/health/live',
    '/?f=html',
    '/collections/cities/items?f=html&limit=1',
    '/api.html',
  ]) {
    const response = await fetch(client.url + path)
    await response.text()
    assert.equal(response.headers.get('x-content-type-options'), 'nosniff', path)
    const policy = response.headers.get('content-security-policy') ?? ''
    policies.set(path, policy)
    assert.match(policy, /default-src 'none'/, path)
    assert.match(policy, /frame-ancestors 'none'/, path)
  }
  assert.equal(policies.get('/?f=json'), "default-src 'none'; frame-ancestors 'none'")
  assert.match(policies.get('/?f=html')!, /script-src 'self'/)
  const page = await fetch(`${client.url}/?f=html`)
  assert.equal(page.headers.get('referrer-policy'), 'same-origin')
  // A worker obeys the policy of its own file: it must be able to read tiles.
  const script = await fetch(`${client.url}/assets/items.js`)
  assert.equal(script.status, 200)
  assert.equal(script.headers.get('x-content-type-options'), 'nosniff')
  assert.equal(script.headers.get('content-security-policy'), null)
})

test('security.txt names whom to tell, for less than a year', async () => {
  const response = await fetch(`${client.url}/.well-known/security.txt`)
  assert.equal(response.status, 200)
  assert.equal(response.headers.get('content-type'), 'text/plain; charset=utf-8')
  const lines = (await response.text()).split('\n')
  assert.deepEqual(lines.slice(0, 2), [
    'Contact: mailto:security@example.org',
    'Contact: https://example.org/report',
  ])
  const [, expires] = /^Expires: (.+)$/.exec(lines[2]!)!
  const days = (Date.parse(expires!) - Date.now()) / 86_400_000
  assert.ok(days > 90 && days < 365, `${days} days`)
  assert.equal(lines[3], `Canonical: ${client.url}/.well-known/security.txt`)
})

test('without a contact there is no security.txt', async () => {
  const { client: other } = await startGateway()
  assert.equal((await fetch(`${other.url}/.well-known/security.txt`)).status, 404)
})
