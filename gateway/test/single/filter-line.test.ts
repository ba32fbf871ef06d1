// Tests the filter line in a real browser: completion by keyboard and mouse, faults, and the line without scripts.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Page, Request } from 'playwright-core'
import { dragMap, openBrowser, openPage, seriousFindings } from '../support/browser.ts'
import { startGateway } from '../support/gateway.ts'

const { client, session, catalog } = await startGateway()
const browser = await openBrowser()

const HOSTILE = `<img src=x onerror="window.pwned = 1">`
await session.query(`
  create table lodges (
    id int primary key, geom geometry(Point, 4326) not null, name text, kind text check (kind in ('hotel', 'hut', 'inn')),
    open boolean, "max height" int, "in" int, opened date, seen timestamptz, extra jsonb);
  comment on column lodges."max height" is 'Metres above the sea';
  insert into lodges select i, st_setsrid(st_makepoint(10 + i, 50), 4326), 'Lodge ' || i, (array['hotel','hut','inn'])[1 + i % 3],
    i % 2 = 0, i * 100, i, date '2020-01-01' + i, timestamptz '2020-01-01T12:00:00Z' + i * interval '1 day'
  from generate_series(1, 9) i`)
await session.query(
  `insert into lodges (id, geom, name) values
    (10, 'SRID=4326;POINT(10 51)', $1), (11, 'SRID=4326;POINT(10 51)', $2), (12, 'SRID=4326;POINT(10 51)', $3)`,
  ['Via dell’Orso', String.raw`O'Neill\'s 100%`, HOSTILE],
)
await catalog.reload()

const ADDRESS = '/collections/lodges/items?f=html&limit=100'
const lineOf = (page: Page) => page.getByRole('combobox', { name: 'Filter' })
const options = (page: Page) => page.getByRole('listbox').getByRole('option')
const rows = (page: Page) => page.locator('#features tbody tr')
const idsIn = async (page: Page) => (await rows(page).locator('th').allTextContents()).map(Number)
/** Returns the texts of the options, without the notes, once this one is among them. */
const offered = async (page: Page, wanted: string) => {
  const texts = () => page.locator('[role=option] code').allTextContents()
  for (const deadline = performance.now() + 10_000; performance.now() < deadline; ) {
    const found = await texts()
    if (found.includes(wanted)) return found
    await page.waitForTimeout(20)
  }
  return assert.fail(`${wanted} is not among ${await texts()} for ${await lineOf(page).inputValue()}`)
}
const pick = async (page: Page, wanted: string) => {
  const index = (await offered(page, wanted)).indexOf(wanted)
  for (let step = 0; step <= index; step++) await page.keyboard.press('ArrowDown')
  const active = await lineOf(page).getAttribute('aria-activedescendant')
  const chosen = page.locator('[role=option][aria-selected=true]')
  assert.equal(await chosen.getAttribute('id'), active)
  await page.keyboard.press('Enter')
}

test('a filter is typed with the keyboard alone: names, operators and values are completed, and rows are found', async () => {
  const { page, faults } = await openPage(browser, client.url)
  await page.goto(ADDRESS)
  await lineOf(page).focus()
  assert.equal(await lineOf(page).getAttribute('aria-expanded'), 'false')
  await page.keyboard.type('max')
  await pick(page, '"max height"')
  await pick(page, '>')
  await page.keyboard.type('300 an')
  await pick(page, 'AND')
  await page.keyboard.type('kin')
  await pick(page, 'kind')
  await pick(page, 'IN (')
  await pick(page, "'hut'")
  await page.keyboard.type(',')
  await pick(page, "'inn'")
  await page.keyboard.type(') ')
  assert.equal(await lineOf(page).inputValue(), `"max height" > 300 AND kind IN ('hut','inn') `)
  assert.deepEqual(await seriousFindings(page), [])
  await page.keyboard.press('Escape')
  assert.equal(await lineOf(page).getAttribute('aria-expanded'), 'false')
  await page.keyboard.press('Enter')
  await page.waitForURL((url) => url.searchParams.has('filter'))
  assert.deepEqual(await idsIn(page), [4, 5, 7, 8])
  assert.equal(new URL(page.url()).searchParams.get('limit'), '100')
  // An empty line shows everything again.
  await lineOf(page).fill('')
  await page.getByRole('button', { name: 'Apply' }).click()
  await page.waitForURL((url) => !url.searchParams.has('filter'))
  assert.equal(await rows(page).count(), 12)
  assert.deepEqual(faults, [])
})

