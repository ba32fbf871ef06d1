// Owns the copy of a collection's table from one database into another one, under another name: its rows, its
// definition, its distribution on Citus, what Tessera knows of it, and what the gateways' roles may do with it.

import { createHash } from 'node:crypto'
import { pipeline } from 'node:stream/promises'
import pg from 'pg'
import { from as copyFrom, to as copyTo } from 'pg-copy-streams'
import { ClusterError } from '../place.ts'

const { escapeIdentifier, escapeLiteral } = pg

/** The table of a collection, as the database that has it describes it. Expressions name their schemas. */
export type Definition = {
  readonly schema: string
  readonly name: string
  readonly kind: string
  readonly hasRowSecurity: boolean
  readonly comment: string | null
  readonly columns: readonly Column[]
  readonly checks: readonly { readonly name: string; readonly text: string }[]
  /** Primary key, unique and exclusion constraints. */
  readonly keys: readonly { readonly name: string; readonly text: string }[]
  /** Each without its name and that of the table, as in `gist (geom)`. */
  readonly indexes: readonly { readonly name: string; readonly isUnique: boolean; readonly text: string }[]
  /** What each role of the gateways may do: with the table, and with single columns. */
  readonly grants: readonly {
    readonly role: string
    readonly privileges: readonly string[]
    readonly readable: readonly string[]
  }[]
  /** What belongs to the table and is not copied. */
  readonly others: readonly string[]
}

type Column = {
  readonly name: string
  readonly type: string
  readonly collation: string | null
  readonly isRequired: boolean
  readonly comment: string | null
  /** Expression of a default, or of a generated column. */
  readonly expression: string | null
  readonly isGenerated: boolean
  /** `a` for always, `d` for by default, or empty. */
  readonly identity: string
  /** The sequence of the column's ids, if it has one: its type, and the id that follows. */
  readonly sequence: { readonly name: string; readonly type: string } | null
}

/** How Citus distributes a table; undefined if it is a table of the coordinator. */
type Distribution =
  | { readonly kind: 'hash'; readonly column: string; readonly isByCell: boolean }
  | { readonly kind: 'reference' }

/** Kinds of relations that are collections, too, and have no rows of their own or share them. */
const KINDS: Readonly<Record<string, string>> = {
  v: 'view',
  m: 'materialized view',
  f: 'foreign table',
  p: 'partitioned table',
}

/** Lists the collections of a database: their ids, with their schemas and tables. */
const COLLECTIONS = `
  select case when n.nspname = 'public' then c.relname else n.nspname || '.' || c.relname end as id,
    c.oid::int8 as oid, n.nspname as schema, c.relname as name
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'v', 'm', 'f', 'p') and not c.relispartition
    and n.nspname <> 'information_schema' and n.nspname !~ '^pg_' and n.nspname <> 'tessera'
    and exists (
      select from pg_attribute a join pg_type t on t.oid = a.atttypid
      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and t.typname in ('geometry', 'geography')
    )
    and not exists (
      select from pg_depend d
      where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
    )
  order by 1`

