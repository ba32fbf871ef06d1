// Tests bodies as large as the limit, of every shape: the answer is small, and nobody else waits long for it.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startGateway } from '../support/gateway.ts'

const { client, session, catalog, events } = await startGateway()
const columns = Array.from({ length: 100 }, (_, index) => `${'c'.repeat(37)}${100 + index}`)
await session.query(
  `create table heap (id int primary key, geom geometry(Geometry, 4326), name varchar(20), n int, m numeric, d float8,
     at timestamptz, day date, code uuid, list text[], j jsonb, other inet)`,
)
await session.query(`insert into heap (id) values (1)`)
await session.query(
  `create table broad (id int primary key, geom geometry(Point, 4326), ${columns.map((name) => `${name} int not null`).join(', ')})`,
)
await catalog.reload()

/** Milliseconds of a processor for one request: 100 for each MB, and some for sending it and for a busy machine. */
const MAX_CPU_MS = 700
/** Most characters of an answer. */
const MAX_ANSWER = 30_000
/** Size of the bodies, just below the limit of 4 MiB. */
const SIZE = 4_100_000
const fill = (piece: (index: number) => string, separator = ',') => {
  const parts: string[] = []
  for (let size = 0, index = 0; size < SIZE; index++) {
    const part = piece(index)
    parts.push(part)
    size += part.length + separator.length
  }
  return parts.join(separator)
}
const feature = (properties: string, geometry = 'null', more = '') =>
  `{"type":"Feature","geometry":${geometry},"properties":{${properties}}${more}}`
const line = (positions: string) => `{"type":"LineString","coordinates":[${positions}]}`
const long = 'x'.repeat(SIZE)
const digits = '9'.repeat(SIZE)

const bodies: Record<string, string> = {
  'unknown properties': feature(fill((index) => `"${index.toString(16)}":0`)),
  'unknown members': feature('', 'null', `,${fill((index) => `"${index.toString(16)}":0`)}`),
  'one property many times': feature(fill(() => '"n":0')),
  'one unknown property with a long name': feature(`"${long}":0`),
  'a long unknown member': feature('', 'null', `,"${long}":0`),
  'objects of unknown properties': feature(fill((index) => `"${index}":{"a":{"b":[1]}}`)),
  'a geometry with a long type': feature('', `{"type":"${long}"}`),
  'a geometry with text for a number': feature('', line(`[0,"${long}"]`)),
  'a line with many faults': feature('', line(fill(() => '[999,"x",{}]'))),
  'collections of many faults': feature(
    '',
    `{"type":"GeometryCollection","geometries":[${fill(() => '{"type":"X"}')}]}`,
  ),
  'a line that is too short in another ring': feature(
    '',
    `{"type":"Polygon","coordinates":[[${fill((index) => `[${index % 170},1]`)}]]}`,
  ),
  'an open ring with exact numbers': feature(
    '',
    `{"type":"Polygon","coordinates":[[${fill((index) => `[1.12345678901234567890,${index % 80}]`)}]]}`,
  ),
  'nested collections': feature(
    '',
    `${'{"type":"GeometryCollection","geometries":['.repeat(20)}${fill(() => '{"type":"Point","coordinates":[1,2]}')},{"type":"X"}${']}'.repeat(20)}`,
  ),
  'numbers, one of them exact': feature(`"j":[${fill(() => '1')},12345678901234567890],"x":1`),
  'exact numbers': feature(`"j":[${fill(() => '12345678901234567890')}],"x":1`),
  'infinite numbers': feature(`"j":[${fill(() => '1e400')}],"x":1`),
  'empty objects': feature(`"j":[${fill(() => '{}')}],"x":1`),
  'keys of jsonb with an exact number': feature(
    `"j":{${fill((index) => `"${index.toString(36)}":12345678901234567`)}},"x":1`,
  ),
  'keys of jsonb': feature(`"j":{${fill((index) => `"${index.toString(36)}":{}`)}},"x":1`),
  'lists in lists': feature(`"j":${'['.repeat(101)}1${']'.repeat(101)}`),
  'a text of escapes': feature(`"n":"${'\\u00e9'.repeat(SIZE / 6)}"`),
  'a text of quotes': feature(`"n":"${'\\"'.repeat(SIZE / 2)}"`),
  'a list of text': feature(`"list":[${fill(() => '"a"')}],"x":1`),
  brackets: '['.repeat(SIZE),
  'objects without an end': '{"a":'.repeat(SIZE / 5),
  'only spaces': ' '.repeat(SIZE),
  'only backslashes': `"${'\\'.repeat(SIZE)}`,
  'zeros in a number': `{"a":1${'0'.repeat(SIZE)}1}`,
  'a number as the id': `{"type":"Feature","id":${digits},"geometry":null,"properties":{}}`,
  'a text as the id': `{"type":"Feature","id":"${long}","geometry":null,"properties":{}}`,
  'a long type': `{"type":"${long}","geometry":null,"properties":{}}`,
}
/** Sends the body in each kind of change. It must be refused, with a small problem, in little time. */
async function refuse(what: string, text: string, methods = ['POST', 'PUT', 'PATCH'], collection = 'heap') {
  const body = Buffer.from(text)
  for (const [method, path, type] of [
    ['POST', '', 'application/geo+json'],
    ['PUT', '/1', 'application/geo+json'],
    ['PATCH', '/1', 'application/merge-patch+json'],
  ] as const) {
    if (!methods.includes(method)) continue
    const start = process.threadCpuUsage()
    const answer = await client(`/collections/${collection}/items${path}`, {
      method,
      headers: { 'content-type': type },
      body,
    })
    const { user, system } = process.threadCpuUsage(start)
    const shown = `${method} ${what}: ${answer.status} ${answer.text.slice(0, 300)}`
    assert.ok(answer.status >= 400 && answer.status < 500, shown)
    assert.match(answer.type, /^application\/problem\+json/, shown)
    assert.ok(answer.text.length < MAX_ANSWER, `${answer.text.length} characters: ${shown}`)
    assert.ok((user + system) / 1_000 < MAX_CPU_MS, `${(user + system) / 1_000} ms: ${shown}`)
  }
}

