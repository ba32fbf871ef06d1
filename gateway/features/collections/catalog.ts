// Owns the list of collections: read from PostgreSQL's catalog, and kept up to date as tables come, change and go.

import { readFileSync } from 'node:fs'
import { sql } from 'drizzle-orm'
import type { Database } from '../../database/contract.ts'
import type { Statement } from '../../database/statement.ts'
import { collectionTable } from '../../database/tables.ts'
import { statementOf } from '../../database/template.ts'
import { gatewayError } from '../../errors.ts'
import type { Emit } from '../../events.ts'
import {
  CELL_COLUMN,
  type Changeable,
  type Collection,
  collectionId,
  type Distribution,
  makeCollection,
  type Registration,
  type Relation,
} from './collection.ts'

export interface Catalog {
  /** False if it was never found out what may be changed, because no primary has answered yet. */
  readonly knowsCapabilities: boolean
  /** @throws GatewayError collection-not-found */
  get(id: string): Collection
  /** Ordered by id. */
  list(): readonly Collection[]
  /** Reads the catalog now; without it, changes are noticed within RELOAD_INTERVAL_MS. */
  reload(): Promise<void>
  close(): void
}

export type CatalogOptions = {
  readonly database: Database
  /** Schemas to serve; empty for all that the role can read. */
  readonly schemas: readonly string[]
  readonly excludeSchemas: readonly string[]
  readonly emit: Emit
}

/** Two such intervals and a query fit into the five seconds within which a new table must appear. */
const RELOAD_INTERVAL_MS = 2_000

const discovery = readFileSync(new URL('catalog.sql', import.meta.url), 'utf8')
const privileges: Statement = {
  name: 'tessera_changeable',
  text: readFileSync(new URL('changeable.sql', import.meta.url), 'utf8'),
  values: [],
}

/** Versions are never reused, so that a statement that was compiled for a former table is not found again. */
let lastVersion = 0

