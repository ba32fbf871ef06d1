// Tests API keys: which clients may change features, and how an operator creates and revokes keys.

import assert from 'node:assert/strict'
import { request } from 'node:http'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openSession } from '../../database/session.ts'
import { makeSdk } from '../support/client.ts'
import { testDatabase } from '../support/database.ts'
import { startGateway } from '../support/gateway.ts'
import { runTessera } from '../support/process.ts'

const { ownerUrl, writeUrl, readUrl } = testDatabase()
const local = await startGateway()
const open = await startGateway('--host=0.0.0.0')
await local.session.query(`
  create table lock (id int primary key, geom geometry(Point, 4326), name text);
  create table gate (id int primary key, geom geometry(Point, 4326), name text);
  insert into lock values (1, null, 'before'); insert into gate values (1, null, 'before')`)
await Promise.all([local.catalog.reload(), open.catalog.reload()])
// The keys are removed, because other tests change features without one.
after(async () => {
  const session = await openSession(ownerUrl, 'test')
  await session.query('delete from tessera.api_key')
  await session.close()
})

const tessera = (...args: string[]) => runTessera(args, undefined, { TESSERA_WRITE_URL: ownerUrl })
const create = async (...args: string[]) => {
  const { code, output } = await tessera('keys', 'create', ...args)
  assert.equal(code, 0, output)
  return /tessera_[0-9a-f]{12}_[\w-]{32}/.exec(output)![0]
}
const idOf = (key: string) => key.split('_')[1]!
/** Returns the secret part of a key, which may have underscores of its own. */
const secretOf = (key: string) => /^tessera_[^_]+_(.+)$/.exec(key)![1]!

const change = (gateway: typeof local, headers: Record<string, string> = {}, collection = 'lock') =>
  gateway.client(`/collections/${collection}/items/1`, {
    method: 'PATCH',
    headers: { 'content-type': 'application/merge-patch+json', ...headers },
    body: '{"properties":{"name":"after"}}',
  })
const withKey = (key: string) => ({ authorization: `Bearer ${key}` })

/** Sends a request without fetch, which sets some headers by itself and refuses to set others. */
const rawStatus = (headers: Record<string, string>) =>
  new Promise<number>((resolve, reject) => {
    const { port } = new URL(local.client.url)
    request(
      { port, host: '127.0.0.1', path: '/collections/lock/items/1', method: 'DELETE', headers },
      (response) => {
        response.resume()
        resolve(response.statusCode!)
      },
    )
      .on('error', reject)
      .end()
  })

test('without keys, only this machine may change features', async () => {
  assert.equal((await change(local)).status, 200)
  const refused = await change(open)
  assert.deepEqual([refused.status, refused.json.code], [401, 'credentials-missing'])
  assert.match(refused.headers.get('www-authenticate')!, /^Bearer/)
  assert.equal((await open.client('/collections/lock/items/1')).status, 200)
})

test('pages of other sites cannot make a browser on this machine change anything', async () => {
  const origin = new URL(local.client.url).origin
  assert.equal((await change(local, { origin })).status, 200)
  const foreign = await change(local, { origin: 'https://evil.example' })
  assert.deepEqual([foreign.status, foreign.json.code], [403, 'origin-forbidden'])
  assert.equal((await change(local, { origin: 'null' })).status, 403)
  // A host name of another site that resolves to this machine, and a proxy whose client is elsewhere.
  assert.equal(await rawStatus({ host: 'evil.example', origin: 'http://evil.example' }), 401)
  assert.equal(await rawStatus({ 'x-forwarded-for': '203.0.113.7' }), 401)
  assert.equal(
    await rawStatus({ 'x-forwarded-for': '127.0.0.1, 192.168.1.5', 'x-forwarded-host': 'localhost' }),
    401,
  )
})

