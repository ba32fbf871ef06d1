// Owns the public keys of one issuer of tokens (OpenID Connect): found through its metadata, renewed before they are old,
// kept while it is away, and never read at the pace of those who send tokens.

import type { createLocalJWKSet, JSONWebKeySet, JWTVerifyGetKey } from 'jose'
import { gatewayError } from '../../errors.ts'
import type { Emit } from '../../events.ts'
import { isLoopback } from './locality.ts'

export interface Issuer {
  /** As in the claim `iss`. */
  readonly url: string
  /**
   * Finds the key that a token names.
   * @throws GatewayError issuer-unavailable; an error of jose if there is no such key
   */
  readonly keyOf: JWTVerifyGetKey
  /** Returns its metadata, as it publishes them. @throws GatewayError issuer-unavailable */
  readonly metadata: () => Promise<Metadata>
}

export type Metadata = Readonly<Record<string, unknown>>

export type IssuerOptions = {
  readonly url: string
  readonly makeKeySet: typeof createLocalJWKSet
  readonly emit: Emit
  /** Milliseconds of a clock that only goes forward. */
  readonly now: () => number
}

/** Keys older than this are read again while those that are known go on to be used. */
const FRESH_MS = 300_000
/**
 * Least time between two readings. A token that names an unknown key starts one, because its issuer may have a new key;
 * anybody can send such tokens.
 */
const PAUSE_MS = 10_000
/** Age beyond which keys are not used: whoever can hold the issuer back could otherwise keep a withdrawn key alive. */
const MOST_AGE_MS = 86_400_000
/** Time limit of one request to the issuer. */
const TIMEOUT_MS = 5_000
/** Most bytes of one of its answers. */
const MAX_BYTES = 1024 * 1024

const METADATA_PATH = '/.well-known/openid-configuration'

/** Creates an issuer, and begins to read its keys. */
export function makeIssuer({ url, makeKeySet, emit, now }: IssuerOptions): Issuer {
  let keys: ReturnType<typeof createLocalJWKSet> | undefined
  let metadata: Metadata | undefined
  let readAt = Number.NEGATIVE_INFINITY
  let triedAt = Number.NEGATIVE_INFINITY
  let isAway = false
  let reading: Promise<void> | undefined

  async function read() {
    triedAt = now()
    try {
      const found = await readIssuer(url)
      keys = makeKeySet(found.keys)
      metadata = found.metadata
      readAt = triedAt
      if (isAway) emit({ type: 'issuer-back', issuer: url })
      isAway = false
    } catch (error) {
      if (!isAway) emit({ type: 'issuer-missing', issuer: url, error: error as Error })
      isAway = true
    }
    reading = undefined
  }

  /** Reads the keys, together with others that want it; not again within the pause, whether it went well or not. */
  function renew(): Promise<void> {
    if (!reading && now() - triedAt < PAUSE_MS) return Promise.resolve()
    reading ??= read()
    return reading
  }

  const ageMs = () => now() - readAt
  const unavailable = () =>
    gatewayError(
      'issuer-unavailable',
      `The keys of ${url} cannot be read at the moment, so that its tokens cannot be checked.`,
      { issuer: url },
    )

  void renew()
  return {
    url,
    async keyOf(header, token) {
      if (ageMs() > FRESH_MS) {
        const renewing = renew()
        if (ageMs() > MOST_AGE_MS) await renewing
      }
      if (!keys || ageMs() > MOST_AGE_MS) throw unavailable()
      const known = keys
      try {
        return await known(header, token)
      } catch (error) {
        if ((error as { code?: string }).code !== 'ERR_JWKS_NO_MATCHING_KEY') throw error
        await renew()
        if (keys !== known) return keys(header, token)
        if (isAway) throw unavailable()
        throw error
      }
    },
    async metadata() {
      if (!metadata) await renew()
      if (!metadata) throw unavailable()
      return metadata
    },
  }
}

/** Returns true if tokens and keys may come from an address: over https, or from this machine. */
export const isSafeAddress = (text: string): boolean => {
  const url = URL.canParse(text) ? new URL(text) : undefined
  return url?.protocol === 'https:' || (url?.protocol === 'http:' && isLoopback(url.hostname))
}

async function readIssuer(url: string): Promise<{ metadata: Metadata; keys: JSONWebKeySet }> {
  const address = `${url.replace(/\/$/, '')}${METADATA_PATH}`
  const metadata = ((await readJson(address)) ?? {}) as Metadata
  if (metadata.issuer !== url)
    throw new Error(`${address} is of the issuer ${JSON.stringify(metadata.issuer)}, not of ${url}`)
  const keysAddress = metadata.jwks_uri
  if (typeof keysAddress !== 'string' || !isSafeAddress(keysAddress))
    throw new Error(`${address} has no jwks_uri that begins with https`)
  return { metadata, keys: (await readJson(keysAddress)) as JSONWebKeySet }
}

async function readJson(address: string): Promise<unknown> {
  const response = await fetch(address, {
    headers: { accept: 'application/json' },
    redirect: 'error',
    signal: AbortSignal.timeout(TIMEOUT_MS),
  })
  if (!response.ok || !response.body) throw new Error(`${address} answered ${response.status}`)
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of response.body) {
    bytes += chunk.length
    if (bytes > MAX_BYTES) throw new Error(`${address} answered with more than ${MAX_BYTES} bytes`)
    chunks.push(chunk)
  }
  return JSON.parse(Buffer.concat(chunks).toString())
}
