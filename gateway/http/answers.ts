// Owns the answers under way: the bytes that wait in memory for clients, how fast clients must read, how long an answer
// may take, and how many large ones a client gets at once.

import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { type GatewayError, gatewayError } from '../errors.ts'
import type { Emit } from '../events.ts'
import type { ClientOf } from './client.ts'
import { makeCounter } from './counter.ts'
import type { StreamResponse } from './stream-exchange.ts'

export type AnswerLimits = {
  /** Bytes that may wait for clients in all answers. */
  readonly bufferLimit: number
  /** Bytes per second that a client must read on average while bytes wait for it; 0 for any. */
  readonly leastRate: number
  /** Longest time from a request to the end of its answer, in milliseconds. */
  readonly answerTimeoutMs: number
  /** Large answers that one client may read at once. */
  readonly clientStreams: number
  /** Connections for reads, a part of which answers with all features may occupy. */
  readonly poolSize: number
}

/** A large answer, which is sent as it is read. */
export interface LargeAnswer {
  /** Sets how many of its bytes wait in memory. */
  hold(bytes: number): void
  /** True if it has taken so long that it has to end. */
  readonly isOver: boolean
  /** Breaks it off after a failure, in a way that no client can take for its end. */
  breakOff(error: Error): void
}

export interface Answers {
  /** Returns the error gateway-busy if so many bytes wait that no further answer may be read into memory. */
  refusal(): GatewayError | undefined
  /**
   * Counts bytes that an answer is about to need until it has been sent, or its client has left.
   * @throws GatewayError gateway-busy if they are too many, unless nothing else waits: no feature is too large for ever
   */
  reserve(reply: FastifyReply, bytes: number): void
  /**
   * Starts a large answer.
   * @param isWhole true for all features, which occupy a connection as long as their client reads them
   * @throws GatewayError gateway-busy if its client reads too many, or too many are whole
   */
  openLarge(request: FastifyRequest, reply: FastifyReply, isWhole: boolean): LargeAnswer
}

/** Answers below this size are not counted: the socket takes them at once. */
const SMALL_BYTES = 16 * 1024
/** Interval at which the answers under way are looked at. */
const CHECK_MS = 1_000
/** Time for which a client may be slower than the least rate: networks stall, and mobile ones change cells. */
export const GRACE_MS = 10_000

type Answer = {
  readonly request: FastifyRequest
  readonly response: ServerResponse
  readonly startedAt: number
  bytes: number
  /** When its client fell behind, and how many bytes the socket had taken by then; undefined while it keeps up. */
  behind: { readonly since: number; readonly taken: number } | undefined
}

/** How many bytes a client has taken, and how many wait for it. */
type Progress = { readonly taken: number; readonly waiting: number }
/** Members of a socket that its types do not declare: only the handle knows how much of a long write is still queued. */
type Handle = { readonly bytesWritten: number; readonly writeQueueSize: number }
/** Members of sockets with TLS: what encrypts, and the socket below it. */
type Internals = { readonly _handle?: Handle | null; readonly _parent?: Socket }

function progressOf(response: ServerResponse | StreamResponse): Progress | undefined {
  if ('progress' in response) return response.progress
  const handle = (response.socket as unknown as Internals | null)?._handle
  return handle
    ? { taken: handle.bytesWritten - handle.writeQueueSize, waiting: handle.writeQueueSize }
    : undefined
}

/**
 * Ends an answer in a way that no client can take for its end. Without chunks, as HTTP/1.0 has it, it ends with its
 * connection, which is reset then.
 */
function breakOff(response: ServerResponse | StreamResponse) {
  if ('progress' in response) {
    response.destroy()
    return
  }
  const { socket } = response
  const plain = (socket as unknown as Internals | null)?._parent ?? socket
  plain?.resetAndDestroy()
}

