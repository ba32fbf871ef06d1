// Owns the statement of one layer of a tile: which features it shows, their geometries on the grid of the tile, and how it
// stays below its limit in bytes.
//
// Points that are too many are thinned by a grid: of each of its cells one is shown, the same at every finer level. Lines
// and polygons are simplified to half a pixel, and the smallest are left out. Then features are taken from the largest to the
// smallest, points in an order that has nothing to do with their place, until the layer is full.

import { bound, type Fragment } from '../../database/fragment.ts'
import { type SQL, sql } from '../../database/sql.ts'
import type { Statement } from '../../database/statement.ts'
import { cellColumn, isSpreadByCell } from '../collections/collection.ts'
import { hashOfKey, sampleCondition } from '../collections/sample.ts'
import { compileRead, type From, where } from '../sharding/shard-statement.ts'
import { type Column, columnOf, freeName } from '../values/column.ts'
import { allOf, type Condition } from '../values/condition.ts'
import { type GeometryColumn, geometryInDegrees, storedGeometry } from '../values/geometry-column.ts'
import { boundsOf, gridOf, groundOf, type Tile } from './tile-matrix-set.ts'
import {
  CELL_BASE,
  cellOfGrid,
  cellsPart,
  drawable,
  hasPlainSystem,
  hasPoints,
  isInOneTable,
  polygonOf,
  sidesOf,
  type TileQuery,
  transformed,
} from './tile-query.ts'
import { type Survey, selectSurveyed } from './tile-sample.ts'

/** Steps of a tile's grid, as most tiles have them. */
export const EXTENT = 4096
/** Part of lines and polygons around the tile, in steps, so that their cut edges are not seen. */
const BUFFER = 64
/** Steps between positions of lines and polygons: half a pixel of a tile that is shown with 512 pixels. */
const SIMPLIFIED = 4
/** The grid has the tiles of so many levels further as its cells: 64 in each direction, eight pixels apart. */
const THINNED = 6
/** The same for clusters, which are drawn as large symbols. */
const CLUSTERED = 4
/** Points that are all shown. */
const MAX_UNTHINNED = 4_000
/** Lines and polygons that are drawn, the largest ones: no more fit into a tile. */
const MAX_DRAWN = 20_000
/** Largest integer that a number of JavaScript can hold. */
const MAX_ID = Number.MAX_SAFE_INTEGER

/** Name of the property of one feature of a layer that says how many features are not in it. */
export const LEFT_OUT = 'tessera_left_out'
/** Name of the property with the number of points in a cluster. */
export const POINT_COUNT = 'point_count'

type Field = {
  readonly name: string
  readonly value: SQL
  readonly isText: boolean
  readonly kind: 'plain' | 'flag'
}

/** Returns the fields of a feature: its id, unless that is the feature's own, and its properties. */
function fieldsOf({ collection, properties }: TileQuery): Field[] {
  const { idColumn } = collection
  const own = idColumn ? [fieldOf(idColumn)] : []
  if (own[0] && idColumn?.kind === 'integer')
    own[0] = { ...own[0], value: sql`case when not (${isOwnId(idColumn)}) then ${own[0].value} end` }
  return [...own, ...properties.map(fieldOf)]
}

const isOwnId = (column: Column) => sql`${columnOf(column)} between 0 and ${sql.raw(String(MAX_ID))}`

/** A type that tiles have no word for becomes text, as GeoJSON has it. */
function fieldOf(column: Column): Field {
  const { name, kind, type } = column
  const own = columnOf(column)
  const field = { name, isText: true, kind: 'plain' } as const
  if (kind === 'integer' || (kind === 'number' && type !== 'numeric'))
    return { ...field, value: own, isText: false }
  if (kind === 'boolean') return { ...field, value: own, isText: false, kind: 'flag' }
  if (/^(date|timestamp|other)$/.test(kind)) return { ...field, value: sql`to_json(${own}) #>> '{}'` }
  return { ...field, value: sql`${own}::text` }
}

/** Share of a tile's width around it in which geometries are kept before they are transformed: more than the buffer. */
const CLIP_MARGIN = 0.1
/** Latitude beyond which the projection of the tiles has no place. */
const MAX_LATITUDE = 85.5

