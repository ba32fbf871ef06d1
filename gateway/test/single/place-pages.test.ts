// Tests the coordinates on the page of a feature in a real browser: in any system of the collection, to read and to change.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Page } from 'playwright-core'
import { openBrowser, openPage, seriousFindings } from '../support/browser.ts'
import { startGateway } from '../support/gateway.ts'

const { client, session, catalog } = await startGateway('--crs', 'EPSG:25832,EPSG:3035')
const browser = await openBrowser()
const epsg = (code: number) => `http://www.opengis.net/def/crs/EPSG/0/${code}`

await session.query(`
  create table place_point (id int primary key, geom geometry(Point, 25832), name text);
  insert into place_point select i, st_setsrid(st_makepoint(571666.4475, 5539109.8152), 25832), 'point ' || i
    from generate_series(1, 8) as i;
  insert into place_point values (9, null, 'nowhere');
  create table place_height (id int primary key, geom geometry(PointZ, 25832), name text);
  insert into place_height values (1, 'SRID=25832;POINT Z (571666.4475 5539109.8152 123.456)', 'high');
  create table place_area (id int primary key, geom geometry(Polygon, 25832), name text);
  insert into place_area values
    (1, 'SRID=25832;POLYGON((500000 5500000, 500100 5500000, 500100 5500100, 500000 5500000))', 'area'),
    (2, st_buffer('SRID=25832;POINT(500000 5500000)'::geometry, 1000, 2000), 'round');
  create table place_odd (id int primary key, geom geometry, name text);
  insert into place_odd values
    (1, 'SRID=25832;MULTIPOLYGON(((0 0, 9 0, 9 9, 0 0), (1 1, 2 1, 2 2, 1 1)), ((10 10, 19 10, 19 19, 10 10)))', 'parts'),
    (2, 'SRID=4326;POINT(10 91)', 'beyond')`)
await catalog.reload()

const at = (path: string, code?: number) =>
  `/collections/${path}?f=html${code === undefined ? '' : `&crs=${encodeURIComponent(epsg(code))}`}`
const positions = (page: Page) =>
  page
    .locator('#positions tr')
    .evaluateAll((rows: any[]) => rows.map(({ cells }) => [...cells].map(({ textContent }) => textContent)))
const edit = async (page: Page, path: string, code?: number) => {
  await page.goto(at(path, code))
  await page.locator('#edit').click()
}
const save = (page: Page) => page.getByRole('button', { name: 'Save' }).click()
const saved = (page: Page) => page.getByRole('status').getByText('Saved.').waitFor()
const stored = async (table: string, id: number) =>
  (await session.query<{ text: string }>(`select st_asewkt(geom) as text from ${table} where id = ${id}`))[0]!
    .text

test('without scripts, a person chooses a system, reads the coordinates by the names of its axes, and keeps it', async () => {
  const { page } = await openPage(browser, client.url, { javaScriptEnabled: false })
  await page.goto(at('place_point/items/1'))
  const [names, degrees] = await positions(page)
  assert.deepEqual(names, ['Longitude', 'Latitude'])
  assert.deepEqual(
    degrees!.map((text: string) => Number(text).toFixed(6)),
    ['10.000000', '50.000000'],
  )
  await page.getByLabel('Coordinate system').selectOption({ label: 'EPSG:25832 (Easting, Northing)' })
  await page.getByRole('button', { name: 'Show' }).click()
  assert.deepEqual(await positions(page), [
    ['Easting', 'Northing'],
    ['571666.4475', '5539109.8152'],
  ])
  assert.equal(await page.getByLabel('Coordinate system').inputValue(), epsg(25832))
  const file = await page.locator('footer a[rel=alternate]').first().getAttribute('href')
  assert.equal((await client(file!)).headers.get('content-crs'), `<${epsg(25832)}>`)
  await page.getByRole('link', { name: 'Features', exact: true }).click()
  await page.locator('#features a').nth(1).click()
  assert.match(page.url(), /items\/2\?/)
  assert.deepEqual((await positions(page))[0], ['Easting', 'Northing'])
  await page.goto(at('place_point/items/1', 4326))
  assert.deepEqual((await positions(page))[0], ['Latitude', 'Longitude'])
  await page.goto(at('place_point/items/1', 3035))
  assert.deepEqual((await positions(page))[0], ['Northing', 'Easting'])
  assert.equal((await page.goto(at('place_point/items/1', 31467)))!.status(), 400)
})

