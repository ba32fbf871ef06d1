// Owns reading a shard past Citus: what asks cells of one shard is compiled for the table, and on demand for the shard.

import { type SQL, sql } from 'drizzle-orm'
import type { Statement } from '../../database/database.ts'
import { fillTemplate, shardTemplateOf, templateOf } from '../../database/template.ts'
import { type Collection, type Shard, shardOfCells, tableOf } from '../collections/collection.ts'

/** Where rows are read from, and what has to hold there besides what is asked. */
export type From = { readonly table: SQL; readonly conditions: readonly SQL[] }

export const fromTable = (collection: Collection): From => ({ table: tableOf(collection), conditions: [] })

/** @param id has to be a number: it stands in the text as it is */
const fromShard = ({ schema }: Collection, { id, table }: Shard): From => ({
  table: sql`${sql.identifier(schema)}.${sql.identifier(table)}`,
  conditions: [isHere(id)],
})

/**
 * Divides by zero where the shard is not, rather than finding nothing: the node that it was moved away from keeps what
 * it had for some time (1: an active placement). As it is about no row, PostgreSQL asks it once, and before it reads any.
 */
const isHere = (id: number) => sql`1 / (select count(*) from pg_catalog.pg_dist_placement
  join pg_catalog.pg_dist_local_group using (groupid)
  where shardid = ${sql.raw(String(id))} and shardstate = 1) = 1`

/**
 * A statement that reads features.
 * @param shape see templateOf
 * @param cells where all is that it may find; undefined for anywhere
 */
export function compileRead(
  collection: Collection,
  shape: string,
  compose: (from: From) => SQL,
  values: Record<string, unknown>,
  cells: readonly number[] | undefined,
): Statement {
  const template = templateOf(shape, () => compose(fromTable(collection)))
  const shard = cells && shardOfCells(collection, cells)
  const ofShard = () => {
    const ofOne = shardTemplateOf(`${shape} of ${shard!.id}`, () => compose(fromShard(collection, shard!)))
    return fillTemplate(ofOne, values)
  }
  return { ...fillTemplate(template, values, cells), ...(shard ? { ofShard } : {}) }
}
