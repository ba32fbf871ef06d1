// Owns the credentials of a request: the caller that its Authorization header names, by an API key or a token, and the
// challenges to clients that have none, or none that suffice (RFC 6750).

import type { FastifyReply } from 'fastify'
import { GatewayError, gatewayError } from '../../errors.ts'
import { type ApiKeys, bearerIn } from '../../features/access/api-key.ts'
import { holderOf, type Principal } from '../../features/access/principal.ts'
import { isToken, type Tokens } from './tokens.ts'

export type CredentialOptions = {
  readonly apiKeys: ApiKeys
  /** Undefined if no tokens are accepted. */
  readonly tokens: Tokens | undefined
}

/**
 * Returns the caller that an Authorization header names.
 * @param apiKeys all of them, or those that are remembered
 * @throws GatewayError credentials-invalid, with the challenge in the reply
 */
export async function callerIn(
  authorization: string,
  reply: FastifyReply,
  apiKeys: Pick<ApiKeys, 'find'>,
  tokens: Tokens | undefined,
): Promise<Principal> {
  const text = bearerIn(authorization)
  try {
    if (tokens && text !== undefined && isToken(text)) return await tokens.verify(text)
    const key = text === undefined ? undefined : await apiKeys.find(text)
    if (key) return holderOf(key)
    throw gatewayError('credentials-invalid', 'The API key does not exist, or has been revoked.')
  } catch (error) {
    if (error instanceof GatewayError && error.code === 'credentials-invalid')
      challenge(reply, `error="invalid_token", error_description="${error.message}"`)
    throw error
  }
}

/** Returns what a caller can send, for a message. */
export const credentialsFor = ({ tokens }: Pick<CredentialOptions, 'tokens'>) =>
  tokens ? `an API key or a token of ${tokens.issuers.join(' or ')}` : 'an API key'

/** Returns the refusal of a request without credentials. */
export function missing(reply: FastifyReply, detail: string): GatewayError {
  challenge(reply)
  return gatewayError('credentials-missing', detail)
}

/** Returns the refusal of a caller that lacks a right. @param role one or more, of which each would suffice; undefined if none would */
export function insufficient(
  reply: FastifyReply,
  detail: string,
  facts: Readonly<Record<string, string>>,
  role?: string,
): GatewayError {
  challenge(
    reply,
    `error="insufficient_scope"${role === undefined ? '' : `, scope="${role.replace(/[^ -~]|["\\]/g, '?')}"`}`,
  )
  return gatewayError('permission-missing', detail, facts)
}

function challenge(reply: FastifyReply, parameters?: string) {
  reply.header('www-authenticate', `Bearer realm="tessera"${parameters ? `, ${parameters}` : ''}`)
}