/** Describes the table with the OID $1. Nothing is in the search path, so that all names have their schema. */
const DEFINITION = `
  select json_build_object(
    'schema', n.nspname, 'name', c.relname, 'kind', c.relkind,
    'hasRowSecurity', c.relrowsecurity,
    'comment', obj_description(c.oid, 'pg_class'),
    'columns', (
      select json_agg(json_build_object(
        'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
        'collation', (
          select format('%I.%I', m.nspname, l.collname) from pg_collation l join pg_namespace m on m.oid = l.collnamespace
          where l.oid = a.attcollation and l.oid <> (select typcollation from pg_type where oid = a.atttypid)
        ),
        'isRequired', a.attnotnull, 'comment', col_description(c.oid, a.attnum),
        'expression', case when s.oid is null or a.attidentity <> '' then pg_get_expr(d.adbin, d.adrelid) end,
        'isGenerated', a.attgenerated <> '', 'identity', a.attidentity,
        'sequence', case when s.oid is not null then
          json_build_object('name', s.oid::regclass::text, 'type', format_type(q.seqtypid, null)) end
      ) order by a.attnum)
      from pg_attribute a
      left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
      left join lateral (
        select pg_get_serial_sequence(format('%I.%I', n.nspname, c.relname), a.attname)::regclass::oid as oid
      ) s on s.oid is not null
      left join pg_sequence q on q.seqrelid = s.oid
      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    ),
    'checks', (
      select coalesce(json_agg(json_build_object('name', conname, 'text', pg_get_constraintdef(oid)) order by conname), '[]')
      from pg_constraint where conrelid = c.oid and contype = 'c'
    ),
    'keys', (
      select coalesce(json_agg(json_build_object('name', conname, 'text', pg_get_constraintdef(oid))
        order by contype <> 'p', conname), '[]')
      from pg_constraint where conrelid = c.oid and contype in ('p', 'u', 'x')
    ),
    'indexes', (
      select coalesce(json_agg(json_build_object('name', i.relname, 'isUnique', x.indisunique,
        'text', substr(pg_get_indexdef(i.oid), length(format('CREATE %sINDEX %I ON %I.%I USING ',
          case when x.indisunique then 'UNIQUE ' else '' end, i.relname, n.nspname, c.relname)) + 1)) order by i.relname), '[]')
      from pg_index x join pg_class i on i.oid = x.indexrelid
      where x.indrelid = c.oid and x.indisvalid
        and not exists (select from pg_constraint k where k.conindid = i.oid and k.contype in ('p', 'u', 'x'))
    ),
    'grants', (
      select coalesce(json_agg(json_build_object('role', r.rolname,
        'privileges', (
          select coalesce(json_agg(p), '[]') from unnest(array['select', 'insert', 'update', 'delete']) p
          where has_table_privilege(r.oid, c.oid, p)
        ),
        'readable', (
          select coalesce(json_agg(a.attname order by a.attnum), '[]') from pg_attribute a
          where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            and has_column_privilege(r.oid, c.oid, a.attnum, 'select')
        )) order by r.rolname), '[]')
      from pg_roles r where r.rolname in ('tessera_read', 'tessera_write')
    ),
    'others', (
      select coalesce(json_agg(one order by one), '[]') from (
        select 'the foreign key ' || conname from pg_constraint where conrelid = c.oid and contype = 'f'
        union all
        select 'the trigger ' || tgname from pg_trigger where tgrelid = c.oid and not tgisinternal
          and tgname not like 'truncate\\_trigger\\_%'
      ) o (one)
    )
  ) as definition
  from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = $1`

const DISTRIBUTION = `
  select case partmethod when 'h' then 'hash' else 'reference' end as kind,
    case when partmethod = 'h' then column_to_column_name(logicalrelid, partkey) end as column,
    coalesce(colocationid = (
      select colocationid from pg_dist_partition where logicalrelid = to_regclass('tessera.moved_feature')
    ), false) as "isByCell"
  from pg_dist_partition
  where logicalrelid = $1::regclass and (partmethod = 'h' or partmethod = 'n' and repmodel = 't')`

/** PostgreSQL cuts longer names off, and two of them could become the same. */
const MAX_NAME_BYTES = 63

/** @throws ClusterError if the database has a relation of this name, with what it is */
export async function refuseTaken(client: pg.Client, schema: string, name: string): Promise<void> {
  const { rows } = await client.query(
    `select c.relkind from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = $1 and c.relname = $2`,
    [schema, name],
  )
  if (rows.length === 0) return
  const [{ relkind }] = rows
  const kind = KINDS[relkind] ?? (relkind === 'r' ? 'table' : 'relation')
  throw new ClusterError(`There is a ${kind} ${schema}.${name} already; choose another name with --as.`)
}

/** @throws ClusterError if there is no such collection, with those that there are, or if it cannot be copied */
export async function describeTable(client: pg.Client, id: string): Promise<Definition> {
  await client.query("set search_path = ''")
  const { rows } = await client.query(COLLECTIONS)
  const found = rows.find((row) => row.id === id)
  if (!found) {
    const ids = rows.map((row) => row.id).join(', ')
    throw new ClusterError(`The backup has no collection ${id} at that point; it has ${ids || 'none'}.`)
  }
  const answer = await client.query(DEFINITION, [found.oid])
  const definition: Definition = answer.rows[0].definition
  const { kind, hasRowSecurity } = definition
  if (kind !== 'r')
    throw new ClusterError(
      `${id} is a ${KINDS[kind]}; restore the tables that it reads, or the complete cluster.`,
    )
  if (hasRowSecurity)
    throw new ClusterError(
      `${id} has row level security, and its copy would be open to all. Restore the complete cluster into another folder (restore --from FOLDER --data OTHER --base-port N), which keeps its policies, and copy the rows that you need.`,
    )
  return definition
}

