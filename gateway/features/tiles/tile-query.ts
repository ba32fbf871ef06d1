// Owns the query of a layer: request parameters, a collection and a tile → TileQuery.

import { sql } from '../../database/sql.ts'
import { type Collection, isSpread, shardOfCells } from '../collections/collection.ts'
import { type FilterFunctions, OWN_FUNCTIONS } from '../filter/functions.ts'
import { cellsToLookIn, type ItemParameters, planConditions, planProperties } from '../query/item-query.ts'
import { bboxCondition } from '../values/bbox.ts'
import { textOfBox } from '../values/box.ts'
import type { Column } from '../values/column.ts'
import { allOf, type Condition } from '../values/condition.ts'
import { type GeometryColumn, storedGeometry } from '../values/geometry-column.ts'
import { boundsOf, groundOf, isEastmost, isSouthmost, type Tile } from './tile-matrix-set.ts'

/** Parameters of a tile by their names; any other name is that of a column. */
export type TileParameters = Pick<
  ItemParameters,
  'datetime' | 'filter' | 'filter-lang' | 'filter-crs' | 'properties' | 'f'
> & {
  readonly cluster?: boolean
  readonly [column: string]: unknown
}
export const TILE_PARAMETERS = [
  'datetime',
  'filter',
  'filter-lang',
  'filter-crs',
  'properties',
  'cluster',
  'f',
]

export type TileQuery = {
  readonly collection: Collection
  readonly tile: Tile
  readonly properties: readonly Column[]
  /** True for features that the tile may show. */
  readonly condition: Condition | undefined
  /** The part of it that is the place of the tile: it compares bounding boxes, and fails for no row. */
  readonly place: Condition | undefined
  /** Names of the functions of the database that the condition calls. */
  readonly calls: readonly string[]
  /** The cells that hold all of these features; undefined if they can be anywhere. */
  readonly cells: readonly number[] | undefined
  /** True if points that are close to each other become one, which has their number. */
  readonly isClustered: boolean
  /** Most bytes of the layer. */
  readonly mostBytes: number
}

/** True for a column of nothing but single points. */
export const hasPoints = ({ type }: GeometryColumn) => /^POINT(Z|M|ZM)?$/.test(type)

/** Returns true if one table has all rows that the tile may show, each at a position of its own. */
export const isInOneTable = ({ collection, cells }: TileQuery): boolean =>
  collection.hasPositions &&
  (!isSpread(collection) || (cells !== undefined && shardOfCells(collection, cells) !== undefined))

/** @throws GatewayError naming the parameter and a value that would be right */
export function planTile(
  parameters: TileParameters,
  collection: Collection,
  tile: Tile,
  mostBytes: number,
  functions: FilterFunctions = OWN_FUNCTIONS,
): TileQuery {
  const isClustered = parameters.cluster === true && hasPoints(collection.geometry)
  const place = placeConditions(tile, collection.geometry)
  const conditions = [
    ...place,
    ...planConditions(parameters as ItemParameters, collection, functions, TILE_PARAMETERS),
  ]
  const condition = conditions.length > 0 ? allOf(conditions) : undefined
  return {
    collection,
    tile,
    properties: parameters.properties
      ? planProperties(parameters.properties, collection)
      : collection.properties,
    condition,
    place: place.length > 0 ? allOf(place) : undefined,
    calls: conditions.flatMap(({ calls }) => calls ?? []),
    // Whatever else confines the query, the tile does.
    cells: cellsToLookIn([groundOf(tile)], collection),
    isClustered,
    mostBytes,
  }
}

/** Returns true if the system of a column is that of the tile or degrees, so that both are compared by their numbers. */
export const hasPlainSystem = ({ srid }: GeometryColumn, { set }: Tile) => srid === 4326 || srid === set.srid

/** Returns left, bottom, right and top of the tile in the system of a column that has a plain one. */
export function sidesOf(tile: Tile, { srid }: GeometryColumn): readonly [number, number, number, number] {
  if (srid === tile.set.srid && srid !== 4326) return boundsOf(tile)
  const { minLongitude, minLatitude, maxLongitude, maxLatitude } = groundOf(tile)
  return [minLongitude, minLatitude, maxLongitude, maxLatitude]
}

/** Returns the conditions of the tile's place. None of them fails for a row. */
function placeConditions(tile: Tile, geometry: GeometryColumn): Condition[] {
  const ground = groundOf(tile)
  if (!hasPlainSystem(geometry, tile)) {
    // The bounding box alone: the tile itself shows what is left of a geometry in it.
    const { careful, withoutIndex } = bboxCondition({ boxes: [ground], heights: undefined }, geometry)
    const rough = careful?.()?.rough
    if (!rough) return []
    return [{ ...rough, ...(withoutIndex ? { withoutIndex: ANYWHERE } : {}) }]
  }
  const stored = storedGeometry(geometry)
  const [left, bottom, right, top] = sidesOf(tile, geometry)
  const overlapping: Condition = {
    shape: 'tile overlapping',
    values: [
      `SRID=${geometry.srid};POLYGON((${left} ${bottom},${left} ${top},${right} ${top},${right} ${bottom},${left} ${bottom}))`,
    ],
    boxes: [ground],
    compose: (box) => sql`${stored} && ${box}::geometry`,
  }
  if (!hasPoints(geometry)) return [overlapping]
  // A point on the edge between two tiles is in the one to the east or south of it.
  const inside: Condition = {
    shape: 'tile inside',
    values: [isEastmost(tile) ? Number.MAX_VALUE : right, isSouthmost(tile) ? -Number.MAX_VALUE : bottom],
    compose: (right, bottom) =>
      sql`ST_X(${stored}) < ${right}::float8 and ST_Y(${stored}) > ${bottom}::float8`,
  }
  return [overlapping, inside]
}

/** Returns the query without the index of a projected table; undefined if it uses none. */
export const withoutIndex = (query: TileQuery): TileQuery | undefined =>
  query.condition?.withoutIndex && {
    ...query,
    condition: query.condition.withoutIndex,
    place: query.place?.withoutIndex,
  }

const ANYWHERE: Condition = { shape: 'anywhere', values: [], compose: () => sql`true` }
export const textOfGround = (tile: Tile) => textOfBox(groundOf(tile))
