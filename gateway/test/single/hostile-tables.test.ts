// Tests tables whose names, columns and values are made to break statements and pages, and roles that may not see all.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { openSession } from '../../database/session.ts'
import { openBrowser, openPage } from '../support/browser.ts'
import { testDatabase } from '../support/database.ts'
import { startGateway } from '../support/gateway.ts'

const { client, session, catalog, events } = await startGateway()
const SCRIPT = '<script>alert(1)</script><img src=x onerror=alert(1)>'
const TABLE = `we"ird'; drop table x;--`
const COLUMNS = [`a"b'c`, '$1', '<script>', 'limit', '__proto__', `x'; drop table x; --`, '{}', 'constructor']
const quote = (name: string) => `"${name.replaceAll('"', '""')}"`
await session.query(`
  create table x (id int primary key, geom geometry(Point, 4326));
  create table ${quote(TABLE)} (id text primary key, geom geometry(Point, 4326), j jsonb,
    ${COLUMNS.map((name) => `${quote(name)} text`).join(', ')});
  create table hidden (id int primary key, geom geometry(Point, 4326), shown text, secret text);
  insert into hidden values (1, 'srid=4326;point(1 2)', 'yes', 'topsecret'), (2, 'srid=4326;point(1 2)', 'yes', 'other');
  revoke select on hidden from tessera_read, tessera_write;
  grant select (id, geom, shown) on hidden to tessera_read, tessera_write;
  create view failing as select 1 as id, 'srid=4326;point(1 2)'::geometry(Point, 4326) as geom, 1 / (random() * 0)::int as n;
  grant select on failing to tessera_read`)
await session.query(
  `insert into ${quote(TABLE)} values ($1, 'srid=4326;point(10 50)', $2, ${COLUMNS.map((_, index) => `$${index + 3}`).join(', ')})`,
  [SCRIPT, JSON.stringify({ [SCRIPT]: SCRIPT }), ...COLUMNS.map(() => SCRIPT)],
)
await session.query(
  `insert into tessera.collection (schema_name, table_name, title, description, license, attribution)
     values ('public', $1, $2, $2, 'javascript:alert(1)', $2)`,
  [TABLE, SCRIPT],
)
await catalog.reload()
after(async () => {
  const owner = await openSession(testDatabase().ownerUrl, 'test')
  await owner.query(`drop view failing; drop table x, hidden, ${quote(TABLE)}`)
  await owner.query('delete from tessera.collection where table_name = $1', [TABLE])
  await owner.close()
})
const items = `/collections/${encodeURIComponent(TABLE)}/items`

test('hostile names of tables and columns are read, sorted by, paged and changed', async () => {
  for (const name of COLUMNS.filter((one) => one !== 'limit')) {
    const encoded = encodeURIComponent(name)
    const found = await client(`${items}?${encoded}=${encodeURIComponent(SCRIPT)}`)
    assert.deepEqual([found.status, found.json.numberReturned], [200, 1], name)
    for (const parameter of ['sortby', 'properties'])
      assert.equal((await client(`${items}?${parameter}=${encoded}`)).json.numberReturned, 1, name)
  }
  const item = `${items}/${encodeURIComponent(SCRIPT)}`
  for (const name of COLUMNS) {
    const value = `'; drop table x; -- $1 \\ ${name}`
    const answer = await client(item, {
      method: 'PATCH',
      headers: { 'content-type': 'application/merge-patch+json' },
      body: `{"properties":{${JSON.stringify(name)}:${JSON.stringify(value)}}}`,
    })
    assert.equal(answer.status, 200, answer.text)
    assert.equal(Object.getOwnPropertyDescriptor(answer.json.properties, name)!.value, value)
  }
  assert.equal((await client('/collections/x/items')).status, 200)
})

test('no script of the data runs in a page, and no link leads to one', async () => {
  await session.query(
    `update ${quote(TABLE)} set ${COLUMNS.map((name) => `${quote(name)} = $1`).join(', ')}`,
    [SCRIPT],
  )
  const browser = await openBrowser()
  const { page, faults } = await openPage(browser, client.url)
  page.on('dialog', (dialog) => {
    faults.push('a script has run')
    void dialog.dismiss()
  })
  for (const path of [
    '/collections',
    `/collections/${encodeURIComponent(TABLE)}`,
    items,
    `${items}/${encodeURIComponent(SCRIPT)}`,
    `/collections/${encodeURIComponent(SCRIPT)}`,
    `${items}?sortby=${encodeURIComponent(SCRIPT)}`,
  ]) {
    const response = await page.goto(`${path}${path.includes('?') ? '&' : '?'}f=html`)
    assert.match(
      response!.headers()['content-security-policy']!,
      /default-src 'none'.*frame-ancestors 'none'/,
    )
    assert.doesNotMatch(await response!.text(), /<script>alert|<img src=x|href="javascript:/, path)
  }
  assert.deepEqual(faults, [])
})

test('a column that the role may not read is nowhere in a response, and cannot be asked about', async () => {
  for (const query of ['', '?sortby=shown', '?f=html']) {
    const { status, text } = await client(`/collections/hidden/items${query}`)
    assert.equal(status, 200)
    assert.doesNotMatch(text, /secret/, query)
  }
  for (const query of ['sortby=secret', 'sortby=-secret', 'properties=secret', 'secret=topsecret'])
    assert.equal((await client(`/collections/hidden/items?${query}`)).status, 400, query)
  const { headers } = await client('/collections/hidden/items/1')
  await session.query("update hidden set secret = 'changed' where id = 1")
  assert.equal((await client('/collections/hidden/items/1')).headers.get('etag'), headers.get('etag'))
  const cursor = Buffer.from('["secret,id","a","1"]').toString('base64url')
  assert.equal((await client(`/collections/hidden/items?cursor=${cursor}`)).status, 400)
})

test('a bug tells its caller the id of the request, and nothing of the statement', async () => {
  const { status, text, json, headers } = await client('/collections/failing/items')
  assert.equal(status, 500)
  assert.deepEqual(Object.keys(json).sort(), ['code', 'detail', 'requestId', 'status', 'title', 'type'])
  assert.doesNotMatch(text, /zero|select|failing"|\.ts|at /i)
  assert.equal(headers.get('cache-control'), 'no-store')
  assert.ok(events.some((event) => event.type === 'request-failed' && event.id === json.requestId))
})
