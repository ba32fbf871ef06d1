// Owns changes of features: ItemBody → one INSERT, UPDATE or DELETE, and what it means when PostgreSQL refuses.

import { setTimeout as sleep } from 'node:timers/promises'
import { Placeholder, type SQL, sql } from 'drizzle-orm'
import type { Database, Row, Statement } from '../database/database.ts'
import { isProjectionFailure, RefusedChange } from '../database/outcome.ts'
import { type Fault, type GatewayError, gatewayError } from '../errors.ts'
import { cellOf } from './cell.ts'
import {
  CELL_COLUMN,
  type Collection,
  type Column,
  cellColumn,
  cellsOfStatement,
  tableOf,
} from './collection.ts'
import { isObject, type JsonObject } from './exact-json.ts'
import { featureNotFound, itemOf, versionOf } from './feature.ts'
import { type ItemBody, invalidFeature, parseItemBody, pointerOf } from './item-body.ts'
import { homeOf, itemIdOf, makeLocalId } from './item-id.ts'
import {
  type Assignment,
  compileClaim,
  compileForget,
  compileForward,
  compileWhereabouts,
  departure,
} from './item-move.ts'
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
  /**
   * Properties that the body leaves out become what they are in a new feature.
   * @param mayCreate whether one that is not there is made, with this id
   */
  replace(
    collection: Collection,
    id: string,
    body: unknown,
    condition: Condition,
    mayCreate: boolean,
  ): Promise<StoredItem & { readonly isNew: boolean }>
  /** @param body a merge patch (RFC 7396): what it leaves out stays as it is */
  update(collection: Collection, id: string, body: unknown, condition: Condition): Promise<StoredItem>
  remove(collection: Collection, id: string, condition: Condition): Promise<void>
}

