// Tests that a client sees its own changes wherever it reads next, and that secondaries serve its reads if they can.

import assert from 'node:assert/strict'
import { after, type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { splitUrls } from '../../database/addresses.ts'
import { Consistency } from '../../database/consistency.ts'
import { openDatabase } from '../../database/database.ts'
import type { Event } from '../../events.ts'
import { makeConsistencyTokens } from '../../http/consistency-token.ts'
import { openSuperuser, testDatabase } from '../support/database.ts'
import { startGateway } from '../support/gateway.ts'

const startedAt = performance.now()
const [here, there] = await Promise.all([startGateway(), startGateway()])
const urls = testDatabase()

/** The superuser's sessions at every secondary that serves reads; empty if there is only one server. */
const secondaries: pg.Client[] = []
const role = /\/\/([^@]*@)/.exec(urls.superuserUrl)![0]
for (const url of [urls.readUrl, urls.workerReadUrl ?? ''].flatMap((list) => (list ? splitUrls(list) : []))) {
  const client = new pg.Client({ connectionString: url.replace(/\/\/[^@]*@/, role) })
  await client.connect()
  const { rows } = await client.query('select pg_is_in_recovery() as it')
  if (rows[0].it) secondaries.push(client)
  else await client.end()
}
const skip = secondaries.length === 0 && 'needs a secondary'
const source = skip ? 'primary' : 'secondary'

const superuser = await openSuperuser()
after(() => superuser.close())
const [{ isCitus }] = (await superuser.query<{ isCitus: boolean }>(
  `select to_regclass('pg_catalog.pg_dist_node') is not null as "isCitus"`,
)) as [{ isCitus: boolean }]
const [{ groups }] = isCitus
  ? ((await superuser.query<{ groups: number }>(
      'select count(distinct groupid)::int as groups from pg_dist_node where shouldhaveshards',
    )) as [{ groups: number }])
  : [{ groups: 0 }]

/** Stops WAL replay on secondaries, so that later commits do not appear there. @returns a function that resumes it */
async function holdSecondaries(t: TestContext, held: readonly pg.Client[] = secondaries) {
  const replaying: number[] = []
  for (const client of held) {
    const { rows } = await client.query("select pid from pg_stat_activity where backend_type = 'startup'")
    replaying.push(rows[0].pid)
  }
  const signalAll = (name: NodeJS.Signals) => {
    for (const pid of replaying) process.kill(pid, name)
  }
  t.after(() => signalAll('SIGCONT'))
  signalAll('SIGSTOP')
  return () => signalAll('SIGCONT')
}

type Headers = Record<string, string>
const ask = async ({ client }: typeof here, path: string, headers: Headers = {}, init: RequestInit = {}) => {
  const response = await fetch(new URL(path, client.url), { ...init, headers })
  const text = await response.text()
  return {
    status: response.status,
    token: response.headers.get('consistency-token') ?? undefined,
    source: response.headers.get('tessera-source') ?? undefined,
    headers: response.headers,
    json: text ? JSON.parse(text) : undefined,
  }
}
const change = (gateway: typeof here, method: string, path: string, body?: object) => {
  const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/geo+json'
  const init = body ? { body: JSON.stringify(body) } : {}
  const headers = { prefer: 'return=representation', ...(body ? { 'content-type': type } : {}) }
  return ask(gateway, path, headers, { method, ...init })
}
const cityAt = (longitude: number, name: string) => ({
  type: 'Feature',
  geometry: { type: 'Point', coordinates: [longitude, -60] },
  properties: { name, country: 'AQ' },
})
after(() => Promise.all(secondaries.map((client) => client.end())))

const ITEMS = '/collections/cities/items'
async function make(t: TestContext, longitude: number, name: string) {
  const { status, token, json } = await change(here, 'POST', ITEMS, cityAt(longitude, name))
  assert.equal(status, 201)
  assert.ok(token)
  const path = `${ITEMS}/${json.id}`
  t.after(() => change(here, 'DELETE', path))
  return { path, token, bbox: `${ITEMS}?bbox=${longitude - 0.1},-60.1,${longitude + 0.1},-59.9` }
}
const namesOf = ({ json }: { json: any }): string[] =>
  json.features.map((feature: any) => feature.properties.name)

test('with its token a change is seen at once, also at another gateway', async (t) => {
  for (let number = 0; number < 30; number++) {
    const name = `seen ${number}`
    const { path, token, bbox } = await make(t, number * 12 - 180, name)
    const headers = { 'consistency-token': token }
    assert.equal((await ask(there, path, headers)).json.properties.name, name)
    assert.ok(namesOf(await ask(there, bbox, headers)).includes(name))
    assert.deepEqual(namesOf(await ask(there, `${ITEMS}?name=seen%20${number}`, headers)), [name])
    const patched = await change(here, 'PATCH', path, { properties: { name: `${name} anew` } })
    const again = await ask(there, path, { 'consistency-token': `${token}, ${patched.token}` })
    assert.equal(again.json.properties.name, `${name} anew`)
    assert.equal((await ask(there, path, { 'consistency-token': patched.token! })).status, 200)
    const moved = await change(there, 'PATCH', path, {
      geometry: { type: 'Point', coordinates: [number, 5] },
    })
    const after = await ask(here, path, { 'consistency-token': moved.token! })
    assert.deepEqual(after.json.geometry.coordinates, [number, 5])
    const removed = await change(here, 'DELETE', path)
    assert.equal(removed.status, 204)
    assert.equal((await ask(there, path, { 'consistency-token': removed.token! })).status, 404)
  }
})

test('a response reports its source, and how long the database took', async () => {
  const page = await ask(here, `${ITEMS}?limit=1`)
  assert.equal(page.source, source)
  assert.match(page.headers.get('server-timing')!, /^database;dur=\d+\.\d$/)
  assert.equal(page.token, undefined)
  assert.equal((await ask(here, `${ITEMS}/${page.json.features[0].id}`)).source, source)
  assert.equal((await ask(here, `${ITEMS}?limit=5000`)).source, source)
  assert.match(page.headers.get('vary')!, /consistency-token/)
})

test('a secondary that is behind does not serve reads that require more than it has', { skip }, async (t) => {
  const before = await make(t, 100, 'before')
  assert.equal((await ask(there, before.path, { 'consistency-token': before.token })).status, 200)
  const release = await holdSecondaries(t)
  const { path, token, bbox } = await make(t, 100, 'behind')
  const headers = { 'consistency-token': token }
  // Without the token the change is not seen; otherwise this test would prove nothing.
  assert.equal((await ask(there, path)).status, 404)
  assert.deepEqual(namesOf(await ask(there, bbox)), ['before'])
  for (const address of [path, bbox, `${ITEMS}?name=behind`, `${ITEMS}?limit=2000&name=behind`]) {
    const answer = await ask(there, address, headers)
    assert.deepEqual([answer.status, answer.source], [200, 'primary'], address)
    assert.ok((answer.json.features ?? [answer.json]).some((f: any) => f.properties.name === 'behind'))
  }
  assert.ok(there.events.some(({ type }) => type === 'secondary-behind'))
  const strong = await ask(there, path, { prefer: 'consistency=strong' })
  assert.deepEqual([strong.status, strong.source], [200, 'primary'])
  assert.equal(strong.headers.get('preference-applied'), 'consistency=strong')
  const eventual = await ask(there, path, { ...headers, prefer: 'consistency=eventual' })
  assert.deepEqual([eventual.status, eventual.source], [404, 'secondary'])
  // An earlier change is on the secondaries, so its token does not require a primary.
  const earlier = await ask(there, before.path, { 'consistency-token': before.token })
  assert.deepEqual([earlier.status, earlier.source], [200, 'secondary'])
  release()
  for (let answer = await ask(there, path, headers); answer.source === 'primary'; ) {
    assert.equal(answer.status, 200)
    answer = await ask(there, path, headers)
  }
})

test('the maximum of staleness is kept', { skip }, async (t) => {
  const longAgo = { prefer: 'max-staleness=3600' }
  // The first such read sets the position that reads must have reached from now on. Secondaries must have it before
  // they are held.
  while ((await ask(there, `${ITEMS}?limit=1`, longAgo)).source === 'primary') await sleep(50)
  await holdSecondaries(t)
  const { path } = await make(t, 50, 'stale')
  assert.equal((await ask(there, path, longAgo)).status, 404)
  await sleep(1_050)
  const fresh = await ask(there, path, { prefer: 'max-staleness=1' })
  assert.deepEqual([fresh.status, fresh.source], [200, 'primary'])
  assert.equal((await ask(there, path, { prefer: 'consistency="max-staleness=0"' })).status, 200)
})

test('with consistency=monotonic, a later read is not older than an earlier one', { skip }, async (t) => {
  const first = await ask(here, `${ITEMS}?limit=1`, { prefer: 'consistency=monotonic' })
  assert.ok(first.token)
  await holdSecondaries(t)
  const again = await ask(there, `${ITEMS}?limit=1`, { 'consistency-token': first.token })
  assert.deepEqual([again.status, again.source, again.token], [200, 'secondary', undefined])
  const { path, token, bbox } = await make(t, 70, 'monotonic')
  const seen = await ask(here, path, { 'consistency-token': token, prefer: 'consistency=monotonic' })
  assert.deepEqual([seen.status, seen.source], [200, 'primary'])
  assert.ok(namesOf(await ask(there, bbox, { 'consistency-token': seen.token! })).includes('monotonic'))
})

test('without a primary to query, a read fails if secondaries have less than it requires', {
  skip,
}, async (t) => {
  const events: Event[] = []
  const database = openDatabase({
    readUrl: urls.readUrl,
    workerReadUrl: urls.workerReadUrl,
    writeUrl: undefined,
    poolSize: 2,
    statementTimeoutMs: 1_000,
    emit: (event) => events.push(event),
  })
  t.after(() => database.close())
  const release = await holdSecondaries(t)
  const { token } = await make(t, 60, 'lonely')
  const required = (await makeConsistencyTokens(database).decode(token))!
  assert.notEqual(required, 'everything')
  const read = () =>
    database.within({ consistency: new Consistency({ required }) }).read({ text: 'select 1', values: [] })
  await assert.rejects(read(), { code: 'consistency-unavailable' })
  const waiting = read()
  await sleep(50)
  release()
  assert.deepEqual(await waiting, [['1']])
  const waits = events.filter((event) => event.type === 'secondary-awaited')
  assert.equal(waits.length, 1)
  assert.ok(waits[0]!.milliseconds >= 50)
})

test('a token that cannot be verified is read at the primary; text that is no token is refused', async (t) => {
  const { path, token } = await make(t, 90, 'signed')
  const forged = Buffer.from(token, 'base64url')
  forged[8]! ^= 1
  const stranger = makeConsistencyTokens({
    ...here.database,
    read: async ({ text }) => (/to_regclass|exists/.test(text) ? [['t']] : [['00'.repeat(32)]]),
  })
  const old = makeConsistencyTokens(here.database, () => Math.floor(Date.now() / 1_000) - 90_000)
  const texts = [
    forged.toString('base64url'),
    (await stranger.encode(new Map([[0, 1n]])))!,
    (await old.encode(new Map([[0, 1n]])))!,
  ]
  for (const text of texts) {
    const answer = await ask(there, path, { 'consistency-token': text })
    assert.deepEqual([answer.status, answer.source], [200, 'primary'])
  }
  for (const text of ['', 'hello', token.slice(1), `${token},`, `${token}A`, '%%%', 'A'.repeat(5_000)]) {
    const { status, json } = await ask(there, path, { 'consistency-token': text })
    assert.equal(status, 400, text)
    assert.equal(json.code, 'header-invalid')
    assert.equal(json.header, 'Consistency-Token')
  }
  for (const prefer of ['consistency=stong', 'max-staleness=soon', 'consistency=max-staleness=x']) {
    const { status, json } = await ask(there, path, { prefer })
    assert.deepEqual([status, json.header], [400, 'Prefer'], prefer)
  }
  assert.equal((await ask(there, path, { prefer: 'respond-async, wait=5, handling=lenient' })).status, 200)
})

test("a change's token includes the tokens that were sent with the change", async (t) => {
  const tokens = makeConsistencyTokens(here.database)
  const far = new Map([
    [7, 2n ** 60n],
    [0, 1n],
  ])
  const { path } = await make(t, 110, 'merged')
  const { token } = await ask(
    here,
    path,
    { 'consistency-token': (await tokens.encode(far))!, 'content-type': 'application/merge-patch+json' },
    { method: 'PATCH', body: '{"properties":{"name":"merged anew"}}' },
  )
  const position = (await tokens.decode(token!)) as ReadonlyMap<number, bigint>
  assert.equal(position.get(7), 2n ** 60n)
  assert.ok([...position].some(([group, place]) => group !== 7 && place > 1n))
})

/** Interval at which a gateway reads the map of shards. */
const MAP_INTERVAL_MS = 10_000

// It is the last one, because gateways that have seen a shard move read from primaries for a while.
test('a change in a shard that has moved is seen by a gateway that knows it sooner than the one that made the change', {
  skip: (skip || groups < 2) && 'needs secondaries, and two groups of Citus',
  timeout: 120_000,
}, async (t) => {
  const { path } = await make(t, 40, 'about to move')
  // Half an interval later than the others.
  const phaseMs = (performance.now() - startedAt) % MAP_INTERVAL_MS
  await sleep((MAP_INTERVAL_MS * 3) / 2 - phaseMs)
  const knowing = await startGateway()
  const cell = Number(/items\/(\d+)\./.exec(path)![1])
  const [move] = await superuser.query<{ shard: string; from: number; to: number; target: number }>(
    `select shardid::text as shard, here.nodeid as from, there.nodeid as to, there.groupid as target
     from pg_dist_placement join pg_dist_node here using (groupid), pg_dist_node there
     where shardid = get_shard_id_for_distribution_column('public.cities', $1::int) and here.noderole = 'primary'
       and there.noderole = 'primary' and there.shouldhaveshards and there.groupid <> here.groupid limit 1`,
    [cell],
  )
  const { shard, from, to, target } = move!
  const moveShard = (from: number, to: number) =>
    superuser.query(`select citus_move_shard_placement(${shard}, ${from}, ${to}, 'block_writes')`)
  await moveShard(from, to)
  t.after(() => moveShard(to, from))
  const held: pg.Client[] = []
  for (const client of secondaries) {
    const { rows } = await client.query('select groupid from pg_dist_local_group')
    if (rows[0].groupid === target) held.push(client)
  }
  assert.ok(held.length > 0)
  const release = await holdSecondaries(t, held)
  // In this time each gateway reads the map, at different moments.
  const end = performance.now() + MAP_INTERVAL_MS + 2_000
  for (let number = 0; performance.now() < end; number++) {
    const name = `moved ${number}`
    const { status, token } = await change(here, 'PATCH', path, { properties: { name } })
    assert.equal(status, 200)
    assert.equal((await ask(knowing, path, { 'consistency-token': token! })).json.properties?.name, name)
    await sleep(100)
  }
  release()
})
