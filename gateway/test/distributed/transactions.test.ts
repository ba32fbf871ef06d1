// Tests transactions: actions in several collections that take effect together or not at all, their conditions, keys and
// errors.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { testDatabase } from '../support/database.ts'
import { distributeById, isCitus } from '../support/distribute.ts'
import { startGateway } from '../support/gateway.ts'
import { runTessera } from '../support/process.ts'

const { client, session, catalog, events } = await startGateway('--body-limit=262144')
const { ownerUrl } = testDatabase()

const point = (properties: object, coordinates: readonly number[] = [1, 2], more: object = {}) => ({
  type: 'Feature',
  geometry: { type: 'Point', coordinates },
  properties,
  ...more,
})
const { code, output } = await runTessera(
  ['import', '-', '--collection', 'tx_poles', '--level', '4'],
  JSON.stringify(point({ name: 'first', height: 1 })),
  { TESSERA_WRITE_URL: ownerUrl },
)
assert.equal(code, 0, output)
await session.query('delete from tx_poles')
await session.query('alter table tx_poles alter name drop not null, alter height drop not null')
await session.query(
  'create table tx_cables (id int primary key, geom geometry(Geometry, 4326), name text, fibres int check (fibres < 100), extra jsonb)',
)
await distributeById(session, 'tx_cables')
await catalog.reload()

const send = (body: unknown, headers: Record<string, string> = {}) =>
  client('/transactions', {
    method: 'POST',
    body: typeof body === 'string' ? body : JSON.stringify(body),
    headers: { 'content-type': 'application/json', ...headers },
  })
const run = (transaction: readonly object[], headers?: Record<string, string>) =>
  send({ transaction }, headers)
const insert = (collection: string, ...items: object[]) => ({ action: 'insert', collection, items })
const update = (collection: string, filter: unknown, values: object, more: object = {}) => ({
  action: 'update',
  collection,
  filter,
  properties: { modify: Object.entries(values).map(([name, value]) => ({ name, value })) },
  ...more,
})
const remove = (collection: string, filter: unknown, more: object = {}) => ({
  action: 'delete',
  collection,
  filter,
  ...more,
})
const replace = (collection: string, filter: unknown, feature: object, more: object = {}) => ({
  action: 'replace',
  collection,
  filter,
  properties: { feature },
  ...more,
})
const ids = (...list: unknown[]) => ({ ids: list })

const countOf = async (table: string, where = 'true') =>
  Number((await session.query<{ count: string }>(`select count(*) from ${table} where ${where}`))[0]!.count)
const counts = async () => [await countOf('tx_poles'), await countOf('tx_cables')]
const idIn = (url: string) => decodeURIComponent(url.split('/').at(-1)!)
const summary = (totalInserted: number, totalUpdated = 0, totalReplaced = 0, totalDeleted = 0) => ({
  totalInserted,
  totalUpdated,
  totalReplaced,
  totalDeleted,
})

/** Creates a pole, and returns its id and its tag. */
async function makePole(name: string, coordinates: readonly number[] = [1, 2]) {
  const { json } = await run([insert('tx_poles', point({ name, height: 1 }, coordinates))])
  const [url] = json.insertResults as [string]
  return { url, id: idIn(url), tag: json.entityTags[url] as string }
}

