// Tests the recipes for ogr2ogr as they stand in their README, with the GDAL of this machine.

import assert from 'node:assert/strict'
import { execFile, execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { promisify } from 'node:util'
import { startGateway } from '../../gateway/test/support/gateway.ts'

const run = promisify(execFile)
const { client, events } = await startGateway()
const readme = readFileSync(join(import.meta.dirname, '../ogr2ogr/README.md'), 'utf8')
const isMissing = spawnSync('ogr2ogr', ['--version']).status !== 0
const folder = mkdtempSync(join(tmpdir(), 'tessera-test-'))
after(() => rmSync(folder, { recursive: true, force: true }))

/** Returns the commands below a heading, for the gateway of this file. */
const recipe = (heading: string) => {
  const section = readme.split(/^## /m).find((one) => one.startsWith(`${heading}\n`))!
  const blocks = [...section.matchAll(/^```sh\n(.+?)^```/gms)].map(([, block]) => block!)
  assert.ok(blocks.length > 0, heading)
  return blocks.join('\n').replaceAll('http://localhost:8080', client.url)
}
const follow = async (heading: string) => {
  const { stdout } = await run('bash', ['-euo', 'pipefail', '-c', recipe(heading)], { cwd: folder })
  return stdout
}
const layer = (file: string) =>
  execFileSync('ogrinfo', ['-al', '-so', join(folder, file)], { encoding: 'utf8' })
const countIn = (text: string) => Number(/Feature Count: (\d+)/.exec(text)?.[1])
const requestsSince = (first: number) =>
  events.slice(first).flatMap((event) => (event.type === 'request-finished' ? event.url : []))

test('the recipes for ogr2ogr do what they say', {
  skip: isMissing && 'SKIPPED: ogr2ogr is not installed',
}, async (t) => {
  await t.test('look', async () => {
    const text = await follow('Look')
    assert.match(text, /cities/)
    assert.match(text, /Geometry: Multi Polygon/)
  })
  await t.test('convert', async () => {
    await follow('Convert')
    assert.equal(countIn(layer('countries.gpkg')), 241)
    assert.equal(countIn(layer('countries.shp')), 241)
    const { json } = await client('/collections/cities/items?bbox=5,45,11,48&limit=10000&skipGeometry=true')
    assert.ok(json.numberReturned > 1000)
    assert.equal(countIn(layer('alps.gpkg')), json.numberReturned)
  })
  await t.test('filter', async () => {
    const first = events.length
    await follow('Filter at the gateway')
    const asked = requestsSince(first).filter((url) => url.includes('filter='))
    assert.ok(asked.length > 0, requestsSince(first).join('\n'))
    assert.match(asked.join('\n'), /bbox=8/)
    const { json } = await client(
      "/collections/cities/items?bbox=8,46,9,47&limit=10000&filter=country='CH' AND name LIKE 'B%25'",
    )
    assert.ok(json.numberReturned > 5)
    assert.equal(countIn(layer('swiss.gpkg')), json.numberReturned)
  })
  await t.test('another coordinate system', async () => {
    await follow('Another coordinate system')
    assert.match(layer('swiss-lv95.gpkg'), /CH1903\+ \/ LV95/)
  })
  await t.test('write back', async () => {
    const text = await follow('Write back')
    const count = countIn(layer('swiss.gpkg'))
    const [first, second] = [...text.matchAll(/"numberStored":(\d+)/g)].map(([, stored]) => Number(stored))
    assert.deepEqual([first, second], [count, count])
    assert.equal(text.match(/^"?B.+ \(CH\)"?,?$/gm)?.length, count, text)
    await follow('Clean up')
    assert.equal((await client('/collections/example_sites')).status, 404)
  })
})
