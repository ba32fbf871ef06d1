// Owns the table of a collection that an import creates, replaces or appends to.

import type { Session } from '../../database/session.ts'
import { type SQL, sql } from '../../database/sql.ts'
import { statementOf } from '../../database/template.ts'
import {
  COLLECTION_NAME,
  type DistributeBy,
  GEOMETRY_COLUMN,
  isMarked,
  SCHEMA,
  type TableDefinition,
  TOUCHED_COLUMN,
} from '../collections/managed.ts'
import { execute } from './execute.ts'
import { ImportError } from './import-error.ts'
import type { SpooledColumn, SpooledFeatures } from './spool.ts'

/** @property level of the cells, if the features of the table are distributed by cell */
export type Target = { readonly oid: string; readonly managed: boolean; readonly level: number | undefined }

export const tableName = (table: string): SQL => sql`${sql.identifier(SCHEMA)}.${sql.identifier(table)}`
const textOf = (statement: SQL) => statementOf(statement).text

/** @throws ImportError if no collection can have this name */
export function checkCollectionName(name: string) {
  if (COLLECTION_NAME.test(name)) return
  throw new ImportError(
    `"${name}" cannot name a collection: use up to 48 letters, digits, _ and -, the first a letter, for example my_roads.`,
  )
}

/** With the name of a collection it is no longer than PostgreSQL allows; no collection has spaces in its name. */
const REPLACEMENT_PREFIX = 'tessera import '

/** Returns the name of the new table while the table that it replaces exists. */
export const replacementName = (collection: string) => REPLACEMENT_PREFIX + collection

/** Returns the collection that a table belongs to, for messages: they never name the table that is to replace it. */
export const collectionOf = (table: string) =>
  table.startsWith(REPLACEMENT_PREFIX) ? table.slice(REPLACEMENT_PREFIX.length) : table

async function findTarget(session: Session, collection: string): Promise<Target | undefined> {
  const [row] = await execute<{ oid: string; managed: boolean; level: string | null }>(
    session,
    sql`select c.oid::text as oid, coalesce(m.is_managed, false) and ${isMarked(sql`c.oid`)} as managed, (
          select substring(pg_get_constraintdef(k.oid) from 'cell = tessera\\.cell\\(geom, (\\d+)\\)')
          from pg_constraint k where k.conrelid = c.oid and k.contype = 'c' order by 1 limit 1) as level
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        left join tessera.collection m on m.schema_name = n.nspname and m.table_name = c.relname
        where n.nspname = ${SCHEMA} and c.relname = ${collection}`,
  )
  return row && { ...row, level: row.level === null ? undefined : Number(row.level) }
}

/**
 * Checks that the table may be created, replaced or appended to. The import does so before it reads the source, because
 * a long import should not fail at its end, and again before it changes the table: meanwhile somebody may have created
 * or dropped one.
 * @param existing what to do with a table that exists; undefined: fail
 * @returns undefined if the collection has no table yet
 * @throws ImportError
 */
export async function checkTarget(
  session: Session,
  collection: string,
  existing: 'append' | 'replace' | undefined,
): Promise<Target | undefined> {
  const target = await findTarget(session, collection)
  if (!target && existing === 'append') {
    throw new ImportError(`There is no collection ${collection} to append to; leave out --append to make it.`)
  }
  if (target && !existing) {
    throw new ImportError(`The collection ${collection} exists; say --append or --replace.`)
  }
  if (target && existing === 'replace' && !target.managed) {
    throw new ImportError(
      `${collection} was not made by an import, so it is not replaced; choose another name.`,
    )
  }
  return target
}

/**
 * Returns the type of a column that holds these geometries. Point and MultiPoint together are stored as MultiPoint, and
 * so on for lines and polygons; other mixtures need a column of any type.
 * @property type undefined for any type and dimension: such a column has no place for the coordinate system
 * @property multi the type of single geometries that are stored as multiple ones, for example Point
 */
