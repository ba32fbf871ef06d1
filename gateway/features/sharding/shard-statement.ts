// Owns reading a single shard without Citus: a statement that names cells of one shard is compiled for the table and, on
// demand, for the shard's own table.

import { combine, compileFragment, composeNumbered, type Fragment } from '../../database/fragment.ts'
import { type SQL, sql } from '../../database/sql.ts'
import type { Statement } from '../../database/statement.ts'
import { fillTemplate, shardTemplateOf } from '../../database/template.ts'
import { type Collection, cellColumn, type Shard, shardOfCells, tableOf } from '../collections/collection.ts'
import type { Condition } from '../values/condition.ts'

/** The table that rows are read from, and conditions that must hold there in any case. */
export type From = { readonly table: SQL; readonly conditions: readonly SQL[] }

const fromTable = (collection: Collection): From => ({ table: tableOf(collection), conditions: [] })

/** @param shard its id must be a number: it is part of the text */
const fromShard = ({ schema }: Collection, { id, table }: Shard): From => ({
  table: sql`${sql.identifier(schema)}.${sql.identifier(table)}`,
  conditions: [isHere(id)],
})

/**
 * Divides by zero if this node does not hold the shard, instead of finding nothing: a node that a shard was moved away
 * from keeps its old copy for some time (shardstate 1 is an active placement). The condition depends on no row, so
 * PostgreSQL evaluates it once, before it reads any.
 */
const isHere = (id: number) => sql`1 / (select count(*) from pg_catalog.pg_dist_placement
  join pg_catalog.pg_dist_local_group using (groupid)
  where shardid = ${sql.raw(String(id))} and shardstate = 1) = 1`

/**
 * True for rows in these cells. Citus sends the query only to the shards of these cells; it caches the plan only for a
 * single value.
 */
export function cellsCondition(cells: readonly number[]): Condition {
  if (cells.length === 1)
    return { shape: 'cell', values: cells, compose: (cell) => sql`${cellColumn} = ${cell}` }
  return { shape: 'cells', values: [cells], compose: (cells) => sql`${cellColumn} = any(${cells})` }
}

/**
 * Returns a statement that reads features.
 * @param kind what the text depends on besides the collection and the parts
 * @param parts undefined for one that is left out; see combine
 * @param cells cells that contain all rows that it can find; undefined if they can be anywhere
 */
export function compileRead(
  collection: Collection,
  kind: string,
  parts: readonly (Fragment | undefined)[],
  compose: (from: From, ...texts: (SQL | undefined)[]) => SQL,
  cells: readonly number[] | undefined,
): Statement {
  const readFrom = (from: From) =>
    combine(`${kind} ${collection.version}`, parts, (...texts) => compose(from, ...texts))
  const fragment = readFrom(fromTable(collection))
  const shard = cells && shardOfCells(collection, cells)
  const ofShard = () => {
    const template = shardTemplateOf(`${fragment.shape} of ${shard!.id}`, () =>
      composeNumbered(readFrom(fromShard(collection, shard!))),
    )
    return fillTemplate(template, fragment.values)
  }
  return { ...compileFragment(fragment, cells), ...(shard ? { ofShard } : {}) }
}

/** Returns the clause for these conditions and those of `from`; empty if there are none. */
export function where(from: From, ...conditions: (SQL | undefined)[]): SQL {
  const all = [...from.conditions, ...conditions.filter((condition) => condition !== undefined)]
  return all.length > 0 ? sql` where ${sql.join(all, sql.raw(' and '))}` : sql``
}