test('actions in several collections take effect together, and the answer has what the draft says', async () => {
  const pole = await makePole('to move')
  const old = await makePole('to remove')
  const { status, json, headers } = await send(
    {
      semantic: 'atomic',
      title: 'a day in the field',
      transaction: [
        {
          ...insert('tx_cables', point({ name: 'SEG237', fibres: 12 }, [43, -79], { id: 1 })),
          description: 'new',
        },
        insert('tx_poles', point({ name: 'a' }), point({ name: 'b' }, [100, 50])),
        update('tx_poles', ids(pole.id), {
          geometry: { type: 'Point', coordinates: [120, -45] },
          name: 'moved',
        }),
        replace('tx_cables', ids(1), point({ name: 'SEG238' }, [43, -79])),
        remove('tx_poles', ids(old.id)),
      ],
    },
    { 'content-type': 'application/ogc-tx+json' },
  )
  assert.equal(status, 200, JSON.stringify(json))
  assert.equal(json.semantic, 'atomic')
  assert.deepEqual(json.summary, summary(3, 1, 1, 1))
  assert.deepEqual(json.updateResults, [pole.url])
  assert.deepEqual(json.deleteResults, [old.url])
  assert.deepEqual(json.replaceResults, [json.insertResults[0]])
  assert.equal(json.representations, undefined)
  assert.ok(headers.get('consistency-token'))
  // Each is there, and has the tag of the answer.
  for (const url of [...json.insertResults, pole.url]) {
    const found = await client(url)
    assert.equal(found.status, 200, url)
    assert.equal(found.headers.get('etag'), json.entityTags[url], url)
  }
  assert.equal(Object.keys(json.entityTags).length, 4)
  const moved = await client(pole.url)
  assert.deepEqual(moved.json.geometry.coordinates, [120, -45])
  assert.deepEqual(moved.json.properties, { name: 'moved', height: 1 })
  const replaced = await client(json.replaceResults[0])
  assert.deepEqual(replaced.json.properties, { name: 'SEG238', fibres: null, extra: null })
  assert.equal((await client(old.url)).status, 404)
})

test('if one action fails, none has taken effect, and the answer has its place', async () => {
  const pole = await makePole('kept')
  await run([insert('tx_cables', point({ name: 'x', fibres: 1 }, [1, 1], { id: 10 }))])
  const before = await counts()
  const good = [
    insert('tx_poles', point({ name: 'never' }), point({ name: 'never' }, [80, 80])),
    update('tx_poles', ids(pole.id), { name: 'never' }),
    remove('tx_cables', ids(10)),
  ]
  const cases: [bad: object, status: number, code: string, pointer: string][] = [
    [
      insert('tx_cables', point({ fibres: 100 }, [1, 1], { id: 11 })),
      422,
      'feature-invalid',
      // Citus does not name the columns of a check.
      (await isCitus(session)) ? '/items/0' : '/items/0/properties/fibres',
    ],
    [
      insert('tx_cables', point({}, [1, 1], { id: 12 }), point({}, [1, 1], { id: 12 })),
      409,
      'feature-conflict',
      '/items/1/id',
    ],
    [update('tx_poles', ids(pole.id, '9.none'), { height: 3 }), 404, 'feature-not-found', '/filter/ids/1'],
    [remove('tx_cables', ids(10)), 404, 'feature-not-found', '/filter/ids/0'],
    [replace('tx_cables', ids(13), point({}, [1, 1])), 404, 'feature-not-found', '/filter/ids/0'],
    [update('tx_cables', ids('no number'), { fibres: 1 }), 404, 'feature-not-found', '/filter/ids/0'],
    [
      { ...update('tx_poles', ids(pole.id), { height: 1 }), 'if-match': '"AAAAAAAA.1"', id: 'mine' },
      412,
      'feature-changed',
      '/filter/ids/0',
    ],
    [insert('tx_none', point({})), 404, 'collection-not-found', '/collection'],
  ]
  for (const [bad, status, code, pointer] of cases) {
    const { status: given, json } = await run([...good, bad])
    assert.deepEqual([given, json.code], [status, code], JSON.stringify(json))
    assert.equal(json.errors[0].pointer, `/transaction/3${pointer}`, JSON.stringify(json))
    assert.match(json.detail, /^\/transaction\/3\/.* Nothing has changed\.$/)
    if ('id' in bad) assert.equal(json.action, 'mine')
    assert.deepEqual(await counts(), before, JSON.stringify(bad))
    assert.equal(await countOf('tx_poles', "name = 'never'"), 0)
  }
})

