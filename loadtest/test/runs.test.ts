// Tests every script: the real k6 runs it for a moment against a real gateway.

import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { startGateway } from '../bench/measure.ts'
import { findK6 } from '../k6.ts'
import type { Summary } from '../summary.ts'

const MAIN = join(import.meta.dirname, '../main.ts')
const USERS = 4
const NAMES = ['read', 'write', 'mixed', 'read-your-writes', 'session', 'soak', 'spike', 'failover']
const WRITERS = ['write', 'mixed', 'read-your-writes', 'soak', 'spike', 'failover']

const skip = findK6()
  ? false
  : 'SKIPPED: k6 is not installed (npm run loadtest -- setup installs it), so no load test was run'
if (skip) process.stderr.write(`\n*** ${skip} ***\n\n`)

const results = mkdtempSync(join(tmpdir(), 'tessera-loadtest-'))
after(() => rmSync(results, { recursive: true, force: true }))
const run = promisify(execFile)

let gateway: Awaited<ReturnType<typeof startGateway>> | undefined
before(async () => {
  if (!skip) gateway = await startGateway(['--ephemeral', '--processes', '1'])
})
after(() => gateway?.stop())

const environmentOf = (environment: Record<string, string>) => ({
  ...process.env,
  TARGET: gateway?.url ?? '',
  RESULTS: results,
  USERS: String(USERS),
  SPAWN_RATE: '4',
  // Speed is not tested here.
  P95: '60000',
  RUN_TIME: '5',
  FAULT: 'none',
  ...environment,
})

/** @returns its exit code and its output */
async function loadtest(args: readonly string[], environment: Record<string, string> = {}) {
  const env = environmentOf(environment)
  return run(process.execPath, [MAIN, ...args], { env }).then(
    ({ stdout }) => ({ code: 0, text: stdout }),
    ({ code, stdout, stderr }) => ({ code: code as number, text: `${stdout}${stderr}` }),
  )
}

const readSummary = (name: string): Summary => {
  const folder = readdirSync(results).find(
    (entry) => entry.endsWith(`Z-${name}`) || entry.endsWith(`-${name}`),
  )!
  return JSON.parse(readFileSync(join(results, folder, 'summary.json'), 'utf8'))
}

test('each script is served, leaves nothing behind and reports what it measured', {
  skip,
  timeout: 300_000,
}, async (t) => {
  // All at once, which takes only as long as one of them.
  const ended = await Promise.all(NAMES.map(async (name) => ({ name, ...(await loadtest([name])) })))
  for (const { name, code, text } of ended)
    await t.test(name, () => {
      assert.equal(code, 0, text)
      const summary = readSummary(name)
      assert.deepEqual(summary.errors, {})
      assert.equal(summary.left, 0)
      assert.ok(summary.thresholds.length > 0 && summary.thresholds.every(({ isMet }) => isMet))
      assert.equal(summary.reads.count > 0, name !== 'write')
      assert.equal(summary.writes.count > 0, WRITERS.includes(name))
      assert.ok(
        summary.reads.count === 0 || (summary.reads.p50 > 0 && summary.reads.p99 >= summary.reads.p95),
      )
      assert.match(text, /reads\/s, /)
    })

  await t.test('four fifths of the requests of mixed are reads', () => {
    const { readShare, reads, writes } = readSummary('mixed')
    // Each user may have stopped in the middle of its proportion.
    const tolerance = 1 + (100 * 3 * USERS) / (reads.count + writes.count)
    assert.ok(Math.abs(readShare - 80) <= tolerance, String(readShare))
  })

  await t.test('no feature that was written is left', async () => {
    for (const name of WRITERS) {
      const { mark } = readSummary(name).settings
      const url = `${gateway!.url}/collections/cities/items?name=${encodeURIComponent(mark)}`
      const { features } = (await (await fetch(url)).json()) as { features: unknown[] }
      assert.deepEqual(features, [], name)
    }
  })

  await t.test('two results can be compared', async () => {
    const [one, other] = ['read', 'mixed'].map(
      (name) => readdirSync(results).find((entry) => entry.endsWith(`-${name}`))!,
    )
    const { code, text } = await loadtest(['compare', one!, other!])
    assert.equal(code, 0, text)
    assert.match(text, /requests per second/)
    assert.match((await loadtest(['compare', one!, 'none'])).text, /There is no result none; there are /)
  })
})

test('a threshold that is not met is reported, and the exit code is 1', { skip }, async () => {
  const { code, text } = await loadtest(['read'], { RUN_TIME: '1', P95: '1' })
  assert.equal(code, 1, text)
  assert.match(text, /✖ http_req_duration\{kind:read\}: p\(95\)<1$/m)
})

test('a run that is interrupted twice still cleans up', { skip, timeout: 60_000 }, async () => {
  const RUN_MARK = 'of one who was interrupted'
  const child = spawn(process.execPath, [MAIN, 'write'], {
    env: environmentOf({ RUN_TIME: '60', RUN_MARK }),
    // In a process group of its own, so that the signal reaches its children too, as in a terminal.
    detached: true,
  })
  const ended = once(child, 'exit')
  const countWritten = async () => {
    const query = new URLSearchParams({ name: RUN_MARK })
    const answer = await fetch(`${gateway!.url}/collections/cities/items?${query}`)
    return ((await answer.json()) as { features: unknown[] }).features.length
  }
  while ((await countWritten()) === 0) await sleep(50)
  process.kill(-child.pid!, 'SIGINT')
  await sleep(20)
  // The run may have cleaned up and ended by then.
  if (child.exitCode === null) process.kill(-child.pid!, 'SIGINT')
  const [code] = await ended
  assert.notEqual(code, 0)
  assert.equal(await countWritten(), 0)
})

test('an invalid call is reported before anything is run', { skip }, async () => {
  const wrong: readonly (readonly [string[], Record<string, string>, RegExp])[] = [
    [['rea'], {}, /^There is no rea\.\n\n.*npm run loadtest -- NAME/],
    [['read'], { USERS: 'x' }, /^USERS=x: must be a whole number/],
    [['failover'], { FAULT: 'earthquake' }, /^FAULT=earthquake: must be one of kill, /],
    [['read'], { TARGET: 'http://127.0.0.1:1' }, /^No gateway answers at TARGET=http:\/\/127\.0\.0\.1:1\./],
    [
      ['read'],
      { COLLECTION: 'nothing' },
      /returned 404: COLLECTION must be a collection that the gateway serves\.$/m,
    ],
  ]
  for (const [args, environment, message] of wrong) {
    const { code, text } = await loadtest(args, environment)
    assert.equal(code, 2, text)
    assert.match(text, message)
  }
})