test('a key is shown once, stored as a hash, and permits what it is for', async () => {
  const key = await create('field crew')
  assert.equal((await change(open, withKey(key))).status, 200)
  const rows = await local.session.query<{ row: string }>('select api_key::text as row from tessera.api_key')
  assert.ok(rows.every(({ row }) => !row.includes(secretOf(key))))
  const { output } = await tessera('keys', 'list')
  assert.match(output, new RegExp(`${idOf(key)}\\s+field crew\\s+changes\\s+all collections`))
  assert.ok(!output.includes(secretOf(key)))
  const sdk = makeSdk(open.client, key)
  const { data } = await sdk.PUT('/collections/{collectionId}/items/{featureId}', {
    params: { path: { collectionId: 'lock', featureId: '1' } },
    body: { type: 'Feature', geometry: null, properties: { name: 'by the SDK' } },
  })
  assert.equal(data!.properties.name, 'by the SDK')
})

test('OPTIONS lists the changes that the caller may make, and to the preflight of a browser all of them', async () => {
  const allowed = async (
    gateway: typeof local,
    headers: Record<string, string> = {},
    collection = 'gate',
  ) => {
    const answer = await gateway.client(`/collections/${collection}/items/1`, { method: 'OPTIONS', headers })
    assert.equal(answer.status, 200)
    return [answer.headers.get('allow'), answer.headers.get('accept-patch') !== null]
  }
  const all = ['GET, HEAD, PUT, PATCH, DELETE, OPTIONS', true]
  const reads = ['GET, HEAD, OPTIONS', false]
  assert.deepEqual(await allowed(open), reads)
  assert.deepEqual(await allowed(open, withKey(await create('any'))), all)
  assert.deepEqual(await allowed(open, withKey(await create('reader', '--read-only'))), reads)
  const gateOnly = withKey(await create('gate alone', '--collections', 'gate'))
  assert.deepEqual(await allowed(open, gateOnly), all)
  assert.deepEqual(await allowed(open, gateOnly, 'lock'), reads)
  const preflight = { origin: 'https://editor.example', 'access-control-request-method': 'PATCH' }
  assert.deepEqual(await allowed(open, preflight), all)
  const unknown = await open.client('/collections/gate/items/1', {
    method: 'OPTIONS',
    headers: withKey('tessera_000000000000_00000000000000000000000000000000'),
  })
  assert.equal(unknown.status, 401)
})

test('once a key exists, this machine needs one as well', async () => {
  await sleep(1_100)
  assert.equal((await change(local)).status, 401)
})

test('a key can be for reading only, or for some collections', async () => {
  const reading = await create('viewer', '--read-only')
  const refused = await change(open, withKey(reading))
  assert.deepEqual([refused.status, refused.json.code], [403, 'permission-missing'])
  const limited = await create('gatekeeper', '--collections', 'gate')
  assert.equal((await change(open, withKey(limited), 'gate')).status, 200)
  assert.equal((await change(open, withKey(limited), 'lock')).status, 403)
})

test('the scope of a key is the collection of the request, however its address is written', async () => {
  const limited = withKey(await create('gate only', '--collections', 'gate'))
  const status = async (collection: string) => (await change(open, limited, collection)).status
  assert.deepEqual([await status('gate'), await status('%67ate')], [200, 200])
  for (const collection of [
    'lock',
    'l%6Fck',
    'LOCK',
    'Gate',
    'gate%2F..%2Flock',
    'lock%20',
    'gate,lock',
    '*',
    '%2A',
  ])
    assert.equal(await status(collection), 403, collection)
  for (const path of [
    '/collections/gate/../lock/items/1',
    '/collections/gate%2f..%2flock/items/1',
    '/collections//items/1',
  ]) {
    const answer = await open.client(path, {
      method: 'DELETE',
      headers: limited,
    })
    assert.ok([403, 404, 405].includes(answer.status), `${path}: ${answer.status}`)
  }
  assert.equal((await open.client('/collections/lock/items/1')).status, 200)
})

