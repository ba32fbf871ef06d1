// Tests which features a query returns, compared with direct queries of PostGIS.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { openDatabase } from '../../database/database.ts'
import { compileLookup } from '../../features/query/lookup-statement.ts'
import { followPages, type Page } from '../support/client.ts'
import { testDatabase } from '../support/database.ts'
import { startGateway } from '../support/gateway.ts'
import { makeRandom } from '../support/random.ts'

const { client, session, catalog } = await startGateway()
/** Has one connection, so that its prepared statements can be inspected. */
const single = openDatabase({ ...testDatabase(), poolSize: 1, statementTimeoutMs: 5_000, emit() {} })
after(() => single.close())
const ask = async (path: string) => (await client(`/collections/${path}`)).json as Page
const idsOf = ({ features }: Page) => features.map(({ id }) => id)
const idsIn = async (sql: string) => (await session.query<{ id: string }>(sql)).map(({ id }) => Number(id))

before(async () => {
  await session.query(`
    create table places (
      id int primary key, geom geometry(PointZ, 4326), name text, height float8, seen timestamptz, opened date,
      is_open boolean not null, code uuid, tags jsonb, small int2);
    insert into places select
      i, case when i % 50 = 0 then null else st_setsrid(st_makepoint((i * 37 % 360) - 180, (i * 13 % 181) - 90, i), 4326) end,
      case when i % 7 = 0 then null else 'name ' || (i % 10) end, case when i % 5 = 0 then null else (i % 20) / 3.0 end,
      timestamptz '2020-01-01T00:00:00Z' + i * interval '1 hour', date '2020-01-01' + i, i % 2 = 0,
      ('00000000-0000-0000-0000-' || lpad(i::text, 12, '0'))::uuid, '{"a":1}', i
    from generate_series(1, 500) i;
    analyze places`)
  await catalog.reload()
})

test('concurrent look-ups return the same as single ones, also for features that do not exist', async () => {
  const ids = [1, 2, 3, 3, 4, 7, 999_999, 50, 99, -1]
  const get = async (id: number) => {
    const { status, json } = await client(`/collections/places/items/${id}`)
    return { status, id: json.id, name: (json.properties as { name?: string } | undefined)?.name }
  }
  const alone = []
  for (const id of ids) alone.push(await get(id))
  assert.deepEqual(await Promise.all(ids.map(get)), alone)
  assert.deepEqual(
    alone.map(({ status }) => status),
    ids.map((id) => (id < 1 || id > 500 ? 404 : 200)),
  )
})

test('a look-up is planned five times, and then uses a generic plan', async () => {
  const collection = catalog.get('places')
  for (let id = 1; id <= 20; id++) await single.read(compileLookup(collection, [String(id)]))
  const { name } = compileLookup(collection, ['1'])
  const [row] = await single.read({
    text: 'select custom_plans, generic_plans from pg_prepared_statements where name = $1',
    values: [name],
  })
  assert.deepEqual(row, ['5', '15'])
})

test('/req/core/fc-limit-definition, /req/core/fc-limit-response-1: limit bounds the page, and a limit above the maximum counts as the maximum', async () => {
  assert.equal((await ask('cities/items?limit=3')).numberReturned, 3)
  assert.equal((await ask('cities/items?limit=20000')).numberReturned, 10_000)
  for (const limit of ['0', '-1', 'abc', '1.5', '']) {
    assert.equal((await client(`/collections/cities/items?limit=${limit}`)).json.parameter, 'limit')
  }
})

