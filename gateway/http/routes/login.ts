// Owns the ways of people to log in and out: to the issuer, back from it, and out again.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { gatewayError, invalidParameter } from '../../errors.ts'
import { readCookie, setCookie } from '../auth/cookies.ts'
import { isLoopback } from '../auth/locality.ts'
import { ATTEMPT_S, type Attempt, CALLBACK, type Login } from '../auth/login.ts'
import type { Sealer } from '../auth/sealed.ts'
import { beginSession, endSession } from '../auth/sessions.ts'
import { Type } from '../type.ts'

type Services = { readonly login: Login; readonly sealer: Sealer }

const PURPOSE = 'login'
/** Longest path to come back to: it is kept in a cookie while the person is at the issuer. */
const MAX_BACK = 1_500

export const loginRoutes: FastifyPluginAsyncTypebox<Services> = async (app, { login, sealer }) => {
  app.addHook('onRequest', async (request, reply) => {
    reply.header('cache-control', 'no-store').header('referrer-policy', 'no-referrer')
    checkSafe(request)
  })

  app.get(
    '/login',
    {
      schema: {
        hide: true,
        querystring: Type.Object(
          {
            back: Type.Optional(
              Type.String({
                maxLength: MAX_BACK,
                example: '/collections',
                'x-expected': 'the path of a page of this service',
              }),
            ),
          },
          { additionalProperties: false },
        ),
      },
    },
    async (request, reply) => {
      const { back = '/' } = request.query
      const { address, attempt } = await login.begin(request.publicUrl, ownPath(request, back))
      setCookie(request, reply, PURPOSE, await sealer.seal(PURPOSE, attempt), ATTEMPT_S)
      return reply.redirect(address, 303)
    },
  )

  app.get(CALLBACK, { schema: { hide: true } }, async (request, reply) => {
    const text = readCookie(request, PURPOSE)
    const attempt = (text === undefined ? undefined : await sealer.open(PURPOSE, text)) as Attempt | undefined
    // Whatever comes of it, the attempt is over.
    setCookie(request, reply, PURPOSE, undefined)
    if (!attempt || Date.now() - attempt.begunAt > ATTEMPT_S * 1_000)
      throw gatewayError(
        'login-failed',
        'This browser has not begun this login, or more than ten minutes ago; log in again.',
      )
    const { search } = new URL(request.originalUrl, request.publicUrl)
    const person = await login.finish(request.publicUrl, new URLSearchParams(search), attempt)
    await beginSession(request, reply, sealer, person)
    return reply.redirect(`${request.publicUrl}${attempt.back}`, 303)
  })

  app.get('/logout', { schema: { hide: true } }, async (request, reply) => {
    if (/^(cross|same)-site$/.test(String(request.headers['sec-fetch-site'])))
      throw gatewayError('origin-forbidden', 'Pages of other sites may not log anybody out.')
    const address =
      request.visitor?.name === undefined ? undefined : await login.logoutAddress(request.publicUrl)
    endSession(request, reply)
    return reply.redirect(address ?? `${request.publicUrl}/`, 303)
  })
}

/** Browsers keep the cookies of a login from https, and from this machine. @throws GatewayError login-failed */
function checkSafe({ publicUrl }: FastifyRequest) {
  const { protocol, hostname } = new URL(publicUrl)
  if (protocol === 'https:' || isLoopback(hostname)) return
  throw gatewayError(
    'login-failed',
    `Nobody logs in at ${publicUrl}, because anybody on the way could: use https, and set TESSERA_PUBLIC_URL if a proxy has the certificate.`,
  )
}

/** Returns a path below the address of this gateway. @throws GatewayError parameter-invalid for any other */
function ownPath({ publicUrl }: FastifyRequest, back: string): string {
  const own = new URL(`${publicUrl}/`).href
  const address = `${publicUrl}${back}`
  const isPath = back.startsWith('/') && !/[\\\s\p{C}]/u.test(back) && URL.canParse(address)
  const url = isPath ? new URL(address) : undefined
  if (!url?.href.startsWith(own))
    throw invalidParameter('back', 'the path of a page of this service', '/collections')
  url.hash = ''
  return `/${url.href.slice(own.length)}`
}
