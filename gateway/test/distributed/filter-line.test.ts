// Tests the filter line of pages of features as the server renders it: what its form keeps, and faulty filters.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startGateway } from '../support/gateway.ts'

const { client, session, catalog } = await startGateway()

await session.query(`
  create table huts (id int primary key, geom geometry(Point, 4326), name text, beds int, "max height" int, note text);
  insert into huts select i, st_setsrid(st_makepoint(i, i), 4326), 'Hut ' || i, i, i * 100, E'a\\nb'
  from generate_series(1, 20) i`)
await catalog.reload()

const page = (parameters: Record<string, string> | string) =>
  client(`/collections/huts/items?${new URLSearchParams(parameters)}`, { headers: { accept: 'text/html' } })

const decode = (text: string) =>
  text.replace(/&(?:#(\d+)|#x([\da-f]+)|(\w+));/gi, (_, decimal, hex, name) =>
    name
      ? { quot: '"', amp: '&', lt: '<', gt: '>', apos: "'" }[name as string]!
      : String.fromCodePoint(decimal ? Number(decimal) : Number.parseInt(hex, 16)),
  )
/** Returns the inputs of the form as a browser would send them. */
const formOf = (html: string) => {
  const form = /<form id="filter-line".*?<\/form>/s.exec(html)![0]
  return [...form.matchAll(/<input[^>]*>/g)].map(([input]) => [
    decode(/name="([^"]*)"/.exec(input)![1]!),
    decode(/value="([^"]*)"/.exec(input)![1]!),
  ])
}
/** Returns what is below the line for a faulty filter: the text with its mark in brackets, and the detail. */
const faultOf = (html: string) => {
  const [, text, detail] =
    /<div id="filter-fault" class="fault">(?:<p aria-hidden="true"><code>(.*)<\/code><\/p>)?<p>(.*?)<\/p><\/div>/s.exec(
      html,
    )!
  return { text: text && decode(text.replace(/<mark>(.*)<\/mark>/s, '[$1]')), detail: decode(detail!) }
}
const nextOf = (html: string) => decode(/id="next" class="button" href="([^"]*)"/.exec(html)![1]!)
const everywhereOf = (html: string) => decode(/id="everywhere"[^>]*href="([^"]*)"/.exec(html)![1]!)
const idsOf = (html: string) =>
  [...html.matchAll(/<th scope="row"><a [^>]*>(\d+)<\/a>/g)].map(([, id]) => Number(id))

test('the form has the filter of the address and its other parameters, but not its position', async () => {
  const parameters = {
    f: 'html',
    filter: 'name LIKE \'Hut %\' AND "max height" > 300',
    bbox: '0,0,50,50',
    sortby: '-beds',
    limit: '5',
    properties: 'name,beds',
    'filter-crs': 'http://www.opengis.net/def/crs/OGC/1.3/CRS84',
    note: 'a\nb',
  }
  const { filter: _, ...kept } = parameters
  const first = await page(parameters)
  assert.equal(first.status, 200)
  assert.deepEqual(idsOf(first.text), [20, 19, 18, 17, 16])
  assert.deepEqual(formOf(first.text).sort(), Object.entries(parameters).sort())
  // The next page has the filter; its form leads to the first page again.
  const second = await client(nextOf(first.text))
  assert.deepEqual(idsOf(second.text), [15, 14, 13, 12, 11])
  assert.deepEqual(formOf(second.text).sort(), Object.entries(parameters).sort())
  const { bbox: __, ...everywhere } = parameters
  assert.deepEqual(
    Object.fromEntries(new URLSearchParams(everywhereOf(second.text))),
    everywhere,
    'Everywhere leads out of the box, and out of nothing else',
  )
  const offset = await page({ ...parameters, offset: '2' })
  assert.deepEqual(idsOf(offset.text), [18, 17, 16, 15, 14])
  assert.deepEqual(formOf(offset.text).sort(), Object.entries(parameters).sort())
  assert.deepEqual(
    formOf((await page(kept)).text).sort(),
    [...Object.entries(kept), ['filter', '']].sort(),
    'without a filter the line is empty',
  )
})

test('an empty filter leaves the address', async () => {
  for (const filter of ['', '  ']) {
    const { status, headers } = await page({ f: 'html', filter, limit: '3', cursor: 'x' })
    assert.equal(status, 303)
    assert.equal(headers.get('location'), '?f=html&limit=3')
  }
  // For programs it is a fault.
  const { status, json } = await client('/collections/huts/items?filter=')
  assert.deepEqual([status, json.parameter], [400, 'filter'])
})

