// Tests OGC API Features Part 1 as its clients see it.

import assert from 'node:assert/strict'
import { METHODS } from 'node:http'
import type { Readable } from 'node:stream'
import { text as readText } from 'node:stream/consumers'
import { test } from 'node:test'
import { createBrotliDecompress, createGunzip } from 'node:zlib'
import { encoders } from '../../features/formats/encoders.ts'
import { followPages, type Item, type Page, plainClient } from '../support/client.ts'
import { startGateway } from '../support/gateway.ts'

const { client, session, catalog } = await startGateway()
const linksOf = (json: { links: { rel: string; href: string; type?: string }[] }) =>
  Object.fromEntries(json.links.map((link) => [link.rel, link]))

/** Sends a request without fetch, which requests and decodes compression by itself, and rewrites headers. */
const raw = (path: string, headers: Record<string, string>, method = 'GET') =>
  new Promise<{ status: number; headers: Record<string, string>; body: Readable }>((resolve, reject) => {
    const url = path.startsWith('http') ? path : client.url + path
    plainClient(url)
      .request(url, { headers, method }, (response) =>
        resolve({
          status: response.statusCode!,
          headers: response.headers as Record<string, string>,
          body: response,
        }),
      )
      .on('error', reject)
      .end()
  })

test('/req/core/root-op, /req/core/root-success, /req/core/http: the landing page links to all resources, and every link works', async () => {
  const { json, status } = await client('/')
  assert.equal(status, 200)
  const links = linksOf(json)
  for (const rel of ['self', 'service-desc', 'service-doc', 'conformance', 'data']) {
    const { href, type } = links[rel]!
    const answer = await fetch(href)
    assert.equal(answer.status, 200, rel)
    assert.ok(
      answer.headers.get('content-type')!.startsWith(type!),
      `${rel}: ${answer.headers.get('content-type')}`,
    )
  }
})

test('/req/core/conformance-op, /req/core/conformance-success: conformance declares Core, OpenAPI 3.0 and GeoJSON', async () => {
  const { json } = await client('/conformance')
  for (const name of ['core', 'oas30', 'geojson']) {
    assert.ok(json.conformsTo.includes(`http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/${name}`))
  }
})

test('/req/core/api-definition-op, /req/core/api-definition-success, /req/oas30/oas-definition-1: the definition is OpenAPI 3.0 with its media type, and its server is the host that was requested', async () => {
  const { json, type } = await client('/api', {
    headers: { accept: 'application/vnd.oai.openapi+json;version=3.0' },
  })
  assert.match(type, /^application\/vnd\.oai\.openapi\+json;version=3\.0$/)
  assert.match(json.openapi, /^3\.0\./)
  assert.deepEqual(json.servers, [{ url: client.url }])
})

test('the documentation is a page that loads nothing from other hosts', async () => {
  const answer = await fetch(`${client.url}/api.html`)
  const page = await answer.text()
  assert.match(answer.headers.get('content-type')!, /^text\/html/)
  assert.doesNotMatch(page, /(src|href)="(https?:)?\/\//)
  for (const [, path] of page.matchAll(/(?:src|href)="([^"]+)"/g)) {
    assert.equal((await fetch(new URL(path!, `${client.url}/api.html`))).status, 200, path)
  }
})

