// Owns changes of features: ItemBody → one INSERT, UPDATE or DELETE, and what it means when PostgreSQL refuses.

import { Placeholder, type SQL, sql } from 'drizzle-orm'
import type { Database, Row, Statement } from '../database/database.ts'
import { isProjectionFailure, RefusedChange } from '../database/outcome.ts'
import { type Fault, type GatewayError, gatewayError } from '../errors.ts'
import { type Collection, type Column, tableOf } from './collection.ts'
import { isObject, type JsonObject } from './exact-json.ts'
import { featureNotFound, itemOf, versionOf } from './feature.ts'
import { type ItemBody, invalidFeature, parseItemBody, pointerOf } from './item-body.ts'
import { compileLookup } from './item-query.ts'
import { composeOnce, fillTemplate, type Template, templateOf } from './statement.ts'
import { parseValue } from './value.ts'

/** A feature as it is after a change; `text` up to its last brace, see feature.ts. */
export type StoredItem = { readonly id: string; readonly text: string; readonly version: string }

/** What must hold for a change to happen: the feature is of one of these versions; undefined for any. */
export type Condition = readonly string[] | undefined

export interface ItemChanges {
  /** @throws GatewayError, as all of these: feature-invalid, feature-conflict, change-forbidden, … */
  create(collection: Collection, body: unknown): Promise<StoredItem>
  /** Properties that the body leaves out become what they are in a new feature. */
  replace(collection: Collection, id: string, body: unknown, condition: Condition): Promise<StoredItem>
  /** @param body a merge patch (RFC 7396): what it leaves out stays as it is */
  update(collection: Collection, id: string, body: unknown, condition: Condition): Promise<StoredItem>
  remove(collection: Collection, id: string, condition: Condition): Promise<void>
}

export function makeItemChanges(database: Database): ItemChanges {
  /** One statement: condition and change see the same row, so that of two who race only one wins. */
  async function changeOne(collection: Collection, id: string, change: Change): Promise<Row> {
    const [row] = await write(collection, change)
    if (row) return row
    const [current] = await database.write(compileLookup(collection, [id]))
    if (!current) throw featureNotFound(collection, id)
    // It is there, and of a version that would do: row-level security, or a trigger, said no without a word.
    if (change.condition?.includes(current[2]!) !== false) throw notAllowed()
    throw gatewayError(
      'feature-changed',
      `The feature ${JSON.stringify(id)} is not what If-Match names: it has been changed since it was read. Read it again, and decide anew.`,
      { collection: collection.id, feature: id },
    )
  }

  async function write(collection: Collection, change: Change): Promise<Row[]> {
    try {
      return await database.write(change.statement)
    } catch (error) {
      if (error instanceof RefusedChange) throw await explainRefusal(error, collection, change, database)
      if (isProjectionFailure(error)) {
        throw invalidFeature([
          { pointer: '/geometry', detail: "is outside the area of this collection's coordinate system" },
        ])
      }
      throw error
    }
  }

  const idOf = (collection: Collection, text: string) => {
    const id = parseValue(text, collection.idColumn!)
    if (id === undefined) throw featureNotFound(collection, text)
    return id
  }

  return {
    async create(collection, given) {
      const body = parseItemBody(given, collection, 'create', undefined)
      const [row] = await write(collection, compileCreate(collection, body))
      if (!row) throw notAllowed()
      return storedItem(row)
    },
    async replace(collection, text, given, condition) {
      const id = idOf(collection, text)
      const body = parseItemBody(given, collection, 'replace', id)
      return storedItem(await changeOne(collection, id, compileReplace(collection, id, body, condition)))
    },
    async update(collection, text, given, condition) {
      const id = idOf(collection, text)
      const body = parseItemBody(given, collection, 'update', id)
      return storedItem(await changeOne(collection, id, compileUpdate(collection, id, body, condition)))
    },
    async remove(collection, text, condition) {
      const id = idOf(collection, text)
      await changeOne(collection, id, compileRemove(collection, id, condition))
    },
  }
}

const notAllowed = (cause?: unknown) =>
  gatewayError('change-forbidden', 'The rules of the database do not allow this change.', {}, cause)

const storedItem = ([id, text, version]: Row): StoredItem => ({ id: id!, text: text!, version: version! })

/** A statement, and which column each of its values is for. */
type Change = {
  readonly statement: Statement
  readonly columns: readonly string[]
  readonly isRemoval: boolean
  readonly condition: Condition
}

const PROPERTY = 'property '
const GEOMETRY = 'geometry'
const ID = 'id'

function makeChange(template: Template, values: Record<string, unknown>, isRemoval = false): Change {
  return {
    isRemoval,
    condition: values.versions as Condition,
    statement: fillTemplate(template, values),
    columns: template.parameters.map((parameter) => (parameter instanceof Placeholder ? parameter.name : '')),
  }
}

/** A change, and the feature as it is after it. In RETURNING itself Citus takes immutable functions alone. */
const showing = (collection: Collection, change: SQL): SQL =>
  sql`with changed as (${change} returning *) select ${itemOf(collection)} from changed`

