// Tests colours by a property on the maps of pages, in a real browser: what is drawn, the legend, and the address.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Page } from 'playwright-core'
import { SCHEMES } from '../../http/html/assets/palette.js'
import { countPixels, openBrowser, openPage, seriousFindings } from '../support/browser.ts'
import { startGateway } from '../support/gateway.ts'

const { client, session, catalog } = await startGateway()
const browser = await openBrowser()

// A schema of its own, which one gateway has alone: other files have collections, too.
await session.query(`
  create schema map_colours;
  create table map_colours.plots (id int primary key, geom geometry(Point, 4326), crop text, yield float8, exact numeric, "a,b" text);
  insert into map_colours.plots select i * 3 + j, st_setsrid(st_makepoint(i, 41 + j), 4326), (array['oats', 'rye', null])[1 + i % 3],
      100 * i, i % 2 + 0.50, 'x'
    from generate_series(1, 12) i, generate_series(0, 2) j`)
await catalog.reload()
const { client: alone } = await startGateway('--schemas=map_colours')

const rgb = (hex: string) =>
  [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16)) as [number, number, number]
const legend = (page: Page) => page.getByRole('list', { name: 'Legend of plots' }).getByRole('listitem')
const texts = async (page: Page) => (await legend(page).allTextContents()).map((text) => text.trim())
/** Waits until a colour is on the map. */
async function isDrawn(page: Page, colour: string, isWanted = true) {
  for (const deadline = performance.now() + 60_000; performance.now() < deadline; ) {
    await page.locator('#map[aria-busy=false]').waitFor()
    const found = await countPixels(browser, await page.locator('#map').screenshot(), rgb(colour))
    // A point has some ten pixels that are not blended with others.
    if (found > 20 === isWanted) return
  }
  assert.fail(`${colour} is ${isWanted ? 'not ' : ''}on the map`)
}

for (const colorScheme of ['light', 'dark'] as const)
  test(`features have the colours of their values, as the legend says, in ${colorScheme}`, async () => {
    const { page, faults } = await openPage(browser, client.url, { colorScheme })
    const { kinds, classes, rest } = SCHEMES[colorScheme]
    await page.goto('/collections/map_colours.plots')
    await isDrawn(page, kinds[0]!)
    const choice = page.getByLabel('Colours')
    await choice.selectOption('crop')
    await isDrawn(page, kinds[1]!)
    await isDrawn(page, rest)
    assert.deepEqual(await texts(page), ['oats 33%', 'rye 33%', 'others 33%'])
    assert.match(new URL(page.url()).hash, /colour=map_colours\.plots%3Dcrop/)
    await choice.selectOption('yield')
    for (const colour of classes) await isDrawn(page, colour)
    await isDrawn(page, rest, false)
    assert.deepEqual(await texts(page), ['100 – 300', '300 – 500', '500 – 800', '800 – 1000', '1000 – 1200'])
    assert.deepEqual(await seriousFindings(page), [])
    // Tiles have an exact decimal as text.
    await choice.selectOption('exact')
    await isDrawn(page, classes[0]!)
    await isDrawn(page, classes.at(-1)!)
    // The address has the colours.
    const other = await openPage(browser, client.url, { colorScheme })
    await other.page.goto(page.url())
    await isDrawn(other.page, classes[0]!)
    assert.deepEqual(await texts(other.page), ['0.5 50%', '1.5 50%'])
    // Only the page in front is drawn.
    await other.page.context().close()
    await page.bringToFront()
    // A list of names has no way to write one with a comma; then tiles have all.
    await choice.selectOption('a,b')
    await isDrawn(page, kinds[0]!)
    await choice.selectOption('')
    await isDrawn(page, kinds[0]!)
    assert.equal(await legend(page).count(), 0)
    assert.doesNotMatch(page.url(), /colour=/)
    assert.deepEqual([...faults, ...other.faults], [])
  })

test('colours change with the system, and the value is next to the pointer', async () => {
  const { page, faults } = await openPage(browser, alone.url, { colorScheme: 'light' })
  await page.goto('/map#map=5/42/7')
  await page.getByLabel('Colours').selectOption('yield')
  await isDrawn(page, SCHEMES.light.classes[2]!)
  await page.emulateMedia({ colorScheme: 'dark' })
  await isDrawn(page, SCHEMES.dark.classes[2]!)
  const box = (await page.locator('#map canvas').boundingBox())!
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2)
  await page.locator('#tip').getByText('rye · 700').waitFor()
  assert.deepEqual(faults, [])
})

test('if the values cannot be read, the map says why and keeps its colour', async () => {
  const { page } = await openPage(browser, client.url)
  await page.route('**/summary?*', (route) => route.abort())
  await page.goto('/collections/map_colours.plots')
  await page.getByLabel('Colours').selectOption('crop')
  await page.getByText('The values of crop cannot be read: the gateway does not answer.').waitFor()
  assert.equal(await page.getByLabel('Colours').inputValue(), '')
  await isDrawn(page, SCHEMES.light.kinds[0]!)
})