test('/req/core/fc-md-op, /req/core/fc-md-success, /req/core/fc-md-items, /req/core/fc-md-items-links, /req/core/fc-md-extent, /req/core/sfc-md-op, /req/core/sfc-md-success, /req/core/fc-rel-type: collections have their extent, licence, attribution and links', async () => {
  const { json } = await client('/collections')
  const ids = json.collections.map(({ id }: { id: string }) => id)
  for (const id of ['cities', 'countries', 'counties']) assert.ok(ids.includes(id))
  const { json: cities } = await client('/collections/cities')
  assert.deepEqual(
    json.collections.find(({ id }: { id: string }) => id === 'cities'),
    // Its coordinate systems are those that the list has for all collections.
    { ...cities, crs: ['#/crs'] },
  )
  assert.deepEqual(cities.crs, json.crs)
  const [row] = await session.query<{ box: number[] }>(
    'select array[st_xmin(e), st_ymin(e), st_xmax(e), st_ymax(e)] as box from (select st_extent(geom) e from cities) x',
  )
  assert.deepEqual(cities.extent.spatial.bbox, [row!.box])
  assert.equal(cities.crs[0], 'http://www.opengis.net/def/crs/OGC/1.3/CRS84')
  assert.match(cities.attribution, /GeoNames/)
  assert.match(linksOf(cities).license!.href, /CC-BY-4\.0/)
  const items = cities.links.filter(({ rel }: { rel: string }) => rel === 'items')
  assert.deepEqual(
    items.map(({ type }: { type: string }) => type),
    ['application/geo+json', 'text/html', ...encoders.slice(1).map(({ format }) => format.types[0])],
  )
  for (const { href, type } of items) assert.ok((await client(href)).type.startsWith(type))
})

test('/req/core/fc-op, /req/core/fc-response, /req/core/fc-links, /req/core/fc-numberReturned, /req/core/fc-timeStamp, /req/geojson/definition: by default, items are a page of ten features', async () => {
  const { json, type } = (await client('/collections/cities/items')) as { json: Page; type: string }
  assert.match(type, /^application\/geo\+json/)
  assert.equal(json.features.length, 10)
  assert.equal(json.numberReturned, 10)
  assert.ok(Math.abs(Date.parse(json.timeStamp) - Date.now()) < 60_000)
  const links = linksOf(json)
  assert.equal(links.self!.href, `${client.url}/collections/cities/items`)
  assert.equal((await client(links.collection!.href)).json.id, 'cities')
  assert.ok(links.next)
})

test('/req/core/f-op, /req/core/f-success, /req/core/f-links: a single feature is the same as on its page, with links of its own', async () => {
  const { json: page } = (await client('/collections/countries/items?limit=3')) as { json: Page }
  for (const feature of page.features) {
    const { json: item } = (await client(`/collections/countries/items/${feature.id}`)) as { json: Item }
    const { links, ...alone } = item
    assert.deepEqual(alone, feature)
    assert.equal((await client(linksOf({ links }).self!.href)).json.id, feature.id)
    assert.equal((await client(linksOf({ links }).collection!.href)).json.id, 'countries')
  }
})

test('rings follow the right-hand rule', async () => {
  const { json } = (await client('/collections/countries/items?limit=300')) as { json: Page }
  const area = (ring: number[][]) =>
    ring.reduce(
      (sum, [x, y], index) => sum + (index > 0 ? ring[index - 1]![0]! * y! - x! * ring[index - 1]![1]! : 0),
      0,
    )
  assert.equal(json.features.length, 241)
  for (const { geometry } of json.features) {
    assert.equal(geometry.type, 'MultiPolygon')
    for (const [outer, ...holes] of (geometry as { coordinates: number[][][][] }).coordinates) {
      assert.ok(area(outer!) >= 0)
      for (const hole of holes) assert.ok(area(hole) <= 0)
    }
  }
})

test('f and Accept choose the format, and unknown formats are refused', async () => {
  assert.equal((await client('/collections?f=json', { headers: { accept: 'image/png' } })).status, 200)
  const xml = await client('/collections?f=xml')
  assert.deepEqual([xml.status, xml.json.parameter], [400, 'f'])
  const accept = (value: string) => client('/collections/cities/items', { headers: { accept: value } })
  assert.match((await accept('application/json')).type, /^application\/json/)
  assert.match((await accept('application/json;q=0.5, application/geo+json')).type, /^application\/geo\+json/)
  assert.match((await accept('image/png, */*;q=0.1')).type, /^application\/geo\+json/)
  assert.match((await accept('text/html, application/geo+json;q=0.9')).type, /^text\/html/)
  assert.match((await accept('text/html;q=0.8, application/geo+json;q=0.9')).type, /^application\/geo\+json/)
  for (const [value, type] of [
    ['application/geo+json; charset=utf-8', 'application/geo+json'],
    ['application/json; charset=utf-8', 'application/json'],
    ['application/json;odata=verbose', 'application/json'],
    ['application/geo+json;profile="a,b;q=0"', 'application/geo+json'],
    ['text/html; charset=utf-8', 'text/html'],
    ['text/html;level=1;q=0.4, application/geo+json ; v="\\"" ; q=0.5', 'application/geo+json'],
  ] as const)
    assert.ok((await accept(value)).type.startsWith(type), value)
  assert.equal((await accept('application/json;charset=utf-8;q=0')).status, 406)
  const missing = await client('/collections/none', { headers: { accept: 'text/html; charset=utf-8' } })
  assert.match(missing.type, /^text\/html/)
  const refused = await accept('image/png')
  assert.deepEqual([refused.status, refused.json.code], [406, 'not-acceptable'])
})

