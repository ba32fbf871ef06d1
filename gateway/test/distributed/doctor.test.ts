// Tests `tessera doctor` on the database of the run, also on Citus, whose nodes it examines as well.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Report } from '../../commands/doctor/examination.ts'
import { testDatabase } from '../support/database.ts'
import { runTessera } from '../support/process.ts'

test('servers, roles and the demo data are examined, and are sound', async () => {
  const { readUrl, writeUrl, ownerUrl, workerReadUrl } = testDatabase()
  const { output } = await runTessera(['doctor', '--json'], undefined, {
    TESSERA_READ_URL: readUrl,
    TESSERA_WRITE_URL: writeUrl,
    TESSERA_OWNER_URL: ownerUrl,
    ...(workerReadUrl ? { TESSERA_WORKER_READ_URL: workerReadUrl } : {}),
  })
  const { findings, examined } = JSON.parse(/^\{.*\}$/m.exec(output)![0]) as Report
  // Everything is slow on a machine that is busy.
  const isOfDemo = ({ subject, check }: Report['findings'][number]) =>
    ['cities', 'countries', 'counties'].includes(subject) && check !== 'slow-collection'
  assert.deepEqual(findings.filter(isOfDemo), [])
  const ofServers =
    /^(unreachable|connection-refused|wrong-member|citus-nodes?|node-versions|no-secondary|clock|encoding|migrations|extension-.*|postgis-missing)$/
  assert.deepEqual(
    findings.filter(({ check }) => ofServers.test(check)),
    [],
  )
  // With Citus, the nodes behind the two ports have been examined, too: the coordinators and three pairs of workers.
  assert.ok(workerReadUrl ? examined.servers >= 8 : examined.servers === 1, String(examined.servers))
})