/** Returns what is kept of geometries: a box in their own system if that is the tile's, else in degrees. */
function clipOf(tile: Tile, { srid }: GeometryColumn): string {
  const isOwn = srid === tile.set.srid
  const { minLongitude, minLatitude, maxLongitude, maxLatitude } = groundOf(tile)
  const [left, bottom, right, top] = isOwn
    ? boundsOf(tile)
    : [minLongitude, minLatitude, maxLongitude, maxLatitude]
  const margin = (right - left) * CLIP_MARGIN
  const most = isOwn ? Number.POSITIVE_INFINITY : MAX_LATITUDE
  return polygonOf(isOwn ? tile.set.srid : 4326, [
    left - margin,
    Math.max(bottom - margin, -most),
    right + margin,
    Math.min(top + margin, most),
  ])
}

/** Values of a tile that a statement binds, by their names. */
function valuesOf(query: TileQuery) {
  const { collection, tile, mostBytes, isClustered } = query
  const { geometry, id } = collection
  const bounds = boundsOf(tile)
  const isPlain = hasPlainSystem(geometry, tile)
  const grid = gridOf(tile, isClustered ? CLUSTERED : THINNED, (one) =>
    isPlain ? sidesOf(one, geometry) : boundsOf(one),
  )
  const [left, , right] = isPlain ? sidesOf(tile, geometry) : bounds
  const step = (bounds[2] - bounds[0]) / EXTENT
  return {
    layer: id,
    most: mostBytes,
    envelope: polygonOf(tile.set.srid, bounds),
    clip: clipOf(tile, geometry),
    left: bounds[0],
    bottom: bounds[1],
    simplified: step * SIMPLIFIED,
    across: grid.across,
    up: grid.up,
    /** Size below which a line or a polygon has less than half a step. */
    least: isPlain ? (right - left) / EXTENT / 2 : 0,
  }
}
type Place = Record<keyof ReturnType<typeof valuesOf>, SQL>

/** Returns what is near the tile of a geometry, in the system of the tile. */
function near(geometry: GeometryColumn, tile: Tile, { clip }: Place): SQL {
  const { srid } = tile.set
  const refine = drawable(geometry)
  const cut = (own: SQL) => sql`ST_ClipByBox2D(${own}, ${clip}::geometry::box2d)`
  // Most geometries are near the tile as a whole, which their boxes show.
  const clipped = (own: SQL) =>
    hasPlainSystem(geometry, tile)
      ? sql`case when ${storedGeometry(geometry)} @ ${clip}::geometry then ${own} else ${cut(own)} end`
      : cut(own)
  if (geometry.srid === srid) return clipped(refine(storedGeometry(geometry)))
  const inDegrees = clipped(geometryInDegrees(geometry, refine))
  return srid === 4326 ? inDegrees : sql`ST_Transform(${inDegrees}, ${sql.raw(String(srid))})`
}

/** Returns a geometry in the steps of the tile: simplified, and if nothing of it is left then, as exact as the steps are. */
function drawn(geometry: GeometryColumn, tile: Tile, place: Place): SQL {
  const inSteps = (shape: SQL, buffer: number) =>
    sql`ST_AsMVTGeom(${shape}, ${place.envelope}::geometry::box2d, ${sql.raw(String(EXTENT))}, ${sql.raw(String(buffer))}, true)`
  if (hasPoints(geometry)) return inSteps(transformed(geometry, tile), 0)
  const exact = near(geometry, tile, place)
  if (/^MULTIPOINT/.test(geometry.type)) return inSteps(exact, 0)
  const { left, bottom, simplified } = place
  const onGrid = sql`ST_SnapToGrid(${exact}, ${left}::float8, ${bottom}::float8, ${simplified}::float8, ${simplified}::float8)`
  const simple = sql`coalesce(${inSteps(onGrid, BUFFER)}, ${inSteps(exact, BUFFER)})`
  if (!/GEOMETRY/.test(geometry.type)) return simple
  return sql`case when ST_Dimension(${storedGeometry(geometry)}) = 0 then ${inSteps(exact, 0)} else ${simple} end`
}

