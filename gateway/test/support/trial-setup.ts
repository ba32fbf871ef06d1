// Owns the start of a replicated cluster with the demo data, which a run uses instead of one PostGIS: the same tests
// connect to its write port and its read ports.

import { databaseUrls, gatewayUrl } from '../../../cluster/database-urls.ts'
import { openTrial, type Trial } from '../../../cluster/scenarios/stage.ts'
import type { Size } from '../../../cluster/topology.ts'
import { migrate } from '../../database/migrate.ts'
import { openSession } from '../../database/session.ts'
import { importDemo } from '../../features/import/demo.ts'
import { OWNER_URL, READ_URL, SUPERUSER_URL, WORKER_READ_URL, WRITE_URL } from './database.ts'

/** @returns the trial, whose close() removes the cluster */
export async function setUpTrial(size: Partial<Size>): Promise<Trial> {
  const trial = await openTrial(size, () => {})
  const { place, credentials } = trial.cluster
  const { topology } = place
  // Tests prepare data without the gateway, so without its tokens. With remote_apply secondaries have it at once.
  await trial.query("alter role tessera_owner set synchronous_commit = 'remote_apply'")
  const ownerUrl = databaseUrls(topology, credentials, 'tessera_owner')
  const session = await openSession(ownerUrl, 'test')
  await migrate(session, () => {})
  await importDemo(session, () => {})
  await session.close()
  process.env[READ_URL] = databaseUrls(topology, credentials, 'tessera_read')
  const workerReadUrl = gatewayUrl(topology, credentials, 'tessera_worker_read')
  if (workerReadUrl) process.env[WORKER_READ_URL] = workerReadUrl
  process.env[WRITE_URL] = databaseUrls(topology, credentials, 'tessera_write')
  process.env[OWNER_URL] = ownerUrl
  process.env[SUPERUSER_URL] = databaseUrls(topology, credentials, 'postgres', true)
  return trial
}
