// Tests attacks on access that go around the rules instead of through them: other spellings of an address, headers that
// rewrite a request, caches, tags, guessing, and time. docs/results/attacks.md lists all attacks.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http'
import { after, before, test } from 'node:test'
import { openSession } from '../../database/session.ts'
import { createApiKey } from '../../features/access/api-key.ts'
import { setCollection } from '../../features/collections/settings.ts'
import { testDatabase } from '../support/database.ts'
import { startGateway } from '../support/gateway.ts'
import { AUDIENCE, startIssuer } from '../support/issuer.ts'

/** Requests of each of two kinds whose times are compared. ATTACK_SAMPLES=5000 gives the figures of docs/results. */
const SAMPLES = Number(process.env.ATTACK_SAMPLES ?? 300)
/** What an attacker can tell apart on a quiet network is a part of this. */
const MOST_RATIO = 1.5
const GUESSES = 2_000

const issuer = await startIssuer({ reader: ['vault-readers'], stranger: ['tessera:write'] })
const { client, catalog, session } = await startGateway(
  `--oidc-issuer=${issuer.url}`,
  `--oidc-audience=${AUDIENCE}`,
)
const { ownerUrl } = testDatabase()
const WORD = 'what nobody else may know'
let key = ''

before(async () => {
  await session.query(`
    create table vault (id int primary key, geom geometry(Point, 4326), name text);
    insert into vault values (1, 'SRID=4326;POINT(20 60)', '${WORD}')`)
  await catalog.reload()
  await setCollection(session, 'vault', { readers: ['vault-readers'], editors: ['nobody'] })
  key = await createApiKey(session, {
    name: 'attacked',
    canWrite: true,
    canManage: false,
    collections: ['cities'],
  })
  await catalog.reload()
})
// Other tests read all collections, and change features without a key.
after(async () => {
  const owner = await openSession(ownerUrl, 'test')
  await owner.query(`delete from tessera.api_key; drop table vault;
    delete from tessera.collection where table_name = 'vault'`)
  await owner.close()
})

type Answer = { readonly status: number; readonly headers: IncomingHttpHeaders; readonly text: string }

/** Sends a request as it is: `fetch` tidies addresses up. */
const sendRaw = (path: string, headers: Record<string, string> = {}, method = 'GET', body?: string) =>
  new Promise<Answer>((resolve, reject) => {
    const { hostname, port } = new URL(client.url)
    const sent = httpRequest({ hostname, port, path, method, headers, agent: false }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (part) => {
        text += part
      })
      response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, text }))
    })
    sent.on('error', reject).end(body)
  })
const bearer = (token: string) => ({ authorization: `Bearer ${token}` })
const asReader = async () => bearer(await issuer.logIn('reader'))

const ITEM = '/collections/vault/items/1'

/** Other spellings of the address of a feature. */
const SPELLINGS = [
  ITEM,
  `/${ITEM}`,
  `${ITEM}/`,
  `${ITEM}?`,
  `${ITEM}#x`,
  ITEM.replace('vault', '%76ault'),
  ITEM.replace('vault', '%2576ault'),
  ITEM.replace('vault', 'VAULT'),
  ITEM.replace('vault', 'vault%00'),
  ITEM.replace('vault', 'vault%20'),
  ITEM.replace('vault', '"vault"'),
  ITEM.replace('vault', 'public.vault'),
  ITEM.replace('vault', 'vault;x=1'),
  ITEM.replace('vault', '.%2fvault'),
  ITEM.replace('vault', 'cities%2f..%2fvault'),
  ITEM.replace('/vault', '/cities/../vault'),
  ITEM.replace('/vault', '/./vault'),
  ITEM.replace('/vault', '\\vault'),
  `${ITEM}.json`,
  `${ITEM}/photo.css`,
  `${ITEM};photo.css`,
  `${ITEM}%3fphoto.css`,
]

test('no other spelling of an address shows what it hides', async () => {
  const readable: string[] = []
  for (const path of SPELLINGS) {
    const { status, text } = await sendRaw(path)
    assert.ok(status >= 300 && status < 500, `${path}: ${status}`)
    assert.ok(!text.includes(WORD), path)
    if ((await sendRaw(path, await asReader())).text.includes(WORD)) readable.push(path)
  }
  // Those that lead there at all are the same for the rule.
  assert.ok(readable.includes(ITEM) && readable.includes(ITEM.replace('vault', '%76ault')), readable.join())
})

test('no header turns a request into another one', async () => {
  for (const headers of [
    { 'x-original-url': ITEM },
    { 'x-rewrite-url': ITEM },
    { 'x-forwarded-uri': ITEM },
    { 'x-http-method-override': 'DELETE' },
    { 'x-method-override': 'DELETE' },
    { 'x-http-method': 'DELETE' },
  ]) {
    const name = Object.keys(headers)[0]!
    assert.ok(!(await sendRaw('/', headers)).text.includes(WORD), name)
    // One who may only read: a removal would be refused in any case, and says 403 instead of the feature.
    assert.equal((await sendRaw(ITEM, { ...(await asReader()), ...headers })).status, 200, name)
    const posted = await sendRaw(
      `${ITEM}?_method=DELETE`,
      { ...(await asReader()), ...headers, 'content-type': 'application/x-www-form-urlencoded' },
      'POST',
      '_method=DELETE',
    )
    assert.equal(posted.status, 405, name)
  }
  for (const headers of [
    { 'x-user': 'admin' },
    { 'x-remote-user': 'admin' },
    { 'x-forwarded-user': 'admin' },
    { 'x-api-key': key },
    { cookie: `token=${await issuer.logIn('reader')}; access_token=${await issuer.logIn('reader')}` },
    { authorization: `Basic ${btoa('reader:secret')}` },
  ])
    assert.ok(!(await sendRaw(ITEM, headers as Record<string, string>)).text.includes(WORD))
  const query = `?access_token=${await issuer.logIn('reader')}`
  assert.ok(!(await sendRaw(ITEM + query)).text.includes(WORD))
})

