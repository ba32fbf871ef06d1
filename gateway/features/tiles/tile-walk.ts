// Owns the walk through the tiles of a collection, zoom by zoom, which goes only where something is.

import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import type { Address, Found, TileStore } from './archive/tile-store.ts'
import { readLayers, type TileReading } from './read-tile.ts'
import { WEB_MERCATOR_QUAD } from './tile-matrix-set.ts'
import type { TileQuery } from './tile-query.ts'
import { compileAny } from './tile-statement.ts'

export type Walk = {
  readonly reading: TileReading
  /** Returns the query of a tile. */
  readonly queryOf: (tile: {
    readonly row: number
    readonly column: number
    readonly level: number
  }) => TileQuery
  readonly minZoom: number
  readonly maxZoom: number
  readonly store: TileStore
  /** Tiles that are read at once. */
  readonly concurrency: number
  /** Called after each tile. @param seen tiles of this zoom so far @param total all tiles of this zoom that are looked at */
  readonly onTile: (zoom: number, seen: number, total: number, found: Found, bytes: number) => void
}

const compress = promisify(gzip)

/** Stores the tiles of all zooms. Those that are stored already are not read again. */
export async function walkTiles(walk: Walk): Promise<void> {
  const { minZoom, maxZoom, concurrency, reading, onTile } = walk
  let addresses: Address[] = [{ zoom: 0, row: 0, column: 0 }]
  for (let zoom = 0; zoom <= maxZoom; zoom++) {
    const further: Address[] = []
    let next = 0
    let seen = 0
    const goOn = async () => {
      while (next < addresses.length) {
        reading.deadline.throwIfAborted()
        const address = addresses[next++]!
        const { found, bytes } = await visit(walk, address, zoom >= minZoom)
        if (found !== 'nothing') further.push(...quartersOf(address))
        onTile(zoom, ++seen, addresses.length, found, bytes)
      }
    }
    await Promise.all(Array.from({ length: concurrency }, goOn))
    addresses = further
  }
}

/** @param isWanted false for a tile of a lower zoom, which only shows where others are */
async function visit({ reading, queryOf, store }: Walk, address: Address, isWanted: boolean) {
  const before = store.find(address)
  if (before !== undefined) return { found: before, bytes: 0 }
  const query = queryOf({ level: address.zoom, row: address.row, column: address.column })
  const body = isWanted ? await readLayers(reading, [query]) : undefined
  if (body && body.length > 0) {
    const tile = await compress(body)
    store.put(address, 'drawn', tile)
    return { found: 'drawn' as const, bytes: tile.length }
  }
  // What is too small to be drawn can be drawn at the next zoom.
  const [row] = await reading.database.read(compileAny(query), {
    signal: reading.deadline,
    priority: 'usual',
  })
  const found = row ? ('hidden' as const) : ('nothing' as const)
  store.put(address, found)
  return { found, bytes: 0 }
}

const quartersOf = ({ zoom, row, column }: Address): Address[] =>
  [0, 1].flatMap((down) =>
    [0, 1].map((across) => ({ zoom: zoom + 1, row: 2 * row + down, column: 2 * column + across })),
  )

export const LARGEST_ZOOM = WEB_MERCATOR_QUAD.levels - 1
