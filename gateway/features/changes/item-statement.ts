// Owns the statements of changes: what a client sent → one INSERT, UPDATE or DELETE.

import { Placeholder, type SQL, sql } from 'drizzle-orm'
import type { Row, Statement } from '../../database/statement.ts'
import { composeOnce, fillTemplate, type Template, templateOf } from '../../database/template.ts'
import {
  CELL_COLUMN,
  type Collection,
  cellColumn,
  cellsOfStatement,
  tableOf,
} from '../collections/collection.ts'
import { itemOf, versionOf } from '../query/stored-feature.ts'
import { type Assignment, departure } from '../sharding/forwarding.ts'
import type { Column } from '../values/column.ts'
import { isObject, type JsonObject } from '../values/exact-json.ts'
import type { ItemBody } from './item-body.ts'

/** What must hold for a change to happen: the feature is of one of these versions; undefined for any. */
export type Condition = readonly string[] | undefined

/** A statement, and which column each of its values is for. */
export type Change = {
  readonly statement: Statement
  readonly columns: readonly string[]
  readonly isRemoval: boolean
  readonly condition: Condition
}

export const PROPERTY = 'property '
const GEOMETRY = 'geometry'
export const ID = 'id'
const CELL = 'cell'
export const KEPT = 'kept '

function makeChange(
  collection: Collection,
  template: Template,
  values: Record<string, unknown>,
  isRemoval = false,
): Change {
  return {
    isRemoval,
    condition: values.versions as Condition,
    statement: fillTemplate(
      template,
      values,
      cellsOfStatement(collection, values[CELL] as number | undefined),
    ),
    columns: template.parameters.map((parameter) => (parameter instanceof Placeholder ? parameter.name : '')),
  }
}

/** A change, and the feature as it is after it. In RETURNING itself Citus takes immutable functions alone. */
const showing = (collection: Collection, change: SQL): SQL =>
  sql`with changed as (${change} returning *) select ${itemOf(collection)} from changed`

const valuesOf = ({ id, geometry, changes }: ItemBody): Record<string, unknown> => ({
  ...(id === undefined ? {} : { [ID]: id }),
  ...(geometry == null ? {} : { [GEOMETRY]: geometry.text }),
  ...Object.fromEntries(changes.map(({ column, value }) => [PROPERTY + column.name, value])),
})

/** Everything that the text depends on, apart from the collection. */
const shapeOf = ({ id, geometry, changes }: ItemBody) =>
  JSON.stringify([
    id !== undefined,
    geometry === undefined ? 0 : geometry === null ? 1 : 2,
    changes.map(({ column }) => column.name),
  ])

/** @throws where there is none: asked for only where it is to be set */
function geometryValue(geometry: ItemBody['geometry'], { srid }: Collection['geometry']): SQL {
  if (geometry === null) return sql`null`
  const parsed = sql`ST_GeomFromGeoJSON(${sql.placeholder(GEOMETRY)}::text)`
  if (srid === 4326) return parsed
  // A table that does not say its system is taken for degrees.
  return srid === 0 ? sql`ST_SetSRID(${parsed}, 0)` : sql`ST_Transform(${parsed}, ${sql.raw(String(srid))})`
}

export function compileCreate(collection: Collection, body: ItemBody, cell: number | undefined): Change {
  const template = templateOf(`create ${collection.version} ${shapeOf(body)}`, () => {
    const names: string[] = []
    const values: SQL[] = []
    if (cell !== undefined) {
      names.push(CELL_COLUMN)
      values.push(sql`${sql.placeholder(CELL)}`)
    }
    if (body.id !== undefined) {
      names.push(collection.idColumn!.name)
      values.push(sql`${sql.placeholder(ID)}`)
    }
    if (body.geometry !== undefined) {
      names.push(collection.geometry.column)
      values.push(geometryValue(body.geometry, collection.geometry))
    }
    for (const { column } of body.changes) {
      names.push(column.name)
      values.push(sql`${sql.placeholder(PROPERTY + column.name)}`)
    }
    const columns = sql.join(
      names.map((name) => sql.identifier(name)),
      sql.raw(', '),
    )
    const row =
      names.length > 0 ? sql`(${columns}) values (${sql.join(values, sql.raw(', '))})` : sql`default values`
    return showing(collection, sql`insert into ${tableOf(collection)} ${row}`)
  })
  return makeChange(collection, template, { ...valuesOf(body), [CELL]: cell })
}

