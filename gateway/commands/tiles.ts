// Owns `tessera tiles`: writes the tiles of a collection to a file, and goes on with one that was interrupted; and prepares
// a collection of many points for tiles.

import { createWriteStream } from 'node:fs'
import { rename, rm, stat } from 'node:fs/promises'
import { extname } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { type Config, ConfigError, readConfig } from '../config.ts'
import { ANYONE } from '../features/access/principal.ts'
import { createSamples, indexOf } from '../features/collections/create-samples.ts'
import { makeExtents } from '../features/collections/extent.ts'
import { functionsOf } from '../features/filter/published.ts'
import { makeUnshown } from '../features/query/unshown.ts'
import { renderPmtiles } from '../features/tiles/archive/pmtiles.ts'
import { type ArchiveMetadata, TileStore } from '../features/tiles/archive/tile-store.ts'
import { TILE_MATRIX_SETS, WEB_MERCATOR_QUAD } from '../features/tiles/tile-matrix-set.ts'
import {
  hasPlainSystem,
  hasPoints,
  MAX_TILE_BYTES,
  planTile,
  type TileParameters,
} from '../features/tiles/tile-query.ts'
import { LARGEST_ZOOM, walkTiles } from '../features/tiles/tile-walk.ts'
import type { GeometryColumn } from '../features/values/geometry-column.ts'
import { renderTileJson } from '../http/tileset.ts'
import { openTerminal } from '../terminal.ts'
import { filterLanguageOf } from './export.ts'
import { INTERRUPTIONS, runUntilSignal, withOwner } from './lifecycle.ts'
import { openCollections } from './open-collections.ts'

const OPTIONS = {
  output: 'value',
  zoom: 'value',
  filter: 'value',
  'filter-lang': 'value',
  datetime: 'value',
  properties: 'value',
  prepare: 'flag',
} as const
type Options = Readonly<Partial<Record<keyof typeof OPTIONS, string>>>

/** Tiles that are read at once: PostgreSQL works on some while others are compressed. */
const CONCURRENCY = 4
/** Indexes that a message about the owner shows: enough for 16 million points. */
const SAMPLES_SHOWN = 6
/** The part of the world that the projection shows. */
const WORLD = [-180, -85.0511287, 180, 85.0511287] as const

export async function runTiles(args: readonly string[]) {
  const { config, options, positionals } = readConfig(args, OPTIONS)
  const [id, ...rest] = positionals
  if (!id || rest.length > 0)
    throw new ConfigError('tiles takes one collection: tessera tiles cities --zoom 0-10 -o cities.pmtiles')
  if (options.prepare) return prepareTiles(config, id, options)
  const { output, isPmtiles } = outputOf(options)
  const [minZoom, maxZoom] = zoomsOf(options)
  const parameters = parametersOf(options)
  const emit = openTerminal(process.stderr)
  const interruptedBy = await runUntilSignal(emit, async (cleanup, interrupted) => {
    const { database, catalog } = await openCollections(config, cleanup, emit)
    const collection = catalog.get(id)
    const functions = functionsOf(catalog.routines, emit)
    const queryOf = (tile: { row: number; column: number; level: number }) =>
      planTile(parameters, collection, { set: WEB_MERCATOR_QUAD, ...tile }, MAX_TILE_BYTES, functions)
    queryOf({ level: 0, row: 0, column: 0 })
    const extent = await makeExtents(database, emit).of(collection, ANYONE)
    const startedAt = performance.now()
    const part = `${output}.part`
    const store = new TileStore(
      part,
      JSON.stringify([collection.id, collection.fingerprint, minZoom, maxZoom, parameters]),
    )
    let isOpen = true
    const close = () => {
      if (isOpen) store.close()
      isOpen = false
    }
    cleanup.defer(close)
    const deadline = new AbortController()
    interrupted.then(() =>
      deadline.abort(new ConfigError('The export was interrupted; the same command goes on.')),
    )
    let tiles = 0
    await walkTiles({
      reading: { database, deadline: deadline.signal, unshown: makeUnshown(emit) },
      queryOf,
      minZoom,
      maxZoom,
      store,
      concurrency: Math.min(CONCURRENCY, config.poolSize),
      onTile(zoom, seen, total, found) {
        if (found === 'drawn') tiles++
        emit({ type: 'tiles-advanced', collection: id, zoom, seen, total, tiles })
      },
    })
    const layers = [{ collection, extent }]
    const { title, description } = collection
    const document = renderTileJson({ url: '', title, description, layers, choice: '' })
    const metadata: ArchiveMetadata = {
      name: title,
      description,
      attribution: document.attribution,
      bounds: (document.bounds as ArchiveMetadata['bounds'] | undefined) ?? WORLD,
      minZoom,
      maxZoom,
      vectorLayers: document.vector_layers.map((layer) => ({ ...layer, minzoom: minZoom, maxzoom: maxZoom })),
    }
    if (isPmtiles) {
      store.flush()
      const written = `${output}.new`
      cleanup.defer(() => rm(written, { force: true }))
      await pipeline(Readable.from(renderPmtiles(store, metadata)), createWriteStream(written))
      await rename(written, output)
      close()
      await rm(part)
    } else {
      store.finish(metadata)
      close()
      await rename(part, output)
    }
    const { size: bytes } = await stat(output)
    emit({
      type: 'tiles-finished',
      collection: id,
      tiles,
      bytes,
      milliseconds: performance.now() - startedAt,
    })
  })
  if (interruptedBy) process.exitCode = INTERRUPTIONS[interruptedBy]
}