export function geometryColumnOf({ geometryTypes, dimensions }: SpooledFeatures): {
  readonly type: string | undefined
  readonly multi: string | undefined
} {
  if (dimensions.size > 1) return { type: undefined, multi: undefined }
  const suffix = dimensions.has(3) ? 'Z' : ''
  const families = new Set([...geometryTypes].map((type) => type.replace('Multi', '')))
  const [family] = families
  const isMixed = families.size !== 1
  const multi = !isMixed && geometryTypes.size === 2 ? family : undefined
  const type = isMixed ? 'Geometry' : multi ? `Multi${family}` : [...geometryTypes][0]!
  return { type: type + suffix, multi }
}

/**
 * Creates a table without keys and indexes, which are faster to create when the rows are there; see `finishTable`. On Citus
 * it is distributed.
 * @param hasIds true if the features bring their ids
 * @param level of the cells; undefined: features are not distributed by cell
 * @throws ImportError if another import has created the table since `checkTarget`
 */
export async function createTable(
  session: Session,
  table: string,
  spooled: SpooledFeatures,
  hasIds: boolean,
  level: number | undefined,
  distribution: DistributeBy,
) {
  const definition: TableDefinition = {
    columns: spooled.columns.map(({ name, type, isComplete }) => ({ name, type, isRequired: isComplete })),
    geometry: { type: geometryColumnOf(spooled).type ?? null, isRequired: !spooled.hasNullGeometry },
    idType: /^(integer|bigint)$/.test(hasIds ? spooled.idType : 'bigint') ? 'bigint' : 'text',
    level: level ?? null,
    distribution,
  }
  await session
    .query('select tessera.create_table($1, $2)', [table, JSON.stringify(definition)])
    .catch((cause) => {
      if (cause.code !== '42P07') throw cause
      throw new ImportError(`The collection ${collectionOf(table)} is being made by another import.`, {
        cause,
      })
    })
}

/** @returns undefined without Citus; else the number of shards that a new table gets */
export async function findCitus(session: Session): Promise<{ readonly shards: number } | undefined> {
  const [row] = await session.query<{ shards: string | null }>(
    "select current_setting('citus.shard_count', true) as shards",
  )
  return row?.shards ? { shards: Number(row.shards) } : undefined
}

/**
 * Returns the columns of the features as the table has them: a column of text keeps decimal commas.
 * @throws ImportError if the table lacks a column that the features need
 */
export async function adaptColumns(
  session: Session,
  oid: string,
  { columns }: SpooledFeatures,
): Promise<SpooledColumn[]> {
  const rows = await session.query<{ attname: string; isNumber: boolean }>(
    `select a.attname, t.typcategory = 'N' as "isNumber" from pg_attribute a join pg_type t on t.oid = a.atttypid
     where attrelid = $1 and attnum > 0 and not attisdropped`,
    [oid],
  )
  const existing = new Map(rows.map((row) => [row.attname, row]))
  const missing = columns.filter(({ name }) => !existing.has(name)).map(({ name }) => name)
  if (missing.length > 0) {
    throw new ImportError(
      `The collection has no ${missing.join(', ')}; nothing was appended. It has ${[...existing.keys()].join(', ')}.`,
    )
  }
  return columns.map((column) =>
    existing.get(column.name)!.isNumber ? column : { ...column, commaExample: undefined },
  )
}

/** @returns the names of the columns of type json and jsonb, whose text must be JSON */
export async function findJsonColumns(session: Session, oid: string): Promise<ReadonlySet<string>> {
  const rows = await session.query<{ attname: string }>(
    `select attname from pg_attribute
     where attrelid = $1 and attnum > 0 and atttypid in ('json'::regtype, 'jsonb'::regtype)`,
    [oid],
  )
  return new Set(rows.map((row) => row.attname))
}

/**
 * @returns the type of the geometry column, without its dimension, for example MultiPoint; and whether it has no place
 * for the coordinate system
 */
