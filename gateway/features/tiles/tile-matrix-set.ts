// Owns tile matrix sets (OGC 17-083r4): their documents, the place of a tile on the ground, and the tiles that a box meets.

import { gatewayError, quoted } from '../../errors.ts'
import type { Box } from '../values/box.ts'

export type TileMatrixSet = {
  readonly id: string
  readonly title: string
  readonly uri: string
  /** URI of the coordinate system. */
  readonly crs: string
  /** The same as PostGIS knows it. */
  readonly srid: number
  readonly orderedAxes: readonly [string, string]
  readonly wellKnownScaleSet: string
  /** Columns and rows of the coarsest matrix; each further one has twice as many. */
  readonly columns: number
  readonly rows: number
  readonly levels: number
  /** Left and top edge in units of the coordinate system. */
  readonly origin: readonly [number, number]
  /** Width of all tiles of a matrix in units of the coordinate system. */
  readonly width: number
  readonly metresPerUnit: number
  /** Latitude of the northern edge of a row. @param share rows to the north of it, as a share of all rows */
  readonly latitudeAt: (share: number) => number
}

export type Tile = {
  readonly set: TileMatrixSet
  readonly level: number
  readonly row: number
  readonly column: number
}

/** Left, bottom, right, top in units of the coordinate system. */
export type Bounds = readonly [number, number, number, number]

const EARTH_RADIUS_M = 6_378_137
const HALF_EQUATOR_M = Math.PI * EARTH_RADIUS_M
const DEGREES = 180 / Math.PI
const TILE_PIXELS = 256
/** Width of a pixel of the standard's screen, from which scales are computed. */
const PIXEL_M = 0.00028
const OGC = 'http://www.opengis.net/def'

export const WEB_MERCATOR_QUAD: TileMatrixSet = {
  id: 'WebMercatorQuad',
  title: 'Google Maps Compatible for the World',
  uri: `${OGC}/tilematrixset/OGC/1.0/WebMercatorQuad`,
  crs: `${OGC}/crs/EPSG/0/3857`,
  srid: 3857,
  orderedAxes: ['X', 'Y'],
  wellKnownScaleSet: `${OGC}/wkss/OGC/1.0/GoogleMapsCompatible`,
  columns: 1,
  rows: 1,
  levels: 25,
  origin: [-HALF_EQUATOR_M, HALF_EQUATOR_M],
  width: 2 * HALF_EQUATOR_M,
  metresPerUnit: 1,
  latitudeAt: (share) => Math.atan(Math.sinh(Math.PI * (1 - 2 * share))) * DEGREES,
}

export const WORLD_CRS84_QUAD: TileMatrixSet = {
  id: 'WorldCRS84Quad',
  title: 'CRS84 for the World',
  uri: `${OGC}/tilematrixset/OGC/1.0/WorldCRS84Quad`,
  crs: `${OGC}/crs/OGC/1.3/CRS84`,
  srid: 4326,
  orderedAxes: ['Lon', 'Lat'],
  wellKnownScaleSet: `${OGC}/wkss/OGC/1.0/GoogleCRS84Quad`,
  columns: 2,
  rows: 1,
  levels: 24,
  origin: [-180, 90],
  width: 360,
  metresPerUnit: EARTH_RADIUS_M / DEGREES,
  latitudeAt: (share) => 90 - 180 * share,
}

export const TILE_MATRIX_SETS: readonly TileMatrixSet[] = [WEB_MERCATOR_QUAD, WORLD_CRS84_QUAD]

/** @throws GatewayError tile-matrix-set-not-found */
export function tileMatrixSetOf(id: string): TileMatrixSet {
  const set = TILE_MATRIX_SETS.find((one) => one.id === id)
  if (set) return set
  throw gatewayError(
    'tile-matrix-set-not-found',
    `There is no tile matrix set ${quoted(id)} here; there are ${TILE_MATRIX_SETS.map((one) => one.id).join(' and ')}.`,
  )
}

const columnsAt = ({ columns }: TileMatrixSet, level: number) => columns * 2 ** level
const rowsAt = ({ rows }: TileMatrixSet, level: number) => rows * 2 ** level

/** Width and height of a tile in units of the coordinate system: tiles are square. */
const tileWidth = (set: TileMatrixSet, level: number) => set.width / columnsAt(set, level)

/** @throws GatewayError tile-not-found if the set has no such tile */
export function parseTile(set: TileMatrixSet, matrix: string, row: number, column: number): Tile {
  const level = /^\d{1,2}$/.test(matrix) ? Number(matrix) : Number.NaN
  if (!(level < set.levels))
    throw gatewayError(
      'tile-not-found',
      `The matrices of ${set.id} are 0 to ${set.levels - 1}; ${quoted(matrix)} is none.`,
    )
  const [rows, columns] = [rowsAt(set, level), columnsAt(set, level)]
  // A schema lets -Infinity through as an integer that is at least 0.
  if (0 <= row && row < rows && 0 <= column && column < columns) return { set, level, row, column }
  throw gatewayError(
    'tile-not-found',
    `Matrix ${level} of ${set.id} has the rows 0 to ${rows - 1} and the columns 0 to ${columns - 1}; row ${row}, column ${column} is outside.`,
  )
}

