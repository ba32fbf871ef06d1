// Owns the database of a run on one server: a real PostGIS with the demo data, which is stopped at the end of the run.

import { type Embedded, startEmbedded } from '../../database/embedded.ts'
import { migrate } from '../../database/migrate.ts'
import { openSession } from '../../database/session.ts'
import { importDemo } from '../../features/import/demo.ts'
import { OWNER_URL, READ_URL, SUPERUSER_URL, WRITE_URL } from './database.ts'

let embedded: Embedded | undefined

export async function globalSetup() {
  const emit = () => {}
  embedded = await startEmbedded({
    folder: undefined,
    binaries: undefined,
    path: process.env.PATH ?? '',
    backups: { folder: undefined, store: undefined, keyFile: undefined, kept: undefined },
    canShare: false,
    emit,
  })
  const session = await openSession(embedded.ownerUrl, 'test')
  await migrate(session, emit)
  await importDemo(session, emit)
  await session.close()
  process.env[READ_URL] = embedded.readUrl
  process.env[WRITE_URL] = embedded.writeUrl
  process.env[OWNER_URL] = embedded.ownerUrl
  process.env[SUPERUSER_URL] = embedded.readUrl.replace('tessera_read@', 'postgres@')
}

export async function globalTeardown() {
  await embedded?.stop()
}
