// Tests what only this machine may see and do, whatever proxies, browsers and clients name as their address or origin.

import assert from 'node:assert/strict'
import { request } from 'node:http'
import { text as readText } from 'node:stream/consumers'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openSession } from '../../database/session.ts'
import { testDatabase } from '../support/database.ts'
import { startGateway } from '../support/gateway.ts'
import { runTessera } from '../support/process.ts'

const gateway = await startGateway()
const { session, catalog } = gateway
await session.query(`
  create table den (id int primary key, geom geometry(Point, 4326), name text);
  insert into den values (1, null, 'before')`)
await catalog.reload()
// The keys are removed, because other tests change features without one.
after(async () => {
  const owner = await openSession(testDatabase().ownerUrl, 'test')
  await owner.query('delete from tessera.api_key')
  await owner.close()
})

type Sent = Record<string, string>
/** Sends a request without fetch, which sets some headers by itself and refuses to set others. */
const ask = (path: string, headers: Sent = {}, method = 'GET', { client } = gateway) =>
  new Promise<{ status: number; headers: Record<string, unknown>; text: string }>((resolve, reject) => {
    const { port } = new URL(client.url)
    const sent = {
      ...(method === 'PATCH' ? { 'content-type': 'application/merge-patch+json' } : {}),
      ...headers,
    }
    request({ port, host: '127.0.0.1', path, method, headers: sent }, async (response) =>
      resolve({ status: response.statusCode!, headers: response.headers, text: await readText(response) }),
    )
      .on('error', reject)
      .end(method === 'PATCH' ? '{"properties":{"name":"after"}}' : undefined)
  })
const item = '/collections/den/items/1'
const operatorPaths = ['/metrics', '/cluster', '/collections/den/items?explain=1', `${item}?explain=1`]
/** Returns the status of everything that only this machine may see or do. */
const statuses = async (headers: Sent) => [
  ...(await Promise.all(operatorPaths.map((path) => ask(path, headers)))).map(({ status }) => status),
  (await ask(item, headers, 'PATCH')).status,
]
const ALL = [200, 200, 200, 200, 200]
const NONE = [401, 401, 403, 403, 401]

test('a client on this machine sees and does everything, also through a proxy of this machine', async () => {
  for (const headers of [
    {},
    { host: 'localhost' },
    { host: '[::1]:8080' },
    { 'x-forwarded-for': '127.0.0.1' },
    { 'x-forwarded-for': '127.0.0.1', 'x-forwarded-proto': 'https', 'x-forwarded-prefix': '/geo' },
    {
      'x-forwarded-for': '::1, 127.0.0.1',
      'x-forwarded-host': 'localhost:8443',
      forwarded: 'for="[::1]:4711";proto=http;host=localhost, for=127.0.0.1',
      via: '1.1 localhost:8080',
      'x-real-ip': '127.0.0.1',
    },
  ] as Sent[])
    assert.deepEqual(await statuses(headers), ALL, JSON.stringify(headers))
})

test('a name of this machine that a client adds does not hide the name that was asked for', async () => {
  for (const headers of [
    { host: 'evil.example' },
    { host: 'evil.example', 'x-forwarded-host': 'localhost' },
    { host: 'evil.example', 'x-forwarded-host': 'localhost', 'x-forwarded-for': '127.0.0.1' },
    { host: 'localhost', 'x-forwarded-host': 'evil.example', 'x-forwarded-for': '127.0.0.1' },
    { host: 'localhost.evil.example' },
    { host: '127.0.0.1.evil.example' },
    { host: '127.1' },
    { host: 'localhost.' },
  ] as Sent[])
    assert.deepEqual(await statuses(headers), NONE, JSON.stringify(headers))
})

test('a request that any proxy forwards for somebody else is not from here', async () => {
  const elsewhere = '203.0.113.5'
  const named = [
    'Forwarded',
    'X-Forwarded',
    'Forwarded-For',
    'X-Forwarded-Host',
    'X-Forwarded-Server',
    'X-Real-IP',
    'True-Client-IP',
    'X-Client-IP',
    'Client-IP',
    'CF-Connecting-IP',
    'CF-Connecting-IPv6',
    'CF-Pseudo-IPv4',
    'Fly-Client-IP',
    'Fastly-Client-IP',
    'X-Cluster-Client-IP',
    'X-Original-Forwarded-For',
    'X-Original-Host',
    'X-ProxyUser-IP',
    'X-Remote-Addr',
    'X-Envoy-External-Address',
    'X-Azure-ClientIP',
    'X-Azure-SocketIP',
    'X-Appengine-User-IP',
    'X-Originating-IP',
    'X-Nf-Client-Connection-Ip',
    'Proxy-Client-IP',
    'WL-Proxy-Client-IP',
    'X-Vercel-Forwarded-For',
  ]
  for (const name of named) {
    const value = name === 'Forwarded' ? `for=${elsewhere}` : elsewhere
    for (const headers of [{ [name]: value }, { [name]: value, 'x-forwarded-for': '127.0.0.1' }]) {
      assert.deepEqual(await statuses(headers), NONE, JSON.stringify(headers))
    }
  }
  assert.deepEqual(await statuses({ 'x-forwarded-for': elsewhere }), NONE)
  for (const headers of [
    // A proxy forwards, and does not name its client.
    { 'x-forwarded-proto': 'https' },
    { 'x-forwarded-port': '443' },
    { 'x-real-ip': '127.0.0.1' },
    { forwarded: 'for=127.0.0.1' },
    { via: '1.1 localhost' },
    { 'x-forwarded-host': 'localhost' },
    // One of several proxies or clients is elsewhere, or unknown.
    { 'x-forwarded-for': '127.0.0.1', via: '1.1 vegur' },
    { 'x-forwarded-for': '127.0.0.1', forwarded: 'for=unknown' },
    { 'x-forwarded-for': '127.0.0.1', forwarded: 'proto=https' },
    { 'x-forwarded-for': '127.0.0.1', forwarded: 'for=127.0.0.1;host=gis.example.org' },
    { 'x-forwarded-for': '127.0.0.1', forwarded: 'for=127.0.0.1, For="[2001:db8::1]"' },
    { 'x-forwarded-for': '127.0.0.1, unknown' },
    { 'x-forwarded-for': '' },
    { 'x-forwarded-for': '::ffff:127.0.0.1' },
    { 'x-forwarded-for': '203.0.113.5, 127.0.0.1' },
    { 'x-forwarded-for': '127.0.0.1, 203.0.113.5' },
  ] as Sent[])
    assert.deepEqual(await statuses(headers), NONE, JSON.stringify(headers))
})