test('/req/core/fc-bbox-definition, /req/core/fc-bbox-response: bbox returns the features that intersect it, for random boxes anywhere', async () => {
  const number = makeRandom(7)
  const random = (from: number, to: number) => Math.round((from + number() * (to - from)) * 1000) / 1000
  for (let round = 0; round < 40; round++) {
    const [west, east] = [random(-180, 180), random(-180, 180)]
    const south = random(-90, 80)
    const north = random(south, 90)
    const boxes =
      west <= east
        ? [[west, east]]
        : [
            [west, 180],
            [-180, east],
          ]
    const condition = (column: string) =>
      boxes
        .map(
          ([from, to]) =>
            `st_intersects(${column}, st_makeenvelope(${from}, ${south}, ${to}, ${north}, 4326))`,
        )
        .join(' or ')
    for (const table of ['places', 'countries']) {
      const page = await ask(`${table}/items?limit=1000&bbox=${west},${south},${east},${north}`)
      const expected = await idsIn(`select id from ${table} where ${condition('geom')} order by id`)
      // Pages of a box go through it quadrant by quadrant, and not in the order of the ids.
      const found = idsOf(page).toSorted((a, b) => Number(a) - Number(b))
      assert.deepEqual(found, expected, `${table} ${west},${south},${east},${north}`)
      assert.equal(page.numberMatched, expected.length)
    }
  }
})

test('bbox may be a point, a line, a pole or the world', async () => {
  const [{ x, y }] = (await session.query<{ x: number; y: number }>(
    'select st_x(geom) x, st_y(geom) y from places where id = 1',
  )) as [{ x: number; y: number }]
  assert.ok(idsOf(await ask(`places/items?bbox=${x},${y},${x},${y}`)).includes(1))
  assert.ok(idsOf(await ask(`places/items?limit=500&bbox=${x},-90,${x},90`)).includes(1))
  assert.deepEqual(
    idsOf(await ask('places/items?limit=500&bbox=-180,90,180,90')),
    await idsIn('select id from places where st_y(geom) = 90 order by id'),
  )
  assert.equal((await ask('places/items?limit=1000&bbox=-180,-90,180,90')).numberReturned, 490)
})

test('bbox with six numbers bounds the heights', async () => {
  assert.deepEqual(
    idsOf(await ask('places/items?limit=500&bbox=-180,-90,100,180,90,110')),
    [101, 102, 103, 104, 105, 106, 107, 108, 109, 110],
  )
  // A geometry without heights matches every range of heights.
  assert.equal((await ask('countries/items?limit=300&bbox=-180,-90,100,180,90,110')).numberReturned, 241)
})

test('/req/core/fc-time-definition, /req/core/fc-time-response: datetime filters by the first temporal column', async () => {
  const matching = async (datetime: string) => idsOf(await ask(`places/items?limit=500&datetime=${datetime}`))
  assert.deepEqual(await matching('2020-01-01T05:00:00Z'), [5])
  assert.deepEqual(await matching('2020-01-01T06:00:00%2B01:00'), [5])
  assert.deepEqual(await matching('2020-01-01T05:00:00Z/2020-01-01T07:30:00Z'), [5, 6, 7])
  assert.equal((await matching('2020-01-01')).length, 23)
  assert.equal((await matching('../2020-01-01T02:00:00Z')).length, 2)
  assert.equal((await matching('2020-01-21T00:00:00Z/..')).length, 21)
  assert.equal((await matching('../..')).length, 500)
  const { json } = await client('/collections/places')
  assert.deepEqual(json.extent.temporal.interval, [['2020-01-01T01:00:00Z', '2020-01-21T20:00:00Z']])
})

test('datetime can filter by a date, if tessera.collection names that column', async () => {
  await session.query(
    `insert into tessera.collection (schema_name, table_name, temporal_column) values ('public', 'places', 'opened')`,
  )
  await catalog.reload()
  assert.deepEqual(idsOf(await ask('places/items?datetime=2020-01-06')), [5])
  assert.deepEqual(
    idsOf(await ask('places/items?datetime=2020-01-06T10:00:00Z/2020-01-07T01:00:00Z')),
    [5, 6],
  )
  await session.query(`delete from tessera.collection where table_name = 'places'`)
  await catalog.reload()
})

