// Owns the statements of changes: what a client sent → one INSERT, UPDATE or DELETE.

import { bound, combine, compileFragment, composeNumbered, type Fragment } from '../../database/fragment.ts'
import { Placeholder, type SQL, sql } from '../../database/sql.ts'
import type { Row, Statement } from '../../database/statement.ts'
import { composeOnce, fillTemplate, templateOf } from '../../database/template.ts'
import {
  CELL_COLUMN,
  type Collection,
  cellColumn,
  cellsOfStatement,
  tableOf,
} from '../collections/collection.ts'
import type { GeometryForm } from '../formats/encoder.ts'
import { geojson } from '../formats/geojson.ts'
import { firstTime, nextTime } from '../query/modification-time.ts'
import { itemOf } from '../query/stored-feature.ts'
import { departure, type KeptColumn } from '../sharding/forwarding.ts'
import { type Column, columnOf } from '../values/column.ts'
import { type CoordinateSystem, CRS84, DEGREES } from '../values/coordinate-system.ts'
import { geometryToStore } from '../values/geometry-column.ts'
import { keepsValues, keptFeature } from './audit.ts'
import { derivedValue, memberOf } from './derived-value.ts'
import type { ColumnValue, DerivedValue, ItemBody } from './item-body.ts'
import { compilePrecondition, type Precondition } from './precondition.ts'

/** The member of a feature that a bound value belongs to. */
export type Target = { readonly member: 'id' | 'geometry' } | { readonly property: string }

export type ChangeStatement = {
  readonly statement: Statement
  /** The target of each bound value, by its number from 0; undefined if it belongs to no member. */
  readonly targets: readonly (Target | undefined)[]
  readonly isRemoval: boolean
  readonly condition: Precondition
  /**
   * Reads the feature for the audit and holds it, in front of a change that does not return what it replaces. Undefined if
   * the audit keeps no values.
   */
  readonly held?: Statement | undefined
  /** True for a patch without members. */
  readonly changesNothing?: boolean
}

/** A column and its new value. */
type Assignment = { readonly name: string; readonly value: Fragment; readonly target?: Target | undefined }

/** The row that a change concerns. */
type RowReference = {
  readonly id: string
  /** The cell that the row is in; undefined if the collection has none. */
  readonly cell: number | undefined
  readonly condition: Precondition
}

type Options = {
  /** Undefined for a new row. */
  readonly row?: RowReference | undefined
  readonly assignments?: readonly Assignment[]
  /** The cell that the statement concerns; that of the row by default. */
  readonly cell?: number | undefined
  /** True if no other change is likely to have the same text. */
  readonly isUnique?: boolean
  readonly isRemoval?: boolean
}

/** @param compose takes the new value of each column, and the WHERE clause of the row */
function compile(
  collection: Collection,
  kind: string,
  { row, assignments = [], cell = row?.cell, isUnique = false, isRemoval = false }: Options,
  compose: (set: readonly SetColumn[], where: SQL) => SQL,
): ChangeStatement {
  const parts: readonly ((Fragment & { readonly target?: Target | undefined }) | undefined)[] = [
    row && collection.level !== undefined ? bound(row.cell) : undefined,
    row && { ...bound(row.id), target: { member: 'id' } },
    row && compilePrecondition(collection, row.condition),
    ...assignments.map(({ value, target }) => ({ ...value, target })),
  ]
  const names = JSON.stringify(assignments.map(({ name }) => name))
  const fragment = combine(
    `${kind} ${collection.version} ${names}`,
    parts,
    (cell, id, condition, ...values) =>
      compose(
        assignments.map(({ name }, index) => ({ name, value: values[index]! })),
        row ? whereRow(collection, cell, id!, condition) : sql``,
      ),
  )
  const composed = () => composeNumbered(fragment)
  const template = isUnique ? composeOnce(composed()) : templateOf(fragment.shape, composed)
  const targets = parts.flatMap((part) => (part ? part.values.map(() => part.target) : []))
  return {
    statement: fillTemplate(template, fragment.values, cellsOfStatement(collection, cell)),
    targets: template.parameters.map((parameter) =>
      parameter instanceof Placeholder ? targets[Number(parameter.name)] : undefined,
    ),
    isRemoval,
    condition: row?.condition,
  }
}

