// Owns what operators set for single collections: stored in tessera.collection, from where every gateway reads it.

import type { RunsJson } from '../../database/json-rows.ts'
import type { Session } from '../../database/session.ts'
import { UserError } from '../../errors.ts'
import type { Rules } from '../access/rules.ts'
import { makeSystem } from '../values/coordinate-system.ts'
import { type AuditLevel, collectionId } from './collection.ts'

/** Undefined for what holds for all collections. */
export type CollectionSettings = Partial<Rules> & {
  /** Codes of coordinate systems in which the collection is served besides those of all, as in `EPSG:25832`. */
  readonly crs?: readonly string[] | undefined
  /** True if no change is made without a condition. */
  readonly requirePrecondition?: boolean | undefined
  /** Column in which Tessera stores the time of each change. */
  readonly modifiedColumn?: string | undefined
  /** Column with the time of a feature, or two with the start and the end of it. */
  readonly timeColumns?: readonly string[] | undefined
  /** Year to which the coordinates belong, with decimals, in a system that moves. */
  readonly coordinateEpoch?: number | undefined
  /** What the audit keeps of changes. */
  readonly audit?: AuditLevel | undefined
  /** Roles of those who see it. */
  readonly auditors?: readonly string[] | undefined
}
export type SettingName = keyof CollectionSettings

/** Columns of tessera.collection, and their values. */
const COLUMNS: Readonly<
  Record<SettingName, (settings: CollectionSettings) => Readonly<Record<string, unknown>>>
> = {
  crs: ({ crs }) => ({ crs }),
  requirePrecondition: ({ requirePrecondition }) => ({ requires_precondition: requirePrecondition }),
  modifiedColumn: ({ modifiedColumn }) => ({ modified_column: modifiedColumn }),
  timeColumns: ({ timeColumns }) => ({
    temporal_column: timeColumns?.[0],
    temporal_end_column: timeColumns?.[1],
  }),
  coordinateEpoch: ({ coordinateEpoch }) => ({ coordinate_epoch: coordinateEpoch }),
  readers: ({ readers }) => ({ readers }),
  creators: ({ creators }) => ({ creators }),
  editors: ({ editors }) => ({ editors }),
  removers: ({ removers }) => ({ removers }),
  audit: ({ audit }) => ({ audit }),
  auditors: ({ auditors }) => ({ auditors }),
}
export const SETTING_NAMES = Object.keys(COLUMNS) as readonly SettingName[]

type Relation = { readonly oid: string; readonly schema: string; readonly table: string }

/** @throws UserError if there is no such collection, or if it cannot have a setting */
export async function setCollection(session: Session, id: string, given: CollectionSettings) {
  const relation = await findRelation(session, id)
  if (given.crs) await checkSystems(session, given.crs)
  const { modifiedColumn, timeColumns } = given
  if (modifiedColumn !== undefined)
    await checkColumns(session, id, relation, [modifiedColumn], [['timestamptz']])
  if (timeColumns)
    await checkColumns(session, id, relation, timeColumns, [['date'], ['timestamp', 'timestamptz']])
  await store(session, relation, given)
}

/** @param names settings that become those of all collections again */
export async function resetCollection(session: Session, id: string, names: readonly SettingName[]) {
  const relation = await findRelation(session, id)
  await store(session, relation, Object.fromEntries(names.map((name) => [name, undefined])))
}

export type ListedSettings = CollectionSettings & { readonly id: string }

/** Returns the collections for which anything is set, by their ids. */
export async function listSettings(session: Session): Promise<ListedSettings[]> {
  const rows = await session.query<{
    schema_name: string
    table_name: string
    crs: string[] | null
    requires_precondition: boolean | null
    modified_column: string | null
    temporal_column: string | null
    temporal_end_column: string | null
    coordinate_epoch: number | null
    readers: string[] | null
    creators: string[] | null
    editors: string[] | null
    removers: string[] | null
    audit: AuditLevel | null
    auditors: string[] | null
  }>(
    `select schema_name, table_name, crs, requires_precondition, modified_column, temporal_column, temporal_end_column,
       coordinate_epoch, readers, creators, editors, removers, audit, auditors
     from tessera.collection
     where num_nonnulls(crs, requires_precondition, modified_column, temporal_column, coordinate_epoch, readers, creators,
       editors, removers, audit, auditors) > 0`,
    [],
  )
  return rows
    .map((row) => ({
      id: collectionId(row.schema_name, row.table_name),
      crs: row.crs ?? undefined,
      requirePrecondition: row.requires_precondition ?? undefined,
      modifiedColumn: row.modified_column ?? undefined,
      timeColumns:
        row.temporal_column === null
          ? undefined
          : [row.temporal_column, ...(row.temporal_end_column === null ? [] : [row.temporal_end_column])],
      coordinateEpoch: row.coordinate_epoch ?? undefined,
      readers: row.readers ?? undefined,
      creators: row.creators ?? undefined,
      editors: row.editors ?? undefined,
      removers: row.removers ?? undefined,
      audit: row.audit ?? undefined,
      auditors: row.auditors ?? undefined,
    }))
    .toSorted((a, b) => (a.id < b.id ? -1 : 1))
}