export async function geometryTypeOf(session: Session, oid: string) {
  const [row] = await session.query<{ type: string; srid: number }>(
    `select postgis_typmod_type(atttypmod) as type, postgis_typmod_srid(atttypmod) as srid
     from pg_attribute where attrelid = $1 and attname = $2`,
    [oid, GEOMETRY_COLUMN],
  )
  return { type: row?.type.replace(/ZM?$|M$/, '') ?? 'Geometry', namesSystem: row?.srid === 0 }
}

/**
 * Checks that the collection still has the table that was checked before features were loaded. The caller has locked the
 * table, so that this holds until the end of its transaction.
 * @throws ImportError
 */
export async function checkSameTable(session: Session, collection: string, { oid }: Target) {
  const now = await findTarget(session, collection)
  if (now?.oid !== oid)
    throw new ImportError(
      `Another session has dropped the table of ${collection}, or put another in its place, during the import. Nothing was imported.`,
    )
}

/**
 * Drops the table of a collection and gives its name to the new one.
 * @param checked the table that may be dropped; meanwhile another may have taken its name
 * @throws ImportError if the table cannot be dropped, for example because a view depends on it
 */
export async function replaceTable(session: Session, collection: string, checked: Target) {
  const replacing = (cause: Error & { detail?: string }) => {
    throw new ImportError(
      `${collection} cannot be replaced: ${cause.message}${cause.detail ? ` (${cause.detail})` : ''}.`,
      { cause },
    )
  }
  await execute(session, sql`lock table ${tableName(collection)} in access exclusive mode`).catch(replacing)
  await checkSameTable(session, collection, checked)
  await execute(session, sql`drop table ${tableName(collection)}`).catch(replacing)
  const replacement = tableName(replacementName(collection))
  await execute(session, sql`alter table ${replacement} rename to ${sql.identifier(collection)}`)
}

/**
 * Adds the key and the indexes to a new table that has its rows.
 * @param level of the cells; undefined: features are not distributed by cell
 * @throws ImportError if two features have the same id
 */
export async function finishTable(session: Session, collection: string, level: number | undefined) {
  await session.query('select tessera.finish_table($1, $2)', [collection, level ?? null]).catch((cause) => {
    if (cause.code !== '23505') throw cause
    throw sameId(cause.detail ?? cause.message, cause)
  })
}

const sameId = (detail: string, cause?: Error) =>
  new ImportError(
    `Two features have the same id: ${detail} Nothing was imported; choose a property that is unique with --id, or leave out the ids (tessera copy does so with --new-ids).`,
    { cause },
  )

/**
 * Checks that no new feature has an id of its own that another feature has, too. The key of the table compares features
 * of one cell only, because it has the cell before their own ids.
 * @param isAppend true if the table had features before: duplicates among these are none of the import's
 * @throws ImportError
 */
export async function checkOwnIds(session: Session, collection: string, isAppend: boolean) {
  // As a value, because each node of a cluster has its own time of the transaction.
  const [transaction] = await session.query<{ start: string }>('select now()::text as start')
  const isNew = isAppend
    ? sql`and bool_or(${sql.identifier(TOUCHED_COLUMN)} = ${transaction!.start}::timestamptz)`
    : sql``
  const [row] = await execute<{ own: string }>(
    session,
    sql`select substr(id, strpos(id, '.') + 1) as own from ${tableName(collection)} group by 1
        having count(*) > 1 ${isNew} limit 1`,
  )
  if (row) throw sameId(`${row.own} is duplicated, in different cells.`)
}

/** Moves the sequence of ids beyond the ids that came with the features. */
export async function advanceSequence(session: Session, collection: string) {
  const qualified = textOf(tableName(collection))
  const [row] = await session.query<{ sequence: string | null }>(
    "select pg_get_serial_sequence($1, 'id') as sequence",
    [qualified],
  )
  if (!row?.sequence) return
  await session.query(`select setval($1, greatest(1, (select max(id) from ${qualified})))`, [row.sequence])
}

/** Lets counts and joins read the index alone. PostgreSQL allows VACUUM only outside of a transaction. */
export async function vacuumTable(session: Session, collection: string) {
  await session.query(textOf(sql`vacuum (analyze) ${tableName(collection)}`))
}
