// Owns what each node stores: how many shards or tables, and how many rows PostgreSQL estimates in them.

import type { Row, Statement } from './statement.ts'

export type Stored = {
  /** Shards of a node of Citus; tables of a server without Citus. */
  readonly parts: number
  /** As the statistics of the tables have it, because counting would read every row. */
  readonly rows: number
}

/** Reads the catalog of one node of Citus. Its connections of Citus' own see the tables of shards. */
const SHARDS = `select count(*) || ' ' || coalesce(sum(greatest(reltuples, 0)), 0)::bigint
  from pg_dist_placement join pg_dist_shard using (shardid)
  join pg_class c on c.oid = to_regclass(shard_name(logicalrelid, shardid)) and relkind = 'r'
  where groupid = (select groupid from pg_dist_local_group)`

/**
 * Sends that to a node of each group, at once: to secondaries if it is sent to one. A node that does not answer has no
 * row.
 */
export const STORED_BY_GROUP: Statement = {
  name: 'tessera_stored_by_group',
  text: `select groupid, result from run_command_on_all_nodes($nodes$${SHARDS}$nodes$)
    join pg_dist_node using (nodeid) where success`,
  values: [],
}

/** The same on a server without Citus: all tables and materialized views that are neither the system's nor an extension's. */
export const STORED_HERE: Statement = {
  name: 'tessera_stored_here',
  text: `select 0, count(*) || ' ' || coalesce(sum(greatest(reltuples, 0)), 0)::bigint from pg_class c
    where relkind in ('r', 'm') and relpersistence <> 't'
    and relnamespace not in (select oid from pg_namespace where nspname in ('pg_catalog', 'information_schema'))
    and not exists (select from pg_depend d
      where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')`,
  values: [],
}

/** Returns what each node group stores, from the rows of one of these statements. */
export const parseStored = (rows: readonly Row[]): ReadonlyMap<number, Stored> =>
  new Map(
    rows.map(([group, result]) => {
      const [parts, count] = result!.split(' ').map(Number) as [number, number]
      return [Number(group), { parts, rows: count }]
    }),
  )
