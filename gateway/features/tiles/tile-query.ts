// Owns the query of a layer: request parameters, a collection and a tile → TileQuery.

import { type SQL, sql } from '../../database/sql.ts'
import { type Collection, isSpread, shardOfCells } from '../collections/collection.ts'
import { type FilterFunctions, OWN_FUNCTIONS } from '../filter/functions.ts'
import { cellsToLookIn, type ItemParameters, planConditions, planProperties } from '../query/item-query.ts'
import type { Located } from '../query/locate.ts'
import { cellsCondition } from '../sharding/shard-statement.ts'
import { bboxCondition } from '../values/bbox.ts'
import { textOfBox } from '../values/box.ts'
import type { Column } from '../values/column.ts'
import { allOf, type Condition } from '../values/condition.ts'
import { type GeometryColumn, geometryInDegrees, storedGeometry } from '../values/geometry-column.ts'
import { type Bounds, boundsOf, gridOf, groundOf, type Tile } from './tile-matrix-set.ts'

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

/** Most bytes of a tile before it is compressed: clients decode more of them slowly, and drop frames. */
export const MAX_TILE_BYTES = 500_000

export type TileQuery = {
  readonly collection: Collection
  readonly tile: Tile
  readonly properties: readonly Column[]
  /** True for features whose bounding boxes meet the tile, and which meet all else; undefined for every feature. */
  readonly condition: Condition | undefined
  /** True for features that meet the tile, if their bounding boxes do. */
  readonly exact: Condition
  /** The part of it that is the place of the tile: it compares bounding boxes, and fails for no row. */
  readonly place: Condition | undefined
  /** Names of the functions of the database that the condition calls. */
  readonly calls: readonly string[]
  /** The cells that hold all of these features; undefined if they can be anywhere. */
  readonly cells: readonly number[] | undefined
  /** Samples from which points can be taken if they are many, the thinnest first; none if all must be read. */
  readonly samples: readonly number[]
  /** True if points that are close to each other become one, which has their number. */
  readonly isClustered: boolean
  /** True if the layer changes with stored rows alone, so that it can be kept until one of them changes. */
  readonly isSteady: boolean
  /** Most bytes of the layer. */
  readonly mostBytes: number
}

/** True for a column of nothing but single points. */
export const hasPoints = ({ type }: GeometryColumn) => /^POINT(Z|M|ZM)?$/.test(type)

/** Returns true if one table has all rows that the tile may show, each at a position of its own. */
export const isInOneTable = ({ collection, cells }: TileQuery): boolean =>
  collection.hasPositions &&
  (!isSpread(collection) || (cells !== undefined && shardOfCells(collection, cells) !== undefined))

/**
 * @param located the geometries of the filter, if the database had to convert them to degrees
 * @throws GatewayError naming the parameter and a value that would be right
 */
export function planTile(
  parameters: TileParameters,
  collection: Collection,
  tile: Tile,
  mostBytes: number,
  functions: FilterFunctions = OWN_FUNCTIONS,
  located?: Located,
): TileQuery {
  const isClustered = parameters.cluster === true && hasPoints(collection.geometry)
  const { rough, exact } = whereOf(tile, collection.geometry)
  const conditions = [
    ...(rough ? [rough] : []),
    ...planConditions(parameters as ItemParameters, collection, functions, TILE_PARAMETERS, located),
  ]
  return {
    collection,
    tile,
    properties: parameters.properties
      ? planProperties(parameters.properties, collection)
      : collection.properties,
    condition: conditions.length > 0 ? allOf(conditions) : undefined,
    exact,
    place: rough,
    // A filter that few features meet must find those that are in no sample. Clusters have exact numbers.
    samples:
      !isClustered && rough && conditions.length === 1 && canBeSampled(collection, tile)
        ? collection.samples
        : [],
    calls: conditions.flatMap(({ calls }) => calls ?? []),
    // Whatever else confines the query, the tile does.
    cells: cellsToLookIn([groundOf(tile)], collection),
    isClustered,
    isSteady: collection.isSteady && !conditions.some(({ varies }) => varies),
    mostBytes,
  }
}

/** Returns true if the system of a column is that of the tile or degrees, so that both are compared by their numbers. */
export const hasPlainSystem = ({ srid }: GeometryColumn, { set }: Pick<Tile, 'set'>) =>
  srid === 4326 || srid === set.srid

/** Returns left, bottom, right and top of the tile in the system of a column that has a plain one. */
export function sidesOf(tile: Tile, { srid }: GeometryColumn): Bounds {
  if (srid === tile.set.srid && srid !== 4326) return boundsOf(tile)
  const { minLongitude, minLatitude, maxLongitude, maxLatitude } = groundOf(tile)
  return [minLongitude, minLatitude, maxLongitude, maxLatitude]
}

/** Indexes of samples find boxes in the system of the column. */
const canBeSampled = ({ geometry }: Collection, tile: Tile) =>
  hasPoints(geometry) && hasPlainSystem(geometry, tile) && !geometry.isGeography