test('the faults of all bodies are named at once, by their places in the transaction', async () => {
  const before = await counts()
  const { status, json } = await run([
    insert('tx_poles', point({ name: 1 }), point({ nothing: 1 })),
    update('tx_cables', ids(1), { fibres: 'x', geometry: { type: 'Point', coordinates: [0, 95] } }),
    {
      ...update('tx_cables', ids(1), {}),
      properties: { add: [{ name: 'other', value: 1 }], delete: ['name', 'unknown'] },
    },
    replace('tx_cables', ids(1), { type: 'Feature', geometry: null, properties: { fibres: 1.5 } }),
  ])
  assert.equal(status, 422, JSON.stringify(json))
  assert.equal(json.code, 'feature-invalid')
  assert.deepEqual(json.errors.map(({ pointer }: { pointer: string }) => pointer).toSorted(), [
    '/transaction/0/items/0/properties/name',
    '/transaction/0/items/1/properties/nothing',
    '/transaction/1/properties/modify/0/value',
    '/transaction/1/properties/modify/1/value',
    '/transaction/2/properties/add/0/value',
    '/transaction/2/properties/delete/1',
    '/transaction/3/properties/feature/properties/fibres',
  ])
  const many = await run([insert('tx_poles', ...Array.from({ length: 30 }, () => point({ name: 1 })))])
  assert.equal(many.status, 422)
  assert.equal(many.json.errors.length, 20)
  assert.match(many.json.detail, /more than/)
  assert.deepEqual(await counts(), before)
})

test('a body that is no transaction is refused with each of its faults', async () => {
  const filter = ids('1')
  const cases: [body: unknown, pointer: string, detail: RegExp][] = [
    [[], '', /an object with transaction/],
    [{}, '/transaction', /list of actions/],
    [{ transaction: [] }, '/transaction', /list of actions/],
    [{ semantic: 'batch', transaction: [remove('tx_poles', filter)] }, '/semantic', /"atomic"/],
    [
      { actions: [], transaction: [remove('tx_poles', filter)] },
      '/actions',
      /known are semantic, transaction/,
    ],
    [{ transaction: [7] }, '/transaction/0', /an object/],
    [{ transaction: [{ action: 'upsert' }] }, '/transaction/0/action', /"insert" or "replace"/],
    [{ transaction: [{ action: 'delete', filter }] }, '/transaction/0/collection', /id of a collection/],
    [{ transaction: [remove('tx_poles', undefined)] }, '/transaction/0/filter', /true selects all/],
    [{ transaction: [remove('tx_poles', ids())] }, '/transaction/0/filter/ids', /list of ids/],
    [{ transaction: [remove('tx_poles', ids({}))] }, '/transaction/0/filter/ids', /list of ids/],
    [{ transaction: [remove('tx_poles', { ...filter, x: 1 })] }, '/transaction/0/filter/x', /known are ids/],
    [{ transaction: [remove('tx_poles', filter, { items: [] })] }, '/transaction/0/items', /not known/],
    [{ transaction: [remove('tx_poles', filter, { 'if-match': 7 })] }, '/transaction/0/if-match', /ETag/],
    [{ transaction: [remove('tx_poles', filter, { 'if-match': 'x' })] }, '/transaction/0/if-match', /ETag/],
    [
      { transaction: [remove('tx_poles', true, { 'if-match': '"a.1"' })] },
      '/transaction/0/if-match',
      /only be/,
    ],
    [{ transaction: [remove('tx_poles', 'name =')] }, '/transaction/0/filter', /./],
    [{ transaction: [remove('tx_poles', 'none = 1')] }, '/transaction/0/filter', /none/],
    [
      { transaction: [remove('tx_poles', '1=1', { 'filter-lang': 'sql' })] },
      '/transaction/0/filter-lang',
      /cql2/,
    ],
    [{ transaction: [remove('tx_poles', '1=1', { 'filter-crs': 'x' })] }, '/transaction/0/filter-crs', /./],
    [{ transaction: [insert('tx_poles')] }, '/transaction/0/items', /list of GeoJSON/],
    [{ transaction: [replace('tx_cables', true, point({}))] }, '/transaction/0/filter', /the id/],
    [{ transaction: [update('tx_poles', filter, {})] }, '/transaction/0/properties', /add, modify or delete/],
    [
      { transaction: [{ ...update('tx_poles', filter, {}), properties: { name: 'x' } }] },
      '/transaction/0/properties/name',
      /known are add, modify, delete/,
    ],
    [
      { transaction: [{ ...update('tx_poles', filter, { name: 'x' }), properties: { add: 7 } }] },
      '/transaction/0/properties/add',
      /a list/,
    ],
    [
      {
        transaction: [
          {
            ...update('tx_poles', filter, {}),
            properties: { add: [{ name: 'name', value: 'a' }], delete: ['name'] },
          },
        ],
      },
      '/transaction/0/properties/delete/0',
      /named before/,
    ],
    [
      { transaction: [update('tx_poles', filter, { geometry: null, geom: null })] },
      '/transaction/0/properties/modify/1/value',
      /another name/,
    ],
    [
      { transaction: [insert('tx_poles', ...Array.from({ length: 1_001 }, () => point({})))] },
      '/transaction',
      /at most 1000/,
    ],
    [
      { transaction: Array.from({ length: 1_001 }, () => remove('tx_poles', filter)) },
      '/transaction',
      /at most 1000 actions/,
    ],
  ]
  for (const [body, pointer, detail] of cases) {
    const { status, json } = await send(body)
    assert.deepEqual(
      [status, json.code],
      [422, 'transaction-invalid'],
      `${JSON.stringify(body).slice(0, 200)}: ${JSON.stringify(json)}`,
    )
    const fault = json.errors.find((one: { pointer: string }) => one.pointer === pointer)
    assert.match(fault?.detail ?? JSON.stringify(json), detail)
  }
  for (const [body, status] of [
    ['{"transaction":', 400],
    [`{"transaction":[${'['.repeat(200)}]}`, 400],
    [JSON.stringify({ x: 'x'.repeat(300_000) }), 413],
  ] as const)
    assert.equal((await send(body)).status, status)
  assert.equal((await send('{}', { 'content-type': 'text/plain' })).status, 415)
  for (const header of ['if-match', 'if-none-match', 'if-unmodified-since']) {
    const { status, json } = await send('{}', { [header]: '*' })
    assert.deepEqual([status, json.header], [400, header])
  }
  assert.equal((await client('/transactions')).status, 405)
  assert.match((await client('/transactions', { method: 'OPTIONS' })).headers.get('allow')!, /POST/)
})

