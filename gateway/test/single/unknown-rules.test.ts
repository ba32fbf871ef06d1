// Tests what a gateway does that cannot find out the rules of collections: it shows nothing that they could forbid.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { openSession } from '../../database/session.ts'
import { setCollection } from '../../features/collections/settings.ts'
import { testDatabase } from '../support/database.ts'
import { startGateway } from '../support/gateway.ts'
import { runTessera } from '../support/process.ts'

const { ownerUrl } = testDatabase()
const { client, catalog, session } = await startGateway()
await session.query(`
  create table unknown_rules (id int primary key, geom geometry(Point, 4326));
  insert into unknown_rules values (1, null)`)
await setCollection(session, 'unknown_rules', { readers: [] })
await catalog.reload()
const owner = await openSession(ownerUrl, 'test')
after(async () => {
  await owner.query(
    `drop table unknown_rules; delete from tessera.collection where table_name = 'unknown_rules'`,
  )
  await owner.close()
})
const status = async () => (await client('/collections/unknown_rules/items/1')).status

test('a gateway does not start to serve before it knows the rules', async () => {
  await owner.query('begin; lock table tessera.collection in access exclusive mode')
  try {
    await assert.rejects(startGateway('--statement-timeout-ms=300'))
  } finally {
    await owner.query('rollback')
  }
})

test('rules hold while they cannot be read', async () => {
  assert.equal(await status(), 404)
  await owner.query('begin; lock table tessera.collection in access exclusive mode')
  try {
    await catalog.reload()
    assert.equal(await status(), 404)
  } finally {
    await owner.query('rollback')
  }
  await owner.query('revoke select on tessera.collection from tessera_read')
  try {
    await catalog.reload()
    assert.equal(await status(), 404)
  } finally {
    await owner.query('grant select on tessera.collection to tessera_read')
  }
})

test('the command names roles that read the table and do not know its rules', async () => {
  await owner.query('revoke select on tessera.collection from tessera_read')
  try {
    const { code, output } = await runTessera(
      ['collections', 'set', 'unknown_rules', '--readers', 'none'],
      undefined,
      { TESSERA_WRITE_URL: ownerUrl },
    )
    assert.equal(code, 0, output)
    assert.match(output, /A gateway that reads as tessera_read does not know this rule/)
  } finally {
    await owner.query('grant select on tessera.collection to tessera_read')
  }
})
