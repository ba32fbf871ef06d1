// Tests addresses of the database that break, hang and come back: reads go to an address that answers, changes wait for
// a primary, nothing happens twice, and an unknown outcome is reported as such.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { after, type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { splitUrls } from '../../database/addresses.ts'
import { Consistency } from '../../database/consistency.ts'
import type { Database, Query } from '../../database/contract.ts'
import { openDatabase } from '../../database/database.ts'
import { RefusedChange } from '../../database/outcome.ts'
import { openSession } from '../../database/session.ts'
import { hashOfInteger } from '../../database/shards.ts'
import type { Event } from '../../events.ts'
import { openSuperuser, testDatabase } from '../support/database.ts'
import { openRelay } from '../support/relay.ts'
import { until } from '../support/until.ts'

const urls = testDatabase()
const [readUrl] = splitUrls(urls.readUrl) as [string]
const [writeUrl] = splitUrls(urls.writeUrl) as [string]
const { ownerUrl, superuserUrl } = urls
const addressOf = (url: string) => {
  const { host, port } = new pg.Client({ connectionString: url })
  return `${host}:${port}`
}
const isReplicated = addressOf(readUrl) !== addressOf(writeUrl)
const one = { text: 'select 1', values: [] }

type Addresses = { readUrl: string; workerReadUrl?: string; writeUrl?: string | undefined }

function open(t: TestContext, addresses: Addresses, options = {}) {
  const events: Event[] = []
  const database = openDatabase({
    writeUrl: undefined,
    ...addresses,
    poolSize: 4,
    statementTimeoutMs: 5_000,
    emit: (event) => events.push(event),
    ...options,
  })
  t.after(() => database.close())
  const seen = (type: Event['type'], port?: 'read' | 'write') =>
    events.filter((event) => event.type === type && (!port || ('port' in event && event.port === port)))
      .length
  return { database, events, seen }
}

async function relay(t: TestContext, url: string) {
  const opened = await openRelay(url)
  t.after(() => opened.close())
  return opened
}

const owner = await openSession(ownerUrl, 'test')
await owner.query('create table routed (id int primary key, n int not null)')
const [{ isCitus }] = (await owner.query<{ isCitus: boolean }>(
  `select to_regclass('pg_catalog.pg_dist_partition') is not null as "isCitus"`,
)) as [{ isCitus: boolean }]
if (isCitus) await owner.query("select create_distributed_table('routed', 'id')")
await owner.query('grant select on routed to tessera_read; grant all on routed to tessera_write')
after(async () => {
  await owner.query('drop table routed')
  await owner.close()
})
const askIn = (cell: number) => ({
  text: 'select from tessera.moved_feature where cell = $1',
  values: [cell],
  cells: [cell],
})

type Place = { readonly cell: number; readonly groupid: number }

/** Returns a superuser's session at the coordinator of Citus, and a cell in each of two node groups. */
async function findPlaces() {
  const superuser = await openSuperuser()
  const [lost, kept] = await superuser.query<Place>(
    `select distinct on (groupid) cell, groupid from generate_series(0, 200) as cell
     join pg_dist_placement on shardid = get_shard_id_for_distribution_column('tessera.moved_feature', cell)`,
  )
  return { superuser, lost: lost!, kept: kept! }
}

/** Returns for how long features in these cells could not be changed, in milliseconds, as a read reports it. */
async function orphanedFor(database: Database, ...cells: number[]): Promise<number | undefined> {
  const consistency = new Consistency()
  const where = cells.length > 0 ? { cells } : {}
  await database.within({ consistency }).read({ ...one, ...where })
  return consistency.orphanedForMs
}

const insert = (id: number) => ({ text: 'insert into routed values ($1, 0) returning id', values: [id] })
const countOf = async (id: number) => (await owner.query('select from routed where id = $1', [id])).length

