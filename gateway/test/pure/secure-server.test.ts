// Tests the server for TLS with clients of HTTP/2 and HTTP/1.1: what they agree on, which certificate it shows, and how
// answers and bodies that break off end.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2'
import { get } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import Fastify from 'fastify'
import type { Event } from '../../events.ts'
import { type AnswerLimits, makeAnswers } from '../../http/answers.ts'
import { problem } from '../../http/problem.ts'
import { openSecureServer } from '../../http/secure-server.ts'
import { makeUploads } from '../../http/upload.ts'
import { makeCertificate } from '../support/certificate.ts'
import { until } from '../support/until.ts'

const LARGE = Buffer.alloc(40_000_000, 'x')
const first = makeCertificate('first')

async function start(
  limits: Partial<AnswerLimits> = {},
  files = { certificate: first.certificate, key: first.keyFile },
) {
  const events: Event[] = []
  const emit = (event: Event) => void events.push(event)
  const secured = await openSecureServer(files, emit)
  const app = Fastify({
    forceCloseConnections: true,
    serverFactory: secured.makeServer({
      requestTimeoutMs: 1_000,
      connectionsCheckingInterval: 100,
      stallTimeoutMs: 30_000,
      keepAliveMs: 72_000,
    }),
  })
  secured.prepare(app, 1_000)
  problem(app, { emit })
  const clientOf = () => 'a'
  const answers = makeAnswers(app, {
    bufferLimit: 100_000_000,
    leastRate: 0,
    answerTimeoutMs: 60_000,
    clientStreams: 100,
    poolSize: 16,
    clientOf,
    emit,
    ...limits,
  })
  const uploads = makeUploads({ leastRate: 0, answerTimeoutMs: 60_000, poolSize: 16, clientOf })
  /** How each upload ended. */
  const ends: string[] = []
  app.get('/large', async () => LARGE)
  app.get('/broken', async (request, reply) => {
    const answer = answers.openLarge(request, reply, true)
    const parts = async function* () {
      yield 'x'.repeat(100_000)
      await sleep(500)
      answer.breakOff(new Error('lost'))
    }
    return reply.send(Readable.from(parts()))
  })
  app.get('/small', async (request) => `${request.protocol}://${request.host} ${request.raw.httpVersion}`)
  app.post('/parsed', async () => ends.push('parsed'))
  app.register(async (scope) => {
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('*', (_request, _body, done) => done(null))
    scope.post('/stored', async (request) => {
      const end = uploads.enter(request)
      const upload = uploads.read(request)
      await upload.drain().then(
        () => ends.push('complete'),
        (error) => ends.push(error.code),
      )
      end()
      return 'stored'
    })
  })
  after(() => app.close())
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = app.server.address() as { port: number }
  return { url: `https://localhost:${port}`, port, app, events, ends, address: url }
}

function open(url: string, ca = first.cert): ClientHttp2Session {
  const session = connect(url, { ca })
  session.on('error', () => {})
  after(() => session.destroy())
  return session
}

/** Reads an answer. @returns its status, its length, and the code of HTTP/2 with which it ended */
function read(stream: ClientHttp2Stream) {
  let [status, bytes] = [0, 0]
  stream.on('error', () => {})
  stream.once('response', (headers) => {
    status = Number(headers[':status'])
  })
  stream.on('data', (chunk: Buffer) => {
    bytes += chunk.length
  })
  return new Promise<{ status: number; bytes: number; code: number | undefined }>((resolve) =>
    stream.once('close', () => resolve({ status, bytes, code: stream.rstCode })),
  )
}

