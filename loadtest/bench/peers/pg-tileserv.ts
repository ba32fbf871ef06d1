// Owns how the benchmark starts and asks pg_tileserv. It serves tiles and no features.

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
  requestOf: ({ table, tile }) => tile && { path: `/${table}/${tile.level}/${tile.column}/${tile.row}.pbf` },
}
