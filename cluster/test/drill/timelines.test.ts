// The drill of timelines: a worker changes its primary by a switchover between two backups, and by a loss after them.
// Then everything is destroyed, and restored to a time after each of these, through the command line.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { backUp } from '../../backup/backup.ts'
import { readPoints } from '../../backup/points.ts'
import { primaryPortOf, withSuperuser } from '../../database-urls.ts'
import { faults } from '../../fault.ts'
import { destroy, findPrimary, switchOver } from '../../launcher.ts'
import { type Cluster, openSecrets } from '../../parts.ts'
import { findPlace, isMade, toolsOf } from '../../place.ts'
import { makeScratch, openTrial, prepareStage } from '../../scenarios/stage.ts'
import { untilWhole } from '../../status.ts'
import { whyNotBackups } from '../requirements.ts'
import { checkRestored, write } from './changes.ts'

const BASE_PORT = 29_000
const NEXT_BASE_PORT = 29_600
/** Milliseconds of writes after each step, so that there are points after it. */
const BETWEEN_MS = 6_000
const WHOLE_TIMEOUT_MS = 60_000
/** Milliseconds that the last point before a time may lie before it: the interval of the recorder, on a busy machine. */
const LOSS_MS = 10_000

const MAIN = join(import.meta.dirname, '../../main.ts')

test('a cluster is restored to times after a switchover and after a failover', {
  skip: whyNotBackups(true),
  timeout: 1_200_000,
}, async (t) => {
  const scratch = makeScratch('drill')
  const [backups, backupKey] = [join(scratch, 'backups'), join(scratch, 'backup.key')]
  const trial = await openTrial({ workers: 1, basePort: BASE_PORT, backups, backupKey }, () => {})
  const { cluster } = trial
  const folder = join(scratch, 'restored')
  let isOver = false
  t.after(async () => {
    isOver = true
    if (isMade(findPlace(folder, {}))) await destroy(findPlace(folder, {}), () => {})
    await trial.close()
    rmSync(scratch, { recursive: true, force: true })
  })
  const { topology } = cluster.place
  const worker = topology.groups[1]!
  const ids = (await prepareStage(trial)).fresh.get(worker.number)!
  const writing = [
    (number: number) => [ids[3 * number]!],
    (number: number) => [ids[3 * number + 1]!, ids[3 * number + 2]!],
  ].map((idsOf) => write(cluster, idsOf, () => isOver))

  await sleep(BETWEEN_MS)
  await backUp(cluster, true, () => {})
  await switchOver(cluster, worker)
  assert.deepEqual(await untilWhole(topology, cluster.credentials, WHOLE_TIMEOUT_MS), [])
  await sleep(BETWEEN_MS)
  const afterSwitchover = new Date()
  await sleep(BETWEEN_MS)
  await backUp(cluster, false, () => {})
  const lost = await findPrimary(worker)
  const undo = await faults.kill.inject(cluster, lost.name)
  while ((await findPrimary(worker).catch(() => lost)) === lost) await sleep(200)
  await undo()
  assert.deepEqual(await untilWhole(topology, cluster.credentials, WHOLE_TIMEOUT_MS), [])
  await sleep(BETWEEN_MS)
  const afterFailover = new Date()
  await sleep(BETWEEN_MS)
  isOver = true
  const changes = (await Promise.all(writing)).flat()
  assert.ok((await timelineOf(cluster)) >= 3)
  await destroy(cluster.place, () => {})

  symlinkSync(toolsOf(findPlace(undefined, {})), `${folder}-tools`)
  for (const [time, timeline] of [
    [afterSwitchover, 2],
    [afterFailover, 3],
  ] as const) {
    const { stdout } = await promisify(execFile)(process.execPath, [
      ...[MAIN, 'restore', '--from', backups, '--backup-key', backupKey, '--to', time.toISOString()],
      ...['--data', folder, '--base-port', String(NEXT_BASE_PORT), '--no-gateway'],
    ])
    const [, date] = /^restoring the point of (\S+) …$/m.exec(stdout) ?? []
    const point = readPoints(backups).find(({ at }) => at === date)
    assert.ok(point, stdout)
    const restored = { ...cluster, place: findPlace(folder, {}) }
    const opened = { ...restored, credentials: await openSecrets(restored.place) }
    const [begun, ended] = [Date.parse(point.from), Date.parse(point.at)]
    assert.ok(
      ended <= time.getTime() && time.getTime() - begun < LOSS_MS,
      `${date} for ${time.toISOString()}`,
    )
    await checkRestored(opened, changes, begun, ended)
    assert.ok((await timelineOf(opened)) > timeline)
    await destroy(opened.place, () => {})
  }
})

/** Returns the timeline that the worker is on. */
const timelineOf = ({ place: { topology }, credentials }: Cluster): Promise<number> =>
  withSuperuser(
    topology,
    credentials,
    async (client) =>
      (await client.query('select timeline_id from pg_control_checkpoint()')).rows[0].timeline_id,
    primaryPortOf(1),
  )
