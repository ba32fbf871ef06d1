// Owns the login of people at an issuer (OpenID Connect, authorization code with PKCE): where they are sent, what comes back,
// and where they log out.

import type { AuthorizationServer, Client, ClientAuth } from 'oauth4webapi'
import { GatewayError, gatewayError, UserError } from '../../errors.ts'
import { isSafeAddress } from './issuer.ts'
import { isToken, type Tokens } from './tokens.ts'

export type LoginOptions = {
  readonly oidcIssuer: readonly string[]
  readonly oidcClient: string | undefined
  readonly oidcClientSecret: string | undefined
  readonly oidcLoginParameters: string
}

/** What the browser keeps while its person is at the issuer. */
export type Attempt = {
  readonly state: string
  readonly nonce: string
  readonly verifier: string
  /** Path of this gateway to go on with, which begins with a slash. */
  readonly back: string
  /** Milliseconds since 1970. */
  readonly begunAt: number
}

/** What it keeps afterwards. */
export type LoggedIn = {
  readonly token: string
  /** Seconds since 1970. */
  readonly expiresAt: number
  /** Name of the person, for the pages. */
  readonly name: string
}

export interface Login {
  /** @param base URL of the gateway @throws GatewayError issuer-unavailable */
  begin(base: string, back: string): Promise<{ readonly address: string; readonly attempt: Attempt }>
  /** @param query parameters with which the issuer sent the browser back @throws GatewayError login-failed, issuer-unavailable */
  finish(base: string, query: URLSearchParams, attempt: Attempt): Promise<LoggedIn>
  /** Returns where the person logs out at the issuer; undefined if it has no such address, or is away. */
  logoutAddress(base: string): Promise<string | undefined>
}

export const CALLBACK = '/login/callback'
/** How long a person may take at the issuer. */
export const ATTEMPT_S = 600
/** Time limit of one request to the issuer. */
const TIMEOUT_MS = 5_000
/** Seconds by which the clocks of issuer and gateway may differ. */
const CLOCK_TOLERANCE_S = 30
/** Longest name that pages show. */
const MAX_NAME = 60

/** @returns undefined if no client is named @throws UserError without an issuer */
export async function openLogin(
  { oidcIssuer, oidcClient, oidcClientSecret, oidcLoginParameters }: LoginOptions,
  tokens: Tokens | undefined,
): Promise<Login | undefined> {
  if (oidcClient === undefined) return undefined
  if (!tokens)
    throw new UserError(
      'TESSERA_OIDC_CLIENT needs TESSERA_OIDC_ISSUER: it is a client of that issuer, the first one of several.',
    )
  const oauth = await import('oauth4webapi')
  const issuer = oidcIssuer[0]!
  const client: Client = { client_id: oidcClient, [oauth.clockTolerance]: CLOCK_TOLERANCE_S }
  const wanted = new URLSearchParams(oidcLoginParameters)
  const resource = wanted.getAll('resource')
  const requestOptions = () => ({
    signal: AbortSignal.timeout(TIMEOUT_MS),
    // Its addresses are checked: over http, they are of this machine.
    [oauth.allowInsecureRequests]: true,
    additionalParameters: resource.map((one): [string, string] => ['resource', one]),
  })

  async function readServer(): Promise<AuthorizationServer> {
    const server = (await tokens!.metadataOf(issuer)) as unknown as AuthorizationServer
    for (const name of ['authorization_endpoint', 'token_endpoint'] as const)
      if (!isSafeAddress(String(server[name])))
        throw gatewayError(
          'issuer-unavailable',
          `The issuer ${issuer} has no ${name} that begins with https.`,
        )
    return server
  }

  function authenticationAt({
    token_endpoint_auth_methods_supported: methods,
  }: AuthorizationServer): ClientAuth {
    if (oidcClientSecret === undefined) return oauth.None()
    return methods && !methods.includes('client_secret_basic') && methods.includes('client_secret_post')
      ? oauth.ClientSecretPost(oidcClientSecret)
      : oauth.ClientSecretBasic(oidcClientSecret)
  }

  return {
    async begin(base, back) {
      const server = await readServer()
      const attempt = {
        state: oauth.generateRandomState(),
        nonce: oauth.generateRandomNonce(),
        verifier: oauth.generateRandomCodeVerifier(),
        back,
        begunAt: Date.now(),
      }
      const address = new URL(server.authorization_endpoint!)
      for (const [name, value] of wanted) address.searchParams.append(name, value)
      const own = {
        client_id: oidcClient,
        response_type: 'code',
        redirect_uri: `${base}${CALLBACK}`,
        state: attempt.state,
        nonce: attempt.nonce,
        code_challenge: await oauth.calculatePKCECodeChallenge(attempt.verifier),
        code_challenge_method: 'S256',
      }
      for (const [name, value] of Object.entries(own)) address.searchParams.set(name, value)
      return { address: address.href, attempt }
    },

    async finish(base, query, { state, nonce, verifier }) {
      const server = await readServer()
      try {
        const parameters = oauth.validateAuthResponse(server, client, query, state)
        const response = await oauth.authorizationCodeGrantRequest(
          server,
          client,
          authenticationAt(server),
          parameters,
          `${base}${CALLBACK}`,
          verifier,
          requestOptions(),
        )
        const result = await oauth.processAuthorizationCodeResponse(server, client, response, {
          expectedNonce: nonce,
          requireIdToken: true,
        })
        const token = result.access_token
        if (!isToken(token)) throw new Error('its access token is no JWT for this service')
        await tokens.verify(token)
        const { name, preferred_username: username, email, sub } = oauth.getValidatedIdTokenClaims(result)!
        const shown = [name, username, email, sub].find((text) => typeof text === 'string' && text !== '')
        return { token, expiresAt: expiryIn(token), name: String(shown).slice(0, MAX_NAME) }
      } catch (error) {
        throw failure(error as Error)
      }
    },

    async logoutAddress(base) {
      const server = await readServer().catch(() => undefined)
      const end = server?.end_session_endpoint
      if (end === undefined || !isSafeAddress(end)) return undefined
      const address = new URL(end)
      address.searchParams.set('client_id', oidcClient)
      address.searchParams.set('post_logout_redirect_uri', `${base}/`)
      return address.href
    },
  }

  /** Returns the failure of a login, for the person: what the issuer says, or what is wrong with its answer. */
  function failure(
    error: Error & { error?: string; error_description?: string; code?: string },
  ): GatewayError {
    if (error instanceof GatewayError && error.code !== 'credentials-invalid') return error
    const isAway = error.name === 'TimeoutError' || error instanceof TypeError
    if (isAway)
      return gatewayError(
        'issuer-unavailable',
        `The issuer ${issuer} does not answer at the moment.`,
        {},
        error,
      )
    const reason = error.error_description ?? error.error ?? error.message
    return gatewayError(
      'login-failed',
      `The login at ${issuer} was not completed: ${reason.replace(/\.$/, '')}.`,
      {},
      error,
    )
  }
}

const expiryIn = (token: string): number =>
  (JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString()) as { exp: number }).exp
