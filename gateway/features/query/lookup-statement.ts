// Owns the statement that reads features by their ids.

import type { Fragment } from '../../database/fragment.ts'
import { type SQL, sql } from '../../database/sql.ts'
import type { Statement } from '../../database/statement.ts'
import { type Collection, isSpreadByCell } from '../collections/collection.ts'
import type { Encoder } from '../formats/encoder.ts'
import { geojson } from '../formats/geojson.ts'
import { cellsCondition, compileRead, type From, where } from '../sharding/shard-statement.ts'
import { columnOf } from '../values/column.ts'
import { itemOf, itemUnlessLarge, onlyVersionOf, pageOf } from './stored-feature.ts'

/**
 * What is read of features: those that are not large, with others; all of a single one, for a page of people too; each of
 * these with its geometry as stored; or its version.
 */
const PARTS = {
  small: itemUnlessLarge,
  whole: (collection: Collection, encoder: Encoder) => itemOf(collection, 'converted', encoder),
  stored: (collection: Collection, encoder: Encoder) => itemOf(collection, 'stored', encoder),
  page: (collection: Collection, encoder: Encoder) => pageOf(collection, encoder, 'converted'),
  'stored page': (collection: Collection, encoder: Encoder) => pageOf(collection, encoder, 'stored'),
  version: onlyVersionOf,
}
export type Part = keyof typeof PARTS

/**
 * Returns a statement whose rows are the features of these ids: the id as it was given, the feature, its version.
 * @param ids at least one
 * @param cells those that they are all in, at least one; undefined to look everywhere
 */
export function compileLookup(
  collection: Collection,
  ids: readonly string[],
  cells?: readonly number[],
  part: Part = 'whole',
  encoder = geojson,
): Statement {
  const id = columnOf(collection.idColumn!)
  const select = (from: From, ...conditions: (SQL | undefined)[]) =>
    sql`select ${PARTS[part](collection, encoder)} from ${from.table}${where(from, ...conditions)}`
  const within = cells && cellsCondition(cells)
  // Citus caches no plan for several cells, so there is nothing that a list of ids would gain.
  const among = cells && cells.length > 1 ? amongAny(id, ids) : amongList(id, ids)
  return compileRead(
    collection,
    `lookup ${part} ${encoder.kind}`,
    [within, among],
    select,
    isSpreadByCell(collection) ? cells : undefined,
  )
}

const amongAny = (id: SQL, ids: readonly string[]): Fragment => ({
  shape: 'any',
  values: [ids],
  compose: (ids) => sql`${id} = any(${ids})`,
})

/**
 * True for any of the ids, written as a list whose length is a power of four and which is filled up with the last id.
 * PostgreSQL does not know the length of an array beforehand and would plan the statement each time, which takes as
 * long as running it.
 */
function amongList(id: SQL, ids: readonly string[]): Fragment {
  const length = 4 ** Math.ceil(Math.log2(ids.length) / 2)
  return {
    shape: `list ${length}`,
    values: Array.from({ length }, (_, at) => ids[Math.min(at, ids.length - 1)]),
    compose: (...list) => sql`${id} in (${sql.join(list, sql`, `)})`,
  }
}
