// Tests the rules of collections: what callers may not read is nowhere, and what they may not change stays as it is.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { openSession } from '../../database/session.ts'
import { createApiKey } from '../../features/access/api-key.ts'
import { resetCollection, setCollection } from '../../features/collections/settings.ts'
import { testDatabase } from '../support/database.ts'
import { distributeById } from '../support/distribute.ts'
import { startGateway } from '../support/gateway.ts'
import { AUDIENCE, startIssuer } from '../support/issuer.ts'
import { runTessera } from '../support/process.ts'
import { until } from '../support/until.ts'

const issuer = await startIssuer({
  stranger: ['tessera:write', 'tessera:operate'],
  manager: ['tessera:manage'],
  reader: ['secret-readers'],
  editor: ['secret-readers', 'secret-editors'],
  blind: ['secret-editors', 'secret-creators', 'secret-removers'],
  keeper: ['secret-readers', 'secret-creators', 'secret-editors', 'secret-removers'],
})
const flags = [`--oidc-issuer=${issuer.url}`, `--oidc-audience=${AUDIENCE}`]
const { client, catalog, session } = await startGateway(...flags)
const second = await startGateway(...flags)
const { ownerUrl } = testDatabase()
const keys: Record<string, string> = {}

// Their names come first in every list, and lists of layers are cut.
before(async () => {
  await session.query(`
    create table aa_open (id int primary key, geom geometry(Point, 4326), name text);
    create table aa_secret (id int primary key, geom geometry(Point, 4326), name text);
    insert into aa_open values (1, 'SRID=4326;POINT(10 50)', 'open');
    insert into aa_secret values (1, 'SRID=4326;POINT(20 60)', 'hidden word')`)
  await distributeById(session, 'aa_open', 'aa_secret')
  keys.all = await createApiKey(session, {
    name: 'all',
    canWrite: false,
    canManage: false,
    collections: undefined,
  })
  keys.secret = await createApiKey(session, {
    name: 'secret',
    canWrite: true,
    canManage: false,
    collections: ['aa_secret'],
  })
  keys.open = await createApiKey(session, {
    name: 'open',
    canWrite: true,
    canManage: false,
    collections: ['aa_open'],
  })
  await set('--readers', 'secret-readers, others', '--editors', 'secret-editors')
})
// Other tests read all collections, and change features without a key.
after(async () => {
  const owner = await openSession(ownerUrl, 'test')
  await owner.query(`delete from tessera.api_key; drop table aa_secret, aa_open;
    delete from tessera.collection where table_name = 'aa_secret'`)
  await owner.close()
})

const run = (...args: string[]) =>
  runTessera(['collections', ...args], undefined, { TESSERA_WRITE_URL: ownerUrl })
async function set(...args: string[]) {
  const { code, output } = await run('set', 'aa_secret', ...args)
  assert.equal(code, 0, output)
  await Promise.all([catalog.reload(), second.catalog.reload()])
}
const bearer = (text: string | undefined): Record<string, string> =>
  text === undefined ? {} : { authorization: `Bearer ${text}` }
const as = async (name: string | undefined) =>
  bearer(name === undefined ? undefined : (keys[name] ?? (await issuer.logIn(name))))

const get = async (path: string, name?: string, headers: Record<string, string> = {}) =>
  client(path, { headers: { ...headers, ...(await as(name)) } })
const status = async (path: string, name?: string) => (await get(path, name)).status
const typeOf = (method: string, path: string) =>
  path === '/transactions'
    ? 'application/json'
    : method === 'PATCH'
      ? 'application/merge-patch+json'
      : 'application/geo+json'
const send = async (method: string, path: string, name: string | undefined, body?: object) =>
  client(path, {
    method,
    headers: {
      ...(body ? { 'content-type': typeOf(method, path) } : {}),
      ...(await as(name)),
    },
    ...(body ? { body: JSON.stringify(body) } : {}),
  })

const SECRET = '/collections/aa_secret'
const ITEM = `${SECRET}/items/1`
const feature = (id: number) => ({ type: 'Feature', id, geometry: null, properties: { name: 'new' } })
const patch = { properties: { name: 'changed' } }

