// Owns an issuer of tokens for one test file: a real OpenID Connect server on loopback, whose keys can be changed, and which
// can be away.

import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after } from 'node:test'
import {
  type CryptoKey,
  exportJWK,
  generateKeyPair,
  type JWTHeaderParameters,
  type JWTPayload,
  SignJWT,
} from 'jose'
// @ts-expect-error: the package has no types.
import { Provider } from 'oidc-provider'

/** The name under which the issuer knows the gateway. */
export const AUDIENCE = 'https://geo.example'

export type TestIssuer = {
  readonly url: string
  /** Paths that were requested from it. */
  readonly requests: string[]
  /** Logs a client of the issuer in. @returns its token, as the server made it */
  readonly logIn: (client: string) => Promise<string>
  /** Signs any claims with the issuer's key, over those of a token that is valid. */
  readonly sign: (claims?: JWTPayload, header?: Partial<JWTHeaderParameters>) => Promise<string>
  /** Lets people log in on the pages of gateways at these addresses. */
  readonly allowPages: (...addresses: readonly string[]) => Promise<void>
  /** How long its tokens are valid. */
  lifetimeS: number
  /** Takes a new key, and withdraws the former one. */
  readonly rotate: () => Promise<void>
  /** Breaks off every request from now on, or no longer. */
  isAway: boolean
}

export type IssuerKey = {
  readonly privateKey: CryptoKey
  readonly publicKey: CryptoKey
  readonly kid: string
}

let lastKey = 0
export async function makeKey(algorithm = 'RS256'): Promise<IssuerKey> {
  return { ...(await generateKeyPair(algorithm, { extractable: true })), kid: `key ${++lastKey}` }
}

export const SECRET = 'a secret of a client'
/** The client with which people log in on pages. */
export const PAGES = 'pages'

/** @param roles of the clients of the issuer by their ids, and of people by their names */
export async function startIssuer(roles: Readonly<Record<string, readonly string[]>>): Promise<TestIssuer> {
  let key = await makeKey()
  let answer: ReturnType<typeof serveKey>
  const requests: string[] = []
  const server = createServer((request, response) => {
    requests.push(request.url!)
    if (issuer.isAway) request.socket.destroy()
    else answer(request, response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  after(() => {
    server.closeAllConnections()
    server.close()
  })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  let pages: readonly string[] = []
  const serve = async () => {
    answer = serveKey(url, await privateJwk(key), roles, pages, () => issuer.lifetimeS)
  }

  const issuer: TestIssuer = {
    url,
    requests,
    isAway: false,
    lifetimeS: 3_600,
    async logIn(client) {
      const response = await fetch(`${url}/token`, {
        method: 'POST',
        body: new URLSearchParams({ grant_type: 'client_credentials', resource: AUDIENCE, scope: 'read' }),
        headers: { authorization: `Basic ${btoa(`${client}:${encodeURIComponent(SECRET)}`)}` },
      })
      const body = (await response.json()) as { access_token?: string }
      if (!body.access_token) throw new Error(JSON.stringify(body))
      return body.access_token
    },
    sign: (claims = {}, header = {}) =>
      new SignJWT({ iss: url, aud: AUDIENCE, sub: 'somebody', exp: soon(), ...claims })
        .setProtectedHeader({ alg: 'RS256', kid: key.kid, typ: 'at+jwt', ...header })
        .sign(key.privateKey),
    async rotate() {
      key = await makeKey()
      await serve()
    },
    async allowPages(...addresses) {
      pages = addresses
      await serve()
    },
  }
  await serve()
  return issuer
}

/** Returns the time in an hour, as tokens have it. */
export const soon = () => Math.floor(Date.now() / 1_000) + 3_600

const privateJwk = async ({ privateKey, kid }: IssuerKey) => ({
  ...(await exportJWK(privateKey)),
  kid,
  alg: 'RS256',
  use: 'sig',
})

function serveKey(
  url: string,
  key: object,
  roles: Readonly<Record<string, readonly string[]>>,
  pages: readonly string[],
  lifetimeS: () => number,
) {
  const provider = new Provider(url, {
    clients: [
      ...Object.keys(roles).map((client) => ({
        client_id: client,
        client_secret: SECRET,
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
      })),
      ...(pages.length > 0
        ? [
            {
              client_id: PAGES,
              client_secret: SECRET,
              grant_types: ['authorization_code'],
              redirect_uris: pages.map((address) => `${address}/login/callback`),
              post_logout_redirect_uris: pages.map((address) => `${address}/`),
              response_types: ['code'],
            },
          ]
        : []),
    ],
    findAccount: (_context: unknown, id: string) => ({
      accountId: id,
      claims: () => ({ sub: id, name: id }),
    }),
    claims: { openid: ['sub', 'name'] },
    conformIdTokenClaims: false,
    jwks: { keys: [key] },
    scopes: ['read'],
    extraTokenClaims: (_context: unknown, token: { clientId: string; accountId?: string }) => ({
      roles: roles[token.accountId ?? token.clientId],
    }),
    features: {
      devInteractions: { enabled: pages.length > 0 },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({
          scope: 'read',
          audience: AUDIENCE,
          accessTokenFormat: 'jwt',
          accessTokenTTL: lifetimeS(),
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
  })
  return provider.callback() as Parameters<typeof createServer>[1] & ((...given: unknown[]) => void)
}
