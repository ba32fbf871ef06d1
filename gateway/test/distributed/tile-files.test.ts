// Tests `tessera tiles` as its users start it; programs that are not ours read its files.

import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, openAsBlob, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { gunzipSync } from 'node:zlib'
import { VectorTile } from '@mapbox/vector-tile'
import { PbfReader } from 'pbf'
import { PMTiles, type Source, zxyToTileId } from 'pmtiles'
import { tileId } from '../../features/tiles/archive/pmtiles.ts'
import { testDatabase } from '../support/database.ts'
import { startGateway } from '../support/gateway.ts'
import { runTessera, startTessera } from '../support/process.ts'
import { featuresOf, fetchTile } from '../support/tile.ts'
import { until } from '../support/until.ts'

const { client, session } = await startGateway()
const folder = mkdtempSync(join(tmpdir(), 'tessera-test-'))
after(() => rmSync(folder, { recursive: true, force: true }))
const environment = { TESSERA_READ_URL: testDatabase().readUrl }
const run = (...args: string[]) => runTessera(['tiles', ...args], undefined, environment)

/** A file as the reader of PMTiles reads it. */
async function openPmtiles(file: string) {
  const blob = await openAsBlob(file)
  const source: Source = {
    getKey: () => file,
    getBytes: async (offset, length) => ({ data: await blob.slice(offset, offset + length).arrayBuffer() }),
  }
  return new PMTiles(source)
}

test('tiles have the numbers that PMTiles give them', () => {
  for (const [zoom, column, row] of [
    [0, 0, 0],
    [1, 1, 0],
    [3, 5, 2],
    [12, 2130, 1443],
    [15, 20_000, 31_000],
  ] as const)
    assert.equal(tileId({ zoom, row, column }), zxyToTileId(zoom, column, row))
})

test('PMTiles have the tiles of the API, of the zooms and the filter that were named', async () => {
  const file = join(folder, 'cities.pmtiles')
  const args = ['--zoom', '1-6', '--filter', "country='CH'", '--properties=name']
  const { code, output } = await run('cities', ...args, '-o', file)
  assert.equal(code, 0, output)
  assert.match(output, /Wrote \d+ tiles of cities, \d+\.\d MB/)
  assert.ok(!existsSync(`${file}.part`))
  const tiles = await openPmtiles(file)
  const header = await tiles.getHeader()
  assert.deepEqual([header.minZoom, header.maxZoom, header.clustered], [1, 6, true])
  const metadata = (await tiles.getMetadata()) as { vector_layers: { id: string }[]; name: string }
  assert.deepEqual(
    metadata.vector_layers.map(({ id }) => id),
    ['cities'],
  )
  for (const [zoom, column, row] of [
    [1, 1, 0],
    [5, 16, 11],
    [6, 33, 22],
  ] as const) {
    const found = await tiles.getZxy(zoom, column, row)
    const { body } = await fetchTile(
      client,
      `/collections/cities/tiles/WebMercatorQuad/${zoom}/${row}/${column}?filter=country%3D'CH'&properties=name`,
    )
    assert.deepEqual(Buffer.from(found!.data), body)
  }
  assert.equal(await tiles.getZxy(6, 0, 0), undefined)
  assert.equal(await tiles.getZxy(0, 0, 0), undefined)
})

test('equal tiles are stored once, and a small root directory leads to all of them', async () => {
  const file = join(folder, 'countries.pmtiles')
  const { code, output } = await run('countries', '--zoom=0-5', '--properties', 'name', '-o', file)
  assert.equal(code, 0, output)
  const tiles = await openPmtiles(file)
  const header = await tiles.getHeader()
  assert.ok(header.numTileContents! < header.numAddressedTiles!)
  const { data } = (await tiles.getZxy(5, 24, 8))!
  const { countries } = new VectorTile(new PbfReader(new Uint8Array(data))).layers
  assert.equal(countries!.feature(0).properties.name, 'Russia')
})

const hasGdal = spawnSync('ogrinfo', ['--formats'], { encoding: 'utf8' }).stdout?.includes('MBTiles') ?? false

test('GDAL reads MBTiles', { skip: !hasGdal && 'needs ogrinfo' }, async () => {
  const file = join(folder, 'countries.mbtiles')
  const { code, output } = await run('countries', '--zoom', '0-3', '-o', file)
  assert.equal(code, 0, output)
  const info = execFileSync('ogrinfo', ['-so', '-al', file], { encoding: 'utf8' })
  assert.match(info, /Layer name: countries/)
  assert.match(info, /name: String/)
  const counted = Number(/Feature Count: (\d+)/.exec(info)![1])
  assert.ok(counted >= 241, info)
  const zoom = execFileSync('ogrinfo', ['-so', '-al', '-oo', 'ZOOM_LEVEL=0', file], { encoding: 'utf8' })
  const { headers: _, ...whole } = await fetchTile(client, '/countries/0/0/0.mvt')
  assert.equal(Number(/Feature Count: (\d+)/.exec(zoom)![1]), featuresOf(whole, 'countries').length)
})

test('an export that was interrupted goes on with what it has', async () => {
  const file = join(folder, 'slow.mbtiles')
  const args = ['cities', '--zoom=0-8', '--filter', "country in ('CH', 'AT')", '-o', file]
  const first = startTessera(['tiles', ...args], environment)
  await until(() => existsSync(`${file}.part`), 60_000)
  // Holds it up, so that it is interrupted before its end.
  await session.query('begin; lock table cities in access exclusive mode')
  first.child.kill('SIGINT')
  const code = await first.ended
  await session.query('rollback')
  assert.equal(code, 130, first.output())
  assert.ok(!existsSync(file) && existsSync(`${file}.part`))
  const refused = await run('cities', '--zoom=0-9', '-o', file)
  assert.equal(refused.code, 1)
  assert.match(refused.output, /another export that was interrupted/)
  const second = await run(...args)
  assert.equal(second.code, 0, second.output)
  const whole = join(folder, 'whole.mbtiles')
  assert.equal((await run(...args.slice(0, -1), whole)).code, 0)
  const { DatabaseSync } = await import('node:sqlite')
  const contentOf = (name: string) => {
    const database = new DatabaseSync(name)
    const rows = database.prepare('select * from tiles order by 1, 2, 3').all()
    database.close()
    return rows.map((row) => ({ ...row, tile_data: gunzipSync(row.tile_data as Uint8Array).toString('hex') }))
  }
  assert.deepEqual(contentOf(file), contentOf(whole))
})

test('what is wrong is said', async () => {
  for (const [args, message] of [
    [['cities', '-o', 'a.zip'], /must end with \.pmtiles or \.mbtiles/],
    [['cities', '-o', join(folder, 'none/a.pmtiles')], /none\/a\.pmtiles\.part cannot be written/],
    [['cities'], /must end with \.pmtiles/],
    [['cities', '-o', 'a.pmtiles', '--zoom=5-3'], /--zoom=5-3: must be a zoom or two/],
    [['cities', '-o', 'a.pmtiles', '--zoom=0-30'], /from 0 to 24/],
    [['cities', '-o', 'a.pmtiles', '--filter=nothing=1'], /nothing/],
    [['nowhere', '-o', 'a.pmtiles'], /nowhere/],
    [[], /tiles takes one collection/],
  ] as const) {
    const { code, output } = await run(...args)
    assert.equal(code, 1, output)
    assert.match(output, message)
    assert.doesNotMatch(output, /^ {4}at /m)
  }
})
