// The drill of a store: SeaweedFS serves S3 over TLS, the embedded PostGIS archives its log and its backups there, its
// folder is lost, and a restore from the store brings it back. The credentials are seen nowhere.

import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { makeClient } from '../support/client.ts'
import { runTessera, startTessera } from '../support/process.ts'
import { until } from '../support/until.ts'

const missing = ['weed', 'pgbackrest', 'openssl'].filter(
  (program) =>
    !`${process.env.PATH ?? ''}:/usr/bin`.split(':').some((folder) => existsSync(join(folder, program))),
)
const reason = `SKIPPED: ${missing.join(', ')} not found; backups in an S3-compatible store were not tested (weed is SeaweedFS)`
if (missing.length > 0) process.stderr.write(`\n*** ${reason} ***\n\n`)

/** First of the ports of SeaweedFS, which uses those 10,000 above them, too. */
const BASE_PORT = 21_300
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
    `endpoint=https://localhost:${BASE_PORT + 4}\nregion=local\nkey=drill\nsecret=${SECRET}\nca=ca.pem\n`,
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
  writeFileSync(wrong, readFileSync(store, 'utf8').replace(SECRET, 'wrong'))
  assert.equal((await restore('--backup-store', wrong)).code, 1)
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

/** Starts SeaweedFS with a bucket. @returns what ends it */
async function startStore(folder: string, ca: string): Promise<() => Promise<void>> {
  const identities = [
    {
      name: 'drill',
      credentials: [{ accessKey: 'drill', secretKey: SECRET }],
      actions: ['Admin', 'Read', 'Write', 'List', 'Tagging'],
    },
  ]
  writeFileSync(join(folder, 'identities.json'), JSON.stringify({ identities }))
  mkdirSync(join(folder, 'store'))
  const options: Record<string, string | number | boolean> = {
    dir: join(folder, 'store'),
    ip: '127.0.0.1',
    'ip.bind': '127.0.0.1',
    bucket: 'backups',
    webdav: false,
    'admin.ui': false,
    'master.telemetry': false,
    'master.port': BASE_PORT,
    'volume.port': BASE_PORT + 1,
    'filer.port': BASE_PORT + 2,
    's3.port': BASE_PORT + 3,
    's3.port.https': BASE_PORT + 4,
    's3.port.iceberg': 0,
    's3.port.lance': 0,
    's3.config': join(folder, 'identities.json'),
    's3.cert.file': join(folder, 'server.pem'),
    's3.key.file': join(folder, 'server.key'),
  }
  const args = ['mini', ...Object.entries(options).map(([name, value]) => `-${name}=${value}`)]
  const child = spawn('weed', args, {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, HOME: folder },
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (output += text))
  const ended = once(child, 'close')
  const isUp = () => {
    assert.equal(child.exitCode, null, output)
    try {
      const url = `https://localhost:${BASE_PORT + 4}/backups`
      const code = execFileSync('curl', ['-s', '-o', '/dev/null', '-w', '%{http_code}', '--cacert', ca, url])
      // Without credentials.
      return code.toString() === '403'
    } catch {
      return false
    }
  }
  await until(isUp, START_MS)
  return async () => {
    child.kill('SIGTERM')
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