test('clients choose HTTP/2 or HTTP/1.1, and TLS 1.2 or 1.3', async () => {
  const { port } = await start()
  const agree = async (options: object) => {
    const socket = connectTls({ port, host: '127.0.0.1', ca: first.cert, ...options })
    try {
      await once(socket, 'secureConnect')
      return [socket.alpnProtocol, socket.getProtocol()]
    } catch (error) {
      return (error as { code?: string }).code
    } finally {
      socket.destroy()
    }
  }
  assert.deepEqual(await agree({ ALPNProtocols: ['h2', 'http/1.1'] }), ['h2', 'TLSv1.3'])
  assert.deepEqual(await agree({ ALPNProtocols: ['http/1.1'] }), ['http/1.1', 'TLSv1.3'])
  assert.deepEqual(await agree({}), [false, 'TLSv1.3'])
  assert.deepEqual(await agree({ maxVersion: 'TLSv1.2', ALPNProtocols: ['h2'] }), ['h2', 'TLSv1.2'])
  const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' }
  assert.match(String(await agree(old)), /PROTOCOL_VERSION|ECONNRESET/)
  const weak = { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-SHA' }
  assert.match(String(await agree(weak)), /HANDSHAKE_FAILURE|ECONNRESET/)
})

test('requests of HTTP/2 have a scheme, a host and its headers, and Host cannot contradict the authority', async () => {
  const { url } = await start()
  const session = open(url)
  const ask = async (headers: Record<string, string>) => {
    const stream = session.request({ ':path': '/small', ...headers })
    let received: Record<string, unknown> = {}
    stream.once('response', (answer) => {
      received = answer
    })
    let text = ''
    for await (const chunk of stream) text += chunk
    return [received[':status'], text, received['strict-transport-security']]
  }
  const authority = 'geo.example.org'
  const strict = 'max-age=31536000'
  assert.deepEqual(await ask({ ':authority': authority }), [200, `https://${authority} 2.0`, strict])
  assert.deepEqual(await ask({ ':authority': authority, host: authority }), [
    200,
    `https://${authority} 2.0`,
    strict,
  ])
  // Browsers would use https for every port of this machine.
  assert.deepEqual((await ask({}))[2], undefined)
  const [status, text] = await ask({ ':authority': authority, host: 'localhost' })
  assert.equal(status, 400)
  assert.match(String(text), /Host must be the same as :authority/)
})

test('an answer that breaks off is no complete one for clients of HTTP/2, HTTP/1.1 and HTTP/1.0', async () => {
  const { url, port } = await start()
  const session = open(url)
  const broken = await read(session.request({ ':path': '/broken' }))
  assert.deepEqual([broken.status, broken.code], [200, constants.NGHTTP2_INTERNAL_ERROR])
  // Other requests of the connection go on.
  assert.equal((await read(session.request({ ':path': '/small' }))).status, 200)
  const error = await new Promise<{ code?: string }>((resolve) => {
    get(`${url}/broken`, { ca: first.cert, agent: false }, (response) => {
      response
        .on('error', resolve)
        .on('end', () => resolve({ code: 'complete' }))
        .resume()
    }).on('error', () => {})
  })
  assert.equal(error.code, 'ECONNRESET')
  const socket = connectTls({ port, host: '127.0.0.1', ca: first.cert })
  await once(socket, 'secureConnect')
  socket.write('GET /broken HTTP/1.0\r\nHost: localhost\r\n\r\n')
  socket.resume()
  const end = await once(socket, 'end').then(
    () => 'complete',
    (cause) => cause.code,
  )
  assert.equal(end, 'ECONNRESET')
})

test('a client of HTTP/2 that does not read is cut, and one that reads slowly but steadily is not', async () => {
  const { url, events } = await start({ leastRate: 50_000 })
  const session = open(url)
  const stalled = session.request({ ':path': '/large' })
  await once(stalled, 'response')
  stalled.pause()
  // 200 kB in a second, of an answer that the gateway has handed over as one buffer.
  const steady = session.request({ ':path': '/large' })
  let bytes = 0
  steady.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    steady.pause()
    setTimeout(() => steady.resume(), chunk.length / 200)
  })
  stalled.on('error', () => {})
  const code = new Promise((resolve) => stalled.once('close', () => resolve(stalled.rstCode)))
  await until(async () => events.some(({ type }) => type === 'answer-cut'), 20_000)
  stalled.resume()
  assert.equal(await code, constants.NGHTTP2_INTERNAL_ERROR)
  await sleep(3_000)
  assert.deepEqual(
    events.filter(({ type }) => type === 'answer-cut').map((event) => 'reason' in event && event.reason),
    ['too-slow'],
  )
  assert.ok(!steady.closed && bytes > 1_000_000, `${bytes} bytes`)
  steady.close()
})

/**
 * Sends half of a body and breaks off, frame by frame: Node's client ends a body before it resets its stream.
 * @param code of RST_STREAM; undefined to lose the connection
 */
async function breakOff(port: number, path: string, code: number | undefined) {
  const frame = (type: number, flags: number, stream: number, payload = Buffer.alloc(0)) => {
    const head = Buffer.alloc(9)
    head.writeUIntBE(payload.length, 0, 3)
    head[3] = type
    head[4] = flags
    head.writeUInt32BE(stream, 5)
    return Buffer.concat([head, payload])
  }
  const headers = { ':method': 'POST', ':scheme': 'https', ':path': path, ':authority': 'localhost' }
  const fields = Object.entries({ ...headers, 'content-type': 'application/json' }).flatMap(
    ([name, value]) => [
      Buffer.from([0, name.length]),
      Buffer.from(name),
      Buffer.from([value.length]),
      Buffer.from(value),
    ],
  )
  const [DATA, HEADERS, RST_STREAM, SETTINGS, END_HEADERS] = [0, 1, 3, 4, 4]
  const socket = connectTls({ port, host: '127.0.0.1', ca: first.cert, ALPNProtocols: ['h2'] })
  await once(socket, 'secureConnect')
  socket.on('error', () => {}).resume()
  socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
  socket.write(frame(SETTINGS, 0, 0))
  socket.write(frame(HEADERS, END_HEADERS, 1, Buffer.concat(fields)))
  socket.write(frame(DATA, 0, 1, Buffer.from('{"a":1}')))
  await sleep(100)
  if (code === undefined) return socket.destroy()
  const reason = Buffer.alloc(4)
  reason.writeUInt32BE(code)
  socket.write(frame(RST_STREAM, 0, 1, reason))
  await sleep(100)
  return socket.end()
}

