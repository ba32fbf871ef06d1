// Tests that changes and their entries are one: whatever fails, neither exists without the other; that gateways can only add
// entries; and that nothing costs more where there is no audit.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Database } from '../../database/contract.ts'
import { openSession } from '../../database/session.ts'
import type { Statement } from '../../database/statement.ts'
import type { Author } from '../../features/changes/audit.ts'
import { makeItemChanges } from '../../features/changes/item-change.ts'
import { setCollection } from '../../features/collections/settings.ts'
import { makeUnshown } from '../../features/query/unshown.ts'
import { openSuperuser, testDatabase } from '../support/database.ts'
import { startGateway, startGatewayOn } from '../support/gateway.ts'
import { openRelay } from '../support/relay.ts'
import { until } from '../support/until.ts'

const { client, catalog, database, session } = await startGateway()
const superuser = await openSuperuser()
after(() => superuser.close())

before(async () => {
  await session.query(`
    create table audit_slow (id int primary key, geom geometry(Point, 4326), name text);
    create table audit_free (id int primary key, geom geometry(Point, 4326), name text);
    create function audit_wait() returns trigger language plpgsql as $$ begin perform pg_sleep(1); return null; end $$;
    create constraint trigger waits after insert or update on audit_slow deferrable initially deferred
      for each row when (new.name like 'slow%') execute function audit_wait();
    create view audit_seen as select id, geom, name from audit_slow`)
  await setCollection(session, 'audit_slow', { audit: 'values' })
  await setCollection(session, 'audit_seen', { audit: 'values' })
  await catalog.reload()
})
after(async () => {
  const owner = await openSession(testDatabase().ownerUrl, 'test')
  await owner.query(`drop table audit_slow, audit_free cascade; drop function audit_wait;
    delete from tessera.collection where table_name in ('audit_slow', 'audit_seen')`)
  await owner.close()
})

const put = (ask: typeof client, id: number, name: string, table = 'audit_slow') =>
  ask(`/collections/${table}/items/${id}`, {
    method: 'PUT',
    headers: { 'content-type': 'application/geo+json' },
    body: JSON.stringify({ type: 'Feature', id, geometry: null, properties: { name } }),
  })
const stored = async (id: number, table = 'audit_slow') => {
  const [row] = await session.query<{ features: number; entries: number }>(
    `select (select count(*) from audit_slow where id = $1)::int as features,
       (select count(*) from tessera.audit where table_name = $2 and feature_id = $1::text)::int as entries`,
    [id, table],
  )
  return row
}
const committing = async () =>
  (await superuser.query<{ pid: number }>(
    "select pid from pg_stat_activity where usename = 'tessera_write' and query = 'commit' and state = 'active'",
  )) as { pid: number }[]

test('a change whose connection dies in its commit leaves neither feature nor entry', async () => {
  const changing = put(client, 1, 'slow 1')
  await until(async () => (await committing()).length > 0)
  await superuser.query('select pg_terminate_backend($1)', [(await committing())[0]!.pid])
  const { status, json } = await changing
  assert.deepEqual([status, json.code], [503, 'change-outcome-unknown'])
  assert.deepEqual(await stored(1), { features: 0, entries: 0 })
})

test('a change whose connection is lost after its commit leaves both, and is not made again', async (t) => {
  const relay = await openRelay(testDatabase().writeUrl)
  t.after(() => relay.close())
  const far = await startGatewayOn({ writeUrl: relay.url })
  const changing = put(far.client, 2, 'slow 2')
  await until(async () => (await committing()).length > 0)
  relay.freeze()
  await until(async () => (await stored(2))!.features === 1)
  relay.mend()
  // To this gateway, the database has a second address: it gives the change a key, and repeats it.
  assert.equal((await changing).status, 201)
  assert.deepEqual(await stored(2), { features: 1, entries: 1 })
})

test('a gateway that cannot write entries makes no change', async () => {
  await session.query('revoke insert on tessera.audit from tessera_write')
  try {
    const refused = await put(client, 3, 'unaudited')
    assert.equal(refused.status, 403, refused.text)
    assert.deepEqual(await stored(3), { features: 0, entries: 0 })
    assert.equal((await put(client, 3, 'free', 'audit_free')).status, 201)
  } finally {
    await session.query('grant insert on tessera.audit to tessera_write')
  }
  assert.equal((await put(client, 3, 'audited')).status, 201)
})

test('changes through a view have entries of the view', async () => {
  assert.equal((await put(client, 4, 'first')).status, 201)
  const patched = await client('/collections/audit_seen/items/4', {
    method: 'PATCH',
    headers: { 'content-type': 'application/merge-patch+json' },
    body: JSON.stringify({ properties: { name: 'second' } }),
  })
  assert.equal(patched.status, 200, patched.text)
  assert.deepEqual(await stored(4, 'audit_seen'), { features: 1, entries: 1 })
  const [entry] = await session.query<{ before: string; after: string }>(
    "select before, after from tessera.audit where table_name = 'audit_seen'",
  )
  assert.match(entry!.before, /"name":"first"/)
  assert.match(entry!.after, /"name":"second"/)
})

test('the roles of gateways add entries and change none, in the table and in each of its partitions', async () => {
  const rights = await superuser.query<{ name: string; role: string; rights: string }>(
    `select c.relname as name, r.rolname as role, string_agg(p.name, ',' order by p.name) as rights
     from pg_class c join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'tessera'
     cross join pg_roles r cross join unnest(array['select', 'insert', 'update', 'delete', 'truncate']) p (name)
     where c.relkind in ('r', 'p') and c.relname like 'audit%' and r.rolname in ('tessera_read', 'tessera_write')
       and has_table_privilege(r.oid, c.oid, p.name) group by 1, 2`,
  )
  assert.deepEqual(rights, [{ name: 'audit', role: 'tessera_write', rights: 'insert,select' }])
  const partitions = await superuser.query<{ name: string }>(
    "select inhrelid::regclass::text as name from pg_inherits where inhparent = 'tessera.audit'::regclass order by 1",
  )
  assert.equal(partitions.length, 3)
})