/** Everything that there is of a collection. */
const PATHS = [
  '',
  '?f=html',
  '/items',
  '/items?f=html',
  '/items?f=csv&limit=none',
  '/items?name=x',
  '/items?none=x',
  '/items?limit=0',
  '/items?explain=1',
  '/items.csv',
  '/items/1',
  '/items/1?f=html',
  '/items/2',
  '/schema',
  '/queryables',
  '/sortables?f=html',
  '/api',
  '/summary?property=name',
  '/summary?property=none',
  '/tiles',
  '/tiles/WebMercatorQuad',
  '/tiles/WebMercatorQuad/0/0/0',
  '/0/0/0.mvt',
  '/tilejson.json',
  '/style.json',
]

/** An answer without what differs between two requests for the same. */
const comparable = ({ status, headers, text }: Awaited<ReturnType<typeof client>>, id: string) => [
  status,
  [...headers].filter(([name]) => !/^(date|etag|content-length|server-timing)$/.test(name)),
  text.replaceAll(id, 'aa_nothing').replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}|"requestId":"[^"]*"|req-\w+/g, ''),
]

test('a collection that a caller may not read is like one that does not exist, in every address and method', async () => {
  for (const name of [undefined, 'stranger', 'blind', 'open']) {
    const headers = await as(name)
    for (const path of PATHS) {
      const [hidden, missing] = await Promise.all(
        ['aa_secret', 'aa_nothing'].map((id) => client(`/collections/${id}${path}`, { headers })),
      )
      assert.deepEqual(
        comparable(hidden!, 'aa_secret'),
        comparable(missing!, 'aa_nothing'),
        `${name} ${path}`,
      )
      assert.ok(hidden!.status >= 400 && !hidden!.text.includes('hidden word'), path)
    }
    for (const [method, path, body] of [
      ['HEAD', '/items', undefined],
      ['OPTIONS', '/items', undefined],
      ['OPTIONS', '/items/1', undefined],
      ['POST', '/items', feature(5)],
      ['PUT', '/items/1', feature(1)],
      ['PATCH', '/items/1', patch],
      ['DELETE', '/items/1', undefined],
      ['DELETE', '/items?filter=true&dry-run=true', undefined],
      ['PATCH', '/items?filter=true', patch],
    ] as const) {
      const [hidden, missing] = await Promise.all(
        ['aa_secret', 'aa_nothing'].map((id) => send(method, `/collections/${id}${path}`, name, body)),
      )
      assert.deepEqual(
        comparable(hidden!, 'aa_secret'),
        comparable(missing!, 'aa_nothing'),
        `${name} ${method} ${path}`,
      )
      assert.ok(hidden!.status >= 400, `${name} ${method} ${path}`)
    }
    for (const action of [
      { action: 'insert', items: [feature(5)] },
      { action: 'delete', filter: { ids: ['1'] } },
      { action: 'update', filter: true, properties: { add: [{ name: 'name', value: 'x' }] } },
    ]) {
      const [hidden, missing] = await Promise.all(
        ['aa_secret', 'aa_nothing'].map((collection) =>
          send('POST', '/transactions', name, { transaction: [{ ...action, collection }] }),
        ),
      )
      assert.deepEqual(
        comparable(hidden!, 'aa_secret'),
        comparable(missing!, 'aa_nothing'),
        `${name} ${action.action}`,
      )
      assert.ok([401, 403, 404].includes(hidden!.status), `${name} ${hidden!.status}`)
    }
  }
  assert.deepEqual(await session.query('select name from aa_secret'), [{ name: 'hidden word' }])
})

test('it is in no list, page, map, tile, document or error', async () => {
  const lists = [
    '/',
    '/?f=html',
    '/collections',
    '/collections?f=html',
    '/api',
    '/map',
    '/tiles',
    '/tiles/WebMercatorQuad',
    '/tiles/WebMercatorQuad/0/0/0',
    '/tilejson.json',
    '/style.json',
    '/functions',
    '/collections/aa_open?f=html',
    '/collections/aa_open/items?f=html',
    '/collections/aa_open/items/1?f=html',
    '/collections/none',
  ]
  const named = new Map<string | undefined, string[]>()
  for (const name of [undefined, 'stranger', 'open', 'reader', 'all']) {
    const found: string[] = []
    for (const path of lists) if ((await get(path, name)).text.includes('aa_secret')) found.push(path)
    named.set(name, found)
  }
  const shown = [
    '/?f=html',
    '/collections',
    '/collections?f=html',
    '/api',
    '/map',
    '/tiles/WebMercatorQuad',
    '/tiles/WebMercatorQuad/0/0/0',
    '/tilejson.json',
    '/style.json',
  ]
  assert.deepEqual(Object.fromEntries(named), {
    undefined: [],
    stranger: [],
    open: [],
    reader: shown,
    all: shown,
  })
  const errors = await Promise.all(
    ['aa_secret', 'aa_nothing'].map((id) => get(`/tiles/WebMercatorQuad/0/0/0?collections=${id}`)),
  )
  assert.deepEqual(comparable(errors[0]!, 'aa_secret'), comparable(errors[1]!, 'aa_nothing'))
})

