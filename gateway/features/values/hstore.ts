// Owns the text of hstore values: the object that is read → what PostgreSQL parses.

import { ExactNumber, isObject, type JsonObject } from './exact-json.ts'

/** Returns the text; undefined if a member is no single value. */
export function hstoreOf(object: JsonObject): string | undefined {
  const pairs = Object.entries(object).map(([name, value]) => {
    if (Array.isArray(value) || isObject(value)) return undefined
    const text = value instanceof ExactNumber ? value.text : String(value)
    return `${quoted(name)}=>${value === null ? 'NULL' : quoted(text)}`
  })
  return pairs.includes(undefined) ? undefined : pairs.join()
}

const quoted = (text: string) => `"${text.replace(/["\\]/g, '\\$&')}"`
