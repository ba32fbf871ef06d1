// Owns tiles of samples: which sample of its points shows each block of a tile, and the SQL that reads these.
//
// One sample for a tile would lose the places where few points are. A block therefore has a sample of its own: the thinnest
// that has enough points there. A block of the next zoom has a part of these points, so that it gets no thinner sample, and
// what is shown at one zoom is shown at the next.

import type { Database } from '../../database/contract.ts'
import { bound } from '../../database/fragment.ts'
import { type SQL, sql } from '../../database/sql.ts'
import type { Statement } from '../../database/statement.ts'
import { sampleCondition } from '../collections/sample.ts'
import { compileRead, type From, where } from '../sharding/shard-statement.ts'
import { storedGeometry } from '../values/geometry-column.ts'
import { gridOf } from './tile-matrix-set.ts'
import {
  CELL_BASE,
  cellOfGrid,
  cellsPart,
  isInOneTable,
  polygonOf,
  sidesOf,
  type TileQuery,
} from './tile-query.ts'

/** The tiles of so many levels further are the blocks: 16 in each direction, each with 16 cells of the grid. */
const FINER = 4
const BLOCKS = Array.from({ length: 2 ** FINER }, (_, index) => index + 1)
const ALL_BLOCKS: readonly number[] = BLOCKS.flatMap((across) => BLOCKS.map((up) => across * CELL_BASE + up))
/** Points of a sample that are enough for a block, two for each of its cells. */
const ENOUGH = 32
/** A tile of fewer points is read without samples, so that its numbers are exact. */
const MANY = 16_000
/** Points that must have been seen before their number is believed. */
const LEAST_SEEN = 64
/** If this sample, which has one of 64 features, does not show that points are many, they are few enough to be read. */
const DENSE = 3

/** What a tile is read from. */
export type Survey = {
  /** How many features there are, about. */
  readonly total: number
  /** Samples, and at last all features, with boxes around the blocks that they show. */
  readonly parts: readonly Part[]
}
type Part = { readonly sample: number; readonly boxes: readonly string[] }

/**
 * Finds the sample for each block of a tile.
 * @returns undefined if the tile does not have many points
 * @throws GatewayError
 */
export async function surveyTile(
  database: Database,
  query: TileQuery,
  deadline: AbortSignal,
): Promise<Survey | undefined> {
  const parts: Part[] = []
  let open = ALL_BLOCKS
  /** Points that were counted in blocks that have a sample, and how many these stand for. */
  let [seen, total] = [0, 0]
  /** What those that were counted in other blocks stand for. */
  let remaining = 0
  let isMany = false
  for (const sample of samplesWorth(query)) {
    const statement = compileSurvey(query, sample, boxesOf(query, open))
    const rows =
      open.length > 0 ? await database.read(statement, { signal: deadline, priority: 'usual' }) : []
    const found = new Map(rows.map(([block, held]) => [Number(block), Number(held)]))
    const heldBy = (blocks: readonly number[]) =>
      blocks.reduce((sum, block) => sum + (found.get(block) ?? 0), 0)
    const settled = open.filter((block) => heldBy([block]) >= ENOUGH)
    open = open.filter((block) => heldBy([block]) < ENOUGH)
    parts.push({ sample, boxes: boxesOf(query, settled) })
    seen += heldBy(settled)
    total += heldBy(settled) * 4 ** sample
    remaining = heldBy(open) * 4 ** sample
    isMany ||= total + remaining > MANY && seen + heldBy(open) >= LEAST_SEEN
    if (!isMany && sample <= DENSE) return undefined
  }
  return { total: total + remaining, parts: [...parts, { sample: 0, boxes: boxesOf(query, open) }] }
}

/** Returns the only part of a tile without many points: all of them, of which the same are shown as of its samples. */
export const allOfTile = (query: TileQuery): Part[] => [{ sample: 0, boxes: boxesOf(query, ALL_BLOCKS) }]

/** Returns true for a tile of a low level: even if points were everywhere alike, it would have many. */
const isLow = ({ collection, tile }: TileQuery) => collection.estimatedRows / 4 ** tile.level > MANY

/** Returns the samples that are worth a look. Most tiles of a high level have few points, which thin ones do not show. */
const samplesWorth = (query: TileQuery): readonly number[] =>
  isLow(query) || query.samples.at(-1)! > DENSE
    ? query.samples
    : query.samples.filter((sample) => sample <= DENSE)

/** Returns the sample that shows whether the points of a tile are few; undefined if that is not likely. */
export const sampleForFew = (query: TileQuery): number | undefined =>
  isLow(query) || !isInOneTable(query) ? undefined : query.samples.find((sample) => sample <= DENSE)

const gridOfBlocks = ({ tile, collection }: TileQuery) =>
  gridOf(tile, FINER, (one) => sidesOf(one, collection.geometry))

/** Returns boxes that cover these blocks: one for each run in a row. */
function boxesOf(query: TileQuery, blocks: readonly number[]): string[] {
  const { across, up } = gridOfBlocks(query)
  const wanted = new Set(blocks)
  const boxes: string[] = []
  for (const row of BLOCKS) {
    let start: number | undefined
    for (const column of [...BLOCKS, BLOCKS.length + 1]) {
      if (wanted.has(column * CELL_BASE + row)) start ??= column
      else if (start !== undefined) {
        const sides = [across[start - 1]!, up[row - 1]!, across[column - 1]!, up[row]!] as const
        boxes.push(polygonOf(query.collection.geometry.srid!, sides))
        start = undefined
      }
    }
  }
  return boxes
}

/** Returns the statement that counts the features of a sample in each block. */
function compileSurvey(query: TileQuery, sample: number, boxes: readonly string[]): Statement {
  const { collection, cells, tile } = query
  const grid = gridOfBlocks(query)
  return compileRead(
    collection,
    `tile survey ${tile.set.id} ${sample}`,
    [cellsPart(query), bound(boxes), bound(grid.across), bound(grid.up)],
    (from, within, list, across, up) => {
      const block = cellOfGrid(storedGeometry(collection.geometry), across!, up!)
      return sql`select sampled.tessera_block, count(*)
        from (${selectIn(query, from, { sample, boxes: list!, cells: within, columns: sql`${block} as tessera_block` })}) as sampled
        group by sampled.tessera_block`
    },
    cells,
  )
}

type Wanted = {
  readonly sample: number
  /** Boxes as texts. */
  readonly boxes: SQL
  readonly cells: SQL | undefined
  readonly columns: SQL
}

/** Returns a query for the features of a sample in these boxes. A feature at the edge of two boxes can come twice. */
const selectIn = ({ collection }: TileQuery, from: From, { sample, boxes, cells, columns }: Wanted): SQL =>
  sql`select ${columns} from unnest(${boxes}::text[]) as block (tessera_box)
    join ${from.table} as item on ${storedGeometry(collection.geometry)} && block.tessera_box::geometry${where(from, cells, sampleCondition(collection.key, sample))}`

/** Returns a query for the features of a survey, each from the sample of its block. */
export const selectSurveyed = (
  query: TileQuery,
  from: From,
  samples: readonly number[],
  { boxes, ...wanted }: Pick<Wanted, 'cells' | 'columns'> & { readonly boxes: readonly SQL[] },
): SQL =>
  sql.join(
    samples.map((sample, index) => selectIn(query, from, { sample, boxes: boxes[index]!, ...wanted })),
    sql.raw(' union all '),
  )