/** Returns the texts of everything that depends on the place of a feature. */
function placeOf(query: TileQuery, place: Place) {
  const { tile } = query
  const { geometry } = query.collection
  const stored = storedGeometry(geometry)
  const position = hasPlainSystem(geometry, tile) ? stored : transformed(geometry, tile)
  const extent = (axis: string) =>
    sql`(${sql.raw(`ST_${axis}Max`)}(${stored}) - ${sql.raw(`ST_${axis}Min`)}(${stored}))`
  return {
    drawn: drawn(geometry, tile, place),
    position,
    cell: cellOfGrid(position, place.across, place.up),
    /** An area, which lines have too. */
    size: sql`(${extent('X')} + ${place.least}::float8) * (${extent('Y')} + ${place.least}::float8)`,
    isVisible: sql`(greatest(${extent('X')}, ${extent('Y')}) >= ${place.least}::float8 or ST_Dimension(${stored}) = 0)`,
    /** A number that has nothing to do with where a point is. */
    mixed: sql`hashfloat8(ST_XMin(${stored}) * 31 + ST_YMin(${stored}))`,
  }
}

/** How many features there are, if they are counted before the tile is read; and where they are read, if that was found out. */
export type Counted = {
  readonly total: number
  readonly isThinned: boolean
  readonly parts?: Survey['parts'] | undefined
}

export const isThinnedAt = (total: number) => total > MAX_UNTHINNED

/** Most rows that are looked at one by one, if PostGIS cannot convert one of them. */
const MAX_CAREFUL = 20_000

/** Returns what names a single row of a query; undefined if there is nothing. */
function nameOf(query: TileQuery): { readonly name: SQL; readonly type: SQL } | undefined {
  if (isInOneTable(query)) return { name: sql`item.ctid`, type: sql`::tid[]` }
  const { idColumn } = query.collection
  return idColumn && { name: sql`item.${columnOf(idColumn)}`, type: sql`` }
}

/** Returns the statement for the names of the rows in the place of a tile; undefined if rows have none. It does not fail. */
export function compileNames(query: TileQuery): Statement | undefined {
  const named = nameOf(query)
  if (!named) return undefined
  const parts = [query.place, cellsPart(query)].filter((part) => part !== undefined)
  return compileRead(
    query.collection,
    'tile names',
    [parts.length > 0 ? allOf(parts) : undefined],
    (from, within) =>
      sql`select ${named.name} from ${from.table} as item${where(from, within)} limit ${sql.raw(String(MAX_CAREFUL))}`,
    query.cells,
  )
}

/** Returns a statement with a row for each of these rows: its name if the tile may show it. It fails if one of them does. */
export function compileTrial(query: TileQuery, names: readonly string[]): Statement {
  const { collection, tile } = query
  const { name, type } = nameOf(query)!
  const values = valuesOf(query)
  const keys = Object.keys(values) as (keyof typeof values)[]
  return compileRead(
    collection,
    `tile trial ${tile.set.id}`,
    [cellsPart(query), bound(names), matchingOf(query, true), ...keys.map((key) => bound(values[key]))],
    (from, cells, list, matching, ...rest) => {
      const place = Object.fromEntries(keys.map((key, index) => [key, rest[index]!])) as Place
      // The last column is there to be computed.
      return sql`select case when ${matching} then (${name})::text end, ${placeOf(query, place).drawn} is null
        from ${from.table} as item${where(from, cells, sql`${name} = any(${list}${type})`)}`
    },
    query.cells,
  )
}

/** Returns the query for these rows alone. */
export function amongNames(query: TileQuery, names: readonly string[]): TileQuery {
  const { name, type } = nameOf(query)!
  const condition: Condition = {
    shape: 'tile among names',
    values: [names],
    compose: (list) => sql`${name} = any(${list}${type})`,
  }
  return { ...query, condition, place: condition, samples: [] }
}

/** Returns the statement that counts the features that the tile may show. */
export const compileTileCount = (query: TileQuery): Statement =>
  compileRead(
    query.collection,
    'tile count',
    [matchingOf(query, true)],
    (from, matching) => sql`select count(*) from ${from.table} as item${where(from, matching)}`,
    query.cells,
  )

/** Returns the statement for a row if any feature is in the tile, and none otherwise. */
export const compileAny = (query: TileQuery): Statement =>
  compileRead(
    query.collection,
    'tile any',
    [matchingOf(query, true)],
    (from, matching) => sql`select 1 from ${from.table} as item${where(from, matching)} limit 1`,
    query.cells,
  )

/** Returns the condition of the features in the tile; undefined for every row. @param isExact false to find all boxes */
function matchingOf(query: TileQuery, isExact: boolean): Fragment | undefined {
  const parts = [query.condition, isExact ? query.exact : undefined, cellsPart(query)].filter(
    (part) => part !== undefined,
  )
  return parts.length > 0 ? allOf(parts) : undefined
}