test('a long text or number for a column of any type is refused soon, by a small problem', async () => {
  for (const name of ['name', 'n', 'm', 'd', 'at', 'day', 'code', 'list', 'j', 'other'])
    for (const value of [`"${long}"`, digits])
      await refuse(name, feature(`"${name}":${value},"x":1`), ['PATCH'])
})

for (const [what, text] of Object.entries(bodies))
  test(`a body with ${what} is refused soon, by a small problem`, () => refuse(what, text, ['POST', 'PATCH']))

test('the faults of a body are named up to a number, and the columns of a wide table once', async () => {
  await refuse('unknown properties of a wide table', bodies['unknown properties']!, ['PATCH'], 'broad')
  const { json } = await client('/collections/broad/items', {
    method: 'POST',
    headers: { 'content-type': 'application/geo+json' },
    body: `{"type":"Feature","id":1,"geometry":null,"properties":{${Array.from({ length: 30 }, (_, index) => `"x${index}":1`).join()}}}`,
  })
  assert.equal(json.errors.length, 20)
  assert.match(json.detail, /\(and more than 19 others\)\.$/)
  const details = json.errors.map(({ detail }: { detail: string }) => detail)
  assert.match(details[0], /^is not a property of this collection, which has c+100, .* and 50 more$/)
  for (const detail of details.slice(1)) assert.equal(detail, 'is not a property of this collection')
})

test('no text of an error grows with what a client has sent', async () => {
  const text = 'x'.repeat(15_000)
  const paths = [
    ...['cursor', 'bbox', 'datetime', 'sortby', 'properties', 'limit', 'f', 'n', 'code', 'explain'].map(
      (name) => `/collections/heap/items?${name}=${text}`,
    ),
    `/collections/heap/items?sortby=${text},${text.slice(0, 10)}`.slice(0, 15_500),
    `/collections/heap/items?${text}=1`,
    `/?${text}=1`,
    `/${text}`,
    `/collections/${text.slice(0, 900)}`,
    `/collections/heap/items/${text.slice(0, 900)}`,
    `/collections/heap/items/${text}`,
  ]
  for (const path of paths) {
    for (const format of ['application/json', 'text/html']) {
      if (format === 'text/html' && !path.startsWith('/collections')) continue
      const answer = await client(path, { headers: { accept: format } })
      const shown = `${path.slice(0, 60)}: ${answer.status} ${answer.text.length}`
      assert.ok(answer.status >= 400 && answer.status < 500, shown)
      assert.ok(!answer.text.includes(text.slice(0, 1_100)), shown)
    }
  }
  for (const [name, path] of [
    ['accept', '/'],
    ['prefer', '/collections/heap/items'],
    ['consistency-token', '/collections/heap/items'],
    ['authorization', '/metrics'],
  ] as const) {
    const answer = await client(path, {
      headers: { [name]: name === 'prefer' ? `consistency=${text}` : text },
    })
    assert.ok(answer.status >= 400 && answer.status < 500, name)
    assert.ok(answer.text.length < 1_000, name)
  }
  for (const [name, value] of [
    ['content-type', `application/${text}`],
    ['content-encoding', text],
    ['if-match', text],
    ['idempotency-key', text],
    ['content-crs', text],
    ['origin', `https://${text}`],
  ] as const) {
    const answer = await client('/collections/heap/items/1', {
      method: 'PUT',
      headers: { 'content-type': 'application/geo+json', [name]: value },
      body: '{}',
    })
    assert.ok(answer.status >= 400 && answer.status < 500, name)
    assert.ok(answer.text.length < 1_600, `${name}: ${answer.text}`)
  }
})

test('none of this was taken for a bug', () => {
  assert.deepEqual(
    events.filter(({ type }) => type === 'request-failed'),
    [],
  )
})
