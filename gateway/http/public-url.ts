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

/** How many addresses' answers are remembered: a proxy has few, and reading an address costs microseconds. */
const MAX_REMEMBERED = 1_000

/** Whose X-Forwarded-* headers count: for Fastify's own use, and for the prefix that it does not know. */
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
/** A longer one is none, but work for every pattern. */
const MAX_PREFIX_LENGTH = 200
const PREFIX = /^(\/[\w.~-]+)+$/

/** @param fixed TESSERA_PUBLIC_URL, where the operator knows better than any header */
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
  // A name that is none could break out of a link's place in a page or a cache's key.
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
