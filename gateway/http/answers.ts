// Owns the answers under way: the bytes that wait in memory for clients, how fast clients must read, how long an answer
// may take, and how many large ones a client gets at once.

import type { ServerResponse } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { type GatewayError, gatewayError } from '../errors.ts'
import type { Emit } from '../events.ts'
import type { ClientOf } from './client.ts'

export type AnswerLimits = {
  /** Bytes that may wait for clients in all answers. */
  readonly bufferLimit: number
  /** Bytes per second that a client must read on average while bytes wait for it; 0 for any. */
  readonly leastRate: number
  /** Longest time from a request to the end of its answer, in milliseconds. */
  readonly answerTimeoutMs: number
  /** Large answers that one client may read at once. */
  readonly clientStreams: number
}

/** A large answer, which is sent as it is read. */
export interface LargeAnswer {
  /** Sets how many of its bytes wait in memory. */
  hold(bytes: number): void
  /** True if it has taken so long that it has to end. */
  readonly isOver: boolean
}

export interface Answers {
  /** Returns the error gateway-busy if so many bytes wait that no further answer may be read into memory. */
  refusal(): GatewayError | undefined
  /**
   * Counts bytes that an answer is about to need until it has been sent, or its client has left.
   * @throws GatewayError gateway-busy if they are too many, unless nothing else waits: no feature is too large for ever
   */
  reserve(reply: FastifyReply, bytes: number): void
  /** Starts a large answer. @throws GatewayError gateway-busy if its client reads too many */
  openLarge(request: FastifyRequest, reply: FastifyReply): LargeAnswer
}

/** Answers below this size are not counted: the socket takes them at once. */
const SMALL_BYTES = 16 * 1024
/** Interval at which the answers under way are looked at. */
const CHECK_MS = 1_000
/** Time for which a client may be slower than the least rate: networks stall, and mobile ones change cells. */
const GRACE_MS = 10_000

type Answer = {
  readonly request: FastifyRequest
  readonly response: ServerResponse
  readonly startedAt: number
  bytes: number
  /** When its client fell behind, and how many bytes the socket had taken by then; undefined while it keeps up. */
  behind: { readonly since: number; readonly taken: number } | undefined
}

/** Members of a socket that its types do not declare: only the handle knows how much of a long write is still queued. */
type Handle = { readonly bytesWritten: number; readonly writeQueueSize: number }
const handleOf = ({ socket }: ServerResponse) =>
  (socket as unknown as { readonly _handle?: Handle | null } | null)?._handle ?? undefined

export function makeAnswers(
  app: FastifyInstance,
  {
    bufferLimit,
    leastRate,
    answerTimeoutMs,
    clientStreams,
    clientOf,
    emit,
  }: AnswerLimits & { readonly clientOf: ClientOf; readonly emit: Emit },
): Answers {
  const answers = new Map<ServerResponse, Answer>()
  const largeOf = new Map<string, number>()
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
    const handle = handleOf(answer.response)
    if (!handle || handle.writeQueueSize === 0) {
      answer.behind = undefined
      return undefined
    }
    const taken = handle.bytesWritten - handle.writeQueueSize
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
    openLarge(request, reply) {
      const refused = refusal()
      if (refused) throw refused
      const client = clientOf(request)
      const count = largeOf.get(client) ?? 0
      if (count >= clientStreams)
        throw gatewayError(
          'gateway-busy',
          `This client reads ${count} large answers at once already; read them first, or ask for smaller pages.`,
        )
      const answer = follow(reply)
      if (answers.has(reply.raw)) {
        largeOf.set(client, count + 1)
        reply.raw.once('close', () => {
          const left = largeOf.get(client)! - 1
          if (left > 0) largeOf.set(client, left)
          else largeOf.delete(client)
        })
      }
      return {
        hold: (bytes) => hold(answer, bytes),
        get isOver() {
          return performance.now() - answer.startedAt > answerTimeoutMs
        },
      }
    },
  }
}

const full = () =>
  gatewayError('gateway-busy', 'Too many answers wait for clients that read them slowly; try again.')
