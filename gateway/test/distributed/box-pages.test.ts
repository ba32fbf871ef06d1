// Tests pages of boxes: they have each feature once, whatever changes meanwhile, and read a bounded number of rows.

import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { after, before, test } from 'node:test'
import { openDatabase } from '../../database/database.ts'
import { geojson } from '../../features/formats/geojson.ts'
import { importFeatures } from '../../features/import/import.ts'
import { openSource } from '../../features/import/import-source.ts'
import { geojsonSeq } from '../../features/import/sources/geojson-seq.ts'
import { type ItemParameters, planItems } from '../../features/query/item-query.ts'
import { compilePage } from '../../features/query/page.ts'
import { followPages, type Page } from '../support/client.ts'
import { testDatabase } from '../support/database.ts'
import { startGateway } from '../support/gateway.ts'
import { makeRandom } from '../support/random.ts'

const { client, session, catalog } = await startGateway()
const single = openDatabase({ ...testDatabase(), poolSize: 1, statementTimeoutMs: 30_000, emit() {} })
after(() => single.close())

/** Names of a table's key, the name by which a feature is known, and its geometry in degrees. */
type Table = { readonly name: string; readonly rows: string; readonly key: string; readonly degrees: string }

const place = (x: string, y: string) => `st_setsrid(st_makepoint(${x}, ${y}), 4326)`
/** Points that are close together in a few towns, some of them at the very same place. */
const towns = `(i % 7) * 3 + case when i % 5 = 0 then 0 else power(random(), 4) end, 40 + (i % 3) + case when i % 5 = 0 then 0 else power(random(), 4) end`
const [townX, townY] = towns.split(', 40 + ') as [string, string]
const town = place(townX, `40 + ${townY}`)
/** Squares from some metres to a continent. */
const square = `st_makeenvelope(x - size, greatest(-90, y - size), x + size, least(90, y + size), 4326)`
const squares = `(select i, random() * 20 as x, 40 + random() * 4 as y, 10 ^ (random() * 5 - 4) as size from generate_series(1, 1500) as i) as drawn`

const tables: readonly Table[] = [
  {
    name: 'crowd',
    rows: `select i as id, i as n, ${town} as geom from generate_series(1, 3000) as i`,
    key: 'id',
    degrees: 'geom',
  },
  {
    name: 'crowd_of_shapes',
    rows: `select 'shape ' || i as id, i as n, ${square} as geom from ${squares}`,
    key: 'id',
    degrees: 'geom',
  },
  {
    name: 'crowd_without_key',
    rows: `select i as n, ${town} as geom from generate_series(1, 1500) as i`,
    key: '',
    degrees: 'geom',
  },
  {
    name: 'crowd_of_pairs',
    rows: `select i % 13 as part, i as n, ${town} as geom from generate_series(1, 1500) as i`,
    key: 'part, n',
    degrees: 'geom',
  },
  {
    name: 'crowd_in_metres',
    rows: `select i as id, i as n, st_transform(${town}, 3857) as geom from generate_series(1, 1500) as i`,
    key: 'id',
    degrees: 'st_transform(geom, 4326)',
  },
  {
    name: 'crowd_at_antimeridian',
    rows: `select i as id, i as n, ${place('180 - 360 * (i % 2) + (random() - 0.5 + (i % 2) - 0.5) * 0.2', 'random()')} as geom from generate_series(1, 1500) as i`,
    key: 'id',
    degrees: 'geom',
  },
]
const inDegrees = ({ name }: Table) => (name === 'crowd_in_metres' ? 3857 : 4326)

before(async () => {
  await session.query('select setseed(0.25)')
  for (const table of tables) {
    const { name, rows, key } = table
    await session.query(`create table ${name} as ${rows}`)
    const type = name === 'crowd_of_shapes' ? 'Polygon' : 'Point'
    await session.query(
      `alter table ${name} alter geom type geometry(${type}, ${inDegrees(table)})${key ? `, add primary key (${key})` : ''}`,
    )
    await session.query(`create index on ${name} using gist (geom)`)
    await session.query(`analyze ${name}`)
  }
  await catalog.reload()
})

const numberOf = ({ properties }: Page['features'][0]) => (properties as { n: number }).n

