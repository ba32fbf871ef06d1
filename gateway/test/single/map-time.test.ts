// Tests the time sliders of maps in a real browser: what they select on the map and in the table, and the address.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Page, Request } from 'playwright-core'
import { openBrowser, openPage, seriousFindings } from '../support/browser.ts'
import { startGateway } from '../support/gateway.ts'

const { client, session, catalog } = await startGateway()
const browser = await openBrowser()

// A schema of its own, which one gateway has alone: other files have collections, too.
await session.query(`
  create schema map_times;
  set search_path = map_times, public;
  create table sightings (id int primary key, geom geometry(Point, 4326), name text, seen date);
  insert into sightings select i, st_setsrid(st_makepoint(10 + i * 0.1, 50), 4326), 'no. ' || i, date '2020-01-01' + (i - 1) * 10
    from generate_series(1, 11) i;
  create table calls (id int primary key, geom geometry(Point, 4326), name text, at timestamptz);
  insert into calls select i, st_setsrid(st_makepoint(10, 50), 4326), 'call ' || i, timestamptz '2020-01-01T00:00:00.5Z' + i * interval '1 hour'
    from generate_series(0, 10) i;
  create table once (id int primary key, geom geometry(Point, 4326), at date);
  insert into once values (1, 'SRID=4326;POINT(1 2)', '2020-01-01');
  create table ever (id int primary key, geom geometry(Point, 4326));
  insert into ever values (1, 'SRID=4326;POINT(1 2)');
  reset search_path`)
await catalog.reload()
const { client: alone } = await startGateway('--schemas=map_times')

const rows = (page: Page) => page.locator('#features tbody tr')
const slider = (page: Page, name: 'From' | 'Until') => page.getByRole('slider', { name })
const datetimeOf = (sent: Request) => new URL(sent.url()).searchParams.get('datetime')
/** Waits until a tile of such a time is requested. */
const tileOf = (page: Page, id: string, datetime: RegExp) =>
  page.waitForRequest(
    (sent) => sent.url().includes(`/collections/${id}/tiles/`) && datetime.test(datetimeOf(sent) ?? ''),
  )

test('sliders choose days, of which the map and the table show the features, and the address holds them', async () => {
  const { page, faults } = await openPage(browser, client.url)
  await page.goto('/collections/map_times.sightings/items?f=html&limit=100')
  await page.locator('output').getByText('All times').waitFor()
  await Promise.all([
    tileOf(page, 'map_times.sightings', /^2020-02-20\/\.\.$/),
    slider(page, 'From').fill('50'),
  ])
  await page.getByText('Feb 20, 2020 – Apr 10, 2020').waitFor()
  await page.getByText('6 features.').waitFor()
  assert.equal(await rows(page).count(), 6)
  await Promise.all([
    tileOf(page, 'map_times.sightings', /^2020-02-20\/2020-03-11$/),
    slider(page, 'Until').fill('70'),
  ])
  await page.getByText('3 features.').waitFor()
  assert.equal(await slider(page, 'Until').getAttribute('aria-valuetext'), 'Mar 11, 2020')
  assert.equal(new URL(page.url()).searchParams.get('datetime'), '2020-02-20/2020-03-11')
  // One slider pushes the other.
  await slider(page, 'From').fill('90')
  assert.equal(await slider(page, 'Until').inputValue(), '90')
  await page.getByText('1 feature.').waitFor()
  await slider(page, 'From').focus()
  await page.keyboard.press('ArrowRight')
  await page.getByText('No feature meets these conditions.').waitFor()
  await page.keyboard.press('ArrowLeft')
  await page.getByText('1 feature.').waitFor()
  assert.deepEqual(await seriousFindings(page), [])
  // The filter line keeps the time.
  await page.getByRole('combobox', { name: 'Filter' }).fill('id > 0')
  await page.getByRole('button', { name: 'Apply' }).click()
  await page.waitForURL(/filter=/)
  assert.equal(new URL(page.url()).searchParams.get('datetime'), '2020-03-31/2020-04-01')
  await page.getByText('1 feature.').waitFor()
  assert.equal(await slider(page, 'From').inputValue(), '90')
  await page.getByRole('button', { name: 'All times' }).click()
  await page.getByText('11 features.').waitFor()
  assert.equal(new URL(page.url()).searchParams.has('datetime'), false)
  assert.equal(await page.getByRole('button', { name: 'All times' }).isVisible(), false)
  assert.deepEqual(faults, [])
})

test('on the map of all collections, time concerns those that have one', async () => {
  const { page, faults } = await openPage(browser, alone.url)
  const asked: URL[] = []
  page.on('request', (sent) => asked.push(new URL(sent.url())))
  await page.goto('/map#map=6/50/10')
  await slider(page, 'From').waitFor()
  await page.waitForLoadState('networkidle')
  // Times of several collections, from the first of January to the tenth of April: a thousand steps.
  const [tile] = await Promise.all([
    tileOf(page, 'map_times.calls', /^\.\.\/2020-02-2\dT[\d:]+Z$/),
    slider(page, 'Until').fill('500'),
  ])
  assert.match(new URL(page.url()).hash, /datetime=/)
  const other = await openPage(browser, alone.url)
  const [again] = await Promise.all([
    tileOf(other.page, 'map_times.sightings', /./),
    other.page.goto(page.url()),
  ])
  assert.equal(datetimeOf(again), datetimeOf(tile))
  assert.equal(await slider(other.page, 'Until').inputValue(), '500')
  const ofEver = asked.filter(({ pathname }) => pathname.includes('/map_times.ever/tiles/'))
  assert.ok(ofEver.length > 0 && ofEver.every(({ searchParams }) => !searchParams.has('datetime')))
  assert.deepEqual([...faults, ...other.faults], [])
})

test('the ends are open, so that a time with a fraction of a second is not lost', async () => {
  const { page } = await openPage(browser, client.url)
  await page.goto('/collections/map_times.calls/items?f=html')
  await slider(page, 'From').fill('1000')
  await page.getByText('1 feature.').waitFor()
  assert.match((await rows(page).first().textContent())!, /call 10/)
})

test('there are no sliders without an interval', async () => {
  const { page } = await openPage(browser, client.url)
  for (const id of ['once', 'ever']) {
    await page.goto(`/collections/map_times.${id}`)
    await page.locator('#map canvas').waitFor()
    assert.equal(await page.getByRole('slider').count(), 0, id)
  }
})
