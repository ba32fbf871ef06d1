// Tests login on the pages in a real browser, at a real issuer: who sees what, and what others cannot do with it.

import assert from 'node:assert/strict'
import { createServer, request as forward } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, test } from 'node:test'
import type { BrowserContext, Page } from 'playwright-core'
import { openSession } from '../../database/session.ts'
import { setCollection } from '../../features/collections/settings.ts'
import { openBrowser, openPage, watch } from '../support/browser.ts'
import { testDatabase } from '../support/database.ts'
import { startGateway } from '../support/gateway.ts'
import { AUDIENCE, PAGES, SECRET, startIssuer } from '../support/issuer.ts'

const issuer = await startIssuer({
  ada: ['in-readers', 'in-editors'],
  eve: [],
})
const flags = [
  `--oidc-issuer=${issuer.url}`,
  `--oidc-audience=${AUDIENCE}`,
  `--oidc-client=${PAGES}`,
  `--oidc-client-secret=${SECRET}`,
  `--oidc-login-parameters=scope=openid&resource=${encodeURIComponent(AUDIENCE)}`,
]
const gateway = await startGateway(...flags)
const second = await startGateway(...flags)
const { client, session, catalog } = gateway
const browser = await openBrowser()
await session.query(`
  create table in_secret (id int primary key, geom geometry(Point, 4326), name text);
  insert into in_secret select i, st_setsrid(st_makepoint(10 + i, 50), 4326), 'hidden ' || i from generate_series(1, 3) i`)
await setCollection(session, 'in_secret', { readers: ['in-readers'], editors: ['in-editors'] })
await Promise.all([catalog.reload(), second.catalog.reload()])
await issuer.allowPages(client.url, second.client.url, `${client.url}/geo`)
// Other tests read all collections; the session of the gateway is closed by then.
after(async () => {
  const owner = await openSession(testDatabase().ownerUrl, 'test')
  await owner.query(`drop table in_secret; delete from tessera.collection where table_name = 'in_secret'`)
  await owner.close()
})

const SECRET_ITEM = '/collections/in_secret/items/1'
const links = (page: Page) => page.getByRole('navigation', { name: 'Tessera' })

/** Logs in by hand, as the issuer's own pages want it, and comes back to the page on which the link was. */
async function logIn(page: Page, name: string) {
  await links(page).getByRole('link', { name: 'Log in' }).click()
  await page.locator('input[name=login]').fill(name)
  await page.locator('input[name=password]').fill('any')
  await page.locator('button[type=submit]').click()
  const consent = page.locator('button[type=submit]', { hasText: 'Continue' })
  await Promise.race([consent.click().catch(() => {}), links(page).getByText(name).waitFor()])
  await links(page).getByText(name).waitFor()
}
const cookiesOf = async (context: BrowserContext) =>
  (await context.cookies()).filter(({ name }) => name.startsWith('__Host-tessera'))
/** Returns the cookies of somebody who has logged in, as a header. */
async function sessionOf(name: string): Promise<string> {
  const { page } = await openPage(browser, client.url)
  await page.goto('/')
  await logIn(page, name)
  const cookies = await cookiesOf(page.context())
  await page.context().close()
  return cookies.map((cookie) => `${cookie.name}=${cookie.value}`).join('; ')
}

test('somebody logs in, sees and edits a protected collection, logs out, and sees it no longer', async () => {
  const { page } = await openPage(browser, client.url)
  assert.equal((await page.goto(SECRET_ITEM))!.status(), 404)
  await logIn(page, 'ada')
  assert.equal(page.url(), `${client.url}${SECRET_ITEM}`)
  const faults = watch(page, client.url)
  await page.getByRole('cell', { name: 'hidden 1' }).waitFor()
  await page.locator('#edit').click()
  await page.getByLabel('name', { exact: true }).fill('seen')
  await page.getByRole('button', { name: 'Save' }).click()
  await page.getByRole('status').getByText('Saved.').waitFor()
  const [row] = await session.query<{ name: string }>('select name from in_secret where id = 1')
  assert.equal(row!.name, 'seen')
  await page.goto('/collections')
  await page.getByRole('link', { name: 'in_secret' }).first().waitFor()
  const tile = await page.evaluate(async () => (await fetch('/collections/in_secret/0/0/0.mvt')).status)
  assert.equal(tile, 200)
  const answer = await page.goto('/collections/in_secret/items?f=html')
  assert.equal(answer!.headers()['cache-control'], 'private')
  assert.match(answer!.headers().vary!, /cookie/)
  assert.deepEqual(faults, [])

  await links(page).getByRole('link', { name: 'Log out' }).click()
  await page.locator('button[name=logout]').click()
  await page.waitForURL(`${client.url}/`)
  await links(page).getByRole('link', { name: 'Log in' }).waitFor()
  assert.deepEqual(await cookiesOf(page.context()), [])
  assert.equal((await page.goto(SECRET_ITEM))!.status(), 404)
})

