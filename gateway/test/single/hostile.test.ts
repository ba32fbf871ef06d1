// Tests hostile input in every part of a request: the response is never a 5xx, and every refusal is a problem.

import assert from 'node:assert/strict'
import { request } from 'node:http'
import { connect } from 'node:net'
import { text as readText } from 'node:stream/consumers'
import { test } from 'node:test'
import { startGateway } from '../support/gateway.ts'
import { checkResponse } from '../support/openapi.ts'
import { makeRandom } from '../support/random.ts'

const { client, session, catalog, events } = await startGateway()
await session.query(
  `create table target (id int primary key, geom geometry(Point, 4326), name text, n int, d float8, b boolean, at timestamptz, day date, code uuid)`,
)
await session.query(
  `insert into target values (1, st_setsrid(st_makepoint(1, 2), 4326), 'x', 1, 1, true, now(), now(), gen_random_uuid())`,
)
await catalog.reload()

const nasty = [
  `'`,
  `"`,
  `\\`,
  `' or 1=1 --`,
  `1; drop table target; --`,
  `1) union select 1,2 --`,
  `$1`,
  `$$`,
  `{}`,
  `{"a":1}`,
  `[]`,
  `NULL`,
  `null`,
  `NaN`,
  `Infinity`,
  `-Infinity`,
  `1e999`,
  `-1e999`,
  `9`.repeat(400),
  `-0`,
  `0x10`,
  `1e-400`,
  `99999999999999999999`,
  `2147483648`,
  `true`,
  ``,
  ` `,
  `,`,
  `,,,,`,
  `../..`,
  `/etc/passwd`,
  `%`,
  `%s%n`,
  `\u0000`,
  `\u0000\u0001`,
  `\ud83d\ude00`,
  `\u202e`,
  `a`.repeat(5000),
  `<script>alert(1)</script>`,
  `\r\nset-cookie: a=b`,
  `__proto__`,
  `constructor`,
  `toString`,
  `pg_sleep(10)`,
  `0000-00-00`,
  `2024-02-30T00:00:00Z`,
  `infinity`,
  `1,2,3,4,5,6,7`,
]
/** Percent signs that encode nothing, and bytes that are not valid UTF-8 text. */
const broken = ['%', '%zz', '%FF', '%C0%80', '%ED%A0%80', '%00', '%u0041']
const parameters = [
  'limit',
  'offset',
  'cursor',
  'bbox',
  'datetime',
  'filter',
  'filter-lang',
  'filter-crs',
  'bbox-crs',
  'crs',
  'sortby',
  'properties',
  'skipGeometry',
  'f',
  'id',
  'name',
  'n',
  'd',
  'b',
  'at',
  'day',
  'code',
  '__proto__',
  'constructor',
  'hasOwnProperty',
]

/** Sends the path as it is, without a client that would correct it. */
const ask = (path: string, method = 'GET', headers: Record<string, string> = {}) =>
  new Promise<{ status: number; type: string; text: string }>((resolve, reject) => {
    request(client.url, { path, method, headers }, async (response) =>
      resolve({
        status: response.statusCode!,
        type: response.headers['content-type'] ?? '',
        text: await readText(response),
      }),
    )
      .on('error', reject)
      .end()
  })

async function expectNoFailure(path: string) {
  const { status, type, text } = await ask(path)
  assert.ok(status < 500, `${path}: ${status} ${text}`)
  checkResponse('GET', path.split('?')[0]!, status, type, text)
}

let count = 0
test('every parameter with every nasty value', async () => {
  for (const name of parameters) {
    for (const value of [...nasty.map(encodeURIComponent), ...broken]) {
      await expectNoFailure(`/collections/target/items?${name}=${value}`)
      count++
    }
  }
  assert.ok(count > 200, `only ${count} requests`)
})

test('every nasty value in every part of the address of a tile', async () => {
  const values = [...nasty.map(encodeURIComponent), ...broken]
  for (const value of values) {
    for (const name of [...parameters, 'cluster', 'collections'])
      await expectNoFailure(`/collections/target/tiles/WebMercatorQuad/0/0/0?${name}=${value}`)
    await expectNoFailure(`/tiles/WebMercatorQuad/0/0/0?collections=${value}`)
    if (value === '' || broken.includes(value)) continue
    for (const path of [
      `${value}/0/0/0`,
      `WebMercatorQuad/${value}/0/0`,
      `WebMercatorQuad/0/${value}/0`,
      `WebMercatorQuad/0/0/${value}`,
    ]) {
      const { status, text } = await ask(`/collections/target/tiles/${path}`)
      assert.ok(status < 500, `${path}: ${status} ${text}`)
    }
  }
})

