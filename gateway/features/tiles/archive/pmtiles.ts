// Owns PMTiles (version 3): tiles in the order of a Hilbert curve, with directories that find one in two requests.
// https://github.com/protomaps/PMTiles/blob/main/spec/v3/spec.md

import { gzipSync } from 'node:zlib'
import type { Address, ArchiveMetadata, TileStore } from './tile-store.ts'

/** Returns the file of all tiles of a store, in parts. */
export function* renderPmtiles(store: TileStore, metadata: ArchiveMetadata): Generator<Uint8Array> {
  const { entries, contents, addressed, dataBytes } = planEntries(store)
  const { root, leaves } = makeDirectories(entries)
  const { name, description, attribution, vectorLayers } = metadata
  const about = gzipSync(
    JSON.stringify({ name, description, attribution, type: 'overlay', vector_layers: vectorLayers }),
  )
  yield makeHeader(metadata, {
    root: root.length,
    about: about.length,
    leaves: leaves.length,
    dataBytes,
    addressed,
    entries: entries.length,
    contents: contents.length,
  })
  yield root
  yield about
  yield leaves
  for (const content of contents) yield store.bytesOf(content)
}

/** Consecutive tiles with the same content. */
type Entry = { readonly id: number; readonly offset: number; readonly length: number; run: number }

function planEntries(store: TileStore) {
  const sizes = store.sizes()
  const tiles = [...store.tiles()]
    .map((tile) => ({ id: tileId(tile), content: tile.content }))
    .sort((a, b) => a.id - b.id)
  const offsets = new Map<string, number>()
  const entries: Entry[] = []
  let dataBytes = 0
  for (const { id, content } of tiles) {
    const length = sizes.get(content)!
    let offset = offsets.get(content)
    const last = entries.at(-1)
    if (last && last.offset === offset && last.id + last.run === id) {
      last.run++
      continue
    }
    if (offset === undefined) {
      offset = dataBytes
      offsets.set(content, offset)
      dataBytes += length
    }
    entries.push({ id, offset, length, run: 1 })
  }
  return { entries, contents: [...offsets.keys()], addressed: tiles.length, dataBytes }
}

/**
 * Returns the number of a tile: those of lower zooms come first, and those of one zoom are in the order of a Hilbert
 * curve.
 */
export function tileId({ zoom, row, column }: Address): number {
  const side = 2 ** zoom
  let [x, y] = [column, row]
  let id = (side * side - 1) / 3
  for (let half = side / 2; half >= 1; half /= 2) {
    const right = (x & half) > 0 ? 1 : 0
    const down = (y & half) > 0 ? 1 : 0
    id += half * half * ((3 * right) ^ down)
    if (down === 0) {
      if (right === 1) [x, y] = [side - 1 - x, side - 1 - y]
      ;[x, y] = [y, x]
    }
  }
  return id
}

const HEADER_BYTES = 127
/** A client reads this much at first, and the header and the root directory must be in it. */
const FIRST_READ_BYTES = 16_384
const FIRST_LEAF_ENTRIES = 4_096

/** Returns the directories: all entries in the root, or as many leaves as let the root be small enough. */
function makeDirectories(entries: readonly Entry[]): { readonly root: Buffer; readonly leaves: Buffer } {
  const single = makeDirectory(entries)
  if (single.length <= FIRST_READ_BYTES - HEADER_BYTES) return { root: single, leaves: Buffer.alloc(0) }
  for (let size = FIRST_LEAF_ENTRIES; ; size *= 2) {
    const leaves: Buffer[] = []
    const pointers: Entry[] = []
    let offset = 0
    for (let start = 0; start < entries.length; start += size) {
      const leaf = makeDirectory(entries.slice(start, start + size))
      // A run of no tiles is a pointer to a leaf.
      pointers.push({ id: entries[start]!.id, offset, length: leaf.length, run: 0 })
      leaves.push(leaf)
      offset += leaf.length
    }
    const root = makeDirectory(pointers)
    if (root.length <= FIRST_READ_BYTES - HEADER_BYTES) return { root, leaves: Buffer.concat(leaves) }
  }
}

function makeDirectory(entries: readonly Entry[]): Buffer {
  const bytes: number[] = []
  const put = (value: number) => {
    let rest = value
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80)
    bytes.push(rest)
  }
  put(entries.length)
  entries.forEach(({ id }, index) => {
    put(id - (entries[index - 1]?.id ?? 0))
  })
  for (const { run } of entries) put(run)
  for (const { length } of entries) put(length)
  entries.forEach(({ offset }, index) => {
    const before = entries[index - 1]
    put(before && before.offset + before.length === offset ? 0 : offset + 1)
  })
  return gzipSync(Buffer.from(bytes))
}

const GZIP = 2
const MVT = 1

type Sizes = Readonly<
  Record<'root' | 'about' | 'leaves' | 'dataBytes' | 'addressed' | 'entries' | 'contents', number>
>

function makeHeader({ bounds, minZoom, maxZoom }: ArchiveMetadata, sizes: Sizes): Buffer {
  const header = Buffer.alloc(HEADER_BYTES)
  header.write('PMTiles', 'latin1')
  header.writeUInt8(3, 7)
  const about = HEADER_BYTES + sizes.root
  const leaves = about + sizes.about
  const data = leaves + sizes.leaves
  const numbers = [
    ...[HEADER_BYTES, sizes.root, about, sizes.about, leaves, sizes.leaves, data, sizes.dataBytes],
    ...[sizes.addressed, sizes.entries, sizes.contents],
  ]
  numbers.forEach((number, index) => {
    header.writeBigUInt64LE(BigInt(number), 8 + 8 * index)
  })
  // Tiles are in the order of their numbers.
  header.writeUInt8(1, 96)
  ;[GZIP, GZIP, MVT, minZoom, maxZoom].forEach((byte, index) => {
    header.writeUInt8(byte, 97 + index)
  })
  const degrees = (value: number, at: number) => header.writeInt32LE(Math.round(value * 1e7), at)
  const [west, south, east, north] = bounds
  ;[west, south, east, north].forEach((value, index) => {
    degrees(value, 102 + 4 * index)
  })
  header.writeUInt8(minZoom, 118)
  degrees((west + east) / 2, 119)
  degrees((south + north) / 2, 123)
  return header
}
