// Owns how the benchmark starts and asks pg_featureserv.

import { type Ask, boxOf, COUNTRIES } from './ask.ts'
import type { Peer, Walk } from './peer.ts'
import { printedVersion } from './printed-version.ts'

const itemsOf = (table: string) => `/collections/${table}/items`
/** It refuses larger pages, so this is the whole of any table here. */
const EVERYTHING = 100_000_000

export const pgFeatureserv: Peer = {
  name: 'pg_featureserv',
  program: 'pg_featureserv',
  versionOf: printedVersion,
  command: ({ port, socket }) => ({
    args: [],
    environment: {
      DATABASE_URL: `host=${socket} user=tessera_read dbname=tessera`,
      PGFS_SERVER_HTTPHOST: '127.0.0.1',
      PGFS_SERVER_HTTPPORT: String(port),
      PGFS_PAGING_LIMITMAX: String(EVERYTHING),
    },
  }),
  firstPath: `${itemsOf('bench.cities')}/1.json`,
  requestOf,
  paging: pagesOf,
  export: (table) => pagesOf(table, EVERYTHING),
  // Its pool loses a connection for each client that leaves during a query; once it has lost all, it hangs.
  startsEachTurn: true,
}

/** It has no links to the next page, and pages by offset keep their features only in an order. */
function pagesOf(table: string, limit: number): Walk {
  let offset = 0
  const path = () => `${itemsOf(table)}.json?limit=${limit}&sortby=id&offset=${offset}`
  return {
    first: path(),
    next: ({ features }) => {
      offset += features
      return features === limit ? path() : undefined
    },
  }
}

function requestOf({ table, id, country, above, ...ask }: Ask) {
  if (ask.change) return undefined
  if (id !== undefined) return { path: `${itemsOf(table)}/${id}.json` }
  const query = new URLSearchParams({ limit: String(ask.limit) })
  const box = boxOf({ table, ...ask })
  if (country !== undefined) query.set('country', COUNTRIES[country - 1]!)
  if (above !== undefined) query.set('filter', `population > ${above} AND INTERSECTS(geom, ENVELOPE(${box}))`)
  else if (box) query.set('bbox', box.join())
  return { path: `${itemsOf(table)}.json?${query}` }
}