const assignGeometry = ({ geometry }: Collection, body: ItemBody): Assignment[] =>
  body.geometry === undefined
    ? []
    : [{ name: geometry.column, value: geometryValue(body.geometry, geometry) }]

export function compileReplace(
  collection: Collection,
  id: string,
  body: ItemBody,
  condition: Condition,
  cell: number | undefined,
): Change {
  const template = templateOf(
    `replace ${collection.version} ${shapeOf(body)} ${condition !== undefined}`,
    () => {
      const given = new Set(body.changes.map(({ column }) => column.name))
      const properties = collection.properties
        .filter(({ name }) => collection.changes!.columns.has(name))
        .map(({ name }) => ({
          name,
          value: given.has(name) ? sql`${sql.placeholder(PROPERTY + name)}` : sql`default`,
        }))
      return updateItem(collection, [...assignGeometry(collection, body), ...properties], condition)
    },
  )
  return makeChange(collection, template, { ...valuesOf(body), [ID]: id, [CELL]: cell, versions: condition })
}

export function compileUpdate(
  collection: Collection,
  id: string,
  body: ItemBody,
  condition: Condition,
  cell: number | undefined,
): Change {
  const patches = new Map<string, JsonObject>()
  for (const { column, value } of body.changes) if (isPatch(value)) patches.set(column.name, value.patch)
  const compose = () => {
    const properties = body.changes.map(({ column }) => {
      const patch = patches.get(column.name)
      const value = patch ? mergedColumn(column, patch) : sql`${sql.placeholder(PROPERTY + column.name)}`
      return { name: column.name, value }
    })
    return updateItem(collection, [...assignGeometry(collection, body), ...properties], condition)
  }
  const shape = `update ${collection.version} ${shapeOf(body)} ${condition !== undefined}`
  // A patch of JSON is text of its own, which nobody will send again.
  const template = patches.size > 0 ? composeOnce(compose()) : templateOf(shape, compose)
  return makeChange(collection, template, { ...valuesOf(body), [ID]: id, [CELL]: cell, versions: condition })
}

/** Columns that a feature keeps when another takes its place: those that the role may not set. */
export function replaceKept(collection: Collection): Assignment[] {
  const { columns } = collection.changes!
  return keptColumns(collection).filter(({ name }) => !columns.has(name))
}

/** Columns that a patch leaves as they are, and those of which it changes but a part. */
export function updateKept(collection: Collection, { changes }: ItemBody): Assignment[] {
  const changed = new Map(changes.map(({ column, value }) => [column.name, { column, value }]))
  return keptColumns(collection).flatMap(({ name, value }) => {
    const change = changed.get(name)
    if (!change) return [{ name, value }]
    return isPatch(change.value) ? [{ name, value: mergedColumn(change.column, change.value.patch) }] : []
  })
}

/** All that are neither the feature's id nor made by PostgreSQL, nor say when it was changed. */
const keptColumns = ({ columns, hidden, idColumn, touched }: Collection): Assignment[] =>
  [...columns.filter(({ isComputed }) => !isComputed).map(({ name }) => name), ...hidden]
    .filter((name) => name !== idColumn!.name && name !== touched && name !== CELL_COLUMN)
    .map((name) => ({ name, value: sql`${sql.identifier(name)}` }))

export function compileDeparture(
  collection: Collection,
  id: string,
  kept: readonly Assignment[],
  condition: Condition,
  cell: number,
): Change {
  const template = composeOnce(departure(collection, kept, where(collection, condition)))
  return makeChange(collection, template, { [ID]: id, [CELL]: cell, versions: condition })
}

