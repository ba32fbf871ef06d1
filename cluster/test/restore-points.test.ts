// Tests which restore point is chosen, what a restored group begins with, and when a file of the log counts as
// archived.

import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Backup, choosePoint } from '../backup/backup.ts'
import { isArchived, keepPoint, type Point, readPoints, removePointsBefore } from '../backup/points.ts'
import { claimRepository } from '../backup/repository.ts'
import { restore } from '../backup/restore.ts'
import { renderNodes, renderPatroni } from '../patroni-config.ts'
import { findPlace, makePlace, type Programs } from '../place.ts'
import { DEFAULT_SIZE, makeTopology } from '../topology.ts'
import { credentials } from './credentials.ts'

const scratch = mkdtempSync(join(tmpdir(), 'tessera-points-'))
after(() => rmSync(scratch, { recursive: true, force: true }))

const minute = (number: number, second = 0) => new Date(Date.UTC(2026, 10, 27, 12, number, second))
const point = (number: number, name?: string): Point => ({
  name: name ?? minute(number).toISOString(),
  from: minute(number).toISOString(),
  at: minute(number, 1).toISOString(),
  files: { c: `00000001000000000000000${number}`, w1: `00000001000000000000000${number}` },
})
const backup = (group: string, number: number, type = 'full'): Backup => ({
  group,
  label: `${group}-${number}`,
  type,
  run: `run-${number}`,
  startedAt: minute(number - 1),
  endedAt: minute(number),
  lastFile: `00000001000000000000000${number}`,
  databaseBytes: 1,
  addedBytes: 1,
})
const points = [point(2), point(4, 'before-import'), point(6), point(8)]
const backups = [backup('c', 3), backup('c', 5), backup('w1', 3), backup('w1', 7)]
const isThere = (_: string, file: string) => file < '000000010000000000000008'

test('the last point until a time is restored, each group from its newest backup before it', () => {
  const { point, sets } = choosePoint(minute(7).toISOString(), points, backups, isThere)
  assert.equal(point, points[2])
  assert.deepEqual(sets, { c: 'c-5', w1: 'w1-3' })
})

test('a restore that finds nothing to restore leaves nothing behind', async () => {
  const [from, keyFile, folder] = ['empty', 'empty.key', 'nothing'].map((name) => join(scratch, name)) as [
    string,
    string,
    string,
  ]
  mkdirSync(from)
  writeFileSync(join(from, 'tessera-backups.json'), JSON.stringify({ folder, size: DEFAULT_SIZE }))
  writeFileSync(keyFile, 'key\n')
  const programs = { pgbackrest: 'pgbackrest' } as Programs
  const options = { folder, programs, from, keyFile, target: undefined, size: {}, report: () => {} }
  await assert.rejects(restore(options), /There is no restore point/)
  // Its backups are listed, too, and that fails.
  keepPoint(from, point(2), undefined)
  await assert.rejects(
    restore({ ...options, programs: { pgbackrest: '/nowhere' } as Programs }),
    /could not info/,
  )
  assert.ok(!existsSync(folder))
})

test('a point with a name is restored as it is', () => {
  const { point, sets } = choosePoint('before-import', points, backups, isThere)
  assert.equal(point, points[1])
  assert.deepEqual(sets, { c: 'c-3', w1: 'w1-3' })
})

test('without a target, the last point that all groups have archived is restored', () => {
  assert.equal(choosePoint(undefined, points, backups, isThere).point, points[2])
  const isThereAtOne = (group: string, file: string) => group === 'c' || file < '000000010000000000000005'
  assert.equal(choosePoint(undefined, points, backups, isThereAtOne).point, points[1])
})

test('a target that cannot be restored is refused with the reason', () => {
  const refuse = (target: string | undefined, copied: readonly Backup[], pattern: RegExp) =>
    assert.throws(() => choosePoint(target, points, copied, isThere), pattern)
  refuse(points[3]!.name, backups, /cannot be restored: group c has not archived its log/)
  refuse(minute(3).toISOString(), backups, /No point until .*: no backup of group c is older/)
  refuse(
    'before-import',
    [backup('c', 3)],
    /before-import cannot be restored: no backup of group w1 is older/,
  )
  refuse('before-lunch', backups, /There is no restore point before-lunch; --to takes the name/)
  refuse('2020-01-01', backups, /There is no restore point until 2020-01-01/)
})

test('a backup leads to points of later files of the log, on whatever timeline', () => {
  const setOf = (file: string) =>
    choosePoint('before-import', points, [...backups, { ...backup('c', 9), lastFile: file }], isThere).sets.c
  assert.equal(setOf('000000010000000000000004'), 'c-3')
  assert.equal(setOf('000000020000000000000003'), 'c-9')
})

test('points are read as they were kept, and a line that was not completed is left out', () => {
  const folder = join(scratch, 'kept')
  for (const [index, one] of points.entries()) {
    if (index > 0) appendFileSync(join(folder, 'points/2026-11-27.jsonl'), '{"name":"broken","files":{}')
    keepPoint(folder, one, undefined)
  }
  assert.deepEqual(readPoints(folder), points)
  removePointsBefore(folder, minute(30))
  assert.equal(readPoints(folder).length, points.length)
  removePointsBefore(folder, new Date('2026-11-28T00:00:00Z'))
  assert.deepEqual(readPoints(folder), [])
})

