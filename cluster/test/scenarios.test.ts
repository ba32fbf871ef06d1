// Some of what the cluster promises, kept under load: a switchover, a crash and a killed node, of one plain pair,
// and where Citus is installed of the whole topology. `npm run scenarios` plays them all, and times them.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ClusterError, findPlace, findPrograms } from '../place.ts'
import { addWorker } from '../scale.ts'
import { play } from '../scenarios/play.ts'
import { type Scenario, scenarios, strikePrimary } from '../scenarios/scenarios.ts'
import { openStage, type Stage } from '../scenarios/stage.ts'
import { TABLE } from '../scenarios/traffic.ts'
import { readStatus } from '../status.ts'

const FAULTS = ['switchover', 'crash', 'kill']
/** A machine on which other things run too may need longer; what is lost stays lost however long it takes. */
const PATIENCE = 3
/** Room for a member and its log, and not much more. */
const DISK_MIB = 512

function whyNot(isCitus: boolean): string | false {
  try {
    const { hasCitus } = findPrograms(findPlace(undefined, {}))
    if (hasCitus || !isCitus) return false
    return 'SKIPPED: Citus is not installed; nothing was tried of the replicated Citus cluster'
  } catch (error) {
    if (error instanceof ClusterError) return `SKIPPED: ${error.message}`
    throw error
  }
}

const citus = whyNot(true)
const plain = whyNot(false)
for (const reason of new Set([plain, citus])) if (reason) process.stderr.write(`\n*** ${reason} ***\n\n`)

/** Plays it, and says what was not kept. */
async function keep(stage: Stage, scenario: Scenario) {
  const { broken, acknowledged } = await play(stage, scenario, PATIENCE)
  assert.deepEqual(broken, [])
  assert.ok(acknowledged > 0)
}

const named = (name: string) => scenarios.find((scenario) => scenario.name === name)!

test('one pair without Citus, under load', { skip: plain, timeout: 400_000 }, async (t) => {
  const isRoot = process.getuid?.() === 0
  const stage = await openStage({ workers: 0, disk: isRoot ? DISK_MIB : 0 }, () => {})
  t.after(() => stage.close())
  for (const fault of FAULTS) await t.test(fault, () => keep(stage, named(`coordinator-${fault}`)))
  const skip = isRoot ? false : 'SKIPPED: a small disk takes root'
  await t.test(
    'a full disk loses nothing either, and is left behind when there is space again',
    { skip },
    () =>
      keep(stage, {
        name: 'coordinator-fill-disk',
        group: 'coordinator',
        holdMs: 5_000,
        writesReturn: false,
        inject: strikePrimary('fill-disk'),
      }),
  )
})

test('the replicated Citus cluster, under load', { skip: citus, timeout: 400_000 }, async (t) => {
  const stage = await openStage({}, () => {})
  t.after(() => stage.close())
  for (const fault of FAULTS) await t.test(fault, () => keep(stage, named(`worker-${fault}`)))
  await t.test('one worker more takes its share of the shards, and all rows are there', async () => {
    const count = () => stage.query(`select count(*)::int from ${TABLE}`)
    const before = await count()
    const { place, credentials } = await addWorker(stage.cluster, () => {})
    const { members, rows, faults } = await readStatus(place.topology, credentials)
    assert.deepEqual(faults, [])
    assert.equal(members.length, 10)
    const shares = Object.entries(rows.find(({ table }) => table === TABLE)!.byGroup)
    assert.deepEqual(
      shares.map(([group]) => group),
      ['w1', 'w2', 'w3', 'w4'],
    )
    for (const [group, share] of shares) assert.ok(share > 0, group)
    assert.deepEqual(await count(), before)
  })
})
