// Tests what operators of a gateway query: metrics for Prometheus, and the state of the cluster behind it.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { testDatabase } from '../support/database.ts'
import { startGateway } from '../support/gateway.ts'

const { client, database } = await startGateway()
/** Source of all reads here. */
const source = database.isReplicated ? 'secondary' : 'primary'

const numberOf = (text: string, metric: string) => {
  const line = text.split('\n').find((line) => line.startsWith(`${metric} `))
  return line === undefined ? undefined : Number(line.split(' ').at(-1))
}

test('metrics count requests by route, and reads by their source', async () => {
  await client('/collections/cities/items?limit=1')
  await client('/collections/cities/items?limit=2')
  await client('/collections/none/items')
  const { status, type, text } = await client('/metrics')
  assert.equal(status, 200)
  assert.match(type, /^text\/plain; version=0\.0\.4/)
  const count = 'tessera_request_duration_seconds_count'
  const route = 'route="/collections/:collectionId/items",method="GET"'
  assert.equal(numberOf(text, `${count}{${route},status="200"}`), 2)
  assert.equal(numberOf(text, `${count}{${route},status="404"}`), 1)
  assert.ok(numberOf(text, `tessera_reads_total{source="${source}"}`)! >= 2)
  assert.equal(numberOf(text, 'tessera_changes_parked'), 0)
  assert.match(text, /tessera_endpoint_limit\{[^}]*purpose="stream"[^}]*\} 4\n/)
  assert.ok(!text.includes('password'))
})

test('the state of the cluster has its addresses, its load and its lag', async () => {
  const { status, json } = await client('/cluster')
  assert.equal(status, 200)
  const ports = json.endpoints.map(({ port }: { port: string }) => port)
  assert.ok(ports.includes('read') && ports.includes('write'))
  for (const { endpoint, isUp, load } of json.endpoints) {
    assert.match(endpoint, /:\d+$|\.s\.PGSQL/)
    assert.equal(isUp, true)
    assert.deepEqual(load.write, { running: 0, waiting: 0, limit: 8 })
    assert.deepEqual([load.read.limit, load.stream.limit], [8, 4])
  }
  assert.deepEqual(json.groupsWithoutSecondary, [])
  assert.ok(json.lag.length > 0)
  for (const { bytes } of json.lag) assert.ok(bytes >= 0)
  if (testDatabase().workerReadUrl) {
    assert.deepEqual(json.lag.map(({ group }: { group: number }) => group).sort(), [0, 1, 2, 3])
    const groups = json.endpoints.map(({ group }: { group: number }) => group)
    assert.ok([1, 2, 3].every((group) => groups.includes(group)))
  }
  assert.ok(json.reads[source] > 0)
})

test('the state of the cluster has its groups, what each stores, and its members', async () => {
  await client('/collections/cities/items?limit=1')
  const { json } = await client('/cluster')
  assert.equal(json.isReplicated, database.isReplicated)
  assert.match(json.process.id, /:\d+$/)
  assert.ok(Date.parse(json.process.startedAt) < Date.now())
  const isCitus = json.members.length > 0
  assert.equal(isCitus, testDatabase().workerReadUrl !== undefined)
  let rows = 0
  for (const { group, primaryMissingSince, lagBytes, shards, tables, rows: stored } of json.groups) {
    assert.equal(primaryMissingSince, undefined)
    assert.ok(lagBytes >= 0)
    assert.ok((isCitus ? shards : tables) > 0, `group ${group}`)
    rows += stored
  }
  // 171,075 cities with countries and counties; estimates are not exact, and other tests add tables of their own.
  assert.ok(rows > 150_000 && rows < 2_000_000, `${rows} rows`)
  for (const { node, group, role, isActive, missingSince } of json.members) {
    assert.match(node, /:\d+$/)
    assert.ok(json.groups.some((one: { group: number }) => one.group === group))
    assert.match(role, /^(primary|secondary)$/)
    assert.deepEqual([isActive, missingSince], [true, undefined])
  }
  // A busy machine can make an address late for a moment; nothing is missing now.
  assert.deepEqual(
    json.outages.filter(({ until }: { until?: string }) => until === undefined),
    [],
  )
  assert.deepEqual(json.failovers, [])
})

test('both need a key if the gateway can be reached from elsewhere', async () => {
  const elsewhere = await startGateway('--public-url=https://example.org')
  for (const path of ['/metrics', '/cluster']) {
    const { status, json } = await elsewhere.client(path)
    assert.deepEqual([status, json.code], [401, 'credentials-missing'], path)
    const wrong = await elsewhere.client(path, { headers: { authorization: 'Bearer tessera_x' } })
    assert.deepEqual([wrong.status, wrong.json.code], [401, 'credentials-invalid'], path)
  }
})
