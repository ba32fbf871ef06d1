// Tests the embedded PostGIS and the gateway as processes: start, stop, kill, and start again.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { openSession } from '../../database/session.ts'
import { makeClient } from '../support/client.ts'
import { processesOf, runTessera, startTessera } from '../support/process.ts'
import { until } from '../support/until.ts'

/** Milliseconds within which a process starts on a busy machine. */
const START_MS = 30_000

/** Closed to other users, like root's home. PostgreSQL runs as another user, and must get there all the same. */
const folder = mkdtempSync(join(tmpdir(), 'tessera-test-'))
const data = join(folder, 'data')
const flags = ['serve', '--data', data, '--port', '0', '--no-demo', '--processes', '2']
const serversOf = (socket: string) => processesOf(socket)
const statusOf = (file: string) => readFileSync(file, 'utf8')

after(() => rmSync(folder, { recursive: true, force: true }))

const importPoints = (collection: string, count: number) =>
  runTessera(
    ['import', '-', '--data', data, '--collection', collection],
    Array.from(
      { length: count },
      (_, index) =>
        `{"type":"Feature","geometry":{"type":"Point","coordinates":[${index % 180},0]},"properties":{"n":${index}}}\n`,
    ).join(''),
  )

test('the gateway serves, takes an import meanwhile, and stops without leaving a process or a socket', async () => {
  const tessera = startTessera(flags)
  const { url } = await tessera.event('gateway-listening')
  const { socket } = await tessera.event('embedded-started')
  const client = makeClient(url)
  assert.deepEqual((await client('/collections')).json.collections, [])
  const imported = await importPoints('points', 20)
  assert.equal(imported.code, 0, imported.output)
  // The gateway looks for new tables every two seconds; on a busy machine it may take longer.
  await until(async () => (await client('/collections/points/items?limit=100')).json.numberMatched === 20)
  if (process.getuid?.() === 0) {
    const pid = Number(statusOf(join(data, 'pg/postmaster.pid')).split('\n')[0])
    assert.notEqual(statSync(`/proc/${pid}`).uid, 0, 'PostgreSQL does not run as root')
  }
  tessera.child.kill('SIGTERM')
  assert.equal(await tessera.ended, 0)
  assert.deepEqual(serversOf(socket), [])
  assert.ok(!existsSync(socket))
  assert.deepEqual(readdirSync(data).sort(), ['lock', 'pg', 'postgres.log'])
})

test('the folder of the data is private, also one of an earlier version, and its log has no values of rows', async () => {
  const log = join(data, 'postgres.log')
  chmodSync(data, 0o755)
  chmodSync(log, 0o644)
  const tessera = startTessera(flags)
  const { url } = await tessera.event('gateway-listening')
  const { socket } = await tessera.event('embedded-started')
  const modeOf = (file: string) => (statSync(file).mode & 0o777).toString(8)
  assert.deepEqual([modeOf(data), modeOf(log), modeOf(join(data, 'socket'))], ['700', '600', '600'])
  const owner = await openSession(
    `postgresql://tessera_owner@/tessera?host=${encodeURIComponent(socket)}`,
    'test',
  )
  await owner.query(`create table vault (id int primary key, geom geometry(Point, 4326), kind text check (kind <> 'bad'),
    secret text default 'topsecret-1', n int)`)
  await assert.rejects(owner.query("insert into vault values (1, null, 'bad', 'topsecret-2')"))
  await assert.rejects(
    owner.query("insert into vault values (1, null, 'good', 'topsecret-3', 'topsecret-4')"),
  )
  await assert.rejects(
    owner.query(
      "insert into vault select 1, null, 'x', 'topsecret-5', n from (select 'topsecret-6'::int) as s (n)",
    ),
  )
  await owner.query('drop table vault')
  await owner.close()
  assert.equal((await fetch(`${url}/health/live`)).status, 200)
  tessera.child.kill('SIGTERM')
  assert.equal(await tessera.ended, 0)
  const written = readFileSync(log, 'utf8')
  assert.match(written, /ready to accept connections/)
  assert.doesNotMatch(written, /topsecret|vault/)
})