test('positions have the numbers of their parts, and their heights', async () => {
  const { page } = await openPage(browser, client.url, { javaScriptEnabled: false })
  await page.goto(at('place_odd/items/1', 25832))
  const rows = await positions(page)
  assert.deepEqual(rows[0], ['Part', 'Easting', 'Northing'])
  assert.deepEqual(
    rows.slice(1).map(([part]: string[]) => part),
    ['1.1', '1.1', '1.1', '1.1', '1.2', '1.2', '1.2', '1.2', '2.1', '2.1', '2.1', '2.1'],
  )
  assert.deepEqual(rows[1]!.slice(1), ['0', '0'])
  await page.goto(at('place_height/items/1', 25832))
  assert.deepEqual(await positions(page), [
    ['Easting', 'Northing', 'Height'],
    ['571666.4475', '5539109.8152', '123.456'],
  ])
})

test('a geometry of many positions is not on the page, and one that a system does not have is said to be none', async () => {
  const { page } = await openPage(browser, client.url)
  await page.goto(at('place_area/items/2', 25832))
  const file = page.getByRole('link', { name: 'The feature as GeoJSON' })
  const { json } = await client((await file.getAttribute('href'))!)
  assert.equal(json.geometry.coordinates[0].length, 8001)
  for (const path of ['place_odd/items/2', 'place_point/items/9']) {
    await page.goto(at(path, 25832))
    await page.getByText('The feature has no geometry, or none in this system.').waitFor()
    assert.equal(await page.locator('#listed').isVisible(), false)
  }
})

test('a point is moved by its coordinates in a national grid, exactly, and by nothing else', async () => {
  const { page, faults } = await openPage(browser, client.url)
  await edit(page, 'place_point/items/3', 25832)
  await page.locator('#form').getByText('the place cannot be drawn on the map').waitFor()
  assert.equal(await page.locator('#tools').count(), 0)
  const before = await stored('place_point', 3)
  await page.getByLabel('name', { exact: true }).fill('renamed')
  const [named] = await Promise.all([page.waitForRequest((sent) => sent.method() === 'PATCH'), save(page)])
  assert.deepEqual(named.postDataJSON(), { properties: { name: 'renamed' } })
  await saved(page)
  assert.equal(await stored('place_point', 3), before)
  await page.locator('#edit').click()
  await page.getByLabel('Easting').fill('381852.4239')
  // As it is written in most of Europe.
  await page.getByLabel('Northing').fill('5200565,4223')
  const [moved] = await Promise.all([page.waitForRequest((sent) => sent.method() === 'PATCH'), save(page)])
  assert.equal(moved.headers()['content-crs'], `<${epsg(25832)}>`)
  assert.deepEqual(moved.postDataJSON(), {
    geometry: { type: 'Point', coordinates: [381852.4239, 5200565.4223] },
  })
  await page.locator('#form').waitFor({ state: 'hidden' })
  assert.equal(await stored('place_point', 3), 'SRID=25832;POINT(381852.4239 5200565.4223)')
  assert.deepEqual((await positions(page))[1], ['381852.4239', '5200565.4223'])
  assert.deepEqual(faults, [])
})