const SEGMENT = '000000010000000000000007'

/** Creates an archive, and programs in place of PostgreSQL's and pgBackRest's. @returns how the script is run */
function makeArchive(name: string, state: string) {
  const folder = join(scratch, name)
  const segments = join(folder, 'archive/c/15-1', SEGMENT.slice(0, 16))
  mkdirSync(segments, { recursive: true })
  const program = (file: string, text: string) => {
    writeFileSync(join(folder, file), `#!/bin/bash\n${text}\n`, { mode: 0o700 })
    return join(folder, file)
  }
  const controldata = program('controldata', `echo 'Database cluster state:               ${state}'`)
  const pgbackrest = program('pgbackrest', `echo "$@" > '${folder}/pushed'`)
  const script = join(import.meta.dirname, '../node/archive-segment.sh')
  const words = [
    script,
    join(folder, 'archive/c'),
    controldata,
    '/data',
    pgbackrest,
    '/p.conf',
    'c',
    `pg_wal/${SEGMENT}`,
  ]
  return {
    folder,
    words: [...words, SEGMENT],
    add: (ending: string) => writeFileSync(join(segments, `${SEGMENT}-${ending}`), ''),
    isPushed: () => existsSync(join(folder, 'pushed')),
  }
}

test('a primary pushes a finished file of its log', () => {
  const { folder, words } = makeArchive('primary', 'in production')
  assert.equal(spawnSync('bash', words).status, 0)
  assert.equal(
    readFileSync(join(folder, 'pushed'), 'utf8').trim(),
    `--config=/p.conf --stanza=c archive-push pg_wal/${SEGMENT}`,
  )
})

test('a secondary keeps a finished file until the archive has it, and never pushes it', async () => {
  const { folder, words, add, isPushed } = makeArchive('secondary', 'in archive recovery')
  add('0a1b.zst.pgbackrest.tmp')
  assert.equal(isArchived(folder, 'c', SEGMENT), false)
  assert.equal(spawnSync('bash', words).status, 1)
  const waiting = spawn('bash', words)
  const ended = once(waiting, 'exit')
  await sleep(300)
  assert.equal(waiting.exitCode, null)
  add('0a1b.zst')
  assert.deepEqual(await ended, [0, null])
  assert.equal(isArchived(folder, 'c', SEGMENT), true)
  assert.equal(isArchived(folder, 'w1', SEGMENT), false)
  assert.equal(isPushed(), false)
})

const repository = { folder: '/b', key: 'secret', kept: 2 }

test('only a cluster with backups archives its log, and only one that is restored begins with a backup', () => {
  const topology = makeTopology(DEFAULT_SIZE)
  const place = { folder: '/m', postgresBinaries: '/p', configFolder: '/c' }
  const render = (more: object) =>
    JSON.parse(renderPatroni(topology, topology.members[2]!, credentials, { ...place, ...more }))
  const plain = render({})
  assert.equal(plain.postgresql.parameters.archive_mode, undefined)
  assert.equal(plain.bootstrap.method, undefined)
  const archive = { program: '/bin/pgbackrest', repository }
  const { archive_mode, archive_command } = render({ archive }).postgresql.parameters
  assert.equal(archive_mode, 'always')
  assert.match(archive_command, /^bash '\/c\/archive-segment\.sh' '\/b\/archive\/w1' .* 'w1' '%p' '%f'$/)
  const recovery = { ...archive, point: 'before-import', sets: { w1: '20261127-120000F' } }
  const { bootstrap } = render({ recovery })
  assert.equal(bootstrap.method, 'backup')
  assert.match(bootstrap.backup.command, /'--stanza=w1' '--set=20261127-120000F' '--type=none' 'restore'$/)
  assert.equal(bootstrap.backup.recovery_conf.recovery_target_name, 'before-import')
  assert.doesNotMatch(JSON.stringify([bootstrap, archive_command]), /secret/)
})

test('a restored node is told the addresses of its own cluster, and no password of the old one', () => {
  const text = renderNodes(makeTopology({ ...DEFAULT_SIZE, workers: 1, basePort: 40_000 }))
  assert.match(text, /values \(0, 40250\), \(1, 40252\)/)
  assert.match(text, /delete from pg_dist_authinfo/)
})

test('a folder has the backups of one cluster, outside of its own folder', () => {
  const backupKey = join(scratch, 'own.key')
  const placeOf = (name: string, backups: string) => ({
    ...findPlace(join(scratch, name), { backups: join(scratch, backups), backupKey }),
    account: undefined,
  })
  const first = placeOf('first', 'own')
  claimRepository(first)
  const key = readFileSync(backupKey, 'utf8')
  assert.ok(key.length > 60)
  makePlace(first)
  claimRepository(first)
  assert.equal(readFileSync(backupKey, 'utf8'), key)
  assert.throws(
    () => claimRepository(placeOf('second', 'own')),
    /backups of another cluster, which was in .*first/,
  )
  assert.throws(() => claimRepository(placeOf('third', 'third/backups')), /within the cluster's folder/)
  // A cluster that is restored in the same place would mix its log with that of the old one.
  mkdirSync(join(scratch, 'own/archive'))
  claimRepository(first)
  rmSync(join(scratch, 'first'), { recursive: true })
  assert.throws(() => claimRepository(first), /backups of another cluster, which was in .*first/)
})
