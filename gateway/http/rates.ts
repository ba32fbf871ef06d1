// Owns the rates of clients: how many requests each may send in a time, and how many bytes it gets, as the header fields
// RateLimit-Policy and RateLimit report (draft-ietf-httpapi-ratelimit-headers-11).

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { gatewayError } from '../errors.ts'
import type { Emit } from '../events.ts'
import { bearerIn } from '../features/access/api-key.ts'
import { isToken } from './auth/tokens.ts'
import { type ClientOf, networkOf } from './client.ts'
import type { StreamResponse } from './stream-exchange.ts'

export type RateLimits = {
  /** Requests of one client in a window, and bytes of its answers; 0 for any number. */
  readonly rateRequests: number
  readonly rateBytes: number
  readonly rateWindow: number
}

/** What a client has spent: its name, requests and bytes. */
export type Spending = readonly [client: string, requests: number, bytes: number]

/** The other processes of this gateway, whose clients may be the same. */
export type OtherProcesses = {
  /** Tells them what clients have spent here. */
  tell(spendings: readonly Spending[]): void
  /** Calls `listener` with what clients have spent there. */
  listen(listener: (spendings: readonly Spending[]) => void): void
}

type Policy = { readonly name: 'requests' | 'bytes'; readonly quota: number; readonly text: string }
/** What a client has spent in its window, by policy, and when the window ends. */
type Account = { readonly endsMs: number; requests: number; bytes: number }

/** Most clients that are remembered. One that is forgotten begins anew: with fewer, many could make each other forgotten. */
const MOST_CLIENTS = 20_000
/** Interval at which processes tell each other what clients have spent. */
const TELL_MS = 200
/** Routes by which operators look at the gateway, and of what the pages consist. */
const FREE = /^\/(health\/|metrics$|cluster$|assets\/)/

function policiesOf({ rateRequests, rateBytes, rateWindow }: RateLimits): readonly Policy[] {
  const all: Policy[] = [
    { name: 'requests', quota: rateRequests, text: `"requests";q=${rateRequests};w=${rateWindow}` },
    { name: 'bytes', quota: rateBytes, text: `"bytes";q=${rateBytes};qu="content-bytes";w=${rateWindow}` },
  ]
  return all.filter(({ quota }) => quota > 0)
}

/** Keeps what each client has spent. */
export function makeAccounts(limits: RateLimits, now: () => number, mostClients = MOST_CLIENTS) {
  const policies = policiesOf(limits)
  const windowMs = limits.rateWindow * 1_000
  const accounts = new Map<string, Account>()

  function forgetOne(nowMs: number) {
    for (const [client, { endsMs }] of accounts) if (endsMs <= nowMs) accounts.delete(client)
    const [oldest] = accounts.keys()
    if (accounts.size >= mostClients) accounts.delete(oldest!)
  }

  function accountOf(client: string): Account {
    const nowMs = now()
    const known = accounts.get(client)
    if (known && nowMs < known.endsMs) return known
    if (!known && accounts.size >= mostClients) forgetOne(nowMs)
    // The bytes of an answer count when it has been sent: what was too much counts in the next window, once.
    const isNext = known !== undefined && nowMs < known.endsMs + windowMs
    const left = isNext ? known.bytes - limits.rateBytes : 0
    const account = {
      endsMs: nowMs + windowMs,
      requests: 0,
      bytes: Math.max(0, Math.min(left, limits.rateBytes)),
    }
    // At the end of the map, so that the oldest is the first one.
    accounts.delete(client)
    accounts.set(client, account)
    return account
  }

  return {
    policies,
    spend([client, requests, bytes]: Spending) {
      const account = accountOf(client)
      account.requests += requests
      account.bytes += bytes
    },
    /** Returns what is left of each policy, the policies that are spent, and the seconds until the window ends. */
    look(client: string) {
      const account = accountOf(client)
      const seconds = Math.max(1, Math.ceil((account.endsMs - now()) / 1_000))
      const left = policies.map(({ name, quota }) => Math.max(0, quota - account[name]))
      return { left, spent: policies.filter((_, index) => left[index] === 0), seconds }
    },
    get size() {
      return accounts.size
    },
  }
}