test('gateways let the database drop months that are no longer kept, and cannot choose them', async () => {
  const writer = await openSession(testDatabase().writeUrl, 'test')
  after(() => writer.close())
  const partitions = async () =>
    (
      await session.query<{ name: string }>(
        "select relname as name from pg_inherits join pg_class c on c.oid = inhrelid where inhparent = 'tessera.audit'::regclass order by 1",
      )
    ).map(({ name }) => name)
  const now = await partitions()
  await session.query(`create table tessera.audit_2001_01 partition of tessera.audit
    for values from ('2001-01-01Z') to ('2001-02-01Z')`)
  const old = (time: string) =>
    session.query(
      `insert into tessera.audit (cell, changed_at, schema_name, table_name, feature_id, action, caller, address, request_id)
       values (1, $1, 'public', 'audit_old', '1', 'created', '', '', '')`,
      [time],
    )
  const kept = async () =>
    (
      await session.query<{ time: Date }>(
        "select changed_at as time from tessera.audit where table_name = 'audit_old' order by 1",
      )
    ).map(({ time }) => time.toISOString().slice(0, 10))
  await old('2001-01-15Z')
  await old('2003-03-03Z')
  await assert.rejects(writer.query("select tessera.keep_private('tessera.audit')"), /permission denied/)
  await assert.rejects(writer.query('insert into tessera.audit_retention values (1)'), /permission denied/)
  await assert.rejects(writer.query('drop table tessera.audit_2001_01'), /must be owner/)
  // Without a retention, all of them are kept.
  await writer.query('select tessera.tend_audit()')
  assert.deepEqual(await kept(), ['2001-01-15', '2003-03-03'])
  await session.query("insert into tessera.audit_retention values (extract(day from now() - '2002-01-01Z'))")
  await writer.query('select tessera.tend_audit()')
  assert.deepEqual(await kept(), ['2003-03-03'])
  assert.deepEqual(await partitions(), now)
  await session.query('update tessera.audit_retention set days = 30')
  await writer.query('select tessera.tend_audit()')
  assert.deepEqual(await kept(), [])
  await session.query('delete from tessera.audit_retention')
  // A month without a partition, some of whose entries are in the rest, stays there.
  const next = now.filter((name) => name !== 'audit_rest').at(-1)!
  await session.query(`drop table tessera.${next}`)
  const [year, month] = next.slice('audit_'.length).split('_')
  await old(`${year}-${month}-02Z`)
  await writer.query('select tessera.tend_audit()')
  assert.ok(!(await partitions()).includes(next))
  await session.query("delete from tessera.audit_rest where table_name = 'audit_old'")
  await writer.query('select tessera.tend_audit()')
  assert.deepEqual(await partitions(), now)
})

test('tending does not wait behind a long change, so that others do not wait behind it', async () => {
  const writer = await openSession(testDatabase().writeUrl, 'test')
  const long = await openSession(testDatabase().writeUrl, 'test')
  const next = (
    await session.query<{ name: string }>(
      "select max(relname) as name from pg_inherits join pg_class c on c.oid = inhrelid where inhparent = 'tessera.audit'::regclass and relname <> 'audit_rest'",
    )
  )[0]!.name
  await session.query(`drop table tessera.${next}`)
  await long.query('begin; lock table tessera.audit in row exclusive mode')
  const start = performance.now()
  await assert.rejects(writer.query('select tessera.tend_audit()'), /lock timeout/)
  assert.ok(performance.now() - start < 5_000)
  await long.query('commit')
  await writer.query('select tessera.tend_audit()')
  await Promise.all([writer.close(), long.close()])
})

test('without an audit, a change sends what it sent before: one statement, and no transaction', async () => {
  const author: Author = { caller: '', address: '', request: '' }
  const counting = (sent: string[]): Database => ({
    ...database,
    write: (statement, options) => {
      sent.push(`write ${statement.text}`)
      return database.write(statement, options)
    },
    transact: (work, { last, ...options } = {}) => {
      const note = (statement: Statement) => {
        sent.push(`within ${statement.text}`)
        return statement
      }
      return database.transact((query, isRepeated) => work((one) => query(note(one)), isRepeated), {
        ...options,
        last: (result) => (last?.(result) ?? []).map(note),
      })
    },
  })
  const statements = async (table: string) => {
    const sent: string[] = []
    const changes = makeItemChanges(
      counting(sent),
      makeUnshown(() => {}),
      author,
    )
    const collection = catalog.get(table)
    const body = { type: 'Feature', id: 9, geometry: null, properties: { name: 'x' } }
    await changes.create(collection, body)
    await changes.update(collection, '9', { properties: { name: 'y' } }, undefined)
    await changes.replace(collection, '9', body, undefined, 'missing')
    await changes.remove(collection, '9', undefined)
    return sent.map((text) => text.replace(/\s+/g, ' '))
  }
  const free = await statements('audit_free')
  assert.equal(free.length, 4)
  assert.ok(
    free.every((text) => text.startsWith('write ') && !text.includes('tessera.')),
    free.join('\n'),
  )
  const audited = await statements('audit_slow')
  assert.equal(audited.length, 10)
  assert.equal(audited.filter((text) => text.startsWith('within insert into tessera.audit')).length, 4)
  assert.equal(audited.filter((text) => text.endsWith('for no key update')).length, 2)
})
