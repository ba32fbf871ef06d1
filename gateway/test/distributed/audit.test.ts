// Tests the audit: each change of a feature has an entry in its own transaction, with who, when, from where and what.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { after, before, test } from 'node:test'
import { openSession } from '../../database/session.ts'
import { createApiKey } from '../../features/access/api-key.ts'
import { setCollection } from '../../features/collections/settings.ts'
import { importFeatures } from '../../features/import/import.ts'
import { openSource } from '../../features/import/import-source.ts'
import { geojsonSeq } from '../../features/import/sources/geojson-seq.ts'
import { homeOf } from '../../features/sharding/feature-id.ts'
import { changeOf } from '../support/client.ts'
import { testDatabase } from '../support/database.ts'
import { distributeById, isCitus } from '../support/distribute.ts'
import { startGateway } from '../support/gateway.ts'
import { AUDIENCE, startIssuer } from '../support/issuer.ts'
import { runTessera } from '../support/process.ts'

const issuer = await startIssuer({})
const { client, catalog, session, events } = await startGateway()
const guarded = await startGateway(
  `--oidc-issuer=${issuer.url}`,
  `--oidc-audience=${AUDIENCE}`,
  '--trust-proxy=loopback',
)
const { ownerUrl } = testDatabase()
const onCitus = await isCitus(session)

before(async () => {
  const text = [1, 2, 3]
    .map(
      (size) =>
        `${JSON.stringify({ type: 'Feature', geometry: { type: 'Point', coordinates: [size, size] }, properties: { size } })}\n`,
    )
    .join('')
  const source = await openSource('-', Readable.from([Buffer.from(text)]), { format: geojsonSeq })
  await importFeatures(session, source, { collection: 'audit_celled', existing: undefined }, () => {})
  await session.query(`
    create table audit_plain (id text primary key, geom geometry(Point, 4326), name text, size int check (size < 100));
    create table audit_ids (id int primary key, geom geometry(Point, 4326), name text, size int check (size < 100));
    create table audit_off (id int primary key, geom geometry(Point, 4326), name text);`)
  await distributeById(session, 'audit_plain', 'audit_ids', 'audit_off')
  await setCollection(session, 'audit_plain', { audit: 'values' })
  await setCollection(session, 'audit_celled', { audit: 'values' })
  await setCollection(session, 'audit_ids', { audit: 'ids' })
  await Promise.all([catalog.reload(), guarded.catalog.reload()])
})
// Other tests change features without a key.
after(async () => {
  const owner = await openSession(ownerUrl, 'test')
  await owner.query(`delete from tessera.api_key; delete from tessera.audit_retention;
    drop table audit_plain, audit_ids, audit_off, audit_celled;
    delete from tessera.moved_feature where table_name = 'audit_celled';
    delete from tessera.audit where table_name like 'audit\\_%';
    delete from tessera.collection where table_name like 'audit\\_%'`)
  await owner.close()
})

type Entry = {
  readonly cell: number
  readonly changed_at: Date
  readonly feature_id: string
  readonly action: string
  readonly caller: string
  readonly address: string
  readonly request_id: string
  readonly before: any
  readonly after: any
}
/** Returns the entries of a table since the last call, the oldest first. */
const seen = new Map<string, number>()
async function entries(table: string, feature?: string): Promise<Entry[]> {
  const rows = await session.query<Entry & { before: string | null; after: string | null }>(
    'select * from tessera.audit where table_name = $1 and ($2::text is null or feature_id = $2) order by changed_at',
    [table, feature ?? null],
  )
  const from = feature === undefined ? (seen.get(table) ?? 0) : 0
  if (feature === undefined) seen.set(table, rows.length)
  return rows.slice(from).map((row) => ({
    ...row,
    before: row.before === null ? null : JSON.parse(`${row.before}}`),
    after: row.after === null ? null : JSON.parse(`${row.after}}`),
  }))
}
const actions = async (table: string) =>
  (await entries(table)).map(({ action, feature_id }) => `${action} ${feature_id}`).toSorted()

const items = (table: string, id?: string | number) =>
  `/collections/${table}/items${id === undefined ? '' : `/${id}`}`
const feature = (id: string | number | undefined, properties: object, at: number[] | null = [10, 50]) => ({
  type: 'Feature',
  ...(id === undefined ? {} : { id }),
  geometry: at && { type: 'Point', coordinates: at },
  properties,
})
const send = (
  method: string,
  path: string,
  body: object = {},
  headers: Record<string, string> = {},
  ask = client,
) =>
  ask(
    path,
    changeOf(
      method,
      method === 'POST' ? { 'content-type': 'application/geo+json', ...headers } : headers,
      body,
    ),
  )