type SetColumn = { readonly name: string; readonly value: SQL }

/** PostgreSQL evaluates both conditions again after it has waited for another change of the row. */
function whereRow(collection: Collection, cell: SQL | undefined, id: SQL, condition: SQL | undefined): SQL {
  const conditions = [
    ...(cell ? [sql`${cellColumn} = ${cell}`] : []),
    sql`${sql.identifier(collection.idColumn!.name)} = ${id}`,
    ...(condition ? [condition] : []),
  ]
  return sql`where ${sql.join(conditions, sql` and `)}`
}

/** Returns what the audit keeps of a changed feature, behind the columns of itemOf. @param row of a change that shows it */
export const keptIn = (row: Row): string | undefined => row[4] ?? undefined

/**
 * Returns a change that also returns the changed feature, and behind its columns that which the audit keeps. Citus allows
 * only immutable functions in RETURNING.
 */
const showing = (collection: Collection, form: GeometryForm, change: SQL): SQL =>
  sql`with changed as (${change} returning *) select ${itemOf(collection, form)}${keepsValues(collection) ? sql`, ${keptFeature(collection)}` : sql``} from changed`

/**
 * Compiles the reading of a feature that is about to be changed in the same transaction: nobody else changes it in between. A
 * view need not have rows that can be held.
 */
function compileHeld(collection: Collection, { id, cell }: RowReference): Statement | undefined {
  if (!keepsValues(collection)) return undefined
  const fragment = combine(
    `held ${collection.version}`,
    [collection.level === undefined ? undefined : bound(cell), bound(id)],
    (cell, id) =>
      sql`select ${keptFeature(collection)} from ${tableOf(collection)} ${whereRow(collection, cell, id!, undefined)}${collection.isView ? sql`` : sql` for no key update`}`,
  )
  return compileFragment(fragment, cellsOfStatement(collection, cell))
}

function insert(collection: Collection, form: GeometryForm, set: readonly SetColumn[]): SQL {
  const list = (parts: readonly SQL[]) => sql.join([...parts], sql`, `)
  const names = list(set.map(({ name }) => sql`${sql.identifier(name)}`))
  const row =
    set.length > 0 ? sql`(${names}) values (${list(set.map(({ value }) => value))})` : sql`default values`
  return showing(collection, form, sql`insert into ${tableOf(collection)} ${row}`)
}

function update(collection: Collection, form: GeometryForm, set: readonly SetColumn[], where: SQL): SQL {
  const from = sql`${tableOf(collection)}`
  // A patch without members returns the feature as it is, on the same condition.
  if (set.length === 0) return sql`select ${itemOf(collection, form)} from ${from} ${where}`
  const { touched: name } = collection
  const touched = name ? [{ name, value: nextTime(sql`${sql.identifier(name)}`) }] : []
  const columns = [...set, ...touched].map(({ name, value }) => sql`${sql.identifier(name)} = ${value}`)
  return showing(collection, form, sql`update ${from} set ${sql.join(columns, sql`, `)} ${where}`)
}

const NULL: Fragment = { shape: 'null', values: [], compose: () => sql`null` }
const DEFAULT: Fragment = { shape: 'default', values: [], compose: () => sql`default` }

/**
 * Returns the new value of the geometry, if the body has one. The stored geometry is kept if it is shown like this:
 * converted back, it would be some millionths of a metre away, and curves would become lines.
 * @param form that in which an existing row returns its geometry; undefined for a new row. One that cannot be shown
 *   cannot be compared either: the change is then made again in the other form.
 */
