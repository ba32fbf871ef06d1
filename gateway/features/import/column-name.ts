// Owns the names of the columns that an import creates.

import { hash } from 'node:crypto'
import { MAX_NAME_BYTES, OWN_COLUMNS } from '../collections/managed.ts'

/** Hexadecimal digits of the hash that keeps names distinct of which only the start fits. */
const HASH_LENGTH = 8

/**
 * Chooses the name of a property's column. A long name is cut and gets a hash of all of it: the same in every import,
 * whichever properties a source names first, because features may be appended later. A name that Tessera uses itself gets
 * an underscore.
 * @param index number of the column, from 1, after which a property without a name is called
 * @param taken names of the columns that other properties have
 */
export function columnNameOf(property: string, index: number, taken: ReadonlySet<string>): string {
  // PostgreSQL has no NUL, and UTF-8 no half surrogate pairs.
  const storable = property.toWellFormed().replaceAll('\0', '\ufffd') || `column_${index}`
  let name = fit(OWN_COLUMNS.has(storable) ? `${storable}_` : storable, '')
  for (let number = 2; taken.has(name); number++) name = fit(storable, `_${number}`)
  return name
}

function fit(name: string, suffix: string): string {
  if (Buffer.byteLength(name + suffix) <= MAX_NAME_BYTES) return name + suffix
  const end = `_${hash('sha256', name).slice(0, HASH_LENGTH)}${suffix}`
  const start = Buffer.from(name).subarray(0, MAX_NAME_BYTES - Buffer.byteLength(end))
  // A character that was cut in two is decoded as U+FFFD, perhaps several times.
  return start.toString('utf8').replace(/\ufffd{1,3}$/, '') + end
}
