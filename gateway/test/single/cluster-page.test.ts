// Tests the page of the cluster in a real browser, while addresses of the database break, freeze and come back.

import assert from 'node:assert/strict'
import { after, beforeEach, test } from 'node:test'
import type { Page } from 'playwright-core'
import { splitUrls } from '../../database/addresses.ts'
import { openSession } from '../../database/session.ts'
import { createApiKey } from '../../features/access/api-key.ts'
import { openBrowser, openPage, seriousFindings } from '../support/browser.ts'
import { testDatabase } from '../support/database.ts'
import { startGateway, startGatewayOn } from '../support/gateway.ts'
import { openRelay } from '../support/relay.ts'
import { until } from '../support/until.ts'

const urls = testDatabase()
const reads = await openRelay(splitUrls(urls.readUrl)[0]!)
const changes = await openRelay(splitUrls(urls.writeUrl)[0]!)
// Two addresses of one server look like a primary and its secondary.
const { client, database } = await startGatewayOn({ readUrl: reads.url, writeUrl: changes.url })
after(async () => {
  await reads.close()
  await changes.close()
})
const browser = await openBrowser()
const addressOf = (url: string) => new URL(url).host
const state = async () => (await client('/cluster')).json

beforeEach(async () => {
  reads.mend()
  changes.mend()
  await until(() => database.isReadable && database.isWritable, 15_000)
})

const PHONE = { width: 360, height: 740 }
const faults = (page: Page) => page.locator('#faults')
const follows = (page: Page) => page.getByText('This page follows the cluster.').waitFor()

test('a browser gets a page, other clients JSON, and f chooses', async () => {
  const page = await client('/cluster', { headers: { accept: 'text/html' } })
  assert.match(page.type, /^text\/html/)
  assert.match(page.headers.get('vary')!, /accept-language/)
  assert.equal(page.headers.get('cache-control'), 'no-store')
  assert.match((await client('/cluster?f=html')).type, /^text\/html/)
  for (const path of ['/cluster', '/cluster?f=json'])
    assert.match((await client(path)).type, /^application\/json/)
  assert.equal((await client('/cluster', { headers: { accept: 'image/png' } })).status, 406)
})

test('a page that is open shows by itself what breaks and since when, and what is over', async () => {
  const { page, faults: mistakes } = await openPage(browser, client.url)
  await page.goto('/cluster')
  await follows(page)
  await faults(page).getByText('Everything serves.').waitFor()
  const before = Date.now()
  changes.cut()
  const sentence = faults(page).getByText(`The write address ${addressOf(changes.url)} does not serve since`)
  await sentence.waitFor()
  const since = Date.parse((await sentence.locator('time').getAttribute('datetime'))!)
  assert.ok(since >= before && since <= Date.now(), `${since - before} ms`)
  await faults(page).getByText('Database has no primary since').waitFor()
  await page.locator('#topology .lost', { hasText: 'primary' }).waitFor()
  await page.locator('#topology .lost', { hasText: addressOf(changes.url) }).waitFor()
  const outage = page.locator('#outages tr', { hasText: addressOf(changes.url) }).first()
  assert.match((await outage.textContent())!, /it lasts/)
  changes.mend()
  await faults(page).getByText('Everything serves.').waitFor()
  assert.doesNotMatch((await outage.textContent())!, /it lasts/)
  assert.deepEqual(mistakes, [])
})