test('a feature changes only if it has the version that its action names', async () => {
  const one = await makePole('one')
  const other = await makePole('other')
  const wanted = (tag: string) => [
    update('tx_poles', ids(one.id), { height: 5 }),
    update('tx_poles', ids(other.id), { height: 6 }, { 'if-match': tag }),
  ]
  const first = await run(wanted(other.tag))
  assert.equal(first.status, 200, first.text)
  const late = await run(wanted(other.tag))
  assert.deepEqual([late.status, late.json.code], [412, 'feature-changed'])
  assert.equal(late.json.errors[0].pointer, '/transaction/1/filter/ids/0')
  const { json } = await client(one.url)
  assert.equal(json.properties.height, 5)
  assert.equal((await run(wanted('*'))).status, 200)
  // One of two transactions with the same version wins.
  const tag = (await client(other.url)).headers.get('etag')!
  const race = await Promise.all([run(wanted(tag).toReversed()), run(wanted(tag).toReversed())])
  assert.deepEqual(race.map(({ status }) => status).toSorted(), [200, 412])
})

test('a transaction that is sent again under its key happens once, with the same answer', async () => {
  const pole = await makePole('counted')
  const before = await counts()
  const body = [
    insert('tx_poles', point({ name: 'keyed' }), point({ name: 'keyed' }, [90, 10])),
    remove('tx_poles', ids(pole.id)),
  ]
  const key = { 'idempotency-key': randomUUID(), prefer: 'return=representation' }
  const first = await run(body, key)
  assert.equal(first.status, 200, first.text)
  assert.equal(first.headers.get('idempotent-replayed'), null)
  const again = await run(body, key)
  assert.deepEqual([again.status, again.text], [200, first.text])
  assert.equal(again.headers.get('idempotent-replayed'), 'true')
  assert.ok(again.headers.get('consistency-token'))
  assert.deepEqual(await counts(), [before[0]! + 1, before[1]])
  const reused = await run(body.slice(1), key)
  assert.deepEqual([reused.status, reused.json.code], [422, 'idempotency-key-reused'])
  // One that fails can be repeated under its key.
  const failing = { 'idempotency-key': randomUUID() }
  const late = [insert('tx_cables', point({ name: 'late' }, [1, 1], { id: 77 }))]
  await run([insert('tx_cables', point({}, [1, 1], { id: 77 }))])
  assert.equal((await run(late, failing)).status, 409)
  await session.query('delete from tx_cables where id = 77')
  assert.equal((await run(late, failing)).status, 200)
  const parallel = { 'idempotency-key': randomUUID() }
  const racing = await Promise.all(
    Array.from({ length: 4 }, () => run([insert('tx_poles', point({ name: 'raced' }))], parallel)),
  )
  assert.ok(
    racing.every(({ status }) => status === 200 || status === 409),
    racing.map(({ text }) => text).join(),
  )
  assert.equal(await countOf('tx_poles', "name = 'raced'"), 1)
})

