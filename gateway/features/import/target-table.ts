// Owns the table that an import fills.

import { type SQL, sql } from 'drizzle-orm'
import type { Session } from '../../database/session.ts'
import { collectionTable, movedFeatureTable } from '../../database/tables.ts'
import { statementOf } from '../../database/template.ts'
import { GEOMETRY_COLUMN } from './column-name.ts'
import { ImportError } from './import-error.ts'
import type { Spool } from './spool.ts'

/** Collections are made in this schema, where their names need no prefix. */
export const SCHEMA = 'public'

/**
 * What keeps features together: where they lie; their ids, for those that move all the time or whose clients
 * give them their ids; or, on Citus, every node has all of them, which suits small collections.
 */
export const DISTRIBUTIONS = ['cell', 'id', 'reference'] as const
export type DistributeBy = (typeof DISTRIBUTIONS)[number]

export const execute = <T extends object>(session: Session, statement: SQL) => {
  const { text, values } = statementOf(statement)
  return session.query<T>(text, values)
}
export const textOf = (statement: SQL) => statementOf(statement).text

export const tableName = (table: string) => sql`${sql.identifier(SCHEMA)}.${sql.identifier(table)}`

/** Where a collection of this name is, or will be. @throws ImportError for a name that no collection can have */
export function parseCollectionName(name: string): string {
  // Some room is left below 63 bytes for the names of its index and its sequence.
  if (/^[A-Za-z_][A-Za-z0-9_-]{0,47}$/.test(name)) return name
  throw new ImportError(
    `"${name}" cannot name a collection: use up to 48 letters, digits, _ and -, the first a letter, for example my_roads.`,
  )
}

/** @property level of its cells, where it has some */
export type Target =
  | { readonly oid: string; readonly managed: boolean; readonly level: number | undefined }
  | undefined

export const findTarget = async (session: Session, collection: string): Promise<Target> => {
  const [row] = await execute<{ oid: string; managed: boolean; level: string | null }>(
    session,
    sql`select c.oid::text as oid, coalesce(m.is_managed, false) as managed, (
          select substring(pg_get_constraintdef(k.oid) from 'cell = tessera\\.cell\\(geom, (\\d+)\\)')
          from pg_constraint k where k.conrelid = c.oid and k.contype = 'c' order by 1 limit 1) as level
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        left join ${collectionTable} m on m.schema_name = n.nspname and m.table_name = c.relname
        where n.nspname = ${SCHEMA} and c.relname = ${collection}`,
  )
  return row && { ...row, level: row.level === null ? undefined : Number(row.level) }
}

/** Before anything is read: a large import should not find out at its end. */
export async function checkTarget(
  session: Session,
  {
    collection,
    existing,
  }: { readonly collection: string; readonly existing?: 'append' | 'replace' | undefined },
) {
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
}

/** Point and MultiPoint together make a column of MultiPoint, and so on; other mixtures one of any type. */
export function geometryColumnOf({ geometryTypes, dimensions }: Spool): {
  type: string
  multi: string | undefined
} {
  if (dimensions.size > 1) return { type: 'geometry', multi: undefined }
  const suffix = dimensions.has(3) ? 'Z' : ''
  const families = new Set([...geometryTypes].map((type) => type.replace('Multi', '')))
  const [family] = families
  const isMixed = families.size !== 1
  const multi = !isMixed && geometryTypes.size === 2 ? family : undefined
  const type = isMixed ? 'Geometry' : multi ? `Multi${family}` : [...geometryTypes][0]
  return { type: `geometry(${type}${suffix},4326)`, multi }
}

export async function createTable(
  session: Session,
  table: string,
  spool: Spool,
  hasIds: boolean,
  level: number | undefined,
) {
  const columns = spool.columns.map(({ name, observer, forced }) => {
    const constraint = observer.count === spool.features ? sql.raw(' not null') : sql``
    return sql`, ${sql.identifier(name)} ${sql.raw(forced ?? observer.type)}${constraint}`
  })
  const geometry = sql.raw(`${geometryColumnOf(spool).type}${spool.hasNullGeometry ? '' : ' not null'}`)
  const key = level === undefined ? sql.raw(`id ${idTypeOf(spool, hasIds)}`) : cellColumns(level)
  await execute(
    session,
    sql`create table ${tableName(table)} (
          ${key}, ${sql.identifier(GEOMETRY_COLUMN)} ${geometry}${sql.join(columns)},
          updated_at timestamptz not null default now())`,
  ).catch((cause) => {
    if (cause.code !== '42P07') throw cause
    throw new ImportError(`The collection ${table} is being made by another import.`, { cause })
  })
}

