// Owns cookies: how a request's are read, and how they are set so that only this host gets them, over https or on this machine.

import { hash } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'

/**
 * Browsers take the prefix only from this host, for all of its paths, and over https; from this machine they take it over
 * http as well. SameSite: other sites lead people here, and send no requests in their name.
 */
const PREFIX = '__Host-tessera'
const ATTRIBUTES = 'Path=/; Secure; HttpOnly; SameSite=Lax'
/** Most characters of a cookie; browsers keep 4,096 with its name and attributes. */
const PART = 3_500
/** Most cookies of a value. With these two, a request stays well below the 16 kB that Node and proxies read of its header. */
export const MAX_PARTS = 2
export const MAX_COOKIES = PART * MAX_PARTS

/** Returns the name of a cookie. Services of one host with other paths have others. */
function nameOf(purpose: string, publicUrl: string, part: number): string {
  const { pathname } = new URL(publicUrl)
  const service = pathname === '/' ? '' : `-${hash('sha256', pathname, 'hex').slice(0, 8)}`
  return `${PREFIX}-${purpose}${service}${part === 0 ? '' : `-${part}`}`
}

/** Returns true if a request may have a cookie of ours: a quick look. */
export const mayHaveCookies = ({ headers }: FastifyRequest) => headers.cookie?.includes(PREFIX) === true

/** Returns the value of a cookie, put together from its parts; undefined if there is none. */
export function readCookie({ headers, publicUrl }: FastifyRequest, purpose: string): string | undefined {
  const given = new Map(
    (headers.cookie ?? '').split(';').map((pair) => {
      const [name, ...value] = pair.trim().split('=')
      return [name!, value.join('=')]
    }),
  )
  const parts = Array.from({ length: MAX_PARTS }, (_, part) => given.get(nameOf(purpose, publicUrl, part)))
  return parts[0] === undefined ? undefined : parts.join('')
}

/**
 * Sets a cookie, or removes it without a value.
 * @param maxAgeS undefined for as long as the browser is open
 */
export function setCookie(
  request: FastifyRequest,
  reply: FastifyReply,
  purpose: string,
  value: string | undefined,
  maxAgeS?: number,
) {
  for (let part = 0; part < MAX_PARTS; part += 1) {
    const name = nameOf(purpose, request.publicUrl, part)
    const text = value?.slice(part * PART, (part + 1) * PART)
    // A part of a longer value before must not stay.
    if (text)
      reply.header(
        'set-cookie',
        `${name}=${text}; ${ATTRIBUTES}${maxAgeS === undefined ? '' : `; Max-Age=${maxAgeS}`}`,
      )
    else if (part === 0 || value !== undefined || request.headers.cookie?.includes(name))
      reply.header('set-cookie', `${name}=; ${ATTRIBUTES}; Max-Age=0`)
  }
}
