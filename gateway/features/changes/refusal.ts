// Owns the errors for changes that PostgreSQL refuses: the violated rule → the fault, and the member that it concerns.

import type { Database } from '../../database/contract.ts'
import { isOtherSystem, type RefusedChange } from '../../database/outcome.ts'
import { type Fault, type GatewayError, gatewayError, pointerOf } from '../../errors.ts'
import type { Collection } from '../collections/collection.ts'
import { invalidFeature } from './item-body.ts'
import type { ChangeStatement, Target } from './item-statement.ts'

/** Returns the error for a change that the table's rules refuse; it names the properties at fault. */
export async function describeRefusal(
  refused: RefusedChange,
  collection: Collection,
  { targets, isRemoval }: ChangeStatement,
  database: Database,
): Promise<GatewayError> {
  const { refusal, constraint } = refused
  // The check uses another level than the catalog knows, so the table was created again; or the column has another
  // coordinate system than the one that the catalog knows.
  const hasOtherLevel = collection.level !== undefined && /^cell_of_geom(_\d+)?$/.test(constraint ?? '')
  const hasOtherSystem = collection.geometry.cast !== undefined && isOtherSystem(refused.cause)
  if (hasOtherLevel || hasOtherSystem)
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
  const target = refused.parameter === undefined ? undefined : targets[refused.parameter - 1]
  if (target && 'member' in target && target.member === 'id' && refusal === 'invalid')
    return gatewayError('feature-not-found', 'There is no such feature.')
  const named = refused.columns.length > 0 ? refused.columns : await columnsOf(refused, database)
  const pointers =
    target === undefined ? named.map((name) => pointerTo(name, collection)) : [pointerToTarget(target)]
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

const pointerToTarget = (target: Target) =>
  'member' in target ? `/${target.member}` : pointerOf('properties', target.property)

/** Returns the end of a sentence that begins with a pointer; PostgreSQL's own message if there is no better text. */
function detailOf({ cause, constraint, message }: RefusedChange): string {
  const rule = constraint ? ` (${constraint})` : ''
  const { code, routine } = cause as { code?: string; routine?: string }
  // By its code a row without a partition violates a check.
  if (routine === 'ExecFindPartition') return 'has a value for which the table has no partition'
  switch (code) {
    case '23505':
      return `has a value that another feature has already${rule}`
    case '23503':
      return `refers to something that does not exist${rule}`
    case '23502':
      return 'must not be null'
    case '23514':
      return `has a value that the table's check does not allow${rule}`
    default:
      return `was refused by the database: ${message}`
  }
}

/** Returns the columns of a violated constraint, because the error of a check names only the check. */
async function columnsOf(
  { schema, table, constraint }: RefusedChange,
  database: Database,
): Promise<string[]> {
  if (!schema || !table || !constraint) return []
  const rows = await database.write(
    {
      text: `select a.attname from pg_constraint c
           join pg_class t on t.oid = c.conrelid and t.relname = $2
           join pg_namespace n on n.oid = t.relnamespace and n.nspname = $1
           join pg_attribute a on a.attrelid = c.conrelid and a.attnum = any(c.conkey)
           where c.conname = $3 order by a.attnum`,
      values: [schema, table, constraint],
    },
    { isRepeatable: true },
  )
  return rows.map(([name]) => name!)
}

export const notAllowed = (cause?: unknown) =>
  gatewayError('change-forbidden', 'The rules of the database do not allow this change.', {}, cause)
