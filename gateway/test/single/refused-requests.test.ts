// Tests that a request that is refused by its form, before a route sees it, gets a problem too.

import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { test } from 'node:test'
import { startGateway } from '../support/gateway.ts'

const { client, session, catalog, events } = await startGateway('--body-limit=2048')
await session.query('create table form (id int primary key, geom geometry(Point, 4326), name text)')
await session.query("insert into form values (1, null, 'before')")
await catalog.reload()

/** Sends bytes, and returns the status and the problem of the answer. */
const send = (bytes: string | Buffer) =>
  new Promise<{ status: number; code: string; detail: string }>((resolve, reject) => {
    const { hostname, port } = new URL(client.url)
    const socket = connect(Number(port), hostname)
    let text = ''
    socket
      .on('data', (chunk) => {
        text += chunk
        const [head, body] = text.split('\r\n\r\n') as [string, string?]
        const length = Number(/content-length: *(\d+)/i.exec(head)?.[1] ?? Number.NaN)
        if (body === undefined || body.length < length) return
        socket.destroy()
        const shown = `${String(bytes).slice(0, 80)}: ${text}`
        assert.match(head, /content-type: *application\/problem\+json/i, shown)
        assert.doesNotMatch(body, /statusCode/, shown)
        const { status, code, detail } = JSON.parse(body)
        assert.equal(Number(head.split(' ')[1]), status, shown)
        resolve({ status, code, detail })
      })
      .on('close', () => reject(new Error(`no answer to ${String(bytes).slice(0, 80)}: ${text}`)))
      .on('error', () => {})
    socket.write(bytes)
  })

const get = (path: string, headers = 'host: localhost') => `GET ${path} HTTP/1.1\r\n${headers}\r\n\r\n`
const put = (body: string, headers = `content-length: ${body.length}`, type = 'application/geo+json') =>
  `PUT /collections/form/items/1 HTTP/1.1\r\nhost: localhost\r\ncontent-type: ${type}\r\n${headers}\r\n\r\n${body}`

test('every request of a wrong form is answered by a problem', async () => {
  const cases: [string, number, string][] = [
    [put('x'.repeat(5_000)), 413, 'body-too-large'],
    [put('{"a":', 'content-length: 100000000'), 413, 'body-too-large'],
    [put(`1000\r\n${'x'.repeat(4096)}\r\n0\r\n\r\n`, 'transfer-encoding: chunked'), 413, 'body-too-large'],
    [get(`/collections/form/items/${'x'.repeat(11_000)}`), 414, 'address-too-long'],
    [get('/', `host: x\r\nx: ${'y'.repeat(20_000)}`), 431, 'request-too-large'],
    [get(`/${'y'.repeat(20_000)}`), 431, 'request-too-large'],
    [get('/collections/%zz'), 400, 'request-malformed'],
    [get('/%ff'), 400, 'request-malformed'],
    [get('/', 'no colon'), 400, 'request-malformed'],
    ['NONSENSE / HTTP/1.1\r\nhost: x\r\n\r\n', 400, 'request-malformed'],
    ['GET / HTTP/9.9\r\nhost: x\r\n\r\n', 400, 'request-malformed'],
    [put('{', 'content-length: -1'), 400, 'request-malformed'],
    [put('0\r\n\r\n', 'transfer-encoding: chunked\r\ncontent-length: 3'), 400, 'request-malformed'],
    [put('zz\r\nx', 'transfer-encoding: chunked'), 400, 'request-malformed'],
    [put('{'), 400, 'request-malformed'],
    [put(''), 400, 'request-malformed'],
    [get('/', 'x: y'), 400, 'header-invalid'],
    [get('/', 'host: localhost\r\nexpect: a miracle'), 400, 'header-invalid'],
    [put('{}', 'content-length: 2\r\nexpect: 200-ok'), 400, 'header-invalid'],
    ['TRACE / HTTP/1.1\r\nhost: localhost\r\n\r\n', 405, 'method-not-allowed'],
    [get('/nothing'), 404, 'resource-not-found'],
    ['PROPFIND /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n', 404, 'resource-not-found'],
  ]
  for (const [bytes, status, code] of cases) {
    const answer = await send(bytes)
    assert.deepEqual([answer.status, answer.code], [status, code], bytes.slice(0, 120))
    assert.ok(answer.detail.length > 10 && answer.detail.length < 300, answer.detail)
  }
})

test('a body is read as UTF-8, and refused if it is declared to be anything else', async () => {
  const body = '{"type":"Feature","geometry":null,"properties":{"name":"x"}}'
  const type = (charset: string) => `application/geo+json; charset=${charset}`
  for (const charset of ['utf-16', 'iso-8859-1', '"windows-1252"', 'UTF-32', 'x']) {
    const answer = await send(put(body, undefined, type(charset)))
    assert.deepEqual([answer.status, answer.code], [415, 'media-type-unsupported'], charset)
    assert.match(answer.detail, /UTF-8/)
  }
  for (const charset of ['utf-8', 'UTF-8', '"utf-8"', 'utf8', 'us-ascii']) {
    const { status } = await client('/collections/form/items/1', {
      method: 'PUT',
      headers: { 'content-type': type(charset) },
      body,
    })
    assert.equal(status, 200, charset)
  }
  const wrong = await send(put('{"type":"\\xff"}'.replace('\\xff', '\\ud800')))
  assert.equal(wrong.status, 422)
  const bytes = Buffer.from(put('{"a":"???"}'))
  assert.deepEqual((await send(Buffer.from(bytes.map((byte) => (byte === 63 ? 0xff : byte))))).status, 400)
})

test('none of them was taken for a bug', () => {
  assert.deepEqual(
    events.filter(({ type }) => type === 'request-failed'),
    [],
  )
})
