// Tests the API for keys and rules: what it does, on every gateway within a second, and that no call widens rights.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openSession } from '../../database/session.ts'
import { createApiKey, type NewApiKey } from '../../features/access/api-key.ts'
import { testDatabase } from '../support/database.ts'
import { distributeById } from '../support/distribute.ts'
import { startGateway } from '../support/gateway.ts'
import { AUDIENCE, startIssuer } from '../support/issuer.ts'
import { runTessera } from '../support/process.ts'
import { makeRandom } from '../support/random.ts'
import { until } from '../support/until.ts'

const issuer = await startIssuer({
  head: ['tessera:grant', 'ac-staff', 'ac-editors'],
  staff: ['ac-staff'],
  editor: ['ac-staff', 'ac-editors'],
  granter: ['tessera:grant'],
})
const flags = [`--oidc-issuer=${issuer.url}`, `--oidc-audience=${AUDIENCE}`]
const { client, catalog, session } = await startGateway(...flags)
const second = await startGateway(...flags)
const { ownerUrl, writeUrl } = testDatabase()
const COLLECTIONS = ['ac_parcels', 'ac_roads']

before(async () => {
  for (const name of COLLECTIONS)
    await session.query(`
      create table ${name} (id int primary key, geom geometry(Point, 4326), name text);
      insert into ${name} values (1, 'SRID=4326;POINT(10 50)', 'before')`)
  await distributeById(session, ...COLLECTIONS)
  await Promise.all([catalog.reload(), second.catalog.reload()])
})
// Other tests change features without a key, and read all collections.
after(async () => {
  const owner = await openSession(ownerUrl, 'test')
  await owner.query(`delete from tessera.api_key; drop table ${COLLECTIONS.join(', ')};
    delete from tessera.collection where table_name like 'ac\\_%'`)
  await owner.close()
})