test('the answer has as much as the client prefers', async () => {
  const make = (wanted: string) => run([insert('tx_poles', point({ name: 'preferred' }))], { prefer: wanted })
  const minimal = await make('return=minimal')
  assert.deepEqual(minimal.json, { semantic: 'atomic', summary: summary(1) })
  assert.equal(minimal.headers.get('preference-applied'), 'return=minimal')
  const none = await make('return=none')
  assert.deepEqual([none.status, none.text], [204, ''])
  const { json, headers } = await make('return=representation')
  assert.equal(headers.get('preference-applied'), 'return=representation')
  const [url] = json.insertResults
  assert.deepEqual(json.representations[url], (await client(url)).json)
})

test('features of one body are left out of the answer if they are too long', async () => {
  await session.query(`create table tx_long (id int primary key, geom geometry(Point, 4326), name text default repeat('é', 400000));
    insert into tx_long select n, 'SRID=4326;POINT(1 1)' from generate_series(1, 8) n`)
  await distributeById(session, 'tx_long')
  await catalog.reload()
  const key = { 'idempotency-key': randomUUID(), prefer: 'return=representation' }
  const body = [
    update('tx_long', ids(1, 2, 3, 4, 5, 6, 7, 8), { geometry: { type: 'Point', coordinates: [2, 2] } }),
  ]
  const { status, json, text } = await run(body, key)
  assert.equal(status, 200, text.slice(0, 500))
  assert.equal(json.updateResults.length, 8)
  assert.equal(Object.keys(json.entityTags).length, 8)
  const shown = Object.keys(json.representations).length
  assert.ok(shown >= 4 && shown < 8 && text.length < 5_000_000, `${shown}`)
  const again = await run(body, key)
  assert.equal(again.json.representations, undefined)
  assert.deepEqual(again.json.entityTags, json.entityTags)
})

test('conditions select the features of an action, as many as the client allows', async () => {
  const poles = Array.from({ length: 40 }, (_, index) =>
    point({ name: 'selected', height: index }, [(index * 37) % 170, (index * 17) % 80]),
  )
  assert.equal((await run([insert('tx_poles', ...poles)])).status, 200)
  const cql = {
    op: 'and',
    args: [
      { op: '=', args: [{ property: 'name' }, 'selected'] },
      { op: '<', args: [{ property: 'height' }, 10] },
    ],
  }
  const { status, json } = await run([
    update('tx_poles', cql, { height: 1_000 }),
    remove('tx_poles', "name = 'selected' AND height BETWEEN 10 AND 29"),
    remove('tx_poles', JSON.stringify({ op: '=', args: [{ property: 'height' }, 30] }), {
      'filter-lang': 'cql2-json',
    }),
  ])
  assert.equal(status, 200, JSON.stringify(json))
  assert.deepEqual(json.summary, summary(0, 10, 0, 21))
  assert.deepEqual([json.updateResults, json.deleteResults, json.entityTags], [[], [], {}])
  assert.equal(await countOf('tx_poles', "name = 'selected' and height = 1000"), 10)
  // A later action sees what an earlier one has done.
  const few = { prefer: 'max-affected=10' }
  const most = await run(
    [insert('tx_poles', point({ name: 'selected', height: 1_000 })), remove('tx_poles', 'height = 1000')],
    few,
  )
  assert.deepEqual([most.status, most.json.code, most.json.numberMatched], [412, 'too-many-affected', 11])
  assert.equal(most.json.errors[0].pointer, '/transaction/1/filter')
  assert.equal(await countOf('tx_poles', 'height = 1000'), 10)
  const box = 'S_INTERSECTS(geom, POLYGON((0 0, 1000000 0, 1000000 1000000, 0 1000000, 0 0)))'
  const within = await run([
    remove('tx_poles', box, { 'filter-crs': 'http://www.opengis.net/def/crs/EPSG/0/3857' }),
  ])
  assert.equal(within.status, 200, within.text)
  assert.equal((await run([remove('tx_poles', true)], { prefer: 'max-affected=5000' })).status, 200)
  assert.equal(await countOf('tx_poles'), 0)
  const fault = await run([update('tx_cables', true, { fibres: 100 })])
  assert.equal(fault.status, 422, fault.text)
  const where = (await isCitus(session)) ? 'filter' : 'properties/modify/0/value'
  assert.equal(fault.json.errors[0].pointer, `/transaction/0/${where}`)
})

