// Tests TLS on both sides of a gateway as it is started: with its clients, in all of its processes, and with a PostgreSQL on
// another machine, which speaks it or does not.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { connect as connectTls, TLSSocket } from 'node:tls'
import pg from 'pg'
import { openDatabase } from '../../database/database.ts'
import { openSession } from '../../database/session.ts'
import type { Event } from '../../events.ts'
import { makeCertificate, tlsFlags } from '../support/certificate.ts'
import { testDatabase } from '../support/database.ts'
import { runTessera, startTessera } from '../support/process.ts'
import { openRelay } from '../support/relay.ts'
import { until } from '../support/until.ts'

const { readUrl } = testDatabase()
const folder = mkdtempSync(join(tmpdir(), 'tessera-tls-'))
after(() => rmSync(folder, { recursive: true }))

test('all processes serve TLS, show a new certificate without a restart, and drain connections of HTTP/2', async () => {
  const [first, second] = [makeCertificate('first'), makeCertificate('second')]
  const files = { ...first, certificate: join(folder, 'tls.crt'), keyFile: join(folder, 'tls.key') }
  const put = ({ certificate, keyFile }: typeof first) => {
    copyFileSync(certificate, files.certificate)
    copyFileSync(keyFile, files.keyFile)
  }
  put(first)
  const args = ['serve', '--port', '0', '--processes', '2', '--drain-delay-ms', '1000', ...tlsFlags(files)]
  const tessera = startTessera(args, { TESSERA_READ_URL: readUrl })
  const { url } = await tessera.event('gateway-listening')
  assert.match(url, /^https:\/\/127\.0\.0\.1:\d+$/)
  await until(async () => tessera.count('process-serving') === 2, 20_000)
  const port = Number(new URL(url).port)
  const shown = async () => {
    const socket = connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false })
    await once(socket, 'secureConnect')
    const { subject } = socket.getPeerCertificate()
    socket.destroy()
    return subject.CN as string
  }
  const shownByAll = async () => new Set(await Promise.all(Array.from({ length: 20 }, shown)))
  assert.deepEqual(await shownByAll(), new Set(['first']))
  const curl = (...more: string[]) =>
    execFileSync('curl', ['-sS', '--cacert', files.certificate, ...more], { encoding: 'utf8' })
  const landing = `https://localhost:${port}/`
  for (const [flag, version] of [
    ['--http2', '2'],
    ['--http1.1', '1.1'],
  ] as const) {
    const answer = curl(flag, '-w', '\n%{http_version}', landing).split('\n')
    assert.equal(answer.pop(), version)
    const { links } = JSON.parse(answer.join('\n'))
    for (const { href } of links) assert.match(href, /^https:\/\/localhost/)
  }
  put(second)
  await until(async () => (await shownByAll()).symmetricDifference(new Set(['second'])).size === 0, 20_000)
  assert.equal(tessera.count('certificate-loaded'), 2)
  // Two requests over one connection; after the signal each answer is the last one of its connection.
  tessera.child.kill('SIGTERM')
  const answers = curl(
    '--http2',
    '-w',
    '%{num_connects} ',
    '-o',
    '/dev/null',
    landing,
    '-o',
    '/dev/null',
    landing,
  )
  assert.equal(answers, '1 1 ')
  assert.equal(await tessera.ended, 0)
})

test('a gateway refuses to serve other machines without TLS, unless that is allowed', async () => {
  const start = (...args: string[]) =>
    runTessera(['serve', '--host', '0.0.0.0', '--start-timeout-ms', '0', ...args], undefined, {
      TESSERA_READ_URL: 'postgresql://nobody@127.0.0.1:1/geo',
    })
  const refused = await start()
  assert.equal(refused.code, 1)
  assert.match(refused.output, /TESSERA_HOST=0\.0\.0\.0 lets other machines reach the gateway without TLS/)
  const allowed = await start('--insecure')
  assert.match(allowed.output, /"host":"0\.0\.0\.0","msg":"gateway-exposed"/)
  const single = await start('--tls-key', '/nowhere')
  assert.match(single.output, /TESSERA_TLS_CERTIFICATE and TESSERA_TLS_KEY must be set together/)
  const missing = await start('--tls-key', '/nowhere', '--tls-certificate', '/nowhere')
  assert.equal(missing.code, 1)
})

/** Returns a URL that leads to a host of another machine by its name, although the listener is here. */
const elsewhere = (url: string, port: number) => {
  const { user, password, database } = new pg.Client({ connectionString: url })
  const role = [user, password].filter((part) => part).map((part) => encodeURIComponent(part!))
  return `postgresql://${role.join(':')}@0.0.0.0:${port}/${database}`
}

/** Starts a server that ends TLS in front of a database. */
async function openTls(url: string) {
  const { host, port } = new pg.Client({ connectionString: url })
  const { key, cert } = makeCertificate('database')
  const sockets = new Set<Socket>()
  const follow = (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
  }
  const server = createServer((caller) => {
    follow(caller)
    caller.once('data', () => {
      caller.write('S')
      const secured = new TLSSocket(caller, { isServer: true, key, cert })
      const called = host.startsWith('/') ? connect(`${host}/.s.PGSQL.${port}`) : connect(port, host)
      follow(secured)
      follow(called)
      secured.pipe(called).pipe(secured)
      caller.once('close', () => called.destroy())
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return (server.address() as { port: number }).port
}

/** Reads through a gateway's database. @returns what was logged about encryption */
async function readThrough(url: string) {
  const exposed: Event[] = []
  const database = openDatabase({
    readUrl: url,
    workerReadUrl: undefined,
    writeUrl: undefined,
    poolSize: 2,
    statementTimeoutMs: 5_000,
    emit: (event) => {
      if (event.type === 'connection-unencrypted') exposed.push(event)
    },
  })
  const read = () =>
    database.stored().then(
      () => true,
      () => false,
    )
  await until(read, 5_000)
  await Promise.all([1, 2, 3].map(read))
  await database.close()
  return exposed
}

test('a server on another machine is reached over TLS if it speaks it, and its URL may require or forbid it', async () => {
  const port = await openTls(readUrl)
  const url = elsewhere(readUrl, port)
  assert.deepEqual(await readThrough(url), [])
  const session = await openSession(url, 'test')
  await session.close()
  // The certificate is checked if the URL says so; without TLS, this server understands nothing.
  await assert.rejects(openSession(`${url}?sslmode=verify-full`, 'test'), /self-signed certificate/)
  await assert.rejects(openSession(`${url}?sslmode=disable`, 'test'))
})

test('a server without TLS is used all the same, and that is logged once', async () => {
  const relay = await openRelay(readUrl)
  after(() => relay.close())
  const { port } = new URL(relay.url)
  const url = elsewhere(readUrl, Number(port))
  assert.deepEqual(await readThrough(url), [{ type: 'connection-unencrypted', endpoint: `0.0.0.0:${port}` }])
  await assert.rejects(openSession(`${url}?sslmode=no-verify`, 'test'), /does not support SSL/)
})
