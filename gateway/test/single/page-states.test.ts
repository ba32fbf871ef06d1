// Tests what pages of collections and features show on a phone, without features, when something fails, and in which
// language.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import type { Page } from 'playwright-core'
import { splitUrls } from '../../database/addresses.ts'
import { openBrowser, openPage, seriousFindings } from '../support/browser.ts'
import { testDatabase } from '../support/database.ts'
import { startGatewayOn } from '../support/gateway.ts'
import { openRelay } from '../support/relay.ts'
import { until } from '../support/until.ts'

const reads = await openRelay(splitUrls(testDatabase().readUrl)[0]!)
const { client, session, catalog, database } = await startGatewayOn({ readUrl: reads.url })
after(() => reads.close())
const browser = await openBrowser()

const wide = Array.from(
  { length: 12 },
  (_, index) => `column_${index} text default 'a value of column ${index}'`,
)
await session.query(`
  create table reading (
    id int primary key, geom geometry(Point, 4326) not null, residents int, height float8, year int, taken date,
    seen timestamptz, logged timestamp, note text, extra jsonb, ${wide.join(', ')});
  insert into reading (id, geom, residents, height, year, taken, seen, logged, note, extra) values
    (1, 'SRID=4326;POINT(10 50)', 1234567, 1234.5, 2020, '2021-03-09', '2021-03-09T14:05:06+00', '2021-03-09T14:05:06', '1234567', '{"a": 1234567}'),
    (2, 'SRID=4326;POINT(11 50)', -98765, 0.1, 12020, '0044-03-15 BC', '2021-03-09T14:05:06.789+00', null, null, null),
    (3, 'SRID=4326;POINT(12 50)', 0, 1e-9, null, 'infinity', 'infinity', null, '2021-03-09', null);
  create table nothing_yet (id int primary key, geom geometry(Point, 4326), name text)`)
await catalog.reload()

const PHONE = { width: 360, height: 740 }
const rows = (page: Page) => page.locator('#features tbody tr')
/** Opens a page of features, and waits until its script has shown them again, as it has read them itself. */
const openItems = async (page: Page, address: string) => {
  await Promise.all([page.waitForResponse(/reading\/items\?.*f=json/), page.goto(address)])
  await page.waitForLoadState('networkidle')
}
const cellsOf = (page: Page, row: number) => rows(page).nth(row).locator('td').allTextContents()
const answering = (language: string) => ({ extraHTTPHeaders: { 'accept-language': language } })

const SHOWN: Readonly<Record<string, readonly (readonly string[])[]>> = {
  'de-DE': [
    [
      '1.234.567',
      '1234,5',
      '2020',
      '09.03.2021',
      '09.03.2021, 14:05:06 UTC',
      '09.03.2021, 14:05:06 UTC',
      '1234567',
      '{"a":1234567}',
    ],
    ['-98.765', '0,1', '12.020', '0044-03-15 BC', '2021-03-09T14:05:06.789+00:00', '', '', ''],
    ['0', '1e-9', '', 'infinity', 'infinity', '', '2021-03-09', ''],
  ],
  en: [
    [
      '1,234,567',
      '1234.5',
      '2020',
      'Mar 9, 2021',
      'Mar 9, 2021, 2:05:06 PM UTC',
      'Mar 9, 2021, 2:05:06 PM UTC',
      '1234567',
      '{"a":1234567}',
    ],
  ],
}

test('numbers and dates of features are in the language of the reader, and lose nothing', async () => {
  for (const [language, wanted] of Object.entries(SHOWN))
    for (const javaScriptEnabled of [false, true]) {
      const options = { ...answering(language), javaScriptEnabled }
      const { page, faults } = await openPage(browser, client.url, options)
      if (javaScriptEnabled) await openItems(page, '/collections/reading/items')
      else await page.goto('/collections/reading/items')
      for (const [row, texts] of wanted.entries())
        assert.deepEqual((await cellsOf(page, row)).slice(0, 8), texts, `${language} ${javaScriptEnabled}`)
      await page.goto('/collections/reading/items/1')
      if (javaScriptEnabled) await page.waitForLoadState('networkidle')
      const shown = await page.locator('#shown td').allTextContents()
      assert.deepEqual(shown.slice(0, 8), wanted[0])
      assert.deepEqual(faults, [])
    }
})