export function makeItemChanges(database: Database): ItemChanges {
  /** One statement: condition and change see the same row, so that of two who race only one wins. */
  async function changeOne(collection: Collection, id: string, change: Change): Promise<Row | undefined> {
    const [row] = await write(collection, change)
    if (row) return row
    const [current] = await database.write(compileLookup(collection, [id]))
    if (!current) return undefined
    throw refusal(collection, id, change.condition, current)
  }

  /**
   * A change of a feature that lies in a cell: one statement where it stays there, else a transaction. Where it is
   * its id says, or else the word that it has left at home.
   * @returns undefined where there is no such feature
   */
  async function changeInCell(
    collection: Collection,
    id: string,
    condition: Condition,
    relocation: Relocation,
  ): Promise<Row | undefined> {
    const home = homeOf(id)
    if (home === undefined) return undefined
    const { staysIn, changeIn } = relocation
    if (staysIn(home)) {
      const [row] = await write(collection, changeIn(home))
      if (row) return row
    }
    const [found] = await database.write(compileWhereabouts(collection, id, home))
    if (!found) return undefined
    const cell = Number(found[0])
    if (cell !== home && staysIn(cell)) {
      const [row] = await write(collection, changeIn(cell))
      if (row) return row
    }
    return changeClaimed(collection, id, home, condition, relocation)
  }

  /** Wherever it is: nobody else moves or removes it meanwhile. */
  async function changeClaimed(
    collection: Collection,
    id: string,
    home: number,
    condition: Condition,
    { target, staysIn, changeIn, departure, arrival }: Relocation,
  ): Promise<Row | undefined> {
    let change = departure(home)
    const work = database.transact(async (query) => {
      const [claimed] = await query(compileClaim(collection, id, home))
      const from = Number(claimed![0])
      let seen: string | null | undefined
      for (let look = 0; look < MAX_LOOKS; look++) {
        // Where two nodes have committed a move, one may know of it before the other does.
        if (look > 0) await sleep(LOOK_INTERVAL_MS)
        const stays = staysIn(from)
        change = stays ? changeIn(from) : departure(from)
        const [left] = await query(change.statement)
        if (left) {
          if (!stays && arrival) change = arrival(left)
          const [row] = !stays && arrival ? await query(change.statement) : [left]
          const end = stays ? from : target
          const isAway = end !== undefined && end !== home
          await query(
            isAway ? compileForward(collection, id, home, end) : compileForget(collection, id, home),
          )
          return row
        }
        const [current] = await query(compileLookup(collection, [id], from))
        const version = current?.[2]
        // It may have come to be seen a moment ago: only one that was there before has refused to change.
        if (current && (version === seen || condition?.includes(version!) === false))
          throw refusal(collection, id, condition, current)
        if (!current && from === home) throw NOBODY_HOME
        seen = version
      }
      throw gatewayError('collection-changing', 'The feature is still moving; try again.')
    })
    try {
      return await explaining(
        collection,
        () => change,
        () => work,
      )
    } catch (error) {
      if (error === NOBODY_HOME) return undefined
      throw error
    }
  }

  const write = (collection: Collection, change: Change): Promise<Row[]> =>
    explaining(
      collection,
      () => change,
      () => database.write(change.statement),
    )

  /** What PostgreSQL refuses, as the fault of the change that was under way. */
  async function explaining<T>(
    collection: Collection,
    change: () => Change,
    work: () => Promise<T>,
  ): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (error instanceof RefusedChange) throw await explainRefusal(error, collection, change(), database)
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
      const cell = cellOfBody(collection, body)
      const placed = cell === undefined ? body : { ...body, id: itemIdOf(cell, makeLocalId()) }
      const [row] = await write(collection, compileCreate(collection, placed, cell))
      if (!row) throw notAllowed()
      return storedItem(row)
    },
    async replace(collection, text, given, condition, mayCreate) {
      const id = idOf(collection, text)
      const body = parseItemBody(given, collection, 'replace', id)
      const row = await change(collection, id, body, condition, compileReplace, replaceKept)
      if (row) return { ...storedItem(row), isNew: false }
      if (!mayCreate || !collection.takesIds || !collection.changes?.canCreate)
        throw featureNotFound(collection, id)
      return { ...storedItem(await createWithId(collection, id, given)), isNew: true }
    },
    async update(collection, text, given, condition) {
      const id = idOf(collection, text)
      const body = parseItemBody(given, collection, 'update', id)
      const row = await change(collection, id, body, condition, compileUpdate, updateKept)
      if (!row) throw featureNotFound(collection, id)
      return storedItem(row)
    },
    async remove(collection, text, condition) {
      const id = idOf(collection, text)
      if (collection.level === undefined) {
        if (await changeOne(collection, id, compileRemove(collection, id, condition, undefined))) return
        throw featureNotFound(collection, id)
      }
      const home = homeOf(id)
      const removal = (cell: number) => compileRemove(collection, id, condition, cell)
      const removed = await changeInCell(collection, id, condition, {
        target: undefined,
        // Elsewhere there is its word to remove, too.
        staysIn: (cell) => cell === home,
        changeIn: removal,
        departure: removal,
      })
      if (!removed) throw featureNotFound(collection, id)
    },
  }

  /** A feature whose id the client has chosen, and which was not there a moment ago. */
  async function createWithId(collection: Collection, id: string, given: unknown): Promise<Row> {
    const body = parseItemBody(given, collection, 'create', id)
    const cell = cellOfBody(collection, body)
    if (cell !== undefined && homeOf(id) !== cell) {
      const example = JSON.stringify(itemIdOf(cell, 'my-own'))
      const detail = `must begin with the cell of the feature's place, for example ${example}; POST gives such an id by itself`
      throw invalidFeature([{ pointer: '/id', detail }])
    }
    const creation = compileCreate(collection, body, cell)
    const work = () =>
      database.transact(async (query) => {
        const [row] = await query(creation.statement)
        if (!row) throw notAllowed()
        // Another may have made it meanwhile, and moved it on: its id is taken, though its home is free.
        if (cell !== undefined && (await query(compileWhereabouts(collection, id, cell))).length > 1)
          throw gatewayError('feature-conflict', '/id has a value that another feature has already.', {
            errors: [{ pointer: '/id', detail: 'has a value that another feature has already' }],
          })
        return row
      })
    return explaining(collection, () => creation, work)
  }

  function change(
    collection: Collection,
    id: string,
    body: ItemBody,
    condition: Condition,
    compile: typeof compileUpdate,
    keptOf: typeof updateKept,
  ): Promise<Row | undefined> {
    if (collection.level === undefined)
      return changeOne(collection, id, compile(collection, id, body, condition, undefined))
    const target = body.geometry === undefined ? undefined : cellOfBody(collection, body)
    const kept = keptOf(collection, body)
    return changeInCell(collection, id, condition, {
      target,
      staysIn: (cell) => target === undefined || target === cell,
      changeIn: (cell) => compile(collection, id, body, condition, cell),
      departure: (cell) => compileDeparture(collection, id, kept, condition, cell),
      arrival: target === undefined ? undefined : compileArrival(collection, id, body, kept, target),
    })
  }
}

