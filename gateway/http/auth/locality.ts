// Owns the question whether a request comes from this machine, by every header in which proxies name their clients.

import { isIP } from 'node:net'
import type { FastifyRequest } from 'fastify'

export type LocalityOptions = {
  /** Host on which the gateway listens. */
  readonly host: string
  /** TESSERA_PUBLIC_URL: unless it names this machine, other machines are expected to call. */
  readonly publicUrl: string | undefined
}

/** Returns true if only this machine is meant to reach the gateway. */
export const isForThisMachine = ({ host, publicUrl }: LocalityOptions) =>
  isLoopback(host) && (publicUrl === undefined || isLoopback(new URL(publicUrl).hostname))

/** @returns a check that a request comes from this machine, and that the gateway is meant for this machine only */
export function makeLocality(options: LocalityOptions): (request: FastifyRequest) => boolean {
  const isMeant = isForThisMachine(options)
  return (request) => isMeant && isLocal(request)
}

/** @param host name or address, without a port */
export const isLoopback = (host: string) => {
  const name = host.replace(/^\[|\]$/g, '')
  return name === 'localhost' || name === '::1' || (name.startsWith('127.') && isIP(name) === 4)
}

/**
 * Returns true if every address on a request's way is this machine's, because a proxy names the client before it, which
 * may itself name others. The host names must be local too, because a foreign page can let its own name resolve to this
 * machine: the name that was asked for, and the one that the gateway takes from a proxy.
 */
const isLocal = (request: FastifyRequest) =>
  (request.ips ?? [request.ip]).every(isLoopback) &&
  isLoopback(withoutPort(request.headers.host ?? '')) &&
  isLoopback(request.hostname) &&
  !isForwarded(request)

/** Headers in which proxies name a client, a host or themselves. No browser sends one of them by itself. */
const FORWARDING =
  /forwarded|^via$|^cf-|^cdn-|^x-original-|client-?(connection-)?ip|(real|remote|connecting|user|originating|socket|src|external)-?(ip|addr)/
/** Those of them that name a scheme, a port or a path, and nobody. */
const NAMELESS = /^x-forwarded-(proto|protocol|scheme|ssl|port|prefix)$/

/**
 * Returns true if a proxy forwards the request for somebody who may be elsewhere: it names another host than this
 * machine, or it does not name its client in X-Forwarded-For, the one header in which every proxy on the way does.
 */
function isForwarded({ headers }: FastifyRequest): boolean {
  const names = Object.keys(headers).filter((name) => FORWARDING.test(name))
  if (names.length === 0) return false
  if (headers['x-forwarded-for'] === undefined) return true
  return names.some((name) => !NAMELESS.test(name) && !hostsIn(name, String(headers[name])).every(isLoopback))
}

/** Returns the hosts and addresses that a forwarding header names; an empty one for a value that names none. */
function hostsIn(name: string, value: string): string[] {
  if (name === 'forwarded') {
    const pairs = [...value.matchAll(/(?:for|by|host)\s*=\s*("[^"]*"|[^;,\s]*)/gi)]
    return pairs.length > 0 ? pairs.map(([, host]) => withoutPort(host!.replaceAll('"', ''))) : ['']
  }
  const items = value.split(',').map((item) => item.trim())
  return items.map((item) => withoutPort(name === 'via' ? (item.split(/\s+/)[1] ?? '') : item))
}

const withoutPort = (host: string) => host.replace(/^(\[.*\]|[^:]*):\d+$/, '$1')