test('a form has values as programs read them, in whatever language they are shown', async () => {
  const { page, faults } = await openPage(browser, client.url, answering('de-DE'))
  await page.goto('/collections/reading/items/1')
  await page.locator('#edit').click()
  assert.equal(await page.getByLabel('residents').inputValue(), '1234567')
  await page.getByLabel('height').fill('1234.75')
  await page.getByRole('button', { name: 'Save' }).click()
  await page.getByRole('status').getByText('Saved.').waitFor()
  assert.equal(await page.locator('[data-property=height]').textContent(), '1234,75')
  assert.deepEqual(faults, [])
  await session.query('update reading set height = 1234.5 where id = 1')
})

test('a cache keeps a page apart for each language, and JSON for all', async () => {
  const address = '/collections/reading/items'
  const german = await client(`${address}?f=html`, { headers: { 'accept-language': 'de' } })
  const english = await client(`${address}?f=html`, { headers: { 'accept-language': 'en' } })
  assert.match(german.headers.get('vary')!, /accept-language/)
  assert.notEqual(german.headers.get('etag'), english.headers.get('etag'))
  const json = await client(address, { headers: { 'accept-language': 'de' } })
  assert.doesNotMatch(json.headers.get('vary')!, /accept-language/)
})

test('on a phone, facts are cards, and a feature keeps its name while its properties scroll', async () => {
  for (const colorScheme of ['light', 'dark'] as const) {
    const { page } = await openPage(browser, client.url, { viewport: PHONE, colorScheme })
    for (const address of [
      '/collections/reading',
      '/collections/reading/queryables?f=html',
      '/functions?f=html',
    ]) {
      await page.goto(address)
      await page.waitForLoadState('networkidle')
      const hidden = await page
        .locator('.scroll')
        .evaluateAll((regions: any[]) =>
          regions.reduce(
            (most, { scrollWidth, clientWidth }) => Math.max(most, scrollWidth - clientWidth),
            0,
          ),
        )
      assert.equal(hidden, 0, `${address} hides ${hidden} pixels`)
      const label = await page
        .locator('.facts td:not(:empty)')
        .first()
        .evaluate((cell: any) => (globalThis as any).getComputedStyle(cell, '::before').content)
      assert.match(label, /Type|Returns/)
      // Cards are still a table for a screen reader.
      assert.ok((await page.getByRole('columnheader').count()) >= 3)
      assert.ok((await page.getByRole('rowheader').count()) >= 2)
      assert.deepEqual(await seriousFindings(page), [], address)
    }
    await openItems(page, '/collections/reading/items')
    const name = rows(page).first().locator('th')
    await name.scrollIntoViewIfNeeded()
    const before = (await name.boundingBox())!
    await page.locator('#found').evaluate((region: any) => region.scrollTo(900, 0))
    const scrolled = (await name.boundingBox())!
    assert.equal(scrolled.x, before.x)
    const covered = await name.evaluate((cell: any) => {
      const { x, y, height } = cell.getBoundingClientRect()
      return cell.contains((globalThis as any).document.elementFromPoint(x + 5, y + height / 2))
    })
    assert.ok(covered, 'properties are drawn over the name')
    await page.close()
  }
})

test('features stay readable while others are loaded', async () => {
  for (const colorScheme of ['light', 'dark'] as const) {
    const { page } = await openPage(browser, client.url, { colorScheme })
    const held = Promise.withResolvers<void>()
    await page.route(/reading\/items\?.*f=json/, async (route) => {
      await held.promise
      await route.continue()
    })
    await page.goto('/collections/reading/items')
    await page.locator('#found[aria-busy=true]').waitFor()
    assert.deepEqual(await seriousFindings(page), [], colorScheme)
    held.resolve()
    await page.locator('#found[aria-busy=false]').waitFor()
    await page.close()
  }
})

