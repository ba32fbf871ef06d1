// Tests an independent client: GDAL's driver for OGC API Features.

import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { startGateway } from '../support/gateway.ts'

const { client, session, catalog } = await startGateway()
const run = promisify(execFile)
const isMissing = spawnSync('ogrinfo', ['--version']).status !== 0
const options = {
  skip: isMissing && 'SKIPPED: ogrinfo is not installed, so no independent client was tested',
}
const ogrinfo = async (...args: string[]) =>
  (await run('ogrinfo', [...args.slice(0, -1), `OAPIF:${client.url}/`, args.at(-1)!], { maxBuffer: 1 << 28 }))
    .stdout
const countIn = (text: string) => Number(/Feature Count: (\d+)/.exec(text)?.[1])

for (const [collection, count, ...openOptions] of [
  // In pages of the maximum size: with GDAL's default this would take a while.
  ['cities', 171_075, '-oo', 'PAGE_SIZE=10000'],
  ['countries', 241],
  ['counties', 3231],
] as const) {
  test(`GDAL counts ${count} features in ${collection}`, options, async () =>
    assert.equal(countIn(await ogrinfo('-al', '-so', ...openOptions, collection)), count),
  )
}

test('GDAL pages through every city', options, async () => {
  const { stdout } = await run(
    'ogr2ogr',
    [
      '-f',
      'CSV',
      '/vsistdout/',
      `OAPIF:${client.url}/`,
      'cities',
      '-select',
      'name',
      '-oo',
      'PAGE_SIZE=10000',
    ],
    { maxBuffer: 1 << 28 },
  )
  assert.equal(stdout.trim().split(/\r?\n(?=[^\r\n]*$|)/m).length >= 171_076, true)
})

test('GDAL filters by a box', options, async () => {
  const text = await ogrinfo('-al', '-so', '-spat', '9', '46.9', '10', '47.4', 'cities')
  const { json } = await client('/collections/cities/items?bbox=9,46.9,10,47.4&limit=10000')
  assert.equal(countIn(text), json.numberMatched)
})

test('GDAL reads the types and the extent', options, async () => {
  const text = await ogrinfo('-al', '-so', 'countries')
  assert.match(text, /Geometry: Multi Polygon/)
  assert.match(text, /name: String/)
  assert.match(text, /Extent: \(-180\.0+, -/)
})

test('GDAL sees a column of numbers as one although some are NaN', options, async () => {
  await session.query(`create table gdal_numbers (id int primary key, v float8, geom geometry(Point, 4326));
    insert into gdal_numbers values (1, 1.5, 'SRID=4326;POINT(1 1)'), (2, 'NaN', 'SRID=4326;POINT(1 1)'),
      (3, 'Infinity', 'SRID=4326;POINT(1 1)')`)
  await catalog.reload()
  assert.match(await ogrinfo('-al', 'gdal_numbers'), /^v: Real/m)
})