test('cookies are for this host alone, not for scripts, and each gateway of the database knows them', async () => {
  const { page } = await openPage(browser, client.url)
  await page.goto('/')
  await logIn(page, 'ada')
  const cookies = await cookiesOf(page.context())
  assert.ok(cookies.length > 0)
  for (const { httpOnly, secure, sameSite, path, domain, expires } of cookies)
    assert.deepEqual(
      [httpOnly, secure, sameSite, path, domain, expires],
      [true, true, 'Lax', '/', '127.0.0.1', -1],
    )
  assert.equal(await page.evaluate<string>('document.cookie'), '')
  const header = cookies.map(({ name, value }) => `${name}=${value}`).join('; ')
  assert.ok(!header.includes('eyJ'))
  const elsewhere = await second.client(SECRET_ITEM, { headers: { cookie: header } })
  assert.equal(elsewhere.status, 200)
  assert.equal(elsewhere.headers.get('cache-control'), 'private')
})

test('a person without the roles sees what anybody sees, and cannot change it', async () => {
  const { page } = await openPage(browser, client.url)
  await page.goto('/')
  await logIn(page, 'eve')
  assert.equal((await page.goto(SECRET_ITEM))!.status(), 404)
  await links(page).getByText('eve').waitFor()
})

test('a forged or cut cookie is nothing, and is removed', async () => {
  const cookie = await sessionOf('ada')
  const [name, value] = cookie.split('=') as [string, string]
  assert.equal((await client(SECRET_ITEM, { headers: { cookie } })).status, 200)
  const flipped = `${value.slice(0, 60)}${value[60] === 'A' ? 'B' : 'A'}${value.slice(61)}`
  const plain = Buffer.from(JSON.stringify({ token: 'x', expiresAt: 9e9, name: 'x' })).toString('base64url')
  for (const forged of [flipped, value.slice(0, -10), plain, '', 'A'.repeat(3_000)]) {
    const answer = await client(SECRET_ITEM, { headers: { cookie: `${name}=${forged}` } })
    assert.equal(answer.status, 404, forged)
    assert.match(answer.headers.get('set-cookie')!, /Max-Age=0/)
  }
  // The cookie of a login is none of a session, and a session of this database none of another purpose.
  const begun = await client('/login?back=/')
  const [other] = begun.headers.get('set-cookie')!.split(';') as [string]
  const swapped = await client(SECRET_ITEM, { headers: { cookie: `${name}=${other.split('=')[1]}` } })
  assert.equal(swapped.status, 404)
  // Credentials that are named count before those that a browser sends by itself.
  const both = await client(SECRET_ITEM, { headers: { cookie, authorization: 'Bearer x.y.z' } })
  assert.equal(both.status, 401)
})

test('an answer of the issuer counts once, for the browser that has asked, and only for ten minutes', async () => {
  const { page } = await openPage(browser, client.url)
  const callbacks: string[] = []
  const attempts: string[] = []
  page.on('request', async (request) => {
    if (!request.url().includes('/login/callback')) return
    callbacks.push(request.url())
    attempts.push((await request.allHeaders()).cookie ?? '')
  })
  await page.goto('/')
  await logIn(page, 'ada')
  const [callback, attempt] = [callbacks[0]!, attempts[0]!]
  const status = async (cookie: string | undefined, address = callback) => {
    const answer = await client(address, cookie === undefined ? {} : { headers: { cookie } })
    assert.doesNotMatch(answer.headers.get('set-cookie') ?? '', /session=[^;]/)
    return [answer.status, answer.json?.code]
  }
  assert.deepEqual(await status(undefined), [400, 'login-failed'])
  // The issuer takes a code once.
  assert.deepEqual(await status(attempt), [400, 'login-failed'])
  const other = (await client('/login?back=/')).headers.get('set-cookie')!.split(';')[0]!
  assert.deepEqual(await status(other), [400, 'login-failed'])
  assert.deepEqual(await status(attempt, callback.replace(/state=[^&]+/, 'state=x')), [400, 'login-failed'])
  const denied = new URL(callback)
  for (const name of ['code', 'iss']) denied.searchParams.delete(name)
  denied.searchParams.set('error', 'access_denied')
  assert.deepEqual(await status(attempt, denied.href), [400, 'login-failed'])
})

test('a login leads to pages of this service alone', async () => {
  for (const back of [
    'https://evil.example/',
    '//evil.example',
    '/\\evil.example',
    '\\\\evil.example',
    'javascript:alert(1)',
    '@evil.example',
    '.evil.example',
    '/%0d%0aSet-Cookie: a=b\r\n',
    'collections',
    '',
    '/../x\\y',
  ]) {
    const answer = await client(`/login?back=${encodeURIComponent(back)}`)
    if (answer.status === 303) assert.ok(answer.headers.get('location')!.startsWith(`${issuer.url}/`), back)
    else assert.deepEqual([answer.status, answer.json.parameter], [400, 'back'], back)
  }
  const prefixed = { 'x-forwarded-prefix': '/geo' }
  const outside = await client('/login?back=/../other', { headers: prefixed })
  assert.deepEqual([outside.status, outside.json.parameter], [400, 'back'])
  assert.equal((await client('/login?back=/collections', { headers: prefixed })).status, 303)
})

