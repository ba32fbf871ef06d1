// Tests what the recorder reports of the backups: until when everything can be restored, and what of it is wrong.

import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import type pg from 'pg'
import { keepPoint, type Point, type Primaries } from '../backup/points.ts'
import { describeProtection, judgeProtection, type Protection } from '../backup/protection.ts'
import { makeRecorderMetrics } from '../backup/recorder-metrics.ts'
import { openWatch } from '../backup/watch.ts'
import { DEFAULT_SIZE, makeTopology } from '../topology.ts'

const scratch = mkdtempSync(join(tmpdir(), 'tessera-protection-'))
after(() => rmSync(scratch, { recursive: true, force: true }))

const NOW_MS = Date.UTC(2026, 10, 27, 12)
const HOUR_S = 3_600
const ago = (seconds: number) => new Date(NOW_MS - seconds * 1_000).toISOString()
const archive = { isOn: true, waitingFiles: 0, failsSince: null }
const sound: Protection = {
  startedAt: ago(9 * HOUR_S),
  groups: [
    { name: 'c', backupAt: ago(20 * HOUR_S), archive },
    { name: 'w1', backupAt: ago(20 * HOUR_S), archive: { ...archive, waitingFiles: 1 } },
  ],
  restorableUntil: ago(5),
  failure: '',
}
const judge = (facts: Partial<Protection>) => judgeProtection({ ...sound, ...facts }, NOW_MS)
const [coordinator, worker] = sound.groups as [Protection['groups'][number], Protection['groups'][number]]

test('backups that are as they should be are described, and nothing is wrong', () => {
  assert.deepEqual(judge({}), [])
  assert.deepEqual(describeProtection(sound, NOW_MS), [
    'backed up: c 20 h ago, w1 20 h ago',
    'to be archived: c 0 files, w1 1 file',
    `can be restored: everything until 5 s ago (${ago(5)})`,
  ])
})

test('what passes by itself is wrong only after a minute', () => {
  const failing = (seconds: number) => [
    { ...coordinator, archive: { ...archive, waitingFiles: 3, failsSince: ago(seconds) } },
    worker,
  ]
  assert.deepEqual(judge({ groups: failing(50), restorableUntil: ago(50), failure: 'lock timeout' }), [])
  assert.deepEqual(
    judge({ groups: failing(90), restorableUntil: ago(100), failure: 'lock timeout' }).map((one) =>
      one.replace(/: see .*/, ''),
    ),
    [
      'group c has archived nothing for 1 min 30 s, 3 files',
      'changes of the last 1 min 40 s could not be restored: lock timeout',
    ],
  )
  // The recorder has only begun to look.
  assert.deepEqual(judge({ restorableUntil: ago(2 * HOUR_S), startedAt: ago(8) }), [])
  assert.deepEqual(judge({ restorableUntil: null, startedAt: ago(8) }), [])
  assert.deepEqual(judge({ restorableUntil: null }), ['no restore point can be restored yet'])
})

test('a backup that is old or missing is wrong, and so is a group that does not archive', () => {
  const groups = [
    { ...coordinator, backupAt: ago(37 * HOUR_S) },
    { ...worker, backupAt: null, archive: { ...archive, isOn: false } },
  ]
  const found = judge({ groups, restorableUntil: null })
  assert.deepEqual(
    found.map((one) => one.replace(/:.*/, '')),
    [
      'the newest backup of group c is 1 d 13 h old',
      'there is no backup of group w1',
      'group w1 does not archive its log',
    ],
  )
  const [backedUp, , restorable] = describeProtection({ ...sound, groups, restorableUntil: null }, NOW_MS)
  assert.deepEqual(
    [backedUp, restorable],
    ['backed up: c 1 d 13 h ago, w1 never', 'can be restored: nothing'],
  )
})

test('metrics are what the recorder reports', async () => {
  const groups = [
    coordinator,
    { name: 'w1', backupAt: null, archive: { ...archive, waitingFiles: 7, failsSince: ago(1) } },
    { name: 'w2', backupAt: null, archive: { ...archive, isOn: false } },
    { name: 'w3', backupAt: null, archive: null },
  ]
  const text = await makeRecorderMetrics(() => ({ ...sound, groups })).metrics()
  const seconds = NOW_MS / 1_000
  assert.deepEqual(
    text.split('\n').filter((line) => line !== '' && !line.startsWith('#')),
    [
      `tessera_backup_timestamp_seconds{group="c"} ${seconds - 20 * HOUR_S}`,
      'tessera_backup_timestamp_seconds{group="w1"} 0',
      'tessera_backup_timestamp_seconds{group="w2"} 0',
      'tessera_backup_timestamp_seconds{group="w3"} 0',
      'tessera_archive_waiting_files{group="c"} 0',
      'tessera_archive_waiting_files{group="w1"} 7',
      'tessera_archive_waiting_files{group="w2"} 0',
      'tessera_archive_failing{group="c"} 0',
      'tessera_archive_failing{group="w1"} 1',
      'tessera_archive_failing{group="w2"} 1',
      `tessera_restorable_timestamp_seconds ${seconds - 5}`,
    ],
  )
})

const { groups } = makeTopology({ ...DEFAULT_SIZE, workers: 1 })
const fileOf = (number: number) => `00000001000000000000000${number}`

