// Tests the unit for systemd: its program takes it, it gives little away, and the gateway reports when it serves.

import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, type TestContext, test } from 'node:test'
import { testDatabase } from '../support/database.ts'
import { startTessera } from '../support/process.ts'
import { openRelay } from '../support/relay.ts'
import { until } from '../support/until.ts'

const ROOT = join(import.meta.dirname, '../../..')
const folder = mkdtempSync(join(tmpdir(), 'tessera-systemd-'))
after(() => rmSync(folder, { recursive: true, force: true }))
const written = readFileSync(join(ROOT, 'deploy/systemd/tessera.service'), 'utf8')
/** The unit with the paths of this checkout, whose programs exist. */
const unit = join(folder, 'tessera.service')
writeFileSync(unit, written.replaceAll('/opt/tessera', ROOT))

/** Runs a program of systemd. @returns undefined if it is not installed, which is then reported */
function systemd(t: TestContext, program: string, ...args: string[]) {
  const { error, status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' })
  if (!error) return { status, output: stdout + stderr }
  const reason = `SKIPPED: ${program} is not installed, so the unit for systemd was not tried`
  process.stderr.write(`\n*** ${reason} ***\n\n`)
  t.skip(reason)
  return undefined
}

test('systemd takes the unit without a warning', (t) => {
  const verified = systemd(t, 'systemd-analyze', 'verify', '--man=no', '--recursive-errors=no', unit)
  if (verified) assert.deepEqual(verified, { status: 0, output: '' })
})

/** Exposure of the unit in tenths, from 0 to 100, as systemd counts it: below 20 it calls it "OK". */
const EXPOSURE = 15

test('the unit gives the gateway little of the machine', (t) => {
  const args = ['security', '--offline=true', '--no-pager', `--threshold=${EXPOSURE}`, unit]
  const judged = systemd(t, 'systemd-analyze', ...args)
  if (judged) assert.equal(judged.status, 0, judged.output)
})

/** Prints what is sent to a socket of datagrams, as systemd has one. */
const LISTENER = `
import socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind(sys.argv[1])
print("listening", flush=True)
while True:
    print(listener.recv(4096).decode(), flush=True)
`

test('a gateway that serves reports so to systemd, once', { timeout: 60_000 }, async (t) => {
  if (!systemd(t, 'systemd-notify', '--version')) return
  const socket = join(folder, 'notify.sock')
  const listener = spawn('python3', ['-c', LISTENER, socket], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => listener.kill())
  let heard = ''
  listener.stdout.on('data', (chunk) => {
    heard += chunk
  })
  await once(listener.stdout, 'data')
  const relay = await openRelay(testDatabase().readUrl)
  t.after(() => relay.close())
  relay.cut()
  const tessera = startTessera(['serve', '--port', '0', '--processes', '1'], {
    TESSERA_READ_URL: relay.url,
    NOTIFY_SOCKET: socket,
  })
  await tessera.event('database-awaited')
  assert.equal(heard, 'listening\n')
  relay.mend()
  await tessera.event('gateway-listening')
  await until(() => heard.includes('READY=1'))
  tessera.child.kill('SIGTERM')
  assert.equal(await tessera.ended, 0)
  assert.equal(heard.match(/READY=1/g)?.length, 1)
})

test('a gateway that cannot report to systemd says so and ends', { timeout: 60_000 }, async () => {
  const tessera = startTessera(['serve', '--port', '0', '--processes', '1'], {
    TESSERA_READ_URL: testDatabase().readUrl,
    NOTIFY_SOCKET: join(folder, 'nobody.sock'),
  })
  assert.equal(await tessera.ended, 1)
  assert.match(tessera.output(), /systemd-notify could not report that Tessera serves/)
})