test('a request with a cookie that another site is behind changes nothing, and learns nothing', async () => {
  const cookie = await sessionOf('ada')
  const change = (headers: Record<string, string>) =>
    client(SECRET_ITEM, {
      method: 'PATCH',
      headers: { cookie, 'content-type': 'application/merge-patch+json', ...headers },
      body: '{"properties":{"name":"by another site"}}',
    })
  for (const headers of [
    {},
    { origin: 'https://evil.example' },
    { origin: 'null' },
    { origin: 'http://127.0.0.1:1' },
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site' },
  ]) {
    const answer = await change(headers as Record<string, string>)
    assert.deepEqual([answer.status, answer.json.code], [403, 'origin-forbidden'], JSON.stringify(headers))
  }
  assert.equal((await change({ origin: client.url })).status, 200)
  assert.equal((await change({ 'sec-fetch-site': 'same-origin' })).status, 200)
  const image = { cookie, 'sec-fetch-site': 'same-site', 'sec-fetch-mode': 'no-cors' }
  assert.equal((await client(SECRET_ITEM, { headers: image })).status, 404)
  const out = await client('/logout', { headers: { cookie, 'sec-fetch-site': 'cross-site' } })
  assert.deepEqual([out.status, out.json.code], [403, 'origin-forbidden'])

  // A page of another site, in the browser of somebody who has logged in here.
  const { page } = await openPage(browser, client.url)
  await page.goto('/')
  await logIn(page, 'ada')
  await page.goto(`http://gis.test:${new URL(second.client.url).port}/`)
  const seen = await page.evaluate(async (address) => {
    const ask = (init: RequestInit) =>
      fetch(address, { credentials: 'include', ...init }).then(
        ({ status }) => status,
        () => 0,
      )
    return [await ask({ mode: 'no-cors' }), await ask({ method: 'DELETE' })]
  }, `${client.url}${SECRET_ITEM}`)
  assert.deepEqual(seen, [0, 0])
  assert.equal((await session.query('select from in_secret where id = 1')).length, 1)
})

test('when the token of a session has ended, a page leads to the login and back, and a script gets 401', async () => {
  const { page } = await openPage(browser, client.url)
  await page.goto('/')
  issuer.lifetimeS = 12
  try {
    await logIn(page, 'ada')
    await page.waitForTimeout(3_000)
    const asked = issuer.requests.length
    assert.equal((await page.goto(SECRET_ITEM))!.status(), 200)
    assert.equal(page.url(), `${client.url}${SECRET_ITEM}`)
    assert.ok(issuer.requests.slice(asked).some((path) => path.startsWith('/auth?')))
  } finally {
    issuer.lifetimeS = 3_600
  }
})

test('if the issuer is away, nobody logs in, and sessions go on', async () => {
  const cookie = await sessionOf('ada')
  issuer.isAway = true
  try {
    assert.equal((await client(SECRET_ITEM, { headers: { cookie } })).status, 200)
    const out = await client('/logout', { headers: { cookie } })
    assert.deepEqual([out.status, out.headers.get('location')!.startsWith(issuer.url)], [303, true])
  } finally {
    issuer.isAway = false
  }
})

test('login works behind a proxy that adds a path', async () => {
  const proxy = createServer((incoming, response) => {
    const { hostname, port } = new URL(client.url)
    const headers = {
      ...incoming.headers,
      'x-forwarded-prefix': '/geo',
      'x-forwarded-host': incoming.headers.host!,
    }
    const path = incoming.url!.replace(/^\/geo/, '') || '/'
    const outgoing = forward({ hostname, port, path, method: incoming.method, headers }, (answer) => {
      response.writeHead(answer.statusCode!, answer.headers)
      answer.pipe(response)
    })
    incoming.pipe(outgoing)
  })
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  const address = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}/geo`
  await issuer.allowPages(client.url, second.client.url, address)
  try {
    const { page } = await openPage(browser, new URL(address).origin)
    await page.goto(`${address}${SECRET_ITEM}`)
    await logIn(page, 'ada')
    assert.equal(page.url(), `${address}${SECRET_ITEM}`)
    await page
      .getByRole('cell', { name: /seen|hidden 1|by/ })
      .first()
      .waitFor()
  } finally {
    proxy.closeAllConnections()
    proxy.close()
  }
})

test('without https nobody logs in but on this machine, and without a client there is no login', async () => {
  const far = await client('/login', {
    headers: { 'x-forwarded-host': 'geo.example.org', 'x-forwarded-proto': 'http' },
  })
  assert.deepEqual([far.status, far.json.code], [400, 'login-failed'])
  const secure = await client('/login', {
    headers: { 'x-forwarded-host': 'geo.example.org', 'x-forwarded-proto': 'https' },
  })
  assert.equal(secure.status, 303)
  assert.match(
    secure.headers.get('location')!,
    /redirect_uri=https%3A%2F%2Fgeo\.example\.org%2Flogin%2Fcallback/,
  )
  const plain = await startGateway(...flags.slice(0, 2))
  assert.equal((await plain.client('/login')).status, 404)
  const { text } = await plain.client('/', { headers: { accept: 'text/html' } })
  assert.ok(!text.includes('Log in'))
})
