// Owns the connections of clients: how many there are, of all clients and of a single address, and how they end.

import type { Server } from 'node:http'
import type { Http2ServerRequest } from 'node:http2'
import type { FastifyInstance } from 'fastify'
import { networkOf } from './client.ts'
import type { Trust } from './public-url.ts'

/** Part of the connections that one address may have. */
const ADDRESS_SHARE = 1 / 4

/**
 * Closes connections beyond `maxConnections`, and those of an address beyond its share of them, so that a single one
 * cannot keep all others out. A trusted proxy has the connections of many clients, and no limit of its own.
 */
export function limitConnections(
  app: FastifyInstance,
  { maxConnections, trust }: { readonly maxConnections: number; readonly trust: Trust },
) {
  const most = Math.ceil(maxConnections * ADDRESS_SHARE)
  const counts = new Map<string, number>()
  app.server.maxConnections = maxConnections
  app.server.on('connection', (socket) => {
    const { remoteAddress = '' } = socket
    if (trust(remoteAddress, 0)) return
    const client = networkOf(remoteAddress)
    const count = counts.get(client) ?? 0
    if (count >= most) {
      socket.destroy()
      return
    }
    counts.set(client, count + 1)
    socket.once('close', () => {
      const left = counts.get(client)! - 1
      if (left > 0) counts.set(client, left)
      else counts.delete(client)
    })
  })
}

/** Lets each connection end after the next response: its client then connects elsewhere. */
export function endConnections(server: Server) {
  server.prependListener('request', (request, response) => {
    if (request.httpVersionMajor === 2) (request as unknown as Http2ServerRequest).stream.session?.close()
    else response.setHeader('connection', 'close')
  })
}
