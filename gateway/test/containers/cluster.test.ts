// The replicated cluster in containers, as `docker compose up` makes it: a worker's primary is killed, another
// frozen, another cut off, while features are posted through the gateway. What was acknowledged is there.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { makeClient } from '../support/client.ts'
import { openProject, whyNoContainers } from '../support/docker.ts'

const skip = whyNoContainers([
  'node:24-slim',
  'citusdata/citus:13.2.0',
  'haproxy:3.2',
  'quay.io/coreos/etcd:v3.6.14',
])
const { compose, docker, url } = await openProject('docker-compose.yml', skip)
const client = makeClient(url)

/** Who look up at once whether what was acknowledged is there. */
const CHECKERS = 16

type Status = {
  readonly members: readonly { readonly name: string; readonly group: string; readonly role: string }[]
  readonly rows: readonly { readonly table: string; readonly byGroup: Readonly<Record<string, number>> }[]
  readonly faults: readonly string[]
}

/** With a cluster that is not whole, the command's exit code says so too. */
const readStatus = async (): Promise<Status> => {
  const command = ['run', '--rm', '--no-deps', '--no-TTY', 'prepare', 'status', '--json']
  const text = await compose(...command).catch((error: { stdout: string }) => error.stdout)
  return JSON.parse(text)
}

async function untilWhole(withinMs: number) {
  const deadline = performance.now() + withinMs
  for (;;) {
    const { faults } = await readStatus()
    if (faults.length === 0) return
    assert.ok(performance.now() < deadline, faults.join('; '))
    await sleep(500)
  }
}

/** A busy machine may answer late: until one does. */
async function primaryOf(group: string, tries = 10): Promise<string> {
  const { members } = await readStatus()
  const primary = members.find((member) => member.group === group && member.role === 'primary')
  if (primary) return primary.name
  assert.ok(tries > 0, `${group} has no primary`)
  return primaryOf(group, tries - 1)
}

/** How many cities a worker group has, as soon as they can be counted. */
async function citiesOf(group: string, deadline: number): Promise<number> {
  for (;;) {
    const { rows, faults } = await readStatus()
    const count = rows.find(({ table }) => table === 'cities')?.byGroup[group]
    if (count !== undefined) return count
    assert.ok(performance.now() < deadline, `${group} cannot be counted: ${faults.join('; ')}`)
  }
}

/** Posts features, one after another; a refusal is no acknowledgement. */
function startPosting(key: string) {
  let isRunning = true
  const acknowledged: string[] = []
  const post = async () => {
    for (let number = 0; isRunning; number++) {
      const response = await fetch(`${url}/collections/cities/items`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/geo+json' },
        body: JSON.stringify({
          type: 'Feature',
          geometry: { type: 'Point', coordinates: [number % 180, 0] },
          properties: { name: `posted ${number}`, country: 'XX' },
        }),
        signal: AbortSignal.timeout(15_000),
      }).catch(() => undefined)
      if (response?.status === 201) acknowledged.push(response.headers.get('location')!)
      await response?.body?.cancel().catch(() => {})
      await sleep(20)
    }
  }
  const posting = Promise.all([post(), post(), post(), post()])
  return {
    count: () => acknowledged.length,
    async stop() {
      isRunning = false
      await posting
      return acknowledged
    },
  }
}

test('one command brings up the cluster, its gateway and the demo data', {
  skip,
  timeout: 900_000,
}, async () => {
  await compose('build')
  const start = performance.now()
  await compose('up', '--detach', '--wait', '--wait-timeout', '300').catch(async (error) => {
    throw new Error(`${error.message}\n${await compose('logs', '--tail', '40')}`)
  })
  process.stderr.write(`up and serving after ${Math.round((performance.now() - start) / 1000)} s\n`)
  const { json } = await client('/collections/cities/items?bbox=5,45,11,48&limit=5')
  assert.equal(json.numberReturned, 5)
  await untilWhole(60_000)
  const { members, rows } = await readStatus()
  assert.equal(members.length, 8)
  const cities = Object.values(rows.find(({ table }) => table === 'cities')!.byGroup)
  assert.equal(cities.length, 3)
  assert.equal(
    cities.reduce((sum, count) => sum + count),
    171_075,
  )
})