test('each kind of change is kept with who, when, from where, in which request, and what was before and after', async () => {
  const start = Date.now()
  const created = await send('POST', items('audit_plain'), feature('a', { name: 'one', size: 1 }))
  assert.equal(created.status, 201, created.text)
  assert.equal((await send('PUT', items('audit_plain', 'b'), feature('b', { name: 'two' }))).status, 201)
  assert.equal((await send('PUT', items('audit_plain', 'a'), feature('a', { name: 'three' }))).status, 200)
  const patch = { properties: { size: 5 } }
  assert.equal((await send('PATCH', items('audit_plain', 'a'), patch)).status, 200)
  assert.equal((await send('PATCH', items('audit_plain', 'a'), {})).status, 200)
  assert.equal((await send('DELETE', items('audit_plain', 'a'))).status, 204)
  const found = await entries('audit_plain')
  assert.deepEqual(
    found.map(({ action, feature_id, caller, before, after }) => [
      action,
      feature_id,
      caller,
      before?.properties ?? null,
      after?.properties ?? null,
    ]),
    [
      ['created', 'a', '', null, { name: 'one', size: 1 }],
      ['created', 'b', '', null, { name: 'two', size: null }],
      ['changed', 'a', '', { name: 'one', size: 1 }, { name: 'three', size: null }],
      ['changed', 'a', '', { name: 'three', size: null }, { name: 'three', size: 5 }],
      ['removed', 'a', '', { name: 'three', size: 5 }, null],
    ],
  )
  assert.ok(
    found.every(({ changed_at }) => changed_at.getTime() > start - 5_000),
    String(found[0]!.changed_at),
  )
  assert.ok(found.every(({ address }) => /^(::ffff:)?127\.0\.0\.1$/.test(address)))
  // The log has the same ids, and no two requests have the same.
  const methods = found.map(
    ({ request_id }) =>
      events.find((event) => event.type === 'request-finished' && event.id === request_id) as any,
  )
  assert.deepEqual(
    methods.map(({ method }) => method),
    ['POST', 'PUT', 'PUT', 'PATCH', 'DELETE'],
  )
  assert.match(found[0]!.after.geometry, /^0101000020E6100000/)
})

test('ids alone are kept where that is set, and nothing where nothing is', async () => {
  assert.equal((await send('POST', items('audit_ids'), feature(1, { name: 'x' }))).status, 201)
  assert.equal((await send('PATCH', items('audit_ids', 1), { properties: { name: 'y' } })).status, 200)
  assert.equal((await send('DELETE', items('audit_ids', 1))).status, 204)
  const found = await entries('audit_ids')
  assert.deepEqual(
    found.map(({ action, feature_id, before, after }) => [action, feature_id, before, after]),
    ['created', 'changed', 'removed'].map((action) => [action, '1', null, null]),
  )
  assert.equal((await send('POST', items('audit_off'), feature(1, { name: 'x' }))).status, 201)
  assert.equal((await send('DELETE', items('audit_off', 1))).status, 204)
  assert.deepEqual(await entries('audit_off'), [])
})

test('a change that fails leaves no entry', async () => {
  for (const table of ['audit_plain', 'audit_ids']) {
    await send('PUT', items(table, 7), feature(7, { name: 'x' }))
    await entries(table)
    const statuses = [
      await send('PATCH', items(table, 7), { properties: { size: 100 } }),
      await send('PATCH', items(table, 7), { properties: { size: 1 } }, { 'if-match': '"none.1"' }),
      await send('PUT', items(table, 7), feature(7, {}), { 'if-none-match': '*' }),
      await send('PATCH', items(table, 8), { properties: { size: 1 } }),
      await send('DELETE', items(table, 8)),
      await send('POST', items(table), feature(7, {})),
      await send('POST', items(table), {
        type: 'FeatureCollection',
        features: [feature(20, {}), feature(21, { size: 100 })],
      }),
      await send('PATCH', `${items(table)}?filter=true`, { properties: { size: 100 } }),
      await send('DELETE', `${items(table)}?filter=true`, {}, { prefer: 'max-affected=0' }),
    ].map(({ status }) => status)
    assert.deepEqual(statuses, [422, 412, 412, 404, 404, 409, 422, 422, 412])
    assert.deepEqual(await entries(table), [])
  }
})