/** Returns n of the features that meet a box. */
async function matching({ name, degrees }: Table, [west, south, east, north]: readonly number[]) {
  const ranges =
    west! <= east!
      ? [[west, east]]
      : [
          [west, 180],
          [-180, east],
        ] // prettier-ignore
  const meets = ranges
    .map(
      ([from, to]) => `st_intersects(${degrees}, st_makeenvelope(${from}, ${south}, ${to}, ${north}, 4326))`,
    )
    .join(' or ')
  const rows = await session.query<{ n: number }>(`select n from ${name} where ${meets} order by n`)
  return rows.map(({ n }) => n)
}

const random = makeRandom(11)
/** Draws a box over the towns, or over the antimeridian; some have no width. */
function drawBox({ name }: Table): number[] {
  if (name === 'crowd_at_antimeridian')
    return [179.8 + random() * 0.15, -1, -179.99 + random() * 0.2, random()]
  const west = Math.round(random() * 20 * 1000) / 1000 - 1
  const south = 39 + random() * 2
  const [width, height] = [random() < 0.1 ? 0 : 10 ** (random() * 2 - 0.7), 10 ** (random() - 0.5)]
  // Towns begin at whole degrees, where many features are at one point.
  const isWhole = random() < 0.3
  return isWhole
    ? [Math.round(west), Math.round(south), Math.round(west) + Math.ceil(width), Math.round(south) + 1]
    : [west, south, west + width, Math.min(90, south + height)]
}

for (const table of tables) {
  test(`pages of boxes in ${table.name} have each feature once, for any box and limit`, async () => {
    let crowded = 0
    for (let round = 0; round < 10; round++) {
      const bbox = drawBox(table)
      const limit = Math.ceil(10 ** (0.7 + random() * 2))
      const seen: number[] = []
      for await (const page of followPages(
        client,
        `/collections/${table.name}/items?limit=${limit}&bbox=${bbox}`,
      )) {
        seen.push(...page.features.map(numberOf))
        assert.ok(page.numberReturned <= limit)
        if (page.links.some(({ rel }) => rel === 'next')) assert.equal(page.numberReturned, limit)
        if (page.numberMatched !== undefined)
          assert.equal(page.numberMatched, (await matching(table, bbox)).length)
      }
      if (seen.length > limit) crowded++
      assert.deepEqual(
        seen.toSorted((a, b) => a - b),
        await matching(table, bbox),
        `limit ${limit}, bbox ${bbox}`,
      )
    }
    assert.ok(crowded > 0, 'the boxes held more than a page')
  })

  test(`pages of boxes in ${table.name} repeat and skip no feature while others come and go`, async () => {
    const [box] = table.name === 'crowd_at_antimeridian' ? [[179, -1, -179, 2]] : [[-1, 39, 20, 45]]
    const ofKey = table.key.split(', ').filter(Boolean)
    const copied = ofKey.includes('part') ? 'part, ' : ''
    const id =
      ofKey[0] !== 'id'
        ? ''
        : table.name === 'crowd_of_shapes'
          ? `'new ' || (n + $1::int), `
          : 'n + $1::int, '
    const columns = `${copied}${id ? 'id, ' : ''}n, geom`
    let copies = 0
    for (const limit of [20, 100, 300]) {
      // Rows with even numbers stay; others go, and copies of them come.
      const expected = (await matching(table, box!)).filter((n) => n % 2 === 0)
      const seen: number[] = []
      let round = 0
      for await (const page of followPages(
        client,
        `/collections/${table.name}/items?limit=${limit}&bbox=${box}`,
      )) {
        seen.push(...page.features.map(numberOf))
        round++
        if (round > 10) continue
        // A row of a table without a key may take the place of one that was removed, by which it is known.
        if (table.key)
          await session.query(
            `delete from ${table.name} where n % 2 = 1 and n % 20 = 1 + 2 * ($1::int % 10)`,
            [round],
          )
        await session.query(
          `insert into ${table.name} (${columns}) select ${copied}${id}n + $1::int, geom from ${table.name}
             where n < 10000 and n % 40 = 1 + 2 * (($1::int / 10000) % 20)`,
          [10_000 * ++copies],
        )
      }
      assert.equal(new Set(seen).size, seen.length, `limit ${limit} shows none twice`)
      const missing = expected.filter((n) => !seen.includes(n))
      assert.deepEqual(missing, [], `limit ${limit}`)
    }
  })
}

