// Owns changes of all features that meet a condition: they are counted first, and changed in the same transaction.

import type { Database, Query } from '../../database/contract.ts'
import { combine, compileFragment } from '../../database/fragment.ts'
import { isGeometryFailure, RefusedChange } from '../../database/outcome.ts'
import { type SQL, sql } from '../../database/sql.ts'
import type { Row, Statement } from '../../database/statement.ts'
import { gatewayError } from '../../errors.ts'
import { type Collection, cellColumn, tableOf } from '../collections/collection.ts'
import type { FilterFunctions } from '../filter/functions.ts'
import { nameCalls } from '../query/call-failure.ts'
import { cellsToLookIn, type ItemParameters, planConditions } from '../query/item-query.ts'
import { isUnlocated, locate, planPlaces } from '../query/locate.ts'
import { nextTime } from '../query/modification-time.ts'
import { homeOf } from '../sharding/feature-id.ts'
import { compileForget } from '../sharding/forwarding.ts'
import { cellsCondition } from '../sharding/shard-statement.ts'
import { columnOf } from '../values/column.ts'
import { allOf, type Condition } from '../values/condition.ts'
import { isObject } from '../values/exact-json.ts'
import { type Author, composeEntries, heldFeatures, keepsValues, partsOfAuthor } from './audit.ts'
import { changeManyOnce, type Done, type IdempotencyKey } from './idempotency-key.ts'
import { type BodyReading, type ItemBody, invalidFeature, parseItemBody } from './item-body.ts'
import { assignProperty, type ChangeStatement } from './item-statement.ts'
import { describeRefusal } from './refusal.ts'

/** What a client learns of a change of all features that meet a condition. */
export type SelectionReport = {
  /** Features that meet the condition. */
  readonly numberMatched: number
  /** Features that were changed or removed: none if they were only counted. */
  readonly numberChanged: number
}

/** Features that meet all of these conditions, of which there is at least one. */
export type Selection = { readonly collection: Collection; readonly conditions: readonly Condition[] }

/** Most features that a change concerns if the client allows no other number: a wrong filter then does little harm. */
export const DEFAULT_MAX_AFFECTED = 1_000

/**
 * Plans which features a change concerns: those that meet all conditions. Its caller makes sure that there is one.
 * @param own names of the parameters that are none of the collection's properties
 * @throws GatewayError naming the parameter
 */
export async function planSelection(
  database: Database,
  parameters: ItemParameters,
  collection: Collection,
  functions: FilterFunctions,
  own?: readonly string[],
): Promise<Selection> {
  const places = planPlaces(parameters, collection, functions)
  const located = isUnlocated(places)
    ? await locate({ database, deadline: new AbortController().signal }, places)
    : places
  return { collection, conditions: planConditions(parameters, collection, functions, own, located) }
}

/** Returns the number of features that meet the conditions. @throws GatewayError */
export async function countSelection(database: Database, selection: Selection): Promise<SelectionReport> {
  const counted = await database.write(compileCount(selection), { isRepeatable: true }).catch((error) => {
    throw translate(error, selection)
  })
  return { numberMatched: countOf(counted), numberChanged: 0 }
}

/** A change of all features that meet conditions, which can be made in any transaction. */
export type SelectionPlan = {
  readonly collection: Collection
  /** @throws GatewayError, too-many-affected if they are more than may be changed; and the errors of `describe` */
  readonly make: (query: Query) => Promise<SelectionReport>
  /** Returns an error of the change for its client. */
  readonly describe: (error: unknown, database: Database) => Promise<unknown>
}

/**
 * Plans a change or the removal of all features that meet the conditions.
 * @param patch a merge patch whose properties each of them gets; undefined to remove them
 * @param most features that may be changed
 * @param author who is named in the audit
 */
export function planSelectionChange(
  selection: Selection,
  patch: ItemBody | undefined,
  most: number,
  author: Author,
): SelectionPlan {
  const { collection } = selection
  const change = patch ? compileUpdate(selection, patch, author) : compileRemoval(selection, author)
  const check = (count: number) => {
    if (count <= most) return count
    throw gatewayError(
      'too-many-affected',
      `${count} features meet the conditions, and at most ${most} may be changed: nothing was. Allow more with Prefer: max-affected=${count}, or select fewer.`,
      { numberMatched: count },
    )
  }
  return {
    collection,
    async make(query) {
      const numberMatched = check(countOf(await query(compileCount(selection))))
      const rows = await query(change.statement)
      // Others may have become ones that meet the conditions meanwhile.
      const numberChanged = check(change.isRemoval ? rows.length : countOf(rows))
      if (change.isRemoval) for (const statement of forgetMoved(collection, rows)) await query(statement)
      return { numberMatched, numberChanged }
    },
    describe: async (error, database) =>
      error instanceof RefusedChange
        ? describeRefusal(error, collection, change, database)
        : translate(error, selection),
  }
}

/**
 * Changes all features that meet the conditions, as planned.
 * @throws GatewayError; then nothing has changed
 */