const PLAIN: NewApiKey = { name: 'plain', canWrite: true, canManage: false, collections: undefined }
/** Creates a key as the command does. Gateways look for keys that they do not know ten times a second. */
async function make(rights: Partial<NewApiKey>): Promise<string> {
  const text = await createApiKey(session, { ...PLAIN, ...rights })
  await sleep(120)
  return text
}
const bearer = (text: string) => ({ authorization: `Bearer ${text}` })
const send = (method: string, path: string, text: string | undefined, body?: unknown, through = client) =>
  through(path, {
    method,
    headers: {
      ...(body === undefined
        ? {}
        : { 'content-type': method === 'PATCH' ? 'application/merge-patch+json' : 'application/json' }),
      ...(text === undefined ? {} : bearer(text)),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
const change = (text: string | undefined, collection = 'ac_parcels', through = client) =>
  send('PATCH', `/collections/${collection}/items/1`, text, { properties: { name: 'after' } }, through)
const statusOf = async (answer: ReturnType<typeof send>) => (await answer).status
const idOf = (key: string) => key.split('_')[1]!
const pointersOf = ({ json }: Awaited<ReturnType<typeof send>>) =>
  json.errors.map(({ pointer }: any) => pointer)

test('a key that grants creates keys, which are shown once and count at once', async () => {
  const root = await make({ name: 'root', canManage: true, canGrant: true })
  const answer = await send('POST', '/keys', root, {
    name: 'field crew',
    collections: ['ac_parcels'],
    expires: '90d',
  })
  assert.equal(answer.status, 201, answer.text)
  const { key, ...shown } = answer.json
  assert.match(key, /^tessera_[0-9a-f]{12}_[\w-]{32}$/)
  assert.equal(answer.headers.get('location'), `${client.url}/keys/${shown.id}`)
  assert.equal(answer.headers.get('cache-control'), 'private, no-store')
  assert.deepEqual(
    { ...shown, created: undefined, expires: undefined },
    {
      id: idOf(key),
      name: 'field crew',
      readOnly: false,
      manage: false,
      grant: false,
      collections: ['ac_parcels'],
      created: undefined,
      createdBy: idOf(root),
      expires: undefined,
    },
  )
  assert.ok(Math.abs(Date.parse(shown.expires) - Date.now() - 90 * 86_400_000) < 60_000)
  assert.equal(await statusOf(change(key)), 200)
  assert.equal(await statusOf(change(key, 'ac_roads')), 403)
  const again = await send('GET', `/keys/${shown.id}`, root)
  assert.deepEqual({ ...again.json, lastUsed: undefined }, { ...shown, lastUsed: undefined })
  assert.equal(again.headers.get('cache-control'), 'private, no-store')
  const { json } = await send('GET', '/keys', root)
  assert.ok(json.keys.some(({ id }: any) => id === shown.id))
  assert.ok(!JSON.stringify(json).includes(key.slice(21)))
})

test('giving is a right of its own, which neither changes nor manages collections', async () => {
  const writer = await make({ name: 'writer', canManage: true })
  const denied = await send('GET', '/keys', writer)
  assert.deepEqual([denied.status, denied.json.code], [403, 'permission-missing'])
  assert.match(denied.json.detail, /keys create --grant/)
  for (const [method, path, body] of [
    ['GET', '/keys'],
    ['POST', '/keys', { name: 'x' }],
    ['GET', `/keys/${idOf(writer)}`],
    ['DELETE', `/keys/${idOf(writer)}`],
    ['POST', `/keys/${idOf(writer)}/rotate`, {}],
    ['GET', '/collections/ac_parcels/rules'],
    ['PATCH', '/collections/ac_parcels/rules', { readers: ['x'] }],
  ] as const) {
    const [without, staff] = [
      await send(method, path, undefined, body),
      await send(method, path, await issuer.logIn('staff'), body),
    ]
    assert.deepEqual([without.status, without.json.code], [401, 'credentials-missing'], `${method} ${path}`)
    assert.deepEqual([staff.status, staff.json.code], [403, 'permission-missing'], `${method} ${path}`)
    assert.match(staff.headers.get('www-authenticate')!, /scope="tessera:grant"/)
    assert.equal(await statusOf(send(method, path, writer, body)), 403)
  }
  const granter = await make({ name: 'granter', canWrite: false, canGrant: true })
  assert.equal(await statusOf(change(granter)), 403)
})

test('without credentials nobody gives keys, not even on a machine where there are none', async () => {
  const alone = await startGateway()
  await session.query('delete from tessera.api_key')
  await sleep(1_100)
  assert.equal(await statusOf(change(undefined, 'ac_parcels', alone.client)), 200)
  const refused = await send('POST', '/keys', undefined, { name: 'first' }, alone.client)
  assert.deepEqual([refused.status, refused.json.code], [401, 'credentials-missing'])
})

test('a key with roles is what rules say of them, within its scope', async () => {
  await send('PATCH', '/collections/ac_parcels/rules', await make({ canGrant: true }), {
    readers: ['ac-staff'],
    editors: ['ac-editors'],
  })
  const head = await issuer.logIn('head')
  const give = async (body: object) => {
    const answer = await send('POST', '/keys', head, { name: 'with roles', ...body })
    assert.equal(answer.status, 201, answer.text)
    return answer.json.key as string
  }
  const staff = await give({ roles: ['ac-staff'] })
  const editor = await give({ roles: ['ac-staff', 'ac-editors'] })
  const viewer = await give({ roles: ['ac-staff', 'ac-editors'], readOnly: true })
  const elsewhere = await give({ roles: ['ac-staff', 'ac-editors'], collections: ['ac_roads'] })
  const none = await give({ roles: [] })
  const reads = (key: string) => statusOf(send('GET', '/collections/ac_parcels/items/1', key))
  const changes = (key: string, collection?: string) => statusOf(change(key, collection))
  assert.deepEqual([await reads(staff), await changes(staff)], [200, 403])
  assert.deepEqual([await reads(editor), await changes(editor)], [200, 200])
  assert.deepEqual([await reads(viewer), await changes(viewer)], [200, 403])
  assert.deepEqual([await reads(elsewhere), await changes(elsewhere)], [404, 403])
  assert.deepEqual([await reads(none), await changes(none)], [404, 404])
  // Nothing but the rule of a collection gives a role a meaning.
  assert.equal(await changes(editor, 'ac_roads'), 403)
  assert.equal(await statusOf(send('GET', '/metrics', editor)), 403)
  await send('PATCH', '/collections/ac_parcels/rules', await make({ canGrant: true }), {
    readers: null,
    editors: null,
  })
})

test('nobody gives what they do not have, and each excess is named', async () => {
  const head = await issuer.logIn('head')
  const own = await send('POST', '/keys', head, { name: 'own rights' })
  assert.deepEqual([own.status, own.json.code, pointersOf(own)], [403, 'permission-missing', ['/roles']])
  const more = await send('POST', '/keys', head, { name: 'x', roles: ['ac-staff', 'tessera:write'] })
  assert.deepEqual([more.status, pointersOf(more)], [403, ['/roles/1']])
  const limited = await make({ canGrant: true, collections: ['ac_parcels'] })
  const wide = await send('POST', '/keys', limited, { name: 'x', manage: true, collections: ['ac_roads'] })
  assert.deepEqual(pointersOf(wide), ['/collections/0', '/manage'])
  const operator = { name: 'x', roles: ['tessera:operate'], collections: ['ac_parcels'] }
  assert.deepEqual(pointersOf(await send('POST', '/keys', limited, operator)), ['/roles/0'])
  assert.equal(await statusOf(send('PATCH', '/collections/ac_roads/rules', limited, { editors: ['x'] })), 403)
  const refused = await send('PATCH', '/collections/ac_parcels/rules', await issuer.logIn('granter'), {
    readers: ['x'],
    editors: ['x'],
  })
  assert.deepEqual([refused.status, pointersOf(refused)], [403, ['/editors']])
})

test('keys that permit more are not there for a caller: they are not listed, shown, replaced or revoked', async () => {
  const root = await make({ name: 'root', canManage: true, canGrant: true })
  const limited = await make({ name: 'limited', canGrant: true, collections: ['ac_parcels'] })
  const { json } = await send('GET', '/keys', limited)
  const ids = json.keys.map(({ id }: any) => id)
  assert.ok(ids.includes(idOf(limited)) && !ids.includes(idOf(root)))
  for (const [method, path, body] of [
    ['GET', '', undefined],
    ['DELETE', '', undefined],
    ['POST', '/rotate', {}],
  ] as const) {
    const answer = await send(method, `/keys/${idOf(root)}${path}`, limited, body)
    assert.deepEqual([answer.status, answer.json.code], [404, 'key-not-found'])
    assert.equal(await statusOf(send(method, `/keys/000000000000${path}`, root, body)), 404)
  }
  assert.equal(await statusOf(change(root)), 200)
})

test('a key that is replaced stays valid for the overlap, and its successors live as long as it was meant to', async () => {
  const root = await make({ name: 'root', canGrant: true })
  const first = (await send('POST', '/keys', root, { name: 'mill', expires: '30d' })).json.key
  const rotate = async (key: string, body: object = {}) => {
    const answer = await send('POST', `/keys/${idOf(key)}/rotate`, root, body)
    assert.equal(answer.status, 201, answer.text)
    return answer.json as { key: string; expires: string; id: string }
  }
  const next = await rotate(first, { overlap: '1h' })
  for (const key of [first, next.key]) assert.equal(await statusOf(change(key)), 200)
  const daysLeft = (text: string) => Math.round((Date.parse(text) - Date.now()) / 86_400_000)
  assert.equal(daysLeft(next.expires), 30)
  // The first one has an hour left by now.
  assert.equal(daysLeft((await rotate(first)).expires), 30)
  assert.equal(daysLeft((await rotate(next.key, { expires: '3d' })).expires), 3)
  const left = (await send('GET', `/keys/${idOf(first)}`, root)).json.expires
  assert.ok(Date.parse(left) - Date.now() < 3_700_000)
})

test('a key that expires gives nothing that lives longer, also in place of itself', async () => {
  const short = await make({ name: 'short', canGrant: true, expiresAt: new Date(Date.now() + 3_600_000) })
  const latest = Date.now() + 3_600_000
  const given = await send('POST', '/keys', short, { name: 'x' })
  assert.ok(Date.parse(given.json.expires) <= latest)
  const refused = await send('POST', '/keys', short, { name: 'x', expires: '2h' })
  assert.deepEqual([refused.status, pointersOf(refused)], [403, ['/expires']])
  const itself = await send('POST', `/keys/${idOf(short)}/rotate`, short, {})
  assert.ok(Date.parse(itself.json.expires) <= latest)
  const endless = await make({ name: 'endless' })
  const successor = await send('POST', `/keys/${idOf(endless)}/rotate`, short, {})
  assert.ok(Date.parse(successor.json.expires) <= latest)
})

test('a revoked key is refused by every gateway within a second, and gives nothing in that second', async () => {
  const root = await make({ name: 'root', canGrant: true })
  const victim = await make({ name: 'victim', canGrant: true })
  for (const one of [client, second.client])
    assert.equal(await statusOf(change(victim, 'ac_roads', one)), 200)
  assert.equal(await statusOf(send('DELETE', `/keys/${idOf(victim)}`, root, undefined, second.client)), 204)
  assert.equal(await statusOf(send('POST', '/keys', victim, { name: 'x' })), 401)
  assert.equal(await statusOf(change(victim, 'ac_roads', second.client)), 401)
  await sleep(1_100)
  assert.equal(await statusOf(change(victim, 'ac_roads')), 401)
  assert.equal(await statusOf(send('DELETE', `/keys/${idOf(victim)}`, root)), 404)
})

test('rules that are set count at once, on other gateways within a second, and for the command', async () => {
  const root = await make({ name: 'root', canGrant: true })
  const rules = '/collections/ac_roads/rules'
  const before = await send('GET', rules, root)
  assert.deepEqual(before.json, { readers: null, creators: null, editors: null, removers: null })
  assert.equal(await statusOf(send('GET', '/collections/ac_roads', undefined)), 200)
  const set = await send('PATCH', rules, root, { readers: ['ac-staff'], removers: [] })
  assert.deepEqual(set.json, { readers: ['ac-staff'], creators: null, editors: null, removers: [] })
  assert.equal(set.headers.get('cache-control'), 'private, no-store')
  assert.equal(await statusOf(send('GET', '/collections/ac_roads', undefined)), 404)
  await until(async () => (await second.client('/collections/ac_roads')).status === 404, 1_500)
  assert.deepEqual((await send('GET', rules, root, undefined, second.client)).json, set.json)
  const { output } = await runTessera(['collections', 'list'], undefined, { TESSERA_WRITE_URL: ownerUrl })
  assert.match(output, /ac_roads .*ac-staff .*none/)
  await runTessera(['collections', 'set', 'ac_roads', '--editors', 'ac-editors'], undefined, {
    TESSERA_WRITE_URL: ownerUrl,
  })
  // This gateway may not know yet what the command has set, and decides by it all the same.
  const again = await send('PATCH', rules, root, { readers: null, removers: null })
  assert.deepEqual(again.json, { readers: null, creators: null, editors: ['ac-editors'], removers: null })
  await send('PATCH', rules, root, { editors: null })
})

test('a rule is judged by what the database has, not by what the gateway remembers', async () => {
  const root = await make({ name: 'root', canGrant: true })
  const rules = '/collections/ac_parcels/rules'
  await send('PATCH', rules, root, { editors: ['ac-editors'] })
  const head = await issuer.logIn('head')
  assert.equal(await statusOf(send('PATCH', rules, head, { editors: ['ac-editors', 'others'] })), 200)
  await session.query(`update tessera.collection set editors = '{others}' where table_name = 'ac_parcels'`)
  assert.equal(await statusOf(send('PATCH', rules, head, { editors: ['ac-editors'] })), 403)
  assert.deepEqual((await send('GET', rules, root)).json.editors, ['others'])
  await send('PATCH', rules, root, { editors: null })
})

test('every fault of a body is named', async () => {
  const root = await make({ name: 'root', canManage: true, canGrant: true })
  const wrong = await send('POST', '/keys', root, {
    name: ' ',
    readOnly: 'yes',
    collections: [],
    roles: ['', 7],
    grant: true,
    expires: '2020-01-01',
    colour: 'red',
  })
  assert.deepEqual([wrong.status, wrong.json.code], [422, 'key-invalid'])
  assert.deepEqual(
    new Set(pointersOf(wrong)),
    new Set(['/colour', '/name', '/readOnly', '/collections', '/roles/0', '/roles/1', '/grant', '/expires']),
  )
  const rotated = await send('POST', `/keys/${idOf(root)}/rotate`, root, { overlap: 'long', expires: 7 })
  assert.deepEqual(pointersOf(rotated), ['/overlap', '/expires'])
  const ruled = await send('PATCH', '/collections/ac_parcels/rules', root, { readers: 'x', owners: [] })
  assert.deepEqual([ruled.json.code, pointersOf(ruled)], ['rules-invalid', ['/owners', '/readers']])
  assert.equal(await statusOf(send('PATCH', '/collections/ac_none/rules', root, {})), 404)
  assert.equal(await statusOf(send('GET', '/keys?limit=1', root)), 400)
  for (const body of [7, [], null]) assert.equal(await statusOf(send('POST', '/keys', root, body)), 422)
})

test('the last use of a key is stored in the background, and at most once in some minutes', async () => {
  const key = await make({ name: 'used' })
  const stored = async () => {
    const [row] = await session.query<{ at: Date | null; version: string }>(
      `select last_used_at as at, xmin::text as version from tessera.api_key where id = '${idOf(key)}'`,
    )
    return row!
  }
  assert.equal((await stored()).at, null)
  await change(key)
  await until(async () => (await stored()).at !== null, 5_000)
  const first = await stored()
  for (const one of [client, second.client])
    for (let count = 0; count < 3; count += 1) await change(key, 'ac_roads', one)
  await sleep(2_500)
  assert.deepEqual(await stored(), first)
  assert.match(
    (await runTessera(['keys', 'list'], undefined, { TESSERA_WRITE_URL: ownerUrl })).output,
    new RegExp(`${idOf(key)} .* ${first.at!.toISOString()}`),
  )
})

test('the role of the gateway changes keys and rules through the functions alone', async () => {
  const writer = await openSession(writeUrl, 'test')
  for (const text of [
    `insert into tessera.api_key (id, name, secret_hash) values ('x', 'x', '')`,
    `update tessera.api_key set can_grant = true`,
    `update tessera.collection set readers = null`,
    `select tessera.set_collection('ac_roads'::regclass, '{"crs": ["EPSG:3857"]}')`,
    `select tessera.set_rules('ac_roads'::regclass, '{"is_managed": true}', '{}')`,
  ])
    await assert.rejects(writer.query(text), /permission denied|A rule has the groups/, text)
  await writer.close()
})

/** What a caller can do, as the API itself shows it. */
async function abilitiesOf(text: string): Promise<Set<string>> {
  const may = new Set<string>()
  for (const id of COLLECTIONS) {
    for (const path of [`/collections/${id}/items`, `/collections/${id}/items/1`]) {
      const answer = await client(path, { method: 'OPTIONS', headers: bearer(text) })
      for (const method of answer.headers.get('allow')?.split(', ') ?? []) may.add(`${method} ${path}`)
    }
    if ((await send('GET', `/collections/${id}`, text)).status === 200) may.add(`see ${id}`)
  }
  for (const path of ['/metrics', '/keys']) if ((await send('GET', path, text)).status === 200) may.add(path)
  return may
}

test('no call of a random caller widens rights', async () => {
  const random = makeRandom(27)
  const chance = (likely: number) => random() < likely
  const pick = <T>(all: readonly T[]) => all[Math.floor(random() * all.length)]!
  const roles = [
    'ac-staff',
    'ac-editors',
    'tessera:write',
    'tessera:grant',
    'tessera:operate',
    'tessera:manage',
  ]
  const subset = <T>(all: readonly T[]) => all.filter(() => chance(0.25))
  const root = await make({ name: 'root', canManage: true, canGrant: true })
  await send('PATCH', '/collections/ac_parcels/rules', root, {
    readers: ['ac-staff'],
    editors: ['ac-editors'],
  })
  const callers = [
    root,
    await make({ canGrant: true, collections: ['ac_roads'] }),
    await make({ canGrant: true, canWrite: false }),
    await make({ roles: ['tessera:grant', 'ac-staff'] }),
    await issuer.logIn('head'),
    await issuer.logIn('granter'),
    await issuer.logIn('editor'),
    await make({}),
  ]
  let given = 0
  for (let call = 0; call < 60; call += 1) {
    const giver = pick(callers)
    const own = await abilitiesOf(giver)
    const scope = subset(COLLECTIONS)
    const answer = await send('POST', '/keys', giver, {
      name: `random ${call}`,
      readOnly: chance(0.3),
      ...(chance(0.7) ? { roles: subset(roles) } : { grant: chance(0.5) }),
      ...(chance(0.5) && scope.length > 0 ? { collections: scope } : {}),
    })
    assert.ok([201, 403].includes(answer.status), answer.text)
    if (answer.status === 201) {
      given += 1
      const theirs = await abilitiesOf(answer.json.key)
      assert.deepEqual(
        [...theirs].filter((able) => !own.has(able)),
        [],
        `${call}: ${answer.text}`,
      )
      if (callers.length < 20) callers.push(answer.json.key)
    }
    const collection = pick(COLLECTIONS)
    const group = pick(['readers', 'creators', 'editors', 'removers'])
    const method = { creators: 'POST', editors: 'PATCH', removers: 'DELETE' }[group]
    const path = `/collections/${collection}/items${group === 'creators' ? '' : '/1'}`
    const isAble = own.has(group === 'readers' ? `see ${collection}` : `${method} ${path}`)
    const rule = await send('PATCH', `/collections/${collection}/rules`, giver, {
      [group]: chance(0.3) ? null : subset(roles),
    })
    if (rule.status === 200) assert.ok(isAble && own.has('/keys'), `${call}: ${group} of ${collection}`)
    else assert.ok([403, 404].includes(rule.status), rule.text)
    // Rules as at first, so that there is something to give.
    if (rule.status === 200) {
      await session.query(
        `update tessera.collection set readers = case table_name when 'ac_parcels' then '{ac-staff}'::text[] end,
           creators = null, editors = case table_name when 'ac_parcels' then '{ac-editors}'::text[] end,
           removers = null, changed_at = clock_timestamp() where table_name like 'ac\\_%'`,
      )
      await catalog.reload()
    }
  }
  assert.ok(given > 8, `${given} keys were given`)
})