test('every nasty value as the name of a parameter, a collection and a feature', async () => {
  for (const value of [...nasty.filter(Boolean).map(encodeURIComponent), ...broken]) {
    for (const path of [
      `/collections/target/items?${value}=1`,
      `/collections/${value}`,
      `/collections/${value}/items`,
      `/collections/target/items/${value}`,
      `/${value}`,
      `/?${value}`,
    ]) {
      const { status, text } = await ask(path)
      assert.ok(status < 500, `${path}: ${status} ${text}`)
    }
  }
})

test('repeated parameters, and many parameters', async () => {
  for (const name of parameters) await expectNoFailure(`/collections/target/items?${`${name}=1&`.repeat(50)}`)
  await expectNoFailure(
    `/collections/target/items?${Array.from({ length: 200 }, (_, index) => `p${index}=1`).join('&')}`,
  )
  await expectNoFailure(`/collections/target/items?sortby=${'name,'.repeat(500)}n`)
  await expectNoFailure(`/collections/target/items?properties=${'name,'.repeat(500)}n`)
})

test('random mixtures of parameters and values', async () => {
  const random = makeRandom(11)
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)]!
  for (let round = 0; round < 300; round++) {
    const query = Array.from(
      { length: 1 + (round % 4) },
      () => `${pick(parameters)}=${encodeURIComponent(pick(nasty))}`,
    ).join('&')
    await expectNoFailure(`/collections/target/items?${query}`)
  }
})

test('forged cursors of every shape', async () => {
  const shapes = [
    '[]',
    '["id"]',
    '["id",1]',
    '["id",null]',
    '["id","x"]',
    '["id","1","2"]',
    '["id",{"a":1}]',
    '["id",["1"]]',
    '{"0":"id"}',
    '"id"',
    'null',
    '["-name,id","a","1; drop"]',
    '["id","1\\u0000"]',
    `["id","${'9'.repeat(100)}"]`,
  ]
  for (const shape of shapes)
    for (const sortby of ['', '-name', 'at', 'd'])
      await expectNoFailure(
        `/collections/target/items?sortby=${sortby}&cursor=${Buffer.from(shape).toString('base64url')}`,
      )
})

test('headers as long as they may be are read at once', async () => {
  const pieces = [
    'a',
    ',',
    ';',
    '"',
    '=',
    '(',
    '/',
    '*',
    ' ',
    'q=0.1,',
    'a=b;',
    '"\\',
    'W/"a",',
    '127.0.0.1,',
    '[::1],',
    '../',
  ]
  const names = [
    'accept',
    'prefer',
    'consistency-token',
    'if-none-match',
    'x-forwarded-for',
    'x-forwarded-host',
    'forwarded',
  ]
  for (const name of [
    ...names,
    'via',
    'authorization',
    'accept-encoding',
    'traceparent',
    'origin',
    'content-type',
    'idempotency-key',
  ])
    for (const piece of pieces) {
      const start = process.threadCpuUsage()
      const answer = await ask('/collections/target/items/1', 'GET', {
        [name]: piece.repeat(12_000 / piece.length),
      })
      const { user } = process.threadCpuUsage(start)
      assert.ok(answer.status < 500, `${name}: ${piece}: ${answer.status}`)
      assert.ok(user < 200_000, `${name}: ${piece}: ${user} µs`)
    }
})

test('bytes that are not HTTP', async () => {
  const { hostname, port } = new URL(client.url)
  for (const bytes of [
    '\r\n\r\n\r\n',
    'GET\r\n\r\n',
    'GET / HTTP/9.9\r\n\r\n',
    'NONSENSE / HTTP/1.1\r\nhost: x\r\n\r\n',
    'GET / HTTP/1.1\r\nno colon\r\n\r\n',
    '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
    'GET / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n',
    'GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\nabc',
  ]) {
    const answer = await new Promise<string>((resolve) => {
      const socket = connect(Number(port), hostname)
      let text = ''
      socket
        .on('data', (chunk) => (text += chunk))
        .on('close', () => resolve(text))
        .on('error', () => resolve(text))
      socket.end(bytes)
    })
    assert.doesNotMatch(answer, /^HTTP\/1\.1 5/, JSON.stringify(bytes))
  }
})

test('no request was taken for a bug, and the table is unchanged', async () => {
  assert.deepEqual(
    events.filter(({ type }) => type === 'request-failed'),
    [],
  )
  assert.deepEqual(await session.query('select id, name, n from target'), [{ id: 1, name: 'x', n: 1 }])
  assert.equal((await client('/health/ready')).status, 200)
})