test('values are those that features have, and stay the same through quotes and patterns', async () => {
  const { page, faults } = await openPage(browser, client.url)
  await page.goto(ADDRESS)
  for (const [typed, literal, id] of [
    // In small letters, as people type.
    ["name = 'lod", "'Lodge 7'", 7],
    ["name = 'Via dell’", "'Via dell’Orso'", 10],
    ["name = 'O''Nei", String.raw`'O''Neill\\''s 100%'`, 11],
    ["name = '<", `'${HOSTILE}'`, 12],
    ['"in" BETWEEN 9 AND ', '9', 9],
    ['opened = ', "DATE('2020-01-04')", 3],
    ['seen = ', "TIMESTAMP('2020-01-05T12:00:00Z')", 4],
    ['id = ', '8', 8],
  ] as const) {
    await lineOf(page).fill('')
    await lineOf(page).pressSequentially(typed)
    await pick(page, literal)
    await page.keyboard.press('Escape')
    await page.keyboard.press('Enter')
    await page.waitForURL((url) => url.searchParams.get('filter')?.endsWith(literal) ?? false)
    assert.deepEqual(await idsIn(page), [id], typed)
  }
  assert.equal(await page.evaluate(() => (globalThis as { pwned?: number }).pwned), undefined)
  assert.deepEqual(faults, [])
})

test('what is offered fits what comes before the caret', async () => {
  const { page } = await openPage(browser, client.url)
  await page.goto(ADDRESS)
  const after = async (text: string, wanted: string) => {
    await lineOf(page).fill(text)
    return offered(page, wanted)
  }
  const names = await after('op', 'open')
  assert.deepEqual(names, ['open', 'opened'])
  assert.ok((await after('NOT ', 'S_INTERSECTS(')).includes('"in"'))
  assert.deepEqual(await after('open ', 'IS NOT NULL'), ['AND', 'OR', '=', '<>', 'IS NULL', 'IS NOT NULL'])
  assert.deepEqual((await after('open = ', 'TRUE')).slice(0, 2), ['FALSE', 'TRUE'])
  assert.deepEqual(await after('extra ', 'IS NULL'), ['IS NULL', 'IS NOT NULL'])
  assert.deepEqual(await after('name not', 'NOT LIKE'), [
    'NOT LIKE',
    'NOT IN (',
    'NOT BETWEEN',
    'IS NOT NULL',
  ])
  assert.deepEqual(await after('name IS n', 'IS NULL'), ['IS NULL', 'IS NOT NULL'])
  assert.deepEqual(await after("name = 'x' ", 'OR'), ['AND', 'OR'])
  assert.deepEqual(await after('"max height" = "in" ', 'OR'), ['AND', 'OR'])
  assert.deepEqual(await after('s_dw', 's_dwithin('), ['s_dwithin('])
  assert.deepEqual(await after('"max', '"max height"'), ['"max height"'])
  // A name in the middle is replaced as a whole.
  await lineOf(page).fill('nme IS NULL')
  for (const key of ['Home', 'ArrowRight']) await page.keyboard.press(key)
  await page.keyboard.press('ArrowDown')
  await pick(page, 'name')
  assert.match(await lineOf(page).inputValue(), /^name +IS NULL$/)
})

test('values are requested once for keys that follow one another, bounded, and never for texts of no property', async () => {
  const { page } = await openPage(browser, client.url)
  await page.goto(ADDRESS)
  const sent: Request[] = []
  // The map requests features with all properties.
  const isOfValues = (request: Request) => /lodges\/items\?.*properties=name/.test(request.url())
  page.on('request', (request) => void (isOfValues(request) && sent.push(request)))
  await lineOf(page).fill('na')
  await offered(page, 'name')
  // The page itself types: a busy machine may deliver keys far apart, which are then requests of their own.
  await page.evaluate(`(async () => {
    for (const text of ["name LIKE 'L", "name LIKE 'Lo", "name LIKE 'Lodge"]) {
      document.activeElement.value = text
      document.activeElement.dispatchEvent(new Event('input'))
      await new Promise((resolve) => setTimeout(resolve))
    }
  })()`)
  await offered(page, "'Lodge 1'")
  assert.equal(sent.length, 1)
  const { searchParams } = new URL(sent[0]!.url())
  assert.deepEqual(Object.fromEntries(searchParams), {
    f: 'json',
    limit: '100',
    skipGeometry: 'true',
    properties: 'name',
    filter: "name LIKE 'Lodge%'",
  })
  assert.equal(sent[0]!.headers().prefer, 'wait=2')
  await lineOf(page).fill("'Lodge")
  await page.waitForTimeout(600)
  assert.equal(await options(page).count(), 0)
  assert.equal(sent.length, 1)
})

