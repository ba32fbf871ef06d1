// Owns the query of entries of the audit: what is looked for → SQL, and its rows as entries.

import { type SQL, sql } from '../../database/sql.ts'
import type { Row, Statement } from '../../database/statement.ts'
import { statementOf } from '../../database/template.ts'
import type { Action } from './audit.ts'

/** Everything that is left out may be anything. */
export type EntrySelection = {
  readonly relation?: { readonly schema: string; readonly table: string } | undefined
  readonly feature?: string | undefined
  /** As cellOfEntries returns it, if there is a feature; undefined to look everywhere. */
  readonly cell?: SQL | undefined
  /** Callers, one of whom made the change: ids of API keys, subjects of tokens, issuers and subjects, or an empty text. */
  readonly callers?: readonly string[] | undefined
  /** First and last time, as PostgreSQL reads them. */
  readonly start?: string | undefined
  readonly end?: string | undefined
  /** The entry behind which the selection begins. */
  readonly after?: Pick<KeptEntry, 'time' | 'entry'> | undefined
}

/** An entry as it was written. */
export type KeptEntry = {
  readonly entry: string
  /** In UTC, with microseconds. */
  readonly time: string
  readonly schema: string
  readonly table: string
  readonly feature: string
  readonly action: Action
  readonly caller: string
  readonly address: string
  readonly request: string
  /** As keptFeature returns them; null if values are not kept, or if there was none. */
  readonly before: string | null
  readonly after: string | null
}

/**
 * Compiles the query of entries, the newest first.
 * @param most how many
 * @param hasFeatures false to leave out the features, and to return empty texts in their place
 */
export function compileEntries(
  { relation, feature, cell, callers, start, end, after }: EntrySelection,
  most: number,
  hasFeatures = true,
): Statement {
  const conditions: SQL[] = [
    ...(relation ? [sql`schema_name = ${relation.schema}`, sql`table_name = ${relation.table}`] : []),
    ...(feature === undefined ? [] : [sql`feature_id = ${feature}`]),
    ...(cell ? [sql`cell = ${cell}`] : []),
    ...(callers
      ? [
          sql`(caller = any(${sql.param(callers)}::text[]) or substr(caller, nullif(strpos(caller, ' '), 0) + 1) = any(${sql.param(callers)}::text[]))`,
        ]
      : []),
    ...(start === undefined ? [] : [sql`changed_at >= ${start}::timestamptz`]),
    ...(end === undefined ? [] : [sql`changed_at <= ${end}::timestamptz`]),
    ...(after ? [sql`(changed_at, entry) < (${after.time}::timestamptz, ${after.entry}::uuid)`] : []),
  ]
  const where = conditions.length > 0 ? sql` where ${sql.join(conditions, sql` and `)}` : sql``
  return statementOf(
    sql`select ${entry(hasFeatures)} as kept from tessera.audit${where} order by changed_at desc, entry desc limit ${most}`,
  )
}

/** @param hasFeatures false if `before` and `after` only say with an empty text that there is one */
const entry = (hasFeatures: boolean): SQL => {
  const text = (name: string) =>
    hasFeatures ? sql.raw(name) : sql.raw(`case when ${name} is not null then '' end`)
  return sql`json_build_object('entry', entry,
    'time', to_char(changed_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'schema', schema_name,
    'table', table_name, 'feature', feature_id, 'action', action, 'caller', caller, 'address', address,
    'request', request_id, 'before', ${text('before')}, 'after', ${text('after')})::text`
}

/**
 * Compiles the query of the version that a feature had at a time: the last entry until then and the first one after it, in this
 * order, as far as there are such.
 */
export function compileVersion(
  relation: { readonly schema: string; readonly table: string },
  feature: string,
  cell: SQL,
  time: string,
): Statement {
  const { schema, table } = relation
  const of = sql`schema_name = ${schema} and table_name = ${table} and feature_id = ${feature} and cell = ${cell}`
  const at = sql`${time}::timestamptz`
  return statementOf(sql`
    select kept, is_before from ((select ${entry(true)} as kept, true as is_before from tessera.audit
      where ${of} and changed_at <= ${at} order by changed_at desc, entry desc limit 1)
    union all
    (select ${entry(true)}, false from tessera.audit
      where ${of} and changed_at > ${at} order by changed_at, entry limit 1)) as around
    order by is_before desc`)
}

/**
 * Returns the feature as it was, or what is known of it.
 * @param rows of compileVersion
 */
export function versionIn(rows: readonly Row[]): Version {
  const [first] = rows
  if (!first) return { kind: 'unknown' }
  const { action, before, after } = entryIn(first)
  const isBefore = first[1] === 't'
  const text = isBefore ? after : before
  if (action === (isBefore ? 'removed' : 'created')) return { kind: 'absent' }
  return text === null ? { kind: 'unknown' } : { kind: 'known', text }
}
export type Version =
  | {
      readonly kind: 'known'
      /** As keptFeature returns it. */
      readonly text: string
    }
  /** There was none. */
  | { readonly kind: 'absent' }
  /** There are no entries with values about that time. */
  | { readonly kind: 'unknown' }

/** @param row of compileEntries */
export const entryIn = ([kept]: Row) => JSON.parse(kept!) as KeptEntry
