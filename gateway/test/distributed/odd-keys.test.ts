// Tests features with odd ids, and pages that end at odd values: each id that is listed is found, and each next link works.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { followPages, type Page } from '../support/client.ts'
import { distributeById } from '../support/distribute.ts'
import { startGateway } from '../support/gateway.ts'

const { client, session, catalog } = await startGateway()

/** Type of a key → its values in SQL, in their order. */
const KEYS: Record<string, readonly string[]> = {
  float8: [`'-Infinity'`, '-1.5', '1e-300', '1e300', `'Infinity'`, `'NaN'`],
  float4: ['1.1', `'NaN'`],
  numeric: [`'-Infinity'`, '1e-120', '1.5', '1e130', `repeat('9', 900)::numeric`, `'NaN'`],
  date: [`'-infinity'`, `'0044-03-15 BC'`, `'2024-02-29'`, `'12020-01-01'`, `'infinity'`],
  timestamp: [
    `'-infinity'`,
    `'0044-03-15 12:00 BC'`,
    `'2024-02-29 12:34:56.789'`,
    `'12020-01-01 00:00'`,
    `'infinity'`,
  ],
  timestamptz: [
    `'-infinity'`,
    `'0044-03-15 12:00+00 BC'`,
    `'2024-02-29 12:34+00'`,
    `'12020-01-01 00:00+00'`,
    `'infinity'`,
  ],
  bool: ['false', 'true'],
  time: [`'00:00'`, `'24:00'`],
  text: [`repeat('a/ü', 300)`, `repeat('x', 2600)`],
}
const tables = Object.keys(KEYS).map((type) => `key_${type}`)
for (const [type, values] of Object.entries(KEYS)) {
  await session.query(`create table key_${type} (id ${type} primary key, n int, geom geometry(Point, 4326))`)
  await session.query(
    `insert into key_${type} values ${values.map((value, index) => `(${value}, ${index}, null)`).join(', ')}`,
  )
}
await catalog.reload()

const allOf = async (path: string) => {
  const pages: Page[] = []
  for await (const page of followPages(client, path)) {
    assert.ok(page.features, `${path}: ${JSON.stringify(page).slice(0, 300)}`)
    pages.push(page)
  }
  return pages.flatMap(({ features }) => features)
}

for (const [at, type] of Object.keys(KEYS).entries())
  test(`features with odd ids of the type ${type} are paged, found, and changed`, async () => {
    const path = `/collections/${tables[at]}/items`
    const features = await allOf(`${path}?limit=1`)
    assert.deepEqual(
      features.map(({ properties }) => properties!.n),
      KEYS[type]!.map((_, index) => index),
    )
    // The text of the answer, because a JavaScript number would lose digits.
    const { text } = await client(`${path}?limit=100`)
    const ids = [...text.matchAll(/"id":(?:"((?:[^"\\]|\\.)*)"|([^,]+)),"geometry"/g)].map(
      ([, word, number]) => word ?? number!,
    )
    assert.equal(ids.length, KEYS[type]!.length)
    for (const [index, id] of ids.entries()) {
      const found = await client(`${path}/${encodeURIComponent(id)}`)
      assert.equal(found.status, 200, `${id}: ${found.text}`)
      assert.equal(found.json.properties.n, index)
      const put = await client(`${path}/${encodeURIComponent(id)}`, {
        method: 'PUT',
        headers: { 'content-type': 'application/geo+json' },
        body: found.text,
      })
      assert.equal(put.status, 200, `${id}: ${put.text}`)
    }
  })

await session.query(`
  create table sorted_oddly (id int primary key, t text, n numeric, f float8, d date, "-n" numeric, geom geometry(Point, 4326));
  insert into sorted_oddly select i, case when i = 6 then null else repeat(chr(200 + i % 3), 22400) || i end,
    case i when 1 then 1e-120 when 2 then 1e130 when 3 then repeat('9', 3000)::numeric when 4 then 'NaN' else i end,
    case i when 1 then 'NaN' when 2 then 'Infinity' when 3 then '-Infinity' else i::float8 end,
    case i when 1 then 'infinity' when 2 then '-infinity' when 3 then '0044-03-15 BC' else '2024-01-01' end::date, -i
    from generate_series(1, 7) i`)
await distributeById(session, 'sorted_oddly')
await catalog.reload()
const SORTED = '/collections/sorted_oddly/items?properties=d'

test('next links work after values of any length and kind', async () => {
  for (const column of ['t', 'n', 'f', 'd'])
    for (const direction of ['', '-'])
      for (const more of ['', ',n']) {
        const sortby = `${direction}${column}${column === 'n' ? '' : more}`
        const { json } = await client(`${SORTED}&limit=100&sortby=${sortby}`)
        const wanted = (json as Page).features.map(({ id }) => id)
        const paged = await allOf(`${SORTED}&limit=1&sortby=${sortby}`)
        assert.deepEqual(
          paged.map(({ id }) => id),
          wanted,
          sortby,
        )
      }
})

const nextOf = (page: Page) => page.links.find(({ rel }) => rel === 'next')!.href

test('a next link leaves nothing out after its row was removed or changed', async () => {
  for (const [direction, change] of [
    ['', `delete from sorted_oddly where id = `],
    ['-', `update sorted_oddly set t = 'short' where id = `],
  ] as const) {
    const before = (await client(`${SORTED}&limit=100&sortby=${direction}t`)).json as Page
    const ids = before.features.map(({ id }) => id as number)
    const first = (await client(`${SORTED}&limit=2&sortby=${direction}t`)).json as Page
    await session.query(`${change}${ids[1]}`)
    const rest = await allOf(`${nextOf(first)}`)
    const found = new Set(rest.map(({ id }) => id))
    for (const id of ids.slice(2)) assert.ok(found.has(id), `${direction} ${id}`)
  }
})

test('a cursor with a shortened value is checked like any other', async () => {
  const forge = (...values: unknown[]) =>
    client(
      `${SORTED}&sortby=n&cursor=${Buffer.from(JSON.stringify(['"n","id"', ...values])).toString('base64url')}`,
    )
  assert.equal((await forge('1', '2')).status, 200)
  for (const values of [
    [['x'], '2'],
    ['1', ['2']],
    [['1', '2'], '2'],
    [[], '2'],
    [{ beginning: '1' }, '2'],
  ])
    assert.equal((await forge(...values)).status, 400, JSON.stringify(values))
  assert.match((await forge(['12'], '99')).json.detail, /has changed or was removed/)
})

test('ascending by a name that begins with - is not descending by the rest of it', async () => {
  const idsBy = async (sortby: string) =>
    ((await client(`${SORTED}&limit=2&sortby=${sortby}`)).json as Page).features.map(({ id }) => id)
  assert.deepEqual(await idsBy('%2B-n'), [7, 6])
  assert.notDeepEqual(await idsBy('-n'), [7, 6])
  assert.deepEqual(await idsBy('%2B-n'), [7, 6])
  const page = (await client(`${SORTED}&limit=2&sortby=-n`)).json as Page
  const cursor = new URL(nextOf(page)).searchParams.get('cursor')
  assert.equal((await client(`${SORTED}&limit=2&sortby=%2B-n&cursor=${cursor}`)).status, 400)
})
