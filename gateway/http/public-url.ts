// Owns the URL under which clients reach this gateway, with which every link begins.

import proxyAddr from '@fastify/proxy-addr'
import type { FastifyInstance, FastifyRequest } from 'fastify'

declare module 'fastify' {
  interface FastifyRequest {
    /** URL under which the client reaches this gateway, without a slash at its end. */
    readonly publicUrl: string
  }
}

export type Trust = (address: string, hop: number) => boolean

/** Most addresses whose trust is cached: a proxy has few addresses, and checking one takes microseconds. */
const MAX_REMEMBERED = 1_000

/** Returns a check for trusted proxies' X-Forwarded-* headers, used by Fastify and for those it does not support. */
export function compileTrust(names: readonly string[]): Trust {
  const trust = proxyAddr.compile([...names])
  const known = new Map<string, boolean>()
  return (address, hop) => {
    let isTrusted = known.get(address)
    if (isTrusted === undefined) {
      isTrusted = trust(address, hop)
      if (known.size >= MAX_REMEMBERED) known.clear()
      known.set(address, isTrusted)
    }
    return isTrusted
  }
}

const HOST = /^[\w.-]+(:\d{1,5})?$|^\[[\da-fA-F:.]+\](:\d{1,5})?$/
/** Longest prefix: a longer one is not genuine, and only costs time in every pattern. */
const MAX_PREFIX_LENGTH = 200
const PREFIX = /^(\/[\w.~-]+)+$/

/** Adds `publicUrl` to requests. @param fixed TESSERA_PUBLIC_URL, which overrides all headers */
export function publicUrl(
  app: FastifyInstance,
  { fixed, trust }: { fixed: string | undefined; trust: Trust },
) {
  app.decorateRequest('publicUrl', {
    getter(this: FastifyRequest) {
      return fixed ?? urlOf(this, trust)
    },
  })
}

function urlOf(request: FastifyRequest, trust: Trust): string {
  // An invalid host name could break out of a link in a page, or out of the key of a cache.
  const host = HOST.test(request.host) ? request.host : `localhost:${request.socket.localPort}`
  const scheme = request.protocol === 'https' ? 'https' : 'http'
  if (!trust(request.socket.remoteAddress ?? '', 0)) return `${scheme}://${host}`
  const [port, prefix] = ['x-forwarded-port', 'x-forwarded-prefix'].map((name) =>
    firstOf(request.headers[name]),
  )
  const isPortMissing = port !== undefined && /^\d{1,5}$/.test(port) && !/:\d+$/.test(host)
  const isUsual = port === (scheme === 'https' ? '443' : '80')
  const path = prefix !== undefined && prefix.length <= MAX_PREFIX_LENGTH ? prefix.replace(/\/+$/, '') : ''
  return `${scheme}://${host}${isPortMissing && !isUsual ? `:${port}` : ''}${PREFIX.test(path) ? path : ''}`
}

const firstOf = (header: string | string[] | undefined) =>
  String(header ?? '')
    .split(',')[0]
    ?.trim() || undefined