test('a body that its client breaks off is not taken for complete', async () => {
  const { port, ends } = await start()
  for (const path of ['/stored', '/parsed'])
    for (const code of [constants.NGHTTP2_CANCEL, constants.NGHTTP2_NO_ERROR, undefined])
      await breakOff(port, path, code)
  await until(async () => ends.length === 3, 5_000)
  await sleep(200)
  assert.deepEqual(ends, ['request-abandoned', 'request-abandoned', 'request-abandoned'])
})

test('a body of HTTP/2 that does not arrive in time gets 408, unless it is stored as it arrives', async () => {
  const { url, ends } = await start()
  const session = open(url)
  const send = (path: string) => {
    const stream = session.request({ ':method': 'POST', ':path': path, 'content-type': 'application/json' })
    stream.write('{"a":')
    return stream
  }
  const stored = send('/stored')
  const slow = await read(send('/parsed'))
  assert.deepEqual([slow.status, slow.code], [408, constants.NGHTTP2_NO_ERROR])
  assert.ok(slow.bytes > 100)
  await sleep(500)
  stored.end('1}')
  assert.equal((await read(stored)).status, 200)
  assert.deepEqual(ends, ['complete'])
})

test('a request with Expect is answered over HTTP/2', async () => {
  const { url } = await start()
  const stream = open(url).request({
    ':method': 'POST',
    ':path': '/stored',
    'content-type': 'text/csv',
    expect: '100-continue',
  })
  await once(stream, 'continue')
  stream.end('a,b')
  assert.equal((await read(stream)).status, 200)
})

test('what does not speak TLS is closed, and the server goes on', async () => {
  const { port, url } = await start()
  await assert.rejects(fetch(`http://127.0.0.1:${port}/small`))
  assert.equal((await read(open(url).request({ ':path': '/small' }))).status, 200)
})

test('a new certificate is used once it fits its key, also behind symbolic links', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'tessera-links-'))
  after(() => rmSync(folder, { recursive: true }))
  const second = makeCertificate('second')
  const third = makeCertificate('third')
  // As Kubernetes mounts secrets: a link to a folder, which is replaced.
  const put = (name: string, { certificate, keyFile }: typeof first) => {
    mkdirSync(join(folder, name))
    copyFileSync(certificate, join(folder, name, 'tls.crt'))
    copyFileSync(keyFile, join(folder, name, 'tls.key'))
    symlinkSync(name, join(folder, 'next'))
    renameSync(join(folder, 'next'), join(folder, 'data'))
  }
  put('1', first)
  const [certificate, key] = [join(folder, 'data/tls.crt'), join(folder, 'data/tls.key')]
  const { port, events } = await start({}, { certificate, key })
  const shown = async () => {
    const socket = connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false })
    await once(socket, 'secureConnect')
    const { subject } = socket.getPeerCertificate()
    socket.destroy()
    return subject.CN
  }
  assert.equal(await shown(), 'first')
  put('2', second)
  await until(async () => (await shown()) === 'second', 10_000)
  // A certificate without its key changes nothing, and is logged once.
  copyFileSync(third.certificate, certificate)
  await until(async () => events.some(({ type }) => type === 'certificate-refused'), 10_000)
  await sleep(5_000)
  assert.equal(await shown(), 'second')
  assert.equal(events.filter(({ type }) => type === 'certificate-refused').length, 1)
  copyFileSync(third.keyFile, key)
  await until(async () => (await shown()) === 'third', 10_000)
  assert.deepEqual(
    events.map(({ type }) => type),
    ['certificate-loaded', 'certificate-refused', 'certificate-loaded'],
  )
  assert.ok(readFileSync(certificate).equals(third.cert))
})

test('files that are no pair are named before the gateway starts', async () => {
  const other = makeCertificate('other')
  const fails = (certificate: string, key: string, message: RegExp) =>
    assert.rejects(
      openSecureServer({ certificate, key }, () => {}),
      { message },
    )
  await fails(first.certificate, other.keyFile, /^The key in .* is not that of the certificate in /)
  await fails('/nowhere.crt', first.keyFile, /^\/nowhere\.crt cannot be read: /)
  await fails(first.keyFile, first.keyFile, /has to be a certificate in PEM: /)
  await fails(first.certificate, first.certificate, /has to be a private key in PEM without a passphrase: /)
})
