// The drill of a store: the embedded PostGIS archives its log and its backups over TLS in moto, which answers as S3 does,
// except that it takes any credentials. Its folder is lost, and a restore from the store brings it back.

import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { makeClient } from '../support/client.ts'
import { runTessera, startTessera } from '../support/process.ts'
import { until } from '../support/until.ts'

const find = (program: string) =>
  [...(process.env.PATH ?? '').split(':'), '/usr/bin', '/usr/sbin']
    .map((folder) => join(folder, program))
    .find((file) => existsSync(file))
const missing = ['moto_server', 'haproxy', 'pgbackrest', 'openssl'].filter((program) => !find(program))
const reason = `SKIPPED: ${missing.join(', ')} not found; backups in an S3-compatible store were not tested (moto[server] is a Python package)`
if (missing.length > 0) process.stderr.write(`\n*** ${reason} ***\n\n`)

const PLAIN_PORT = 21_300
const PORT = 21_301
const SECRET = 'secretOfTheDrill4711'
const START_MS = 120_000

test('backups in an S3-compatible store survive the loss of the folder', {
  skip: missing.length > 0 ? reason : false,
  timeout: 900_000,
}, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'tessera-test-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const [data, key, ca] = ['data', 'roads.key', 'ca.pem'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ]
  makeCertificate(folder, ca)
  const store = join(folder, 's3.conf')
  writeFileSync(
    store,
    `endpoint=https://localhost:${PORT}\nregion=local\nkey=drill\nsecret=${SECRET}\nca=ca.pem\n`,
  )
  const stopStore = await startStore(folder, ca)
  t.after(stopStore)

  const wishes = ['--backup-to', 's3://backups/roads', '--backup-store', store, '--backup-key', key]
  const serving = ['serve', '--port', '0', '--no-demo', '--processes', '1', '--data', data]
  const tessera = startTessera([...serving, ...wishes])
  const { url } = await tessera.event('gateway-listening')
  assert.equal((await tessera.event('embedded-archiving')).folder, 's3://backups/roads')
  const imported = await runTessera(
    ['import', '-', '--data', data, '--collection', 'roads'],
    '{"type":"Feature","geometry":{"type":"Point","coordinates":[0,0]},"properties":{"n":0}}\n',
  )
  assert.equal(imported.code, 0, imported.output)
  await until(async () => (await fetch(`${url}/collections/roads`)).status === 200, START_MS)
  const create = async (n: number) => {
    const response = await fetch(`${url}/collections/roads/items`, {
      method: 'POST',
      headers: { 'content-type': 'application/geo+json' },
      body: JSON.stringify({
        type: 'Feature',
        geometry: { type: 'Point', coordinates: [0, 0] },
        properties: { n },
      }),
    })
    assert.equal(response.status, 201)
  }

  let isOver = false
  const seen = watchCommandLines(() => isOver)
  const backup = await runTessera(['backup', '--data', data])
  assert.match(backup.output, /^full backup in .* added to s3:\/\/backups\/roads$/m)
  await create(1)
  const target = new Date()
  await create(2)
  tessera.child.kill('SIGTERM')
  assert.equal(await tessera.ended, 0)
  const listed = await runTessera(['backups', '--data', data, '--verify', '--json'])
  assert.deepEqual([listed.code, JSON.parse(listed.output).faults], [0, []])

  const other = await runTessera([...serving.slice(0, -1), join(folder, 'other'), ...wishes])
  assert.equal(other.code, 1)
  assert.match(
    other.output,
    /s3:\/\/backups\/roads has the backups of another database; choose another folder/,
  )

  // The folder is lost, and with it what it knew of its backups.
  rmSync(data, { recursive: true })
  const restore = (...words: string[]) =>
    runTessera(['restore', '--data', data, '--from', 's3://backups/roads', '--backup-key', key, ...words])
  const unnamed = await restore()
  assert.match(unnamed.output, /needs a file with its endpoint and its credentials: --backup-store FILE/)
  const wrong = join(folder, 'wrong.conf')
  writeFileSync(wrong, readFileSync(store, 'utf8').replace('ca=ca.pem\n', ''))
  const untrusted = await restore('--backup-store', wrong)
  assert.equal(untrusted.code, 1)
  assert.match(untrusted.output, /certificate/)
  assert.ok(!existsSync(data))
  const restored = await restore('--backup-store', store, '--to', target.toISOString())
  assert.equal(restored.code, 0, restored.output)
  isOver = true
  const again = startTessera(serving)
  const client = makeClient((await again.event('gateway-listening')).url)
  const { json } = await client('/collections/roads/items')
  assert.deepEqual(
    json.features.map(({ properties }: { properties: { n: number } }) => properties.n).toSorted(),
    [0, 1],
  )
  again.child.kill('SIGTERM')
  assert.equal(await again.ended, 0)

  // A server whose store is away serves, and reports it.
  const wishesOfNext = wishes.map((word) => word.replace('roads', 'next'))
  const next = startTessera([...serving, ...wishesOfNext])
  await next.event('embedded-archiving')
  next.child.kill('SIGTERM')
  assert.equal(await next.ended, 0)
  await stopStore()
  const alone = startTessera(serving)
  await alone.event('gateway-listening')
  assert.equal((await alone.event('archive-missing')).folder, 's3://backups/next')
  alone.child.kill('SIGTERM')
  assert.equal(await alone.ended, 0)

  const shown = [await seen, tessera.output(), backup.output, listed.output, other.output, restored.output]
  assert.ok(!shown.join('\n').includes(SECRET), 'the secret is in a log, or in the list of processes')
  assert.match(shown[0]!, /pgbackrest --config=\S+ --stanza=embedded backup/)
})

