// Tests the example of a PostGIS of one's own: a gateway with its two roles reads and changes what they may, and no more.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { openSession } from '../../gateway/database/session.ts'
import { openSuperuser, testDatabase } from '../../gateway/test/support/database.ts'
import { startGatewayOn } from '../../gateway/test/support/gateway.ts'
import { runTessera } from '../../gateway/test/support/process.ts'

const file = join(import.meta.dirname, '../own-postgis/gis.sql')
const urlOf = (role: string) =>
  testDatabase().superuserUrl.replace('//postgres@', `//${role}@`).replace('/tessera?', '/gis?')

const ROLES = ['gis_reader', 'gis_editor']
const superuser = await openSuperuser()
await letIn(...ROLES)
await superuser.query('create database gis')
const gis = await openSession(urlOf('postgres'), 'test')
await gis.query(readFileSync(file, 'utf8'))
await gis.close()
const urls = { readUrl: urlOf('gis_reader'), writeUrl: urlOf('gis_editor'), ownerUrl: urlOf('postgres') }
const { client } = await startGatewayOn(urls)
after(async () => {
  await superuser.query('drop database gis with (force)')
  await superuser.query('drop role gis_reader, gis_editor')
  await superuser.close()
})

/** Lets roles in at the server of this run, which else knows those of Tessera alone. */
async function letIn(...roles: string[]) {
  const [known] = await superuser.query<{ line: string }>(
    "select split_part(pg_read_file('pg_ident.conf'), E'\\n', 1) as line",
  )
  for (const role of roles)
    await superuser.query(
      `copy (select '${known!.line.replace(/\S+$/, role)}') to program 'cat >> pg_ident.conf'`,
    )
  await superuser.query('select pg_reload_conf()')
}

const road = {
  type: 'Feature',
  geometry: {
    type: 'LineString',
    coordinates: [
      [11.57, 48.13],
      [11.58, 48.14],
    ],
  },
  properties: { name: 'New Road', class: 'path' },
}
const post = (collection: string, feature: object) =>
  client(`/collections/${collection}/items`, {
    method: 'POST',
    headers: { 'content-type': 'application/geo+json' },
    body: JSON.stringify(feature),
  })

test('the collections are the tables of its schema, with what comments and checks say', async () => {
  const { json } = await client('/collections')
  assert.deepEqual(json.collections.map(({ id }: { id: string }) => id).sort(), ['roads.road', 'roads.sign'])
  const { properties } = (await client('/collections/roads.road/schema')).json
  assert.deepEqual(properties.class.enum, ['main', 'side', 'path'])
  assert.deepEqual([properties.width.title, properties.width['x-ogc-unit']], ['Width', 'm'])
  const { features } = (await client('/collections/roads.road/items?name=Ring Road')).json
  const [longitude, latitude] = features[0].geometry.coordinates[0]
  assert.ok(Math.abs(longitude - 11.57) < 0.1 && Math.abs(latitude - 48.13) < 0.1, `${longitude} ${latitude}`)
})

test('roads are edited under their checks, and signs are only read', async () => {
  const made = await post('roads.road', road)
  assert.equal(made.status, 201, made.text)
  const wrong = await post('roads.road', { ...road, properties: { name: 'X', class: 'motorway' } })
  assert.equal(wrong.status, 422, wrong.text)
  assert.match(wrong.text, /class/)
  const removed = await client(`/collections/roads.road/items/${made.json.id}`, {
    method: 'DELETE',
    headers: { 'if-match': made.headers.get('etag')! },
  })
  assert.equal(removed.status, 204)
  assert.equal((await client('/collections/roads.sign/items/A1')).status, 200)
  assert.equal((await post('roads.sign', { ...road, id: 'B2', properties: { road: 1 } })).status, 405)
})

test('neither role may do more, and the doctor finds nothing to mend', async () => {
  for (const role of ROLES) {
    const own = await openSession(urlOf(role), 'test')
    await assert.rejects(own.query('create table roads.mine ()'), /permission denied/)
    await assert.rejects(own.query('create table public.mine ()'), /permission denied/)
    await assert.rejects(own.query('create schema mine'), /permission denied/)
    await assert.rejects(own.query("insert into roads.sign values ('B1', 1, null)"), /permission denied/)
    await own.close()
  }
  const { code, output } = await runTessera(['doctor', '--json'], undefined, {
    TESSERA_READ_URL: urls.readUrl,
    TESSERA_WRITE_URL: urls.writeUrl,
  })
  const { findings } = JSON.parse(output.slice(output.indexOf('{')))
  assert.deepEqual(
    // The server of the tests forgets on a crash, and the example does without Tessera's own tables.
    findings.filter(({ check }: { check: string }) => !['durability', 'migrations'].includes(check)),
    [],
    `${code} ${output}`,
  )
})
