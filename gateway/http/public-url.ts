// Owns the address under which clients see this gateway, which every link begins with.

import proxyAddr from '@fastify/proxy-addr'
import type { FastifyInstance, FastifyRequest } from 'fastify'

declare module 'fastify' {
  interface FastifyRequest {
    /** Without a slash at its end. */
    readonly publicUrl: string
  }
}

export type Trust = (address: string, hop: number) => boolean

/** Whose X-Forwarded-* headers count: Fastify's own, and the prefix that it does not know. */
export const compileTrust = (names: readonly string[]): Trust => proxyAddr.compile([...names])

const HOST = /^[\w.-]+(:\d{1,5})?$|^\[[\da-fA-F:.]+\](:\d{1,5})?$/
const PREFIX = /^(\/[\w.~-]+)+$/

/** @param fixed TESSERA_PUBLIC_URL, where the operator knows better than any header */
export function publicUrl(app: FastifyInstance, { fixed, trust }: { fixed: string | undefined; trust: Trust }) {
  app.decorateRequest('publicUrl', {
    getter(this: FastifyRequest) {
      return fixed ?? urlOf(this, trust)
    },
  })
}

function urlOf(request: FastifyRequest, trust: Trust): string {
  // A name that is none could break out of a link's place in a page or a cache's key.
  const host = HOST.test(request.host) ? request.host : `localhost:${request.socket.localPort}`
  if (!trust(request.socket.remoteAddress ?? '', 0)) return `${request.protocol}://${host}`
  const [port, prefix] = ['x-forwarded-port', 'x-forwarded-prefix'].map((name) => firstOf(request.headers[name]))
  const isPortMissing = port !== undefined && /^\d{1,5}$/.test(port) && !/:\d+$/.test(host)
  const isUsual = port === (request.protocol === 'https' ? '443' : '80')
  const path = prefix?.replace(/\/+$/, '') ?? ''
  return `${request.protocol}://${host}${isPortMissing && !isUsual ? `:${port}` : ''}${PREFIX.test(path) ? path : ''}`
}

const firstOf = (header: string | string[] | undefined) => String(header ?? '').split(',')[0]?.trim() || undefined