/**
 * Returns a statement for one row: the layer as in `compileTile`, and true if it has all features; otherwise these are more
 * than are shown without thinning, and the layer is of no use.
 * @param sample one of the query's, for whose points all features are counted first
 */
export function compileFew(query: TileQuery, sample: number): Statement {
  return compileLayer(query, `few ${sample}`, [], (from, place, conditions) =>
    selectFew(query, from, place, conditions, sample),
  )
}

/**
 * Returns a statement for one row: the layer as a tile in base64, empty if no feature is in it.
 * @param counted undefined if one table has all rows, each at a position of its own, so that the statement counts them
 */
export function compileTile(query: TileQuery, counted: Counted | undefined): Statement {
  const parts = counted?.parts ?? []
  const samples = parts.map(({ sample }) => sample)
  const sampled = samples.length > 0 ? `${isInOneTable(query)} ${samples}` : ''
  const way = query.isClustered
    ? 'clustered'
    : counted
      ? `counted ${counted.isThinned} ${sampled}`
      : 'in one table'
  const values = [counted && bound(counted.total), ...parts.map(({ boxes }) => bound(boxes))]
  return compileLayer(query, way, values, (from, place, conditions, [total, ...boxes]) => {
    const { matching, cells } = conditions
    if (query.isClustered) return selectClusters(query, from, place, matching)
    if (!counted) return selectInOneTable(query, from, place, conditions)
    const surveyed = samples.length > 0 ? { samples, cells, boxes: boxes as SQL[] } : undefined
    return surveyed && isInOneTable(query)
      ? selectSampled(query, from, place, surveyed, total!)
      : selectCounted(query, from, place, { matching, total: total!, surveyed }, counted.isThinned)
  })
}

/**
 * Compiles the statement of a layer.
 * @param way names how it selects
 * @param values further ones that it binds
 */
function compileLayer(
  query: TileQuery,
  way: string,
  values: readonly (Fragment | undefined)[],
  select: (from: From, place: Place, conditions: Conditions, texts: readonly (SQL | undefined)[]) => Rows,
): Statement {
  const { collection, tile, properties } = query
  const own = valuesOf(query)
  const names = Object.keys(own) as (keyof typeof own)[]
  const list = properties === collection.properties ? '' : JSON.stringify(properties.map(({ name }) => name))
  return compileRead(
    collection,
    `tile ${tile.set.id} ${way} ${list}`,
    [
      matchingOf(query, true),
      matchingOf(query, false),
      cellsPart(query),
      ...names.map((name) => bound(own[name])),
      ...values,
    ],
    (from, matching, boxed, cells, ...rest) => {
      const place = Object.fromEntries(names.map((name, index) => [name, rest[index]!])) as Place
      const texts = rest.slice(names.length)
      return encode(query, place, select(from, place, { matching, boxed, cells }, texts))
    },
    query.cells,
  )
}

/** What the features of a layer are encoded from. */
type Rows = {
  /** Queries with their names, before the others. */
  readonly before: SQL
  /** A query for `drawn`, `id`, `p0`, `p1`, … as the fields, `size`, `mixed`, and further columns. */
  readonly drawn: SQL
  readonly fields: readonly Field[]
  readonly hasId: boolean
  /** A query for how many features the tile could show. */
  readonly total: SQL
  /** True if these are all that the tile has to show, where that is found out by the statement itself. */
  readonly isComplete?: SQL
}

const alias = (index: number) => sql.raw(`p${index}`)

/** Returns the columns of `drawn` for a row of the table. */
function drawnColumns(query: TileQuery, place: Place, fields: readonly Field[]): SQL {
  const { idColumn, geometry } = query.collection
  const { drawn, size, mixed } = placeOf(query, place)
  const isPoint = hasPoints(geometry)
  const id =
    idColumn?.kind === 'integer'
      ? sql`case when ${isOwnId(idColumn)} then ${columnOf(idColumn)}::int8 end`
      : sql`null::int8`
  const own = fields.map(({ value }, index) => sql`, ${value} as ${alias(index)}`)
  return sql`${drawn} as drawn, ${id} as id, ${isPoint ? sql`0::float8` : size} as size, ${mixed} as mixed${sql.join(own)}`
}

/** Conditions of the rows of a tile: of what is in it, of what has its box in it, and of the cells that these are in. */
type Conditions = Readonly<Record<'matching' | 'boxed' | 'cells', SQL | undefined>>

