// Tests backups of the embedded PostGIS: a table is dropped while clients write, and the database returns to the moment
// before, next to what there is and in its place.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { archiveNow } from '../../database/embedded-restore.ts'
import { openSession } from '../../database/session.ts'
import { makeClient } from '../support/client.ts'
import { processesOf, runTessera, startTessera, type Tessera } from '../support/process.ts'
import { until } from '../support/until.ts'

const hasPgBackRest = [...(process.env.PATH ?? '').split(':'), '/usr/bin'].some((folder) =>
  existsSync(join(folder, 'pgbackrest')),
)
const reason = 'SKIPPED: pgBackRest is not installed; backups of the embedded PostGIS were not tested'
if (!hasPgBackRest) process.stderr.write(`\n*** ${reason} ***\n\n`)
const options = { skip: hasPgBackRest ? false : reason }

/** Closed to other users, like root's home: pgBackRest runs as another user, and must get there all the same. */
const folder = mkdtempSync(join(tmpdir(), 'tessera-test-'))
const data = join(folder, 'data')
const backups = join(folder, 'backups')
const serving = ['serve', '--port', '0', '--no-demo', '--processes', '1']

after(() => {
  isOver = true
  for (const one of [folder, temporary]) rmSync(one, { recursive: true, force: true })
})

/** Milliseconds within which a busy machine does something small. */
const PATIENCE_MS = 60_000

type Change = { readonly n: number; readonly sentAt: number; acknowledgedAt?: number }

const now = () => performance.timeOrigin + performance.now()

const create = (url: string, n: number) =>
  fetch(`${url}/collections/roads/items`, {
    method: 'POST',
    headers: { 'content-type': 'application/geo+json' },
    body: JSON.stringify({
      type: 'Feature',
      geometry: { type: 'Point', coordinates: [0, 0] },
      properties: { n },
    }),
  })

/** Creates features one after the other, as several clients, until `isOver`. */
function write(url: string, isOver: () => boolean): readonly Change[] {
  const changes: Change[] = []
  const client = async () => {
    while (!isOver()) {
      const change: Change = { n: changes.length, sentAt: now() }
      changes.push(change)
      const response = await create(url, change.n).catch(() => undefined)
      if (response?.status === 201) change.acknowledgedAt = now()
      await response?.arrayBuffer()
      await sleep(2)
    }
  }
  for (let index = 0; index < 3; index++) client()
  return changes
}

/** Compares what is served with what had been acknowledged by a time. */
async function check(url: string, changes: readonly Change[], time: Date) {
  const { json } = await makeClient(url)('/collections/roads/items?limit=10000')
  const there = new Set(json.features.map(({ properties }: { properties: { n: number } }) => properties.n))
  const acknowledged = changes.filter(({ acknowledgedAt = Infinity }) => acknowledgedAt < time.getTime())
  const later = changes.filter(({ sentAt }) => sentAt > time.getTime() + 1)
  assert.deepEqual(
    acknowledged.filter(({ n }) => !there.has(n)),
    [],
    'acknowledged before, and lost',
  )
  assert.deepEqual(
    later.filter(({ n }) => there.has(n)),
    [],
    'sent later, and there',
  )
  // Otherwise the test would prove nothing.
  assert.ok(acknowledged.length > 0 && later.length > 0, `${acknowledged.length} and ${later.length} changes`)
}

async function stop(tessera: Tessera) {
  tessera.child.kill('SIGTERM')
  assert.equal(await tessera.ended, 0)
}

/** Serves a folder for as long as `work` needs it. */
async function whileServing(of: string, work: (url: string) => Promise<void>, ...flags: string[]) {
  const tessera = startTessera([...serving, '--data', of, ...flags])
  await work((await tessera.event('gateway-listening')).url)
  await stop(tessera)
}

/** Folder of temporary files, which the account of PostgreSQL can pass. */
const temporary = mkdtempSync(join(tmpdir(), 'tessera-test-'))
chmodSync(temporary, 0o711)
const restore = (...words: string[]) =>
  runTessera(['restore', '--data', data, ...words], undefined, { TMPDIR: temporary })