test('no page of another site sees what only this machine may see, or changes anything', async () => {
  const { origin } = new URL(gateway.client.url)
  const forbidden = [403, 403, 403, 403, 403]
  assert.deepEqual(await statuses({ host: new URL(gateway.client.url).host, origin }), ALL)
  assert.deepEqual(await statuses({ 'sec-fetch-site': 'same-origin' }), ALL)
  assert.deepEqual(await statuses({ 'sec-fetch-site': 'none' }), ALL)
  for (const headers of [
    { origin: 'https://evil.example' },
    { origin: 'null' },
    { origin: 'http://localhost:1' },
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site' },
  ] as Sent[])
    assert.deepEqual(await statuses(headers), forbidden, JSON.stringify(headers))
})

const allowedFor = async (path: string, origin: string, method = 'GET', where = gateway) => {
  const headers: Sent = {
    origin,
    ...(method === 'OPTIONS' ? { 'access-control-request-method': 'GET' } : {}),
  }
  const answer = await ask(path, headers, method, where)
  if (answer.headers['access-control-allow-origin'] === undefined)
    assert.equal(answer.headers['access-control-allow-methods'], undefined)
  return answer.headers['access-control-allow-origin']
}

test('scripts of this machine alone may read a gateway that only this machine can reach', async () => {
  for (const method of ['GET', 'OPTIONS']) {
    for (const path of ['/', item, '/nothing']) {
      for (const origin of ['https://evil.example', 'null', 'http://localhost.evil.example', 'file://'])
        assert.equal(await allowedFor(path, origin, method), undefined, `${method} ${path} ${origin}`)
      for (const origin of ['http://localhost:3000', 'http://127.0.0.1:8081', 'http://[::1]:8080'])
        assert.equal(await allowedFor(path, origin, method), origin, `${method} ${path} ${origin}`)
    }
    for (const path of ['/metrics', '/cluster'])
      assert.equal(await allowedFor(path, 'http://localhost:3000', method), undefined, `${method} ${path}`)
  }
  for (const path of operatorPaths)
    assert.equal(await allowedFor(path, new URL(gateway.client.url).origin), undefined, path)
  const { headers } = await ask('/', { origin: 'http://localhost:3000' })
  assert.match(String(headers.vary), /\borigin\b/)
})

test('scripts of every origin may read a gateway that others can reach, but not its operation', async () => {
  const open = await startGateway('--public-url=https://gis.example.org')
  assert.equal(await allowedFor('/', 'https://evil.example', 'GET', open), '*')
  for (const path of ['/metrics', '/cluster'])
    assert.equal(await allowedFor(path, 'https://evil.example', 'GET', open), undefined)
})

test('TESSERA_CORS names the origins whose scripts may read', async () => {
  const some = await startGateway('--cors=https://maps.example.org,http://localhost:5173')
  assert.equal(await allowedFor('/', 'https://maps.example.org', 'OPTIONS', some), 'https://maps.example.org')
  assert.equal(await allowedFor('/', 'https://evil.example', 'GET', some), undefined)
  const none = await startGateway('--cors=none')
  assert.equal(await allowedFor('/', 'http://localhost:3000', 'GET', none), undefined)
  const all = await startGateway('--cors=*')
  assert.equal(await allowedFor('/', 'https://evil.example', 'GET', all), '*')
  assert.equal(await allowedFor('/cluster', 'https://evil.example', 'GET', all), undefined)
})

test('nothing of an operator is stored by a cache', async () => {
  for (const path of operatorPaths) {
    const { headers } = await ask(path)
    assert.equal(headers['cache-control'], 'no-store', path)
  }
})

test('once there is a key, operators need one on this machine as well', async () => {
  const { output } = await runTessera(['keys', 'create', 'operator'], undefined, {
    TESSERA_WRITE_URL: testDatabase().ownerUrl,
  })
  const key = /tessera_[0-9a-f]{12}_[\w-]{32}/.exec(output)![0]
  await sleep(1_100)
  assert.deepEqual(await statuses({}), [401, 401, 401, 401, 401])
  assert.deepEqual(await statuses({ authorization: `Bearer ${key}` }), ALL)
  const limited = await runTessera(['keys', 'create', 'one', '--collections', 'den'], undefined, {
    TESSERA_WRITE_URL: testDatabase().ownerUrl,
  })
  const other = /tessera_[0-9a-f]{12}_[\w-]{32}/.exec(limited.output)![0]
  await sleep(1_100)
  assert.deepEqual(await statuses({ authorization: `Bearer ${other}` }), [403, 403, 403, 403, 200])
  // Plans are for this machine, also with a key.
  assert.deepEqual(
    await statuses({ authorization: `Bearer ${key}`, 'x-real-ip': '203.0.113.5' }),
    [200, 200, 403, 403, 200],
  )
})