test('text that is no key, or almost one, is refused', async () => {
  const key = await create('almost')
  const [id, secret] = [idOf(key), secretOf(key)]
  const forged = [
    'x',
    '',
    `tessera_${id}_${'A'.repeat(32)}`,
    `tessera_${'0'.repeat(12)}_${secret}`,
    key.slice(0, -1),
    `${key}x`,
    `'; drop table tessera.api_key; --`,
  ]
  for (const text of forged) {
    const answer = await change(open, { authorization: `Bearer ${text}` })
    assert.deepEqual([answer.status, answer.json.code], [401, 'credentials-invalid'], text)
  }
  assert.equal((await change(open, { authorization: `Basic ${btoa(`x:${key}`)}` })).status, 401)
})

test('a key for features changes no collections, and one that manages may be limited to some', async () => {
  const key = await create('features')
  const manager = await create('everything', '--manage')
  const limited = await create('one', '--manage', '--collections', 'key_one')
  const make = (id: string, headers: Record<string, string> = {}) =>
    open.client('/collections', {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({ id, schema: { properties: { geom: { format: 'geometry-any' } } } }),
    })
  const codeOf = async (id: string, headers?: Record<string, string>) => {
    const { status, json } = await make(id, headers)
    return json?.code ?? status
  }
  assert.equal(await codeOf('key_one'), 'credentials-missing')
  assert.equal(await codeOf('key_one', withKey(key)), 'permission-missing')
  assert.equal(await codeOf('key_two', withKey(limited)), 'permission-missing')
  assert.equal(await codeOf('key_one', withKey(limited)), 201)
  assert.equal(await codeOf('key_two', withKey(manager)), 201)
  const remove = async (id: string, headers: Record<string, string>) =>
    (await open.client(`/collections/${id}?confirm=${id}`, { method: 'DELETE', headers })).status
  assert.equal(await remove('key_one', withKey(key)), 403)
  assert.equal(await remove('key_two', withKey(limited)), 403)
  assert.equal(await remove('key_one', withKey(limited)), 204)
  assert.equal(await remove('key_two', withKey(manager)), 204)
  assert.match((await tessera('keys', 'list')).output, /everything +manages/)
  assert.equal((await tessera('keys', 'create', 'both', '--manage', '--read-only')).code, 1)
})

test('a revoked key permits nothing after a second', async () => {
  const key = await create('lost phone')
  assert.equal((await change(open, withKey(key))).status, 200)
  assert.equal((await tessera('keys', 'revoke', idOf(key))).code, 0)
  await sleep(1_100)
  assert.equal((await change(open, withKey(key))).status, 401)
  const again = await tessera('keys', 'revoke', idOf(key))
  assert.equal(again.code, 1)
  assert.match(again.output, /There is no key/)
  assert.equal((await tessera('keys', 'create')).code, 1)
  assert.equal((await tessera('keys', 'frobnicate')).code, 1)
})

test('a key that has expired permits nothing, and says so to its holder alone', async () => {
  const key = await create('for a day', '--expires', '24h')
  assert.equal((await change(open, withKey(key))).status, 200)
  const expire = `update tessera.api_key set expires_at = now() + interval '1.5 seconds' where id = '${idOf(key)}'`
  await local.session.query(expire)
  await sleep(1_100)
  assert.equal((await change(open, withKey(key))).status, 200)
  await sleep(600)
  const answer = await change(open, withKey(key))
  assert.deepEqual([answer.status, answer.json.code], [401, 'credentials-invalid'])
  assert.match(answer.json.detail, new RegExp(`^The API key ${idOf(key)} expired at 20`))
  assert.match(
    answer.headers.get('www-authenticate')!,
    /error="invalid_token", error_description=".* expired at/,
  )
  const guess = await change(open, withKey(`tessera_${idOf(key)}_${'A'.repeat(32)}`))
  assert.match(guess.json.detail, /^The API key does not exist/)
  assert.match((await tessera('keys', 'list')).output, /for a day +nothing more/)
  assert.equal((await tessera('keys', 'rotate', idOf(key))).code, 1)
  for (const wrong of ['soon', '2020-01-01', '0h', '2031-13-01']) {
    const { code, output } = await tessera('keys', 'create', 'wrong', '--expires', wrong)
    assert.equal(code, 1, wrong)
    assert.match(output, /--expires must be /)
  }
})

