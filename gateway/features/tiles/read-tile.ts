// Owns reading a tile: its layers, in one round trip or two, and what is done if PostGIS cannot convert a geometry.

import type { Database } from '../../database/contract.ts'
import { isGeometryFailure } from '../../database/outcome.ts'
import type { Row } from '../../database/statement.ts'
import { nameCalls } from '../query/call-failure.ts'
import { checkLiterals } from '../query/read-page.ts'
import type { Unshown } from '../query/unshown.ts'
import { tryInParts } from '../values/in-parts.ts'
import { isInOneTable, type TileQuery, withoutIndex } from './tile-query.ts'
import { allOfTile, sampleForFew, surveyTile } from './tile-sample.ts'
import {
  amongNames,
  compileFew,
  compileNames,
  compileTile,
  compileTileCount,
  compileTrial,
  isThinnedAt,
} from './tile-statement.ts'

export type TileReading = {
  readonly database: Database
  readonly deadline: AbortSignal
  /** Records where geometries were left out because PostGIS cannot convert them. */
  readonly unshown: Unshown
}

const EMPTY = Buffer.alloc(0)

/**
 * Returns a tile of these layers; empty if none has a feature. A tile is a list of layers, so that those of several
 * statements are simply put together.
 * @throws GatewayError
 */
export async function readLayers(reading: TileReading, queries: readonly TileQuery[]): Promise<Buffer> {
  const { database, deadline } = reading
  const [first] = queries
  if (!first) return EMPTY
  if (queries.length === 1) return readLayer(reading, first)
  // What one statement can read goes in one packet. If one of them fails, each is read by itself.
  const short = queries.filter(isAtOnce)
  const statements = short.map((query) => compileTile(query, undefined))
  const demand = { signal: deadline, priority: 'usual' } as const
  const rows = await (statements.length > 0
    ? database.readAll(statements, demand)
    : Promise.resolve([])
  ).catch((error) => {
    if (!isGeometryFailure(error)) throw error
  })
  const layers: Buffer[] = []
  for (const query of queries) {
    const found = rows?.[short.indexOf(query)]
    layers.push(found ? tileOf(found) : await readLayer(reading, query))
  }
  return Buffer.concat(layers)
}

/** Returns true if one statement reads the layer. */
const isAtOnce = (query: TileQuery) =>
  query.isClustered || (query.samples.length === 0 && isInOneTable(query))

async function readLayer(reading: TileReading, query: TileQuery): Promise<Buffer> {
  for (const way of [query, withoutIndex(query)]) {
    if (!way) continue
    try {
      return await readAtOnce(reading, way)
    } catch (error) {
      if (!isGeometryFailure(error)) throw nameCalls(error, query)
    }
  }
  return readCarefully(reading, withoutIndex(query) ?? query)
}

async function readAtOnce({ database, deadline }: TileReading, query: TileQuery): Promise<Buffer> {
  const demand = { signal: deadline, priority: 'usual' } as const
  if (isAtOnce(query)) return tileOf(await database.read(compileTile(query, undefined), demand))
  const hasSamples = query.samples.length > 0
  const sample = sampleForFew(query)
  if (sample !== undefined) {
    const found = await database.read(compileFew(query, sample), demand)
    if (found[0]![1] === 't') return tileOf(found)
  }
  const survey = hasSamples ? await surveyTile(database, query, deadline) : undefined
  if (survey) return tileOf(await database.read(compileTile(query, { ...survey, isThinned: true }), demand))
  const [row] = await database.read(compileTileCount(query), demand)
  const total = Number(row![0])
  if (total === 0) return EMPTY
  const isThinned = isThinnedAt(total)
  const parts = hasSamples && isThinned ? allOfTile(query) : undefined
  return tileOf(await database.read(compileTile(query, { total, isThinned, parts }), demand))
}

/** Reads a layer without the rows that PostGIS cannot convert or compare, which are found by trying. */
async function readCarefully(reading: TileReading, query: TileQuery): Promise<Buffer> {
  const { database, deadline, unshown } = reading
  const { collection, condition } = query
  const demand = { signal: deadline, priority: 'usual' } as const
  await checkLiterals(reading, condition?.careful?.()?.literals ?? [])
  const naming = compileNames(query)
  // Without a name for its rows, nothing can be left out of a view.
  if (!naming) return readAtOnce(reading, query)
  const names = (await database.read(naming, demand)).map(([name]) => name!)
  const sound: string[] = []
  const failed = await tryInParts(names, async (part) => {
    const rows = await database.read(compileTrial(query, part), demand)
    sound.push(...rows.flatMap(([name]) => name ?? []))
    return part.map(() => [])
  })
  unshown.note(collection, failed.filter((row) => row === undefined).length)
  return sound.length > 0 ? readAtOnce(reading, amongNames(query, sound)) : EMPTY
}

const tileOf = ([row]: readonly Row[]) => Buffer.from(row?.[0] ?? '', 'base64')