test('without features, a page says why, and where there may be some', async () => {
  for (const javaScriptEnabled of [false, true]) {
    const { page, faults } = await openPage(browser, client.url, { javaScriptEnabled })
    const open = async (address: string) => {
      await page.goto(address)
      if (javaScriptEnabled) await page.waitForLoadState('networkidle')
    }
    await open('/collections/nothing_yet')
    await page.getByText('none: no feature with coordinates is known').waitFor()
    await page.getByRole('link', { name: 'Features on a map' }).click()
    await page.getByText('This collection has no features yet.').waitFor()
    assert.equal(await page.locator('#features').isVisible(), false)
    assert.deepEqual(await (javaScriptEnabled ? seriousFindings(page) : []), [])

    await open(`/collections/reading/items?filter=${encodeURIComponent('residents > 9e9')}&bbox=0,0,1,1`)
    await page.getByText('No feature meets these conditions.').waitFor()
    await page.getByRole('link', { name: 'Everywhere' }).click()
    await page.getByRole('link', { name: 'Without the filter' }).click()
    await rows(page).nth(2).waitFor()
    assert.doesNotMatch(page.url(), /filter|bbox/)

    await open('/collections/reading/items?offset=100')
    await page.getByText('There are no more features.').waitFor()
    await page.getByRole('link', { name: 'From the first one' }).click()
    await rows(page).nth(2).waitFor()
    assert.equal(await page.locator('#none').isVisible(), false)
    await open('/collections/reading/items?year=2020')
    assert.match((await page.locator('#status').textContent())!, /^1 feature\./)
    assert.deepEqual(faults, [])
  }
})

test('a map that is moved to where nothing is says so, and when it cannot be read, why', async () => {
  const { page, faults } = await openPage(browser, client.url)
  await openItems(page, '/collections/reading/items')
  const items = '**/collections/reading/items?*f=json*'
  await page.route(items, (route) => route.fulfill({ status: 502, body: '<h1>Bad gateway</h1>' }))
  const box = (await page.locator('#map').boundingBox())!
  const drag = async () => {
    await page.mouse.move(box.x + box.width * 0.3, box.y + box.height * 0.5)
    await page.mouse.down()
    await page.mouse.move(box.x + box.width * 0.3, box.y + 10, { steps: 5 })
    await page.mouse.up()
  }
  await drag()
  await page.getByText('The features could not be read: the gateway answered with status 502').waitFor()
  // The table would have other features than the map.
  assert.equal(await page.locator('#features').isVisible(), false)
  await page.unroute(items)
  await page.route(items, (route) => route.abort())
  await page.getByRole('button', { name: 'Try again' }).click()
  await page.getByText('The features could not be read: the gateway does not answer.').waitFor()
  await page.unroute(items)
  await page.getByRole('button', { name: 'Try again' }).click()
  await page.getByText(/features? on this map/).waitFor()
  assert.equal(await page.getByRole('button', { name: 'Try again' }).isVisible(), false)
  for (let moves = 0; moves < 8 && (await rows(page).count()) > 0; moves++) {
    await drag()
    await page.waitForTimeout(600)
  }
  await page.getByText('No feature is in this area.').waitFor()
  await page.getByRole('link', { name: 'Everywhere' }).click()
  await rows(page).nth(2).waitFor()
  const own = faults.filter((fault) => !/status of 502|ERR_FAILED/.test(fault))
  assert.deepEqual(own, [])
})

test('a browser that cannot draw maps shows, finds and changes features all the same', async () => {
  const { page } = await openPage(browser, client.url)
  await page.addInitScript(() => {
    ;(globalThis as any).HTMLCanvasElement.prototype.getContext = () => null
  })
  await page.goto('/collections/reading/items')
  await page.getByText('This browser cannot draw the map').waitFor()
  assert.equal(await rows(page).count(), 3)
  await rows(page).nth(1).locator('a').click()
  await page.locator('#edit').click()
  await page.getByLabel('note').fill('without a map')
  await page.getByRole('button', { name: 'Save' }).click()
  await page.getByRole('status').getByText('Saved.').waitFor()
  assert.equal((await client('/collections/reading/items/2')).json.properties.note, 'without a map')
  await session.query('update reading set note = null where id = 2')
})

test('the page of a failure leads on: to the same address if that can help, or to the collections', async () => {
  const { page } = await openPage(browser, client.url)
  await page.goto('/collections/none')
  await page.getByRole('link', { name: 'To the collections' }).click()
  await page.getByRole('heading', { name: 'Collections', level: 1 }).waitFor()
  const address = '/collections/reading/items?limit=2'
  // With a write port, the primary would be read.
  const alone = await startGatewayOn({ readUrl: reads.url, writeUrl: undefined as never })
  const other = await openPage(browser, alone.client.url)
  reads.cut()
  await until(() => !alone.database.isReadable)
  await other.page.goto(address)
  const again = other.page.getByRole('link', { name: 'Try again' })
  assert.equal(await again.getAttribute('href'), `${alone.client.url}${address}`)
  assert.deepEqual(await seriousFindings(other.page), [])
  reads.mend()
  await until(() => alone.database.isReadable && database.isReadable, 15_000)
  await again.click()
  await rows(other.page).nth(1).waitFor()
})
