// Owns the statement that stores a batch of new features: arrays of values, one for each column, → one INSERT.

import { compileFragment, type Fragment } from '../../database/fragment.ts'
import { type SQL, sql } from '../../database/sql.ts'
import type { Statement } from '../../database/statement.ts'
import { type Author, composeEntries, heldFeatures, partsOfAuthor } from '../changes/audit.ts'
import type { ColumnValue, ItemBody } from '../changes/item-body.ts'
import { geometryOf } from '../changes/item-statement.ts'
import { CELL_COLUMN, type Collection, tableOf } from '../collections/collection.ts'
import { firstTime, nextTime } from '../query/modification-time.ts'
import { type Column, columnOf } from '../values/column.ts'
import { type CoordinateSystem, DEGREES } from '../values/coordinate-system.ts'

/** What happens to a feature whose id exists: it is refused, or replaced. */
export type Mode = 'insert' | 'upsert'

/** A feature that has been checked. */
export type CheckedFeature = {
  readonly body: ItemBody
  /** The cell that its geometry is in; undefined if PostGIS has to compute it, or if the collection has none. */
  readonly cell: number | undefined
  readonly pointer: string
  readonly line: number | undefined
}

/** Types of PostgreSQL itself whose arrays can be written as text. Others are converted from JSON by the type of the row. */
const PLAIN = new Set([
  ...['int2', 'int4', 'int8', 'float4', 'float8', 'numeric', 'bool', 'text', 'varchar', 'bpchar', 'name'],
  ...['date', 'timestamp', 'timestamptz', 'uuid', 'json', 'jsonb'],
])
const isPlain = ({ type, labels, isArray }: Column) => PLAIN.has(type) && !labels && !isArray

/** Returns the columns that the statement of a feature names: features with the same ones are stored together. */
export const shapeOf = ({ id, geometry, assignments }: ItemBody): string =>
  JSON.stringify([id !== undefined, geometry !== undefined, ...assignments.map(({ column }) => column.name)])

/** True if PostGIS has to compute the cells, because coordinates are not in degrees. */
export const isLocatedInSql = ({ level }: Collection, { srid }: CoordinateSystem) =>
  level !== undefined && srid !== DEGREES

/** An array that is bound, with a text for each feature. */
type BoundArray = { readonly type: string; readonly literal: string }

/** A column of the statement, and its value in terms of one element of each array. */
type Target = { readonly name: string; readonly value: SQL }

/**
 * Its only row has the number of features that were stored.
 * @param features at least one; all of them have the same shape
 * @param author who is named in the audit
 */
