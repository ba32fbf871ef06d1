// Tests the containers of a gateway and one PostGIS: they are built and started, and serve items, also after a restart.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { makeClient } from '../support/client.ts'
import { openProject, whyNoContainers } from '../support/docker.ts'

const skip = whyNoContainers(['node:24-slim', 'postgis/postgis:17-3.5'])
const { compose, url } = await openProject('docker-compose.single.yml', skip)
const client = makeClient(url)

async function expectItems() {
  const { json } = await client('/collections/cities/items?bbox=5,45,11,48&limit=5')
  assert.equal(json.numberReturned, 5)
  assert.equal((await client('/collections/counties/items?limit=1')).json.numberMatched, undefined)
  assert.equal((await client('/collections/countries/items?limit=1')).json.numberMatched, 241)
}

async function untilReady(withinMs: number) {
  const deadline = performance.now() + withinMs
  for (;;) {
    const status = await fetch(`${client.url}/health/ready`).then(
      (response) => response.status,
      () => 0,
    )
    if (status === 200) return
    assert.ok(performance.now() < deadline, `not ready: ${status}\n${await compose('logs', '--tail', '30')}`)
    await sleep(200)
  }
}

test('one command brings up the gateway, PostGIS and the demo data', { skip, timeout: 600_000 }, async () => {
  await compose('up', '--build', '--detach', '--wait', '--wait-timeout', '300').catch(async (error) => {
    throw new Error(`${error.message}\n${await compose('logs', '--tail', '60')}`)
  })
  await expectItems()
  const published = `http://localhost:${new URL(url).port}"`
  assert.ok(
    (await compose('logs', 'gateway')).includes(published),
    'the log does not name the published address',
  )
})

for (const service of ['gateway', 'database']) {
  test(`the gateway serves again after a restart of the ${service}`, { skip, timeout: 120_000 }, async () => {
    await compose('restart', '--timeout', '40', service)
    await untilReady(60_000)
    await expectItems()
  })
}

/** What is there once initdb, and once the server that runs the scripts after it, has started. */
const moments = { 'by initdb': 'database/PG_VERSION', 'by its scripts': 'database/postmaster.pid' }

for (const [moment, sign] of Object.entries(moments))
  test(`an initialization of the database that is interrupted (${moment}) is started again`, {
    skip,
    timeout: 300_000,
  }, async () => {
    await compose('down', '--volumes', '--timeout', '40')
    const starting = compose('up', '--detach', 'database')
    const inDatabase = (...command: string[]) => compose('exec', '--no-TTY', 'database', ...command)
    const deadline = performance.now() + 120_000
    const isThere = () =>
      inDatabase('test', '-e', `/var/lib/postgresql/data/${sign}`).then(
        () => true,
        () => false,
      )
    while (!(await isThere())) assert.ok(performance.now() < deadline, 'no initialization was seen')
    await compose('kill', 'database')
    await starting.catch(() => {})
    await compose('up', '--detach', '--wait', '--wait-timeout', '300')
    assert.match(await compose('logs', 'database'), /The last initialization was broken off/)
    await expectItems()
  })

test('the gateway is not root, its file system is read-only, and no password is in the log', {
  skip,
}, async () => {
  const inGateway = (...command: string[]) => compose('exec', '--no-TTY', 'gateway', ...command)
  assert.equal((await inGateway('id', '-u')).trim(), '1000')
  await assert.rejects(inGateway('touch', '/opt/tessera/x'), /Read-only file system/)
  const logs = await compose('logs', 'gateway', 'manage', 'database')
  assert.deepEqual((await inGateway('ls', '/secrets')).trim().split(/\s+/), [
    'tessera_read.url',
    'tessera_write.url',
  ])
  assert.doesNotMatch(await inGateway('env'), /OWNER/)
  for (const role of ['tessera_owner', 'tessera_write', 'tessera_read']) {
    const url = new URL(await compose('exec', '--no-TTY', 'database', 'cat', `/secrets/${role}.url`))
    assert.ok(url.password.length > 20)
    assert.ok(!logs.includes(url.password), `the log shows the password of ${role}`)
  }
})

test('changes need a key, which a command in the container creates; pages find their assets', {
  skip,
}, async () => {
  const change = (headers: Record<string, string> = {}) =>
    client('/collections/cities/items/24587.5', {
      method: 'PATCH',
      headers: { 'content-type': 'application/merge-patch+json', ...headers },
      body: '{"properties":{"admin2":"changed"}}',
    })
  assert.equal((await change()).status, 401)
  const made = await compose('run', '--rm', '--no-deps', '--no-TTY', 'manage', 'keys', 'create', 'test')
  assert.equal((await change({ authorization: `Bearer ${made.trim()}` })).json.properties.admin2, 'changed')
  const { text } = await client('/collections/cities/items/24587.5?f=html')
  const assets = [...text.matchAll(/(?:src|href|data-maplibre)="([^"]*\/assets\/[^"]+)"/g)]
  assert.ok(assets.length >= 5)
  for (const [, address] of assets)
    assert.equal((await fetch(new URL(address!, client.url))).status, 200, address)
})

test('the gateway stops by itself when it is told to', { skip, timeout: 60_000 }, async () => {
  const start = performance.now()
  await compose('stop', '--timeout', '40', 'gateway')
  assert.ok(performance.now() - start < 20_000)
  assert.match(await compose('ps', '--all', '--format', '{{.Service}} {{.ExitCode}}'), /gateway 0/)
})
