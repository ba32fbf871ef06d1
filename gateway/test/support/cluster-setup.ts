// Boots a whole replicated Citus cluster with the demo data for the run, in the place of one PostGIS: the same
// tests, through its write port and its read port.

import { databaseUrls, gatewayUrl } from '../../../cluster/connection.ts'
import { findPrimary } from '../../../cluster/launcher.ts'
import { setParameters } from '../../../cluster/patroni-api.ts'
import { openTrial, type Trial } from '../../../cluster/scenarios/stage.ts'
import { migrate } from '../../database/migrate.ts'
import { openSession } from '../../database/session.ts'
import { importDemo } from '../../features/demo.ts'
import { OWNER_URL, READ_URL, SUPERUSER_URL, WORKER_READ_URL, WRITE_URL } from './database.ts'

let trial: Trial | undefined

export async function globalSetup() {
  trial = await openTrial({}, () => {})
  const { place, credentials } = trial.cluster
  const { topology } = place
  // These tests read what they have just written. Until reads are causal, a commit waits for its secondary's replay.
  for (const group of topology.groups) {
    const parameters = { synchronous_commit: 'remote_apply' }
    await setParameters(await findPrimary(group), parameters, credentials.patroniPassword)
  }
  const ownerUrl = databaseUrls(topology, credentials, 'tessera_owner')
  const session = await openSession(ownerUrl, 'test')
  await migrate(session, () => {})
  await importDemo(session, () => {})
  await session.close()
  process.env[READ_URL] = databaseUrls(topology, credentials, 'tessera_read')
  process.env[WORKER_READ_URL] = gatewayUrl(topology, credentials, 'tessera_worker_read')
  process.env[WRITE_URL] = databaseUrls(topology, credentials, 'tessera_write')
  process.env[OWNER_URL] = ownerUrl
  process.env[SUPERUSER_URL] = databaseUrls(topology, credentials, 'postgres', true)
}

export async function globalTeardown() {
  await trial?.close()
}
