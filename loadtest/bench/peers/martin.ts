// Owns how the benchmark starts and asks Martin, without its cache. It serves tiles and no features.

import type { Peer } from './peer.ts'
import { printedVersion } from './printed-version.ts'

export const martin: Peer = {
  name: 'Martin',
  program: 'martin',
  versionOf: printedVersion,
  command: ({ port, socket }) => ({
    args: [
      '--listen-addresses',
      `127.0.0.1:${port}`,
      '--cache-size',
      '0',
      `postgresql://tessera_read@/tessera?host=${encodeURIComponent(socket)}`,
    ],
    environment: {},
  }),
  firstPath: '/catalog',
  requestOf: ({ table, tile }) =>
    tile && { path: `/${table.split('.').at(-1)}/${tile.level}/${tile.column}/${tile.row}` },
}
