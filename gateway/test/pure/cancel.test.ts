// Tests that a query is cancelled over TLS if its session uses TLS. The listener only records what the driver sends:
// the embedded PostgreSQL of the tests has no TLS.

import assert from 'node:assert/strict'
import { createServer, type Socket } from 'node:net'
import { test } from 'node:test'
import { TLSSocket } from 'node:tls'
import { type Connection, cancelQuery } from '../../database/pool.ts'
import { makeCertificate } from '../support/certificate.ts'

const { key, cert } = makeCertificate()
const SECRET = 0x5ec12e7
const SSL_REQUEST = 80877103
const CANCEL = 80877102

/** Cancels a query at a listener. @returns what the listener has received, in the open and within TLS */
async function record(ssl: false | object) {
  const open: Buffer[] = []
  const within: Buffer[] = []
  const answer = (chunk: Buffer, socket: Socket) => {
    if (chunk.length === 16 && chunk.readInt32BE(4) === CANCEL) socket.end()
  }
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', (chunk) => {
      open.push(chunk)
      if (chunk.readInt32BE(4) !== SSL_REQUEST) return answer(chunk, socket)
      socket.write('S')
      const secured = new TLSSocket(socket, { isServer: true, key, cert })
      secured.on('error', () => {})
      secured.on('data', (text) => {
        within.push(text)
        answer(text, secured)
      })
    })
  }).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as { port: number }
  const session = {
    host: '127.0.0.1',
    port,
    processID: 4711,
    secretKey: SECRET,
    connection: { ssl },
    sslNegotiation: 'postgres',
  }
  const isTaken = await cancelQuery(session as unknown as Connection)
  server.close()
  return { isTaken, open: Buffer.concat(open), within: Buffer.concat(within) }
}

test('the key of a session with TLS is sent within TLS', async () => {
  const { isTaken, open, within } = await record({ ca: cert })
  assert.equal(isTaken, true)
  assert.equal(open.readInt32BE(4), SSL_REQUEST)
  assert.equal(open.length, 8)
  assert.deepEqual([within.readInt32BE(4), within.readInt32BE(12)], [CANCEL, SECRET])
})

test('a server that cannot prove who it is gets no key', async () => {
  const { isTaken, within } = await record({})
  assert.equal(isTaken, false)
  assert.equal(within.length, 0)
})

test('without TLS the key is sent as the session itself is', async () => {
  const { isTaken, open } = await record(false)
  assert.equal(isTaken, true)
  assert.deepEqual([open.readInt32BE(4), open.readInt32BE(12)], [CANCEL, SECRET])
})
