// Tests the keys of issuers: when they are read, from where, and how long they are used. The issuer is a real server, and
// the clock is the test's.

import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, test } from 'node:test'
import { GatewayError } from '../../errors.ts'
import type { Event } from '../../events.ts'
import { openTokens, rolesIn, type Tokens } from '../../http/auth/tokens.ts'
import { AUDIENCE, startIssuer } from '../support/issuer.ts'
import { until } from '../support/until.ts'

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS

/** Opens the tokens of an issuer with a clock of their own. */
async function open(url: string) {
  const clock = { ms: 0 }
  const events: Event[] = []
  const options = { oidcIssuer: [url], oidcAudience: [AUDIENCE], oidcRoles: ['roles'] }
  const tokens = (await openTokens(
    options,
    (event) => events.push(event),
    () => clock.ms,
  )) as Tokens
  return { clock, events, tokens }
}

const refuses = (token: string | Promise<string>, tokens: Tokens, code = 'credentials-invalid') =>
  assert.rejects(
    async () => tokens.verify(await token),
    (error) => error instanceof GatewayError && error.code === code,
  )

test('a token of the issuer names its subject and its roles', async () => {
  const issuer = await startIssuer({ crew: ['editor', 'tessera:write'] })
  const { tokens } = await open(issuer.url)
  const { id, roles } = await tokens.verify(await issuer.logIn('crew'))
  assert.deepEqual([id, [...roles]], [`${issuer.url} crew`, ['editor', 'tessera:write', 'tessera:any']])
})

test('a flood of tokens with unknown keys reads the keys of the issuer once', async () => {
  const issuer = await startIssuer({})
  const { tokens, clock } = await open(issuer.url)
  await tokens.verify(await issuer.sign())
  clock.ms += MINUTE_MS
  issuer.requests.length = 0
  const flood = Array.from({ length: 200 }, (_, index) => issuer.sign({}, { kid: `unknown ${index}` }))
  await Promise.all(flood.map((token) => refuses(token, tokens)))
  assert.deepEqual(issuer.requests, ['/.well-known/openid-configuration', '/jwks'])
  for (let second = 0; second < 9; second++) {
    clock.ms += 1_000
    await refuses(issuer.sign({}, { kid: `later ${second}` }), tokens)
  }
  assert.equal(issuer.requests.length, 2)
})

test('a new key is accepted with its first token, and a withdrawn one no longer once the keys are read again', async () => {
  const issuer = await startIssuer({})
  const { tokens, clock } = await open(issuer.url)
  const before = await issuer.sign()
  await tokens.verify(before)
  clock.ms += MINUTE_MS
  await issuer.rotate()
  await tokens.verify(before)
  await tokens.verify(await issuer.sign())
  await refuses(before, tokens)
})

test('keys that are five minutes old are read again while the known ones are used', async () => {
  const issuer = await startIssuer({})
  const { tokens, clock } = await open(issuer.url)
  const token = await issuer.sign()
  await tokens.verify(token)
  issuer.requests.length = 0
  clock.ms += 4 * MINUTE_MS
  await tokens.verify(token)
  assert.equal(issuer.requests.length, 0)
  await issuer.rotate()
  clock.ms += 2 * MINUTE_MS
  await tokens.verify(token)
  await until(() => issuer.requests.length === 2)
  await until(() =>
    tokens.verify(token).then(
      () => false,
      () => true,
    ),
  )
})

test('while the issuer is away, its known keys are used for a day, and it is tried at our pace', async () => {
  const issuer = await startIssuer({})
  const { tokens, clock, events } = await open(issuer.url)
  const token = await issuer.sign()
  await tokens.verify(token)
  issuer.isAway = true
  issuer.requests.length = 0
  for (let minute = 0; minute < 60; minute++) {
    clock.ms += MINUTE_MS
    await tokens.verify(token)
  }
  await until(() => events.length === 1)
  assert.deepEqual(
    events.map(({ type }) => type),
    ['issuer-missing'],
  )
  clock.ms += MINUTE_MS
  await Promise.all(
    Array.from({ length: 100 }, (_, index) =>
      refuses(issuer.sign({}, { kid: `new ${index}` }), tokens, 'issuer-unavailable'),
    ),
  )
  assert.ok(issuer.requests.length <= 61, `${issuer.requests.length} requests`)
  clock.ms += 22 * HOUR_MS
  await tokens.verify(token)
  clock.ms += 2 * HOUR_MS
  await refuses(token, tokens, 'issuer-unavailable')
  issuer.isAway = false
  clock.ms += MINUTE_MS
  await tokens.verify(token)
  assert.deepEqual(
    events.map(({ type }) => type),
    ['issuer-missing', 'issuer-back'],
  )
})

test('an issuer that has not answered yet makes tokens wait for another time, and nothing else', async () => {
  const issuer = await startIssuer({})
  issuer.isAway = true
  const { tokens, clock } = await open(issuer.url)
  const token = await issuer.sign()
  await refuses(token, tokens, 'issuer-unavailable')
  issuer.isAway = false
  await refuses(token, tokens, 'issuer-unavailable')
  clock.ms += 11_000
  await tokens.verify(token)
})

test('keys come only from where the issuer itself has them', async () => {
  const issuer = await startIssuer({})
  let metadata: object = {}
  const server = createServer((request, response) => {
    if (request.url === '/moved') response.writeHead(302, { location: `${issuer.url}/jwks` })
    response.end(JSON.stringify(metadata))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  after(() => {
    server.closeAllConnections()
    server.close()
  })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const token = await issuer.sign({ iss: url })
  const keys = `${issuer.url}/jwks`
  for (const wrong of [
    {},
    { issuer: `${url}/`, jwks_uri: keys },
    { issuer: issuer.url, jwks_uri: keys },
    { issuer: url, jwks_uri: 'http://198.51.100.1/jwks' },
    { issuer: url, jwks_uri: 'file:///etc/hostname' },
    { issuer: url, jwks_uri: `${url}/moved` },
    { issuer: url, jwks_uri: `${url}/large`, text: 'x'.repeat(2 << 20) },
  ]) {
    metadata = wrong
    const { tokens, events } = await open(url)
    await refuses(token, tokens, 'issuer-unavailable')
    assert.equal(events[0]?.type, 'issuer-missing', JSON.stringify(wrong).slice(0, 200))
  }
  metadata = { issuer: url, jwks_uri: keys }
  const { tokens } = await open(url)
  await tokens.verify(token)
})

test('roles are in the claims that the operator names, as texts of a list or with spaces between them', () => {
  const payload = {
    scope: 'openid tessera:write',
    roles: ['a b', 7, null, 'c'],
    realm_access: { roles: ['d'] },
    'https://geo.example/roles': ['e'],
  }
  assert.deepEqual(rolesIn(payload, ['scope', 'roles']), ['openid', 'tessera:write', 'a b', 'c'])
  assert.deepEqual(rolesIn(payload, ['realm_access.roles', 'https://geo.example/roles']), ['d', 'e'])
  assert.deepEqual(
    rolesIn(payload, ['none', 'realm_access', 'roles.length', 'constructor.name', 'scope.length']),
    [],
  )
})

test('an issuer needs an audience, because its tokens for other services would be accepted', async () => {
  const options = { oidcIssuer: ['https://login.example'], oidcAudience: [], oidcRoles: [] }
  await assert.rejects(
    openTokens(options, () => {}),
    /TESSERA_OIDC_AUDIENCE must be set/,
  )
})
