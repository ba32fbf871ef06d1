// HAProxy in front of gateways that die during a request: a real one, with the configuration of the cluster.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingHttpHeaders, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { renderBalancer } from '../haproxy-config.ts'
import { findProgram } from '../place.ts'
import { DEFAULT_SIZE, makeTopology } from '../topology.ts'

const haproxy = findProgram('haproxy')
const skip = haproxy ? false : 'SKIPPED: HAProxy is not installed'

const topology = makeTopology({ ...DEFAULT_SIZE, basePort: 29_000, gateways: 2 })
const [proxy] = topology.proxies as [(typeof topology.proxies)[number]]
const folder = mkdtempSync(join(tmpdir(), 'tessera-haproxy-'))

/** Number of the next requests during which the gateway dies. */
let deaths = 0
/** Headers of the requests that gateways have received. */
let seen: IncomingHttpHeaders[] = []
const gateways = topology.gateways.map(() =>
  createServer(({ url, socket, headers }, response) => {
    if (url === '/health/ready') return response.end()
    seen.push(headers)
    if (deaths-- > 0) return socket.destroy()
    return response.end('served')
  }),
)
const balancer = { stop: async () => {} }

/** Larger than a packet. */
const BODY = JSON.stringify({ text: 'x'.repeat(8_000) })

type Answer = { readonly status: number; readonly headers: IncomingHttpHeaders; readonly body: string }

/** Sends a request on a new connection, because HAProxy closes a used one if it has no response for it. */
const ask = (method: string, headers: Record<string, string> = {}) =>
  new Promise<Answer>((resolve, reject) => {
    const sent = request(
      { host: proxy.host, port: proxy.httpPort, method, headers, agent: false, path: '/features' },
      async (response) => {
        const parts = await response.toArray()
        resolve({ status: response.statusCode!, headers: response.headers, body: parts.join('') })
      },
    )
    sent.on('error', reject)
    sent.flushHeaders()
    // Some clients send headers and body separately.
    setTimeout(() => sent.end(method === 'GET' ? undefined : BODY), 20)
  })

before(async () => {
  if (!haproxy) return
  const listening = gateways.map((server, index) => {
    const { host, port } = topology.gateways[index]!
    return once(server.listen(port, host), 'listening')
  })
  await Promise.all(listening)
  const file = join(folder, 'haproxy.cfg')
  writeFileSync(file, renderBalancer(topology, proxy, folder))
  const child = spawn(haproxy, ['-db', '-f', file], { stdio: 'ignore' })
  const ended = once(child, 'exit')
  balancer.stop = async () => {
    child.kill()
    await ended
  }
  const isServed = () =>
    ask('GET').then(
      ({ status }) => status === 200,
      () => false,
    )
  while (!(await isServed())) {
    assert.equal(child.exitCode, null, 'HAProxy has ended')
    await sleep(50)
  }
})

after(async () => {
  await balancer.stop()
  for (const server of gateways) {
    server.closeAllConnections()
    server.close()
  }
  rmSync(folder, { recursive: true, force: true })
})

/** @returns the key with which to send the request again, if there is one */
function assertProblem({ status, headers, body }: Answer): string | undefined {
  assert.equal(status, 503)
  assert.equal(headers['content-type'], 'application/problem+json')
  assert.equal(headers['retry-after'], '2')
  const { code, status: told, idempotencyKey } = JSON.parse(body)
  assert.deepEqual([code, told], ['gateway-unavailable', 503])
  return idempotencyKey
}

const KEY = 'tessera-change-key'

test('clients cannot choose where links lead, and are named to the gateways', { skip }, async () => {
  seen = []
  const foreign = ['host', 'port', 'prefix', 'proto'].map((name) => [`X-Forwarded-${name}`, 'evil.example'])
  await ask('GET', { ...Object.fromEntries(foreign), 'X-Forwarded-For': '203.0.113.5', Via: '1.1 front' })
  const [headers] = seen as [IncomingHttpHeaders]
  const names = Object.keys(headers).filter((name) => /forwarded/.test(name))
  assert.deepEqual(names, ['x-forwarded-for'])
  assert.match(String(headers['x-forwarded-for']), /^203\.0\.113\.5, 127\./)
  assert.equal(headers.via, '1.1 front')
})

test('if a gateway dies during a request, another one gets it, each change with a key', {
  skip,
}, async () => {
  const keys = new Set<unknown>()
  for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE']) {
    deaths = 1
    seen = []
    const { status, body } = await ask(method, { [KEY]: 'forged' })
    assert.deepEqual([status, body, seen.length], [200, 'served', 2], method)
    const [first, second] = seen.map((headers) => headers[KEY])
    assert.equal(first, second)
    if (method !== 'GET') keys.add(first)
  }
  assert.equal(keys.size, 4)
  assert.ok(!keys.has('forged'))
})

test("a change with its client's own key gets no other key", { skip }, async () => {
  deaths = 1
  seen = []
  const answer = await ask('POST', { 'idempotency-key': '"a key"' })
  assert.equal(answer.status, 200)
  for (const headers of seen)
    assert.deepEqual([headers['idempotency-key'], headers[KEY]], ['"a key"', undefined])
})

test('if no gateway responds, the proxy states when to send the request again, and with which key', {
  skip,
}, async () => {
  deaths = Number.POSITIVE_INFINITY
  assert.equal(assertProblem(await ask('GET')), undefined)
  seen = []
  assert.equal(assertProblem(await ask('POST')), seen[0]![KEY])
  assert.equal(assertProblem(await ask('POST', { 'idempotency-key': 'own' })), undefined)
  for (const server of gateways) {
    server.closeAllConnections()
    server.close()
  }
  assert.equal(assertProblem(await ask('GET')), undefined)
  assert.match(assertProblem(await ask('PATCH'))!, /^[0-9a-f-]{36}$/)
})
