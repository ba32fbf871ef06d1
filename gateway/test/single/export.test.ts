// Tests `tessera export` as its users start it.

import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { testDatabase } from '../support/database.ts'
import { startGateway } from '../support/gateway.ts'
import { runTessera, startTessera } from '../support/process.ts'
import { until } from '../support/until.ts'

const { client, session, catalog } = await startGateway()
const folder = mkdtempSync(join(tmpdir(), 'tessera-test-'))
after(() => rmSync(folder, { recursive: true, force: true }))
const environment = { TESSERA_READ_URL: testDatabase().readUrl }
const run = (...args: string[]) => runTessera(['export', ...args], undefined, environment)

const bytesOf = async (path: string) =>
  Buffer.from(await (await fetch(`${client.url}/collections/${path}`)).arrayBuffer())

test('files have the features of the API, in the format of their ending', async () => {
  for (const ending of ['ndjson', 'geojsons', 'csv', 'fgb']) {
    const file = join(folder, `cities.${ending}`)
    const { code, output } = await run('cities', '-o', file, '--filter', "country='LI'", '--sortby', 'id')
    assert.equal(code, 0, output)
    assert.match(output, /Exported \d+ features of cities, \d\.\d MB/)
    const expected = await bytesOf(`cities/items.${ending}?country=LI&sortby=id&limit=none`)
    assert.ok(expected.length > 500)
    assert.deepEqual(readFileSync(file), expected)
  }
  const file = join(folder, 'countries.geojson')
  assert.equal((await run('countries', '--output', file, '--sortby=id')).code, 0)
  const { json } = await client('/collections/countries/items?limit=none&sortby=id')
  const written = JSON.parse(readFileSync(file, 'utf8'))
  assert.deepEqual(written.features, json.features)
  assert.equal((await run('countries', '-o', join(folder, 'countries.parquet'))).code, 0)
  assert.match(readFileSync(join(folder, 'countries.parquet'), 'latin1'), /^PAR1.*PAR1$/s)
})

test('without a file, features go to standard output, and messages do not', async () => {
  const { child, output, ended } = startTessera(
    ['export', 'cities', '--format', 'csv', '--bbox=9,47,10,47.5', '--properties=name', '--skip-geometry'],
    environment,
  )
  let text = ''
  child.stdout!.on('data', (chunk) => {
    text += chunk
  })
  assert.equal(await ended, 0, output())
  const lines = text.trim().split('\r\n')
  const { json } = await client('/collections/cities/items?bbox=9,47,10,47.5&limit=none')
  assert.deepEqual([lines[0], lines.length - 1], ['id,name', json.numberReturned])
})

test('what is wrong is said, and nothing is written', async () => {
  for (const [args, message] of [
    [['cities', '-o', join(folder, 'a.shp')], /must end with \.geojson, .*\.parquet/],
    [['cities', '--format', 'shp'], /--format=shp: must be json, jsonfg, geojsonseq/],
    [['cities', '-o', join(folder, 'a.csv'), '--filter', 'nothing = 1'], /nothing/],
    [['nowhere', '-o', join(folder, 'a.csv')], /nowhere/],
    [['cities', '-o', join(folder, 'a.csv'), '--bbox=1,2,3'], /--bbox=1,2,3: must be four or six numbers/],
    [['cities', '-o', join(folder, 'none/a.csv')], /cannot be written: ENOENT/],
    [['cities', '--output-crs=EPSG:2056'], /crs must be one of/],
    [['cities', '--filter-lang=sql'], /must be cql2-text or cql2-json/],
    [[], /export takes one collection/],
  ] as const) {
    const { code, output } = await run(...args)
    assert.equal(code, 1, output)
    assert.match(output, message)
    assert.doesNotMatch(output, /^ {4}at /m)
  }
  assert.ok(!existsSync(join(folder, 'a.csv')))
})

test('an export that is interrupted leaves no file', async () => {
  await session.query(`
    create view slow_export as select id, geom, case when id % 10 = 0 then pg_sleep(0.1)::text end slept
    from (select i as id, st_setsrid(st_makepoint(0, 0), 4326)::geometry(Point, 4326) geom from generate_series(1, 10000) i) as r offset 0`)
  await catalog.reload()
  const file = join(folder, 'slow.csv')
  const { child, ended, output } = startTessera(['export', 'slow_export', '-o', file], environment)
  await until(async () => existsSync(`${file}.part`), 20_000)
  child.kill('SIGINT')
  assert.equal(await ended, 130, output())
  assert.deepEqual(
    readdirSync(folder).filter((name) => name.startsWith('slow')),
    [],
  )
})

test('a program that reads no further ends the export with a message', async () => {
  const { child, ended, output } = startTessera(['export', 'cities', '--format', 'csv'], environment)
  child.stdout!.once('data', () => child.stdout!.destroy())
  assert.equal(await ended, 1)
  assert.match(output(), /Standard output cannot be written: .*EPIPE/)
})