/** Creates indexes of samples of the points, from which tiles with many of them are made. */
async function prepareTiles(config: Config, id: string, { prepare, ...others }: Options) {
  if (Object.keys(others).length > 0)
    throw new ConfigError(`--prepare takes no other option: tessera tiles ${id} --prepare`)
  const emit = openTerminal(process.stderr)
  const interruptedBy = await runUntilSignal(emit, async (cleanup) => {
    const { addresses, catalog } = await openCollections(config, cleanup, emit)
    const collection = catalog.get(id)
    const { geometry, key, isKeyPhysical } = collection
    const isKeyed = key.length > 0 && !isKeyPhysical
    if (!isKeyed || !hasPoints(geometry) || geometry.isGeography || !isPlain(geometry))
      throw new ConfigError(
        `${id} cannot be prepared: only tables of single points in EPSG:4326 or EPSG:3857 with a key can.`,
      )
    const ofOwner = (cause: { code?: string }) => {
      if (cause.code !== '42501') throw cause
      const statements = Array.from({ length: SAMPLES_SHOWN }, (_, index) =>
        indexOf(collection, index + 1, true),
      )
      throw new ConfigError(
        `The owner of ${id} must create its indexes, as many of these as there are features for:\n${statements.join(';\n')};`,
      )
    }
    await withOwner(addresses, emit, async (session) => {
      const needed = await createSamples(session, collection, (sample, all) =>
        process.stdout.write(`Creating the index of sample ${sample} of ${all}.\n`),
      ).catch(ofOwner)
      process.stdout.write(
        needed > 0
          ? `${id} is prepared; gateways make its tiles from ${needed} samples within five seconds.\n`
          : `${id} has so few features that its tiles need no samples.\n`,
      )
    })
  })
  if (interruptedBy) process.exitCode = INTERRUPTIONS[interruptedBy]
}

const isPlain = (geometry: GeometryColumn) =>
  TILE_MATRIX_SETS.some((set) => hasPlainSystem(geometry, { set }))

function outputOf({ output }: Options) {
  const ending = extname(output ?? '').toLowerCase()
  if (output !== undefined && (ending === '.pmtiles' || ending === '.mbtiles'))
    return { output, isPmtiles: ending === '.pmtiles' }
  throw new ConfigError(`--output=${output ?? ''}: the name must end with .pmtiles or .mbtiles.`)
}

function zoomsOf({ zoom = '0-10' }: Options): readonly [number, number] {
  const [, first, last = first] = /^(\d{1,2})(?:-(\d{1,2}))?$/.exec(zoom) ?? []
  const [least, most] = [Number(first), Number(last)]
  if (least <= most && most <= LARGEST_ZOOM) return [least, most]
  throw new ConfigError(`--zoom=${zoom}: must be a zoom or two, such as 0-10, from 0 to ${LARGEST_ZOOM}.`)
}

function parametersOf(options: Options): TileParameters {
  const { filter, datetime, properties } = options
  const given = {
    filter,
    'filter-lang': filterLanguageOf(options['filter-lang']),
    datetime,
    properties: properties?.split(','),
  }
  return Object.fromEntries(
    Object.entries(given).filter(([, value]) => value !== undefined),
  ) as TileParameters
}
