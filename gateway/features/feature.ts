// Owns what a row is as a feature, in SQL: its text, and what tells one version of it from another.

import { type SQL, sql } from 'drizzle-orm'
import { gatewayError } from '../errors.ts'
import { type Collection, type Column, columnOf } from './collection.ts'

/** Nine decimals of a degree: a tenth of a millimetre. */
const DECIMALS = 9

/** A feature's text up to its last brace, which is left to whoever has links to add. */
export function featureOf({ geometry, idColumn }: Collection, properties: readonly Column[]): SQL {
  const id = idColumn
    ? sql`'"id":' || ${idColumn.kind === 'integer' ? columnOf(idColumn) : sql`to_json(${columnOf(idColumn)})`} || ',`
    : sql`'`
  // p.* and not p, which would be the column of that name if there is one.
  const members =
    properties.length > 0
      ? sql`(select row_to_json(p.*) from (select ${sql.join(properties.map(columnOf), sql.raw(', '))}) as p)`
      : sql`'{}'`
  return sql`'{"type":"Feature",' || ${id}"geometry":' || coalesce(ST_AsGeoJSON(${geometryOf(geometry)}, ${sql.raw(String(DECIMALS))}, 0), 'null') || ',"properties":' || ${members}`
}

/** The geometry as GeoJSON wants it: longitude and latitude, straight lines, rings by the right-hand rule. */
function geometryOf({ column, type, srid }: Collection['geometry']): SQL {
  let geometry = sql`${sql.identifier(column)}`
  if (!/^(MULTI)?(POINT|LINESTRING|POLYGON)(Z|M|ZM)?$/.test(type)) geometry = sql`ST_CurveToLine(${geometry})`
  if (srid !== 4326 && srid !== 0) geometry = sql`ST_Transform(${geometry}, 4326)`
  if (/POLYGON|GEOMETRY|CURVE|SURFACE/.test(type)) geometry = sql`ST_ForcePolygonCCW(${geometry})`
  return geometry
}

/**
 * A 64-bit number that differs whenever a row does. By its content and not by xmin, so that it is the same
 * on a secondary, after a shard has moved or a dump was restored, and through a view.
 */
export const versionOf = ({ columnNames }: Collection): SQL =>
  sql`hashtextextended(row(${sql.join(
    columnNames.map((name) => sql.identifier(name)),
    sql.raw(', '),
  )})::text, 0)`

export const featureNotFound = (collection: Collection, id: string) =>
  gatewayError(
    'feature-not-found',
    `There is no feature ${JSON.stringify(id)} in the collection ${collection.id}.`,
    { collection: collection.id, feature: id },
  )