const filesOf = (of: string) => readdirSync(of).sort()

let changes: readonly Change[] = []
let isOver = false
let beforeTheMistake: Date
let afterTheMistake: Date

before(
  async () => {
    if (!hasPgBackRest) return
    const tessera = startTessera([...serving, '--data', data, '--backup-to', backups])
    const { url } = await tessera.event('gateway-listening')
    const { socket } = await tessera.event('embedded-started')
    const archiving = await tessera.event('embedded-archiving')
    assert.deepEqual([archiving.folder, archiving.hasBackups], [backups, false])
    const imported = await runTessera(
      ['import', '-', '--data', data, '--collection', 'roads'],
      '{"type":"Feature","geometry":{"type":"Point","coordinates":[0,0]},"properties":{"n":-1}}\n',
    )
    assert.equal(imported.code, 0, imported.output)
    await until(async () => (await fetch(`${url}/collections/roads`)).status === 200, PATIENCE_MS)
    changes = write(url, () => isOver)
    await until(() => changes.length > 20, PATIENCE_MS)
    const backup = await runTessera(['backup', '--data', data])
    assert.equal(backup.code, 0, backup.output)
    assert.match(backup.output, /^full backup in .* MB of .* MB added to /m)
    const count = changes.length
    await until(() => changes.length > count + 50, PATIENCE_MS)
    beforeTheMistake = new Date()
    await until(() => changes.length > count + 100, PATIENCE_MS)
    const owner = await openSession(
      `postgresql://tessera_owner@/tessera?host=${encodeURIComponent(socket)}`,
      'test',
    )
    afterTheMistake = new Date()
    await owner.query('drop table roads')
    await owner.close()
    isOver = true

    const refused = await restore('--to', beforeTheMistake.toISOString())
    assert.equal(refused.code, 1)
    assert.match(
      refused.output,
      /is in use by another Tessera: stop that one, or restore next to it with --into/,
    )
    const beside = join(folder, 'beside')
    const restored = await restore('--to', beforeTheMistake.toISOString(), '--into', beside)
    assert.equal(restored.code, 0, restored.output)
    assert.deepEqual(filesOf(beside), ['lock', 'pg'])
    await whileServing(beside, (url) => check(url, changes, beforeTheMistake))
    assert.equal((await fetch(`${url}/collections/roads`)).status, 404, 'what there is has not changed')
    await stop(tessera)
  },
  { timeout: 300_000 },
)

test('a database returns to the moment before a mistake, in its place', options, async () => {
  const { code, output } = await restore('--to', beforeTheMistake.toISOString())
  assert.equal(code, 0, output)
  const [, former] = /^what was there before is in (\S+):/m.exec(output) ?? []
  assert.ok(former && existsSync(join(former, 'PG_VERSION')), output)
  rmSync(former, { recursive: true })
  await whileServing(data, (url) => check(url, changes, beforeTheMistake))
  assert.deepEqual(filesOf(data), ['backups.json', 'lock', 'pg', 'postgres.log'])
  assert.deepEqual(processesOf(data), [])
})

test('after that the log goes on, and the end of it has what came after the restore', options, async () => {
  await whileServing(data, async (url) => {
    assert.equal((await create(url, -2)).status, 201)
  })
  const { code, output } = await restore()
  assert.equal(code, 0, output)
  await whileServing(data, async (url) => {
    await check(url, changes, beforeTheMistake)
    assert.equal((await makeClient(url)('/collections/roads/items?n=-2')).json.numberMatched, 1)
  })
})

test('a time after the one that was returned to leads to what there was then', options, async () => {
  const beside = join(folder, 'then')
  const { code, output } = await restore('--to', afterTheMistake.toISOString(), '--into', beside)
  assert.equal(code, 0, output)
  await whileServing(beside, (url) => check(url, changes, afterTheMistake))
})

