// Tests tokens (JWT) as credentials: whom the gateway takes for whom, and every way to forge one that is known.

import assert from 'node:assert/strict'
import { createHmac, createPublicKey, generateKeyPairSync, sign } from 'node:crypto'
import { after, test } from 'node:test'
import { openSession } from '../../database/session.ts'
import { createApiKey } from '../../features/access/api-key.ts'
import { testDatabase } from '../support/database.ts'
import { startGateway } from '../support/gateway.ts'
import { AUDIENCE, soon, startIssuer } from '../support/issuer.ts'

const issuer = await startIssuer({
  crew: ['tessera:write'],
  viewer: ['viewer'],
  operator: ['tessera:operate'],
})
const other = await startIssuer({ crew: ['tessera:write'] })
const { client, catalog, session } = await startGateway(
  `--oidc-issuer=${issuer.url}`,
  `--oidc-audience=${AUDIENCE}`,
)
const plain = await startGateway()
await session.query(`
  create table token_place (id int generated always as identity primary key, geom geometry(Point, 4326), name text);
  insert into token_place (geom, name) values (null, 'before')`)
await Promise.all([catalog.reload(), plain.catalog.reload()])
// The keys are removed, because other tests change features without one.
after(async () => {
  const owner = await openSession(testDatabase().ownerUrl, 'test')
  await owner.query('delete from tessera.api_key')
  await owner.close()
})

const ITEM = '/collections/token_place/items/1'
const bearer = (token: string) => ({ authorization: `Bearer ${token}` })
const patch = (token: string | undefined, through = client) =>
  through(ITEM, {
    method: 'PATCH',
    headers: {
      'content-type': 'application/merge-patch+json',
      ...(token === undefined ? {} : bearer(token)),
    },
    body: '{"properties":{"name":"after"}}',
  })
const WRITE = { roles: ['tessera:write'] }

test('a token with the role may change features, and one without it may not', async () => {
  assert.equal((await patch(await issuer.logIn('crew'))).status, 200)
  const refused = await patch(await issuer.logIn('viewer'))
  assert.deepEqual([refused.status, refused.json.code], [403, 'permission-missing'])
  assert.equal(
    refused.headers.get('www-authenticate'),
    'Bearer realm="tessera", error="insufficient_scope", scope="tessera:write"',
  )
})

test('with an issuer, this machine needs credentials as well, and is told which', async () => {
  const refused = await patch(undefined)
  assert.deepEqual([refused.status, refused.json.code], [401, 'credentials-missing'])
  assert.equal(refused.headers.get('www-authenticate'), 'Bearer realm="tessera"')
  assert.ok(refused.json.detail.includes(issuer.url))
  assert.equal((await client('/metrics')).status, 401)
  const options = await client(ITEM, { method: 'OPTIONS' })
  assert.equal(options.headers.get('allow'), 'GET, HEAD, OPTIONS')
})

test('OPTIONS lists the changes that the roles of a token permit', async () => {
  const allowed = async (token: string) =>
    (await client(ITEM, { method: 'OPTIONS', headers: bearer(token) })).headers.get('allow')
  assert.equal(await allowed(await issuer.logIn('crew')), 'GET, HEAD, PUT, PATCH, DELETE, OPTIONS')
  assert.equal(await allowed(await issuer.logIn('viewer')), 'GET, HEAD, OPTIONS')
})

test('operators have a role of their own', async () => {
  const status = async (path: string, name: string) =>
    (await client(path, { headers: bearer(await issuer.logIn(name)) })).status
  assert.equal(await status('/metrics', 'operator'), 200)
  assert.equal(await status('/cluster', 'operator'), 200)
  assert.equal(await status('/metrics', 'crew'), 403)
  assert.equal(await status('/collections/token_place/items?explain=1', 'crew'), 403)
  assert.equal(await status('/collections/token_place/items?explain=1', 'operator'), 200)
  assert.equal((await patch(await issuer.logIn('operator'))).status, 403)
})

test('API keys are credentials next to tokens', async () => {
  const key = await createApiKey(session, {
    name: 'x',
    canWrite: true,
    canManage: false,
    collections: ['token_place'],
  })
  assert.equal((await patch(key)).status, 200)
  assert.equal((await patch(`${key}x`)).status, 401)
})

test('without an issuer, a token is no credential', async () => {
  const refused = await patch(await issuer.logIn('crew'), plain.client)
  assert.deepEqual([refused.status, refused.json.code], [401, 'credentials-invalid'])
})

test('reads need no token, but one that is not valid is refused', async () => {
  assert.equal((await client(ITEM)).status, 200)
  assert.equal((await client(ITEM, { headers: bearer(await issuer.logIn('viewer')) })).status, 200)
  assert.equal((await client(ITEM, { headers: bearer('x.y.z') })).status, 401)
  // Without an issuer and without rules there is nothing to look at.
  assert.equal((await plain.client(ITEM, { headers: bearer('x.y.z') })).status, 200)
})