/** True for the cells that hold all features of the tile; undefined if these can be anywhere. */
export const cellsPart = ({ cells }: TileQuery) => (cells ? cellsCondition(cells) : undefined)

/** More than a grid has cells in a direction. */
export const CELL_BASE = 1_000

/** Returns the cell of a point in a grid, from 1 in both directions; around the grid it is 0, and one more than it has. */
export const cellOfGrid = (point: SQL, across: SQL, up: SQL): SQL =>
  sql`width_bucket(ST_X(${point}), ${across}::float8[]) * ${sql.raw(String(CELL_BASE))}
      + width_bucket(ST_Y(${point}), ${up}::float8[])`

/** The conditions of a tile's place. */
type Where = {
  /** True for bounding boxes that meet the tile; it fails for no row. Undefined if there is no such test. */
  readonly rough: Condition | undefined
  /** True for what meets the tile, of the rows for which `rough` is true. */
  readonly exact: Condition
}

function whereOf(tile: Tile, geometry: GeometryColumn): Where {
  const ground = groundOf(tile)
  const stored = storedGeometry(geometry)
  const box = polygonOf(geometry.srid ?? 4326, sidesOf(tile, geometry))
  if (hasPlainSystem(geometry, tile)) {
    const rough: Condition = {
      shape: 'tile overlapping',
      values: [box],
      boxes: [ground],
      compose: (box) => sql`${stored} && ${box}::geometry`,
    }
    if (hasPoints(geometry))
      return { rough, exact: insideCondition(tile, stored, (one) => sidesOf(one, geometry)) }
    const exact: Condition = {
      shape: 'tile meeting',
      values: [box, box],
      compose: (box, same) =>
        sql`(${stored} @ ${box}::geometry or ST_Intersects(${drawable(geometry)(stored)}, ${same}::geometry))`,
    }
    return { rough, exact }
  }
  // The bounding box alone, in the system of the table.
  const { careful, withoutIndex } = bboxCondition({ boxes: [ground], heights: undefined }, geometry)
  const known = careful?.()?.rough
  const rough = known && { ...known, ...(withoutIndex ? { withoutIndex: ANYWHERE } : {}) }
  if (hasPoints(geometry))
    return { rough, exact: insideCondition(tile, transformed(geometry, tile), boundsOf) }
  const exact: Condition = {
    shape: 'tile meeting ground',
    values: [textOfBox(ground)],
    compose: (box) =>
      sql`ST_Intersects(${geometryInDegrees(geometry, drawable(geometry))}, ${box}::geometry)`,
  }
  return { rough, exact }
}

/** True for a point in the tile. One on the edge between two tiles is in the one to the east or north of it. */
function insideCondition(tile: Tile, point: SQL, sidesOf: (tile: Tile) => Bounds): Condition {
  const { across, up } = gridOf(tile, 0, sidesOf)
  return {
    shape: `tile inside ${tile.set.id}`,
    values: [...across, ...up],
    compose: (left, right, bottom, top) =>
      sql`ST_X(${point}) >= ${left}::float8 and ST_X(${point}) < ${right}::float8
        and ST_Y(${point}) >= ${bottom}::float8 and ST_Y(${point}) < ${top}::float8`,
  }
}

/** Returns a point in the system of the tile. */
export function transformed(geometry: GeometryColumn, { set }: Tile): SQL {
  const { srid } = geometry
  if (srid === set.srid) return storedGeometry(geometry)
  const own = srid === undefined || set.srid === 4326 ? geometryInDegrees(geometry) : storedGeometry(geometry)
  return set.srid === 4326 ? own : sql`ST_Transform(${own}, ${sql.raw(String(set.srid))})`
}

/** Returns straight lines for curves, and its faces for a surface, if a column can have these. */
export const drawable = ({ type }: GeometryColumn) =>
  /^(MULTI)?(POINT|LINESTRING|POLYGON)(Z|M|ZM)?$/.test(type)
    ? (geometry: SQL) => geometry
    : (geometry: SQL) =>
        sql`case when ST_AsText(${geometry}) ~ '^(POLYHEDRALSURFACE|TIN|TRIANGLE)' then (select ST_Collect(part.geom) from ST_Dump(${geometry}) as part) else ST_CurveToLine(${geometry}) end`

export const polygonOf = (srid: number, [left, bottom, right, top]: Bounds) =>
  `SRID=${srid};POLYGON((${left} ${bottom},${left} ${top},${right} ${top},${right} ${bottom},${left} ${bottom}))`

/** Returns the query without the index of a projected table; undefined if it uses none. */
export const withoutIndex = (query: TileQuery): TileQuery | undefined =>
  query.condition?.withoutIndex && {
    ...query,
    condition: query.condition.withoutIndex,
    place: query.place?.withoutIndex,
  }

const ANYWHERE: Condition = { shape: 'anywhere', values: [], compose: () => sql`true` }
