// Tests the configurations of proxies with the programs that this machine has.

import assert from 'node:assert/strict'
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import type { IncomingHttpHeaders } from 'node:http'
import { request } from 'node:https'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { after, type TestContext, test } from 'node:test'
import { openSession } from '../../gateway/database/session.ts'
import { createApiKey } from '../../gateway/features/access/api-key.ts'
import { testDatabase } from '../../gateway/test/support/database.ts'
import { startGateway } from '../../gateway/test/support/gateway.ts'
import { until } from '../../gateway/test/support/until.ts'

const NAME = 'gis.example.org'
const { client, session, catalog } = await startGateway()
const gateway = new URL(client.url).host
const folder = mkdtempSync(join(tmpdir(), 'tessera-proxies-'))
after(() => rmSync(folder, { recursive: true, force: true }))
await session.query('create table example_loads (id int primary key, geom geometry(Point, 4326), name text)')
await catalog.reload()
const owner = await openSession(testDatabase().ownerUrl, 'test')
after(async () => {
  await owner.query('delete from tessera.api_key')
  await owner.close()
})

const read = (name: string) => readFileSync(join(import.meta.dirname, '../proxies', name), 'utf8')
/** Programs of servers are in /usr/sbin, which the PATH of a user may lack. */
const PATH = [process.env.PATH, '/usr/sbin'].join(delimiter)
const isThere = (program: string) => spawnSync(program, ['-h'], { env: { PATH } }).error === undefined