test('a key is replaced while the old one stays valid for a time', async () => {
  const old = await create('mill', '--collections', 'gate', '--expires', '30d')
  const { code, output } = await tessera('keys', 'rotate', idOf(old), '--overlap', '1h')
  assert.equal(code, 0, output)
  const key = /tessera_[0-9a-f]{12}_[\w-]{32}/.exec(output)![0]
  for (const one of [old, key]) {
    assert.equal((await change(open, withKey(one), 'gate')).status, 200)
    assert.equal((await change(open, withKey(one), 'lock')).status, 403)
  }
  const left = await local.session.query<{ id: string; hours: number }>(
    `select id, round(extract(epoch from expires_at - now()) / 3600)::int as hours from tessera.api_key where name = 'mill'`,
  )
  assert.deepEqual(Object.fromEntries(left.map(({ id, hours }) => [id, hours])), {
    [idOf(old)]: 1,
    [idOf(key)]: 720,
  })
  // One that lives for ever is replaced by one that does.
  const endless = await create('endless')
  assert.equal((await tessera('keys', 'rotate', idOf(endless))).code, 0)
  assert.match((await tessera('keys', 'list')).output, /endless +changes .* never/)
  assert.equal((await tessera('keys', 'rotate', '000000000000')).code, 1)
  assert.equal((await tessera('keys', 'rotate', idOf(endless), '--overlap', 'long')).code, 1)
})

test('the second successor of a key lives as long as the first one', async () => {
  const old = await create('twice', '--expires', '30d')
  const rotated = async () => {
    const { code, output } = await tessera('keys', 'rotate', idOf(old), '--overlap', '1h')
    assert.equal(code, 0, output)
    return idOf(/tessera_[0-9a-f]{12}_[\w-]{32}/.exec(output)![0])
  }
  const successors = [await rotated(), await rotated()]
  const left = await local.session.query<{ days: number }>(
    `select round(extract(epoch from expires_at - now()) / 86400)::int as days from tessera.api_key where id = any($1)`,
    [successors],
  )
  assert.deepEqual(left, [{ days: 30 }, { days: 30 }])
})

test('an action refuses the options of others', async () => {
  const key = idOf(await create('plain'))
  for (const [args, message] of [
    [['rotate', key, '--manage'], /keys rotate takes no --manage; it takes --expires, --overlap/],
    [['rotate', key, '--read-only'], /takes no --read-only/],
    [['list', '--expires', '90d'], /keys list takes no --expires; it takes no options/],
    [['revoke', key, '--overlap', '1h'], /keys revoke takes no --overlap/],
    [['create', 'x', '--overlap', '1h'], /keys create takes no --overlap/],
    [['create', 'x', '--roles', 'a', '--manage'], /--manage goes without --roles/],
  ] as const) {
    const { code, output } = await tessera('keys', ...args)
    assert.equal(code, 1, output)
    assert.match(output, message)
  }
  assert.match((await tessera('keys', 'list')).output, new RegExp(`${key} +plain +changes`))
})

test('keys with roles and keys that grant are listed as what they are', async () => {
  await create('crew', '--roles', 'surveyors,staff')
  await create('watch', '--roles', 'staff', '--read-only')
  await create('head', '--grant', '--collections', 'gate')
  const { output } = await tessera('keys', 'list')
  assert.match(output, /crew +what surveyors,staff may +all collections/)
  assert.match(output, /watch +what staff may, read-only/)
  assert.match(output, /head +changes, grants +gate/)
})

test('the role that writes features cannot create keys, and the role that reads them cannot see keys', async () => {
  for (const [url, sql] of [
    [writeUrl, `insert into tessera.api_key (id, name, secret_hash) values ('x', 'x', '')`],
    [writeUrl, 'delete from tessera.api_key'],
    [readUrl, 'select * from tessera.api_key'],
  ] as const) {
    const session = await openSession(url, 'test')
    await assert.rejects(session.query(sql), /permission denied/)
    await session.close()
  }
})