test('conditions of a filter and of properties hold on every page of a box', async () => {
  const filter = 'S_INTERSECTS(geom, POLYGON((0 40, 10 40, 10 43, 0 43, 0 40))) AND n > 100'
  for (const query of [
    `filter=${encodeURIComponent(filter)}`,
    `filter=${encodeURIComponent('n > 100')}&bbox=0,40,10,43`,
  ]) {
    const seen: number[] = []
    for await (const page of followPages(client, `/collections/crowd/items?limit=50&${query}`))
      seen.push(...page.features.map(numberOf))
    const expected = (await matching(tables[0]!, [0, 40, 10, 43])).filter((n) => n > 100)
    assert.ok(expected.length > 100)
    assert.deepEqual(
      seen.toSorted((a, b) => a - b),
      expected,
    )
  }
})

test('sorted pages and pages by offset of a box keep their order', async () => {
  const expected = await matching(tables[0]!, [0, 40, 10, 43])
  for (const [query, order] of [
    ['sortby=-n', expected.toReversed()],
    ['offset=0', expected],
  ] as const) {
    const seen: number[] = []
    for await (const page of followPages(
      client,
      `/collections/crowd/items?limit=70&bbox=0,40,10,43&${query}`,
    ))
      seen.push(...page.features.map(numberOf))
    assert.deepEqual(seen, order, query)
  }
})

test('a link to the next page takes another limit, and a cursor of quadrants is checked', async () => {
  const first = (await client('/collections/crowd/items?limit=10&bbox=-1,39,20,45')).json as Page
  const seen = first.features.map(numberOf)
  let links = first.links
  for (let round = 0; ; round++) {
    const link = links.find(({ rel }) => rel === 'next')
    if (!link) break
    const next = new URL(link.href)
    next.searchParams.set('limit', ['1', '300', '7', '2000', '100'][round % 5]!)
    const { status, json } = await client(next.href)
    assert.equal(status, 200, json.detail)
    seen.push(...(json as Page).features.map(numberOf))
    links = (json as Page).links
  }
  assert.deepEqual(
    seen.toSorted((a, b) => a - b),
    await matching(tables[0]!, [-1, 39, 20, 45]),
  )
  const cursor = (parts: unknown[]) => Buffer.from(JSON.stringify(parts)).toString('base64url')
  for (const wrong of [
    cursor(['quadrants "id"', 'z', [], '7']),
    cursor(['quadrants "id"', 'a4', [], '7']),
    cursor(['quadrants "id"', `a${'0'.repeat(60)}`, [], '7']),
    cursor(['quadrants "id"', 'a1', []]),
    cursor(['quadrants "id"', 'a', ['x']]),
    cursor(['quadrants "id"', 'a', '7']),
    cursor(['quadrants "id"', 'a', Array(1000).fill('7')]),
    cursor(['quadrants "id"']),
  ]) {
    const { status, json } = await client(`/collections/crowd/items?bbox=-1,39,20,45&cursor=${wrong}`)
    assert.deepEqual([status, json.parameter], [400, 'cursor'], wrong)
  }
  // A position in quadrants means nothing without the box.
  const { status } = await client(
    `/collections/crowd/items?cursor=${cursor(['quadrants "id"', 'a1', [], '7'])}`,
  )
  assert.equal(status, 400)
})

test('keys that are too long for a link do without them', async () => {
  await session.query(
    `create table crowd_of_long_keys as select repeat('x', 200) || i as id, i as n, ${town} as geom from generate_series(1, 400) as i`,
  )
  await session.query(
    'alter table crowd_of_long_keys alter geom type geometry(Point, 4326), add primary key (id); create index on crowd_of_long_keys using gist (geom)',
  )
  await catalog.reload()
  const seen: number[] = []
  for await (const page of followPages(
    client,
    '/collections/crowd_of_long_keys/items?limit=100&bbox=-1,39,20,45',
  )) {
    seen.push(...page.features.map(numberOf))
    const next = page.links.find(({ rel }) => rel === 'next')
    assert.ok((next?.href.length ?? 0) < 2_000)
  }
  assert.deepEqual(
    seen.toSorted((a, b) => a - b),
    Array.from({ length: 400 }, (_, index) => index + 1),
  )
})