/** Loads the catalog, then keeps it up to date. @throws GatewayError if the first load fails */
export async function openCatalog({
  database,
  schemas,
  excludeSchemas,
  emit,
}: CatalogOptions): Promise<Catalog> {
  let collections = new Map<string, Collection>()
  let seen = ''
  /** Facts from which each collection was created; if they are unchanged, the collection stays the same object. */
  let origins = new Map<string, string>()
  let loading: Promise<void> = Promise.resolve()
  let queued: Promise<void> | undefined
  /** Last known result of changeable.sql, as JSON. */
  let changeable = '[]'
  let knowsCapabilities = !database.canWrite
  const srids = new Map<string, number>()

  async function load() {
    const statement: Statement = {
      name: 'tessera_catalog',
      text: discovery,
      values: [schemas, excludeSchemas],
    }
    const [row] = await database.read(statement)
    const [found, isRegistered, isCitus] = row as [string, string, string]
    const distributed = isCitus === 't' ? await database.read(distributions) : []
    const registered = isRegistered === 't' ? await database.read(registrations) : []
    const relations = JSON.parse(found) as Relation[]
    await findSrids(relations)
    await findChangeable()
    const current = JSON.stringify([found, registered, distributed, [...srids], changeable])
    if (current === seen) return
    const changes = new Map(
      (JSON.parse(changeable) as Changeable[]).map((table) => [
        collectionId(table.schema, table.table),
        table,
      ]),
    )
    const spread = new Map(
      distributed.map(([oid, column, shards]): [string, Distribution] => [
        oid!,
        column == null ? { by: 'reference' } : { by: 'column', column, shards: JSON.parse(shards!) },
      ]),
    )
    const notes = new Map(registered.map(([id, note]) => [id!, JSON.parse(note!) as Registration]))
    const nextCollections = new Map<string, Collection>()
    const nextOrigins = new Map<string, string>()
    for (const relation of relations) {
      const id = collectionId(relation.schema, relation.table)
      const described = { ...relation, srid: relation.srid || (srids.get(relation.oid) ?? 0) }
      const distribution = spread.get(relation.oid)
      const origin = JSON.stringify([described, notes.get(id), changes.get(id), distribution])
      const before = origins.get(id) === origin ? collections.get(id) : undefined
      nextCollections.set(
        id,
        before ?? makeCollection(described, notes.get(id), changes.get(id), distribution, ++lastVersion),
      )
      nextOrigins.set(id, origin)
    }
    collections = nextCollections
    origins = nextOrigins
    seen = current
    emit({ type: 'catalog-changed', collections: collections.size })
  }

  /** Finds the coordinate system of columns that do not declare it, such as those of views, from a first geometry. */
  async function findSrids(relations: readonly Relation[]) {
    for (const { oid, schema, table, geometryColumn, srid } of relations) {
      if (srid !== 0 || srids.has(oid)) continue
      const column = sql.identifier(geometryColumn)
      const first = statementOf(
        sql`select ST_SRID(${column}) from ${sql.identifier(schema)}.${sql.identifier(table)} where ${column} is not null limit 1`,
      )
      // If a view cannot be read, its own requests fail, but not the catalog.
      const [row] = await database.read(first).catch(() => [])
      if (row?.[0]) srids.set(oid, Number(row[0]))
    }
  }

  /** Finds out what may be changed. While the write port is down, reads go on with what was known before. */
  async function findChangeable() {
    if (!database.canWrite) return
    try {
      const [row] = await database.write(privileges, { mayWait: false, isRepeatable: true })
      changeable = row![0]!
      knowsCapabilities = true
    } catch (error) {
      emit({ type: 'catalog-load-failed', error: error as Error })
    }
  }

  /** Loads the catalog again after a load that is running, because that one may have read it before a change. */
  const reload = () => {
    queued ??= loading
      .catch(() => {})
      .then(() => {
        queued = undefined
        loading = load()
        return loading
      })
    return queued
  }
  await reload()
  const timer = setInterval(() => {
    reload().catch((error) => emit({ type: 'catalog-load-failed', error }))
  }, RELOAD_INTERVAL_MS)
  timer.unref()

  return {
    get knowsCapabilities() {
      return knowsCapabilities
    },
    get(id) {
      const collection = collections.get(id)
      if (collection) return collection
      throw gatewayError(
        'collection-not-found',
        `There is no collection ${JSON.stringify(id)}; /collections lists the existing ones.`,
        {
          collection: id,
        },
      )
    },
    list: () => [...collections.values()],
    reload,
    close: () => clearInterval(timer),
  }
}

/**
 * Returns rows of a table's oid, the column by which Citus distributes it (null if it is on every node), and its shards
 * as JSON. Shards are listed only if that column may be the cell and the table is colocated with tessera.moved_feature,
 * as node-groups.ts assumes.
 */
const distributions: Statement = {
  name: 'tessera_distributions',
  text: `select logicalrelid::oid::text, spread_by, (
      select coalesce(json_agg(json_build_object(
        'id', shardid, 'least', shardminvalue::int, 'most', shardmaxvalue::int,
        -- The last part is the table's name; a schema may precede it.
        'table', name[cardinality(name)]
      ) order by shardid), '[]')
      from pg_dist_shard s, parse_ident(shard_name(logicalrelid, shardid)) as name
      where s.logicalrelid = p.logicalrelid and spread_by = $1 and colocationid =
        (select colocationid from pg_dist_partition where logicalrelid = to_regclass('tessera.moved_feature'))
    )
    from pg_dist_partition p, column_to_column_name(logicalrelid, partkey) as spread_by
    where partmethod = 'h' or partmethod = 'n' and repmodel = 't' order by 1`,
  values: [CELL_COLUMN],
}

/** Returns rows of a collection's id and its metadata as JSON. */
const registrations = statementOf(
  sql`select
          case when schema_name = 'public' then table_name else schema_name || '.' || table_name end,
          json_build_object('title', title, 'description', description, 'license', license,
            'attribution', attribution, 'temporalColumn', temporal_column, 'isManaged', is_managed)
        from ${collectionTable} order by schema_name, table_name`,
)
