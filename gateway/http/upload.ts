// Owns bodies that are read as they arrive: their hash, how fast clients must send, and how many a client sends at once.

import { createHash, type Hash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyRequest } from 'fastify'
import { gatewayError } from '../errors.ts'
import { type AnswerLimits, GRACE_MS } from './answers.ts'
import type { ClientOf } from './client.ts'
import { makeCounter } from './counter.ts'

/** A body while it is read. */
export interface Upload {
  /**
   * Returns the next bytes; undefined at the end.
   * @throws GatewayError request-too-slow, request-abandoned
   */
  pull(): Promise<Buffer | undefined>
  /**
   * Hashes the bytes that are pulled from now on; `bodyHash` of the request is set at the end.
   * @param start those that were pulled before
   */
  hashFrom(start: Buffer): void
  /** Reads the rest. @throws as pull */
  drain(): Promise<void>
  /**
   * Reads no more. What still arrives is dropped for some seconds, so that a client that is sending reads the answer; then
   * the connection is closed.
   */
  discard(): void
}

export interface Uploads {
  /**
   * Counts an upload that occupies a connection for changes at the pace of its client.
   * @returns a function that ends it
   * @throws GatewayError gateway-busy
   */
  enter(request: FastifyRequest): () => void
  /** Starts to read the body of a request. */
  read(request: FastifyRequest): Upload
}

/** How long a client may go on to send a body after it was refused. */
const LINGER_MS = 5_000

const uploading = new WeakSet<Socket>()
/** True if a connection has a body under way that may take longer than other requests. */
export const isUploading = (socket: Socket) => uploading.has(socket)

export function makeUploads({
  leastRate,
  answerTimeoutMs,
  poolSize,
  clientOf,
}: Pick<AnswerLimits, 'leastRate' | 'answerTimeoutMs' | 'poolSize'> & {
  readonly clientOf: ClientOf
}): Uploads {
  const under = makeCounter()
  // The other connections stay for single changes.
  const most = Math.max(1, poolSize >> 2)
  const mostOfOne = Math.max(1, most >> 1)
  return {
    enter(request) {
      const client = clientOf(request)
      if (under.all() >= most || under.of(client) >= mostOfOne)
        throw gatewayError(
          'gateway-busy',
          'As many bodies with many features as can be are under way; try again when one has ended.',
        )
      const takeBack = under.add(client)
      const { socket } = request.raw
      uploading.add(socket)
      return () => {
        uploading.delete(socket)
        takeBack()
      }
    },
    read: (request) => readBody(request, leastRate, answerTimeoutMs),
  }
}

function readBody(request: FastifyRequest, leastRate: number, longestMs: number): Upload {
  const { raw } = request
  let hash: Hash | undefined
  const pace = makePace(leastRate, longestMs)
  let arrived: Buffer[] = []
  let isEnded = false
  let isDiscarded = false
  let failure: Error | undefined
  let wake = () => {}
  raw.pause()
  raw.on('data', (chunk: Buffer) => {
    if (isDiscarded) return
    arrived.push(chunk)
    raw.pause()
    wake()
  })
  const fail = (error?: Error) => {
    if (!isEnded) failure ??= gatewayError('request-abandoned', 'The client went away.', {}, error)
    wake()
  }
  raw.once('end', () => {
    // A body of HTTP/2 that its client breaks off ends like a complete one.
    if ((raw as { readonly isBrokenOff?: boolean }).isBrokenOff) return fail()
    isEnded = true
    wake()
  })
  raw.on('error', fail)
  raw.once('close', () => fail())

  async function pull(): Promise<Buffer | undefined> {
    const start = performance.now()
    while (arrived.length === 0 && !isEnded && !failure) {
      raw.resume()
      await new Promise<void>((resolve, reject) => {
        const timer = setTimeout(() => reject(tooSlow()), pace.patienceMs(start))
        wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
    const chunk = arrived.shift()
    if (chunk) {
      pace.note(performance.now() - start, chunk.length)
      hash?.update(chunk)
      return chunk
    }
    if (failure) throw failure
    if (hash) request.bodyHash = hash.copy().digest('hex')
    return undefined
  }
  return {
    pull,
    hashFrom(start) {
      hash = createHash('sha256').update(start)
    },
    async drain() {
      while ((await pull()) !== undefined);
    },
    discard() {
      isDiscarded = true
      arrived = []
      if (isEnded) return
      raw.resume()
      const timer = setTimeout(() => close(raw), LINGER_MS)
      raw.once('end', () => clearTimeout(timer))
      raw.once('close', () => clearTimeout(timer))
    },
  }
}

const close = ({ socket }: IncomingMessage) => socket.destroy()

/**
 * Follows how fast a client sends. Only the time counts in which the gateway waits for it: while the database stores what
 * has arrived, a client cannot send.
 */
function makePace(leastRate: number, longestMs: number) {
  const startedAt = performance.now()
  let waitedMs = 0
  let bytes = 0
  return {
    /** Returns how long to wait for the next bytes. */
    patienceMs: (start: number) =>
      Math.max(0, Math.min(start + GRACE_MS, startedAt + longestMs) - performance.now()),
    /** @throws GatewayError request-too-slow */
    note(ms: number, count: number) {
      waitedMs += ms
      bytes += count
      if (waitedMs < GRACE_MS) return
      if ((bytes * 1_000) / waitedMs < leastRate) throw tooSlow()
      waitedMs = bytes = 0
    },
  }
}

const tooSlow = () =>
  gatewayError(
    'request-too-slow',
    'The body arrives too slowly; nothing was stored. Send it again, in smaller parts.',
  )