/** Returns a query for the rows at these positions. */
const selectAt = (from: From, cells: SQL | undefined, columns: SQL, places: SQL) =>
  sql`select ${columns} from ${from.table} as item${where(from, cells, sql`item.ctid = any(array(${places}))`)}`

/** True for a cell that is not around the grid. */
const isInGrid = (cell: string) => {
  const within = (number: string) => `${number} between 1 and ${2 ** THINNED}`
  return sql.raw(`${within(`${cell} / ${CELL_BASE}`)} and ${within(`${cell} % ${CELL_BASE}`)}`)
}

/** Finds the positions of rows first, and reads only those that are shown. */
function selectInOneTable(
  query: TileQuery,
  from: From,
  place: Place,
  { matching, boxed, cells }: Conditions,
): Rows {
  const { geometry, idColumn } = query.collection
  const fields = fieldsOf(query)
  const { cell, size, isVisible, mixed } = placeOf(query, place)
  const columns = drawnColumns(query, place, fields)
  const hasId = idColumn?.kind === 'integer'
  const readAt = (places: SQL) => selectAt(from, cells, columns, places)
  if (!hasPoints(geometry)) {
    const found = sql`select item.ctid as place, ${size} as size, ${isVisible} as is_visible, ${mixed} as mixed
      from ${from.table} as item${where(from, matching)}`
    return {
      before: sql`found as materialized (${found}), `,
      drawn: readAt(
        sql`select found.place from found where found.is_visible order by found.size desc, found.mixed limit ${sql.raw(String(MAX_DRAWN))}`,
      ),
      fields,
      hasId,
      total: sql`select count(*) from found`,
    }
  }
  const found = sql`select min(placed.place) as place, count(*) as held
    from (select item.ctid as place, ${cell} as cell from ${from.table} as item${where(from, boxed)}) as placed
    group by placed.cell having ${isInGrid('placed.cell')}`
  const isThinned = sql.raw(`(select sum(found.held) from found) > ${MAX_UNTHINNED}`)
  // Only one of the two is run.
  return {
    before: sql`found as materialized (${found}), `,
    drawn: sql`select ${columns} from ${from.table} as item${where(from, sql`not ${isThinned}`, matching)}
      union all select seen.* from (${readAt(sql`select found.place from found`)}) as seen where ${isThinned}`,
    fields,
    hasId,
    total: sql`select sum(found.held) from found`,
  }
}

/** Reads all rows if they are few, which a sample shows before they are read. */
function selectFew(
  query: TileQuery,
  from: From,
  place: Place,
  { matching, boxed }: Conditions,
  sample: number,
): Rows {
  const { idColumn, key } = query.collection
  const fields = fieldsOf(query)
  const tooMany = sql.raw(String(Math.ceil(MAX_UNTHINNED / 4 ** sample) + 1))
  const seen = sql`select count(*) as seen from (
      select 1 from ${from.table} as item${where(from, boxed, sampleCondition(key, sample))} limit ${tooMany}) as sampled`
  const columns = drawnColumns(query, place, fields)
  return {
    before: sql`sampled as materialized (${seen}), `,
    drawn: sql`select ${columns} from ${from.table} as item${where(from, sql`(select sampled.seen from sampled) < ${tooMany}`, matching)}
      limit ${sql.raw(String(MAX_UNTHINNED + 1))}`,
    fields,
    hasId: idColumn?.kind === 'integer',
    total: sql`select count(*) from drawn`,
    isComplete: sql`(select sampled.seen from sampled) < ${tooMany} and (select counted.total from counted) <= ${sql.raw(String(MAX_UNTHINNED))}`,
  }
}

/** Places that a survey has found, and the cells of the tile. */
type Surveyed = {
  readonly samples: readonly number[]
  readonly cells: SQL | undefined
  readonly boxes: readonly SQL[]
}

/** Finds the positions of rows that are in the samples of their blocks, and of each cell reads that with the least hash. */
function selectSampled(query: TileQuery, from: From, place: Place, surveyed: Surveyed, total: SQL): Rows {
  const { idColumn, key } = query.collection
  const fields = fieldsOf(query)
  const columns = sql`item.ctid as place, ${placeOf(query, place).cell} as cell, ${hashOfKey(key)} as picked`
  const found = sql`select distinct on (placed.cell) placed.place
    from (${selectSurveyed(query, from, surveyed.samples, { ...surveyed, columns })} offset 0) as placed
    where ${isInGrid('placed.cell')} order by placed.cell, placed.picked, placed.place`
  return {
    before: sql`found as materialized (${found}), `,
    drawn: selectAt(
      from,
      surveyed.cells,
      drawnColumns(query, place, fields),
      sql`select found.place from found`,
    ),
    fields,
    hasId: idColumn?.kind === 'integer',
    total: sql`select ${total}::bigint`,
  }
}