/** Opens a port that closes each connection, like a proxy without a server, or is silent, like a frozen server. */
async function openDeadEnd(t: TestContext, isSilent = false) {
  const server = createServer((socket) => {
    if (!isSilent) socket.destroy()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const { port } = server.address() as { port: number }
  return `postgresql://tessera_read@127.0.0.1:${port}/tessera`
}

test('the limit of a server without waits rises above 8, up to the number of connections', async (t) => {
  const { database } = open(t, { readUrl }, { poolSize: 12 })
  const load = () => database.status().endpoints[0]!.load.read
  assert.deepEqual(load(), { running: 0, waiting: 0, limit: 8 })
  let isOver = false
  let most = 0
  // A query that sleeps uses no CPU.
  const ask = async () => {
    while (!isOver) {
      await database.read({ text: 'select pg_sleep(0.05)', values: [] })
      most = Math.max(most, load().running)
    }
  }
  const asking = Array.from({ length: 16 }, ask)
  await until(() => most > 8, 30_000)
  isOver = true
  await Promise.all(asking)
  assert.ok(load().limit <= 12)
})

test('if the first address leads nowhere, the second serves', async (t) => {
  const deadEnd = await openDeadEnd(t)
  const { database, seen } = open(t, { readUrl: `${deadEnd},${readUrl}` })
  const answers = await Promise.all(Array.from({ length: 10 }, () => database.read(one)))
  assert.deepEqual(answers.flat(2), Array(10).fill('1'))
  assert.equal(seen('endpoint-down'), 1)
  assert.equal(seen('read-retried'), 0)
  const session = await openSession(`${deadEnd},${ownerUrl}`, 'test')
  assert.deepEqual(await session.query('select 1 as one'), [{ one: 1 }])
  await session.close()
})

test('a silent address leaves enough time for the next', async (t) => {
  const silent = await openDeadEnd(t, true)
  const { database } = open(t, { readUrl: `${silent},${readUrl}` })
  // The complete first wave is served, although it has to wait for connections to the silent address.
  const wave = await Promise.all(Array.from({ length: 6 }, () => database.read(one)))
  assert.deepEqual(wave.flat(2), Array(6).fill('1'))
  const session = await openSession(`${silent},${ownerUrl}`, 'test')
  assert.deepEqual(await session.query('select 1 as one'), [{ one: 1 }])
  await session.close()
})

test('if no address answers, a read fails at once', async (t) => {
  const deadEnds = [await openDeadEnd(t), await openDeadEnd(t)]
  const { database } = open(t, { readUrl: deadEnds.join() })
  await assert.rejects(database.read(one), { code: 'database-unavailable' })
  await until(() => !database.isReadable)
  const start = performance.now()
  await assert.rejects(database.read(one), { code: 'database-unavailable' })
  assert.ok(performance.now() - start < 50)
})

test('a session that PostgreSQL refuses is not tried at another address', async () => {
  const wrong = readUrl.replace(/\/tessera(?=[?]|$)/, '/no_such_database')
  assert.notEqual(wrong, readUrl)
  await assert.rejects(openSession(`${wrong},${readUrl}`, 'test'), { severity: 'FATAL' })
})

test('a pool that is busy for long is no reason to try another address', async (t) => {
  const deadEnd = await openDeadEnd(t)
  const { database, seen } = open(
    t,
    { readUrl: `${readUrl},${deadEnd}` },
    { poolSize: 2, statementTimeoutMs: 8_000 },
  )
  const sleepers = [1, 2].map(() => database.read({ text: 'select pg_sleep(6)', values: [] }))
  await assert.rejects(database.read(one), { code: 'database-busy' })
  await Promise.all(sleepers)
  assert.deepEqual(await database.read(one), [['1']])
  assert.equal(seen('endpoint-down'), 1)
})

test('statements sent together each get their rows; if one fails all fail, and the connection stays in use', async (t) => {
  const { database } = open(t, { readUrl }, { poolSize: 1 })
  const backend = async () => (await database.read({ text: 'select pg_backend_pid()', values: [] }))[0]![0]
  const pid = await backend()
  const numbers = [1, 2, 3].map((number) => ({ text: 'select $1::int, pg_backend_pid()', values: [number] }))
  assert.deepEqual(
    await database.readAll(numbers),
    [1, 2, 3].map((number) => [[String(number), pid]]),
  )
  const wrong = { text: "select 'x'::int", values: [] }
  await assert.rejects(database.readAll([numbers[0]!, wrong, numbers[1]!]), { code: 'parameter-invalid' })
  assert.equal(await backend(), pid)
})

test('connections that break end a stream, but no query and nothing that follows', async (t) => {
  const { database } = open(t, { readUrl })
  const superuser = new pg.Client({ connectionString: superuserUrl })
  await superuser.connect()
  t.after(() => superuser.end())
  const breakAll = () =>
    superuser.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'tessera_read' and application_name = 'tessera-read'",
    )
  // Opens connections that are idle when they are broken.
  await Promise.all([1, 2, 3].map(() => database.read({ text: 'select pg_sleep(0.1)', values: [] })))
  const sleeping = database.read({ text: "select 'slept', pg_sleep(1)", values: [] })
  const stream = database.stream({ text: 'select generate_series(1, 1000000)', values: [] })
  await stream.next()
  await sleep(200)
  await breakAll()
  assert.equal((await sleeping)[0]![0], 'slept')
  await assert.rejects(
    async () => {
      for await (const _ of stream);
    },
    { code: 'database-unavailable' },
  )
  assert.deepEqual(await database.read(one), [['1']])
})

/**
 * Starts readers that read until they are stopped; then they return the number of answers, the errors, and the longest
 * read in milliseconds.
 */
function startReaders(t: TestContext, read: () => Promise<unknown>, count = 4) {
  let isReading = true
  let answers = 0
  let slowest = 0
  const errors: unknown[] = []
  const running = Array.from({ length: count }, async () => {
    while (isReading) {
      const start = performance.now()
      await read().then(
        () => answers++,
        (error) => errors.push(error),
      )
      slowest = Math.max(slowest, performance.now() - start)
      await sleep(1)
    }
  })
  const stop = async () => {
    isReading = false
    await Promise.all(running)
    return { answers, errors, slowest }
  }
  t.after(stop)
  return { stop }
}

test('when the secondary dies no read fails; its loss is noticed within 300 ms, and its return within 500 ms', async (t) => {
  const secondary = await relay(t, readUrl)
  const { database, seen } = open(t, { readUrl: secondary.url, writeUrl })
  await until(async () => (await database.read(one)).length === 1)
  const readers = startReaders(t, () => database.read({ text: 'select pg_sleep(0.01)', values: [] }))
  await sleep(300)
  secondary.cut()
  assert.ok((await until(() => seen('endpoint-down', 'read') === 1)) < 300)
  await sleep(500)
  assert.equal(database.isReadable, true)
  secondary.mend()
  assert.ok((await until(() => seen('endpoint-up', 'read') === 1)) < 500)
  await sleep(200)
  const { answers, errors } = await readers.stop()
  assert.deepEqual(errors, [])
  assert.ok(answers > 50)
})

test('one connection to read and one to write are opened before a request comes, and again after they are lost', {
  skip: isCitus && 'on Citus the gateway has more connections, because it queries each node group by itself',
}, async (t) => {
  const way = await relay(t, writeUrl)
  const { database } = open(t, { readUrl, writeUrl: way.url })
  // Three connections: one to read, one to write, and the probe's.
  for (const calls of [3, 6]) {
    await until(() => way.calls === calls)
    await sleep(600)
    await database.write(one)
    assert.equal(way.calls, calls)
    way.interrupt()
  }
})

test('the loss of an address is noticed without requests too', async (t) => {
  const secondary = await relay(t, readUrl)
  const { database, seen } = open(t, { readUrl: secondary.url, writeUrl })
  await until(async () => (await database.read(one)).length === 1)
  await sleep(100)
  secondary.cut()
  assert.ok((await until(() => seen('endpoint-down', 'read') === 1)) < 300)
})

test('a secondary that freezes delays readers once, by about two seconds', async (t) => {
  const secondary = await relay(t, readUrl)
  const { database, seen } = open(t, { readUrl: secondary.url, writeUrl })
  await until(async () => (await database.read(one)).length === 1)
  const readers = startReaders(t, () => database.read(one))
  await sleep(300)
  secondary.freeze()
  await until(() => seen('endpoint-down', 'read') === 1)
  await sleep(500)
  secondary.mend()
  await until(() => seen('endpoint-up', 'read') === 1)
  const { errors, slowest } = await readers.stop()
  assert.deepEqual(errors, [])
  assert.ok(slowest < 3_000, String(slowest))
})

test('connections that are dead after a silence are no longer used', async (t) => {
  const secondary = await relay(t, readUrl)
  const { database, seen } = open(t, { readUrl: secondary.url })
  await Promise.all(
    Array.from({ length: 4 }, () => database.read({ text: 'select pg_sleep(0.1)', values: [] })),
  )
  secondary.freeze()
  await until(() => seen('endpoint-down', 'read') === 1)
  secondary.mend(false)
  await until(() => seen('endpoint-up', 'read') === 1)
  for (let number = 0; number < 8; number++) {
    const start = performance.now()
    await database.read(one)
    assert.ok(performance.now() - start < 500)
  }
})

test('an error that PostgreSQL reports for a query is no fault of the address', async (t) => {
  const { database, seen } = open(t, { readUrl, writeUrl })
  for (let number = 0; number < 20; number++)
    await assert.rejects(database.read({ text: "select '5x'::int", values: [] }), {
      code: 'parameter-invalid',
    })
  assert.equal(seen('endpoint-down'), 0)
  assert.equal(seen('read-retried'), 0)
})

test('a read in flight ends when the database is closed, and is not tried again', async () => {
  const database = openDatabase({ readUrl, writeUrl, poolSize: 1, statementTimeoutMs: 5_000, emit: () => {} })
  await database.read(one)
  const asked = assert.rejects(database.read({ text: 'select pg_sleep(3)', values: [] }), {
    code: 'database-unavailable',
  })
  await sleep(100)
  const start = performance.now()
  await database.close()
  await asked
  const took = performance.now() - start
  assert.ok(took < 1_000, `${took} ms`)
})

test('a change waits for a primary, and happens once', async (t) => {
  const primary = await relay(t, writeUrl)
  const { database, seen } = open(t, { readUrl, writeUrl: primary.url })
  await until(async () => (await database.write(insert(1))).length === 1)
  primary.cut()
  await until(() => seen('endpoint-down', 'write') === 1)
  assert.equal(database.isWritable, false)
  const start = performance.now()
  const waiting = [2, 3, 4].map((id) => database.write(insert(id)))
  const together = database.transact(async (query) => {
    await query(insert(5))
    await query(insert(6))
  })
  await sleep(1_000)
  primary.mend()
  await Promise.all([...waiting, together])
  assert.ok(performance.now() - start < 2_500)
  for (const id of [2, 3, 4, 5, 6]) assert.equal(await countOf(id), 1)
})

test('if no primary comes, the change fails within seconds, and has not happened', async (t) => {
  const { database } = open(t, { readUrl, writeUrl: await openDeadEnd(t) })
  const start = performance.now()
  await assert.rejects(database.write(insert(7)), { code: 'database-unavailable' })
  const waited = performance.now() - start
  assert.ok(waited > 4_000 && waited < 7_000, String(waited))
  assert.equal(await countOf(7), 0)
})

test('a change that is cut off has an unknown outcome; if its commit was not sent yet, it is made again', async (t) => {
  const primary = await relay(t, writeUrl)
  const { database } = open(t, { readUrl, writeUrl: primary.url })
  // Opens the connection, so that the next change is sent at once.
  await database.write(one)
  const slow = {
    text: 'with changed as (insert into routed values ($1, 0) returning id) select pg_sleep(0.3) from changed',
    values: [8],
  }
  const lost = assert.rejects(database.write(slow), { code: 'change-outcome-unknown' })
  await sleep(150)
  primary.interrupt()
  await lost
  let attempts = 0
  await database.transact(async (query) => {
    attempts++
    await query(insert(9))
    if (attempts === 1) primary.interrupt()
    await query({ text: 'select 1', values: [] })
  })
  assert.equal(attempts, 2)
  assert.equal(await countOf(9), 1)
})

test('the gateway waits only a few seconds for a change at a primary that freezes', async (t) => {
  const primary = await relay(t, writeUrl)
  const { database, seen } = open(t, { readUrl, writeUrl: primary.url }, { statementTimeoutMs: 20_000 })
  await until(async () => (await database.write(insert(13))).length === 1)
  primary.freeze()
  const start = performance.now()
  await assert.rejects(database.write(insert(14)), { code: 'change-outcome-unknown' })
  const waited = performance.now() - start
  assert.ok(waited > 3_000 && waited < 7_000, String(waited))
  assert.equal(seen('endpoint-down', 'write'), 1)
})

test('a repeatable change that was cut off during its commit is repeated', async (t) => {
  const primary = await relay(t, writeUrl)
  const { database } = open(t, { readUrl, writeUrl: primary.url })
  await database.write(one)
  const attempts: boolean[] = []
  const work = async (query: Query, isRepeated: boolean) => {
    attempts.push(isRepeated)
    return query(insert(11))
  }
  // It is sent together with the commit, so that the outcome of the commit is unknown.
  const last = () => {
    if (attempts.length > 1) return [one]
    setTimeout(() => primary.interrupt(), 100)
    return [{ text: 'select pg_sleep(0.5)', values: [] }]
  }
  const changing = database.transact(work, { isRepeatable: true, last })
  // If the first attempt was committed the second is refused as a conflict; if not, the second succeeds.
  await changing.catch((error) => assert.ok(error instanceof RefusedChange && error.refusal === 'conflict'))
  assert.deepEqual(attempts, [false, true])
  assert.equal(await countOf(11), 1)
})

test('a read reports for how long there has been no primary', {
  skip: !isReplicated && 'needs a secondary',
}, async (t) => {
  const primary = await relay(t, writeUrl)
  const { database, seen } = open(t, { readUrl, writeUrl: primary.url })
  await until(async () => (await database.write(insert(12))).length === 1)
  assert.equal(await orphanedFor(database), undefined)
  primary.cut()
  await until(() => seen('endpoint-down', 'write') === 1)
  const start = performance.now()
  await sleep(300)
  const forMs = (await orphanedFor(database))!
  // The gateway checks once a second whether the secondary has everything, so the time may count from earlier.
  assert.ok(forMs >= 290 && forMs <= performance.now() - start + 1_500, String(forMs))
  assert.deepEqual(database.status().groupsWithoutPrimary, [0])
  primary.mend()
  await until(() => database.isWritable)
  assert.equal(await orphanedFor(database), undefined)
})

test('a write address that leads to a secondary is refused', {
  skip: !isReplicated && 'needs a secondary',
}, async (t) => {
  const { database, events } = open(t, { readUrl, writeUrl: `${readUrl},${writeUrl}` })
  await database.write(insert(10))
  assert.equal(await countOf(10), 1)
  const down = events.find((event) => event.type === 'endpoint-down')
  assert.match(String(down?.error), /leads to a secondary/)
})

test('a read address through which Citus would query primaries is refused', {
  skip: !isCitus && 'needs Citus',
}, async (t) => {
  const careless = readUrl.replace(/&?options=[^&]*/, '')
  assert.notEqual(careless, readUrl)
  const { database, events } = open(t, { readUrl: careless, writeUrl })
  await database.read(one)
  const down = events.find((event) => event.type === 'endpoint-down')
  assert.match(String(down?.error), /citus\.use_secondary_nodes/)
})

test('the hash of a cell is the same as in PostgreSQL', async () => {
  const rows = await owner.query<{ value: number; hash: number }>(
    `select value, hashint4(value) as hash from (
       select unnest(array[0, 1, -1, -2, 2147483647, -2147483648]) as value
       union all select (random() * 4294967295 - 2147483648)::bigint::int from generate_series(1, 5000)) as drawn`,
  )
  for (const { value, hash } of rows) assert.equal(hashOfInteger(value), hash, String(value))
})

/** Finds a member of a node group in Citus' metadata, where it can be made unreachable, as around a failover. */
async function findNode(
  t: TestContext,
  superuser: Awaited<ReturnType<typeof findPlaces>>['superuser'],
  group: number,
  role: 'primary' | 'secondary',
) {
  const [{ nodeport }] = (await superuser.query<{ nodeport: number }>(
    'select nodeport from pg_dist_node where groupid = $1 and noderole = $2::noderole',
    [group, role],
  )) as [{ nodeport: number }]
  // Shards belong to the group, whatever its port.
  const setPort = (port: number) =>
    superuser.query('update pg_dist_node set nodeport = $1 where groupid = $2 and noderole = $3::noderole', [
      port,
      group,
      role,
    ])
  const bringBack = () => setPort(nodeport)
  t.after(async () => {
    await bringBack()
    await superuser.close()
  })
  return { lose: () => setPort(1), bringBack }
}

test('a node group without a secondary is read from its primary, and other groups from their secondaries', {
  skip: !isCitus && 'needs Citus',
}, async (t) => {
  const { database, seen } = open(t, { readUrl, writeUrl })
  const { superuser, lost, kept } = await findPlaces()
  const node = await findNode(t, superuser, lost.groupid, 'secondary')
  const ask = (cell: number) => database.read(askIn(cell))
  const isFromSecondary = async (...cells: number[]) => {
    const all = cells.length > 0 ? cells : undefined
    const [row] = await database.read({ text: 'select pg_is_in_recovery()', values: [], cells: all })
    return row![0] === 't'
  }
  assert.equal(await isFromSecondary(lost.cell), true)
  await node.lose()
  await until(async () => {
    await ask(lost.cell)
    return seen('secondary-missing') === 1
  })
  await ask(kept.cell)
  assert.deepEqual(
    [
      await isFromSecondary(lost.cell),
      await isFromSecondary(kept.cell),
      await isFromSecondary(lost.cell, kept.cell),
      await isFromSecondary(),
    ],
    [false, true, false, false],
  )
  const retries = seen('read-retried')
  for (let number = 0; number < 20; number++) await ask(lost.cell)
  assert.equal(seen('read-retried'), retries)
  await node.bringBack()
  await until(() => seen('secondary-back') === 1)
  assert.equal(await isFromSecondary(lost.cell), true)
  assert.equal(await isFromSecondary(), true)
})

test('a read waits for a secondary to come back if there is no primary to query', {
  skip: !isCitus && 'needs Citus',
}, async (t) => {
  const { database, seen } = open(t, { readUrl })
  const { superuser, lost } = await findPlaces()
  const node = await findNode(t, superuser, lost.groupid, 'secondary')
  await until(async () => (await database.read(askIn(lost.cell))).length === 0)
  await node.lose()
  await until(async () => {
    const isLost = await database.read(askIn(lost.cell)).then(
      () => false,
      () => true,
    )
    return isLost && seen('secondary-missing') === 1
  }, 20_000)
  const asked = database.read(askIn(lost.cell))
  await sleep(200)
  await node.bringBack()
  assert.deepEqual(await asked, [])
})

test('the loss of a primary is noticed without any change being sent', {
  skip: !isCitus && 'needs Citus',
}, async (t) => {
  const { database, seen } = open(t, { readUrl, writeUrl })
  const { superuser, lost, kept } = await findPlaces()
  const node = await findNode(t, superuser, lost.groupid, 'primary')
  await until(async () => (await database.read(askIn(lost.cell))).length === 0)
  await node.lose()
  await until(() => seen('primary-missing') === 1)
  assert.deepEqual(database.status().groupsWithoutPrimary, [lost.groupid])
  assert.ok((await orphanedFor(database, lost.cell))! > 0)
  assert.ok((await orphanedFor(database, kept.cell, lost.cell))! > 0)
  assert.ok((await orphanedFor(database))! > 0)
  assert.equal(await orphanedFor(database, kept.cell), undefined)
  await node.bringBack()
  await until(() => seen('primary-back') === 1)
  assert.equal(await orphanedFor(database, lost.cell), undefined)
  assert.deepEqual(database.status().groupsWithoutPrimary, [])
})

test('cells of one node group are read at its worker, or through the coordinator if the worker is lost', {
  skip: !isCitus && 'needs Citus',
}, async (t) => {
  const workers = splitUrls(urls.workerReadUrl!)
  const relays = await Promise.all(workers.map((url) => relay(t, url)))
  const { database, seen } = open(t, {
    readUrl,
    workerReadUrl: relays.map(({ url }) => url).join(),
    writeUrl,
  })
  /** Returns the group of the node that was queried, which need not have the rows. */
  const entryOf = async (...cells: number[]) => {
    const all = cells.length > 0 ? cells : undefined
    const [row] = await database.read({
      text: 'select groupid, pg_is_in_recovery() from pg_dist_local_group',
      values: [],
      cells: all,
    })
    assert.equal(row![1], 't')
    return Number(row![0])
  }
  const entries = async () => Promise.all(Array.from({ length: 40 }, (_, cell) => entryOf(cell)))
  await until(async () => !(await entries()).includes(0))
  const places = await owner.query<{ cell: number; groupid: number }>(
    `select cell, groupid from generate_series(0, 39) as cell
     join pg_dist_placement on shardid = get_shard_id_for_distribution_column('tessera.moved_feature', cell)
     order by cell`,
  )
  assert.deepEqual(
    await entries(),
    places.map(({ groupid }) => groupid),
  )
  const [first] = places as [(typeof places)[0]]
  const beside = places.find(({ cell, groupid }) => cell !== first.cell && groupid === first.groupid)!
  const other = places.find(({ groupid }) => groupid !== first.groupid)!
  assert.equal(await entryOf(first.cell, beside.cell), first.groupid)
  assert.equal(await entryOf(first.cell, other.cell), 0)
  assert.equal(await entryOf(), 0)
  for (const worker of relays) worker.cut()
  await until(() => seen('endpoint-down', 'read') === relays.length)
  assert.equal(await entryOf(first.cell), 0)
  for (const worker of relays) worker.mend()
  await until(async () => (await entryOf(first.cell)) === first.groupid)
})

test("a shard's own table is queried where the shard is, and otherwise the distributed table through Citus", {
  skip: !isCitus && 'needs Citus',
}, async (t) => {
  const { database } = open(t, { readUrl, workerReadUrl: urls.workerReadUrl!, writeUrl })
  const { superuser, lost, kept } = await findPlaces()
  await superuser.close()
  const statementOf = (cells: number[], text: string) => {
    const ofShard = () => ({ text, values: [] })
    return { text: "select 'by Citus'", values: [], cells, ofShard }
  }
  const ask = async (cells: number[], text: string) => (await database.read(statementOf(cells, text)))[0]![0]
  const cells = [kept.cell]
  await until(async () => (await ask(cells, "select 'itself'")) === 'itself')
  assert.equal(await ask([kept.cell, lost.cell], "select 'itself'"), 'by Citus')
  for (const away of ['select 1 / 0', 'select from no_such_table', 'select from pg_authid'])
    assert.equal(await ask(cells, away), 'by Citus', away)
  await assert.rejects(ask(cells, "select 'x'::int"), { code: 'parameter-invalid' })
  const together = ["select 'itself'", 'select 1 / 0', "select 'itself'"].map((text) =>
    statementOf(cells, text),
  )
  assert.deepEqual((await database.readAll(together)).flat(2), ['itself', 'by Citus', 'itself'])
  // Citus might query another node, whose position was not compared with the required one.
  for (const demand of [{ maxStalenessMs: 60_000 }, { isTracked: true }]) {
    const consistency = new Consistency(demand)
    const causal = database.within({ consistency })
    assert.deepEqual(await causal.read(together[0]!), [['itself']])
    assert.equal(consistency.source, 'secondary')
    assert.deepEqual(await causal.read(together[1]!), [['by Citus']])
    assert.equal(consistency.source, 'primary')
  }
})
