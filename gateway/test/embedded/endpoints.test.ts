// Several addresses of one database: the first that answers serves, and what PostgreSQL refuses is refused.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { openDatabase } from '../../database/database.ts'
import { openSession } from '../../database/session.ts'
import { testDatabase } from '../support/database.ts'

const { readUrl, ownerUrl, superuserUrl } = testDatabase()
const options = { writeUrl: undefined, poolSize: 2, statementTimeoutMs: 5_000, emit: () => {} }
const one = { text: 'select 1', values: [] }

/** Accepts and hangs up, as a proxy does that has no server, or says nothing, as one that is frozen; counts how often. */
async function openDeadEnd(isSilent = false) {
  let calls = 0
  const server = createServer((socket) => {
    calls++
    if (!isSilent) socket.destroy()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  return {
    url: `postgresql://tessera_read@127.0.0.1:${port}/tessera`,
    calls: () => calls,
    close: () => server.close(),
  }
}

test('where the first address leads nowhere, the second serves, and is taken from then on', async () => {
  const deadEnd = await openDeadEnd()
  const database = openDatabase({ ...options, readUrl: `${deadEnd.url},${readUrl}` })
  assert.deepEqual(await database.read(one), [['1']])
  assert.equal(deadEnd.calls(), 1)
  await Promise.all(Array.from({ length: 10 }, () => database.read(one)))
  assert.equal(deadEnd.calls(), 1)
  const session = await openSession(`${deadEnd.url},${ownerUrl}`, 'test')
  assert.deepEqual(await session.query('select 1 as one'), [{ one: 1 }])
  await Promise.all([session.close(), database.close()])
  deadEnd.close()
})

test('a silent address leaves time for the next', async () => {
  const silent = await openDeadEnd(true)
  const database = openDatabase({ ...options, readUrl: `${silent.url},${readUrl}` })
  // All of the first wave, which waits for connections to nobody.
  const wave = await Promise.all(Array.from({ length: 6 }, () => database.read(one)))
  assert.deepEqual(wave.flat(2), Array(6).fill('1'))
  const session = await openSession(`${silent.url},${ownerUrl}`, 'test')
  assert.deepEqual(await session.query('select 1 as one'), [{ one: 1 }])
  await Promise.all([session.close(), database.close()])
  silent.close()
})

test('a pool that is busy for long is no reason to try elsewhere', async (t) => {
  const deadEnd = await openDeadEnd()
  const busy = { ...options, statementTimeoutMs: 8_000, readUrl: `${readUrl},${deadEnd.url}` }
  const database = openDatabase(busy)
  t.after(async () => {
    deadEnd.close()
    await database.close()
  })
  const sleepers = [1, 2].map(() => database.read({ text: 'select pg_sleep(6)', values: [] }))
  await assert.rejects(database.read(one), { code: 'database-busy' })
  await Promise.all(sleepers)
  assert.deepEqual(await database.read(one), [['1']])
  assert.equal(deadEnd.calls(), 0)
})

test('connections that break, in a query and between two of a stream, break no more than that', async (t) => {
  const database = openDatabase({ ...options, readUrl })
  const session = await openSession(ownerUrl, 'test')
  t.after(() => Promise.all([session.close(), database.close()]))
  const superuser = new pg.Client({ connectionString: superuserUrl })
  await superuser.connect()
  t.after(() => superuser.end())
  const breakAll = () =>
    superuser.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'tessera_read' and application_name = 'tessera-read'",
    )
  const sleeping = assert.rejects(database.read({ text: 'select pg_sleep(20)', values: [] }), {
    code: 'database-unavailable',
  })
  const stream = database.stream({ text: 'select generate_series(1, 1000000)', values: [] })
  await stream.next()
  await sleep(200)
  await breakAll()
  await sleeping
  await assert.rejects(async () => {
    for await (const _ of stream);
  })
  assert.deepEqual(await database.read(one), [['1']])
})

test('where no address answers, it says so after each was tried', async () => {
  const deadEnds = [await openDeadEnd(), await openDeadEnd()]
  const database = openDatabase({ ...options, readUrl: deadEnds.map(({ url }) => url).join(',') })
  await assert.rejects(database.read(one), { code: 'database-unavailable' })
  assert.deepEqual(
    deadEnds.map(({ calls }) => calls()),
    [1, 1],
  )
  await database.close()
  for (const deadEnd of deadEnds) deadEnd.close()
})

test('what PostgreSQL refuses is not tried elsewhere', async () => {
  const wrong = readUrl.replace(/\/tessera(?=[?]|$)/, '/no_such_database')
  assert.notEqual(wrong, readUrl)
  await assert.rejects(openSession(`${wrong},${readUrl}`, 'test'), { severity: 'FATAL' })
})