/** Reads rows of several shards, or of a view: each shard thins its own, and what they return is thinned again. */
function selectCounted(
  query: TileQuery,
  from: From,
  place: Place,
  {
    matching,
    total,
    surveyed,
  }: {
    readonly matching: SQL | undefined
    readonly total: SQL
    readonly surveyed: Surveyed | undefined
  },
  isThinned: boolean,
): Rows {
  const { collection } = query
  const fields = fieldsOf(query)
  const { cell, size, isVisible, mixed } = placeOf(query, place)
  const columns = drawnColumns(query, place, fields)
  const common = {
    fields,
    hasId: collection.idColumn?.kind === 'integer',
    total: sql`select ${total}::bigint`,
  }
  if (!hasPoints(collection.geometry))
    return {
      ...common,
      before: sql``,
      drawn: sql`select ${columns} from ${from.table} as item${where(from, matching, isVisible)}
        order by ${size} desc, ${mixed} limit ${sql.raw(String(MAX_DRAWN))}`,
    }
  if (!isThinned)
    return {
      ...common,
      before: sql``,
      drawn: sql`select ${columns} from ${from.table} as item${where(from, matching)}`,
    }
  // Columns of ours have names that no column of a table is likely to have.
  // Not all columns of the table, some of which the role may not read.
  const read = [
    ...collection.columns.map(columnOf),
    columnOf({ name: collection.geometry.column }),
    ...(isSpreadByCell(collection) ? [cellColumn] : []),
  ]
  const wanted = (picked: SQL) =>
    sql`${sql.join(read, sql.raw(', '))}, ${cell} as tessera_cell, ${picked} as tessera_picked`
  const placed = surveyed
    ? sql`(select sampled.* from (${selectSurveyed(query, from, surveyed.samples, { ...surveyed, columns: wanted(hashOfKey(collection.key)) })}) as sampled
        where ${isInGrid('sampled.tessera_cell')})`
    : sql`(select ${wanted(mixed)} from ${from.table} as item${where(from, matching)})`
  const keys = sql`${cellColumn}, tessera_cell`
  const rows = isSpreadByCell(collection)
    ? sql`(select distinct on (${keys}) placed.* from ${placed} as placed order by ${keys}, tessera_picked)`
    : placed
  return {
    ...common,
    before: sql`sent as materialized (select ${columns}, item.tessera_cell as cell, item.tessera_picked as picked from ${rows} as item), `,
    drawn: sql`select distinct on (sent.cell) sent.* from sent order by sent.cell, sent.picked`,
  }
}

/** Returns one feature for the points of each cell of the grid: at their mean position, with what is equal in all of them. */
function selectClusters(query: TileQuery, from: From, place: Place, matching: SQL | undefined): Rows {
  const fields = fieldsOf(query)
  const { cell, position } = placeOf(query, place)
  const { srid, set } = { srid: query.collection.geometry.srid, set: query.tile.set }
  const own = fields.map(({ value, kind }, index) => {
    const one = kind === 'flag' ? sql`bool_and(${value})` : sql`min(${value})`
    return sql`, case when count(*) = 1 then ${one} end as ${alias(index)}`
  })
  const { idColumn } = query.collection
  const hasId = idColumn?.kind === 'integer'
  const id = hasId
    ? sql`case when count(*) = 1 and bool_and(${isOwnId(idColumn)}) then min(${columnOf(idColumn)})::int8 end`
    : sql`null::int8`
  const system = hasPlainSystem(query.collection.geometry, query.tile) ? srid! : set.srid
  const middle = sql`ST_SetSRID(ST_MakePoint(avg(ST_X(${position})), avg(ST_Y(${position}))), ${sql.raw(String(system))})`
  const placedMiddle =
    system === set.srid ? middle : sql`ST_Transform(${middle}, ${sql.raw(String(set.srid))})`
  return {
    before: sql``,
    drawn: sql`select ST_AsMVTGeom(${placedMiddle}, ${place.envelope}::geometry::box2d, ${sql.raw(String(EXTENT))}, 0, true) as drawn, ${id} as id,
        count(*)::float8 as size, 0 as mixed${sql.join(own)}, count(*) as ${alias(fields.length)}
      from ${from.table} as item${where(from, matching)} group by ${cell}`,
    fields: [...fields, { name: POINT_COUNT, value: sql``, isText: false, kind: 'plain' }],
    hasId,
    total: sql`select sum(${alias(fields.length)}) from drawn`,
  }
}

