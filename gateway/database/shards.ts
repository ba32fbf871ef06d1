// Owns in which shard Citus keeps a row: that of the hash of an integer.

/** A shard has all rows whose hash lies in this range, its ends among them. */
export type HashRange = { readonly least: number; readonly most: number }

/** The one of these that has the rows of a value; undefined where none does. */
export function shardOf<Shard extends HashRange>(
  shards: readonly Shard[] | undefined,
  value: number,
): Shard | undefined {
  const hash = hashOfInteger(value)
  return shards?.find(({ least, most }) => least <= hash && hash <= most)
}

/**
 * PostgreSQL's hash of an integer, by which Citus spreads rows: Bob Jenkins' final mix of one word.
 * @see https://burtleburtle.net/bob/c/lookup3.c
 */
export function hashOfInteger(value: number): number {
  const rotate = (word: number, bits: number) => (word << bits) | (word >>> (32 - bits))
  let a = 0x9e3779b9 + 4 + 3923095
  let b = a
  let c = a
  a += value
  c = (c ^ b) - rotate(b, 14)
  a = (a ^ c) - rotate(c, 11)
  b = (b ^ a) - rotate(a, 25)
  c = (c ^ b) - rotate(b, 16)
  a = (a ^ c) - rotate(c, 4)
  b = (b ^ a) - rotate(a, 14)
  c = (c ^ b) - rotate(b, 24)
  return c | 0
}