test('HEAD returns 304 as well', async () => {
  const { headers } = await client('/collections/cities/items/24587.5')
  for (const path of ['/', '/collections/cities/items/24587.5', '/collections/cities/items?limit=3']) {
    const known = await client(path, {
      method: 'HEAD',
      headers: { 'if-none-match': path.endsWith('5') ? headers.get('etag')! : '*' },
    })
    assert.deepEqual([known.status, known.text], [304, ''], path)
  }
})

test('repeated names, and too many names to sort by, are refused', async () => {
  for (const parameter of ['sortby', 'properties']) {
    const { status, json } = await client(`/collections/cities/items?${parameter}=name,name`)
    assert.deepEqual([status, json.parameter], [400, parameter])
  }
  await session.query(`create table sorted_by (id int primary key, geom geometry, feature text, a int, b int, c int, d int, e int, f int, g int);
    insert into sorted_by select i, null, 'f' || (i * 7 % 10) from generate_series(0, 9) i`)
  await catalog.reload()
  const many = await client('/collections/sorted_by/items?sortby=id,feature,a,b,c,d,e,f,g')
  assert.deepEqual([many.status, many.json.parameter], [400, 'sortby'])
  const seen: string[] = []
  for await (const page of followPages(client, '/collections/sorted_by/items?sortby=feature&limit=4'))
    seen.push(...page.features.map(({ properties }) => properties!.feature))
  assert.deepEqual(
    seen,
    Array.from({ length: 10 }, (_, index) => `f${index}`),
  )
})

