// Some of what the cluster promises, kept under load: a switchover, a crash and a killed node, of one plain pair,
// and where Citus is installed of the whole topology. `npm run scenarios` plays them all, and times them.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { withSuperuser } from '../connection.ts'
import { faults } from '../fault.ts'
import { findPrimary, startGateways, stopGateways, untilGatewaysServe } from '../launcher.ts'
import { addWorker } from '../scale.ts'
import { play } from '../scenarios/play.ts'
import { type Scenario, scenarios, strikePrimary } from '../scenarios/scenarios.ts'
import { openStage, type Stage } from '../scenarios/stage.ts'
import { TABLE } from '../scenarios/traffic.ts'
import { prepareDatabase } from '../schema.ts'
import { readStatus } from '../status.ts'
import { urlOf } from '../topology.ts'
import { whyNot } from './requirements.ts'

const FAULTS = ['switchover', 'crash', 'kill']
/** A machine on which other things run too may need longer; what is lost stays lost however long it takes. */
const PATIENCE = 3
/** Room for a member and its log, and not much more. */
const DISK_MIB = 512

const citus = whyNot(true)
const plain = whyNot(false)

/** Patroni alone would take its ttl of 20 s at the least: who is faster was fenced. */
const FENCED = 18 / 15

/** Plays it, and says what was not kept. */
async function keep(stage: Stage, scenario: Scenario, patience = PATIENCE) {
  const { broken, acknowledged } = await play(stage, scenario, patience)
  assert.deepEqual(broken, [])
  assert.ok(acknowledged > 0)
}

/** Longer than HAProxy takes to leave a gateway that it finds not ready, and a failover takes. */
const READ_SECONDS = 12

/** No answer is lost on the way, and each reader has one in time; 503 says honestly that it is not now. */
async function readThroughFailover({ cluster }: Stage) {
  const { topology } = cluster.place
  startGateways(cluster)
  await untilGatewaysServe(cluster)
  const { host, httpPort } = topology.proxies[0]!
  const undo = await faults.kill.inject(cluster, (await findPrimary(topology.groups[0]!)).name)
  const end = performance.now() + READ_SECONDS * 1_000
  let servedAt = performance.now()
  let longestGapMs = 0
  while (performance.now() < end) {
    const response = await fetch(`${urlOf(host, httpPort)}/collections/cities/items?limit=1`)
    await response.text()
    if (response.ok) {
      longestGapMs = Math.max(longestGapMs, performance.now() - servedAt)
      servedAt = performance.now()
    } else assert.equal(response.status, 503)
    await sleep(20)
  }
  longestGapMs = Math.max(longestGapMs, performance.now() - servedAt)
  await undo()
  await stopGateways(cluster)
  assert.ok(longestGapMs < 3_000, `reads paused ${longestGapMs} ms`)
}

const named = (name: string) => scenarios.find((scenario) => scenario.name === name)!

test('one pair without Citus, under load', { skip: plain, timeout: 400_000 }, async (t) => {
  const isRoot = process.getuid?.() === 0
  const stage = await openStage({ workers: 0, gateways: 1, disk: isRoot ? DISK_MIB : 0 }, () => {})
  t.after(() => stage.close())
  for (const fault of FAULTS) await t.test(fault, () => keep(stage, named(`coordinator-${fault}`)))
  await t.test('reads through a gateway go on while the primary is gone', () => readThroughFailover(stage))
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
  await t.test('it is prepared as soon as all nodes know of all', async () => {
    const { place, credentials } = stage.cluster
    const { topology } = place
    let isPrepared = false
    const setSynced = (is: boolean) =>
      `update pg_dist_node set metadatasynced = ${is} where groupid = 1 and noderole = 'primary'`
    const preparing = await withSuperuser(topology, credentials, async (client) => {
      await client.query(setSynced(false))
      // Meanwhile Citus itself cannot put it right, as it does once a minute.
      await client.query('begin')
      await client.query('lock table pg_dist_node in share mode')
      const prepared = prepareDatabase(topology, credentials, topology.members, () => {}).then(() => {
        isPrepared = true
      })
      await sleep(1_000)
      assert.equal(isPrepared, false)
      await client.query(setSynced(true))
      await client.query('commit')
      return { prepared }
    })
    await preparing.prepared
  })
  await t.test('a frozen primary is fenced', () => keep(stage, named('worker-freeze'), FENCED))
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