export function makeAnswers(
  app: FastifyInstance,
  {
    bufferLimit,
    leastRate,
    answerTimeoutMs,
    clientStreams,
    poolSize,
    clientOf,
    emit,
  }: AnswerLimits & { readonly clientOf: ClientOf; readonly emit: Emit },
): Answers {
  const answers = new Map<ServerResponse, Answer>()
  const largeOf = makeCounter()
  const wholeOf = makeCounter()
  // Streams have half of the connections, and half of those stay for pages.
  const mostWhole = Math.max(1, poolSize >> 2)
  const mostWholeOfOne = Math.max(1, mostWhole >> 1)
  let held = 0

  function follow(reply: FastifyReply): Answer {
    const response = reply.raw
    let answer = answers.get(response)
    if (answer) return answer
    answer = { request: reply.request, response, startedAt: performance.now(), bytes: 0, behind: undefined }
    answers.set(response, answer)
    const forget = () => {
      held -= answer.bytes
      answer.bytes = 0
      answers.delete(response)
    }
    // If its client has left already, `close` is not emitted again.
    if (response.destroyed) forget()
    else response.once('close', forget)
    return answer
  }

  function hold(answer: Answer, bytes: number) {
    if (!answers.has(answer.response)) return
    held += bytes - answer.bytes
    answer.bytes = bytes
  }

  function check() {
    const now = performance.now()
    for (const answer of answers.values()) {
      const reason = reasonToCut(answer, now)
      if (reason === undefined) continue
      const { id, method, url } = answer.request
      emit({ type: 'answer-cut', id, method, url, reason })
      answer.response.destroy()
    }
  }

  function reasonToCut(answer: Answer, now: number): 'too-slow' | 'too-long' | undefined {
    // A page that is sent as it is read ends by itself before.
    if (now - answer.startedAt > answerTimeoutMs + GRACE_MS) return 'too-long'
    const progress = progressOf(answer.response)
    if (!progress || progress.waiting === 0) {
      answer.behind = undefined
      return undefined
    }
    const { taken } = progress
    answer.behind ??= { since: now, taken }
    const { since, taken: before } = answer.behind
    const isTooSlow = now - since > GRACE_MS && ((taken - before) * 1_000) / (now - since) < leastRate
    return isTooSlow ? 'too-slow' : undefined
  }

  const timer = setInterval(check, CHECK_MS)
  timer.unref()
  app.addHook('onClose', async () => clearInterval(timer))

  app.addHook('onSend', (_request, reply, payload, done) => {
    if (typeof payload === 'string' || payload instanceof Buffer) {
      if (payload.length > SMALL_BYTES) hold(follow(reply), payload.length)
    } else if (payload != null) follow(reply)
    done()
  })

  const refusal = () => (held > bufferLimit ? full() : undefined)

  return {
    refusal,
    reserve(reply, bytes) {
      if (held > 0 && held + bytes > bufferLimit) throw full()
      hold(follow(reply), bytes)
    },
    openLarge(request, reply, isWhole) {
      const refused = refusal()
      if (refused) throw refused
      const client = clientOf(request)
      if (largeOf.of(client) >= clientStreams)
        throw gatewayError(
          'gateway-busy',
          `This client reads ${clientStreams} large answers at once already; read them first, or ask for smaller pages.`,
        )
      if (isWhole && (wholeOf.all() >= mostWhole || wholeOf.of(client) >= mostWholeOfOne))
        throw gatewayError(
          'gateway-busy',
          'As many answers with limit=none as can be are under way; try again when one has ended, or ask for pages.',
        )
      const answer = follow(reply)
      if (answers.has(reply.raw)) {
        const counted = [largeOf.add(client), ...(isWhole ? [wholeOf.add(client)] : [])]
        reply.raw.once('close', () => {
          for (const takeBack of counted) takeBack()
        })
      }
      return {
        hold: (bytes) => hold(answer, bytes),
        breakOff(error) {
          const { id, method, url } = request
          if (answers.has(reply.raw)) emit({ type: 'answer-cut', id, method, url, reason: 'failed', error })
          breakOff(reply.raw)
        },
        get isOver() {
          return performance.now() - answer.startedAt > answerTimeoutMs
        },
      }
    },
  }
}

const full = () =>
  gatewayError('gateway-busy', 'Too many answers wait for clients that read them slowly; try again.')