function assignGeometry(
  { geometry: column }: Collection,
  { geometry }: ItemBody,
  form?: GeometryForm,
): Assignment[] {
  if (geometry === undefined) return []
  const stored = columnOf({ name: column.column })
  const system = geometry?.system ?? CRS84
  const given = (text: SQL) => geometryOf(column, system, text, form === undefined)
  const shown = geojson.inSystem({ ...system, isNorthFirst: false })
  const keptOr = (text: SQL) =>
    sql`case when ${shown.geometryOf(column)} = ${text}::text then ${stored} else ${given(text)} end`
  const value: Fragment =
    geometry === null
      ? NULL
      : {
          shape: system.srid === DEGREES ? 'geometry' : `geometry in ${system.srid}`,
          values: [geometry.text],
          compose: (text) => (form === 'converted' ? keptOr(text!) : given(text!)),
        }
  return [{ name: column.column, value, target: { member: 'geometry' } }]
}

/** Returns the geometry to store for GeoJSON. @param isNew true for a new row */
export function geometryOf(
  column: Collection['geometry'],
  { srid }: CoordinateSystem,
  text: SQL,
  isNew: boolean,
): SQL {
  const parsed = sql`ST_GeomFromGeoJSON(${text}::text)`
  const inSystem = srid === DEGREES ? parsed : sql`ST_SetSRID(${parsed}, ${sql.raw(String(srid))})`
  return geometryToStore(column, isNew, inSystem, srid)
}

export const assignProperty = (collection: Collection, { column, value }: ColumnValue): Assignment => ({
  name: column.name,
  value: fragmentOf(collection, column, value),
  target: { property: column.name },
})

function fragmentOf(collection: Collection, column: Column, value: ColumnValue['value']): Fragment {
  if (isDerived(value)) {
    const shape = 'patch' in value ? 'patch' : 'blank'
    return { shape, values: [], compose: () => derivedValue(collection, column, value) }
  }
  if (value === null || typeof value === 'string' || !('json' in value)) return bound(value)
  return {
    shape: 'json',
    values: [JSON.stringify({ [column.name]: value.json })],
    compose: (object) => memberOf(collection, column, sql`${object}::json`),
  }
}

const assignId = ({ idColumn }: Collection, id: string): Assignment => ({
  name: idColumn!.name,
  value: bound(id),
  target: { member: 'id' },
})

const assignFirstTime = ({ touched }: Collection): Assignment[] =>
  touched ? [{ name: touched, value: { shape: 'first time', values: [], compose: () => firstTime } }] : []

const assignCell = (cell: number): Assignment => ({ name: CELL_COLUMN, value: bound(cell) })

/** @param form of the geometry in the feature that the statement returns */
export function compileCreate(
  collection: Collection,
  form: GeometryForm,
  body: ItemBody,
  cell: number | undefined,
): ChangeStatement {
  const assignments = [
    ...(cell === undefined ? [] : [assignCell(cell)]),
    ...(body.id === undefined ? [] : [assignId(collection, body.id)]),
    ...assignGeometry(collection, body),
    ...body.assignments.map((one) => assignProperty(collection, one)),
    ...assignFirstTime(collection),
  ]
  return compile(collection, `create ${form}`, { assignments, cell }, (set) => insert(collection, form, set))
}

export function compileReplace(
  collection: Collection,
  form: GeometryForm,
  row: RowReference,
  body: ItemBody,
): ChangeStatement {
  const given = new Map(body.assignments.map((one) => [one.column.name, one]))
  const properties = collection.properties
    .filter(({ name }) => collection.capabilities!.columns.has(name))
    .map(({ name }): Assignment => {
      const one = given.get(name)
      return one ? assignProperty(collection, one) : { name, value: DEFAULT }
    })
  const assignments = [...assignGeometry(collection, body, form), ...properties]
  const change = compile(collection, `replace ${form}`, { row, assignments }, (set, where) =>
    update(collection, form, set, where),
  )
  return { ...change, held: compileHeld(collection, row) }
}