test('its readers read it, by a role or with a key that is for it', async () => {
  for (const name of ['reader', 'all', 'secret']) {
    for (const path of PATHS.filter((one) => !/limit=0|none=|none$|items\/2|explain|\.csv/.test(one)))
      assert.equal(await status(`${SECRET}${path}`, name), 200, `${name} ${path}`)
    assert.match((await get(ITEM, name)).text, /hidden word/)
  }
})

test('what has been read by one caller is not kept for another', async () => {
  const tile = `${SECRET}/tiles/WebMercatorQuad/0/0/0`
  const all = '/tiles/WebMercatorQuad/0/0/0'
  for (let round = 0; round < 3; round++) {
    const [kept, ours] = [await get(tile, 'reader'), await get(all, 'reader')]
    assert.deepEqual([kept.status, ours.status], [200, 200])
    assert.ok(ours.text.includes('aa_secret'))
    const etag = kept.headers.get('etag')!
    assert.equal((await get(tile, undefined, { 'if-none-match': etag })).status, 404)
    assert.ok(!(await get(all)).text.includes('aa_secret'))
    const page = await get(ITEM, 'reader')
    const tagged = { 'if-none-match': page.headers.get('etag')! }
    assert.equal((await get(ITEM, 'reader', tagged)).status, 304)
    assert.equal((await get(ITEM, 'stranger', tagged)).status, 404)
  }
})

test('caches of others keep no answer that is not for everybody', async () => {
  for (const path of ['', '/items', '/items/1', '/tiles/WebMercatorQuad/0/0/0', '/tilejson.json']) {
    const { headers } = await get(`${SECRET}${path}`, 'reader')
    assert.match(headers.get('cache-control')!, /^private/, path)
    assert.match(headers.get('vary')!, /authorization/, path)
  }
  for (const path of ['/collections', '/api', '/collections/aa_open/items', '/tiles/WebMercatorQuad/0/0/0'])
    assert.match((await get(path)).headers.get('vary')!, /authorization/, path)
  const open = '/collections/aa_open/tiles/WebMercatorQuad/0/0/0'
  assert.match((await get(open)).headers.get('cache-control')!, /^public/)
  assert.match(
    (await get('/tiles/WebMercatorQuad/0/0/0', 'reader')).headers.get('cache-control')!,
    /^private/,
  )
})

test('reads with credentials that are not valid are refused, and not taken for those of nobody', async () => {
  for (const path of ['/collections', '/collections/aa_open/items/1', ITEM]) {
    const refused = await client(path, { headers: bearer('a.b.c') })
    assert.deepEqual([refused.status, refused.json.code], [401, 'credentials-invalid'], path)
    assert.match(refused.headers.get('www-authenticate')!, /invalid_token/)
  }
  // Not for the gateway: a proxy in front of it has looked at it.
  const basic = await client('/collections/aa_open/items/1', { headers: { authorization: 'Basic eDp5' } })
  assert.equal(basic.status, 200)
  assert.equal((await client('/health/live', { headers: bearer('a.b.c') })).status, 200)
})

test('each kind of change has its own roles', async () => {
  await set('--creators', 'secret-creators', '--removers', 'none')
  const codeOf = async (...given: Parameters<typeof send>) => {
    const { status, json } = await send(...given)
    return json?.code === undefined ? status : `${status} ${json.code}`
  }
  const forbidden = '403 permission-missing'
  assert.equal(await codeOf('PATCH', ITEM, 'reader', patch), forbidden)
  assert.equal(await codeOf('PATCH', ITEM, 'editor', patch), 200)
  assert.equal(await codeOf('PUT', ITEM, 'editor', feature(1)), 200)
  assert.equal(await codeOf('POST', `${SECRET}/items`, 'editor', feature(2)), forbidden)
  assert.equal(await codeOf('PUT', `${SECRET}/items/2`, 'editor', feature(2)), '404 feature-not-found')
  assert.equal(await codeOf('PUT', `${SECRET}/items/2`, 'keeper', feature(2)), 201)
  assert.equal(await codeOf('POST', `${SECRET}/items`, 'keeper', feature(3)), 201)
  assert.equal(await codeOf('DELETE', `${SECRET}/items/3`, 'keeper'), forbidden)
  assert.equal(await codeOf('DELETE', `${SECRET}/items?filter=true`, 'keeper'), forbidden)
  assert.equal(await codeOf('DELETE', `${SECRET}/items/3`, 'secret'), 204)
  assert.equal(await codeOf('PATCH', ITEM, 'all', patch), forbidden)
  const refused = await send('POST', `${SECRET}/items`, 'editor', feature(9))
  assert.match(
    refused.headers.get('www-authenticate')!,
    /error="insufficient_scope", scope="secret-creators"/,
  )
  assert.match(refused.json.detail, /not among the creators of aa_secret/)
  const upsert = { type: 'FeatureCollection', features: [feature(1)] }
  await set('--editors', 'others')
  assert.equal(await codeOf('POST', `${SECRET}/items?mode=upsert`, 'keeper', upsert), forbidden)
  await set('--editors', 'secret-editors')
  assert.equal(await codeOf('POST', `${SECRET}/items?mode=upsert`, 'keeper', upsert), 201)
})

