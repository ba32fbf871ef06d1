// Owns how long an answer is waited for: until the client leaves, or the time is up that it, or we, have set.

import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { gatewayError } from '../errors.ts'
import { applyPreference, preferenceOf } from './prefer.ts'

/** What a read may prefer; what else it says means nothing here. */
export const preferHeader = {
  prefer: Type.Optional(
    Type.String({
      description:
        '`wait=5`: an answer is of no use after five seconds. `consistency=strong`: everything that was committed is seen, `monotonic`: as the tokens say, and the answer has one, `eventual`: whatever a secondary has; `max-staleness=5`: what was committed five seconds ago is seen.',
      example: 'wait=5',
    }),
  ),
}

/** In milliseconds; undefined where none is said that we understand. */
function readWait(request: FastifyRequest): number | undefined {
  const seconds = preferenceOf(request, 'wait')
  return seconds !== undefined && /^\d{1,6}$/.test(seconds) ? Number(seconds) * 1_000 : undefined
}

/**
 * Aborts, with the failure to answer with as its reason, when nobody waits any more.
 * @param longestMs what is waited without a word of the client; undefined for as long as it stays
 */
export function deadlineOf(
  request: FastifyRequest,
  reply: FastifyReply,
  longestMs: number | undefined,
): AbortSignal {
  const controller = new AbortController()
  const leave = () => {
    if (!reply.raw.writableFinished)
      controller.abort(gatewayError('request-abandoned', 'The client went away.'))
  }
  const wait = readWait(request)
  const withinMs = Math.min(...[wait, longestMs].filter((limit) => limit !== undefined))
  if (wait !== undefined) applyPreference(reply, `wait=${wait / 1_000}`)
  if (Number.isFinite(withinMs)) {
    const timer = setTimeout(() => {
      const detail = `There was no answer within ${withinMs / 1_000} s; ask for less, for example a smaller bbox or limit.`
      controller.abort(gatewayError('query-too-slow', detail))
    }, withinMs)
    controller.signal.addEventListener('abort', () => clearTimeout(timer))
    reply.raw.once('close', () => clearTimeout(timer))
  }
  // It may have left before we got here, and would not be heard leaving again.
  if (reply.raw.destroyed || reply.raw.socket?.destroyed) leave()
  else reply.raw.once('close', leave)
  return controller.signal
}

/** For what others wait for too: it is not broken off at the deadline, only waited for no longer. */
export function before<T>(deadline: AbortSignal, answer: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const end = () => reject(deadline.reason)
    if (deadline.aborted) end()
    deadline.addEventListener('abort', end)
    answer.then(resolve, reject).finally(() => deadline.removeEventListener('abort', end))
  })
}