const idTypeOf = ({ identifiers }: Spool, hasIds: boolean) =>
  /^(integer|bigint)$/.test(hasIds ? identifiers.type : 'bigint')
    ? 'bigint generated by default as identity'
    : 'text not null default gen_random_uuid()'

/**
 * The check is what tells the catalog of the cells and their level (features/catalog.sql), and keeps whoever
 * writes there from putting a feature where nobody would look for it.
 */
const cellColumns = (level: number) =>
  sql.raw(
    `cell integer not null, id text collate "C" not null, constraint cell_of_geom check (cell = tessera.cell(${GEOMETRY_COLUMN}, ${level}))`,
  )

/** On Citus, before there are rows: they then go to their shards, or to every node. */
export async function distributeTable(session: Session, table: string, by: DistributeBy) {
  const name = textOf(tableName(table))
  const statements: Record<DistributeBy, string> = {
    // Beside the table that knows which features have moved, cell by cell.
    cell: "select create_distributed_table($1::regclass, 'cell', colocate_with => 'tessera.moved_feature')",
    id: "select create_distributed_table($1::regclass, 'id')",
    reference: 'select create_reference_table($1::regclass)',
  }
  await session.query(statements[by], [name])
}

export async function checkColumns(session: Session, oid: string, spool: Spool) {
  const rows = await session.query<{ attname: string }>(
    'select attname from pg_attribute where attrelid = $1 and attnum > 0 and not attisdropped',
    [oid],
  )
  const existing = new Set(rows.map((row) => row.attname))
  const missing = spool.columns.filter(({ name }) => !existing.has(name)).map(({ name }) => name)
  if (missing.length > 0) {
    throw new ImportError(
      `The collection has no ${missing.join(', ')}; nothing was appended. It has ${[...existing].join(', ')}.`,
    )
  }
}

/** The type of an existing table's geometry column, as in `MultiPoint`. */
export async function geometryTypeOf(session: Session, oid: string): Promise<string> {
  const [row] = await session.query<{ type: string }>(
    'select postgis_typmod_type(atttypmod) as type from pg_attribute where attrelid = $1 and attname = $2',
    [oid, GEOMETRY_COLUMN],
  )
  return row?.type.replace(/ZM?$|M$/, '') ?? 'Geometry'
}

export async function finishTable(
  session: Session,
  table: string,
  collection: string,
  replaced: Target,
  level: number | undefined,
) {
  const key = `${collection}_pkey`
  const indexOf = (column: string) => sql.identifier(`${collection}_${column}_idx`)
  if (replaced) {
    await execute(session, sql`drop table ${tableName(collection)}`).catch((cause) => {
      throw new ImportError(
        `${collection} cannot be replaced: ${cause.message}${cause.detail ? ` (${cause.detail})` : ''}.`,
        { cause },
      )
    })
    await execute(session, sql`alter table ${tableName(table)} rename to ${sql.identifier(collection)}`)
  }
  // Of features of the table that had this name, which may be gone without us.
  const { schemaName, tableName: name } = movedFeatureTable
  const isOf = sql`${schemaName} = ${SCHEMA} and ${name} = ${collection}`
  if (level !== undefined) await execute(session, sql`delete from ${movedFeatureTable} where ${isOf}`)
  // Its last column alone tells features apart: an id begins with the cell that it was given in.
  const columns = sql.raw(level === undefined ? 'id' : 'cell, id')
  await execute(
    session,
    sql`alter table ${tableName(collection)} add constraint ${sql.identifier(key)} primary key (${columns})`,
  ).catch((cause) => {
    if (cause.code !== '23505') throw cause
    throw new ImportError(
      `Two features have the same id: ${cause.detail ?? cause.message} Nothing was imported; choose a property that is unique with --id, or leave out the ids.`,
      { cause },
    )
  })
  await execute(
    session,
    sql`create index ${indexOf(GEOMETRY_COLUMN)} on ${tableName(collection)} using gist (${sql.identifier(GEOMETRY_COLUMN)})`,
  )
  // The key serves within a cell; this serves pages of all of them, and ids on one node.
  if (level !== undefined)
    await execute(session, sql`create index ${indexOf('id')} on ${tableName(collection)} (id)`)
}

/** Ids that came with the features must not be given out again. */
export async function advanceSequence(session: Session, collection: string) {
  const qualified = textOf(tableName(collection))
  const [row] = await session.query<{ sequence: string | null }>(
    "select pg_get_serial_sequence($1, 'id') as sequence",
    [qualified],
  )
  if (!row?.sequence) return
  await session.query(`select setval($1, greatest(1, (select max(id) from ${qualified})))`, [row.sequence])
}
