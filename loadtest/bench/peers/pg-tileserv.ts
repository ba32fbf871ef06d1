// Owns how the benchmark starts pg_tileserv. It serves tiles and no features: its start and its memory are measured.

import type { Peer } from './peer.ts'
import { printedVersion } from './printed-version.ts'

export const pgTileserv: Peer = {
  name: 'pg_tileserv',
  program: 'pg_tileserv',
  versionOf: printedVersion,
  command: ({ port, socket }) => ({
    args: [],
    environment: {
      DATABASE_URL: `host=${socket} user=tessera_read dbname=tessera`,
      TS_HTTPHOST: '127.0.0.1',
      TS_HTTPPORT: String(port),
    },
  }),
  firstPath: '/index.json',
  requestOf: () => undefined,
}