test('a filter in JSON or on several lines is shown as a line of text that means the same', async () => {
  const tree = {
    op: 'and',
    args: [
      { op: '=', args: [{ property: 'note' }, 'a\nb'] },
      { op: '<', args: [{ property: 'max height' }, 400] },
    ],
  }
  const line = String.raw`note = 'a\nb' AND "max height" < 400`
  for (const parameters of [
    { filter: JSON.stringify(tree), 'filter-lang': 'cql2-json' },
    { filter: `note = 'a\nb'\r\nAND "max height" < 400` },
  ]) {
    const { text } = await page({ f: 'html', ...parameters } as Record<string, string>)
    assert.deepEqual(idsOf(text), [1, 2, 3])
    assert.deepEqual(Object.fromEntries(formOf(text)), { f: 'html', filter: line })
  }
  assert.deepEqual(idsOf((await page({ filter: line })).text), [1, 2, 3])
})

test('a faulty filter is shown with what is wrong at its position', async () => {
  const parameters = { f: 'html', limit: '5', bbox: '0,0,50,50', filter: 'beds > AND name' }
  const { status, text, headers } = await page(parameters)
  assert.equal(status, 400)
  assert.equal(headers.get('cache-control'), 'no-store')
  assert.deepEqual(formOf(text).sort(), Object.entries(parameters).sort())
  const { json } = await client(
    `/collections/huts/items?${new URLSearchParams({ filter: parameters.filter })}`,
  )
  assert.equal(json.position, 7)
  assert.deepEqual(faultOf(text), { text: 'beds > [AND] name', detail: json.detail })
  const [input] = /<input id="filter"[^>]*>/.exec(text)!
  assert.match(input, / aria-describedby="filter-fault filter-help" aria-invalid="true"/)
  assert.doesNotMatch(text, /id="map"|<table/)
  for (const [filter, marked] of [
    // Nothing is left to mark at the end.
    ['beds >', 'beds >[]'],
    ['bed > 1', '[bed] > 1'],
    ["beds > 1 AND name = '😀' 😀", "beds > 1 AND name = '😀' [😀]"],
    ['beds > 1\r\nAND bed > 1', 'beds > 1\r\nAND [bed] > 1'],
  ])
    assert.equal(faultOf((await page({ filter: filter! })).text).text, marked)
})

test('a faulty filter without a position in its text is shown as it was sent', async () => {
  for (const parameters of [
    { filter: '{"op":"=","args":[{"property":"nothing"},1]}', 'filter-lang': 'cql2-json' },
    { filter: Array.from({ length: 1_002 }, () => '1<2').join(' OR ') },
  ]) {
    const { status, text } = await page({ f: 'html', ...parameters } as Record<string, string>)
    assert.equal(status, 400)
    assert.deepEqual(Object.fromEntries(formOf(text)), { f: 'html', ...parameters })
    const fault = faultOf(text)
    assert.equal(fault.text, undefined)
    assert.match(fault.detail, /^filter /)
  }
})

test('whatever a filter contains stays text', async () => {
  const hostile = `</code><script>alert(1)</script>"'&amp;${'\u2028'}`
  for (const filter of [
    hostile,
    `name = '${hostile.replaceAll("'", "''")}'`,
    `"${hostile.replaceAll('"', '""')}" = 1`,
  ]) {
    const { status, text } = await page({ f: 'html', filter, name: '"><script>alert(2)</script>' })
    assert.ok(status === 400 || status === 200, `${status}`)
    assert.equal(Object.fromEntries(formOf(text)).filter, filter)
    assert.deepEqual(
      [...text.matchAll(/<script[^>]*>/g)].filter(([tag]) => !/ src="\/assets\/[a-z]+\.js"/.test(tag)),
      [],
    )
  }
})

test('a fault of another parameter is a page without the line', async () => {
  for (const parameters of [{ bbox: '1' }, { sortby: 'nothing' }, { nothing: '1' }, { 'filter-crs': 'x' }]) {
    const { status, text } = await page({ filter: 'beds > 1', ...parameters } as Record<string, string>)
    assert.equal(status, 400)
    assert.doesNotMatch(text, /filter-line/)
  }
})
