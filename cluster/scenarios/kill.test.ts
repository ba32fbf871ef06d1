// A worker's primary is lost, under load: nothing that was acknowledged is, the other groups go on, and the
// group that was hit writes again by itself.

import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { withSuperuser } from '../connection.ts'
import { killMember } from '../fault.ts'
import { destroy, openSecrets, up } from '../launcher.ts'
import { ClusterError, findPlace, findPrograms, type Programs } from '../place.ts'
import { readStatus } from '../status.ts'
import { startWriters, TABLE } from './writers.ts'

/** The tools of the place where they are usually; the data apart from it. */
const usual = findPlace(undefined, {})
let programs: Programs | undefined
let reason = 'Citus is not installed'
try {
  programs = findPrograms(usual)
} catch (error) {
  if (!(error instanceof ClusterError)) throw error
  reason = error.message
}
const skip = programs?.hasCitus ? false : `SKIPPED, LOUDLY: ${reason}`
if (skip) process.stderr.write(`${skip}\n`)

const scratch = mkdtempSync(join('/var/tmp', 'tessera-scenario-'))
// The cluster's own account passes through; its folder within is closed to all others.
chmodSync(scratch, 0o711)
const place = findPlace(join(scratch, 'cluster'), { basePort: 27_000 })
after(async () => {
  await destroy(place, () => {})
  rmSync(scratch, { recursive: true, force: true })
})

/** Until the leader's key has expired and a secondary has taken it: Patroni's ttl, and a little. */
const FAILOVER_MS = 30_000
/** A statement of another group waits for none of this one; a coordinator does for a moment. */
const OTHERS_GAP_MS = 5_000

test('a worker primary killed under load', { skip, timeout: 240_000 }, async () => {
  await up(place, programs!, (line) => process.stderr.write(`${line}\n`))
  const { topology } = place
  const credentials = await openSecrets(place)
  const port = topology.proxies[0]!.writePort
  const query = async (text: string, values: unknown[] = []) =>
    (await withSuperuser(topology, credentials, { port }, (client) => client.query(text, values))).rows
  await query(`create table ${TABLE} (id bigint primary key, at timestamptz not null default now())`)
  await query(`select create_distributed_table('${TABLE}', 'id')`)
  await query(`grant select, insert on ${TABLE} to tessera_write`)
  const hit = topology.groups[1]!
  const owners = await query(
    `select id, groupid = $1 as is_hit from generate_series(1, 100000) id
     join pg_dist_placement p on p.shardid = get_shard_id_for_distribution_column('${TABLE}', id::bigint)`,
    [hit.number],
  )
  const idsOf = (isHit: boolean) =>
    owners.filter(({ is_hit }) => is_hit === isHit).map(({ id }) => id as number)
  const affected = startWriters(topology, credentials, 4, idsOf(true))
  const unaffected = startWriters(topology, credentials, 4, idsOf(false))
  await sleep(3_000)
  const before = await readStatus(place, credentials)
  assert.deepEqual(before.faults, [])
  const primary = before.members.find(({ group, role }) => group === hit.name && role === 'primary')!
  killMember(place, primary.name)
  const killedAt = performance.now()
  for (;;) {
    const { members } = await readStatus(place, credentials)
    const now = members.find(({ group, role }) => group === hit.name && role === 'primary')
    if (now && now.name !== primary.name && now.registeredAs === 'primary') break
    assert.ok(performance.now() - killedAt < FAILOVER_MS, 'no other member became primary')
    await sleep(200)
  }
  await sleep(5_000)
  const [hitOutcome, otherOutcome] = [await affected.stop(), await unaffected.stop()]
  for (const [name, outcome] of Object.entries({ hit: hitOutcome, others: otherOutcome })) {
    const [row] = await query(`select count(*)::int as found from ${TABLE} where id = any($1)`, [
      outcome.acknowledged,
    ])
    assert.equal(row.found, outcome.acknowledged.length, `${name}: acknowledged rows are missing`)
    process.stderr.write(
      `${name}: ${outcome.acknowledged.length} acknowledged, none lost; longest gap ${Math.round(outcome.longestGapMs)} ms; ${outcome.failures} refused\n`,
    )
  }
  assert.ok(hitOutcome.longestGapMs < FAILOVER_MS, `${hitOutcome.longestGapMs} ms without a write`)
  assert.ok(
    otherOutcome.longestGapMs < OTHERS_GAP_MS,
    `the others stopped for ${otherOutcome.longestGapMs} ms`,
  )
  // It comes back as a secondary when it is started again.
  await up(place, programs!, () => {})
  assert.deepEqual((await readStatus(place, credentials)).faults, [])
})