export function compileUpdate(
  collection: Collection,
  form: GeometryForm,
  row: RowReference,
  body: ItemBody,
): ChangeStatement {
  const properties = body.assignments.map((one) => assignProperty(collection, one))
  // The text of a statement with a patch depends on the patch, and other requests are unlikely to have the same.
  const isUnique = body.assignments.some(({ value }) => isDerived(value) && 'patch' in value)
  const assignments = [...assignGeometry(collection, body, form), ...properties]
  const change = compile(collection, `update ${form}`, { row, assignments, isUnique }, (set, where) =>
    update(collection, form, set, where),
  )
  return assignments.length === 0
    ? { ...change, changesNothing: true }
    : { ...change, held: compileHeld(collection, row) }
}

/** Its row has one column, or a second one with what the audit keeps of the feature. */
export const compileRemove = (collection: Collection, row: RowReference): ChangeStatement =>
  compile(collection, 'remove', { row, isRemoval: true }, (_, where) => {
    const removal = sql`delete from ${tableOf(collection)} ${where} returning`
    return keepsValues(collection)
      ? sql`with changed as (${removal} *) select 1, ${keptFeature(collection)} from changed`
      : sql`${removal} 1`
  })

/**
 * Returns the columns that a feature keeps when another replaces it: those that the role may not set, and those whose new
 * value depends on the stored one.
 */
export function replaceKept(collection: Collection, body: ItemBody): KeptColumn[] {
  const { columns } = collection.capabilities!
  const { touched } = collection
  const derived = new Set(
    body.assignments.flatMap(({ column, value }) => (isDerived(value) ? column.name : [])),
  )
  return updateKept(collection, body).filter(
    ({ name }) => !columns.has(name) || derived.has(name) || name === touched,
  )
}

/** Returns the columns that a patch leaves as they are, and those whose new value depends on the stored one. */
export function updateKept(collection: Collection, { assignments }: ItemBody): KeptColumn[] {
  const changed = new Map(assignments.map((one) => [one.column.name, one]))
  return keptColumns(collection).flatMap(({ name, value }) => {
    const change = changed.get(name)
    if (!change) return [{ name, value }]
    return isDerived(change.value)
      ? [{ name, value: derivedValue(collection, change.column, change.value) }]
      : []
  })
}

/** Returns all columns but the feature's id, and those that PostgreSQL computes; the time of the last change is one. */
const keptColumns = ({ columns, hidden, idColumn, touched }: Collection): KeptColumn[] =>
  [
    ...columns.filter(({ isComputed, name }) => !isComputed || name === touched).map(({ name }) => name),
    ...hidden,
  ]
    .filter((name) => name !== idColumn!.name && name !== CELL_COLUMN)
    .map((name) => ({ name, value: sql`${sql.identifier(name)}` }))

/** Takes a feature out of its cell. Its row holds the texts of the columns that are kept. */
export const compileDeparture = (
  collection: Collection,
  row: RowReference,
  kept: readonly KeptColumn[],
): ChangeStatement => ({
  ...compile(collection, 'departure', { row, isUnique: true }, (_, where) =>
    departure(collection, kept, where),
  ),
  held: compileHeld(collection, row),
})

/** Puts a feature that has left its cell into another one. @param left the row of its departure */
export function compileArrival(
  collection: Collection,
  form: GeometryForm,
  id: string,
  body: ItemBody,
  kept: readonly KeptColumn[],
  cell: number,
  left: Row,
): ChangeStatement {
  const assignments = [
    assignCell(cell),
    assignId(collection, id),
    ...assignGeometry(collection, body),
    ...body.assignments
      .filter(({ value }) => !isDerived(value))
      .map((one) => assignProperty(collection, one)),
    ...kept.map(({ name }, index) => {
      const value = bound(left[index] ?? null)
      return name === collection.touched
        ? { name, value: { ...value, shape: 'next time', compose: timeAfter } }
        : { name, value, target: { property: name } }
    }),
  ]
  return compile(collection, 'arrival', { assignments, cell, isUnique: true }, (set) =>
    insert(collection, form, set),
  )
}

const timeAfter = (before: SQL) => nextTime(sql`${before}::timestamptz`)

export const isDerived = (value: ColumnValue['value']): value is DerivedValue =>
  typeof value === 'object' && value !== null && ('patch' in value || 'blank' in value)