test('the tag of a hidden feature does not show that it exists, nor whether it has changed', async () => {
  const { headers } = await sendRaw(ITEM, await asReader())
  const tag = headers.etag!
  assert.ok(tag)
  const none = await sendRaw('/collections/vaulted/items/1', { 'if-none-match': tag })
  for (const conditions of [{ 'if-none-match': tag }, { 'if-none-match': '*' }, { 'if-match': '"other"' }]) {
    for (const credentials of [{}, bearer(await issuer.logIn('stranger')), bearer(key)]) {
      const { status } = await sendRaw(ITEM, { ...credentials, ...conditions })
      assert.equal(status, none.status, JSON.stringify(conditions))
    }
  }
})

test('a cache in front keeps no answer of one host, or of one reader, for another', async () => {
  const host = { 'x-forwarded-host': 'evil.example', 'x-forwarded-proto': 'https' }
  const trusting = await sendRaw('/collections/cities', host)
  // From a trusted proxy, as loopback is, the header counts, and a cache has to tell such answers apart.
  assert.ok(trusting.text.includes('https://evil.example/'))
  assert.match(trusting.headers.vary!, /x-forwarded-host/i)
  const odd = await sendRaw('/collections/cities', { 'x-forwarded-host': 'evil.example"><b>' })
  assert.ok(!odd.text.includes('evil'))
  const strict = await startGateway('--trust-proxy', '127.0.0.9')
  assert.ok(!(await strict.client('/collections/cities', { headers: host })).text.includes('evil'))
  for (const path of [ITEM, `${ITEM}/photo.css`, '/collections/vault/tiles/WebMercatorQuad/0/0/0']) {
    const seen = await sendRaw(path, await asReader())
    assert.match(seen.headers['cache-control'] ?? '', /private|no-store/, path)
    const unseen = await sendRaw(path)
    assert.doesNotMatch(unseen.headers['cache-control'] ?? '', /public|max-age=[1-9]/, path)
  }
})

test('keys that are guessed are all refused, also those that are nearly right', async () => {
  const near = [
    key.slice(0, -1),
    `${key}x`,
    `${key.slice(0, -1)}${key.endsWith('A') ? 'B' : 'A'}`,
    key.toUpperCase(),
  ]
  for (const guess of near)
    assert.equal((await client('/collections/cities/items', { headers: bearer(guess) })).status, 401, guess)
  const before = process.memoryUsage().heapUsed
  for (let index = 0; index < GUESSES; index++) {
    const { status } = await sendRaw(
      ITEM,
      bearer(`${key.slice(0, 8)}${randomBytes(24).toString('base64url')}`),
    )
    assert.equal(status, 401)
  }
  const grown = process.memoryUsage().heapUsed - before
  assert.ok(grown < 64 * 2 ** 20, `${grown} bytes`)
})

/** Returns the medians of the times of requests that are sent in turn, in microseconds. */
async function mediansOf(sides: readonly (() => Promise<unknown>)[]): Promise<number[]> {
  const times = sides.map((): number[] => [])
  for (let round = 0; round < SAMPLES; round++)
    for (const [side, send] of sides.entries()) {
      const start = performance.now()
      await send()
      times[side]!.push((performance.now() - start) * 1_000)
    }
  return times.map((all) => all.toSorted((one, other) => one - other)[all.length >> 1]!)
}

const PAIRS: Readonly<Record<string, readonly [string, string, Record<string, string>?]>> = {
  'a hidden collection, and one that is none': ['/collections/vault', '/collections/vaulx'],
  'its features, and those of none': ['/collections/vault/items', '/collections/vaulx/items'],
  'a feature, and one of none': [ITEM, '/collections/vaulx/items/1'],
  'a feature that exists, and one that does not': [ITEM, '/collections/vault/items/2'],
  'a tile, and one of none': [
    '/collections/vault/tiles/WebMercatorQuad/0/0/0',
    '/collections/vaulx/tiles/WebMercatorQuad/0/0/0',
  ],
}

for (const [what, [hidden, none]] of Object.entries(PAIRS))
  test(`${what} take the same time`, async (t) => {
    const [one, other] = (await mediansOf([() => sendRaw(hidden), () => sendRaw(none)])) as [number, number]
    t.diagnostic(`medians of ${SAMPLES}: ${one.toFixed(0)} and ${other.toFixed(0)} us`)
    assert.ok(Math.max(one / other, other / one) < MOST_RATIO, `${one} and ${other} us`)
  })

test('a guess that begins like a key takes as long as any other', async (t) => {
  const like = () => `${key.slice(0, -6)}${randomBytes(4).toString('base64url')}`
  const unlike = () =>
    `${randomBytes(48)
      .toString('base64url')
      .slice(0, key.length - 6)}${randomBytes(4).toString('base64url')}`
  const [one, other] = (await mediansOf(
    [like, unlike].map((guess) => () => sendRaw(ITEM, bearer(guess()))),
  )) as [number, number]
  t.diagnostic(`medians of ${SAMPLES}: ${one.toFixed(0)} and ${other.toFixed(0)} us`)
  assert.ok(Math.max(one / other, other / one) < MOST_RATIO, `${one} and ${other} us`)
})