/** The new table. */
type Made = {
  readonly client: pg.Client
  readonly schema: string
  readonly name: string
  /** Its name with the schema, as SQL takes it. */
  readonly table: string
}

/**
 * Copies a table, and commits when everything is there.
 * @param source superuser of the database that has it
 * @param target owner of Tessera's tables in the other database
 * @param name of the new table, in the same schema
 * @returns the number of rows
 */
export async function copyTable(
  source: pg.Client,
  target: pg.Client,
  definition: Definition,
  name: string,
): Promise<number> {
  const { schema } = definition
  const old = qualify(schema, definition.name)
  const made: Made = { client: target, schema, name, table: qualify(schema, name) }
  const distribution = await readDistribution(source, old)
  await target.query("begin; set local search_path = ''")
  try {
    await createTable(made, definition)
    await distribute(made, distribution)
    const columns = definition.columns
      .filter(({ isGenerated }) => !isGenerated)
      .map((column) => escapeIdentifier(column.name))
      .join(', ')
    const rows = await copyRows(source, target, `select ${columns} from ${old}`, `${made.table} (${columns})`)
    for (const column of definition.columns) await continueSequence(source, made, column)
    await addKeys(made, definition)
    await copyWords(source, made, definition)
    if (distribution === undefined || distribution.kind === 'hash')
      await copyForwarding(source, made, definition)
    await grantAgain(made, definition)
    await target.query('commit')
    await target.query(`analyze ${made.table}`)
    return rows
  } catch (error) {
    await target.query('rollback').catch(() => {})
    const { code, message } = error as Error & { code?: string }
    if (code === '42P07')
      throw new ClusterError(`Somebody has created ${schema}.${name} meanwhile; nothing was changed.`)
    throw new ClusterError(`${schema}.${name} could not be created: ${message}. Nothing was changed.`)
  }
}

const qualify = (schema: string, name: string) => `${escapeIdentifier(schema)}.${escapeIdentifier(name)}`

async function isCitus(client: pg.Client): Promise<boolean> {
  const { rowCount } = await client.query("select from pg_extension where extname = 'citus'")
  return rowCount === 1
}

async function readDistribution(client: pg.Client, table: string): Promise<Distribution | undefined> {
  if (!(await isCitus(client))) return undefined
  const { rows } = await client.query(DISTRIBUTION, [table])
  return rows[0]
}

async function createTable({ client, table }: Made, { columns, checks, comment }: Definition) {
  const lines = [
    ...columns.map((column) =>
      [
        escapeIdentifier(column.name),
        column.type,
        column.collation && `collate ${column.collation}`,
        column.isRequired && 'not null',
        column.identity && `generated ${column.identity === 'a' ? 'always' : 'by default'} as identity`,
        column.isGenerated && `generated always as (${column.expression}) stored`,
        !column.isGenerated && column.expression && `default ${column.expression}`,
      ]
        .filter(Boolean)
        .join(' '),
    ),
    ...checks.map((check) => `constraint ${escapeIdentifier(check.name)} ${check.text}`),
  ]
  await client.query(`create table ${table} (${lines.join(', ')})`)
  if (comment !== null) await client.query(`comment on table ${table} is ${escapeLiteral(comment)}`)
  for (const { name, comment } of columns)
    if (comment !== null)
      await client.query(`comment on column ${table}.${escapeIdentifier(name)} is ${escapeLiteral(comment)}`)
}

/** Distributes the new table as the old one, if the new database is Citus, too. */
async function distribute({ client, table }: Made, distribution: Distribution | undefined) {
  if (!distribution || !(await isCitus(client))) return
  if (distribution.kind === 'reference')
    await client.query('select pg_catalog.create_reference_table($1::regclass)', [table])
  else
    await client.query('select pg_catalog.create_distributed_table($1::regclass, $2, colocate_with => $3)', [
      table,
      distribution.column,
      distribution.isByCell ? 'tessera.moved_feature' : 'default',
    ])
}

