// Owns new values of columns that depend on the stored ones, in SQL: merge patches (RFC 7396), and numbers that are read as
// null.

import { type SQL, sql } from '../../database/sql.ts'
import { type Collection, tableOf } from '../collections/collection.ts'
import { type Column, columnOf } from '../values/column.ts'
import { isObject, type JsonObject } from '../values/exact-json.ts'
import { hstoreOf } from '../values/hstore.ts'
import type { DerivedValue } from './item-body.ts'

export function derivedValue(collection: Collection, column: Column, value: DerivedValue): SQL {
  const stored = columnOf(column)
  // Finite numbers are between the infinities, and NaN is greater than both.
  if ('blank' in value)
    return sql`case when ${stored} < 'Infinity' and ${stored} > '-Infinity' then null else ${stored} end`
  const { patch } = value
  if (column.kind === 'json') return sql`${mergePatch(sql`${stored}::jsonb`, patch)}::${sql.raw(column.type)}`
  if (column.isComposite)
    return memberOf(
      collection,
      column,
      sql`json_build_object(${column.name}::text, ${mergePatch(sql`to_jsonb(${stored})`, patch)})`,
    )
  return mergeHstore(stored, patch)
}

/** Returns the value of a column that PostgreSQL converts from JSON. @param object JSON whose member of its name is the value */
export const memberOf = (collection: Collection, column: Column, object: SQL): SQL =>
  sql`(json_populate_record(null::${tableOf(collection)}, ${object})).${columnOf(column)}`

/**
 * Composes RFC 7396 in SQL: members of the patch replace those of the target, null removes a member, and objects are
 * merged recursively. A target that is not an object counts as an empty one.
 */
function mergePatch(target: SQL, patch: JsonObject): SQL {
  const members = Object.entries(patch)
  const plain = Object.fromEntries(members.filter(([, value]) => value !== null && !isObject(value)))
  const merged = members
    .filter(([, value]) => isObject(value))
    .map(([name, value]) => {
      const next = mergePatch(sql`(${target} -> ${name}::text)`, value as JsonObject)
      return sql` || jsonb_build_object(${name}::text, ${next})`
    })
  const object = sql`case when jsonb_typeof(${target}) = 'object' then ${target} else '{}'::jsonb end`
  return sql`((${object}) - ${removedBy(patch)} || ${JSON.stringify(plain)}::jsonb${sql.join(merged)})`
}

/** The same for pairs of texts. */
function mergeHstore(target: SQL, patch: JsonObject): SQL {
  const set = Object.fromEntries(Object.entries(patch).filter(([, value]) => value !== null))
  return sql`(coalesce(${target}, '') - ${removedBy(patch)} || ${hstoreOf(set)})`
}

const removedBy = (patch: JsonObject): SQL =>
  sql`${sql.param(Object.keys(patch).filter((name) => patch[name] === null))}::text[]`