async function store(session: Session, { oid }: Relation, settings: CollectionSettings) {
  const columns = (Object.keys(settings) as SettingName[]).map((name) => COLUMNS[name](settings))
  // What is undefined becomes null, which is stored.
  const stored = JSON.stringify(Object.assign({}, ...columns), (_name, value) => value ?? null)
  await session.query('select tessera.set_collection($1::oid, $2)', [oid, stored])
}

/** Signature of what sets rules in the database. */
export const SET_RULES = 'set_rules(oid, jsonb, jsonb)'

/**
 * Sets groups of the rules of a collection for a gateway.
 * @param known all of its rules, by which the gateway has decided that its caller may
 * @returns false if the rules are others by now; nothing has changed then
 */
export async function setRules(
  runs: RunsJson,
  id: string,
  rules: Partial<Rules>,
  known: Rules | undefined,
): Promise<boolean> {
  const { oid } = await findRelation(runs, id)
  const text = (some: Partial<Rules>) => JSON.stringify(some, (_name, value) => value ?? null)
  const [done] = await runs.query('select tessera.set_rules($1::oid, $2, $3)::text as json', [
    oid,
    text(rules),
    text(known ?? {}),
  ])
  return done?.json === 'true'
}

/**
 * Returns roles that can read the table of a collection, but not its settings: a gateway that reads as one of them does not
 * know its rules.
 */
export async function rolesWithoutRules(session: Session, id: string): Promise<string[]> {
  const { oid } = await findRelation(session, id)
  const rows = await session.query<{ name: string }>(
    `select rolname as name from pg_roles r join pg_class c on c.oid = $1::oid
     where rolcanlogin and not rolsuper and has_schema_privilege(r.oid, c.relnamespace, 'usage')
       and has_table_privilege(r.oid, c.oid, 'select') and not (
         has_schema_privilege(r.oid, 'tessera', 'usage') and has_table_privilege(r.oid, 'tessera.collection', 'select'))
     order by 1`,
    [oid],
  )
  return rows.map(({ name }) => name)
}

/** Returns roles that can change the table of a collection, but write no entries of the audit: their changes would fail. */
export async function rolesWithoutAudit(session: Session, id: string): Promise<string[]> {
  const { oid } = await findRelation(session, id)
  const rows = await session.query<{ name: string }>(
    `select rolname as name from pg_roles r join pg_class c on c.oid = $1::oid
     where rolcanlogin and not rolsuper and has_schema_privilege(r.oid, c.relnamespace, 'usage')
       and (has_any_column_privilege(r.oid, c.oid, 'insert, update') or has_table_privilege(r.oid, c.oid, 'delete'))
       and not (has_schema_privilege(r.oid, 'tessera', 'usage') and has_table_privilege(r.oid, 'tessera.audit', 'insert'))
     order by 1`,
    [oid],
  )
  return rows.map(({ name }) => name)
}

async function findRelation(runs: RunsJson, id: string): Promise<Relation> {
  const rows = await runs.query(
    `select json_build_object('oid', c.oid::text, 'schema', n.nspname, 'table', c.relname)::text as json
     from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relkind in ('r', 'v', 'm', 'p', 'f') and not c.relispartition
       and n.nspname <> 'information_schema' and n.nspname !~ '^pg_' and n.nspname <> 'tessera'`,
    [],
  )
  const relations = rows.map(({ json }) => JSON.parse(json) as Relation)
  const found = relations.find(({ schema, table }) => collectionId(schema, table) === id)
  if (found) return found
  throw new UserError(`There is no collection ${id}; /collections of a gateway lists the existing ones.`)
}

async function checkSystems(session: Session, codes: readonly string[]) {
  const rows = await session.query<{ srid: number; authority: string; code: string; text: string }>(
    `select srid, auth_name as authority, auth_srid::text as code, coalesce(srtext, '') as text from spatial_ref_sys
     where upper(auth_name) || ':' || auth_srid = any($1::text[])`,
    [codes],
  )
  const known = new Set(
    rows.filter((row) => makeSystem(row)).map(({ authority, code }) => `${authority}:${code}`.toUpperCase()),
  )
  for (const code of codes)
    if (!known.has(code))
      throw new UserError(
        `${code} is no system of the database with positions on the ground. The table spatial_ref_sys of PostGIS lists its systems.`,
      )
}

/** @param types of the columns; all of them have types of one of these lists */
async function checkColumns(
  session: Session,
  id: string,
  { oid }: Relation,
  names: readonly string[],
  types: readonly (readonly string[])[],
) {
  const columns = await session.query<{ name: string; type: string }>(
    `select a.attname as name, t.typname as type from pg_attribute a join pg_type t on t.oid = a.atttypid
     where a.attrelid = $1::oid and a.attnum > 0 and not a.attisdropped and t.typname = any($2::text[])
     order by a.attnum`,
    [oid, types.flat()],
  )
  const typesOf = names.map((name) => columns.find((column) => column.name === name)?.type)
  if (types.some((some) => typesOf.every((type) => type !== undefined && some.includes(type)))) return
  const usable = columns.map(({ name, type }) => `${name} (${type})`)
  throw new UserError(
    `${names.join(' and ')} must be of ${id} and of the type ${types.map((some) => some.join(' or ')).join(', or ')}: it has ${usable.join(', ') || 'no such column'}.`,
  )
}
