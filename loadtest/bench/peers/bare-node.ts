// Owns how the benchmark starts and asks the bare server: what Node.js and the driver cost by themselves.

import { join } from 'node:path'
import type { Ask } from './ask.ts'
import type { Peer } from './peer.ts'

export const bareNode: Peer = {
  name: 'bare Node.js',
  program: process.execPath,
  versionOf: async () => process.version.slice(1),
  command: ({ port, socket }) => ({
    args: [join(import.meta.dirname, 'bare-server.ts')],
    environment: { PORT: String(port), PGHOST: socket, PGUSER: 'tessera_write', PGDATABASE: 'tessera' },
  }),
  firstPath: requestOf({ table: 'bench.cities', id: 1 }).path,
  readsManaged: true,
  requestOf,
}

function requestOf({ corner, ...ask }: Ask) {
  const [x, y] = corner ?? []
  const query = new URLSearchParams()
  for (const [name, value] of Object.entries({ ...ask, x, y }))
    if (value !== undefined) query.set(name, String(value))
  const path = `/?${query}`
  return ask.change ? { method: 'POST', path } : { path }
}