/** Each with the reason in the answer; the signature of most of them is right. */
const REFUSED: readonly (readonly [string, RegExp, () => string | Promise<string>])[] = [
  ['expired', /expired/, () => issuer.sign({ ...WRITE, exp: soon() - 3_660 })],
  ['without expiry', /exp/, () => issuer.sign({ ...WRITE, exp: undefined as never })],
  ['not yet valid', /nbf/, () => issuer.sign({ ...WRITE, nbf: soon() + 120 })],
  ['for another audience', /audience/, () => issuer.sign({ ...WRITE, aud: 'https://other.example' })],
  ['for no audience', /audience/, () => issuer.sign({ ...WRITE, aud: undefined as never })],
  ['of an issuer that is not named', /issuer/, () => other.sign(WRITE)],
  [
    'of another issuer in our name',
    /no such key/,
    () => other.sign({ ...WRITE, iss: issuer.url }, { kid: 'no key' }),
  ],
  ['of another issuer under a key of ours', /signature/, forgedKid],
  ['without issuer', /issuer/, () => issuer.sign({ ...WRITE, iss: undefined as never })],
  ['without subject', /sub/, () => issuer.sign({ ...WRITE, sub: undefined as never })],
  ['with an empty subject', /sub/, () => issuer.sign({ ...WRITE, sub: '' })],
  ['with a subject that is no text', /sub|read/, () => issuer.sign({ ...WRITE, sub: ['a'] as never })],
  ['for a logout', /type/, () => issuer.sign(WRITE, { typ: 'logout+jwt' })],
  ['bound to a key of its holder', /bound/, () => issuer.sign({ ...WRITE, cnf: { jkt: 'x' } })],
  ['with a critical extension', /extension|read/, () => withHeader({ crit: ['exp'], exp: 1 })],
  ['without a signature', /algorithm|read/, () => unsigned('none')],
  ['without a signature, in other letters', /algorithm|read/, () => unsigned('NoNe')],
  ['with claims of its own and our signature', /signature/, tampered],
  ['signed with the public key as a secret (PEM)', /algorithm/, () => confused('pem')],
  ['signed with the public key as a secret (JWK)', /algorithm/, () => confused('jwk')],
  ['with a key of its own in its header', /no such key|signature/, () => selfSigned('jwk')],
  ['with an address of its own for keys', /no such key|signature/, () => selfSigned('jku')],
  ['cut', /signature|read/, async () => (await issuer.sign(WRITE)).slice(0, -9)],
  ['of nothing', /read|exist/, () => 'a.b.c'],
]

const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
const claims = () => ({ iss: issuer.url, aud: AUDIENCE, sub: 'me', exp: soon(), ...WRITE })
const headerOf = (token: string) => JSON.parse(Buffer.from(token.split('.')[0]!, 'base64url').toString())

const unsigned = (alg: string) => `${encode({ alg })}.${encode(claims())}.`
async function tampered() {
  const [header, , signature] = (await issuer.logIn('viewer')).split('.')
  return `${header}.${encode(claims())}.${signature}`
}
async function forgedKid() {
  const { kid } = headerOf(await issuer.sign())
  return other.sign({ ...WRITE, iss: issuer.url }, { kid })
}
async function confused(form: 'pem' | 'jwk') {
  const { keys } = (await (await fetch(`${issuer.url}/jwks`)).json()) as { keys: { kid: string }[] }
  const [jwk] = keys
  const pem = createPublicKey({ key: jwk as never, format: 'jwk' }).export({ type: 'spki', format: 'pem' })
  const signed = `${encode({ alg: 'HS256', kid: jwk!.kid })}.${encode(claims())}`
  const secret = form === 'pem' ? pem : JSON.stringify(jwk)
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`
}
/** Signs with a key that only the token itself names. */
function withOwnKey(header: (jwk: object) => object) {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const signed = `${encode({ alg: 'RS256', ...header(publicKey.export({ format: 'jwk' })) })}.${encode(claims())}`
  return `${signed}.${sign('sha256', Buffer.from(signed), privateKey).toString('base64url')}`
}
const selfSigned = (member: 'jwk' | 'jku') =>
  withOwnKey((jwk) =>
    member === 'jwk'
      ? { jwk, kid: 'mine' }
      : { jku: `${other.url}/jwks`, x5u: `${other.url}/jwks`, kid: 'mine' },
  )
const withHeader = (header: object) => withOwnKey(() => header)

for (const [what, reason, make] of REFUSED)
  test(`a token ${what} is refused`, async () => {
    const asked = other.requests.length
    const refused = await patch(await make())
    assert.deepEqual([refused.status, refused.json.code], [401, 'credentials-invalid'])
    assert.match(refused.json.detail, reason)
    assert.match(
      refused.headers.get('www-authenticate')!,
      /^Bearer realm="tessera", error="invalid_token", error_description="[^"\\]+"$/,
    )
    assert.equal(other.requests.length, asked)
  })

test('subjects do not share idempotency keys', async () => {
  const create = async (sub: string) =>
    client('/collections/token_place/items', {
      method: 'POST',
      headers: {
        'content-type': 'application/geo+json',
        'idempotency-key': 'the-same',
        ...bearer(await issuer.sign({ ...WRITE, sub })),
      },
      body: JSON.stringify({ type: 'Feature', geometry: null, properties: { name: 'new' } }),
    })
  const [first, second, again] = [await create('one'), await create('two'), await create('one')]
  assert.deepEqual([first.status, second.status, again.status], [201, 201, 201])
  assert.notEqual(first.json.id, second.json.id)
  assert.equal(again.json.id, first.json.id)
})