/** Creates a folder of backups, and a program in place of pgBackRest that lists what `copy` has added. */
function makeRepository(name: string) {
  const folder = join(scratch, name)
  mkdirSync(folder)
  const program = join(folder, 'pgbackrest')
  // The second word is --stanza=GROUP.
  writeFileSync(program, `#!/bin/bash\ncat "${folder}/backup/\${2#--stanza=}/backup.info" || echo []\n`, {
    mode: 0o700,
  })
  let stamp = 0
  return {
    watch: openWatch(groups, {
      repository: { folder, key: 'secret', kept: 2 },
      program,
      workFolder: folder,
      account: undefined,
      environment: {},
    }),
    /** Adds a backup of a group that ends with a file of its log. */
    copy(group: string, number: number) {
      mkdirSync(join(folder, 'backup', group), { recursive: true })
      const file = join(folder, 'backup', group, 'backup.info')
      const backup = {
        label: `${group}-${number}`,
        type: 'full',
        timestamp: { start: NOW_MS / 1_000 - 60, stop: NOW_MS / 1_000 },
        archive: { stop: fileOf(number) },
        info: { size: 1, repository: { delta: 1 } },
      }
      writeFileSync(file, JSON.stringify([{ status: { code: 0, message: 'ok' }, backup: [backup] }]))
      stamp += 1
      utimesSync(file, stamp, stamp)
    },
    archive(group: string, number: number) {
      const segments = join(folder, 'archive', group, '15-1', fileOf(number).slice(0, 16))
      mkdirSync(segments, { recursive: true })
      writeFileSync(join(segments, `${fileOf(number)}-0a.zst`), '')
    },
    folder,
  }
}

const pointAt = (number: number): Point => ({
  name: ago(100 - number),
  from: ago(100 - number),
  at: ago(100 - number),
  files: { c: fileOf(number), w1: fileOf(number) },
})
const until = ({ report }: ReturnType<typeof openWatch>) => report('').restorableUntil

test('everything until the newest point that all groups have archived can be restored', async () => {
  const { watch, copy, archive } = makeRepository('points')
  await watch.lookAtBackups()
  watch.add(pointAt(2))
  for (const { name } of groups) archive(name, 2)
  assert.equal(until(watch), null, 'nothing was backed up')
  copy('c', 1)
  await watch.lookAtBackups()
  assert.equal(until(watch), null, 'one group was not backed up')
  copy('w1', 1)
  assert.equal(until(watch), null, 'nobody has looked')
  await watch.lookAtBackups()
  assert.equal(until(watch), pointAt(2).from)
  assert.deepEqual(
    watch.report('').groups.map(({ backupAt }) => backupAt),
    [ago(0), ago(0)],
  )

  watch.add(pointAt(3))
  watch.add(pointAt(4))
  archive('c', 4)
  assert.equal(until(watch), pointAt(2).from)
  archive('w1', 4)
  assert.equal(until(watch), pointAt(4).from)
})

test('if nothing changes, everything until now can be restored, unless the last point is not archived', async () => {
  const { watch, copy, archive } = makeRepository('idle')
  for (const { name } of groups) copy(name, 1)
  await watch.lookAtBackups()
  watch.confirm(ago(20))
  assert.equal(until(watch), null, 'there is no point')
  watch.add(pointAt(2))
  watch.confirm(ago(10))
  assert.equal(until(watch), null, 'the point is not archived')
  for (const { name } of groups) archive(name, 2)
  watch.confirm(ago(5))
  assert.equal(until(watch), ago(5))
  watch.add(pointAt(3))
  watch.confirm(ago(1))
  assert.equal(until(watch), ago(5))
})

test('points of the time before the recorder was started, and of operators, count', async () => {
  const { watch, copy, archive, folder } = makeRepository('again')
  for (const { name } of groups) copy(name, 1)
  keepPoint(folder, pointAt(2), undefined)
  keepPoint(folder, pointAt(3), undefined)
  for (const { name } of groups) archive(name, 2)
  await watch.lookAtBackups()
  assert.equal(until(watch), pointAt(2).from)
})

/** @returns connections to primaries, one of which reports what the test says */
const primariesWith = (state: object): Primaries =>
  new Map(
    groups.map((group) => [
      group,
      {
        query: async () => ({
          rows: [group.name === 'w1' ? state : { isOn: true, waitingFiles: 0, hasFailed: false }],
        }),
      } as unknown as pg.Client,
    ]),
  )

test('an archive fails from the first look that shows it, as long as a file waits', async () => {
  const { watch } = makeRepository('archives')
  const look = async (state: object) => {
    await watch.lookAtArchives(primariesWith({ isOn: true, ...state }))
    return watch.report('').groups.map(({ archive }) => archive?.failsSince ?? null)
  }
  assert.deepEqual(await look({ waitingFiles: 0, hasFailed: true }), [null, null])
  assert.deepEqual(await look({ waitingFiles: 2, hasFailed: false }), [null, null])
  const [sound, since] = await look({ waitingFiles: 2, hasFailed: true })
  assert.equal(sound, null)
  assert.ok(since)
  assert.deepEqual(await look({ waitingFiles: 3, hasFailed: true }), [null, since])
  assert.equal(watch.report('').groups[1]!.archive!.waitingFiles, 3)
  assert.deepEqual(await look({ waitingFiles: 0, hasFailed: true }), [null, null])
})