test('while no server answers, page and JSON come as fast as ever, and name what is unknown', async () => {
  const known = await state()
  assert.equal(known.lag[0].bytes >= 0, true)
  reads.freeze()
  changes.freeze()
  await until(async () => {
    for (const path of ['/cluster', '/cluster?f=html']) {
      const start = performance.now()
      const { status } = await client(path)
      const took = performance.now() - start
      assert.equal(status, 200, path)
      assert.ok(took < 1_500, `${path} took ${Math.round(took)} ms`)
    }
    const { endpoints, groups } = await state()
    return endpoints.every(({ isUp }: { isUp: boolean }) => !isUp) && groups[0].lagUnknownSince
  }, 15_000)
  const { groups, lag, groupsWithoutPrimary, outages } = await state()
  assert.deepEqual(groupsWithoutPrimary, [0])
  assert.deepEqual(lag, [])
  assert.ok(Date.parse(groups[0].primaryMissingSince) > Date.parse(known.process.startedAt))
  // What is stored has hardly changed, and is shown as it was.
  assert.deepEqual([groups[0].rows, groups[0].tables], [known.groups[0].rows, known.groups[0].tables])
  assert.equal(outages.filter(({ until }: { until?: string }) => until === undefined).length, 2)
})

test('without scripts, the page says everything', async () => {
  const { page } = await openPage(browser, client.url, { javaScriptEnabled: false })
  changes.cut()
  await until(() => !database.isWritable)
  await page.goto('/cluster')
  assert.match((await faults(page).textContent())!, /has no primary since/)
  for (const heading of ['Node groups', 'Addresses', 'Failovers', 'Outages'])
    assert.ok(await page.getByRole('heading', { name: heading, level: 2 }).isVisible(), heading)
  assert.equal(await page.getByRole('button', { name: 'Pause' }).isVisible(), false)
  assert.match((await page.locator('#addresses').textContent())!, /open since/)
})

test('on a phone and a desktop, light and dark, well and broken, nothing is inaccessible or too wide', async () => {
  for (const [viewport, colorScheme] of [
    [PHONE, 'dark'],
    [PHONE, 'light'],
    [{ width: 1280, height: 900 }, 'light'],
  ] as const) {
    const { page, faults: mistakes } = await openPage(browser, client.url, { viewport, colorScheme })
    const check = async (when: string) => {
      assert.deepEqual(await seriousFindings(page), [], `${when} ${colorScheme}`)
      const overflow = await page.evaluate<number>('document.documentElement.scrollWidth - innerWidth')
      assert.ok(overflow <= 0, `${when}: ${overflow} pixels wider than ${viewport.width}`)
    }
    await page.goto('/cluster')
    await follows(page)
    await check('well')
    changes.cut()
    await faults(page).getByText('has no primary').waitFor()
    await check('broken')
    changes.mend()
    await faults(page).getByText('Everything serves.').waitFor()
    assert.deepEqual(mistakes, [])
    await page.route('/cluster', (route) => route.abort())
    await page.getByText('What you see is as it was at').waitFor()
    await check('old')
    await page.close()
  }
})

test('by keyboard, a person pauses the page and reads on while it changes', async () => {
  const { page } = await openPage(browser, client.url)
  await page.goto('/cluster')
  await follows(page)
  const focused = () => page.evaluate<string>('document.activeElement.textContent.trim()')
  const reach = async (isThere: () => Promise<boolean>) => {
    for (let step = 0; step < 20; step++) {
      await page.keyboard.press('Tab')
      if (await isThere()) return
    }
    assert.fail('it was not reached')
  }
  const outages = () =>
    page.evaluate<boolean>(`document.activeElement.contains(document.getElementById('outages'))`)
  await reach(
    async () => (await outages()) && (await page.evaluate<boolean>('document.activeElement.tabIndex === 0')),
  )
  changes.cut()
  await faults(page).getByText('has no primary').waitFor()
  assert.ok(await outages(), 'the table that was being read has lost the focus')
  await page.locator('body').click({ position: { x: 1, y: 1 } })
  await reach(async () => (await focused()) === 'Pause')
  await page.keyboard.press('Enter')
  await page.getByText('Paused: this is how it was at').waitFor()
  changes.mend()
  await until(() => database.isWritable)
  await page.waitForTimeout(2_500)
  assert.match((await faults(page).textContent())!, /has no primary/)
  await page.keyboard.press('Enter')
  await faults(page).getByText('Everything serves.').waitFor()
})

