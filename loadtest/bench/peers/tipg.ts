// Owns how the benchmark starts and asks tipg, with uvicorn of the same virtual environment.

import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { run } from '../measure.ts'
import { type Ask, boxOf, COUNTRIES } from './ask.ts'
import { nextLink, type Peer } from './peer.ts'

const itemsOf = (table: string) => `/collections/${table}/items`
const EVERYTHING = 100_000_000

export const tipg: Peer = {
  name: 'tipg',
  program: 'uvicorn',
  versionOf: (program) =>
    run(join(dirname(program), 'python'), ['-c', 'import tipg; print(tipg.__version__)']).then(
      ({ stdout }) => stdout.trim(),
      () => undefined,
    ),
  command: ({ port, socket }) => ({
    args: [
      'tipg.main:app',
      '--port',
      String(port),
      '--workers',
      String(availableParallelism()),
      '--log-level',
      'error',
    ],
    environment: {
      DATABASE_URL: `postgresql://tessera_read@${encodeURIComponent(socket)}/tessera`,
      TIPG_DB_SCHEMAS: '["bench"]',
      TIPG_MAX_FEATURES_PER_QUERY: String(EVERYTHING),
    },
  }),
  firstPath: `${itemsOf('bench.cities')}/1`,
  requestOf,
  // Pages by offset keep their features only in an order.
  paging: (table, limit) => ({
    first: `${itemsOf(table)}?f=geojson&sortby=id&limit=${limit}`,
    next: ({ text }) => nextLink(text),
  }),
  export: (table) => ({
    first: `${itemsOf(table)}?f=geojsonseq&limit=${EVERYTHING}`,
    next: () => undefined,
  }),
}

function requestOf({ table, id, country, above, ...ask }: Ask) {
  if (ask.change) return undefined
  if (id !== undefined) return { path: `${itemsOf(table)}/${id}?f=geojson` }
  const query = new URLSearchParams({ f: 'geojson', limit: String(ask.limit) })
  const box = boxOf({ table, ...ask })
  if (country !== undefined) query.set('country', COUNTRIES[country - 1]!)
  if (above !== undefined && box) {
    const [west, south, east, north] = box
    const ring = `${west} ${south},${east} ${south},${east} ${north},${west} ${north},${west} ${south}`
    query.set('filter', `population > ${above} AND S_INTERSECTS(geom, POLYGON((${ring})))`)
    query.set('filter-lang', 'cql2-text')
  } else if (box) query.set('bbox', box.join())
  return { path: `${itemsOf(table)}?${query}` }
}