/** Limits the rates of clients, if there are limits. */
export function limitRates(
  app: FastifyInstance,
  {
    limits,
    clientOf,
    hasTokens,
    others,
    emit,
  }: {
    readonly limits: RateLimits
    readonly clientOf: ClientOf
    readonly hasTokens: boolean
    readonly others: OtherProcesses | undefined
    readonly emit: Emit
  },
) {
  const accounts = makeAccounts(limits, () => performance.now())
  const { policies } = accounts
  if (policies.length === 0) return
  const policyText = policies.map(({ text }) => text).join(', ')
  const spend = makeSpending(accounts.spend, others, app)
  /** Clients to which requests count whose answers are under way. */
  const charged = new WeakMap<FastifyRequest, string>()

  function refuse(request: FastifyRequest, reply: FastifyReply, client: string) {
    const { left, spent, seconds } = accounts.look(client)
    report(reply, left, seconds)
    if (spent.length === 0) return undefined
    const names = spent.map(({ name }) => name)
    emit({ type: 'rate-exceeded', method: request.method, url: request.url, policy: names[0]! })
    reply.header('retry-after', seconds)
    const quotas = spent.map(({ name, quota }) => `${quota} ${name}`).join(' and ')
    return gatewayError(
      'rate-exceeded',
      `This client has had its ${quotas} of ${limits.rateWindow} s; try again in ${seconds} s.`,
      { 'violated-policies': names },
    )
  }

  const report = (reply: FastifyReply, left: readonly number[], seconds: number) =>
    reply
      .header('ratelimit-policy', policyText)
      .header(
        'ratelimit',
        policies.map(({ name }, index) => `"${name}";r=${left[index]};t=${seconds}`).join(', '),
      )

  function charge(request: FastifyRequest, reply: FastifyReply, client: string) {
    const refusal = refuse(request, reply, client)
    if (refusal) return refusal
    charged.set(request, client)
    spend([client, 1, 0])
    const { left, seconds } = accounts.look(client)
    report(reply, left, seconds)
    countBytes(reply, (bytes) => spend([client, 0, bytes]))
    return undefined
  }

  /** A token names its subject only when it has been checked; until then only its address is known. */
  const isUnchecked = ({ headers, caller }: FastifyRequest) =>
    hasTokens &&
    caller === undefined &&
    headers.authorization !== undefined &&
    isToken(bearerIn(headers.authorization) ?? '')

  app.addHook('onRequest', (request, reply, done) => {
    // Browsers send a preflight whether its page wants it or not.
    if (request.method === 'OPTIONS' || FREE.test(request.routeOptions.url ?? '')) return done()
    if (isUnchecked(request)) return done(refuse(request, reply, networkOf(request.ip)))
    return done(charge(request, reply, clientOf(request)))
  })
  app.addHook('preParsing', (request, reply, _payload, done) => {
    const isDue = !charged.has(request) && reply.hasHeader('ratelimit')
    done(isDue ? charge(request, reply, clientOf(request)) : null)
  })
  app.addHook('onResponse', (request, reply, done) => {
    // A token that was not accepted counts for its address.
    if (!charged.has(request) && reply.statusCode === 401) spend([networkOf(request.ip), 1, 0])
    done()
  })
}

/** Calls `count` with the bytes of an answer, when it has been sent or its client has left. */
function countBytes({ raw }: FastifyReply, count: (bytes: number) => void) {
  const { socket } = raw
  const before = socket?.bytesWritten ?? 0
  raw.once('close', () => {
    const bytes =
      'progress' in raw
        ? (raw as unknown as StreamResponse).progress.taken
        : (socket?.bytesWritten ?? 0) - before
    if (bytes > 0) count(bytes)
  })
}

/** Returns a function that counts what clients spend here, and tells the other processes of it. */
function makeSpending(
  spend: (spending: Spending) => void,
  others: OtherProcesses | undefined,
  app: FastifyInstance,
) {
  if (!others) return spend
  const untold = new Map<string, [requests: number, bytes: number]>()
  others.listen((spendings) => spendings.forEach(spend))
  const timer = setInterval(() => {
    if (untold.size === 0) return
    others.tell([...untold].map(([client, [requests, bytes]]) => [client, requests, bytes]))
    untold.clear()
  }, TELL_MS)
  timer.unref()
  app.addHook('onClose', async () => clearInterval(timer))
  return (spending: Spending) => {
    spend(spending)
    const [client, requests, bytes] = spending
    const sum = untold.get(client) ?? [0, 0]
    untold.set(client, [sum[0] + requests, sum[1] + bytes])
  }
}