test('a body with many features has an entry for each that is stored', async () => {
  const body = (ids: readonly number[], size: number) => ({
    type: 'FeatureCollection',
    features: ids.map((id) => feature(id, { name: `n${id}`, size })),
  })
  for (const table of ['audit_plain', 'audit_ids']) {
    const stored = await send('POST', items(table), body([31, 32, 33], 1))
    assert.equal(stored.status, 201, stored.text)
    assert.equal(stored.json.numberStored, 3)
    assert.deepEqual(await actions(table), ['created 31', 'created 32', 'created 33'])
    const replaced = await send('POST', `${items(table)}?mode=upsert`, body([33, 34], 2))
    assert.deepEqual([replaced.status, replaced.json?.numberStored], [201, 2], replaced.text)
    const found = await entries(table)
    assert.deepEqual(
      found
        .map(({ action, feature_id, before, after }) => [
          feature_id,
          action,
          before?.properties.size,
          after?.properties.size,
        ])
        .toSorted(),
      table === 'audit_plain'
        ? [
            ['33', 'changed', 1, 2],
            ['34', 'created', undefined, 2],
          ]
        : [
            ['33', 'changed', undefined, undefined],
            ['34', 'created', undefined, undefined],
          ],
    )
    assert.equal(new Set(found.map(({ request_id }) => request_id)).size, 1)
  }
  const lenient = await send('POST', items('audit_plain'), body([34, 35, 36, 31, 37], 3), {
    prefer: 'handling=lenient',
  })
  assert.deepEqual([lenient.json.numberStored, lenient.json.numberRefused], [3, 2])
  const kept = await entries('audit_plain')
  assert.deepEqual(
    kept.map(({ feature_id, after }) => [feature_id, after.properties.name]).toSorted(),
    [35, 36, 37].map((id) => [String(id), `n${id}`]),
  )
})

test('a change by a condition has an entry for each feature', async () => {
  for (const table of ['audit_plain', 'audit_ids']) {
    await send('POST', items(table), {
      type: 'FeatureCollection',
      features: [41, 42, 43].map((id) => feature(id, { name: 'many', size: id })),
    })
    await entries(table)
    const patched = await send('PATCH', `${items(table)}?name=many&filter=size>41`, {
      properties: { name: 'fewer' },
    })
    assert.deepEqual(
      [patched.status, patched.json?.numberMatched, patched.json?.numberChanged],
      [200, 2, 2],
      patched.text,
    )
    const found = await entries(table)
    const names = ({ action, feature_id, before, after }: Entry) => [
      feature_id,
      action,
      before?.properties.name,
      after?.properties.name,
    ]
    const [many, fewer] = table === 'audit_plain' ? ['many', 'fewer'] : []
    assert.deepEqual(
      found.map(names).toSorted(),
      ['42', '43'].map((id) => [id, 'changed', many, fewer]),
    )
    const removed = await send('DELETE', `${items(table)}?name=fewer`)
    assert.deepEqual([removed.status, removed.json?.numberChanged], [200, 2], removed.text)
    assert.deepEqual(
      (await entries(table)).map(names).toSorted(),
      ['42', '43'].map((id) => [id, 'removed', fewer, undefined]),
    )
  }
})

test('several changes together have an entry for each feature, or none has one', async () => {
  await send('PUT', items('audit_plain', 't1'), feature('t1', { name: 'one', size: 1 }))
  await send('PUT', items('audit_plain', 't2'), feature('t2', { name: 'pair', size: 2 }))
  for (const table of ['audit_plain', 'audit_ids']) await entries(table)
  const transaction = (size: number) => ({
    transaction: [
      { action: 'insert', collection: 'audit_ids', items: [feature(61, { size }), feature(62, { size: 2 })] },
      {
        action: 'update',
        collection: 'audit_plain',
        filter: { ids: ['t1'] },
        properties: { modify: [{ name: 'size', value: 3 }] },
      },
      {
        action: 'update',
        collection: 'audit_plain',
        filter: "name = 'pair'",
        'filter-lang': 'cql2-text',
        properties: { modify: [{ name: 'size', value: 4 }] },
      },
      { action: 'delete', collection: 'audit_plain', filter: { ids: ['t1'] } },
    ],
  })
  const post = (size: number) =>
    client('/transactions', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(transaction(size)),
    })
  const refused = await post(100)
  assert.equal(refused.status, 422, refused.text)
  for (const table of ['audit_plain', 'audit_ids']) assert.deepEqual(await entries(table), [])
  const made = await post(1)
  assert.equal(made.status, 200, made.text)
  assert.deepEqual(await actions('audit_ids'), ['created 61', 'created 62'])
  assert.deepEqual(
    (await entries('audit_plain')).map(({ action, feature_id, before, after }) => [
      action,
      feature_id,
      before?.properties.size,
      after?.properties.size,
    ]),
    [
      ['changed', 't1', 1, 3],
      ['changed', 't2', 2, 4],
      ['removed', 't1', 3, undefined],
    ],
  )
})