export async function changeSelection(
  database: Database,
  key: IdempotencyKey | undefined,
  { collection, make, describe }: SelectionPlan,
): Promise<Done> {
  try {
    return await changeManyOnce(database, key, collection, {
      make: async (query) => ({ kind: 'many', report: JSON.stringify(await make(query)) }),
    })
  } catch (error) {
    throw await describe(error, database)
  }
}

/** Parses the patch of many features. @throws GatewayError feature-invalid */
export function parseSelectionPatch(given: unknown, collection: Collection, reading: BodyReading): ItemBody {
  if (isObject(given)) {
    const fault = (name: string) => ({
      pointer: `/${name}`,
      detail: 'must be left out: many features get the same properties, but keep what makes each of them',
    })
    const faults = ['id', 'geometry'].filter((name) => name in given).map(fault)
    if (faults.length > 0) throw invalidFeature(faults)
  }
  const body = parseItemBody(given, collection, 'update', '', reading)
  if (body.assignments.length > 0) return body
  throw invalidFeature([{ pointer: '/properties', detail: 'must have a property to change' }])
}

const countOf = ([row]: readonly Row[]) => Number(row![0])

/** Returns the error of a condition that cannot be computed for a feature; any other error as it is. */
function translate(error: unknown, { conditions }: Selection): unknown {
  if (isGeometryFailure(error))
    return gatewayError(
      'parameter-invalid',
      'The condition cannot be computed for the geometry of a feature; nothing was changed. Leave such features out by another condition.',
      { parameter: 'filter' },
      error as Error,
    )
  return nameCalls(error, { calls: conditions.flatMap(({ calls }) => calls ?? []) })
}

const partsOf = ({ collection, conditions }: Selection) => {
  const condition = allOf(conditions)
  const cells = cellsToLookIn(condition.boxes, collection)
  return { cells, all: allOf(cells ? [condition, cellsCondition(cells)] : [condition]) }
}

function compileCount(selection: Selection): Statement {
  const { collection } = selection
  const { all, cells } = partsOf(selection)
  const fragment = combine(
    `count ${collection.version}`,
    [all],
    (where) => sql`select count(*) from ${tableOf(collection)} as item where ${where}`,
  )
  return compileFragment(fragment, cells)
}

/** Returns an author's values for a statement that writes entries; none if the audit keeps nothing of the collection. */
const authorOf = ({ audit }: Collection, author: Author) => (audit === undefined ? [] : partsOfAuthor(author))

function compileUpdate(selection: Selection, patch: ItemBody, author: Author): ChangeStatement {
  const { collection } = selection
  const { all, cells } = partsOf(selection)
  const assignments = patch.assignments.map((one) => assignProperty(collection, one))
  const names = JSON.stringify(assignments.map(({ name }) => name))
  const { touched: name } = collection
  const touched = name ? [sql`${sql.identifier(name)} = ${nextTime(columnOf({ name }))}`] : []
  const fragment = combine(
    `update all ${collection.version} ${names}`,
    [all, ...assignments.map(({ value }) => value), ...authorOf(collection, author)],
    (where, ...texts) => {
      const values = texts.slice(0, assignments.length)
      const set = assignments.map(({ name }, index) => sql`${sql.identifier(name)} = ${values[index]!}`)
      const from = sql`${tableOf(collection)} as item`
      const update = sql`update ${from} set ${sql.join([...set, ...touched], sql`, `)} where ${where}`
      if (collection.audit === undefined) return update
      const held = keepsValues(collection) ? heldFeatures(collection, sql`${from} where ${where}`) : undefined
      const given = texts.slice(assignments.length) as SQL[]
      return composeEntries(collection, 'changed', update, given, held, sql`count(*)`)
    },
  )
  return {
    // With entries it returns the number itself, and features that have moved have theirs in other cells.
    statement:
      collection.audit === undefined
        ? { ...compileFragment(fragment, cells), isCounted: true }
        : compileFragment(fragment),
    targets: [],
    isRemoval: false,
    condition: undefined,
  }
}

function compileRemoval(selection: Selection, author: Author): ChangeStatement {
  const { collection } = selection
  const { all, cells } = partsOf(selection)
  const columns = [columnOf(collection.idColumn!), ...(collection.level === undefined ? [] : [cellColumn])]
  const shown = sql.join(columns, sql`, `)
  const fragment = combine(
    `remove all ${collection.version}`,
    [all, ...authorOf(collection, author)],
    (where, ...texts) => {
      const removal = sql`delete from ${tableOf(collection)} as item where ${where}`
      if (collection.audit === undefined) return sql`${removal} returning ${shown}`
      return composeEntries(collection, 'removed', removal, texts as SQL[], undefined, shown)
    },
  )
  const statement = compileFragment(fragment, collection.audit === undefined ? cells : undefined)
  return { statement, targets: [], isRemoval: true, condition: undefined }
}

/** Returns the removals of the forwarding rows of features that were not in their home cells. */
function forgetMoved(collection: Collection, removed: readonly Row[]): Statement[] {
  if (collection.level === undefined) return []
  return removed.flatMap(([id, cell]) => {
    const home = homeOf(id!)
    return home === undefined || home === Number(cell) ? [] : [compileForget(collection, id!, home)]
  })
}