function skip(t: TestContext, program: string) {
  const reason = `SKIPPED: ${program} is not installed, so its configuration was not tried`
  process.stderr.write(`\n*** ${reason} ***\n\n`)
  t.skip(reason)
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

/** Starts a proxy, and waits until it answers. It ends with the test. */
async function start(t: TestContext, port: number, program: string, ...args: string[]) {
  const child = spawn(program, args, {
    env: { ...process.env, PATH, HOME: folder, XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk) => {
      output += chunk
    })
  t.after(() => end(child))
  await until(async () => {
    assert.equal(child.exitCode, null, output)
    return (await ask(port, '/health/live').catch(() => undefined))?.status === 200
  }, 20_000)
}

async function end(child: ChildProcess) {
  if (child.exitCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGTERM')
  await ended
}

type Answer = { status: number; headers: IncomingHttpHeaders; text: string }

/** Sends a request to a proxy, as a client that believes any certificate. */
const ask = (
  port: number,
  path: string,
  options: { method?: string; headers?: object; body?: string } = {},
) =>
  new Promise<Answer>((resolve, reject) => {
    const sent = request(
      {
        ...{ host: '127.0.0.1', port, path, method: options.method ?? 'GET' },
        ...{ servername: NAME, rejectUnauthorized: false },
        headers: { host: `${NAME}:${port}`, ...options.headers },
      },
      async (response) => {
        const chunks: Buffer[] = []
        try {
          for await (const chunk of response) chunks.push(chunk)
          const text = Buffer.concat(chunks).toString()
          resolve({ status: response.statusCode!, headers: response.headers, text })
        } catch (error) {
          reject(error)
        }
      },
    )
    sent.on('error', reject)
    sent.end(options.body)
  })

/** Checks what a proxy in front of a gateway must do, with one that lacks TESSERA_PUBLIC_URL and so believes its headers. */
async function checkProxy(port: number) {
  const forged = {
    'x-forwarded-host': 'evil.example',
    'x-forwarded-prefix': '/evil',
    'x-forwarded-port': '666',
    'x-forwarded-proto': 'http',
    'x-forwarded-for': '127.0.0.1',
    forwarded: 'for=127.0.0.1;host=evil.example',
  }
  const { links } = JSON.parse((await ask(port, '/collections?f=json', { headers: forged })).text)
  for (const { href } of links) assert.ok(href.startsWith(`https://${NAME}`), href)
  assert.doesNotMatch(JSON.stringify(links), /evil|666/)

  // Clients that come through it are not on this machine.
  const feature = { type: 'Feature', id: 1, geometry: null, properties: { name: 'a' } }
  const change = (body: object, headers: object, type = 'application/geo+json') =>
    ask(port, '/collections/example_loads/items', {
      method: 'POST',
      headers: { 'content-type': type, ...headers },
      body: JSON.stringify(body),
    })
  assert.equal((await change(feature, { 'x-forwarded-for': '127.0.0.1' })).status, 401)

  // A body that is larger than proxies take by default, and a collection that is larger than they buffer.
  const key = await createApiKey(owner, {
    name: 'example',
    canWrite: true,
    canManage: false,
    collections: undefined,
  })
  const many = {
    type: 'FeatureCollection',
    features: Array.from({ length: 3000 }, (_, id) => ({
      ...feature,
      id,
      properties: { name: 'n'.repeat(1000) },
    })),
  }
  const stored = await change(many, { authorization: `Bearer ${key}` })
  assert.deepEqual([stored.status, JSON.parse(stored.text).numberStored], [201, 3000], stored.text)
  await session.query('truncate example_loads')
  await owner.query('delete from tessera.api_key')
  const { text, status } = await ask(port, '/collections/cities/items.csv?limit=none&properties=name')
  assert.deepEqual([status, text.trim().split('\n').length > 171_000], [200, true], text.slice(0, 500))
}

test('nginx serves over TLS, forwards what it must, and removes what clients may not say', async (t) => {
  if (!isThere('nginx')) return skip(t, 'nginx')
  const port = await freePort()
  const [certificate, key] = [join(folder, 'certificate.pem'), join(folder, 'key.pem')]
  execFileSync(
    'openssl',
    ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'].concat([
      '-subj',
      `/CN=${NAME}`,
      '-keyout',
      key,
      '-out',
      certificate,
    ]),
    { stdio: 'ignore' },
  )
  const site = join(folder, 'tessera.conf')
  writeFileSync(
    site,
    read('nginx.conf')
      .replace('127.0.0.1:8080', gateway)
      .replace('listen 443 ssl', `listen 127.0.0.1:${port} ssl`)
      .replace(`/etc/ssl/${NAME}.pem`, certificate)
      .replace(`/etc/ssl/${NAME}.key`, key),
  )
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${join(folder, name)};`,
  )
  const all = join(folder, 'nginx.conf')
  writeFileSync(
    all,
    `${process.getuid?.() === 0 ? 'user root;' : ''} daemon off; pid ${join(folder, 'nginx.pid')}; error_log stderr; events {}
    http { access_log off; ${paths.join(' ')} include ${site}; }`,
  )
  await start(t, port, 'nginx', '-e', 'stderr', '-c', all)
  await checkProxy(port)
  return undefined
})

test('Caddy serves over TLS, forwards what it must, and removes what clients may not say', async (t) => {
  if (!isThere('caddy')) return skip(t, 'Caddy')
  const port = await freePort()
  const file = join(folder, 'Caddyfile')
  // A certificate of its own authority, because nobody can be asked for one for this name.
  const local = `{\n  admin off\n  skip_install_trust\n  auto_https disable_redirects\n}\nhttps://${NAME}:${port} {\n  bind 127.0.0.1\n  tls internal\n`
  const given = read('Caddyfile')
  writeFileSync(file, given.replace('127.0.0.1:8080', gateway).replace(`${NAME} {\n`, local))
  await start(t, port, 'caddy', 'run', '--adapter', 'caddyfile', '--config', file)
  await checkProxy(port)
  return undefined
})

test('Traefik serves, forwards what it must, and removes what clients may not say', async (t) => {
  if (!isThere('traefik')) return skip(t, 'Traefik')
  const port = await freePort()
  const [settings, routes] = [join(folder, 'traefik.yml'), join(folder, 'traefik-routes.yml')]
  // Its own certificate, because nobody can be asked for one for this name.
  writeFileSync(
    routes,
    read('traefik-routes.yml')
      .replace('127.0.0.1:8080', gateway)
      .replace(/tls:\n +certResolver: .*/, 'tls: {}'),
  )
  writeFileSync(
    settings,
    read('traefik.yml')
      .replace('":443"', `"127.0.0.1:${port}"`)
      .replace('filename: traefik-routes.yml', `filename: ${routes}`)
      .replace(/\ncertificatesResolvers:\n(?: .*\n)+/, '\n'),
  )
  await start(t, port, 'traefik', `--configFile=${settings}`)
  await checkProxy(port)
  return undefined
})
