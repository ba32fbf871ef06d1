// Owns the view that one request has of the database: how recent it is, for how long and for whom it is open; and the
// headers that report the answer's origin.

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Consistency, Origin } from '../database/consistency.ts'
import type { Database } from '../database/contract.ts'
import { ANYONE, type Principal } from '../features/access/principal.ts'
import type { Author } from '../features/changes/audit.ts'
import type { ClientOf } from './client.ts'
import { consistencyOf, consistencyOfChange, sendToken, tellOrigin } from './consistency-headers.ts'
import type { ConsistencyTokens } from './consistency-token.ts'
import { deadlineOf } from './deadline.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Caller of the request, if authenticate found one; `principalOf` has an answer for every request. */
    caller: Principal | null
    /** Source of the headers that report the answer's origin; null if the database was not used. */
    answered: Answered | null
  }
}
type Answered =
  | { readonly kind: 'read' | 'change'; readonly consistency: Consistency }
  | { readonly kind: 'joined'; readonly origin: Origin }

export const principalOf = ({ caller }: FastifyRequest): Principal => caller ?? ANYONE

/** Returns who makes the change of a request, for the audit. */
export const authorOf = (request: FastifyRequest): Author => ({
  caller: principalOf(request).id,
  address: request.ip,
  request: request.id,
})

export type View = {
  /** The database as this request must see it. */
  readonly database: Database
  /** What this request must see, and has seen. */
  readonly consistency: Consistency
  /** Aborts when nobody waits for the answer any more. */
  readonly deadline: AbortSignal
  /** Lifts the gateway's own time limit, because an answer begins that takes as long as its client. */
  readonly lift: () => void
}

export interface Views {
  /**
   * Opens the view of a read.
   * @param longestMs time limit for the answer if the client sends none; undefined for as long as the client stays
   * @throws GatewayError header-invalid
   */
  open(request: FastifyRequest, reply: FastifyReply, longestMs: number | undefined): Promise<View>
  /** Opens the view of a change, which is not cancelled if its client leaves. @throws GatewayError header-invalid */
  openForChange(request: FastifyRequest): Promise<Database>
}

/** Decorates requests, and writes the headers of answers. */
export function makeViews(
  app: FastifyInstance,
  database: Database,
  tokens: ConsistencyTokens,
  clientOf: ClientOf,
): Views {
  app.decorateRequest('caller', null)
  app.decorateRequest('answered', null)
  app.addHook('onSend', ({ answered }, reply, payload, done) => {
    if (answered === null) return done()
    if (answered.kind === 'joined') {
      tellOrigin(reply, answered.origin)
      return done()
    }
    const { kind, consistency } = answered
    if (kind === 'read') {
      tellOrigin(reply, consistency)
      reply.header('server-timing', `database;dur=${consistency.readMs.toFixed(1)}`)
    }
    // A change that failed has no LSN.
    const hasToken = kind === 'read' ? consistency.isTracked : reply.statusCode < 400
    if (!hasToken) return done()
    sendToken(reply, consistency, tokens).then(() => done(null, payload), done)
  })
  const openFor = (request: FastifyRequest, consistency: Consistency) =>
    database.within({ consistency, client: clientOf(request), claims: principalOf(request).viewers.claims })
  return {
    async open(request, reply, longestMs) {
      const { signal: deadline, lift } = deadlineOf(request, reply, longestMs)
      const consistency = await consistencyOf(request, reply, tokens)
      request.answered = { kind: 'read', consistency }
      return { database: openFor(request, consistency), consistency, deadline, lift }
    },
    async openForChange(request) {
      const consistency = await consistencyOfChange(request, tokens)
      request.answered = { kind: 'change', consistency }
      return openFor(request, consistency)
    },
  }
}
