// Owns pages whose cost does not grow with what lies in their boxes: the first page takes the features that the index
// finds first, and further ones go through the boxes quadrant by quadrant.
//
// A box is divided into quarters, and a quarter that holds too many features into quarters again. A feature is in the
// quadrant that has the south-western corner of its bounding box; one that begins outside of the box is moved to its edge.
// Corners and edges are compared by operators that a GiST index has, which all see coordinates rounded to float32: each
// feature is in one quadrant of each size, whichever way the box was divided for another page.

import { bound, combine, type Fragment } from '../../database/fragment.ts'
import { type SQL, sql } from '../../database/sql.ts'
import { type Collection, isSpread } from '../collections/collection.ts'
import { type From, where } from '../sharding/shard-statement.ts'
import { boxIn } from '../values/bbox.ts'
import { type Box, isTooWideForProjection, textOfBox } from '../values/box.ts'
import { type Column, columnOf } from '../values/column.ts'
import type { Condition } from '../values/condition.ts'
import { DEGREES } from '../values/coordinate-system.ts'
import { storedGeometry } from '../values/geometry-column.ts'

export type Quadrants = {
  /** Every feature of the query meets one of them; it is listed in the first that it meets. */
  readonly boxes: readonly Box[]
  /** Quadrant at which the page begins: a letter for the box, then a digit for each quarter. */
  readonly from: string
}

/** Most boxes that are gone through one after another; a box across the antimeridian is two. */
const MAX_BOXES = 4
/** Quadrants of a box of one degree are then a tenth of a metre wide. */
const MAX_DEPTH = 20
/** Features of a quadrant that need not be divided, also for shorter pages: dividing it costs as much as reading these. */
const LEAST_CAPACITY = 100
export const FIRST_QUADRANT = 'a'
const QUADRANT = new RegExp(`^[a-${String.fromCharCode(96 + MAX_BOXES)}][0-3]{0,${MAX_DEPTH}}$`)
export const isQuadrant = (text: unknown): text is string => typeof text === 'string' && QUADRANT.test(text)

/**
 * Returns the boxes that pages can go through; undefined if they must be in the order of the key. Citus plans no recursive
 * query over several shards.
 */
export function boxesToGoThrough(
  collection: Collection,
  condition: Condition | undefined,
): readonly Box[] | undefined {
  const { geometry, key } = collection
  const boxes = condition?.boxes
  if (!boxes || boxes.length === 0 || boxes.length > MAX_BOXES || key.length === 0) return undefined
  if (geometry.srid === undefined || geometry.isGeography || isSpread(collection)) return undefined
  const isTooWide = (box: Box) => box.given?.srid !== geometry.srid && isTooWideForProjection(box)
  return geometry.srid !== DEGREES && boxes.some(isTooWide) ? undefined : boxes
}

/** Returns what a walk through the quadrants depends on: where it begins, and the boxes in the system of the table. */
export const walkParts = ({ from, boxes }: Quadrants, { geometry }: Collection): [Fragment, Fragment] => [
  bound(from),
  combine(
    'boxes',
    boxes.map((box) => boxFragment(box, geometry.srid!)),
    (...outlines) =>
      sql.join(
        outlines.map((outline, number) => sql`select ${sql.raw(String(number))}, ${outline!}`),
        sql.raw(' union all '),
      ),
  ),
]

const boxFragment = (box: Box, srid: number): Fragment =>
  box.given?.srid === srid
    ? { shape: 'own box', values: [box.given.text], compose: (box) => sql`${box}::geometry` }
    : { shape: 'box', values: [textOfBox(box)], compose: (box) => boxIn(srid, box!) }

/** Parts of a walk, in SQL. */
export type Walk = {
  readonly limit: SQL
  readonly matching: SQL | undefined
  /** True for features after the last one of the page before, in the quadrant in which that ended. */
  readonly after: SQL | undefined
  readonly start: SQL
  readonly boxes: SQL
  /** Number of boxes. */
  readonly count: number
}

/**
 * Returns a query for the first features of the walk, in the order of their quadrants and in each quadrant in that of the key.
 * It reads the keys in a quadrant up to its capacity and divides the quadrant if it holds more, until it has found enough keys.
 * Then it reads the features of these.
 * @param feature its column; those of the key and the quadrant follow, then the further ones
 */