export function compileBatch(
  collection: Collection,
  features: readonly CheckedFeature[],
  system: CoordinateSystem,
  mode: Mode,
  author: Author,
): Statement {
  const [{ body: first }] = features as [CheckedFeature]
  const { idColumn, level, geometry } = collection
  const arrays: BoundArray[] = []
  /** Binds an array, and returns its element. */
  const bind = (type: string, textOf: (feature: CheckedFeature) => string | null): SQL => {
    arrays.push({ type, literal: arrayOf(features.map(textOf)) })
    return sql`given.${elementName(arrays.length - 1)}`
  }
  /** Columns whose values PostgreSQL makes of a member of JSON. */
  const converted: { readonly column: Column; readonly read: (body: ItemBody) => unknown }[] = []
  const convert = (column: Column, read: (body: ItemBody) => unknown): SQL => {
    converted.push({ column, read })
    return sql`converted.${columnOf(column)}`
  }
  const isPlaceComputed = isLocatedInSql(collection, system)
  const targets: Target[] = []
  let placed: SQL | undefined

  if (first.geometry !== undefined) {
    const text = bind('text', ({ body }) => body.geometry?.text ?? null)
    const value = geometryOf(geometry, system, text, true)
    if (isPlaceComputed) placed = value
    targets.push({ name: geometry.column, value: placed ? sql`given.place` : value })
  }
  const place = sql`tessera.cell(given.place, ${sql.raw(String(level))})`
  if (level !== undefined)
    targets.push({
      name: CELL_COLUMN,
      value: isPlaceComputed ? place : bind('int4', ({ cell }) => String(cell)),
    })
  /** Returns the condition that a feature has one of the ids already. */
  let isHeld: ((arrays: readonly SQL[]) => SQL) | undefined
  if (first.id !== undefined) {
    const at = arrays.length
    const id = isPlain(idColumn!)
      ? bind(idColumn!.type, ({ body }) => body.id!)
      : convert(idColumn!, ({ id }) => id)
    targets.push({ name: idColumn!.name, value: isPlaceComputed ? sql`${place} || '.' || ${id}` : id })
    if (collection.audit !== undefined && mode === 'upsert') {
      if (!isPlain(idColumn!)) bind('text', ({ body }) => body.id!)
      const stored = isPlain(idColumn!) ? columnOf(idColumn!) : sql`${columnOf(idColumn!)}::text`
      isHeld = (bound) => sql`${stored} = any(${bound[at]!})`
    }
  }
  for (const [index, { column }] of first.assignments.entries()) {
    const value = isPlain(column)
      ? bind(column.type, ({ body }) => body.assignments[index]!.value as string | null)
      : convert(column, ({ assignments }) => jsonOf(assignments[index]!.value))
    targets.push({ name: column.name, value })
  }
  if (collection.touched) targets.push({ name: collection.touched, value: firstTime })
  const object =
    converted.length > 0
      ? bind('text', ({ body }) =>
          JSON.stringify(Object.fromEntries(converted.map(({ column, read }) => [column.name, read(body)]))),
        )
      : undefined

  const list = (parts: readonly SQL[]) => sql.join([...parts], sql`, `)
  const fragment: Fragment = {
    shape: `batch ${mode} ${collection.version} ${system.srid} ${shapeOf(first)}`,
    values: [
      ...arrays.map(({ literal }) => literal),
      ...(collection.audit === undefined ? [] : partsOfAuthor(author).flatMap(({ values }) => values)),
    ],
    compose(...placeholders) {
      const bound = arrays.map(({ type }, index) => sql`${placeholders[index]!}::${sql.raw(type)}[]`)
      const rows = sql`unnest(${list(bound)}) as given (${list(arrays.map((_, index) => elementName(index)))})`
      const located = placed ? sql`(select given.*, ${placed} as place from ${rows} offset 0) as given` : rows
      const joined = object
        ? sql`${located} cross join lateral json_populate_record(null::${tableOf(collection)}, ${object}::json) as converted`
        : located
      const names = list(targets.map(({ name }) => sql`${sql.identifier(name)}`))
      const values = list(targets.map(({ value }) => value))
      const insert = sql`insert into ${tableOf(collection)} as stored (${names}) select ${values} from ${joined}${mode === 'upsert' ? replacing(collection) : sql``}`
      if (collection.audit === undefined) return insert
      const held =
        isHeld && heldFeatures(collection, sql`${tableOf(collection)} as item where ${isHeld(bound)}`)
      const action = held ? 'stored' : 'created'
      return composeEntries(
        collection,
        action,
        insert,
        placeholders.slice(arrays.length),
        held,
        sql`count(*)`,
      )
    },
  }
  return { ...compileFragment(fragment), isCounted: collection.audit === undefined }
}

const elementName = (index: number) => sql.raw(`e${index}`)

/** As with PUT, what a feature leaves out becomes what it is in a new one. */
function replacing({ idColumn, geometry, properties, capabilities, touched }: Collection): SQL {
  const names = [geometry.column, ...properties.map(({ name }) => name)].filter((name) =>
    capabilities!.columns.has(name),
  )
  const set = names.map((name) => sql`${sql.identifier(name)} = excluded.${sql.identifier(name)}`)
  if (touched) {
    const name = sql.identifier(touched)
    // The second of the clock is that of the new row: Citus does not allow now() here.
    set.push(sql`${name} = ${nextTime(sql`stored.${name}`, sql`excluded.${name}`)}`)
  }
  return sql` on conflict (${columnOf(idColumn!)}) do update set ${sql.join(set, sql`, `)}`
}

/** Returns a value in the form from which PostgreSQL makes one of any type. */
function jsonOf(value: ColumnValue['value']): unknown {
  return typeof value === 'object' && value !== null && 'json' in value ? value.json : value
}

/** Texts that need no quotes in the literal of an array. NULL would be none. */
const BARE = /^(?!null$)[\w.:+-]+$/i

/** Returns the literal of an array of texts. */
export function arrayOf(texts: readonly (string | null)[]): string {
  let literal = '{'
  for (const text of texts) {
    if (literal.length > 1) literal += ','
    if (text === null) literal += 'NULL'
    else literal += BARE.test(text) ? text : `"${text.replace(/["\\]/g, '\\$&')}"`
  }
  return `${literal}}`
}
