// Tests the audit over HTTP: who sees it, its pages, and features as they were.

import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { openSession } from '../../database/session.ts'
import { createApiKey } from '../../features/access/api-key.ts'
import { setCollection } from '../../features/collections/settings.ts'
import { importFeatures } from '../../features/import/import.ts'
import { openSource } from '../../features/import/import-source.ts'
import { geojsonSeq } from '../../features/import/sources/geojson-seq.ts'
import { changeOf } from '../support/client.ts'
import { testDatabase } from '../support/database.ts'
import { distributeById } from '../support/distribute.ts'
import { startGateway } from '../support/gateway.ts'
import { AUDIENCE, startIssuer } from '../support/issuer.ts'

const issuer = await startIssuer({})
const { client, catalog, session } = await startGateway(
  `--oidc-issuer=${issuer.url}`,
  `--oidc-audience=${AUDIENCE}`,
)
const open = await startGateway()

const TABLES = ['history_plain', 'history_celled', 'history_ids', 'history_none'] as const

before(async () => {
  const line = { type: 'Feature', geometry: { type: 'Point', coordinates: [1, 1] }, properties: { size: 1 } }
  const source = await openSource('-', Readable.from([Buffer.from(`${JSON.stringify(line)}\n`)]), {
    format: geojsonSeq,
  })
  await importFeatures(session, source, { collection: 'history_celled', existing: undefined }, () => {})
  await session.query(`
    create table history_plain (id text primary key, geom geometry(Point, 3857), size int);
    create table history_ids (id text primary key, geom geometry(Point, 4326), size int);
    create table history_none (id text primary key, geom geometry(Point, 4326), size int);`)
  await distributeById(session, 'history_plain', 'history_ids', 'history_none')
  for (const table of ['history_plain', 'history_celled'])
    await setCollection(session, table, { audit: 'values', auditors: ['watchers'] })
  await setCollection(session, 'history_ids', { audit: 'ids' })
  await setCollection(session, 'history_none', { readers: ['staff'] })
  await Promise.all([catalog.reload(), open.catalog.reload()])
})
after(async () => {
  const owner = await openSession(testDatabase().ownerUrl, 'test')
  await owner.query(`delete from tessera.api_key; drop table ${TABLES.join()};
    delete from tessera.moved_feature where table_name like 'history\\_%';
    delete from tessera.audit where table_name like 'history\\_%';
    delete from tessera.collection where table_name like 'history\\_%'`)
  await owner.close()
})

const ROLES = {
  editor: ['tessera:write'],
  watcher: ['watchers', 'tessera:write'],
  auditor: ['tessera:audit'],
} as const
const as = async (name: keyof typeof ROLES | undefined): Promise<Record<string, string>> =>
  name === undefined
    ? {}
    : { authorization: `Bearer ${await issuer.sign({ sub: `${name} one`, roles: [...ROLES[name]] })}` }
const get = async (path: string, name?: keyof typeof ROLES) => client(path, { headers: await as(name) })
const change = async (method: string, path: string, body: object = {}) => {
  const headers = await as('watcher')
  const type = method === 'POST' ? { 'content-type': 'application/geo+json' } : {}
  const answer = await client(path, changeOf(method, { ...headers, ...type }, body))
  assert.ok(answer.status < 300, `${method} ${path} ${answer.text}`)
  return answer
}
const feature = (id: string | undefined, size: number, at: number[]) => ({
  type: 'Feature',
  ...(id === undefined ? {} : { id }),
  geometry: { type: 'Point', coordinates: at },
  properties: { size },
})
const now = async () =>
  (
    await session.query<{ time: string }>(
      `select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as time`,
    )
  )[0]!.time

test('the versions of a feature are listed with who made them, and each can be read', async () => {
  for (const table of ['history_plain', 'history_celled']) {
    const items = `/collections/${table}/items`
    const early = await now()
    const created = await change(
      'POST',
      items,
      feature(table === 'history_plain' ? 'a' : undefined, 1, [10, 50]),
    )
    const { id } = created.json
    const first = await now()
    await change('PATCH', `${items}/${id}`, { properties: { size: 2 } })
    await change('PATCH', `${items}/${id}`, { geometry: { type: 'Point', coordinates: [80, 20] } })
    const third = await now()
    const current = (await get(`${items}/${id}`)).json
    await change('DELETE', `${items}/${id}`)
    const { status, json, headers } = await get(`${items}/${id}/history`, 'watcher')
    assert.equal(status, 200)
    assert.equal(headers.get('cache-control'), 'no-store')
    assert.deepEqual(
      json.entries.map(({ action, feature, caller }: any) => [action, feature, caller]),
      ['removed', 'changed', 'changed', 'created'].map((action) => [
        action,
        id,
        { issuer: issuer.url, subject: 'watcher one' },
      ]),
    )
    const at = async (time: string) => get(`${items}/${id}/history/${time}`, 'watcher')
    assert.equal((await at(early)).status, 404)
    assert.match((await at(early)).json.detail, /There was no feature/)
    const version = await at(first)
    assert.equal(version.status, 200, version.text)
    assert.deepEqual([version.json.properties, version.json.geometry.coordinates], [{ size: 1 }, [10, 50]])
    assert.match(version.headers.get('memento-datetime')!, / GMT$/)
    assert.match(version.headers.get('link')!, /rel="original".*rel="timemap"/)
    const { links: _, ...last } = (await at(third)).json
    const { links: __, ...shown } = current
    assert.deepEqual(last, shown)
    assert.equal((await at(await now())).status, 404)
    // Each entry leads to the feature before and after it.
    const sizes = async (rel: string) =>
      Promise.all(
        json.entries.map(async ({ links }: any) => {
          const found = links.find((link: any) => link.rel === rel)
          return found && (await get(found.href, 'watcher')).json.properties.size
        }),
      )
    assert.deepEqual(await sizes('memento'), [undefined, 2, 2, 1])
    assert.deepEqual(await sizes('predecessor-version'), [2, 2, 1, undefined])
  }
})