/** @returns the change for a row that has left with these texts */
export function compileArrival(
  collection: Collection,
  id: string,
  body: ItemBody,
  kept: readonly Assignment[],
  cell: number,
): (left: Row) => Change {
  const given = body.changes.filter(({ value }) => !isPatch(value))
  const assignments: Assignment[] = [
    { name: CELL_COLUMN, value: sql`${sql.placeholder(CELL)}` },
    { name: collection.idColumn!.name, value: sql`${sql.placeholder(ID)}` },
    ...assignGeometry(collection, body),
    ...given.map(({ column: { name } }) => ({ name, value: sql`${sql.placeholder(PROPERTY + name)}` })),
    ...kept.map(({ name }) => ({ name, value: sql`${sql.placeholder(KEPT + name)}` })),
  ]
  const list = (parts: readonly SQL[]) => sql.join([...parts], sql.raw(', '))
  const names = list(assignments.map(({ name }) => sql`${sql.identifier(name)}`))
  const template = composeOnce(
    showing(
      collection,
      sql`insert into ${tableOf(collection)} (${names}) values (${list(assignments.map(({ value }) => value))})`,
    ),
  )
  return (left) =>
    makeChange(collection, template, {
      ...valuesOf({ ...body, changes: given }),
      ...Object.fromEntries(kept.map(({ name }, index) => [KEPT + name, left[index] ?? null])),
      [ID]: id,
      [CELL]: cell,
    })
}

function updateItem(collection: Collection, assignments: readonly Assignment[], condition: Condition): SQL {
  const from = sql`${tableOf(collection)}`
  // A patch of nothing is the feature as it is, on the same condition.
  if (assignments.length === 0) {
    return sql`select ${itemOf(collection)} from ${from} ${where(collection, condition)}`
  }
  const touched = collection.touched ? [{ name: collection.touched, value: sql`now()` }] : []
  const set = [...assignments, ...touched].map(({ name, value }) => sql`${sql.identifier(name)} = ${value}`)
  return showing(
    collection,
    sql`update ${from} set ${sql.join(set, sql.raw(', '))} ${where(collection, condition)}`,
  )
}

export function compileRemove(
  collection: Collection,
  id: string,
  condition: Condition,
  cell: number | undefined,
): Change {
  const template = templateOf(
    `remove ${collection.version} ${condition !== undefined}`,
    () => sql`delete from ${tableOf(collection)} ${where(collection, condition)} returning 1`,
  )
  return makeChange(collection, template, { [ID]: id, [CELL]: cell, versions: condition }, true)
}

/** PostgreSQL looks at both again after it has waited for another who changed the row. */
function where(collection: Collection, condition: Condition): SQL {
  const within = collection.level === undefined ? sql`` : sql`${cellColumn} = ${sql.placeholder(CELL)} and `
  const found = sql`where ${within}${sql.identifier(collection.idColumn!.name)} = ${sql.placeholder(ID)}`
  return condition === undefined
    ? found
    : sql`${found} and ${versionOf(collection)} = any(${sql.placeholder('versions')}::bigint[])`
}

const isPatch = (value: unknown): value is { patch: JsonObject } =>
  typeof value === 'object' && value !== null && 'patch' in value

function mergedColumn({ name, type }: Column, patch: JsonObject): SQL {
  return sql`${mergePatch(sql`${sql.identifier(name)}::jsonb`, patch)}::${sql.raw(type === 'json' ? 'json' : 'jsonb')}`
}

/**
 * RFC 7396 in SQL: members of the patch replace those of the target, null removes them, objects are merged
 * in turn. What is no object becomes an empty one first.
 */
function mergePatch(target: SQL, patch: JsonObject): SQL {
  const members = Object.entries(patch)
  const removed = members.filter(([, value]) => value === null).map(([name]) => name)
  const plain = Object.fromEntries(members.filter(([, value]) => value !== null && !isObject(value)))
  const merged = members
    .filter(([, value]) => isObject(value))
    .map(([name, value]) => {
      const next = mergePatch(sql`(${target} -> ${name}::text)`, value as JsonObject)
      return sql` || jsonb_build_object(${name}::text, ${next})`
    })
  const object = sql`case when jsonb_typeof(${target}) = 'object' then ${target} else '{}'::jsonb end`
  return sql`((${object}) - ${sql.param(removed)}::text[] || ${JSON.stringify(plain)}::jsonb${sql.join(merged)})`
}