test('each action of a transaction has the roles of its kind, and one that is not allowed ends all of it', async () => {
  const actions = {
    insert: { action: 'insert', collection: 'aa_secret', items: [feature(20)] },
    update: {
      action: 'update',
      collection: 'aa_secret',
      filter: { ids: [1] },
      properties: { modify: [{ name: 'name', value: 'together' }] },
    },
    replace: {
      action: 'replace',
      collection: 'aa_secret',
      filter: { ids: [1] },
      properties: { feature: { ...feature(1), properties: { name: 'together' } } },
    },
    delete: { action: 'delete', collection: 'aa_secret', filter: { ids: [20] } },
  }
  const run = (name: string, ...transaction: object[]) => send('POST', '/transactions', name, { transaction })
  const { insert, update, replace, delete: removal } = actions
  for (const [name, refused] of [
    ['reader', update],
    ['editor', insert],
    ['editor', removal],
    ['keeper', removal],
    ['open', update],
    ['all', insert],
  ] as const) {
    const { status, json } = await run(name, update, refused)
    assert.deepEqual([status, json.code], [403, 'permission-missing'], `${name} ${refused.action}`)
    if (json.errors) assert.match(json.errors[0].pointer, /^\/transaction\/[01]\/collection$/)
  }
  assert.deepEqual(
    await session.query("select count(*)::int as count from aa_secret where name = 'together'"),
    [{ count: 0 }],
  )
  assert.equal((await run('editor', update, replace)).status, 200)
  assert.equal((await run('keeper', update, insert)).status, 200)
  assert.equal((await run('secret', update, removal)).status, 200)
  // A collection that the caller may not change ends what it may.
  const open = { action: 'insert', collection: 'aa_open', items: [feature(20)] }
  assert.equal((await run('open', open, update)).status, 403)
  assert.equal((await run('open', open)).status, 200)
  assert.deepEqual(await session.query('select count(*)::int as count from aa_open'), [{ count: 2 }])
  await session.query('delete from aa_open where id = 20')
})

test('OPTIONS lists what a caller may do', async () => {
  const allowed = async (name: string) =>
    (await client(ITEM, { method: 'OPTIONS', headers: await as(name) })).headers.get('allow')
  assert.equal(await allowed('reader'), 'GET, HEAD, OPTIONS')
  assert.equal(await allowed('editor'), 'GET, HEAD, PUT, PATCH, OPTIONS')
  assert.equal(await allowed('secret'), 'GET, HEAD, PUT, PATCH, DELETE, OPTIONS')
  const headers = { origin: 'http://localhost', 'access-control-request-method': 'GET' }
  for (const path of ['/items', '/items/1', '', '/tiles/WebMercatorQuad/0/0/0']) {
    const [hidden, missing] = await Promise.all(
      ['aa_secret', 'aa_nothing'].map((id) =>
        client(`/collections/${id}${path}`, { method: 'OPTIONS', headers }),
      ),
    )
    assert.equal(hidden!.status, 200)
    assert.deepEqual(comparable(hidden!, 'aa_secret'), comparable(missing!, 'aa_nothing'))
  }
})

