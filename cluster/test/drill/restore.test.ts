// The drill of backups: a cluster with writers is backed up, and a primary is lost meanwhile. Then everything is
// destroyed, and restored to a named point: what was acknowledged before it is there, and nothing that was sent after it.

import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { backUp, mark, takeInventory } from '../../backup/backup.ts'
import { restore } from '../../backup/restore.ts'
import { faults } from '../../fault.ts'
import { destroy, findPrimary, startGateways, untilGatewaysServe } from '../../launcher.ts'
import { findPlace, isMade } from '../../place.ts'
import { makeScratch, openTrial, prepareStage } from '../../scenarios/stage.ts'
import { untilWhole } from '../../status.ts'
import { urlOf } from '../../topology.ts'
import { whyNotBackups } from '../requirements.ts'
import { checkRestored, now, write } from './changes.ts'

const BASE_PORT = 31_000
/** First port of the restored cluster: others, so that it must not look for its nodes where the old one had them. */
const NEXT_BASE_PORT = 31_600
/** Milliseconds of writes around each step, so that there is something in all logs. */
const BETWEEN_MS = 2_000
const WHOLE_TIMEOUT_MS = 60_000

test('a cluster that was destroyed is restored to a point of all its groups', {
  skip: whyNotBackups(true),
  timeout: 1_200_000,
}, async (t) => {
  const scratch = makeScratch('drill')
  const [backups, backupKey] = [join(scratch, 'backups'), join(scratch, 'backup.key')]
  const trial = await openTrial({ workers: 2, basePort: BASE_PORT, backups, backupKey }, () => {})
  const { cluster } = trial
  const folder = join(scratch, 'restored')
  let isOver = false
  t.after(async () => {
    isOver = true
    if (isMade(findPlace(folder, {}))) await destroy(findPlace(folder, {}), () => {})
    await trial.close()
    rmSync(scratch, { recursive: true, force: true })
  })
  const { groups } = cluster.place.topology
  const { fresh } = await prepareStage(trial)
  const [, first, second] = groups.map(({ number }) => fresh.get(number)!) as [unknown, number[], number[]]

  const writing = [
    (number: number) => [first[3 * number]!],
    (number: number) => [second[3 * number]!],
    // Both ids are in the same transaction, on both workers.
    (number: number) => [first[3 * number + 1]!, second[3 * number + 1]!],
    (number: number) => [second[3 * number + 2]!, first[3 * number + 2]!],
  ].map((idsOf) => write(cluster, idsOf, () => isOver))

  const told: string[] = []
  await sleep(BETWEEN_MS)
  await backUp(cluster, true, (line) => told.push(line))
  const lost = await findPrimary(groups[1]!)
  const undo = await faults.kill.inject(cluster, lost.name)
  while ((await findPrimary(groups[1]!).catch(() => lost)) === lost) await sleep(200)
  await undo()
  assert.deepEqual(await untilWhole(cluster.place.topology, cluster.credentials, WHOLE_TIMEOUT_MS), [])
  await backUp(cluster, false, (line) => told.push(line))
  await sleep(BETWEEN_MS)
  const begun = now()
  await mark(cluster, 'before-the-loss')
  const ended = now()
  await sleep(BETWEEN_MS)
  const { runs, named, faults: found } = await takeInventory(cluster, true)
  isOver = true
  const changes = (await Promise.all(writing)).flat()
  await destroy(cluster.place, () => {})

  assert.deepEqual(
    told.map((line) => line.replace(/ in .*/, '')),
    ['full', 'incr'].flatMap((type) =>
      groups.map(({ name }) => `${name}: ${type} backup from the secondary`),
    ),
  )
  assert.deepEqual(
    { found, runs: runs.map(({ type }) => type), named: named.map(({ name }) => name) },
    { found: [], runs: ['full', 'incr'], named: ['before-the-loss'] },
  )

  const restored = await restore({
    folder,
    programs: cluster.programs,
    from: backups,
    keyFile: backupKey,
    target: 'before-the-loss',
    size: { basePort: NEXT_BASE_PORT, gateways: 1 },
    report: () => {},
  })
  const { topology } = restored.place
  await checkRestored(restored, changes, begun, ended)

  assert.deepEqual(await untilWhole(topology, restored.credentials, WHOLE_TIMEOUT_MS), [])
  await startGateways(restored)
  await untilGatewaysServe(restored)
  const { host, httpPort } = topology.proxies[0]!
  assert.equal((await fetch(`${urlOf(host, httpPort)}/collections`)).status, 200)
})