const valuesOf = ({ id, geometry, changes }: ItemBody): Record<string, unknown> => ({
  ...(id === undefined ? {} : { [ID]: id }),
  ...(geometry == null ? {} : { [GEOMETRY]: geometry }),
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
function geometryValue(geometry: string | null, { srid }: Collection['geometry']): SQL {
  if (geometry === null) return sql`null`
  const parsed = sql`ST_GeomFromGeoJSON(${sql.placeholder(GEOMETRY)}::text)`
  if (srid === 4326) return parsed
  // A table that does not say its system is taken for degrees.
  return srid === 0 ? sql`ST_SetSRID(${parsed}, 0)` : sql`ST_Transform(${parsed}, ${sql.raw(String(srid))})`
}

function compileCreate(collection: Collection, body: ItemBody): Change {
  const template = templateOf(`create ${collection.version} ${shapeOf(body)}`, () => {
    const names: string[] = []
    const values: SQL[] = []
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
  return makeChange(template, valuesOf(body))
}

type Assignment = { readonly name: string; readonly value: SQL }

const assignGeometry = ({ geometry }: Collection, body: ItemBody): Assignment[] =>
  body.geometry === undefined
    ? []
    : [{ name: geometry.column, value: geometryValue(body.geometry, geometry) }]

function compileReplace(collection: Collection, id: string, body: ItemBody, condition: Condition): Change {
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
  return makeChange(template, { ...valuesOf(body), [ID]: id, versions: condition })
}

function compileUpdate(collection: Collection, id: string, body: ItemBody, condition: Condition): Change {
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
  return makeChange(template, { ...valuesOf(body), [ID]: id, versions: condition })
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

function compileRemove(collection: Collection, id: string, condition: Condition): Change {
  const template = templateOf(
    `remove ${collection.version} ${condition !== undefined}`,
    () => sql`delete from ${tableOf(collection)} ${where(collection, condition)} returning 1`,
  )
  return makeChange(template, { [ID]: id, versions: condition }, true)
}

/** PostgreSQL looks at both again after it has waited for another who changed the row. */
function where(collection: Collection, condition: Condition): SQL {
  const found = sql`where ${sql.identifier(collection.idColumn!.name)} = ${sql.placeholder(ID)}`
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

/** The fault of a change that the table's rules refuse, named by the property. */
async function explainRefusal(
  refused: RefusedChange,
  collection: Collection,
  { columns, isRemoval }: Change,
  database: Database,
): Promise<GatewayError> {
  const { refusal, constraint } = refused
  if (refusal === 'forbidden') {
    return notAllowed(refused)
  }
  if (refusal === 'conflict' && isRemoval) {
    return gatewayError(
      'feature-conflict',
      `The feature is still referred to from ${refused.table}${constraint ? ` (${constraint})` : ''}.`,
      { ...(constraint ? { constraint } : {}) },
      refused,
    )
  }
  const parameter = refused.parameter === undefined ? undefined : columns[refused.parameter - 1]
  if (parameter === ID && refusal === 'invalid')
    return gatewayError('feature-not-found', 'There is no such feature.')
  const named = refused.columns.length > 0 ? refused.columns : await columnsOf(refused, database)
  const pointers =
    parameter === undefined
      ? named.map((name) => pointerTo(name, collection))
      : [pointerOfParameter(parameter)]
  const detail = detailOf(refused)
  const errors: Fault[] = (pointers.length > 0 ? pointers : ['']).map((pointer) => ({ pointer, detail }))
  if (refusal === 'invalid') return invalidFeature(errors)
  return gatewayError(
    'feature-conflict',
    `${pointers.join(' and ') || 'The feature'} ${detail}.`,
    { errors, ...(constraint ? { constraint } : {}) },
    refused,
  )
}

const pointerTo = (column: string, { idColumn, geometry }: Collection) =>
  column === idColumn?.name
    ? '/id'
    : column === geometry.column
      ? '/geometry'
      : pointerOf('properties', column)

const pointerOfParameter = (name: string) =>
  name.startsWith(PROPERTY) ? pointerOf('properties', name.slice(PROPERTY.length)) : `/${name}`

/** Completes a sentence that begins with a pointer. PostgreSQL's own words where they are the best there are. */
function detailOf({ cause, constraint, message }: RefusedChange): string {
  const rule = constraint ? ` (${constraint})` : ''
  switch ((cause as { code?: string }).code) {
    case '23505':
      return `has a value that another feature has already${rule}`
    case '23503':
      return `refers to what is not there${rule}`
    case '23502':
      return 'must not be null'
    case '23514':
      return `has a value that the table's check does not allow${rule}`
    default:
      return `was refused by the database: ${message}`
  }
}

/** A check's error names the check alone. */
async function columnsOf(
  { schema, table, constraint }: RefusedChange,
  database: Database,
): Promise<string[]> {
  if (!schema || !table || !constraint) return []
  const rows = await database.write({
    text: `select a.attname from pg_constraint c
           join pg_class t on t.oid = c.conrelid and t.relname = $2
           join pg_namespace n on n.oid = t.relnamespace and n.nspname = $1
           join pg_attribute a on a.attrelid = c.conrelid and a.attnum = any(c.conkey)
           where c.conname = $3 order by a.attnum`,
    values: [schema, table, constraint],
  })
  return rows.map(([name]) => name!)
}
