// Owns the preconditions of changes (RFC 9110, 13.1): what a feature must be for a change to happen.

import type { Fragment } from '../../database/fragment.ts'
import { sql } from '../../database/sql.ts'
import type { Row } from '../../database/statement.ts'
import type { Collection } from '../collections/collection.ts'
import { versionOf } from '../query/stored-feature.ts'
import { columnOf } from '../values/column.ts'

/** Undefined if any feature may be changed. */
export type Precondition =
  /** Versions of which the feature must have one. */
  | { readonly versions: readonly string[] }
  /** Second since 1970 after which the feature must not have changed. Only collections with such a time have it. */
  | { readonly unmodifiedSince: number }
  | undefined

/** Precondition of a change that requires that there is no feature yet. */
export const ABSENT: Precondition = { versions: [] }

/** Returns the condition of the statement that makes the change. */
export function compilePrecondition(
  collection: Collection,
  precondition: Precondition,
): Fragment | undefined {
  if (precondition === undefined) return undefined
  if ('versions' in precondition)
    return {
      shape: 'versions',
      values: [precondition.versions],
      compose: (versions) => sql`${versionOf(collection)} = any(${versions!}::bigint[])`,
    }
  return {
    shape: 'unmodified',
    values: [new Date(precondition.unmodifiedSince * 1000).toISOString()],
    // A row without a time has no date that a client could have read.
    compose: (second) =>
      sql`(${columnOf({ name: collection.touched! })} <= ${second!}::timestamptz) is not false`,
  }
}

/** Returns true if a feature meets it. @param row of onlyVersionOf */
export function isMet(precondition: Precondition, [, , version, modified]: Row): boolean {
  if (precondition === undefined) return true
  if ('versions' in precondition) return precondition.versions.includes(version!)
  return modified == null || Number(modified) <= precondition.unmodifiedSince
}
