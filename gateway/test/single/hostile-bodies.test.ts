// Tests hostile bodies: the response is never a 5xx and always explains the fault, and no row is changed.

import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { startGateway } from '../support/gateway.ts'
import { makeRandom } from '../support/random.ts'

const { client, session, catalog, events } = await startGateway(
  '--body-limit=65536',
  '--request-timeout-ms=1000',
)
await session.query(`
  create table prey (
    id int primary key, geom geometry(Point, 4326), name text, n int, s smallint, d double precision, r real,
    m numeric(5, 1), b boolean, at timestamptz, day date, code uuid, list int[], j jsonb, span interval, ip inet);
  insert into prey values (1, st_setsrid(st_makepoint(1, 2), 4326), 'x', 1, 1, 1, 1, 1, true, 'epoch', 'epoch',
    '6f9619ff-8b86-4d01-b42d-00cf4fc964ff', '{1}', '{"a":{"b":1}}', '1 day', '127.0.0.1')`)
await catalog.reload()

const contents = () =>
  session.query('select md5(string_agg(prey::text, $1 order by id)) as digest from prey', ['|'])
const untouched = await contents()
let sent = 0

async function refuse(body: string | Uint8Array, what = String(body)) {
  for (const [method, path, type] of [
    ['POST', '', 'application/geo+json'],
    ['PUT', '/1', 'application/geo+json'],
    ['PATCH', '/1', 'application/merge-patch+json'],
  ] as const) {
    const answer = await client(`/collections/prey/items${path}`, {
      method,
      headers: { 'content-type': type },
      body,
    })
    sent++
    const shown = `${method} ${what.slice(0, 200)}: ${answer.status} ${answer.text.slice(0, 300)}`
    assert.ok(answer.status >= 400 && answer.status < 500, shown)
    assert.match(answer.type, /^application\/problem\+json/, shown)
    assert.ok(answer.json.detail.length > 10, shown)
  }
}

const point = { type: 'Point', coordinates: [1, 2] }
const feature = (members: object) =>
  JSON.stringify({ type: 'Feature', id: 1, geometry: point, properties: {}, ...members })

const nasty: unknown[] = [
  "'; drop table prey; --",
  '$1',
  'NaN',
  '1',
  'true',
  '',
  ' ',
  '\u0000',
  '\ud800',
  '2024-13-45',
  1.5,
  1e30,
  -1e30,
  99999999999,
  true,
  [],
  [[]],
  [null],
  [{}],
  {},
  { a: 1 },
  { __proto__: null, constructor: { prototype: { polluted: 1 } } },
  [[[[[[[[[[1]]]]]]]]]],
]
/** For each column, whether it accepts one of these values after all. */
const takes: Record<string, (value: unknown) => boolean> = {
  name: (value) => typeof value === 'string' && value.isWellFormed() && !value.includes('\0'),
  n: () => false,
  s: () => false,
  d: (value) => typeof value === 'number' || value === 'NaN',
  r: (value) => typeof value === 'number' || value === 'NaN',
  m: (value) => value === 1.5 || value === 'NaN',
  b: (value) => value === true,
  at: () => false,
  day: () => false,
  code: () => false,
  list: (value) => Array.isArray(value) && /^\[(null)?\]$|^\[\[\]\]$|^\[+1\]+$/.test(JSON.stringify(value)),
  j: (value) => typeof value !== 'string' || (value.isWellFormed() && !value.includes('\0')),
  // PostgreSQL reads any number as seconds, even one with a dollar sign.
  span: (value) => value === '1' || value === '$1' || value === 1.5 || value === 99999999999,
  ip: () => false,
}

test('values of the wrong type, for every column', async () => {
  for (const [column, isTaken] of Object.entries(takes))
    for (const value of nasty) if (!isTaken(value)) await refuse(feature({ properties: { [column]: value } }))
  assert.deepEqual(await contents(), untouched)
})

test('names that are no property, including SQL and members of prototypes', async () => {
  for (const name of [
    '__proto__',
    'constructor',
    'toString',
    'id',
    'geom',
    'ctid',
    'xmin',
    'Name',
    'name"',
    "n' or 1=1",
    'n; --',
    '',
  ])
    await refuse(`{"type":"Feature","id":1,"geometry":null,"properties":{${JSON.stringify(name)}:1}}`)
  for (const member of ['__proto__', 'constructor', 'crs', 'bboxes']) {
    await refuse(
      `{"type":"Feature","id":1,"geometry":null,"properties":{},${JSON.stringify(member)}:{"polluted":1}}`,
    )
  }
  assert.equal(({} as { polluted?: number }).polluted, undefined)
  assert.deepEqual(await contents(), untouched)
})

