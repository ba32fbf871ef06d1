// Owns tokens (JWT) as credentials: which are accepted, and whom they name with which roles.

import type { JWTPayload } from 'jose'
import { GatewayError, gatewayError, listed, UserError } from '../../errors.ts'
import type { Emit } from '../../events.ts'
import { type Principal, subjectOf } from '../../features/access/principal.ts'
import { type Issuer, type Metadata, makeIssuer } from './issuer.ts'

export interface Tokens {
  /** Issuers whose tokens are accepted. */
  readonly issuers: readonly string[]
  /** Returns the subject of a token. @throws GatewayError credentials-invalid or issuer-unavailable */
  verify(text: string): Promise<Principal>
  /** Returns what one of the issuers publishes of itself. @throws GatewayError issuer-unavailable */
  metadataOf(issuer: string): Promise<Metadata>
}

export type TokenOptions = {
  readonly oidcIssuer: readonly string[]
  readonly oidcAudience: readonly string[]
  readonly oidcRoles: readonly string[]
}

/**
 * Algorithms of signatures that are accepted: all have a public key. A secret that both sides know would be one that an
 * attacker can choose: the public key itself, taken for the secret.
 */
const ALGORITHMS = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
]
/** Types of tokens that give access (RFC 9068, 4); most issuers write JWT or nothing. Others, as for a logout, do not. */
const TYPES = new Set([undefined, 'jwt', 'at+jwt'])
/** Seconds by which the clocks of issuer and gateway may differ. */
const CLOCK_TOLERANCE_S = 30
/** Longest subject, in characters (OpenID Connect Core, 2). */
const MAX_SUBJECT = 255

/** Returns true for a text with the three parts of a signed token. */
export const isToken = (text: string) => /^[\w-]+\.[\w-]+\.[\w-]*$/.test(text)

/** Begins to read the keys of the issuers. @returns undefined if there are none @throws UserError without an audience */
export async function openTokens(
  { oidcIssuer, oidcAudience, oidcRoles }: TokenOptions,
  emit: Emit,
  now = () => performance.now(),
): Promise<Tokens | undefined> {
  if (oidcIssuer.length === 0) return undefined
  if (oidcAudience.length === 0)
    throw new UserError(
      'TESSERA_OIDC_AUDIENCE must be set with TESSERA_OIDC_ISSUER: it is the name of this service in the claim aud of tokens. Without it, tokens for any other service of the issuer would be accepted.',
    )
  const { createLocalJWKSet, decodeJwt, jwtVerify } = await import('jose')
  const issuers = new Map(
    oidcIssuer.map((url): [string, Issuer] => [
      url,
      makeIssuer({ url, makeKeySet: createLocalJWKSet, emit, now }),
    ]),
  )

  /** Returns the issuer that a token names, which is not checked yet. */
  function issuerOf(text: string): Issuer {
    let claimed: JWTPayload
    try {
      claimed = decodeJwt(text)
    } catch (error) {
      throw refusal('it cannot be read', error)
    }
    const issuer = issuers.get(claimed.iss ?? '')
    if (!issuer) throw refusal('its issuer is not one whose tokens are accepted here')
    return issuer
  }

  return {
    issuers: oidcIssuer,
    metadataOf: (issuer) => issuers.get(issuer)!.metadata(),
    async verify(text) {
      const { url, keyOf } = issuerOf(text)
      const { payload, protectedHeader } = await jwtVerify(text, keyOf, {
        algorithms: ALGORITHMS,
        issuer: url,
        audience: [...oidcAudience],
        requiredClaims: ['exp', 'sub'],
        clockTolerance: CLOCK_TOLERANCE_S,
      }).catch((error) => {
        throw error instanceof GatewayError ? error : refusal(reasonOf(error), error)
      })
      if (!TYPES.has(protectedHeader.typ?.toLowerCase().replace(/^application\//, '')))
        throw refusal('it is of a type that gives no access')
      // Only its holder has the key that it names, so that a thief cannot use it (RFC 9449, RFC 8705).
      if (payload.cnf !== undefined)
        throw refusal('it is bound to a key of its holder, which the gateway cannot check')
      const { sub } = payload
      if (typeof sub !== 'string' || sub === '' || sub.length > MAX_SUBJECT)
        throw refusal(`sub must be a text of 1 to ${MAX_SUBJECT} characters`)
      if (NOT_IN_POSTGRESQL.test(JSON.stringify(payload)))
        throw refusal('a claim has a character that PostgreSQL has no text with')
      return subjectOf(url, sub, rolesIn(payload, oidcRoles), claimsIn(text))
    },
  }
}

/** Returns the claims as the issuer has written them: numbers of JavaScript would lose digits. */
const claimsIn = (token: string) => new TextDecoder().decode(Buffer.from(token.split('.')[1]!, 'base64url'))

/** The null character, or half of a character, as JSON writes them: policies would fail to read it. */
const NOT_IN_POSTGRESQL = /(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f])/i

const refusal = (reason: string, cause?: unknown) =>
  gatewayError('credentials-invalid', `The token is not accepted: ${reason}.`, {}, cause)

/** Returns what is wrong with a token, for its holder. */
function reasonOf({ code, claim }: Error & { code?: string; claim?: string }): string {
  switch (code) {
    case 'ERR_JWT_EXPIRED':
      return 'it has expired'
    case 'ERR_JWT_CLAIM_VALIDATION_FAILED':
      return claim === 'aud' ? 'it is for another audience' : `its claim ${claim} is missing or does not hold`
    case 'ERR_JOSE_NOT_SUPPORTED':
      return 'it needs an extension that is not known here'
    case 'ERR_JOSE_ALG_NOT_ALLOWED':
      return `its algorithm is not one of ${listed(ALGORITHMS)}`
    case 'ERR_JWKS_NO_MATCHING_KEY':
      return 'its issuer has no such key'
    case 'ERR_JWKS_MULTIPLE_MATCHING_KEYS':
      return 'it names no key, and its issuer has several'
    case 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED':
      return 'its signature is wrong'
    default:
      return 'it cannot be read'
  }
}

/** Returns the roles in the claims: a list has one in each text, and a text has them between spaces, as `scope` does. */
export function rolesIn(payload: Readonly<Record<string, unknown>>, claims: readonly string[]): string[] {
  return claims.flatMap((claim) => {
    const value = valueAt(payload, claim)
    if (typeof value === 'string') return value.split(' ').filter((role) => role !== '')
    return Array.isArray(value) ? value.filter((role) => typeof role === 'string') : []
  })
}

/** Returns a claim by its name, or by a path with dots as in `realm_access.roles`. */
function valueAt(payload: Readonly<Record<string, unknown>>, claim: string): unknown {
  if (Object.hasOwn(payload, claim)) return payload[claim]
  let value: unknown = payload
  for (const name of claim.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined
    value = (value as Record<string, unknown>)[name]
  }
  return value
}
