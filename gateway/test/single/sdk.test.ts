// Tests the SDK, including the example of its README as it is.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { createTesseraClient, readFeatures, storeFeatures } from 'tessera-client'
import * as cql from 'tessera-client/filter'
import { makeTypes } from '../../../openapi/document.ts'
import { makeSdk } from '../support/client.ts'
import { startGateway } from '../support/gateway.ts'

const { client, session, catalog } = await startGateway()
const root = fileURLToPath(new URL('../../..', import.meta.url))
const readme = readFileSync(join(root, 'openapi/client/README.md'), 'utf8')
/** The compiler that users of the client have, which is not the one of this repository. */
const COMPILER = join(root, 'openapi/client/node_modules/typescript/bin/tsc')
/** Returns the example of the README in a language, for the gateway of this file. */
function exampleIn(language: string): string {
  const [, example] = new RegExp(`\`\`\`${language}\\n(.+?)\`\`\``, 's').exec(readme)!
  const program = example!.replace('http://localhost:8080', client.url)
  assert.notEqual(program, example)
  return program
}
const run = promisify(execFile)

test('readFeatures reads to the last feature if pages follow an offset', async () => {
  const sdk = makeSdk(client)
  let count = 0
  for await (const _ of readFeatures(sdk, 'countries', { offset: 200 })) count++
  assert.equal(count, 41)
})

test('storeFeatures sends a list, or features as they come', async () => {
  await session.query('create table sdk_many (id int primary key, geom geometry(Point, 4326), name text)')
  await catalog.reload()
  const sdk = makeSdk(client)
  const many = (first: number, count: number) =>
    Array.from({ length: count }, (_, index) => ({
      type: 'Feature' as const,
      id: first + index,
      geometry: { type: 'Point' as const, coordinates: [1, 2] },
      properties: { name: 'many' },
    }))
  const none = { numberRefused: 0, errors: [] }
  assert.deepEqual(await storeFeatures(sdk, 'sdk_many', many(1, 3)), { numberStored: 3, ...none })
  async function* come() {
    yield* many(2, 2_000)
  }
  const header = { 'idempotency-key': 'sdk-many' }
  assert.deepEqual(await storeFeatures(sdk, 'sdk_many', come(), { mode: 'upsert', header }), {
    numberStored: 2_000,
    ...none,
  })
  await assert.rejects(storeFeatures(sdk, 'sdk_many', many(1, 1)), { code: 'feature-conflict' })
  const [row] = await session.query<{ count: string }>('select count(*) from sdk_many')
  assert.equal(row!.count, '2001')
})

test('a client sends the tokens of its changes, so that it sees them', async () => {
  const asked: (string | null)[] = []
  const answered: (string | null)[] = []
  const sdk = createTesseraClient({
    url: client.url,
    async fetch(request: Request) {
      asked.push(request.headers.get('consistency-token'))
      const response = await fetch(request)
      answered.push(response.headers.get('consistency-token'))
      return response
    },
  })
  const make = (name: string) =>
    sdk.POST('/collections/{collectionId}/items', {
      params: { path: { collectionId: 'cities' }, header: { prefer: 'return=representation' } },
      body: {
        type: 'Feature',
        geometry: { type: 'Point', coordinates: [1, -70] },
        properties: { name, country: 'AQ' },
      },
    })
  const made = await Promise.all([make('one'), make('two')])
  // Changes that are both committed before the LSN of either is queried have the same token.
  const both = [...new Set(answered)].join()
  for (const { data } of made) {
    const path = { collectionId: 'cities', featureId: String(data!.id) }
    await sdk.DELETE('/collections/{collectionId}/items/{featureId}', { params: { path } })
  }
  await sdk.GET('/collections', {})
  // First both tokens; then each new token replaces those that were sent with its change.
  assert.deepEqual(asked, [null, null, both, answered[2], answered[3]])
})

test('the example of the README does what it says', async () => {
  // The package is found from this folder, as in a project that has installed it.
  const { stdout, stderr } = await run(process.execPath, ['--input-type=module', '--eval', exampleIn('js')], {
    cwd: root,
  })
  assert.equal(stderr, '')
  const lines = stdout.trim().split('\n')
  assert.ok(lines.includes('24587.5 Pas de la Casa'), stdout)
  assert.deepEqual(lines.slice(-2), ['Newer Town', '412 feature-changed'])
})