export function selectWalk(
  { geometry, key }: Collection,
  from: From,
  { limit, matching, after, start, boxes, count }: Walk,
  feature: SQL,
  further: SQL,
): SQL {
  const stored = storedGeometry(geometry)
  const srid = sql.raw(String(geometry.srid))
  const list = (compose: (column: Column, name: SQL) => SQL, separator = ', ') =>
    sql.join(
      key.map((column, index) => compose(column, sql.raw(`key${index}`))),
      sql.raw(separator),
    )
  // Names of our own are qualified: the table may have columns of the same names.
  const within = where(
    from,
    sql`${stored} && quadrant.box and ${stored} &> quadrant.low and ${stored} |&> quadrant.low
      and not ${stored} &> quadrant.high and not ${stored} |&> quadrant.high`,
    count > 1 ? sql`not ${stored} && any(quadrant.earlier)` : undefined,
    matching,
    after && sql`(quadrant.path <> ${start} or ${after})`,
  )
  const capacity = sql`greatest(${limit}::bigint, ${sql.raw(String(LEAST_CAPACITY))})`
  const keysIn = sql`select ${list((column, name) => sql`${columnOf(column)} as ${name}`)} from ${from.table} as item${within}`
  // The quadrant in which the page before ended stays as it is: the key of the last feature says nothing about its quarters.
  // What such a quadrant holds is sorted, however much that is.
  const isDivisible = sql`length(next.path) <= ${sql.raw(String(MAX_DEPTH))}${after ? sql` and next.path <> ${start}` : sql``}`
  /** Edges between quadrants are numbers of float32, which operators do not round. */
  const edge = (least: string, most: string, index: string) =>
    sql.raw(`(box.${least} + (box.${most} - box.${least}) * (${index}) / place.parts)::float4::float8`)
  return sql`with recursive box as materialized (
      select number, outline, ST_XMin(outline) as west, ST_YMin(outline) as south, ST_XMax(outline) as east,
        ST_YMax(outline) as north, coalesce(array_agg(outline) over (order by number rows between unbounded preceding
          and 1 preceding), '{}') as earlier
      from (${boxes}) as given (number, outline)
    ), walk as (
      select null::text as path, false as is_divided, 0::bigint as found, none.*
      from (select ${list((column, name) => sql`array_agg(${columnOf(column)}) as ${name}`)} from ${from.table} as item where false) as none
      union all
      select next.path, judged.is_divided, next.found + case when judged.is_divided then 0 else counted.held end,
        ${list((_, name) => sql`counted.${name}`)}
      from (
        -- The first quarter of a quadrant that was divided, else the quadrant that follows, as large as can be.
        select walk.found, case when walk.path is null then ${start}::text when walk.is_divided then walk.path || '0'
          else left(rtrim(walk.path, '3'), -1) || chr(ascii(right(rtrim(walk.path, '3'), 1)) + 1) end as path
        from walk where walk.found <= ${limit}::bigint offset 0
      ) as next
      join box on box.number = ascii(next.path) - ${sql.raw(String(FIRST_QUADRANT.charCodeAt(0)))}
      cross join lateral (
        select coalesce(sum((ascii(substr(next.path, digit + 1)) & 1) << length(next.path) - 1 - digit), 0)::float8 as x,
          coalesce(sum((ascii(substr(next.path, digit + 1)) >> 1 & 1) << length(next.path) - 1 - digit), 0)::float8 as y,
          2::float8 ^ (length(next.path) - 1) as parts
        from generate_series(1, length(next.path) - 1) as digit offset 0
      ) as place
      cross join lateral (
        select place.x = 0 as is_west, place.y = 0 as is_south, place.x + 1 = place.parts as is_east,
          place.y + 1 = place.parts as is_north,
          ${edge('west', 'east', 'place.x')} as west, ${edge('south', 'north', 'place.y')} as south,
          ${edge('west', 'east', 'place.x + 1')} as east, ${edge('south', 'north', 'place.y + 1')} as north
        offset 0
      ) as edge
      cross join lateral (
        select next.path, box.earlier,
          ST_MakeEnvelope(case when edge.is_west then box.west else edge.west end,
            case when edge.is_south then box.south else edge.south end,
            case when edge.is_east then box.east else edge.east end,
            case when edge.is_north then box.north else edge.north end, ${srid}) as box,
          ST_SetSRID(ST_MakePoint(case when edge.is_west then -1e300 else edge.west end,
            case when edge.is_south then -1e300 else edge.south end), ${srid}) as low,
          ST_SetSRID(ST_MakePoint(case when edge.is_east then 1e300 else edge.east end,
            case when edge.is_north then 1e300 else edge.north end), ${srid}) as high
        offset 0
      ) as quadrant
      cross join lateral (
        select count(*) as held, ${list((_, name) => sql`array_agg(matched.${name}) as ${name}`)}
        from (
          (${keysIn} and ${isDivisible} limit ${capacity} + 1)
          union all
          (${keysIn} and not (${isDivisible}) order by ${list((_, name) => name)} limit ${limit} + 1)
        ) as matched offset 0
      ) as counted
      cross join lateral (select counted.held > ${capacity} and ${isDivisible} as is_divided offset 0) as judged
    )
    -- One after another, as they are sorted: no other join is possible.
    select page.*
    from (
      select ${list((_, name) => sql`one.${name}`)}, quadrant.path
      from walk as quadrant cross join lateral unnest(${list((_, name) => sql`quadrant.${name}`)}) as one (${list((_, name) => name)})
      where not quadrant.is_divided
      order by quadrant.path collate "C", ${list((_, name) => sql`one.${name}`)}
      limit ${limit} + 1
    ) as wanted
    cross join lateral (
      select ${feature}, ${list((_, name) => sql`wanted.${name}`)}, wanted.path${further}
      from ${from.table} as item${where(
        from,
        list((column, name) => sql`${columnOf(column)} = wanted.${name}`, ' and '),
      )} limit 1
    ) as page`
}
