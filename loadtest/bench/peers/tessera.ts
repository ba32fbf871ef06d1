// Owns how the benchmark starts and asks Tessera.

import { readFile } from 'node:fs/promises'
import { TESSERA } from '../measure.ts'
import { type Ask, boxOf, COUNTRIES } from './ask.ts'
import { nextLink, type Peer } from './peer.ts'

const itemsOf = (table: string) => `/collections/${table.replace(/^public\./, '')}/items`

export const tessera: Peer = {
  name: 'Tessera',
  program: process.execPath,
  versionOf: async () =>
    JSON.parse(await readFile(new URL('../../../package.json', import.meta.url), 'utf8')).version,
  command: ({ port, socket }) => {
    const urlOf = (role: string) => `postgresql://${role}@/tessera?host=${encodeURIComponent(socket)}`
    return {
      args: [TESSERA, 'serve', '--port', String(port), '--no-demo'],
      environment: {
        // What others make for each request, it must make, too.
        TESSERA_TILE_CACHE: '0',
        TESSERA_READ_URL: urlOf('tessera_read'),
        TESSERA_WRITE_URL: urlOf('tessera_write'),
        TESSERA_OWNER_URL: urlOf('tessera_owner'),
      },
    }
  },
  firstPath: `${itemsOf('bench.cities')}/1`,
  readsManaged: true,
  requestOf,
  paging: (table, limit) => ({
    first: `${itemsOf(table)}?limit=${limit}`,
    next: ({ text }) => nextLink(text),
  }),
  export: (table) => ({ first: `${itemsOf(table)}?limit=10000`, next: ({ text }) => nextLink(text) }),
}

function requestOf({ table, id, tile, ...ask }: Ask) {
  const path = itemsOf(table)
  if (tile)
    return { path: path.replace(/items$/, `tiles/WebMercatorQuad/${tile.level}/${tile.row}/${tile.column}`) }
  if (ask.change === 'insert')
    return {
      method: 'POST',
      path,
      headers: { 'content-type': 'application/geo+json' },
      body: JSON.stringify({
        type: 'Feature',
        geometry: { type: 'Point', coordinates: ask.corner },
        properties: { name: 'New Town', country: 'XX', admin1: '01', population: ask.population },
      }),
    }
  if (ask.change === 'update')
    return {
      method: 'PATCH',
      path: `${path}/${id}`,
      headers: { 'content-type': 'application/merge-patch+json' },
      body: JSON.stringify({ properties: { population: ask.population } }),
    }
  if (id !== undefined) return { path: `${path}/${id}` }
  const query = new URLSearchParams({ limit: String(ask.limit) })
  const box = boxOf({ table, ...ask })
  if (ask.country !== undefined) query.set('country', COUNTRIES[ask.country - 1]!)
  if (ask.above !== undefined)
    query.set('filter', `population > ${ask.above} AND S_INTERSECTS(geom, BBOX(${box}))`)
  else if (box) query.set('bbox', box.join())
  return { path: `${path}?${query}` }
}
