// Owns the file in which tiles are collected: a SQLite database with the tables of MBTiles, which an export that was
// interrupted goes on with. It is MBTiles when it is finished, and what PMTiles are made from.

import { createHash } from 'node:crypto'
import { DatabaseSync } from 'node:sqlite'
import { UserError } from '../../../errors.ts'

/** Number of a tile in its matrix. */
export type Address = { readonly zoom: number; readonly row: number; readonly column: number }

/** What is known of a tile: nothing is in its place, something that is not drawn, or something that is drawn. */
export type Found = 'nothing' | 'hidden' | 'drawn'

export type ArchiveMetadata = {
  readonly name: string
  readonly description: string | undefined
  readonly attribution: string | undefined
  /** West, south, east, north in degrees. */
  readonly bounds: readonly [number, number, number, number]
  readonly minZoom: number
  readonly maxZoom: number
  readonly vectorLayers: readonly object[]
}

/** Content of a map's row without a tile; tiles have their hash. */
const NOTHING = ''
const HIDDEN = '-'
/** Time after which tiles are safe from a failure of the process: a transaction for each would take longer than the tile. */
const BATCH_MS = 1_000

// `map` and `images` are how MBTiles keep equal tiles once: those in the middle of a large area are all the same.
const TABLES = `
  pragma application_id = 0x4d504258;
  create table if not exists metadata (name text primary key, value text);
  create table if not exists images (tile_id text primary key, tile_data blob);
  create table if not exists map (
    zoom_level integer, tile_column integer, tile_row integer, tile_id text,
    primary key (zoom_level, tile_column, tile_row)
  ) without rowid;
  create view if not exists tiles as
    select zoom_level, tile_column, tile_row, tile_data from map join images on images.tile_id = map.tile_id;`
const REQUEST = 'tessera_request'

export type StoredTile = Address & { readonly content: string }

export class TileStore {
  readonly #file: DatabaseSync
  readonly #add
  readonly #place
  readonly #find
  /** When the transaction began; undefined if there is none. */
  #begunAt: number | undefined

  /**
   * Opens a file, or goes on with one.
   * @param request what the tiles are made from: only the same can go on
   * @throws UserError
   */
  constructor(path: string, request: string) {
    try {
      this.#file = new DatabaseSync(path)
    } catch (cause) {
      throw new UserError(`${path} cannot be written: ${(cause as Error).message}.`, { cause })
    }
    try {
      this.#file.exec(TABLES)
    } catch (cause) {
      this.#file.close()
      throw new UserError(`${path} is in the way: it holds no tiles (${(cause as Error).message}).`, {
        cause,
      })
    }
    const before = this.#file.prepare('select value from metadata where name = ?').get(REQUEST)?.value
    if (before !== undefined && before !== request) {
      this.#file.close()
      throw new UserError(
        `${path} holds the tiles of another export that was interrupted; finish that one, or remove the file.`,
      )
    }
    this.#file.prepare('insert or replace into metadata values (?, ?)').run(REQUEST, request)
    this.#add = this.#file.prepare('insert or ignore into images values (?, ?)')
    this.#place = this.#file.prepare('insert or replace into map values (?, ?, ?, ?)')
    this.#find = this.#file.prepare(
      'select tile_id from map where zoom_level = ? and tile_column = ? and tile_row = ?',
    )
  }

  /** Returns what an earlier export has found; undefined if nothing. */
  find({ zoom, row, column }: Address): Found | undefined {
    const content = this.#find.get(zoom, column, flipped(zoom, row))?.tile_id
    if (content === undefined) return undefined
    return content === NOTHING ? 'nothing' : content === HIDDEN ? 'hidden' : 'drawn'
  }

  /** @param tile compressed by gzip; undefined if nothing is drawn */
  put({ zoom, row, column }: Address, found: Found, tile?: Buffer) {
    if (this.#begunAt === undefined) this.#file.exec('begin')
    this.#begunAt ??= performance.now()
    let content = found === 'nothing' ? NOTHING : HIDDEN
    if (tile) {
      content = createHash('sha1').update(tile).digest('base64url')
      this.#add.run(content, tile)
    }
    this.#place.run(zoom, column, flipped(zoom, row), content)
    if (performance.now() - this.#begunAt > BATCH_MS) this.flush()
  }

  flush() {
    if (this.#begunAt !== undefined) this.#file.exec('commit')
    this.#begunAt = undefined
  }

  /** Returns the tiles that are drawn, in no order. */
  *tiles(): Generator<StoredTile> {
    const rows = this.#file
      .prepare('select zoom_level, tile_column, tile_row, tile_id from map where tile_id not in (?, ?)')
      .iterate(NOTHING, HIDDEN) as Iterable<Record<string, number | string>>
    for (const { zoom_level: zoom, tile_column: column, tile_row: row, tile_id: content } of rows)
      yield {
        zoom: Number(zoom),
        column: Number(column),
        row: flipped(Number(zoom), Number(row)),
        content: String(content),
      }
  }

  /** Returns the bytes of each content. */
  sizes(): Map<string, number> {
    const rows = this.#file.prepare('select tile_id, length(tile_data) as size from images').all()
    return new Map(rows.map(({ tile_id: content, size }) => [String(content), Number(size)]))
  }

  bytesOf(content: string): Uint8Array {
    return this.#file.prepare('select tile_data from images where tile_id = ?').get(content)!
      .tile_data as Uint8Array
  }

  /** Makes it complete MBTiles. */
  finish(metadata: ArchiveMetadata) {
    this.flush()
    this.#file.prepare('delete from map where tile_id in (?, ?)').run(NOTHING, HIDDEN)
    this.#file.exec('delete from metadata')
    const write = this.#file.prepare('insert into metadata values (?, ?)')
    const { name, description, attribution, bounds, minZoom, maxZoom, vectorLayers } = metadata
    const [west, south, east, north] = bounds
    const values = {
      name,
      description,
      attribution,
      format: 'pbf',
      type: 'overlay',
      version: '1',
      bounds: bounds.join(),
      center: [(west + east) / 2, (south + north) / 2, minZoom].join(),
      minzoom: minZoom,
      maxzoom: maxZoom,
      json: JSON.stringify({ vector_layers: vectorLayers }),
    }
    for (const [key, value] of Object.entries(values)) if (value !== undefined) write.run(key, String(value))
    this.#file.exec('vacuum')
  }

  close() {
    this.flush()
    this.#file.close()
  }
}

/** MBTiles count rows from the south. */
const flipped = (zoom: number, row: number) => 2 ** zoom - 1 - row
