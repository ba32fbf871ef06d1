// Tests deadlines: a client that says how long it waits gets a response by then, and the query of a page that is given
// up is cancelled.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import pg from 'pg'
import { openSession } from '../../database/session.ts'
import { testDatabase } from '../support/database.ts'
import { startGateway } from '../support/gateway.ts'
import { until } from '../support/until.ts'

const { client, events, session, catalog } = await startGateway()

before(async () => {
  // Each row of the view takes 0.4 seconds.
  await session.query(`
    create table sleeper (id int primary key, geom geometry(Point, 4326));
    insert into sleeper select n, ST_SetSRID(ST_MakePoint(n, n), 4326) from generate_series(1, 5) n;
    create view sleepers as select id, geom, pg_sleep(0.4)::text as nap from sleeper;
    grant select on sleepers to tessera_read`)
  await catalog.reload()
})
after(async () => {
  const owner = await openSession(testDatabase().ownerUrl, 'test')
  await owner.query('drop view sleepers; drop table sleeper')
  await owner.close()
})

async function countRunning(): Promise<number> {
  const superuser = new pg.Client({ connectionString: testDatabase().superuserUrl.split(',')[0]! })
  await superuser.connect()
  const { rows } = await superuser.query(
    "select count(*)::int as running from pg_stat_activity where state = 'active' and query like '%sleepers%' and pid <> pg_backend_pid()",
  )
  await superuser.end()
  return rows[0].running
}

test('a page that is not ready in time is given up, and its query is cancelled', async () => {
  const start = performance.now()
  const { status, json, headers } = await client('/collections/sleepers/items?limit=5', {
    headers: { prefer: 'handling=strict, wait=1' },
  })
  const waited = performance.now() - start
  assert.deepEqual([status, json.code], [503, 'query-too-slow'])
  assert.equal(headers.get('preference-applied'), 'wait=1')
  assert.ok(waited > 900 && waited < 2_500, String(waited))
  assert.equal(await countRunning(), 0)
})

test('a page that is ready in time is served', async () => {
  const { status, json } = await client('/collections/sleepers/items?limit=5', {
    headers: { prefer: 'wait=9' },
  })
  assert.deepEqual([status, json.numberReturned], [200, 5])
})

test('a preference without a valid wait changes nothing', async () => {
  for (const prefer of ['wait', 'wait=soon', 'wait=-1', 'return=minimal']) {
    const { status, headers } = await client('/collections/cities/items', { headers: { prefer } })
    assert.deepEqual([status, headers.get('preference-applied')], [200, null], prefer)
  }
})

test('the deadline applies to a single feature too', async () => {
  await session.query(
    'create or replace view sleepers as select id, geom, pg_sleep(3)::text as nap from sleeper',
  )
  const { json } = await client('/collections/sleepers/items/1', { headers: { prefer: 'wait=1' } })
  assert.equal(json.code, 'query-too-slow')
})

test('a request whose client leaves is counted like others', async () => {
  // The look-up that was given up before still runs: look-ups share a connection, and none may cancel the others.
  await until(async () => (await countRunning()) === 0)
  const leaving = new AbortController()
  const asked = client('/collections/sleepers/items/2', { signal: leaving.signal })
  await until(async () => (await countRunning()) === 1)
  leaving.abort()
  await assert.rejects(asked, { name: 'AbortError' })
  const url = '/collections/sleepers/items/2'
  await until(() => events.some((event) => event.type === 'request-finished' && event.url === url))
  const told = events.flatMap((event) =>
    event.type === 'request-finished' && event.url === url ? [[event.route, event.status]] : [],
  )
  assert.deepEqual(told, [['/collections/:collectionId/items/:featureId', 499]])
})