test('a feature that was there before the audit began is known from its first change on', async () => {
  await session.query(
    "insert into history_plain values ('old', ST_Transform('SRID=4326;POINT(5 5)'::geometry, 3857), 7)",
  )
  const path = '/collections/history_plain/items/old'
  assert.equal((await get(`${path}/history`, 'watcher')).status, 404)
  const unknown = await get(`${path}/history/2020-01-01`, 'watcher')
  assert.deepEqual([unknown.status, unknown.json.code], [404, 'feature-not-found'])
  assert.match(unknown.json.detail, /has not kept what the feature "old" was/)
  await change('PATCH', path, { properties: { size: 8 } })
  assert.equal((await get(`${path}/history/2020-01-01`, 'watcher')).json.properties.size, 7)
})

test('ids alone have no versions', async () => {
  await change('POST', '/collections/history_ids/items', feature('a', 1, [1, 1]))
  const { json } = await get('/collections/history_ids/items/a/history', 'auditor')
  assert.deepEqual([json.entries.length, json.entries[0].links], [1, []])
  const version = await get(`/collections/history_ids/items/a/history/${json.entries[0].time}`, 'auditor')
  assert.equal(version.status, 404)
})

test('only those who may see the audit do, whatever else they may', async () => {
  const paths = ['audit', 'items/a/history', 'items/a/history/2100-01-01']
  for (const path of paths) {
    const of = (table: string, name?: keyof typeof ROLES) => get(`/collections/${table}/${path}`, name)
    assert.equal((await of('history_plain')).status, 401)
    for (const name of ['editor', 'auditor'] as const) {
      const { status, json, headers } = await of('history_plain', name)
      assert.deepEqual([status, json.code], [403, 'permission-missing'], `${name} ${path}`)
      assert.match(headers.get('www-authenticate')!, /scope="watchers"/)
    }
    assert.notEqual((await of('history_plain', 'watcher')).status, 403)
    assert.notEqual((await of('history_ids', 'auditor')).status, 403)
    assert.equal((await of('history_ids', 'watcher')).status, 403)
    // A collection that they may not read is not there.
    assert.deepEqual(
      [(await of('history_none', 'auditor')).status, (await of('history_nothing', 'auditor')).status],
      [404, 404],
    )
  }
  const keys = await Promise.all(
    [['tessera:audit'], undefined].map((roles) =>
      createApiKey(session, {
        name: 'k',
        canWrite: true,
        canManage: true,
        canGrant: true,
        collections: undefined,
        roles,
      }),
    ),
  )
  const withKey = (key: string, table: string) =>
    client(`/collections/${table}/audit`, { headers: { authorization: `Bearer ${key}` } })
  assert.equal((await withKey(keys[0]!, 'history_ids')).status, 200)
  assert.equal((await withKey(keys[0]!, 'history_plain')).status, 403)
  for (const table of ['history_ids', 'history_plain'])
    assert.equal((await withKey(keys[1]!, table)).status, 403)
  await session.query('delete from tessera.api_key')
  await sleep(1_100)
  // On its own machine, without keys and issuers, a gateway shows what no rule reserves for others.
  assert.equal((await open.client('/collections/history_ids/audit')).status, 200)
  assert.equal((await open.client('/collections/history_plain/audit')).status, 403)
})

test('entries of a collection are paged, by time and caller', async () => {
  for (let size = 0; size < 5; size++)
    await change('PUT', `/collections/history_plain/items/p${size}`, feature(`p${size}`, size, [1, 1]))
  const all = (await get('/collections/history_plain/audit?limit=1000', 'watcher')).json
  assert.ok(all.entries.length >= 5 && all.links.length === 1)
  const seen: any[] = []
  for (let next: string | undefined = '/collections/history_plain/audit?limit=2'; next; ) {
    const { json } = await get(next, 'watcher')
    assert.ok(json.entries.length <= 2)
    seen.push(...json.entries)
    next = json.links.find(({ rel }: any) => rel === 'next')?.href
  }
  assert.deepEqual(seen, all.entries)
  const times = seen.map(({ time }) => time)
  assert.deepEqual(times, times.toSorted().toReversed())
  const of = async (query: string) =>
    (await get(`/collections/history_plain/audit?limit=1000&${query}`, 'watcher')).json.entries.length
  assert.equal(await of('caller=watcher%20one'), seen.length)
  assert.equal(await of(`caller=${encodeURIComponent(`${issuer.url} watcher one`)}`), seen.length)
  assert.equal(await of('caller='), 0)
  assert.equal(await of(`datetime=${times[1]}/..`), 2)
  assert.equal(await of('datetime=../2020-01-01'), 0)
  for (const [query, parameter] of [
    ['limit=0', 'limit'],
    ['limit=1001', 'limit'],
    ['datetime=soon', 'datetime'],
    ['cursor=abc', 'cursor'],
    ['who=me', 'who'],
  ]) {
    const { status, json } = await get(`/collections/history_plain/audit?${query}`, 'watcher')
    assert.deepEqual([status, json.parameter], [400, parameter])
  }
  const wrong = await get('/collections/history_plain/items/a/history/yesterday', 'watcher')
  assert.deepEqual([wrong.status, wrong.json.parameter], [400, 'datetime'])
})