test('members are reached through HAProxy alone, and nobody sees secrets of others', { skip }, async () => {
  const published = await compose('ps', '--format', '{{.Service}} {{.Publishers}}')
  for (const line of published.trim().split('\n'))
    if (!line.startsWith('proxy')) assert.doesNotMatch(line, /127\.0\.0\.1|0\.0\.0\.0/, line)
  const exec = (service: string, ...command: string[]) => compose('exec', '--no-TTY', service, ...command)
  await assert.rejects(exec('gateway1', 'ls', '/config/node'))
  await assert.rejects(
    exec(
      'gateway1',
      'node',
      '-e',
      "require('net').connect(5432, 'w1a').on('error', (e) => { throw e }).on('connect', () => process.exit())",
    ),
  )
  const logs = await compose('logs')
  for (const role of ['tessera_owner', 'tessera_write', 'tessera_read']) {
    const { password } = new URL(await exec('gateway1', 'cat', `/config/gateway/${role}.url`))
    assert.ok(password.length > 20)
    assert.ok(!logs.includes(password), `the log shows the password of ${role}`)
  }
})

/** Each does it, and returns what undoes it. */
const faults: readonly [
  what: string,
  group: string,
  inject: (name: string) => Promise<() => Promise<unknown>>,
][] = [
  [
    'killed',
    'w1',
    async (name) => {
      await docker(['kill'], name)
      return () => docker(['start'], name)
    },
  ],
  [
    'frozen',
    'w2',
    async (name) => {
      await pause(name)
      return () => docker(['unpause'], name)
    },
  ],
  [
    'cut off',
    'w3',
    async (name) => {
      // From the one network that it has.
      const format = '{{range $network, $_ := .NetworkSettings.Networks}}{{$network}}{{end}}'
      const network = (await docker(['inspect', '--format', format], name)).trim()
      await docker(['network', 'disconnect', network], name)
      return () => docker(['network', 'connect', '--alias', name, network], name)
    },
  ],
]

/** Under control groups of version 1 a busy container may escape the freezer: again, then. */
async function pause(name: string, attempts = 20): Promise<void> {
  await docker(['pause'], name).catch(async (error) => {
    if (attempts === 0 || !/unable to freeze/.test(error.message)) throw error
    await sleep(100)
    await pause(name, attempts - 1)
  })
}

for (const [what, group, inject] of faults) {
  test(`a worker's primary is ${what}: others follow, and nothing is lost`, {
    skip,
    timeout: 300_000,
  }, async () => {
    const key = await compose(
      'exec',
      '--no-TTY',
      'gateway1',
      'node',
      'gateway/main.ts',
      'keys',
      'create',
      what,
    )
    const posting = startPosting(key.trim())
    try {
      const name = await primaryOf(group)
      const before = posting.count()
      assert.ok(before > 0)
      const undo = await inject(name)
      try {
        const deadline = performance.now() + 60_000
        while ((await primaryOf(group)) === name)
          assert.ok(performance.now() < deadline, `${name} is still the primary of ${group}`)
        // In the group that was hit, while it is without the one that was hit.
        const later = performance.now() + 60_000
        const count = await citiesOf(group, later)
        while ((await citiesOf(group, later)) <= count)
          assert.ok(performance.now() < later, `${group} takes no new features beyond ${count}`)
      } finally {
        await undo()
      }
      await untilWhole(120_000)
      const acknowledged = await posting.stop()
      process.stderr.write(`${what}: ${acknowledged.length} posted, ${before} of them before\n`)
      await Promise.all(
        Array.from({ length: CHECKERS }, async (_, checker) => {
          for (let index = checker; index < acknowledged.length; index += CHECKERS) {
            const response = await fetch(acknowledged[index]!)
            const text = await response.text()
            assert.equal(response.status, 200, `${acknowledged[index]} is lost: ${text}`)
          }
        }),
      )
    } finally {
      await posting.stop()
    }
  })
}

test('it stops when it is told to', { skip, timeout: 120_000 }, async () => {
  await compose('stop', '--timeout', '60')
  const codes = await compose('ps', '--all', '--format', '{{.Service}} {{.ExitCode}}')
  for (const line of codes.trim().split('\n')) assert.match(line, / (0|143)$/, line)
})