test('entries of a feature stay in its home cell, next to its shard, also when it moves', async () => {
  const created = await send('POST', items('audit_celled'), feature(undefined, { size: 1 }, [10, 50]))
  assert.equal(created.status, 201, created.text)
  const { id } = created.json
  const home = homeOf(id)!
  const point = (x: number) => ({ geometry: { type: 'Point', coordinates: [x, 50] } })
  for (const change of [point(90), { properties: { size: 2 } }, point(10.001), point(90)])
    assert.equal((await send('PATCH', items('audit_celled', id), change)).status, 200)
  assert.equal((await send('DELETE', `${items('audit_celled')}?filter=size=2 and id='${id}'`)).status, 200)
  const found = await entries('audit_celled', id)
  assert.deepEqual(
    found.map(({ action, cell }) => [action, cell]),
    ['created', 'changed', 'changed', 'changed', 'changed', 'removed'].map((action) => [action, home]),
  )
  for (const [index, { before, after }] of found.entries()) {
    assert.equal(before === null, index === 0)
    assert.equal(after === null, index === 5)
    if (index > 0) assert.deepEqual(before, found[index - 1]!.after)
  }
  assert.deepEqual(
    found.slice(1, 5).map(({ after }) => after.properties.size),
    [1, 2, 2, 2],
  )
  const many = await send('POST', items('audit_celled'), {
    type: 'FeatureCollection',
    features: [1, 2, 3].map((x) => feature(undefined, { size: x }, [x * 20, 10])),
  })
  assert.equal(many.status, 201, many.text)
  for (const { feature_id, cell } of await entries('audit_celled')) assert.equal(cell, homeOf(feature_id))
  if (!onCitus) return
  const colocated = await session.query<{ groups: number; tables: number }>(
    `select count(distinct colocationid)::int as groups, count(*)::int as tables from pg_dist_partition
     where logicalrelid in ('tessera.audit'::regclass, 'tessera.moved_feature'::regclass, 'audit_celled'::regclass)`,
  )
  assert.deepEqual(colocated, [{ groups: 1, tables: 3 }])
})

test('of changes that race, each entry begins where the one before it ended', async () => {
  for (const table of ['audit_plain', 'audit_celled']) {
    const created = await send(
      'POST',
      items(table),
      feature(table === 'audit_plain' ? 'race' : undefined, { size: 0 }),
    )
    const { id } = created.json
    const changes = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        send('PATCH', items(table, id), { properties: { size: index + 1 } }),
      ),
    )
    // A busy database refuses some of them, which then have no entry.
    const refused = changes.filter(({ status }) => status !== 200)
    assert.ok(
      refused.every(({ json }) => json.code === 'database-busy') && refused.length < 20,
      JSON.stringify(refused.map(({ json }) => json)),
    )
    const found = await entries(table, id)
    assert.equal(found.length, 21 - refused.length)
    for (const [index, { before }] of found.entries())
      if (index > 0) assert.deepEqual(before, found[index - 1]!.after)
    const { json } = await client(items(table, id))
    assert.equal(json.properties.size, found.at(-1)!.after.properties.size)
  }
  seen.clear()
  for (const table of ['audit_plain', 'audit_celled', 'audit_ids']) await entries(table)
})

test('a change that is repeated with its key has one entry', async () => {
  for (const [table, id] of [
    ['audit_plain', 'keyed'],
    ['audit_celled', undefined],
  ] as const) {
    await entries(table)
    const headers = { 'idempotency-key': `"audit ${table} ${randomUUID()}"` }
    const answers = [
      await send('POST', items(table), feature(id, { size: 1 }), headers),
      await send('POST', items(table), feature(id, { size: 1 }), headers),
    ]
    assert.deepEqual(
      answers.map(({ status, headers }) => [status, headers.get('idempotent-replayed')]),
      [
        [201, null],
        [201, 'true'],
      ],
    )
    assert.equal((await entries(table)).length, 1)
  }
})