test('/req/html/definition, /req/html/content, /req/core/fc-md-links: every resource exists as JSON and as a page, each with a link to the other', async () => {
  for (const path of [
    '/',
    '/collections',
    '/collections/cities',
    '/collections/cities/items?limit=3&sortby=name',
    '/collections/cities/items/24587.5',
  ]) {
    const { json, type } = await client(path)
    const links = linksOf(json)
    assert.ok(type.startsWith(links.self!.type!), path)
    const alternate = json.links.find(
      ({ rel, type }: { rel: string; type: string }) => rel === 'alternate' && type === 'text/html',
    )
    const page = await client(alternate.href)
    assert.deepEqual([page.status, page.type], [200, 'text/html; charset=utf-8'], path)
    const [, back] = /<link rel="alternate" type="[^"]+" href="([^"]+)">/.exec(page.text)!
    const again = (
      await client(back!.replaceAll('&amp;', '&').replaceAll('&#38;', '&').replaceAll('&#61;', '='))
    ).json
    assert.deepEqual(
      [again.features, again.properties, again.title],
      [json.features, json.properties, json.title],
      path,
    )
  }
  const problem = await client('/collections/none', { headers: { accept: 'text/html' } })
  assert.deepEqual([problem.status, problem.type], [404, 'text/html; charset=utf-8'])
})

test('with a matching entity tag the response is 304, without a body', async () => {
  for (const path of [
    '/',
    '/collections/cities',
    '/collections/cities/items?limit=5',
    '/collections/cities/items/24587.5',
  ]) {
    const first = await client(path)
    const tag = first.headers.get('etag')!
    assert.ok(tag, path)
    for (const known of [tag, `"other", ${tag}`, `W/${tag.replace('W/', '')}`, '*']) {
      const { status, text, headers } = await client(path, { headers: { 'if-none-match': known } })
      assert.deepEqual([status, text, headers.get('etag')], [304, '', tag], `${path} ${known}`)
    }
    assert.equal((await client(path, { headers: { 'if-none-match': '"other"' } })).status, 200)
  }
  assert.equal((await client('/collections/nothing', { headers: { 'if-none-match': '*' } })).status, 404)
})

test('HEAD returns the status and headers of GET, without a body', async () => {
  for (const path of ['/', '/collections/cities/items/24587.5', '/collections/cities/items?limit=2']) {
    const [head, whole] = [await client(path, { method: 'HEAD' }), await client(path)]
    assert.deepEqual([head.status, head.text], [200, ''])
    assert.equal(head.headers.get('content-type'), whole.headers.get('content-type'))
    assert.equal(head.headers.get('etag'), whole.headers.get('etag'))
  }
})

test('long responses are compressed with an encoding that the client accepts', async () => {
  const path = '/collections/counties/items?limit=20'
  const plain = await (await raw(path, { 'accept-encoding': 'identity' })).body.toArray().then(Buffer.concat)
  for (const [encoding, decode] of [
    ['gzip', createGunzip],
    ['br', createBrotliDecompress],
  ] as const) {
    for (const limit of [20, 3000]) {
      const { headers, body } = await raw(`/collections/counties/items?limit=${limit}`, {
        'accept-encoding': encoding,
      })
      assert.equal(headers['content-encoding'], encoding)
      assert.match(headers.vary!, /accept-encoding/i)
      const page = JSON.parse(await readText(body.pipe(decode()))) as Page
      assert.equal(page.numberReturned, limit)
      if (limit === 20) assert.deepEqual(page.features, JSON.parse(plain.toString()).features)
    }
  }
})

test('scripts of any origin may read a gateway that is open to them, and may send preflight requests', async () => {
  const { client } = await startGateway('--cors=*')
  for (const path of ['/collections', '/collections/nothing']) {
    const { headers } = await client(path, { headers: { origin: 'https://example.org' } })
    assert.equal(headers.get('access-control-allow-origin'), '*')
    assert.match(headers.get('access-control-expose-headers')!, /Consistency-Token/)
  }
  const preflight = await raw(
    `${client.url}/collections/cities/items`,
    {
      origin: 'https://example.org',
      'access-control-request-method': 'GET',
      'access-control-request-headers': 'if-none-match',
    },
    'OPTIONS',
  )
  assert.equal(preflight.status, 200)
  assert.match(preflight.headers['access-control-allow-methods']!, /GET/)
  assert.equal(preflight.headers['access-control-allow-headers'], 'if-none-match')
})

test('an unsupported method is refused, with a list of the supported ones', async () => {
  for (const method of ['POST', 'PUT', 'DELETE', 'PATCH']) {
    const body =
      method === 'DELETE' ? {} : { body: '<no json>', headers: { 'content-type': 'application/xml' } }
    const { status, headers, json } = await client('/conformance', { method, ...body })
    assert.deepEqual(
      [status, headers.get('allow'), json.code],
      [405, 'GET, HEAD, OPTIONS', 'method-not-allowed'],
    )
  }
  const { status, headers } = await client('/conformance', { method: 'OPTIONS' })
  assert.deepEqual([status, headers.get('allow')], [200, 'GET, HEAD, OPTIONS'])
  // fetch refuses to send some of these.
  for (const method of METHODS.filter(
    (name) => !['CONNECT', 'GET', 'HEAD', 'OPTIONS', 'POST', 'PUT', 'PATCH', 'DELETE'].includes(name),
  )) {
    for (const [path, allow] of [
      ['/collections', 'GET, HEAD, POST, OPTIONS'],
      ['/metrics', 'GET, HEAD, OPTIONS'],
    ] as const) {
      const answer = await raw(path, {}, method)
      assert.deepEqual([answer.status, answer.headers.allow], [405, allow], `${method} ${path}`)
      assert.equal(JSON.parse(await readText(answer.body)).code, 'method-not-allowed')
    }
  }
})

test('/req/oas30/exceptions-codes: a resource that does not exist is reported as a problem', async () => {
  const cases = [
    ['/nothing', 'resource-not-found'],
    ['/collections/nothing', 'collection-not-found'],
    ['/collections/nothing/items', 'collection-not-found'],
    ['/collections/cities/items/0', 'feature-not-found'],
    ['/collections/cities/items/abc', 'feature-not-found'],
  ]
  for (const [path, code] of cases) {
    const { status, type, json } = await client(path!)
    assert.deepEqual([status, json.code, json.status], [404, code, 404], path)
    assert.match(type, /^application\/problem\+json/)
  }
})

test('/req/core/query-param-unknown: an unknown parameter is refused everywhere', async () => {
  for (const path of [
    '/',
    '/conformance',
    '/api',
    '/collections',
    '/collections/cities',
    '/collections/cities/items',
    '/collections/cities/items/24587.5',
    '/health/live',
  ]) {
    const { status, json } = await client(`${path}?nonsense=1`)
    assert.deepEqual([status, json.code, json.parameter], [400, 'parameter-unknown', 'nonsense'], path)
  }
})

test('links are correct behind a proxy', async () => {
  const answer = await client('/collections/cities/items?limit=1', {
    headers: {
      'x-forwarded-proto': 'https',
      'x-forwarded-host': 'maps.example.org',
      'x-forwarded-prefix': '/geo',
      'x-forwarded-port': '8443',
    },
  })
  const links = linksOf(answer.json)
  assert.equal(links.collection!.href, 'https://maps.example.org:8443/geo/collections/cities')
  assert.match(
    links.next!.href,
    /^https:\/\/maps\.example\.org:8443\/geo\/collections\/cities\/items\?limit=1&cursor=/,
  )
})

test('a Host header that is not a host name does not get into links', async () => {
  const { body } = await raw('/', { host: 'a"><script>' })
  assert.doesNotMatch(await readText(body), /<script/)
})

test('the public URL that the operator sets wins, and headers of proxies that are not trusted are ignored', async () => {
  const fixed = await startGateway('--public-url', 'https://example.org/geo/')
  const { json } = await fixed.client('/', { headers: { 'x-forwarded-host': 'evil.example' } })
  assert.equal(linksOf(json).data!.href, 'https://example.org/geo/collections')
  const alone = await startGateway('--trust-proxy', 'none')
  const answer = await alone.client('/', {
    headers: { 'x-forwarded-host': 'evil.example', 'x-forwarded-prefix': '/evil' },
  })
  assert.equal(linksOf(answer.json).data!.href, `${alone.client.url}/collections`)
})

test('the health endpoints report that the gateway is alive and can serve', async () => {
  assert.deepEqual((await client('/health/live')).json, { status: 'ok' })
  assert.deepEqual((await client('/health/ready')).json, { status: 'ok', writes: true })
})

test('a request that the HTTP parser refuses still gets a response', async () => {
  const answer = await new Promise<string>((resolve) => {
    plainClient(client.url).get(client.url, { headers: { x: 'y'.repeat(20_000) } }, (response) =>
      resolve(readText(response)),
    )
  })
  assert.equal(JSON.parse(answer).code, 'request-too-large')
})

test('a table that was just dropped is a temporary problem at first, and then not found', async () => {
  await session.query('create table dropped (id int primary key, geom geometry(Point, 4326))')
  await catalog.reload()
  assert.equal((await client('/collections/dropped/items')).status, 200)
  await session.query('drop table dropped')
  const { status, json, headers } = await client('/collections/dropped/items')
  assert.deepEqual([status, json.code], [503, 'collection-changing'])
  assert.ok(headers.get('retry-after'))
  await catalog.reload()
  assert.equal((await client('/collections/dropped/items')).status, 404)
})