test("the compiler checks filters against the types of a collection's own document", async () => {
  const folder = mkdtempSync(join(tmpdir(), 'tessera-sdk-'))
  after(() => rmSync(folder, { recursive: true }))
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
  writeFileSync(join(folder, 'cities.d.ts'), await makeTypes((await client('/collections/cities/api')).text))
  const example = exampleIn('ts')
  writeFileSync(join(folder, 'example.ts'), example)
  writeFileSync(
    join(folder, 'faults.ts'),
    `${example}\nwhere(eq(city.county, 'CH'))\nwhere(eq(city.country, 41))\nwhere(like(city.geom, 'B%'))`,
  )
  const flags = ['--noEmit', '--strict', '--target', 'es2024', '--module', 'nodenext', '--types', 'node']
  const compiled: { stdout: string } = await run(
    process.execPath,
    [COMPILER, ...flags, 'example.ts', 'faults.ts'],
    { cwd: folder },
  ).catch((error) => error)
  const line = example.split('\n').length
  assert.deepEqual(
    [...compiled.stdout.matchAll(/^(\S+)\((\d+),\d+\): error (\w+)/gm)].map((found) => found.slice(1)),
    [
      ['faults.ts', String(line + 1), 'TS2551'],
      ['faults.ts', String(line + 2), 'TS2345'],
      ['faults.ts', String(line + 3), 'TS2345'],
    ],
    compiled.stdout,
  )
  const { stdout } = await run(process.execPath, ['example.ts'], { cwd: folder })
  const names = stdout.trim().split('\n')
  assert.ok(
    names.length > 3 && names.includes('Bern') && names.every((name) => name.startsWith('Ber')),
    stdout,
  )
})

test('filters find what the same conditions find as text', async () => {
  type Stall = {
    id: number
    name: string
    opened: string
    seen: Date
    seats: number | null
    isOpen: boolean
    tags: string[]
    extra: object
    geom: cql.Geometry
  }
  await session.query(`
    create table stalls (id int primary key, geom geometry(Point, 4326), name text, opened date, seen timestamptz,
      seats int2, "isOpen" boolean, tags text[], extra jsonb);
    insert into stalls select i, st_setsrid(st_makepoint(i, i / 2.0), 4326), 'Stand ' || i, date '2020-01-01' + i,
      '2020-01-01T12:00:00Z'::timestamptz + make_interval(days => i), nullif(i, 7), i % 2 = 0, array['t' || i % 3, 'all'],
      case when i > 40 then '{}'::jsonb end
    from generate_series(1, 80) i`)
  await catalog.reload()
  const stall = cql.propertiesOf<Stall>()
  const point: cql.Geometry = { type: 'Point', coordinates: [3, 1.5] }
  const sdk = makeSdk(client)
  const idsOf = async (query: object) => {
    const ids = []
    for await (const { id } of readFeatures(sdk, 'stalls', { limit: 50, ...query })) ids.push(id)
    return ids
  }
  for (const [condition, text] of [
    [
      cql.and(cql.gt(stall.seats, 5), cql.not(cql.isIn(stall.name, ['Stand 9', 'Stand 10']))),
      "seats > 5 AND name NOT IN ('Stand 9','Stand 10')",
    ],
    [cql.or(cql.isNull(stall.seats), cql.between(stall.id, 2, 3)), 'seats IS NULL OR id BETWEEN 2 AND 3'],
    [cql.like(cql.casei(stall.name), cql.casei('STAND 7_')), "CASEI(name) LIKE CASEI('STAND 7_')"],
    [cql.eq(cql.accenti(stall.name), 'Stand 7'), "ACCENTI(name) = 'Stand 7'"],
    [cql.eq(cql.modulo(stall.seats, cql.subtract(5, 2)), 0), 'seats % (5 - 2) = 0'],
    [cql.lt(cql.length(cql.lower(stall.name)), 8), 'length(lower(name)) < 8'],
    [cql.sWithin(stall.geom, cql.bbox(2, 0, 9, 80)), 'S_WITHIN(geom, BBOX(2,0,9,80))'],
    [cql.sDwithin(stall.geom, point, 200_000), 's_dwithin(geom, POINT(3 1.5), 200000)'],
    [cql.lte(stall.opened, cql.date('2020-01-09')), "opened <= DATE('2020-01-09')"],
    [cql.lte(stall.opened, '2020-01-09'), "opened <= DATE('2020-01-09')"],
    [cql.tAfter(stall.seen, new Date('2020-03-01')), "T_AFTER(seen, TIMESTAMP('2020-03-01T00:00:00Z'))"],
    [cql.lt(cql.now(), stall.seen), 'now() < seen'],
    [
      cql.tDuring(cql.interval(stall.opened, stall.seen), cql.interval('2020-02-01', '..')),
      "T_DURING(INTERVAL(opened,seen), INTERVAL('2020-02-01','..'))",
    ],
    [cql.aContains(stall.tags, ['t1', 'all']), "A_CONTAINS(tags, ('t1','all'))"],
    [cql.and(stall.isOpen, cql.eq(stall.isOpen, true), cql.isNull(stall.extra)), 'isOpen AND extra IS NULL'],
    [cql.and(), 'true'],
    [cql.or(), 'false'],
  ] as const) {
    const ids = await idsOf(cql.where(condition))
    assert.deepEqual(ids, await idsOf({ filter: text }), text)
    assert.ok(ids.length > 0 || /now|false/.test(text), text)
  }
})