/** Texts of values are complete, and no type needs the same OID in both databases. @returns the number of rows */
async function copyRows(source: pg.Client, target: pg.Client, select: string, into: string): Promise<number> {
  const written = target.query(copyFrom(`copy ${into} from stdin`))
  await pipeline(source.query(copyTo(`copy (${select}) to stdout`)), written)
  return written.rowCount
}

/** Lets new ids follow those that were given out. A default that takes ids from a sequence gets one of its own. */
async function continueSequence(source: pg.Client, made: Made, { name, sequence, identity }: Column) {
  if (!sequence) return
  const { client, table, schema } = made
  const { rows } = await source.query(`select last_value, is_called from ${sequence.name}`)
  if (!identity) {
    const column = escapeIdentifier(name)
    const own = qualify(schema, within(`${made.name}_${name}_seq`))
    await client.query(`create sequence ${own} as ${sequence.type} owned by ${table}.${column}`)
    await client.query(`alter table ${table} alter ${column} set default nextval(${escapeLiteral(own)})`)
  }
  await client.query('select setval(pg_get_serial_sequence($1, $2)::regclass, $3, $4)', [
    table,
    name,
    rows[0].last_value,
    rows[0].is_called,
  ])
}

/** Keys and indexes are faster to create when the rows are there. */
async function addKeys({ client, table, name }: Made, { name: old, keys, indexes }: Definition) {
  const renamed = (one: string) =>
    escapeIdentifier(within(one.startsWith(old) ? name + one.slice(old.length) : `${name}_${one}`))
  for (const { name: one, text } of keys)
    await client.query(`alter table ${table} add constraint ${renamed(one)} ${text}`)
  for (const { name: one, isUnique, text } of indexes)
    await client.query(`create ${isUnique ? 'unique ' : ''}index ${renamed(one)} on ${table} using ${text}`)
}

/** Returns a name that PostgreSQL does not cut off: two of them could become the same. */
function within(name: string): string {
  if (Buffer.byteLength(name) <= MAX_NAME_BYTES) return name
  return `tessera_${createHash('sha256').update(name).digest('hex').slice(0, 32)}`
}

/** Copies what Tessera knows of the collection: its title, its rules, and whether Tessera has created it. */
async function copyWords(source: pg.Client, { client, schema, name }: Made, definition: Definition) {
  // A table of this name that somebody dropped with SQL may have left its row behind.
  await client.query('delete from tessera.collection where schema_name = $1 and table_name = $2', [
    schema,
    name,
  ])
  const { rows } = await source.query(
    'select to_jsonb(c) as words from tessera.collection c where schema_name = $1 and table_name = $2',
    [schema, definition.name],
  )
  if (rows.length === 0) return
  const words = { ...rows[0].words, table_name: name, changed_at: new Date().toISOString() }
  // The backup may be of an older version of Tessera, whose table has fewer columns.
  const columns = Object.keys(words).map(escapeIdentifier).join(', ')
  await client.query(
    `insert into tessera.collection (${columns})
     select ${columns} from jsonb_populate_record(null::tessera.collection, $1)`,
    [JSON.stringify(words)],
  )
}

/** Copies where features are that have left the cell that their id begins with. */
async function copyForwarding(source: pg.Client, { client, schema, name }: Made, { name: old }: Definition) {
  await client.query('delete from tessera.moved_feature where schema_name = $1 and table_name = $2', [
    schema,
    name,
  ])
  await copyRows(
    source,
    client,
    `select schema_name, ${escapeLiteral(name)}, cell, id, moved_to from tessera.moved_feature
     where schema_name = ${escapeLiteral(schema)} and table_name = ${escapeLiteral(old)}`,
    'tessera.moved_feature (schema_name, table_name, cell, id, moved_to)',
  )
}

/** Lets the roles of gateways do what they might with the old table, and no more. */
async function grantAgain({ client, table }: Made, { grants }: Definition) {
  for (const { role, privileges, readable } of grants) {
    await client.query(`revoke all on ${table} from ${role}`)
    if (privileges.length > 0) await client.query(`grant ${privileges.join(', ')} on ${table} to ${role}`)
    if (!privileges.includes('select') && readable.length > 0)
      await client.query(`grant select (${readable.map(escapeIdentifier).join(', ')}) on ${table} to ${role}`)
  }
}
