// Owns the deadline of a request: the client leaves, or the time limit of the client or of the gateway is reached.

import type { FastifyReply, FastifyRequest } from 'fastify'
import { gatewayError } from '../errors.ts'
import { applyPreference, preferenceOf } from './prefer.ts'
import { Type } from './type.ts'

/** Header with the preferences of a read; unknown preferences are ignored. */
export const preferHeader = {
  prefer: Type.Optional(
    Type.String({
      description:
        '`wait=5`: the client does not wait longer than five seconds. `consistency=strong`: the read sees everything that was committed; `monotonic`: it sees what the tokens require, and the response has a new token; `eventual`: it sees whatever a secondary has. `max-staleness=5`: it sees everything that was committed five seconds ago.',
      example: 'wait=5',
    }),
  ),
}

/** Returns the preferred wait in milliseconds; undefined without a valid one. */
function readWait(request: FastifyRequest): number | undefined {
  const seconds = preferenceOf(request, 'wait')
  return seconds !== undefined && /^\d{1,6}$/.test(seconds) ? Number(seconds) * 1_000 : undefined
}

/** A signal that aborts when nobody waits any more. @param lift lifts the gateway's time limit, not the client's */
export type Deadline = { readonly signal: AbortSignal; readonly lift: () => void }

/**
 * Returns a signal that aborts when the client leaves or the time is up; its reason is the error to answer with.
 * @param longestMs the gateway's time limit, which the client can only shorten; undefined for none
 */
export function deadlineOf(
  request: FastifyRequest,
  reply: FastifyReply,
  longestMs: number | undefined,
): Deadline {
  const controller = new AbortController()
  const leave = () => {
    if (!reply.raw.writableFinished)
      controller.abort(gatewayError('request-abandoned', 'The client went away.'))
  }
  const wait = readWait(request)
  if (wait !== undefined) applyPreference(reply, `wait=${wait / 1_000}`)
  const startedAt = performance.now()
  let timer: NodeJS.Timeout | undefined
  const limit = (withinMs: number) => {
    clearTimeout(timer)
    timer = undefined
    if (!Number.isFinite(withinMs)) return
    timer = setTimeout(
      () => {
        const detail = `There was no answer within ${withinMs / 1_000} s; ask for less, for example a smaller bbox or limit.`
        controller.abort(gatewayError('query-too-slow', detail))
      },
      startedAt + withinMs - performance.now(),
    )
  }
  limit(Math.min(wait ?? Infinity, longestMs ?? Infinity))
  if (timer) {
    controller.signal.addEventListener('abort', () => clearTimeout(timer))
    reply.raw.once('close', () => clearTimeout(timer))
  }
  // The client may have left already, and then `close` is not emitted again.
  if (reply.raw.destroyed || reply.raw.socket?.destroyed) leave()
  else reply.raw.once('close', leave)
  return { signal: controller.signal, lift: () => limit(wait ?? Infinity) }
}