test('backups are listed and read, and old ones are removed with their log', options, async () => {
  const list = async (...words: string[]) => {
    const { code, output } = await runTessera(['backups', '--data', data, '--json', ...words])
    return { code, ...JSON.parse(output) }
  }
  assert.deepEqual((await list('--verify')).faults, [])
  for (const words of [['--backups-kept', '1'], ['--full'], []])
    assert.equal((await runTessera(['backup', '--data', data, ...words])).code, 0)
  const { code, backups: found } = await list('--verify')
  assert.deepEqual([code, ...found.map(({ type }: { type: string }) => type)], [0, 'full', 'incr'])
  const segments = readdirSync(join(backups, 'archive/embedded'), { recursive: true, encoding: 'utf8' })
  assert.deepEqual(
    segments.filter((name) => /\/00000001[0-9A-F]{16}-/.test(name)),
    [],
    'the log of the first timeline is gone',
  )
  const shown = await runTessera(['backups', '--data', data])
  assert.match(shown.output, /restore can go to any time from 20\S+ on; the log is archived until 20\S+ in /)
})

test('a restore that fails leaves nothing behind', options, async () => {
  const into = join(folder, 'never/here')
  const refuse = async (pattern: RegExp, ...words: string[]) => {
    const { code, output } = await restore('--into', into, ...words)
    assert.equal(code, 1, output)
    assert.match(output, pattern)
    assert.ok(!existsSync(join(folder, 'never')))
  }
  await refuse(
    /No backup leads to 2020-01-01T00:00:00.000Z; the first one ended at 20/,
    '--to',
    '2020-01-01T00:00:00Z',
  )
  await refuse(/--to=2099-01-01: must be a time in the past/, '--to', '2099-01-01')
  await refuse(/--to=yesterday: must be a time/, '--to', 'yesterday')
  const wrong = join(folder, 'wrong.key')
  writeFileSync(wrong, 'wrong\n')
  await refuse(
    /The backups cannot be read, perhaps with another key/,
    '--from',
    backups,
    '--backup-key',
    wrong,
  )
  assert.deepEqual(filesOf(temporary), [])
})

test('a file that the archived log lacks is not taken for its end', options, async () => {
  await whileServing(data, async (url) => {
    for (let count = 0; count < 3; count++) {
      const response = await create(url, -10 - count)
      assert.equal(response.status, 201)
      await archiveNow(data)
    }
  })
  const copy = join(folder, 'copy')
  execFileSync('cp', ['-a', backups, copy])
  const archive = join(copy, 'archive/embedded')
  const segments = readdirSync(archive, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\/[0-9A-F]{24}-/.test(name))
    .toSorted()
  rmSync(join(archive, segments.at(-2)!))
  const into = join(folder, 'gap')
  const { code, output } = await restore('--into', into, '--from', copy, '--backup-key', `${data}-backup.key`)
  assert.equal(code, 1, output)
  assert.match(output, /The archived log breaks off at [0-9A-F]{24}, before [0-9A-F]{24}\. .*--to/)
  assert.ok(!existsSync(into))
})

test('what the backups may lack is not given up, and no other database is mixed in', options, async () => {
  const tessera = startTessera([...serving, '--data', data])
  await tessera.event('gateway-listening')
  const server = Number(readFileSync(join(data, 'pg/postmaster.pid'), 'utf8').split('\n')[0])
  tessera.child.kill('SIGKILL')
  process.kill(server, 'SIGKILL')
  await tessera.ended
  const refused = await restore()
  assert.equal(refused.code, 1)
  assert.match(
    refused.output,
    /PostgreSQL in \S+ was not stopped, so that the backups may lack its last changes/,
  )
  await whileServing(data, async () => {})
  assert.equal((await restore()).code, 0)
  const other = await runTessera([...serving, '--data', join(folder, 'other'), '--backup-to', backups])
  assert.equal(other.code, 1)
  assert.match(other.output, /has the backups of another database; choose another folder/)
  await whileServing(data, async () => {}, '--backup-to', 'none')
  assert.match((await runTessera(['backups', '--data', data])).output, /has no backups/)
})
