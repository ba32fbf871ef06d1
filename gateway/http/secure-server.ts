// Owns the server for TLS: it speaks HTTP/2, and HTTP/1.1 to clients that choose it (ALPN), within the limits of the
// server without TLS.

import type { RequestListener, Server } from 'node:http'
import {
  createSecureServer,
  type Http2SecureServer,
  type Http2ServerRequest,
  type SecureServerOptions,
} from 'node:http2'
import type { Socket } from 'node:net'
import type { SecureContextOptions } from 'node:tls'
import type { FastifyInstance } from 'fastify'
import { gatewayError } from '../errors.ts'
import type { Emit } from '../events.ts'
import { isLoopback } from './auth/locality.ts'
import { type KeyPair, type KeyPairFiles, readKeyPair, watchKeyPair } from './key-pair.ts'
import { StreamRequest, StreamResponse } from './stream-exchange.ts'
import { isUploading } from './upload.ts'

export type SecureServerLimits = {
  /** Time limit for a complete request to arrive. */
  readonly requestTimeoutMs: number
  readonly connectionsCheckingInterval: number
  /** Time without traffic after which a connection is closed while a request is under way, … */
  readonly stallTimeoutMs: number
  /** … and while none is. */
  readonly keepAliveMs: number
}

/** Requests that one connection may have under way; without a limit, it could have four billion. */
const MOST_STREAMS = 100
/** Seconds for which browsers use no other than https at this name. */
const STRICT_AGE_S = 31_536_000

const PROTOCOLS: SecureContextOptions = {
  minVersion: 'TLSv1.2',
  // Those of TLS 1.2 that HTTP/2 does not forbid (RFC 9113, Appendix A): with forward secrecy and authentication.
  ciphers: [
    'TLS_AES_128_GCM_SHA256',
    'TLS_AES_256_GCM_SHA384',
    'TLS_CHACHA20_POLY1305_SHA256',
    'ECDHE-ECDSA-AES128-GCM-SHA256',
    'ECDHE-RSA-AES128-GCM-SHA256',
    'ECDHE-ECDSA-AES256-GCM-SHA384',
    'ECDHE-RSA-AES256-GCM-SHA384',
    'ECDHE-ECDSA-CHACHA20-POLY1305',
    'ECDHE-RSA-CHACHA20-POLY1305',
  ].join(':'),
}

/**
 * Reads the certificate, for a server that uses new ones as soon as the files have them.
 * @throws UserError
 */
export async function openSecureServer(files: KeyPairFiles, emit: Emit) {
  const pair = await readKeyPair(files)
  return {
    /** Returns what Fastify makes its server with. */
    makeServer: (limits: SecureServerLimits) => (listener: RequestListener) =>
      makeServer(pair, limits, listener),
    /** Adds what the requests of such a server need. */
    prepare(app: FastifyInstance, requestTimeoutMs: number) {
      const server = app.server as unknown as Http2SecureServer
      const use = (found: KeyPair) => server.setSecureContext({ ...PROTOCOLS, ...found })
      const stop = watchKeyPair(files, pair, use, emit)
      app.addHook('onClose', async () => stop())
      prepareRequests(app, requestTimeoutMs)
    },
  }
}

function makeServer(
  pair: KeyPair,
  { requestTimeoutMs, connectionsCheckingInterval, stallTimeoutMs, keepAliveMs }: SecureServerLimits,
  listener: RequestListener,
): Server {
  const options = {
    ...PROTOCOLS,
    ...pair,
    allowHTTP1: true,
    noDelay: true,
    handshakeTimeout: requestTimeoutMs,
    settings: { maxConcurrentStreams: MOST_STREAMS },
    Http2ServerRequest: StreamRequest,
    Http2ServerResponse: StreamResponse,
    // Those of HTTP/1.1, as app.ts sets them without TLS.
    requestTimeout: requestTimeoutMs,
    headersTimeout: requestTimeoutMs,
    keepAliveTimeout: keepAliveMs,
    connectionsCheckingInterval,
    requireHostHeader: false,
  } as unknown as SecureServerOptions
  const server = createSecureServer(options, listener as never)
  server.setTimeout(stallTimeoutMs)
  server.on('session', (session) => {
    session.setTimeout(Math.max(stallTimeoutMs, keepAliveMs))
  })
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  return Object.assign(server as unknown as Server, {
    closeAllConnections() {
      for (const socket of sockets) socket.destroy()
    },
  })
}

function prepareRequests(app: FastifyInstance, requestTimeoutMs: number) {
  app.addHook('onRequest', (request, reply, done) => {
    // Not for names of this machine: browsers would use https for all programs that listen there, at any port.
    if (!isLoopback(request.hostname)) reply.header('strict-transport-security', `max-age=${STRICT_AGE_S}`)
    const raw = request.raw as unknown as Http2ServerRequest
    if (raw.httpVersionMajor === 2 && !raw.stream.endAfterHeaders) limitArrival(raw, requestTimeoutMs)
    done()
  })
  app.addHook('onSend', (request, reply, _payload, done) => {
    // HTTP/2 has no such header; Fastify sets it after some errors.
    if (request.raw.httpVersionMajor === 2) reply.removeHeader('connection')
    done()
  })
  app.addHook('preValidation', (request, _reply, done) => {
    // A body that its client breaks off ends like a complete one.
    const isBrokenOff = request.raw instanceof StreamRequest && request.raw.isBrokenOff
    done(isBrokenOff ? gatewayError('request-abandoned', 'The client went away.') : undefined)
  })
}

/** Ends a request of HTTP/2 whose body takes too long, as Node does with one of HTTP/1.1. */
function limitArrival(raw: Http2ServerRequest, requestTimeoutMs: number) {
  const timer = setTimeout(() => {
    // A body that is stored as it arrives has deadlines of its own.
    if (isUploading(raw.socket)) return
    // After the answer, the client need not send the rest.
    raw.stream.once('finish', () => raw.stream.close())
    raw.destroy(gatewayError('request-too-slow', 'The request did not arrive in time; send it again.'))
  }, requestTimeoutMs)
  const stop = () => clearTimeout(timer)
  raw.once('end', stop)
  raw.once('close', stop)
  // Without a listener, the error would end the process if nothing reads the body.
  raw.on('error', stop)
}
