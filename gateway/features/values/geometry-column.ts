// Owns the geometry column of a collection in SQL: its values as they are stored, and in degrees.
//
// A column may declare a coordinate system, or each of its rows may have one of its own. What a column declares is
// known from the catalog, which may be some seconds old. A statement therefore casts a column to the type that it is
// known to have: PostgreSQL drops a cast to the type that a column has already, and the cast fails if the column has
// another coordinate system by now. Without a declared type, the SRID of each row decides.

import { type SQL, sql } from '../../database/sql.ts'
import { DEGREES } from './coordinate-system.ts'

export type GeometryColumn = {
  readonly column: string
  /** Type in capitals, as in `MULTIPOLYGON`; `GEOMETRY` for any. */
  readonly type: string
  /** Code of the coordinate system that all rows have; undefined if the column declares none. */
  readonly srid: number | undefined
  /** The declared type, `geometry(PointZ,4326)`, to which a cast is free; undefined if there is none with an SRID. */
  readonly cast: string | undefined
  readonly isGeography: boolean
  /** True if the type is a domain over geometry or geography. */
  readonly isDomain: boolean
  /** 3 for positions with a height; undefined if there may be both. */
  readonly dimension: 2 | 3 | undefined
  readonly isNullable: boolean
}

/** Returns the column as a geometry in the coordinate system of its row. */
export function storedGeometry({ column, cast, isGeography, isDomain }: GeometryColumn): SQL {
  const own = sql`${sql.identifier(column)}`
  const declared = cast === undefined ? own : sql`${own}::${sql.raw(cast)}`
  return isGeography || isDomain ? sql`${declared}::geometry` : declared
}

/** Returns the column in degrees of WGS 84. @param refine see geometryIn */
export const geometryInDegrees = (column: GeometryColumn, refine?: (geometry: SQL) => SQL): SQL =>
  geometryIn(DEGREES, column, refine)

const isStraight = ({ type }: GeometryColumn) => /^(MULTI)?(POINT|LINESTRING|POLYGON)(Z|M|ZM)?$/.test(type)

/** Returns how geometries of the column become straight lines. */
export const straightened = (column: GeometryColumn) => (geometry: SQL) =>
  isStraight(column) ? geometry : sql`ST_CurveToLine(${geometry})`

/** True if every geometry of the column can be converted to a system: none is transformed, and none is a surface of faces. */
export const isAlwaysConvertible = (column: GeometryColumn, srid: number) =>
  column.srid === srid && column.cast !== undefined && isStraight(column)

/**
 * Returns the column in a coordinate system. An SRID of 0 says nothing: such a row is assumed to be in degrees, but only
 * if it is within the bounds of these; otherwise it has no geometry.
 * @param refine what is done to the geometry before; it keeps the SRID
 * @param outside the geometry in place of one that is not within the bounds
 */
export function geometryIn(
  srid: number,
  column: GeometryColumn,
  refine = (geometry: SQL) => geometry,
  outside = sql`null`,
): SQL {
  const stored = storedGeometry(column)
  const refined = refine(stored)
  const transform = (geometry: SQL) => sql`ST_Transform(${geometry}, ${sql.raw(String(srid))})`
  if (column.cast !== undefined) return column.srid === srid ? refined : transform(refined)
  const isOutside = sql`ST_XMin(${stored}) < -180 or ST_XMax(${stored}) > 180 or ST_YMin(${stored}) < -90 or ST_YMax(${stored}) > 90`
  const inDegrees = sql`ST_SetSRID(${refined}, ${sql.raw(String(DEGREES))})`
  const assumed = srid === DEGREES ? inDegrees : transform(inDegrees)
  return sql`case when ST_SRID(${stored}) <> 0 then ${transform(refined)} when ${isOutside} then ${outside} else ${assumed} end`
}

/**
 * Returns the description of a column of a subquery that has geometries of this one: their SRIDs alone count, because
 * they are no longer of the declared type.
 */
export const takenOut = (geometry: GeometryColumn, column: string): GeometryColumn => ({
  ...geometry,
  column,
  srid: undefined,
  cast: undefined,
  isGeography: false,
  isDomain: false,
})

/**
 * Converts a geometry to what the column stores. A column that declares no coordinate system gets degrees in a new row,
 * and that of the row in an existing one.
 * @param from the SRID of the value
 */
export function geometryToStore(geometry: GeometryColumn, isNew: boolean, value: SQL, from = DEGREES): SQL {
  const converted = convert(geometry, isNew, value, from)
  return geometry.isGeography ? sql`(${converted})::geography` : converted
}

function convert(geometry: GeometryColumn, isNew: boolean, value: SQL, from: number): SQL {
  const { srid } = geometry
  const to = (target: number) =>
    target === from ? value : sql`ST_Transform(${value}, ${sql.raw(String(target))})`
  if (srid !== undefined) return to(srid)
  if (isNew) return to(DEGREES)
  const own = sql`ST_SRID(${storedGeometry(geometry)})`
  return sql`case when ${own} = 0 then ST_SetSRID(${to(DEGREES)}, 0) else ST_Transform(${value}, coalesce(${own}, 4326)) end`
}