test('a faulty filter is shown with its fault, and the caret is there', async () => {
  const { page, faults } = await openPage(browser, client.url)
  await page.goto(`${ADDRESS}&bbox=0,40,30,60`)
  await lineOf(page).fill("name = 'Lodge 1' AND bed > 1")
  await page.getByRole('button', { name: 'Apply' }).click()
  const fault = page.locator('#filter-fault')
  await fault.getByText('filter is not valid at position 21').waitFor()
  assert.equal(await fault.locator('mark').textContent(), 'bed')
  const line = lineOf(page)
  assert.equal(await line.inputValue(), "name = 'Lodge 1' AND bed > 1")
  assert.equal(await line.getAttribute('aria-invalid'), 'true')
  assert.match(
    await line.evaluate((input) => (input as any).ariaDescribedByElements[0].textContent),
    /position 21/,
  )
  assert.deepEqual(
    await page.evaluate('[document.activeElement.id, document.activeElement.selectionStart]'),
    ['filter', 21],
  )
  assert.deepEqual(await seriousFindings(page), [])
  await line.fill("name = 'Lodge 1'")
  await page.keyboard.press('Enter')
  await rows(page).first().waitFor()
  assert.deepEqual(await idsIn(page), [1])
  assert.equal(new URL(page.url()).searchParams.get('bbox'), '0,40,30,60')
  assert.deepEqual(faults, [])
})

test('the box to which the map was moved stays, and the filter stays when the map is moved', async () => {
  const { page, faults } = await openPage(browser, client.url)
  await page.goto(`${ADDRESS}&filter=${encodeURIComponent('id < 10')}`)
  await page.waitForLoadState('networkidle')
  await dragMap(page)
  const moved = new URL(page.url()).searchParams
  assert.equal(moved.get('filter'), 'id < 10')
  const west = await idsIn(page)
  assert.ok(west.length > 0 && west.length < 9, `${west}`)
  await lineOf(page).fill('id > 1')
  await page.getByRole('button', { name: 'Apply' }).click()
  await page.waitForURL((url) => url.searchParams.get('filter') === 'id > 1')
  assert.equal(new URL(page.url()).searchParams.get('bbox'), moved.get('bbox'))
  await page.getByRole('link', { name: 'Everywhere' }).click()
  await page.waitForURL((url) => !url.searchParams.has('bbox'))
  assert.equal(new URL(page.url()).searchParams.get('filter'), 'id > 1')
  assert.deepEqual(faults, [])
})

test('on a phone a touch opens the list, which fits the screen, light and dark', async () => {
  for (const colorScheme of ['light', 'dark'] as const) {
    const { page } = await openPage(browser, client.url, {
      viewport: { width: 360, height: 740 },
      colorScheme,
      hasTouch: true,
      isMobile: true,
    })
    const isFitting = async (what: string) => {
      const overflow = await page.evaluate<number>('document.documentElement.scrollWidth - innerWidth')
      assert.ok(overflow <= 0, `${what} is ${overflow} pixels wider than the screen`)
      assert.deepEqual(await seriousFindings(page), [], `${what}, ${colorScheme}`)
    }
    await page.goto(ADDRESS)
    await lineOf(page).tap()
    await offered(page, 'name')
    await isFitting('the list')
    await options(page)
      .locator('code', { hasText: /^kind$/ })
      .tap()
    await offered(page, 'IN (')
    await options(page)
      .locator('code', { hasText: /^IS NULL$/ })
      .tap()
    await page.getByRole('button', { name: 'Apply' }).tap()
    await page.waitForURL((url) => url.searchParams.get('filter')?.trim() === 'kind IS NULL')
    assert.deepEqual(await idsIn(page), [10, 11, 12])
    await page.goto(`${ADDRESS}&filter=${encodeURIComponent(`name = 'A${'aaaaaaaaa '.repeat(20)}' AND`)}`)
    await page.locator('#filter-fault mark').waitFor()
    await isFitting('the fault')
  }
})

test('without scripts a filter finds rows, goes with the next link, and shows its fault', async () => {
  const { page } = await openPage(browser, client.url, { javaScriptEnabled: false })
  await page.goto('/collections/lodges/items?f=html&limit=2&sortby=-id')
  const line = page.getByRole('textbox', { name: 'Filter' })
  await line.fill("kind = 'hut'")
  await line.press('Enter')
  await page.waitForURL((url) => url.searchParams.has('filter'))
  assert.deepEqual(await idsIn(page), [7, 4])
  await page.locator('#next').click()
  assert.deepEqual(await idsIn(page), [1])
  assert.equal(await line.inputValue(), "kind = 'hut'")
  await line.fill('kind =')
  await page.getByRole('button', { name: 'Apply' }).click()
  await page.getByText('filter is not valid at position 6').waitFor()
  await line.fill('')
  await line.press('Enter')
  await page.waitForURL((url) => !url.searchParams.has('filter') && !url.searchParams.has('cursor'))
  assert.deepEqual(await idsIn(page), [12, 11])
})