test('pages of a box within a cell have each feature once, also while others come', async () => {
  const features = Array.from({ length: 1_200 }, (_, index) => ({
    geometry: { type: 'Point', coordinates: [8.5 + random() * 0.5, 48.6 + random() * 0.3] },
    properties: { n: index + 1 },
  }))
  const text = features.map((feature) => `${JSON.stringify({ type: 'Feature', ...feature })}\n`).join('')
  const source = await openSource('-', Readable.from([Buffer.from(text)]), { format: geojsonSeq })
  const options = { collection: 'crowded_cell', existing: undefined, level: 8 } as const
  await importFeatures(session, source, { ...options, distributeBy: 'cell' }, () => {})
  await catalog.reload()
  const bbox = [8.6, 48.6, 9, 48.85]
  const { cells } = planItems({ bbox }, catalog.get('crowded_cell'))
  if (cells) assert.equal(cells.length, 1)
  const isInside = ({ geometry }: (typeof features)[0]) => {
    const [x, y] = geometry.coordinates as [number, number]
    return x >= 8.6 && x <= 9 && y <= 48.85
  }
  const expected = features.filter(isInside).map(({ properties }) => properties.n)
  for (const limit of [7, 90, 400]) {
    const seen: number[] = []
    for await (const page of followPages(
      client,
      `/collections/crowded_cell/items?limit=${limit}&bbox=${bbox}`,
    )) {
      seen.push(...page.features.map(numberOf))
      const added = { ...features[0], properties: { n: 10_000 } }
      const { status } = await client('/collections/crowded_cell/items', {
        method: 'POST',
        headers: { 'content-type': 'application/geo+json' },
        body: JSON.stringify({ type: 'Feature', ...added }),
      })
      assert.equal(status, 201)
    }
    assert.deepEqual(
      seen.filter((n) => n < 10_000).toSorted((a, b) => a - b),
      expected,
      `limit ${limit}`,
    )
  }
})

type Plan = { readonly [name: string]: unknown; readonly Plans?: readonly Plan[] }

/** Returns the rows of the table that a plan has read, those included that it dropped. */
function rowsRead(plan: Plan): number {
  const own = plan['Relation Name']
    ? (Number(plan['Actual Rows']) + Number(plan['Rows Removed by Filter'] ?? 0)) *
      Number(plan['Actual Loops'])
    : 0
  return (plan.Plans ?? []).reduce((sum, part) => sum + rowsRead(part), own)
}

test('a page reads some hundreds of rows, whatever its box holds', async () => {
  for (const [name, size] of [
    ['held_few', 2_000],
    ['held_many', 200_000],
  ] as const) {
    await session.query(
      `create table ${name} as select i as id, ${place('8 + random()', '48 + random()')} as geom from generate_series(1, ${size}) as i`,
    )
    await session.query(
      `alter table ${name} alter geom type geometry(Point, 4326), add primary key (id); create index on ${name} using gist (geom); analyze ${name}`,
    )
  }
  await catalog.reload()
  const read = async (name: string, parameters: ItemParameters) => {
    const { text, values } = compilePage(planItems(parameters, catalog.get(name)), geojson)
    const rows = await single.read({ text: `explain (analyze, format json) ${text}`, values })
    const [{ Plan: plan }] = JSON.parse(rows.map(([line]) => line).join('\n')) as [{ Plan: Plan }]
    return rowsRead(plan)
  }
  for (const name of ['held_few', 'held_many']) {
    const bbox = [8, 48, 9, 49]
    let rows = await read(name, { bbox, limit: 100 })
    assert.ok(rows > 100 && rows < 110, `first page of ${name}: ${rows}`)
    let next = `/collections/${name}/items?limit=100&bbox=${bbox}`
    for (let round = 2; round < 8; round++) {
      const { links } = (await client(next)).json as Page
      next = links.find(({ rel }) => rel === 'next')!.href
      const cursor = new URL(next).searchParams.get('cursor')!
      rows = await read(name, { bbox, limit: 100, cursor })
      assert.ok(rows > 100 && rows < 2_000, `page ${round} of ${name}: ${rows}`)
    }
  }
})