test('every property can be a filter parameter', async () => {
  const count = async (query: string) => (await ask(`places/items?limit=500&${query}`)).numberMatched
  assert.equal(await count('name=name%203'), 43)
  assert.equal(await count('is_open=true'), 250)
  assert.equal(await count('small=7'), 1)
  assert.equal(await count('id=7'), 1)
  assert.equal(await count('code=00000000-0000-0000-0000-000000000007'), 1)
  assert.equal(await count('opened=2020-01-08'), 1)
  assert.equal(await count('seen=2020-01-01T07:00:00Z'), 1)
  assert.equal(await count('height=1'), (await idsIn('select id from places where height = 1')).length)
  assert.equal(
    await count('is_open=true&name=name%202&bbox=-180,0,180,90'),
    (await idsIn(`select id from places where is_open and name = 'name 2' and st_y(geom) >= 0`)).length,
  )
  for (const wrong of [
    'small=70000',
    'is_open=maybe',
    'opened=2020-13-01',
    'code=1',
    'height=nan',
    'name=a&name=b',
  ]) {
    const { status, json } = await client(`/collections/places/items?${wrong}`)
    assert.deepEqual([status, json.parameter], [400, wrong.split('=')[0]], wrong)
  }
})

test('the parameter properties selects properties, and others are left out', async () => {
  const [feature] = (await ask('places/items?limit=1&properties=height,name')).features
  assert.deepEqual(Object.keys(feature!.properties!), ['height', 'name'])
  assert.deepEqual((await ask('places/items?limit=1&properties=')).features[0]!.properties, {})
  assert.equal((await client('/collections/places/items?properties=nothing')).json.parameter, 'properties')
})

for (const sortby of ['', 'name', '-name', 'height,-name', '-height,name,-id', '-seen', 'is_open,height']) {
  test(`pages sorted by "${sortby}" have every feature once, in order`, async () => {
    const sorted = sortby
      .split(',')
      .filter(Boolean)
      .map((name) => name.replace(/^-(.*)/, '$1 desc') + ' nulls last')
    const expected = await idsIn(
      `select id from places order by ${[...sorted, ...(sortby.includes('id,') || /(^|,)-?id$/.test(sortby) ? [] : ['id'])].join(', ')}`,
    )
    for (const [limit, paging] of [
      [7, ''],
      [120, ''],
      [60, '&offset=0'],
    ] as const) {
      const ids = []
      for await (const page of followPages(
        client,
        `/collections/places/items?limit=${limit}&sortby=${sortby}${paging}`,
      ))
        ids.push(...idsOf(page))
      assert.deepEqual(ids, expected, `limit ${limit}`)
    }
  })
}

test('skipGeometry leaves out geometries, on every page, and takes true or false', async () => {
  for (const limit of [2, 2_000]) {
    const page = await ask(`places/items?skipGeometry=true&limit=${limit}&bbox=-180,-90,180,90`)
    assert.ok(page.features.every(({ geometry }) => geometry === null))
    assert.notEqual(page.features[0]!.properties!.name, undefined)
    const next = page.links.find(({ rel }) => rel === 'next')
    if (limit > 2) assert.equal(next, undefined)
    else assert.equal(((await client(next!.href)).json as Page).features[0]!.geometry, null)
  }
  assert.notEqual((await ask('places/items?skipGeometry=false')).features[0]!.geometry, null)
  const { status, json } = await client('/collections/places/items?skipGeometry=yes')
  assert.deepEqual([status, json.parameter], [400, 'skipGeometry'])
  assert.match(String(json.detail), /skipGeometry must be true or false/)
})

test('pages skip and repeat no feature while others are added and removed', async () => {
  await session.query(
    `create table busy as select i as id, st_setsrid(st_makepoint(0, 0), 4326) geom from generate_series(1, 1000) i; alter table busy add primary key (id)`,
  )
  await catalog.reload()
  const seen: number[] = []
  let round = 0
  for await (const page of followPages(client, '/collections/busy/items?limit=50')) {
    seen.push(...(idsOf(page) as number[]))
    // On pages already read some features are removed and some added, so an offset would skip or repeat features.
    await session.query('delete from busy where id between $1 and $2', [round * 50 + 1, round * 50 + 20])
    await session.query('insert into busy select -$1::int, st_setsrid(st_makepoint(0, 0), 4326)', [
      round++ + 1,
    ])
  }
  assert.deepEqual(
    seen,
    Array.from({ length: 1000 }, (_, index) => index + 1),
  )
})