test('handling=lenient and Content-Crs hold for all actions', async () => {
  const body = [insert('tx_poles', point({ name: 'lenient', unknown: 1 }, [222_638.98, 445_640.11]))]
  const headers = { 'content-crs': '<http://www.opengis.net/def/crs/EPSG/0/3857>' }
  assert.equal((await run(body, headers)).status, 422)
  const { status, json, headers: answered } = await run(body, { ...headers, prefer: 'handling=lenient' })
  assert.equal(status, 200, JSON.stringify(json))
  assert.equal(answered.get('preference-applied'), 'handling=lenient')
  const [longitude, latitude] = (await client(json.insertResults[0])).json.geometry.coordinates
  assert.ok(Math.abs(longitude - 2) < 1e-4 && Math.abs(latitude - 4) < 1e-4, `${longitude} ${latitude}`)
  const wrong = await run(body, { 'content-crs': '<http://example.com/none>' })
  assert.deepEqual([wrong.status, wrong.json.header], [400, 'Content-Crs'])
})

test('a geometry that cannot be shown does not keep its feature from changes', async () => {
  await session.query(`create table tx_outside (id int primary key, name text, geom geometry(Point, 25832));
    insert into tx_outside values (1, 'a', 'SRID=25832;POINT(1e30 1e30)')`)
  await distributeById(session, 'tx_outside')
  await catalog.reload()
  const { status, json } = await run(
    [insert('tx_poles', point({ name: 'besides' })), update('tx_outside', ids(1), { name: 'b' })],
    { prefer: 'return=representation' },
  )
  assert.equal(status, 200, JSON.stringify(json))
  assert.equal(json.representations[json.updateResults[0]].geometry, null)
  assert.equal(await countOf('tx_poles', "name = 'besides'"), 1)
  const outside = await run([
    update('tx_outside', ids(1), { geometry: { type: 'Point', coordinates: [99, 0] } }),
  ])
  if (outside.status !== 200)
    assert.match(outside.json.errors[0].pointer, /\/transaction\/0\/properties\/modify\/0\/value/)
})

test('a collection that needs conditions needs them of each action', async () => {
  await session.query(`create table tx_strict (id int primary key, geom geometry(Point, 4326), name text);
    insert into tx_strict values (1, 'SRID=4326;POINT(1 1)', 'a')`)
  await distributeById(session, 'tx_strict')
  const set = await runTessera(['collections', 'set', 'tx_strict', '--require-precondition'], undefined, {
    TESSERA_WRITE_URL: ownerUrl,
  })
  assert.equal(set.code, 0, set.output)
  await catalog.reload()
  for (const action of [update('tx_strict', ids(1), { name: 'b' }), remove('tx_strict', 'id = 1')]) {
    const refused = await run([action])
    assert.deepEqual([refused.status, refused.json.code], [428, 'precondition-required'], refused.text)
    assert.equal(refused.json.errors[0].pointer, '/transaction/0/if-match')
  }
  const tag = (await client('/collections/tx_strict/items/1')).headers.get('etag')!
  const { status } = await run([
    update('tx_strict', ids(1), { name: 'b' }, { 'if-match': tag }),
    insert('tx_strict', point({}, [2, 2], { id: 2 })),
    remove('tx_strict', 'id = 2', { 'if-match': '*' }),
  ])
  assert.equal(status, 200)
})

test('no transaction of these was a bug', () => {
  assert.deepEqual(
    events.filter(({ type }) => type === 'request-failed'),
    [],
  )
})