/** What becomes of a feature, by the cell that it is in. */
type Relocation = {
  /** Where it lies in the end, if not where it was; undefined for nowhere else. */
  readonly target: number | undefined
  readonly staysIn: (cell: number) => boolean
  /** For a feature that stays. */
  readonly changeIn: (cell: number) => Change
  /** For one that leaves: takes it away, and puts what was left into its new cell, if there is one. */
  readonly departure: (cell: number) => Change
  readonly arrival?: ((left: Row) => Change) | undefined
}

/** Why a change did not find a feature that is there. */
function refusal(collection: Collection, id: string, condition: Condition, [, , version]: Row): GatewayError {
  // Row-level security, or a trigger, said no without a word.
  if (condition?.includes(version!) !== false) return notAllowed()
  return gatewayError(
    'feature-changed',
    `The feature ${JSON.stringify(id)} is not what If-Match names: it has been changed since it was read. Read it again, and decide anew.`,
    { collection: collection.id, feature: id },
  )
}

const NOBODY_HOME = new Error('there is no such feature')

/** How often a feature is looked for where a node that has committed says that it is, and how long between. */
const MAX_LOOKS = 100
const LOOK_INTERVAL_MS = 20

/** Where a feature with this body belongs; undefined where features are not sharded by place. */
const cellOfBody = ({ level }: Collection, { geometry }: ItemBody) =>
  level === undefined ? undefined : cellOf(geometry?.extent, level)

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
const CELL = 'cell'
const KEPT = 'kept '

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

function compileCreate(collection: Collection, body: ItemBody, cell: number | undefined): Change {
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

function compileReplace(
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

function compileUpdate(
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
function replaceKept(collection: Collection): Assignment[] {
  const { columns } = collection.changes!
  return keptColumns(collection).filter(({ name }) => !columns.has(name))
}

/** Columns that a patch leaves as they are, and those of which it changes but a part. */
function updateKept(collection: Collection, { changes }: ItemBody): Assignment[] {
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

function compileDeparture(
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
function compileArrival(
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

function compileRemove(
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

/** The fault of a change that the table's rules refuse, named by the property. */
async function explainRefusal(
  refused: RefusedChange,
  collection: Collection,
  { columns, isRemoval }: Change,
  database: Database,
): Promise<GatewayError> {
  const { refusal, constraint } = refused
  // By another level than we know of: the table was made anew.
  if (collection.level !== undefined && /^cell_of_geom(_\d+)?$/.test(constraint ?? ''))
    return gatewayError('collection-changing', 'The table behind this collection has changed; try again.')
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

const pointerOfParameter = (name: string) => {
  const property = [PROPERTY, KEPT].find((prefix) => name.startsWith(prefix))
  return property ? pointerOf('properties', name.slice(property.length)) : `/${name}`
}

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