test('a rule about changes alone leaves a collection for everybody to read', async () => {
  const { code, output } = await run('set', 'aa_open', '--editors', 'tessera:any', '--creators', 'none')
  assert.equal(code, 0, output)
  await catalog.reload()
  assert.equal(await status('/collections/aa_open/items/1'), 200)
  assert.equal((await send('PATCH', '/collections/aa_open/items/1', 'reader', patch)).status, 200)
  assert.equal((await send('POST', '/collections/aa_open/items', 'stranger', feature(2))).status, 403)
  assert.equal((await send('DELETE', '/collections/aa_open/items/1', 'reader')).status, 403)
  assert.equal((await send('DELETE', '/collections/aa_open/items/7', 'stranger')).status, 404)
  assert.equal((await run('reset', 'aa_open')).code, 0)
})

test('every gateway follows within a second', async () => {
  const gateways = [client, second.client]
  const waited: number[] = []
  for (const readers of [undefined, ['secret-readers'], undefined, ['secret-readers']]) {
    await setCollection(session, 'aa_secret', { readers })
    const wanted = readers ? 404 : 200
    const follows = async (ask: typeof client) => until(async () => (await ask(ITEM)).status === wanted)
    waited.push(...(await Promise.all(gateways.map(follows))))
  }
  // Others may hold the machine for longer than a second, but not each time.
  const median = waited.toSorted((a, b) => a - b)[waited.length >> 1]!
  assert.ok(median < 1_000, String(waited))
})

test('the command lists rules, and refuses roles that cannot be', async () => {
  assert.match((await run('list')).output, /aa_secret.*secret-readers.*secret-creators.*secret-editors.*none/)
  const wrong = await run('set', 'aa_secret', '--readers', 'a,,b')
  assert.equal(wrong.code, 1)
  assert.match(wrong.output, /--readers=a,,b: must be roles separated by commas, or none/)
})

test('managers have a role of their own, and a collection that they may not read is not there', async () => {
  const manage = async (method: string, path: string, name: string, body?: object) =>
    client(path, {
      method,
      headers: { ...(body ? { 'content-type': 'application/json' } : {}), ...(await as(name)) },
      ...(body ? { body: JSON.stringify(body) } : {}),
    })
  const definition = {
    id: 'rules_made',
    schema: { properties: { geom: { 'x-ogc-role': 'primary-geometry', format: 'geometry-point' } } },
  }
  const refused = await manage('POST', '/collections', 'stranger', definition)
  assert.deepEqual([refused.status, refused.json.code], [403, 'permission-missing'])
  assert.match(refused.headers.get('www-authenticate')!, /scope="tessera:manage"/)
  for (const [method, path, body] of [
    ['PATCH', '', { title: 'Mine' }],
    ['DELETE', '?confirm=aa_secret', undefined],
  ] as const) {
    const hidden = await manage(method, SECRET + path, 'manager', body)
    assert.deepEqual([hidden.status, hidden.json.code], [404, 'collection-not-found'])
    for (const name of ['stranger', 'secret'])
      assert.equal((await manage(method, SECRET + path, name, body)).status, 403, `${method} ${name}`)
    const theirs = await manage(
      method,
      `/collections/aa_open${path.replace('secret', 'open')}`,
      'manager',
      body,
    )
    assert.deepEqual([theirs.status, theirs.json.code], [403, 'change-forbidden'])
  }
  assert.equal((await manage('POST', '/collections', 'manager', definition)).status, 201)
  assert.equal((await manage('DELETE', '/collections/rules_made?confirm=rules_made', 'manager')).status, 204)
})

test('a table keeps its rules under another name, until it gets others there', async () => {
  const table = (name: string) =>
    session.query(`create table ${name} (id int primary key, geom geometry(Point, 4326), name text)`)
  const statuses = async (caller?: string) => {
    await catalog.reload()
    return Promise.all(['aa_former', 'aa_latter'].map((id) => status(`/collections/${id}/items`, caller)))
  }
  await table('aa_former')
  await setCollection(session, 'aa_former', { readers: ['secret-readers'], editors: [] })
  await session.query('alter table aa_former rename to aa_latter')
  assert.deepEqual(await statuses(), [404, 404])
  assert.deepEqual(await statuses('reader'), [404, 200])
  // Another table of the former name has the rules, too.
  await table('aa_former')
  assert.deepEqual(await statuses(), [404, 404])
  assert.deepEqual(await statuses('reader'), [200, 200])
  await setCollection(session, 'aa_latter', { crs: [] })
  assert.deepEqual(await statuses(), [404, 404])
  await resetCollection(session, 'aa_latter', ['readers'])
  assert.deepEqual(await statuses(), [404, 200])
  await session.query(`drop table aa_former, aa_latter;
    delete from tessera.collection where table_name in ('aa_former', 'aa_latter')`)
})