test('the metrics are those of all processes of the gateway', async () => {
  const tessera = startTessera(flags)
  const { url } = await tessera.event('gateway-listening')
  const client = makeClient(url)
  // The second process is still starting.
  const early = await client('/metrics')
  if (early.status !== 200) assert.deepEqual([early.status, early.json.code], [503, 'not-ready'])
  await until(() => tessera.count('process-serving') === 2, START_MS)
  // Each request has its own connection, so that both processes get some of them.
  await Promise.all(
    Array.from({ length: 40 }, () =>
      fetch(`${url}/health/live`, { headers: { connection: 'close' } }).then((response) => response.text()),
    ),
  )
  const { text } = await client('/metrics')
  assert.match(
    text,
    /^tessera_request_duration_seconds_count\{route="\/health\/live",method="GET",status="200"\} 40$/m,
  )
  assert.match(text, /^tessera_endpoint_up\{port="read",endpoint="[^"]+"\} 1$/m)
  tessera.child.kill('SIGTERM')
  assert.equal(await tessera.ended, 0)
})

test('a second Tessera on the same folder reports this and ends', async () => {
  const first = startTessera(flags)
  await first.event('gateway-listening')
  const second = await runTessera(flags)
  assert.equal(second.code, 1)
  assert.match(second.output, /is in use by another Tessera.*--data/)
  first.child.kill('SIGINT')
  assert.equal(await first.ended, 0)
})

test('after a kill -9 the data is there, and the old processes and their socket are gone', async () => {
  const first = startTessera(flags)
  await first.event('gateway-listening')
  const { socket } = await first.event('embedded-started')
  assert.equal((await importPoints('kept', 7)).code, 0)
  first.child.kill('SIGKILL')
  await first.ended
  assert.notEqual(serversOf(socket).length, 0, 'PostgreSQL outlives a kill -9, or this test shows nothing')
  const second = startTessera(flags)
  const { url } = await second.event('gateway-listening')
  assert.deepEqual(serversOf(socket), [])
  assert.ok(!existsSync(socket))
  assert.equal((await makeClient(url)('/collections/kept/items')).json.numberMatched, 7)
  assert.deepEqual(
    processesOf(`--data ${data}`).filter((line) => line.includes(` ${first.child.pid} `)),
    [],
  )
  second.child.kill('SIGTERM')
  assert.equal(await second.ended, 0)
})

test('processes are replaced when they die, and end with the process that started them', async () => {
  const tessera = startTessera(flags)
  const { url } = await tessera.event('gateway-listening')
  const processes = () =>
    processesOf(`--data ${data}`).filter((line) => !line.trim().startsWith(`${tessera.child.pid} `))
  await until(() => tessera.count('process-serving') === 2, START_MS)
  process.kill(Number(processes()[0]!.trim().split(' ')[0]), 'SIGKILL')
  await tessera.event('process-died')
  assert.equal((await makeClient(url)('/health/ready')).status, 200)
  await until(() => tessera.count('process-serving') === 3, START_MS)
  assert.equal(processes().length, 2)
  tessera.child.kill('SIGKILL')
  await tessera.ended
  await until(() => processes().length === 0, 10_000)
})

test('kill -9 in the middle of an import leaves nothing of the collection, and the others as they were', async () => {
  const tessera = startTessera(flags)
  await tessera.event('gateway-listening')
  const importing = startTessera(['import', '-', '--data', data, '--collection', 'halfway'])
  importing.child.stdin!.on('error', () => {})
  const row = (index: number) =>
    `{"type":"Feature","geometry":{"type":"Point","coordinates":[${index % 180},0]},"properties":{"n":${index}}}\n`
  importing.child.stdin!.end(Array.from({ length: 300_000 }, (_, index) => row(index)).join(''))
  const { socket } = await tessera.event('embedded-started')
  const ask = (sql: string) =>
    execFileSync('psql', ['-h', socket, '-U', 'postgres', '-Atc', sql, 'tessera'], {
      encoding: 'utf8',
    }).trim()
  const copying = "select count(*) from pg_stat_activity where query ilike 'copy %'"
  await until(() => ask(copying) !== '0', START_MS)
  importing.child.kill('SIGKILL')
  tessera.child.kill('SIGKILL')
  await Promise.all([importing.ended, tessera.ended])
  const again = startTessera(flags)
  const client = makeClient((await again.event('gateway-listening')).url)
  assert.equal((await client('/collections/halfway')).status, 404)
  assert.equal((await client('/collections/points/items?limit=100')).json.numberMatched, 20)
  again.child.kill('SIGTERM')
  assert.equal(await again.ended, 0)
})

test('after kill -9 in the middle of 1,000 new features, every one that was acknowledged is there', async () => {
  const tessera = startTessera(flags)
  const { url } = await tessera.event('gateway-listening')
  assert.equal((await importPoints('posted', 1)).code, 0)
  await until(async () => (await fetch(`${url}/collections/posted`)).status === 200)
  const items = `${url}/collections/posted/items`
  const acknowledged: string[] = []
  let isKilled = false
  const post = async (n: number) => {
    try {
      const response = await fetch(items, {
        method: 'POST',
        headers: { 'content-type': 'application/geo+json' },
        body: JSON.stringify({
          type: 'Feature',
          geometry: { type: 'Point', coordinates: [0, 0] },
          properties: { n },
        }),
      })
      await response.arrayBuffer()
      if (response.status === 201) acknowledged.push(response.headers.get('location')!.split('/').at(-1)!)
    } catch (error) {
      assert.ok(isKilled, `before it was killed: ${error}`)
    }
    if (acknowledged.length > 300 && !isKilled) {
      isKilled = true
      for (const line of processesOf(`--data ${data}`))
        process.kill(Number(line.trim().split(' ')[0]), 'SIGKILL')
    }
  }
  for (let start = 0; start < 1_000; start += 20)
    await Promise.all(Array.from({ length: 20 }, (_, index) => post(start + index)))
  await tessera.ended
  assert.ok(isKilled && acknowledged.length < 1_000, `${acknowledged.length} were acknowledged`)
  const again = startTessera(flags)
  const client = makeClient((await again.event('gateway-listening')).url)
  for (const id of acknowledged)
    assert.equal((await client(`/collections/posted/items/${id}`)).status, 200, id)
  again.child.kill('SIGTERM')
  assert.equal(await again.ended, 0)
})

test('no request in flight fails when the gateway is told to stop', async () => {
  const tessera = startTessera([...flags, '--pool-size', '30'])
  const { url } = await tessera.event('gateway-listening')
  const { socket } = await tessera.event('embedded-started')
  const ask = (role: string, sql: string) =>
    execFileSync('psql', ['-h', socket, '-U', role, '-qAtc', sql, 'tessera'], { encoding: 'utf8' }).trim()
  ask(
    'tessera_owner',
    'create or replace view slow as select id, geom, n, pg_sleep(0.15)::text as slept from points offset 0',
  )
  await until(async () => (await fetch(`${url}/collections/slow`)).status === 200)
  // Each takes three seconds. Pages with limit 150 are streamed, so their responses have started before the stop.
  const inFlight = [20, 20, 20, 20, 20, 20, 20, 20, 150, 150].map(async (limit) => {
    const response = await fetch(`${url}/collections/slow/items?limit=${limit}`)
    return [response.status, ((await response.json()) as { numberReturned: number }).numberReturned]
  })
  const running = `select count(*) from pg_stat_activity where wait_event = 'PgSleep' and application_name = 'tessera-read'`
  await until(() => Number(ask('postgres', running)) === inFlight.length)
  tessera.child.kill('SIGTERM')
  assert.deepEqual(
    await Promise.all(inFlight),
    inFlight.map(() => [200, 20]),
  )
  assert.equal(await tessera.ended, 0)
})

test('a port that is in use is reported, and no process is left behind', async () => {
  const other = createServer().listen(0, '127.0.0.1')
  await once(other, 'listening')
  const { port } = other.address() as { port: number }
  const { code, output } = await runTessera(['serve', '--data', data, '--port', String(port), '--no-demo'])
  other.close()
  assert.equal(code, 1)
  assert.match(output, new RegExp(`Cannot listen on 127\\.0\\.0\\.1:${port}: the port is taken`))
  assert.deepEqual(processesOf(`--data ${data}`), [])
})

test('data of another PostgreSQL version is reported, with a way to fix it', async () => {
  const version = join(data, 'pg/PG_VERSION')
  const before = readFileSync(version, 'utf8')
  writeFileSync(version, '11\n')
  const { code, output } = await runTessera(flags)
  writeFileSync(version, before)
  assert.equal(code, 1)
  assert.match(output, /holds data of PostgreSQL 11, but PostGIS is installed for \d+.*pg_upgrade/s)
})

test('missing programs are reported', async () => {
  const { code, output } = await runTessera([...flags, '--pg-bin', folder])
  assert.equal(code, 1)
  assert.match(output, /No PostgreSQL ≥ 15 with PostGIS found in .*apt-get install/s)
})

test('an invalid setting is reported before anything is started', async () => {
  const { code, output } = await runTessera(['serve'], undefined, { TESSERA_PORT: 'eighty' })
  assert.deepEqual([code, output], [1, 'tessera: TESSERA_PORT=eighty: must be an integer from 0 to 65535.\n'])
})

test('a database that cannot be reached is reported without its password', async () => {
  const { code, output } = await runTessera(['serve', '--port', '0'], undefined, {
    TESSERA_WRITE_URL: 'postgresql://me:hunter2@127.0.0.1:1/none',
    TESSERA_START_TIMEOUT_MS: '300',
  })
  assert.equal(code, 1)
  assert.match(output, /cannot be reached/)
  assert.doesNotMatch(output, /hunter2/)
})

test('an ephemeral folder is removed at the end', async () => {
  const tessera = startTessera(['serve', '--ephemeral', '--port', '0', '--no-demo'])
  const { folder: place } = await tessera.event('embedded-starting')
  await tessera.event('gateway-listening')
  assert.ok(existsSync(place))
  tessera.child.kill('SIGTERM')
  assert.equal(await tessera.ended, 0)
  assert.ok(!existsSync(place))
})