test('a page that nobody sees is not read, and one whose gateway is gone says how old it is and asks less often', async () => {
  const { page } = await openPage(browser, client.url)
  await page.goto('/cluster')
  await follows(page)
  let asked = 0
  page.on('request', () => asked++)
  const hide = (isHidden: boolean) =>
    page.evaluate(`Object.defineProperty(document, 'hidden', { value: ${isHidden}, configurable: true })
      document.dispatchEvent(new Event('visibilitychange'))`)
  await hide(true)
  await page.waitForTimeout(500)
  asked = 0
  await page.waitForTimeout(4_500)
  assert.equal(asked, 0)
  await hide(false)
  await until(() => asked > 0)
  await page.route('**/cluster', (route) => route.abort())
  await page.getByText(/What you see is as it was at .* The gateway does not answer/).waitFor()
  asked = 0
  await page.waitForTimeout(9_000)
  // At intervals of 4 and 8 seconds.
  assert.ok(asked >= 1 && asked <= 2, `${asked} requests`)
  await page.unroute('**/cluster')
  await hide(false)
  await follows(page)
})

test('curves show what the page has read since it was opened', async () => {
  const { page } = await openPage(browser, client.url)
  await page.goto('/cluster')
  const lag = page.locator('#groups .curve path')
  const points = async () => ((await lag.getAttribute('d')) ?? '').split('L').length
  await follows(page)
  await until(async () => (await points()) >= 3, 15_000)
  const label = await page.locator('#groups .curve svg').getAttribute('aria-label')
  assert.match(label!, /The last four minutes: at most [\d,]+ bytes/)
  assert.ok((await page.locator('#addresses .curve path').count()) >= 2)
})

test('numbers and times are in the language of the reader', async () => {
  for (const [language, wanted] of [
    ['de-DE,de;q=0.9,en;q=0.8', { rows: /^\d{1,3}(\.\d{3})+$/, time: /^\d{2}\.\d{2}\.\d{4}/ }],
    ['en-US', { rows: /^\d{1,3}(,\d{3})+$/, time: /^\w{3} \d{1,2}, \d{4}/ }],
    // None of these is a language, and the last is one that nobody writes numbers in.
    ['*, x-y-z, de_DE, tlh', { rows: /^\d{1,3}(,\d{3})+$/, time: /^\w{3} \d{1,2}, \d{4}/ }],
  ] as const) {
    const { page } = await openPage(browser, client.url, {
      javaScriptEnabled: false,
      extraHTTPHeaders: { 'accept-language': language },
    })
    await page.goto('/cluster')
    const rows = await page.locator('#groups tbody tr').first().locator('td').last().textContent()
    assert.match(rows!, wanted.rows, language)
    const time = await page.locator('#origin time').textContent()
    assert.match(time!, wanted.time, language)
    assert.match(time!, /UTC$/)
  }
})

test('where a key is needed, the page asks for it, and keeps it in the browser', async () => {
  const owner = await openSession(testDatabase().ownerUrl, 'test')
  const key = await createApiKey(owner, {
    name: 'operator',
    canWrite: false,
    canManage: false,
    collections: undefined,
  })
  const guarded = await startGateway('--host=0.0.0.0')
  try {
    const { page, faults: mistakes } = await openPage(browser, guarded.client.url)
    const answer = await page.goto('/cluster')
    assert.equal(answer!.status(), 401)
    await page.getByText('This needs an API key').waitFor()
    assert.deepEqual(await seriousFindings(page), [])
    await page.getByLabel('API key').fill('tessera_000000000000_wrong')
    await page.getByRole('button', { name: 'Show' }).click()
    await page.getByText('The API key does not exist').waitFor()
    await page.getByLabel('API key').fill(key)
    await page.keyboard.press('Enter')
    await follows(page)
    await faults(page).getByText('Everything serves.').waitFor()
    await page.reload()
    await follows(page)
    assert.deepEqual(mistakes, [])
    // Other clients get the problem as before.
    assert.equal((await guarded.client('/cluster')).json.code, 'credentials-missing')
  } finally {
    await owner.query('delete from tessera.api_key')
    await owner.close()
  }
})
