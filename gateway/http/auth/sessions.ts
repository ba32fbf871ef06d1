// Owns sessions: a person who has logged in is the caller of what their browser sends. A session is a token in a sealed cookie,
// so that any gateway of the database knows it, and none stores it.

import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { gatewayError, quoted } from '../../errors.ts'
import { wantsHtml } from '../negotiate.ts'
import { isOwnOrigin } from './authenticate.ts'
import { MAX_COOKIES, mayHaveCookies, readCookie, setCookie } from './cookies.ts'
import type { LoggedIn } from './login.ts'
import type { Sealer } from './sealed.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** The person at the browser, for its pages: a name, or nobody who has logged in; null if nobody can. */
    visitor: Visitor | null
  }
}
export type Visitor = { readonly name: string | undefined }

const PURPOSE = 'session'
const NOBODY: Visitor = { name: undefined }
const SAFE = /^(GET|HEAD|OPTIONS)$/
/** A token that expires in the next moments is renewed before a page is shown with it. */
const REST_S = 10

/** Begins a session, and tells the browser to keep it. @throws GatewayError login-failed if the token is too long */
export async function beginSession(
  request: FastifyRequest,
  reply: FastifyReply,
  sealer: Sealer,
  person: LoggedIn,
) {
  const text = await sealer.seal(PURPOSE, person)
  if (text.length > MAX_COOKIES)
    throw gatewayError(
      'login-failed',
      `The token of the issuer is too long for cookies: it takes ${text.length} characters of ${MAX_COOKIES}. Let the issuer put fewer claims into it.`,
    )
  setCookie(request, reply, PURPOSE, text)
}

export const endSession = (request: FastifyRequest, reply: FastifyReply) =>
  setCookie(request, reply, PURPOSE, undefined)

/**
 * Takes the token of a session for the credentials of a request that has no others. A browser sends cookies by itself, also if
 * a page of another site is behind the request: a change needs the proof that it is one of our own pages.
 */
export function readSessions(app: FastifyInstance, sealer: Sealer | undefined) {
  app.decorateRequest('visitor', null)
  if (!sealer) return
  app.addHook('onRequest', (request, reply, done) => {
    request.visitor = NOBODY
    if (request.headers.authorization !== undefined || !mayHaveCookies(request)) return done()
    enter(request, reply, sealer).then(
      (address) => (address === undefined ? done() : void reply.redirect(address, 303)),
      done,
    )
  })
}

/** @returns where the browser has to go first, if the session has ended */
async function enter(
  request: FastifyRequest,
  reply: FastifyReply,
  sealer: Sealer,
): Promise<string | undefined> {
  const text = readCookie(request, PURPOSE)
  if (text === undefined || !countsFor(request)) return undefined
  const session = (await sealer.open(PURPOSE, text)) as LoggedIn | undefined
  if (!session) {
    endSession(request, reply)
    return undefined
  }
  if (!SAFE.test(request.method) && !isFromOwnPage(request))
    throw gatewayError(
      'origin-forbidden',
      `Pages of ${request.headers.origin === undefined ? 'other sites' : quoted(request.headers.origin)} may not do this in the name of somebody who has logged in here.`,
    )
  request.visitor = { name: session.name }
  // The ways to log in and out do not need a session that holds.
  if (/^\/log(in|out)/.test(request.routeOptions.url ?? '')) return undefined
  const hasEnded = session.expiresAt - REST_S < Date.now() / 1_000
  if (hasEnded && isNavigation(request) && request.method === 'GET') return loginAddress(request)
  request.headers.authorization = `Bearer ${session.token}`
  return undefined
}

/** Returns true if a browser says that one of our own pages is behind a request. */
const isFromOwnPage = (request: FastifyRequest) =>
  request.headers.origin === undefined
    ? request.headers['sec-fetch-site'] === 'same-origin'
    : isOwnOrigin(request)

const isNavigation = (request: FastifyRequest) => {
  const mode = request.headers['sec-fetch-mode']
  return mode === undefined ? wantsHtml(request) : mode === 'navigate'
}

/** Returns false for what a page of another site loads, such as a script or an image: it learns nothing of the person. */
const countsFor = (request: FastifyRequest) =>
  !/^(cross|same)-site$/.test(String(request.headers['sec-fetch-site'])) ||
  isNavigation(request) ||
  !SAFE.test(request.method)

/** Returns the address of the login that comes back to a page. */
export function loginAddress({ method, originalUrl, publicUrl }: FastifyRequest): string {
  const back = method === 'GET' && !/^\/log(in|out)\b/.test(originalUrl) ? originalUrl : '/'
  return `${publicUrl}/login?back=${encodeURIComponent(back)}`
}
