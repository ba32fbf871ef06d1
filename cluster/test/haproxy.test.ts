// HAProxy before gateways that die over a request: a real one, with the configuration that the cluster has.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingHttpHeaders, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { renderBalancer } from '../haproxy.ts'
import { findProgram } from '../place.ts'
import { DEFAULT_SIZE, makeTopology } from '../topology.ts'

const haproxy = findProgram('haproxy')
const skip = haproxy ? false : 'SKIPPED: HAProxy is not installed'

const topology = makeTopology({ ...DEFAULT_SIZE, basePort: 29_000, gateways: 2 })
const [proxy] = topology.proxies as [(typeof topology.proxies)[number]]
const folder = mkdtempSync(join(tmpdir(), 'tessera-haproxy-'))

/** How many of the next requests end with their gateway, and how many have come. */
let deaths = 0
let seen = 0
const gateways = topology.gateways.map(() =>
  createServer(({ url, socket }, response) => {
    if (url === '/health/ready') return response.end()
    seen++
    if (deaths-- > 0) return socket.destroy()
    return response.end('served')
  }),
)
const balancer = { stop: async () => {} }

type Answer = { readonly status: number; readonly headers: IncomingHttpHeaders; readonly body: string }

/** On a connection of its own: of one that served before, HAProxy closes what it has no answer for. */
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
    sent.end(method === 'GET' ? undefined : '{}')
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

function assertProblem({ status, headers, body }: Answer, expected: number) {
  assert.equal(status, expected)
  assert.equal(headers['content-type'], 'application/problem+json')
  assert.equal(headers['retry-after'], '2')
  const { code, status: told } = JSON.parse(body)
  assert.deepEqual([code, told], ['gateway-unavailable', expected])
}

test('what may be repeated goes to another gateway, and nothing else does', { skip }, async () => {
  const key = { 'idempotency-key': 'a-key' }
  for (const [method, headers, times] of [
    ['GET', {}, 2],
    ['POST', key, 2],
    ['PATCH', key, 2],
    ['POST', {}, 1],
    ['DELETE', {}, 1],
  ] as const) {
    deaths = 1
    seen = 0
    const answer = await ask(method, headers)
    assert.equal(seen, times, method)
    if (times === 2) assert.deepEqual([answer.status, answer.body], [200, 'served'])
    else assertProblem(answer, 502)
  }
})

test('where no gateway answers, the proxy says when to come again', { skip }, async () => {
  deaths = Number.POSITIVE_INFINITY
  const answer = await ask('GET')
  assertProblem(answer, 502)
  for (const server of gateways) {
    server.closeAllConnections()
    server.close()
  }
  assertProblem(await ask('GET'), 503)
})