/** Bytes in a tile, at most: a feature, one of its positions, a property that is a text, without that, or a number, a name. */
const BYTES = { feature: 24, position: 5, text: 13, number: 17, name: 8, layer: 100 }
/** The first try takes this many times what fits for certain: equal values are written once, and most numbers are short. */
const HOPE = 2
/** Part of the limit that a second try aims at. */
const AIM = 0.97

/**
 * Encodes as many features as fit. The first try takes more than can fit for certain; if it is too large, the second takes
 * as many as its mean size promises, and the third as many as fit whatever their size is.
 */
function encode(query: TileQuery, { layer, most }: Place, rows: Rows): SQL {
  const isPoint = hasPoints(query.collection.geometry) && !query.isClustered
  const { fields, hasId, isComplete } = rows
  const isTaken = (name: string) => fields.some((field) => field.name === name)
  const geometry = freeName('geometry', isTaken)
  const id = freeName('feature_id', isTaken)
  const named = (name: string) => sql`${sql.identifier(name)}`
  const ofNames = fields.reduce((sum, { name }) => sum + Buffer.byteLength(name) + BYTES.name, BYTES.layer)
  const budget = sql`(${most}::int - ${sql.raw(String(ofNames))} - octet_length(${layer}::text))`
  const texts = fields.flatMap(({ isText }, index) =>
    isText ? [sql` + coalesce(octet_length(${alias(index)}), 0)`] : [],
  )
  const least = BYTES.feature + texts.length * BYTES.text + (fields.length - texts.length) * BYTES.number
  const bytes = sql`${sql.raw(String(least))} + ${sql.raw(String(BYTES.position))} * ST_NPoints(drawn)${sql.join(texts)}`
  const hasLeftOut = !isTaken(LEFT_OUT)
  const shown = fields.map(({ name }, index) => sql`${alias(index)} as ${named(name)}, `)
  const all = fields.map((_, index) => sql`, ${alias(index)}`)
  const count = query.isClustered ? sql`sum(${alias(fields.length - 1)}) over ()` : sql`count(*) over ()`
  const leftOut = hasLeftOut
    ? sql`, case when reached = bytes then nullif(greatest(counted.total - ${count}, 0), 0)::bigint end as ${named(LEFT_OUT)}`
    : sql``
  // Rows of `ranked` come in its order.
  const upTo = (
    limit: SQL,
  ) => sql`(select ST_AsMVT(layer, ${layer}::text, ${sql.raw(String(EXTENT))}, '${sql.raw(geometry)}'${hasId ? sql.raw(`, '${id}'`) : sql``}) from (
      select ${sql.join(shown)}${hasId ? sql`id as ${named(id)}, ` : sql``}drawn as ${named(geometry)}${leftOut}
      from ranked cross join counted where reached <= ${limit}) as layer)`
  const mean = sql`(select max(reached) from ranked where reached <= ${budget} * ${sql.raw(String(HOPE))})::float8 / octet_length(first.tile)`
  return sql`with ${rows.before}drawn as materialized (${rows.drawn}), ranked as materialized (
      select measured.*, sum(bytes) over in_order as reached
      from (select drawn, id, size, mixed${sql.join(all)}, ${bytes} as bytes from drawn where drawn is not null) as measured
      where bytes <= ${budget}
      window in_order as (order by ${isPoint ? sql`mixed` : sql`size desc, mixed`}${sql.join(all)}, id rows unbounded preceding)
    ), counted (total) as materialized (${rows.total})
    select encode(case when octet_length(tile) <= ${budget} then tile else coalesce(
      (select tile from (select ${upTo(sql`${budget} * ${sql.raw(String(AIM))} * ${mean}`)} as tile offset 0) as second where octet_length(tile) <= ${budget}),
      ${upTo(budget)}) end, 'base64')${isComplete ? sql`, ${isComplete}` : sql``}
    from (select ${upTo(sql`${budget} * ${sql.raw(String(HOPE))}`)} as tile offset 0) as first`
}
