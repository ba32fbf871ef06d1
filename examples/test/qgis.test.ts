// Tests the sources of the project for QGIS, without QGIS: GDAL reads its layer of features, and its tiles are there.

import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { startGateway } from '../../gateway/test/support/gateway.ts'
import { featuresOf, fetchTile } from '../../gateway/test/support/tile.ts'

const { client } = await startGateway()
const project = readFileSync(join(import.meta.dirname, '../qgis/tessera.qgs'), 'utf8')
const sources = [...project.matchAll(/<datasource>(.+)<\/datasource>/g)].map(([, source]) =>
  source!.replaceAll('&amp;', '&').replaceAll('http://localhost:8080', client.url),
)

test('GDAL reads the features of the layer as QGIS names them', async (t) => {
  if (spawnSync('ogrinfo', ['--version']).status !== 0) return t.skip('SKIPPED: ogrinfo is not installed')
  const [, collection] = /typename='(.+?)'/.exec(sources[0]!)!
  const [, url] = /url='(.+?)'/.exec(sources[0]!)!
  const box = ['-spat', '7', '46', '8', '47']
  const { stdout } = await promisify(execFile)('ogrinfo', ['-al', '-so', ...box, `OAPIF:${url}`, collection!])
  assert.match(stdout, /Geometry: Point/)
  assert.ok(Number(/Feature Count: (\d+)/.exec(stdout)?.[1]) > 100, stdout)
  return undefined
})

test('the tiles of the layer are there at its first and its last zoom', async () => {
  const source = new URLSearchParams(sources[1])
  assert.equal(source.get('type'), 'xyz')
  for (const zoom of [Number(source.get('zmin')), Number(source.get('zmax'))]) {
    const place = Math.floor((2 ** zoom * (180 + 8)) / 360)
    const row = zoom === 0 ? 0 : 5800
    const path = source
      .get('url')!
      .replace('{z}', String(zoom))
      .replace('{x}', String(place))
      .replace('{y}', String(row))
    const tile = await fetchTile(client, path)
    assert.equal(tile.status, 200, path)
    assert.ok(featuresOf(tile, 'countries').length > 0, path)
  }
})