test('a conflict of two changes is solved in the system of the page', async () => {
  const { page, faults } = await openPage(browser, client.url)
  await edit(page, 'place_point/items/4', 25832)
  await client('/collections/place_point/items/4', {
    method: 'PATCH',
    headers: { 'content-type': 'application/merge-patch+json' },
    body: '{"properties":{"name":"of another"}}',
  })
  await page.getByLabel('Easting').fill('600000')
  await save(page)
  await page.getByRole('button', { name: 'Compare with what it is now' }).click()
  await page.getByRole('radio', { name: 'as you have entered it' }).waitFor()
  await page.getByRole('button', { name: 'Save what is chosen' }).click()
  await saved(page)
  assert.equal(await stored('place_point', 4), 'SRID=25832;POINT(600000 5539109.8152)')
  assert.equal((await client('/collections/place_point/items/4')).json.properties.name, 'of another')
  assert.deepEqual(faults, [])
})

test('a fault of a coordinate is reported at its fields, and a point can be taken away and given', async () => {
  const { page } = await openPage(browser, client.url)
  await edit(page, 'place_point/items/9', 25832)
  await page.getByLabel('Easting').fill('far')
  await page.getByLabel('Northing').fill('5539109.8152')
  await save(page)
  await page.getByRole('alert').getByText('geometry').waitFor()
  assert.equal(await page.getByLabel('Easting').getAttribute('aria-invalid'), 'true')
  await page.getByLabel('Easting').fill('571666.4475')
  await save(page)
  await saved(page)
  assert.equal(await stored('place_point', 9), 'SRID=25832;POINT(571666.4475 5539109.8152)')
  await page.locator('#edit').click()
  await page.getByLabel('Easting').fill('')
  await page.getByLabel('Northing').fill('')
  await save(page)
  await page.getByText('The feature has no geometry').waitFor()
  assert.equal(await stored('place_point', 9), null)
})

test('in degrees, the map follows the coordinates, and they follow the map and the text', async () => {
  const { page, faults } = await openPage(browser, client.url)
  await edit(page, 'place_point/items/5')
  await page.getByRole('group', { name: 'Drawing' }).waitFor()
  const [longitude, latitude, text] = [
    page.getByLabel('Longitude'),
    page.getByLabel('Latitude'),
    page.getByLabel('Place as GeoJSON'),
  ]
  const inFields = async () => [await longitude.inputValue(), await latitude.inputValue()]
  // The map brings back what it has removed: what was entered last.
  const removeAndUndo = async () => {
    await page.getByRole('button', { name: 'Remove shape' }).click()
    assert.deepEqual([...(await inFields()), await text.inputValue()], ['', '', ''])
    await page.getByRole('button', { name: 'Undo' }).click()
  }
  await longitude.fill('10,25')
  await latitude.fill('50.25')
  await latitude.blur()
  assert.deepEqual(JSON.parse(await text.inputValue()), { type: 'Point', coordinates: [10.25, 50.25] })
  await removeAndUndo()
  assert.deepEqual(await inFields(), ['10.25', '50.25'])
  await page.getByText('Place as GeoJSON in').click()
  await text.fill('{"type": "Point", "coordinates": [10.5, 50.5]}')
  assert.deepEqual(await inFields(), ['10.5', '50.5'])
  await text.blur()
  await removeAndUndo()
  assert.deepEqual(await inFields(), ['10.5', '50.5'])
  await longitude.fill('10.125')
  const [sent] = await Promise.all([page.waitForRequest((one) => one.method() === 'PATCH'), save(page)])
  assert.equal(sent.headers()['content-crs'], undefined)
  assert.deepEqual(sent.postDataJSON(), { geometry: { type: 'Point', coordinates: [10.125, 50.5] } })
  await saved(page)
  assert.deepEqual(faults, [])
})

test('latitude comes first where the system has it first', async () => {
  const { page, faults } = await openPage(browser, client.url)
  await edit(page, 'place_point/items/5', 4326)
  await page.getByLabel('Latitude').fill('50.5')
  await page.getByLabel('Longitude').fill('10.5')
  await save(page)
  await saved(page)
  const { geometry } = (await client('/collections/place_point/items/5')).json
  assert.deepEqual(
    geometry.coordinates.map((value: number) => value.toFixed(6)),
    ['10.500000', '50.500000'],
  )
  assert.deepEqual(faults, [])
})