/** Creates an authority and a certificate of localhost. */
function makeCertificate(folder: string, ca: string) {
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' })
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', ca, '-days', '2', '-subj', '/CN=drill')
  openssl('req', ...key, '-keyout', 'server.key', '-out', 'server.csr', '-subj', '/CN=localhost')
  writeFileSync(join(folder, 'server.ext'), 'subjectAltName=DNS:localhost\n')
  const signing = ['-CA', ca, '-CAkey', 'ca.key', '-CAcreateserial', '-extfile', 'server.ext', '-days', '2']
  openssl('x509', '-req', '-in', 'server.csr', '-out', 'server.pem', ...signing)
}

/**
 * Starts moto with a bucket, behind HAProxy, because the TLS of its own server breaks off without a word.
 * @returns what ends both
 */
async function startStore(folder: string, ca: string): Promise<() => Promise<void>> {
  const certificate = join(folder, 'both.pem')
  const parts = ['server.pem', 'server.key'].map((name) => readFileSync(join(folder, name), 'utf8'))
  writeFileSync(certificate, parts.join(''))
  const configuration = join(folder, 'haproxy.cfg')
  writeFileSync(
    configuration,
    `defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
listen store
  bind 127.0.0.1:${PORT} ssl crt ${certificate}
  server moto 127.0.0.1:${PLAIN_PORT}
`,
  )
  const children = [
    spawn(find('moto_server')!, ['-H', '127.0.0.1', '-p', String(PLAIN_PORT)], { stdio: 'ignore' }),
    spawn(find('haproxy')!, ['-db', '-f', configuration], { stdio: 'ignore' }),
  ]
  const ended = Promise.all(children.map((child) => once(child, 'close')))
  const create = ['-s', '-o', '/dev/null', '-w', '%{http_code}', '--cacert', ca, '-X', 'PUT']
  const hasBucket = () => {
    for (const { exitCode, spawnfile } of children) assert.equal(exitCode, null, `${spawnfile} has ended`)
    const { stdout } = spawnSync('curl', [...create, `https://localhost:${PORT}/backups`], {
      encoding: 'utf8',
    })
    return stdout === '200'
  }
  await until(hasBucket, START_MS)
  return async () => {
    for (const child of children) child.kill('SIGTERM')
    await ended
  }
}

/** Collects the command lines of all processes until `isOver`. */
async function watchCommandLines(isOver: () => boolean): Promise<string> {
  const lines = new Set<string>()
  while (!isOver()) {
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      try {
        lines.add(readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' '))
      } catch {
        // The process has ended.
      }
    }
    await sleep(50)
  }
  return [...lines].join('\n')
}
