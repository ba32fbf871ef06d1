// Owns how long an answer is waited for: until the client leaves, or the time is up that it, or we, have set.

import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { gatewayError } from '../errors.ts'

/** What a GET may say of it (RFC 7240); other preferences mean nothing here. */
export const preferHeader = Type.Object({
  prefer: Type.Optional(
    Type.String({
      description: '`wait=5`: an answer is of no use after five seconds.',
      example: 'wait=5',
    }),
  ),
})

/** Of a preference, in milliseconds; undefined where none is said that we understand. */
function readWait({ headers }: FastifyRequest): number | undefined {
  const [, seconds] = /(?:^|[,\s])wait=(\d{1,6})\s*(?:[,;]|$)/i.exec(String(headers.prefer ?? '')) ?? []
  return seconds === undefined ? undefined : Number(seconds) * 1_000
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
  if (wait !== undefined) reply.header('preference-applied', `wait=${wait / 1_000}`)
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
