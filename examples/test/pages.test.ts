// Tests the pages for browsers: MapLibre and OpenLayers, from the packages that are installed, against a gateway of another
// origin.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { extname, join, normalize } from 'node:path'
import { after, test } from 'node:test'
import type { Page } from 'playwright-core'
import { openSession } from '../../gateway/database/session.ts'
import { createApiKey } from '../../gateway/features/access/api-key.ts'
import { countPixels, openBrowser, openPage } from '../../gateway/test/support/browser.ts'
import { testDatabase } from '../../gateway/test/support/database.ts'
import { startGateway } from '../../gateway/test/support/gateway.ts'
import { until } from '../../gateway/test/support/until.ts'

const ROOT = join(import.meta.dirname, '../..')
const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html',
  '.css': 'text/css',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
}

/** Serves the files of the project, as any server of files does. @returns its origin */
async function serveFiles(): Promise<string> {
  const server = createServer(async (request, response) => {
    const path = normalize(new URL(request.url!, 'http://files').pathname).replace(/\/$/, '/index.html')
    const content = await readFile(join(ROOT, path)).catch(() => undefined)
    // Browsers ask for an icon by themselves.
    if (!content) return void response.writeHead(path === '/favicon.ico' ? 204 : 404).end()
    response
      .writeHead(200, { 'content-type': TYPES[extname(path)] ?? 'application/octet-stream' })
      .end(content)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  after(() => server.close())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const { client, session, catalog } = await startGateway()
const files = await serveFiles()
const browser = await openBrowser()
await session.query(`
  create table example_posts (id int generated always as identity primary key, name text, geom geometry(Point, 4326));
  insert into example_posts (name, geom) values ('west', 'SRID=4326;POINT(10 50)'), ('east', 'SRID=4326;POINT(11 50)'),
    ('north', 'SRID=4326;POINT(10.5 50.5)')`)
await catalog.reload()
const owner = await openSession(testDatabase().ownerUrl, 'test')
const key = await createApiKey(owner, {
  name: 'example',
  canWrite: true,
  canManage: false,
  collections: ['example_posts'],
})
// The key is removed, because other tests change features without one.
after(async () => {
  await owner.query('delete from tessera.api_key')
  await owner.close()
})

/** Opens an example, and returns what it did that it may not: errors, and requests to other servers than these two. */
async function openExample(name: string, query: Readonly<Record<string, string>>, hash = '') {
  const { page, faults } = await openPage(browser, files)
  await page.goto(
    `/examples/pages/${name}.html?${new URLSearchParams({ server: client.url, ...query })}${hash}`,
  )
  return { page, seriousFaults: () => faults.filter((fault) => !fault.startsWith(`asked ${client.url}/`)) }
}

/** Tiles are drawn in software, on a machine that may be busy with other things. */
const PATIENCE_MS = 30_000
const ORANGE: [number, number, number] = [0xc2, 0x41, 0x0c]

test('the page of MapLibre draws the cities that a filter leaves, and shows all of one', async () => {
  const { page, seriousFaults } = await openExample('maplibre', {}, '#map=9/46.95/7.45')
  const canvas = page.locator('#map canvas')
  await citiesOnMap(page, (count) => count > 100)
  assert.ok((await countPixels(browser, await canvas.screenshot(), ORANGE)) > 500)
  const { x, y } = await page.evaluate<{ x: number; y: number }>('map.project([7.44744, 46.94809])')
  await page.mouse.click(x, y)
  await page.locator('.maplibregl-popup pre').getByText('name: Bern').waitFor()
  await page.getByLabel('Filter').fill("name = 'Bern'")
  await page.getByRole('button', { name: 'Show' }).click()
  await citiesOnMap(page, (count) => count === 1)
  await page.getByLabel('Filter').fill("nme = 'Bern'")
  await page.getByRole('button', { name: 'Show' }).click()
  await page.getByRole('alert').getByText('nme').waitFor()
  assert.deepEqual(seriousFaults(), [])
})

/** Waits until the map shows a number of cities. */
const citiesOnMap = (page: Page, isWanted: (count: number) => boolean) =>
  until(
    async () =>
      isWanted(
        await page.evaluate<number>(
          "globalThis.map?.getLayer('cities') ? map.queryRenderedFeatures({ layers: ['cities'] }).length : -1",
        ),
      ),
    PATIENCE_MS,
  )

/** Returns where a place is on the page of OpenLayers. */
const pixelOf = (page: Page, place: readonly number[]) =>
  page.evaluate<[number, number]>(`map.getPixelFromCoordinate(ol.proj.fromLonLat([${place}]))`)

async function drag(page: Page, from: readonly number[], to: readonly number[]) {
  const [start, end] = [await pixelOf(page, from), await pixelOf(page, to)]
  await page.mouse.move(...start)
  await page.mouse.down()
  await page.mouse.move(...end, { steps: 8 })
  await page.mouse.up()
}
const click = async (page: Page, place: readonly number[]) =>
  page.mouse.click(...(await pixelOf(page, place)))
const status = (page: Page, text: string) => page.getByRole('status').getByText(text).waitFor()
const stored = async (id: number) =>
  (await client(`/collections/example_posts/items/${id}`)).json.geometry.coordinates as number[]

test('the page of OpenLayers shows features, moves one, and overwrites nobody', async () => {
  const { page, seriousFaults } = await openExample('openlayers', { collection: 'example_posts' })
  await until(async () => (await page.evaluate('source.getFeatures().length')) === 3, PATIENCE_MS)
  await page.waitForFunction('!map.getView().getAnimating()')

  await click(page, [10, 50])
  await status(page, 'Move 1.')
  await drag(page, [10, 50], [10.2, 50.2])
  await status(page, 'Changes need an API key here')
  // The feature is back, and still chosen.
  await page.getByLabel('API key').fill(key)
  await drag(page, [10, 50], [10.2, 50.2])
  await status(page, '1 is stored.')
  const [longitude, latitude] = await stored(1)
  assert.ok(
    Math.abs(longitude! - 10.2) < 0.02 && Math.abs(latitude! - 50.2) < 0.02,
    `${longitude} ${latitude}`,
  )

  await session.query("update example_posts set geom = 'SRID=4326;POINT(10.8 50.4)' where id = 1")
  await drag(page, [longitude!, latitude!], [10.3, 50.1])
  await status(page, '1 was changed meanwhile; here is its new place.')
  assert.deepEqual(await stored(1), [10.8, 50.4])
  await drag(page, [10.8, 50.4], [10.6, 50.3])
  await status(page, '1 is stored.')
  assert.ok((await stored(1))[0]! < 10.7)

  await page.getByLabel('add points').check()
  await click(page, [10.2, 50.3])
  await status(page, '4 is stored.')
  assert.ok(Math.abs((await stored(4))[0]! - 10.2) < 0.02)
  assert.deepEqual(seriousFaults(), [])
})