/** Returns the place of a tile in the coordinate system of its set. */
export function boundsOf({ set, level, row, column }: Tile): Bounds {
  const [left, top] = set.origin
  const width = tileWidth(set, level)
  return [left + column * width, top - (row + 1) * width, left + (column + 1) * width, top - row * width]
}

/** Returns the place of a tile in degrees; the edge between two tiles is the same number in both. */
export function groundOf({ set, level, row, column }: Tile): Box {
  const longitudeAt = (edge: number) => -180 + (360 * edge) / columnsAt(set, level)
  const latitudeAt = (edge: number) => set.latitudeAt(edge / rowsAt(set, level))
  return {
    minLongitude: longitudeAt(column),
    minLatitude: latitudeAt(row + 1),
    maxLongitude: longitudeAt(column + 1),
    maxLatitude: latitudeAt(row),
  }
}

/**
 * Returns the edges of a grid in a tile, from west to east and from south to north: those of the tiles of a finer level. A
 * cell of the grid has its western and southern edge. Those of the world that are at the other end are moved by the least
 * number, so that what is on them is in a cell, too.
 * @param steps levels that the grid is finer than the tile
 * @param sidesOf returns left, bottom, right and top of a tile in the system of the edges
 */
export function gridOf(tile: Tile, steps: number, sidesOf: (tile: Tile) => Bounds) {
  const { set, row, column } = tile
  const level = tile.level + steps
  const cells = Array.from({ length: 2 ** steps }, (_, index) => index)
  const sides = (down: number, across: number) =>
    sidesOf({ set, level, row: row * 2 ** steps + down, column: column * 2 ** steps + across })
  const last = cells.length - 1
  const beyond = (edge: number, isOfWorld: boolean) =>
    isOfWorld ? edge + Math.abs(edge) * 2 * Number.EPSILON : edge
  return {
    across: [
      ...cells.map((index) => sides(0, index)[0]),
      beyond(sides(0, last)[2], column + 1 === columnsAt(set, tile.level)),
    ],
    up: [...cells.map((index) => sides(last - index, 0)[1]), beyond(sides(0, 0)[3], row === 0)],
  }
}

/** Tiles of one matrix, all bounds included. */
export type MatrixLimits = {
  readonly tileMatrix: string
  readonly minTileRow: number
  readonly maxTileRow: number
  readonly minTileCol: number
  readonly maxTileCol: number
}

type Corners = readonly [west: number, south: number, east: number, north: number]

/** Returns the tiles of each matrix that a box in degrees meets. @param corners undefined for the whole world */
export const limitsOf = (set: TileMatrixSet, corners: Corners | undefined): MatrixLimits[] =>
  Array.from({ length: set.levels }, (_, level) => {
    const [rows, columns] = [rowsAt(set, level), columnsAt(set, level)]
    const [west, south, east, north] = corners ?? [-180, -90, 180, 90]
    const columnAt = (longitude: number) => stepAt((longitude + 180) / 360, columns)
    const rowAt = (latitude: number) => stepAt(shareAt(set, latitude), rows)
    return {
      tileMatrix: String(level),
      minTileRow: rowAt(north),
      maxTileRow: rowAt(south),
      minTileCol: columnAt(west),
      maxTileCol: columnAt(east),
    }
  })

/** Returns the share of the rows that are to the north of a latitude. */
function shareAt(set: TileMatrixSet, latitude: number): number {
  if (set === WORLD_CRS84_QUAD) return (90 - latitude) / 180
  const edge = set.latitudeAt(0)
  const within = Math.min(Math.max(latitude, -edge), edge)
  return (1 - Math.asinh(Math.tan(within / DEGREES)) / Math.PI) / 2
}

const stepAt = (share: number, steps: number) => Math.min(Math.max(Math.floor(share * steps), 0), steps - 1)

/** Returns true if the tile is one of these. */
export function isWithin({ level, row, column }: Tile, limits: readonly MatrixLimits[]): boolean {
  const { minTileRow, maxTileRow, minTileCol, maxTileCol } = limits[level]!
  return minTileRow <= row && row <= maxTileRow && minTileCol <= column && column <= maxTileCol
}

/** Returns the definition of a set as the standard's JSON. */
export function tileMatrixSetDocument(set: TileMatrixSet) {
  const { id, title, uri, crs, orderedAxes, wellKnownScaleSet, origin, levels, metresPerUnit } = set
  return {
    id,
    title,
    uri,
    crs,
    orderedAxes: [...orderedAxes],
    wellKnownScaleSet,
    tileMatrices: Array.from({ length: levels }, (_, level) => {
      const cellSize = tileWidth(set, level) / TILE_PIXELS
      return {
        id: String(level),
        scaleDenominator: (cellSize * metresPerUnit) / PIXEL_M,
        cellSize,
        pointOfOrigin: [...origin],
        tileWidth: TILE_PIXELS,
        tileHeight: TILE_PIXELS,
        matrixWidth: columnsAt(set, level),
        matrixHeight: rowsAt(set, level),
      }
    }),
  }
}
