// What interrupts the first start of a group: the member that initializes its database dies, etcd falls silent before
// the database is ready, and the member that copies it dies. The group must come up without a person in any case.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { faults } from '../fault.ts'
import type { Cluster } from '../parts.ts'
import { dataFolderOf } from '../place.ts'
import { findLeftovers } from '../scenarios/aftermath.ts'
import { openTrial } from '../scenarios/stage.ts'
import { untilWhole } from '../status.ts'
import { whyNot } from './requirements.ts'

const LOOK_MS = 2
const TIMEOUT_MS = 60_000
/** Longer than Patroni tries to reach etcd again. */
const SILENCE_MS = 15_000

/** Waits until a member's data has a file. @returns the member's name and a function that finds files in its data */
async function untilOneHas({ place }: Cluster, file: string, except?: string) {
  const candidates = place.topology.members
    .filter(({ name }) => name !== except)
    .map(({ name }) => ({ name, has: (file: string) => existsSync(join(dataFolderOf(place, name), file)) }))
  for (const deadline = performance.now() + TIMEOUT_MS; performance.now() < deadline; await sleep(LOOK_MS)) {
    const found = candidates.find(({ has }) => has(file))
    if (found) return found
  }
  return assert.fail(`no member has ${file}`)
}

test('a first start goes on after each interruption', {
  skip: whyNot(false),
  timeout: 300_000,
}, async (t) => {
  const interrupt = async (cluster: Cluster) => {
    const initializing = await untilOneHas(cluster, 'PG_VERSION')
    const startAgain = await faults.kill.inject(cluster, initializing.name)
    assert.ok(
      !initializing.has('postmaster.opts'),
      'the database was initialized before its member was killed',
    )
    await startAgain()

    const first = await untilOneHas(cluster, 'postmaster.opts')
    const { store } = cluster.place.topology
    const thaws = await Promise.all(store.map(({ name }) => faults.freeze.inject(cluster, name)))
    await sleep(SILENCE_MS)
    for (const thaw of thaws) await thaw()

    const copying = await untilOneHas(cluster, 'base', first.name)
    const copyAgain = await faults.kill.inject(cluster, copying.name)
    assert.ok(!copying.has('global/pg_control'), 'the database was copied before its member was killed')
    await copyAgain()
  }
  const { cluster, close } = await openTrial({ workers: 0, gateways: 0 }, () => {}, interrupt)
  t.after(close)
  assert.deepEqual(await untilWhole(cluster.place.topology, cluster.credentials, TIMEOUT_MS), [])
  assert.deepEqual(await findLeftovers(cluster), [])
})