test('invalid geometries of every kind', async () => {
  const ring = [
    [0, 0],
    [1, 0],
    [1, 1],
    [0, 0],
  ]
  const wrong: unknown[] = [
    {
      type: 'LineString',
      coordinates: [
        [0, 0],
        [1, 1],
      ],
    },
    { type: 'Polygon', coordinates: [ring] },
    { type: 'MultiPoint', coordinates: [[0, 0]] },
    {
      type: 'MultiLineString',
      coordinates: [
        [
          [0, 0],
          [1, 1],
        ],
      ],
    },
    { type: 'MultiPolygon', coordinates: [[ring]] },
    { type: 'GeometryCollection', geometries: [point] },
    { type: 'Polygon', coordinates: [ring.slice(1)] },
    { type: 'Curve', coordinates: [] },
    { type: 'point', coordinates: [1, 2] },
    { type: 'Point' },
    { type: 'Point', coordinates: null },
    { type: 'Point', coordinates: {} },
    { type: 'Point', coordinates: '1,2' },
    { type: 'Point', coordinates: [1] },
    { type: 'Point', coordinates: [1, 2, 3] },
    { type: 'Point', coordinates: [1, 2, 3, 4] },
    { type: 'Point', coordinates: ['1', '2'] },
    { type: 'Point', coordinates: [[1, 2]] },
    { type: 'Point', coordinates: [1, null] },
    { type: 'Point', coordinates: [181, 0] },
    { type: 'Point', coordinates: [0, -90.0001] },
    { type: 'Point', coordinates: [1e300, 0] },
    'POINT(1 2)',
    1,
    true,
    [],
  ]
  for (const geometry of wrong) await refuse(feature({ geometry }))
  for (const text of ['[1e999,0]', '[-1e999,0]', '[NaN,0]', '[Infinity,0]', '[1,2']) {
    await refuse(
      `{"type":"Feature","id":1,"properties":{},"geometry":{"type":"Point","coordinates":${text}}}`,
    )
  }
  assert.deepEqual(await contents(), untouched)
})

test('bytes that are not JSON, not UTF-8 or not a feature', async () => {
  const whole = feature({})
  const bytes: (string | Uint8Array)[] = [
    '',
    ' ',
    'null',
    '1',
    '"Feature"',
    '[]',
    '{}x',
    'undefined',
    "{'type':'Feature'}",
    '{"type":"FeatureCollection","features":[]}',
    '<Feature/>',
    '\u0000',
    '{"type":"Feature","type":"Point","id":1,"geometry":null,"properties":{}}',
    `{"a":${'['.repeat(30_000)}${']'.repeat(30_000)}}`,
    '['.repeat(60_000),
    '{"a":'.repeat(10_000),
    `{"type":"Feature","id":1,"geometry":null,"properties":{"j":${'{"a":'.repeat(200)}1${'}'.repeat(200)}}}`,
    `{"type":"Feature","id":1,"geometry":null,"properties":{"j":1e99999}}`,
    `{"type":"Feature","id":1,"geometry":null,"properties":{"m":1e400}}`,
    `{"type":"Feature","id":1,"geometry":null,"properties":{"n":${'9'.repeat(5_000)}}}`,
    `{"type":"Feature","id":${'9'.repeat(100)},"geometry":null,"properties":{}}`,
    '{"type":"Feature","id":"1; drop table prey","geometry":null,"properties":{}}',
    new Uint8Array([0xff, 0xfe, 0x7b, 0x7d]),
    Buffer.concat([Buffer.from('{"type":"'), Buffer.from([0xc3, 0x28]), Buffer.from('"}')]),
    Buffer.from(whole, 'utf16le'),
    'x'.repeat(70_000),
  ]
  for (const body of bytes) await refuse(body)
  // Cut off at random positions.
  const random = makeRandom(5)
  for (let index = 0; index < 40; index++) await refuse(whole.slice(0, Math.floor(random() * whole.length)))
  assert.deepEqual(await contents(), untouched)
})

test('text that looks like SQL is stored as text', async () => {
  for (const name of [
    "'); drop table prey; --",
    '$1',
    '\\',
    '"',
    '{}',
    '\u202e',
    '<script>alert(1)</script>',
  ]) {
    const answer = await client('/collections/prey/items/1', {
      method: 'PATCH',
      headers: { 'content-type': 'application/merge-patch+json' },
      body: JSON.stringify({ properties: { name, j: { a: { [name]: name } } } }),
    })
    assert.deepEqual(
      [answer.status, answer.json.properties.name, answer.json.properties.j.a[name]],
      [200, name, name],
    )
  }
})

test('a client that sends its body byte by byte is cut off, and does not delay others', async () => {
  const { hostname, port } = new URL(client.url)
  const start = performance.now()
  const drip = () =>
    new Promise<string>((resolve) => {
      const socket = connect(Number(port), hostname)
      let text = ''
      const timer = setInterval(() => socket.write('x'), 50)
      socket.write(
        'POST /collections/prey/items HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 60000\r\n\r\n{',
      )
      socket
        .on('data', (chunk) => (text += chunk))
        .on('error', () => {})
        .on('close', () => {
          clearInterval(timer)
          resolve(text)
        })
    })
  const slow = Array.from({ length: 200 }, drip)
  await sleep(200)
  assert.equal((await client('/collections/prey/items/1')).status, 200)
  const answers = await Promise.all(slow)
  assert.ok(performance.now() - start < 10_000)
  for (const answer of answers) assert.match(answer, /^HTTP\/1\.1 408 /)
})

test('at least 300 hostile bodies were sent, and none was taken for a bug', async () => {
  assert.ok(sent >= 300, String(sent))
  assert.deepEqual(
    events.filter(({ type }) => type === 'request-failed'),
    [],
  )
  assert.equal((await client('/health/ready')).status, 200)
})
