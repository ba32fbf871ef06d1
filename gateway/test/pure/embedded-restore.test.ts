// Tests which backup and which timeline lead to a time, and what the names of files of the log mean.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Backup } from '../../database/embedded-backup.ts'
import { choose, parseHistory, segmentOf, type Timeline } from '../../database/embedded-restore.ts'

const at = (hour: number) => new Date(Date.UTC(2026, 10, 27, hour))

const backup = (label: string, hour: number, timeline: number, endLsn: bigint): Backup => ({
  label,
  type: 'full',
  startedAt: at(hour - 1),
  endedAt: at(hour),
  timeline,
  endLsn,
  major: 15,
  databaseBytes: 1,
  addedBytes: 1,
})

/** Backups at 8 and at 12; at 13 the database was returned to 10 o'clock, and was backed up again at 15. */
const backups = [backup('one', 8, 1, 0x1000n), backup('two', 12, 1, 0x3000n), backup('three', 15, 2, 0x4000n)]
const timelines: readonly Timeline[] = [
  { number: 2, begunAt: at(13), parents: [{ number: 1, endLsn: 0x2000n }] },
]
const chosen = (hour: number | undefined, some = backups, others = timelines) => {
  const { backup, timeline } = choose(hour === undefined ? undefined : at(hour), some, others)
  return [backup.label, timeline]
}

test('a time leads to the newest backup before it', () => {
  assert.deepEqual(chosen(9), ['one', 1])
  assert.deepEqual(chosen(12.5), ['two', 1])
  assert.deepEqual(chosen(undefined), ['three', 2])
})

test('a time is looked for on the timeline that the server was on then', () => {
  // What was changed between 10 and 13 o'clock is no part of what came after the restore.
  assert.deepEqual(chosen(12.9), ['two', 1])
  assert.deepEqual(chosen(14), ['one', 2])
  assert.deepEqual(chosen(16), ['three', 2])
})

test('a backup of a part that was given up does not lead to the end of the log', () => {
  assert.deepEqual(chosen(undefined, backups.slice(0, 2)), ['one', 2])
})

test('if no backup leads there, the message names the first one', () => {
  assert.throws(() => chosen(7), /No backup leads to 2026-11-27T07.*the first one ended at 2026-11-27T08/)
  assert.throws(() => chosen(undefined, []), /There is no backup yet; `tessera backup` creates one/)
})

test('a server that was on a later timeline when its backups began', () => {
  const later = [{ number: 3, begunAt: at(7), parents: [{ number: 1, endLsn: 0x10n }] }]
  assert.deepEqual(chosen(9, [backup('first', 8, 3, 0x100n)], later), ['first', 3])
})

test('the history of a timeline is read with all its parents', () => {
  assert.deepEqual(
    parseHistory('1\t0/3000148\tno recovery target specified\n\n2\tA/5000000\tbefore 2000-01-01\n'),
    [
      { number: 1, endLsn: 0x3000148n },
      { number: 2, endLsn: 0xa05000000n },
    ],
  )
})

test('the name of a file of the log follows from an LSN and the size of the files', () => {
  const mebibyte = 2n ** 20n
  assert.equal(segmentOf(1, 0x3000148n, 16n * mebibyte), '000000010000000000000003')
  assert.equal(segmentOf(2, 0x3000148n, 4n * mebibyte), '00000002000000000000000C')
  assert.equal(segmentOf(31, 0xa05000000n, 16n * mebibyte), '0000001F0000000A00000005')
})
