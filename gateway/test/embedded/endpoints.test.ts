// Several addresses of one database: the first that answers serves, and what PostgreSQL refuses is refused.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { test } from 'node:test'
import { openDatabase } from '../../database/database.ts'
import { openSession } from '../../database/session.ts'
import { testDatabase } from '../support/database.ts'

const { readUrl, ownerUrl } = testDatabase()
const options = { writeUrl: undefined, poolSize: 2, statementTimeoutMs: 5_000, emit: () => {} }
const one = { text: 'select 1', values: [] }

/** Accepts and hangs up, as a proxy does that has no server; counts how often. */
async function openDeadEnd() {
  let calls = 0
  const server = createServer((socket) => {
    calls++
    socket.destroy()
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