test('pages of a property have each feature once while others are added and removed, from a first page in any order', async () => {
  await session.query(
    `create table sorts as select i as id, case when i % 3 = 0 then 'even & odd' else 'rest' end as sort,
       st_setsrid(st_makepoint(0, 0), 4326) as geom from generate_series(1, 3000) as i order by hashint4(i);
     alter table sorts add primary key (id); create index on sorts (sort); analyze sorts`,
  )
  await catalog.reload()
  for (const query of ['sort=even+%26+odd', "filter=sort='even %26 odd'"]) {
    const seen: number[] = []
    let round = 0
    for await (const page of followPages(client, `/collections/sorts/items?limit=40&${query}`)) {
      seen.push(...(idsOf(page) as number[]))
      round++
      // Multiples of six stay; others go, and come again under other ids, before and after those that were shown.
      await session.query(`delete from sorts where id % 6 = 3 and id % 17 = $1::int % 17`, [round])
      await session.query(
        `insert into sorts select sign * (i * 100 + $1::int) * 6 + 3, 'even & odd', st_setsrid(st_makepoint(0, 0), 4326)
           from generate_series(1, 3) as i, (values (-1), (1)) as signs (sign) on conflict do nothing`,
        [round],
      )
      if (round > 100) break
    }
    assert.equal(new Set(seen).size, seen.length, `${query} shows none twice`)
    const stayed = Array.from({ length: 500 }, (_, index) => (index + 1) * 6)
    assert.deepEqual(
      stayed.filter((id) => !seen.includes(id)),
      [],
      query,
    )
  }
})

test('a next link has the limit as a parameter that can be changed; it is not part of the cursor', async () => {
  const { links } = await ask('countries/items?limit=3')
  const next = new URL(links.find(({ rel }) => rel === 'next')!.href)
  next.searchParams.set('limit', '5')
  assert.deepEqual(idsOf((await client(next.href)).json), [4, 5, 6, 7, 8])
})

test('the offset has a maximum', async () => {
  const expected = await session.query<{ id: string }>(
    'select id from cities order by id offset 100000 limit 2',
  )
  assert.deepEqual(
    idsOf(await ask('cities/items?limit=2&offset=100000')),
    expected.map(({ id }) => id),
  )
  const { status, json } = await client('/collections/cities/items?offset=100001')
  assert.deepEqual([status, json.parameter], [400, 'offset'])
})

test('/req/core/fc-numberMatched: numberMatched is exact if it is cheap to count, and otherwise left out', async () => {
  assert.equal((await ask('countries/items?limit=5')).numberMatched, 241)
  assert.equal((await ask('countries/items?limit=500')).numberMatched, 241)
  assert.equal((await ask('cities/items?limit=5')).numberMatched, undefined)
  assert.equal(
    (await ask('cities/items?limit=5&country=AD')).numberMatched,
    (await idsIn(`select id from cities where country = 'AD'`)).length,
  )
  assert.equal((await ask('cities/items?limit=5&country=DE')).numberMatched, undefined)
  assert.equal((await ask('cities/items?country=XX')).numberMatched, 0)
})

test('a large page has the same features as the small pages that it consists of', async () => {
  const large = await ask('counties/items?limit=1000')
  const small = []
  for await (const page of followPages(client, '/collections/counties/items?limit=100')) {
    small.push(...page.features)
    if (small.length === 1000) break
  }
  assert.deepEqual(large.features, small)
  assert.ok(large.links.some(({ rel }) => rel === 'next'))
  assert.equal((await ask('counties/items?limit=10000')).numberMatched, 3231)
})

test('pages without features and features without a geometry are valid JSON', async () => {
  assert.deepEqual((await ask('cities/items?bbox=0,-1,0,-1')).features, [])
  assert.deepEqual((await ask('cities/items?limit=5000&bbox=0,-1,0,-1')).features, [])
  assert.equal((await ask('places/items?id=50')).features[0]!.geometry, null)
})
