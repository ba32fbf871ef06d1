// The drill of backups: a cluster with writers is backed up, and a primary is lost meanwhile. Then everything is
// destroyed, and restored to a named point: what was acknowledged before it is there, and nothing that was sent after it.

import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { backUp, mark, takeInventory } from '../../backup/backup.ts'
import { restore } from '../../backup/restore.ts'
import { connect, withSuperuser } from '../../database-urls.ts'
import { faults } from '../../fault.ts'
import { destroy, findPrimary, startGateways, untilGatewaysServe } from '../../launcher.ts'
import type { Cluster } from '../../parts.ts'
import { findPlace, isMade } from '../../place.ts'
import { makeScratch, openTrial, prepareStage } from '../../scenarios/stage.ts'
import { TABLE } from '../../scenarios/traffic.ts'
import { untilWhole } from '../../status.ts'
import { urlOf } from '../../topology.ts'
import { whyNotBackups } from '../requirements.ts'

const BASE_PORT = 31_000
/** First port of the restored cluster: others, so that it must not look for its nodes where the old one had them. */
const NEXT_BASE_PORT = 31_600
const WRITE_TIMEOUT_MS = 5_000
const PAUSE_MS = 10
/** Milliseconds of writes around each step, so that there is something in all logs. */
const BETWEEN_MS = 2_000
const WHOLE_TIMEOUT_MS = 60_000

/** A change: the ids that one transaction inserted, when it was sent, and when it was acknowledged, if it was. */
type Change = { readonly ids: readonly number[]; readonly sentAt: number; acknowledgedAt?: number }

/** Writes changes one after the other until `isOver`. @param idsOf the ids of a change by its number */
async function write(
  { place, credentials }: Cluster,
  idsOf: (number: number) => readonly number[],
  isOver: () => boolean,
): Promise<Change[]> {
  const { host, writePort } = place.topology.proxies[0]!
  const changes: Change[] = []
  const open = async () => {
    const client = await connect(
      credentials,
      'tessera_write',
      { host, port: writePort },
      {
        query_timeout: WRITE_TIMEOUT_MS,
        connectionTimeoutMillis: WRITE_TIMEOUT_MS,
      },
    )
    return { client, warnings: [] as unknown[] }
  }
  let session: Awaited<ReturnType<typeof open>> | undefined
  for (let number = 0; !isOver(); number++) {
    const change: Change = { ids: idsOf(number), sentAt: performance.now() }
    changes.push(change)
    try {
      if (!session) {
        const opened = await open()
        opened.client.on('notice', (notice) => opened.warnings.push(notice))
        session = opened
      }
      const values = change.ids.map((_, index) => `($${index + 1})`).join()
      await session.client.query(`insert into ${TABLE} (id) values ${values}`, [...change.ids])
      // A commit with a warning is not acknowledged.
      if (session.warnings.length > 0) throw new Error('not acknowledged')
      change.acknowledgedAt = performance.now()
    } catch {
      session?.client.end().catch(() => {})
      session = undefined
    }
    await sleep(PAUSE_MS)
  }
  await session?.client.end()
  return changes
}

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
  const begun = performance.now()
  await mark(cluster, 'before-the-loss')
  const ended = performance.now()
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
  const rows = await withSuperuser(topology, restored.credentials, (client) =>
    client.query(`select id::int from ${TABLE}`).then(({ rows }) => rows),
  )
  const there = new Set(rows.map(({ id }) => id))
  const countOf = ({ ids }: Change) => ids.filter((id) => there.has(id)).length
  const before = changes.filter(({ acknowledgedAt = Number.POSITIVE_INFINITY }) => acknowledgedAt < begun)
  const after = changes.filter(({ sentAt }) => sentAt > ended)
  assert.deepEqual(
    before.filter((change) => countOf(change) < change.ids.length),
    [],
    'acknowledged before the point, and lost',
  )
  assert.deepEqual(
    after.filter((change) => countOf(change) > 0),
    [],
    'sent after the point, and there',
  )
  assert.deepEqual(
    changes.filter((change) => countOf(change) % change.ids.length > 0),
    [],
    'there by half',
  )
  // Otherwise the test would prove nothing.
  for (const some of [before, after])
    assert.deepEqual([...new Set(some.map(({ ids }) => ids.length))].toSorted(), [1, 2])

  assert.deepEqual(await untilWhole(topology, restored.credentials, WHOLE_TIMEOUT_MS), [])
  await startGateways(restored)
  await untilGatewaysServe(restored)
  const { host, httpPort } = topology.proxies[0]!
  assert.equal((await fetch(`${urlOf(host, httpPort)}/collections`)).status, 200)
})
