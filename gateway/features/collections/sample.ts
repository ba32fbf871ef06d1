// Owns samples of a collection: a fourth of its features, a sixteenth, and so on, each with a partial index. A hash of the
// key decides, so that a sample has all features of the thinner ones, and every change keeps it by itself.

import { type SQL, sql } from '../../database/sql.ts'
import { type Column, columnOf } from '../values/column.ts'

/** Features that the thinnest sample has at least: enough to show the world. */
const LEAST_FEATURES = 4_096
/** The last sample has one of 4 ^ 12 features. */
const MAX_SAMPLE = 12
const HASHES = 2 ** 32

type Key = readonly Pick<Column, 'name'>[]

/** Hash of a key, an int4. It has nothing to do with where a feature is, nor with how many are at the same place. */
export const hashOfKey = (key: Key): SQL =>
  sql`hash_record(row(${sql.join(key.map(columnOf), sql.raw(', '))}))`

/** The hash below which a feature is in a sample. */
const limitOf = (sample: number) => HASHES / 4 ** sample - HASHES / 2

/** True for features of a sample; undefined for sample 0, which has all of them. catalog.sql knows the text of its index. */
export const sampleCondition = (key: Key, sample: number): SQL | undefined =>
  sample === 0 ? undefined : sql`${hashOfKey(key)} < '${sql.raw(String(limitOf(sample)))}'::int4`

/** Returns the samples that have these limits, the thinnest first. */
export function samplesOf(limits: readonly number[]): number[] {
  const found = new Set(limits)
  const all = Array.from({ length: MAX_SAMPLE }, (_, index) => MAX_SAMPLE - index)
  return all.filter((sample) => found.has(limitOf(sample)))
}

/** Returns how many samples a collection of so many features needs. */
export const samplesFor = (features: number): number =>
  Math.min(Math.max(Math.floor(Math.log2(features / LEAST_FEATURES) / 2), 0), MAX_SAMPLE)
