// Owns merge patches of JSON columns in SQL (RFC 7396).

import { type SQL, sql } from 'drizzle-orm'
import type { Column } from '../values/column.ts'
import { isObject, type JsonObject } from '../values/exact-json.ts'

/** Returns the value of a JSON column with the patch merged into it. */
export function mergedColumn({ name, type }: Column, patch: JsonObject): SQL {
  return sql`${mergePatch(sql`${sql.identifier(name)}::jsonb`, patch)}::${sql.raw(type === 'json' ? 'json' : 'jsonb')}`
}

/**
 * Composes RFC 7396 in SQL: members of the patch replace those of the target, null removes a member, and objects are
 * merged recursively. A target that is not an object counts as an empty one.
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