test('the caller is a key or the subject of a token, and the address is that of the client of the proxy', async () => {
  const key = await createApiKey(session, {
    name: 'field crew',
    canWrite: true,
    canManage: false,
    canGrant: false,
    collections: undefined,
    roles: undefined,
  })
  const keyId = key.split('_')[1]!
  const token = await issuer.sign({ sub: 'anna smith', roles: ['tessera:write'] })
  await entries('audit_plain')
  const forwarded = { 'x-forwarded-for': '203.0.113.7' }
  const as = (bearer: string) => ({ authorization: `Bearer ${bearer}`, ...forwarded })
  const change = (bearer: string, size: number) =>
    send('PUT', items('audit_plain', 'who'), feature('who', { size }), as(bearer), guarded.client)
  assert.equal((await change(key, 1)).status, 201)
  assert.equal((await change(token, 2)).status, 200)
  const found = await entries('audit_plain')
  assert.deepEqual(
    found.map(({ caller, address }) => [caller, address]),
    [
      [keyId, '203.0.113.7'],
      [`${issuer.url} anna smith`, '203.0.113.7'],
    ],
  )
  assert.equal((await change(await issuer.sign({ sub: 'eve' }), 3)).status, 403)
  assert.deepEqual(await entries('audit_plain'), [])
})

test('the command shows entries by collection, feature, time and caller, as a table or for programs', async () => {
  const run = async (...args: string[]) => {
    const { code, output } = await runTessera(['audit', ...args], undefined, { TESSERA_WRITE_URL: ownerUrl })
    assert.equal(code, 0, output)
    return output.trim().split('\n')
  }
  const [head, newest, oldest] = await run('audit_plain', '--id', 'who')
  assert.match(head!, /^TIME +COLLECTION +FEATURE +ACTION +WHO +FROM +REQUEST$/)
  assert.match(newest!, /audit_plain +who +changed +http\S+ anna smith +203\.0\.113\.7 +req-/)
  assert.match(oldest!, /audit_plain +who +created +[0-9a-f]{12} \(field crew\) +203\.0\.113\.7 +req-/)
  const lines = async (...args: string[]) =>
    (await run(...args, '--json')).filter((line) => line !== '').map((line) => JSON.parse(line))
  const byName = await lines('--who', 'field crew')
  assert.deepEqual(
    byName.map(({ collection, feature, action, after }) => [
      collection,
      feature,
      action,
      after.properties.size,
    ]),
    [['audit_plain', 'who', 'created', 1]],
  )
  assert.equal((await lines('--who', 'anna smith')).length, 1)
  const nobody = await lines('audit_ids', '--who', 'nobody', '--limit', 'none')
  assert.ok(nobody.length > 3 && nobody.every(({ caller }) => caller === null))
  assert.equal((await lines('audit_ids', '--limit', '2')).length, 2)
  assert.equal((await lines('--since', '2100-01-01')).length, 0)
  assert.equal((await lines('audit_ids', '--until', '1d')).length, 0)
  for (const [wrong, message] of [
    [['a', 'b'], /audit takes one collection/],
    [['--since', 'soon'], /--since must be hours or days ago/],
    [['--limit', '0'], /--limit=0: must be a number/],
    [['--keep', '5h'], /--keep=5h: must be a day at least/],
  ] as const) {
    const { code, output } = await runTessera(['audit', ...wrong], undefined, { TESSERA_WRITE_URL: ownerUrl })
    assert.equal(code, 1)
    assert.match(output, message)
  }
})

test('the command of collections sets what is kept, and names roles that could not write it', async () => {
  const run = (...args: string[]) =>
    runTessera(['collections', ...args], undefined, { TESSERA_WRITE_URL: ownerUrl })
  const set = await run('set', 'audit_off', '--audit', 'ids')
  assert.equal(set.code, 0, set.output)
  assert.doesNotMatch(set.output, /tessera_(write|read)/)
  assert.match((await run('list')).output, /audit_off.* ids/)
  await catalog.reload()
  assert.equal(catalog.get('audit_off').audit, 'ids')
  const wrong = await run('set', 'audit_off', '--audit', 'all')
  assert.deepEqual([wrong.code, /--audit=all: must be ids or values/.test(wrong.output)], [1, true])
  assert.equal((await run('reset', 'audit_off', 'audit')).code, 0)
  await catalog.reload()
  assert.equal(catalog.get('audit_off').audit, undefined)
})