test('a new feature is entered in the system of the page', async () => {
  const { page, faults } = await openPage(browser, client.url)
  await page.goto(at('place_point/items', 25832))
  await page.getByRole('button', { name: 'Add a feature' }).click()
  await page.locator('#form').getByText('the place cannot be drawn on the map').waitFor()
  assert.equal(await page.locator('#tools').count(), 0)
  await page.getByLabel('id', { exact: true }).fill('100')
  await page.getByLabel('Easting').fill('381852.4239')
  await page.getByLabel('Northing').fill('5200565.4223')
  await save(page)
  await page.locator('#added').getByRole('link', { name: '100' }).click()
  await page.locator('#positions').waitFor()
  assert.deepEqual((await positions(page))[1], ['381852.4239', '5200565.4223'])
  assert.equal(await stored('place_point', 100), 'SRID=25832;POINT(381852.4239 5200565.4223)')
  assert.deepEqual(faults, [])
})

test('heights and other geometries are changed as text', async () => {
  const { page, faults } = await openPage(browser, client.url)
  await edit(page, 'place_height/items/1', 25832)
  await page.getByLabel('Height').fill('99.5')
  await save(page)
  await saved(page)
  assert.equal(await stored('place_height', 1), 'SRID=25832;POINT(571666.4475 5539109.8152 99.5)')
  await edit(page, 'place_area/items/1', 25832)
  await page.getByText('Place as GeoJSON in EPSG:25832 (Easting, Northing)').click()
  const field = page.getByLabel('Place as GeoJSON')
  await field.fill((await field.inputValue()).replaceAll('[500100,', '[500200,'))
  await save(page)
  await saved(page)
  assert.equal(
    await stored('place_area', 1),
    'SRID=25832;POLYGON((500000 5500000,500200 5500000,500200 5500100,500000 5500000))',
  )
  await page.locator('#edit').click()
  await field.fill('a triangle')
  await save(page)
  await page.getByRole('alert').getByText('geometry').waitFor()
  assert.equal(await field.getAttribute('aria-invalid'), 'true')
  assert.deepEqual(faults, [])
})

test('what is chosen on the map, and the page after a removal, keep the system', async () => {
  const { page, faults } = await openPage(browser, client.url)
  await page.goto(at('place_point/items', 25832))
  await page.locator('#features a').nth(5).click()
  assert.equal(new URL(page.url()).searchParams.get('crs'), epsg(25832))
  await page.getByRole('button', { name: 'Delete' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click()
  await page.waitForURL(/\/collections\/place_point\/items\?/)
  assert.equal(new URL(page.url()).searchParams.get('crs'), epsg(25832))
  await page.goto(`${at('place_point/items', 25832)}&id=7`)
  await page.waitForLoadState('networkidle')
  await page.locator('#map[aria-busy="false"]').waitFor()
  const box = (await page.locator('#map').boundingBox())!
  await page.mouse.click(box.x + box.width / 2, box.y + box.height / 2)
  await page.getByRole('region', { name: 'Chosen feature' }).getByRole('link', { name: 'Open' }).click()
  await page.waitForURL(/items\/7\?/)
  assert.equal(new URL(page.url()).searchParams.get('crs'), epsg(25832))
  assert.deepEqual(faults, [])
})

test('an accessibility check finds nothing serious, and nothing is wider than a phone', async () => {
  const { page } = await openPage(browser, client.url, { viewport: { width: 390, height: 844 } })
  for (const path of ['place_point/items/8', 'place_odd/items/1', 'place_area/items/1']) {
    await page.goto(at(path, 25832))
    await page.waitForLoadState('networkidle')
    assert.deepEqual(await seriousFindings(page), [], path)
    await page.locator('#edit').click()
    assert.deepEqual(await seriousFindings(page), [], `the form of ${path}`)
    const overflow = await page.evaluate<number>('document.documentElement.scrollWidth - innerWidth')
    assert.ok(overflow <= 0, `${path} is ${overflow} pixels wider than the screen`)
  }
})
