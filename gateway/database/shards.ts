// Owns the assignment of rows to the shards of Citus, by the hash of an integer.

/** Range of hashes whose rows a shard stores, both ends included. */
export type HashRange = { readonly least: number; readonly most: number }

/** Returns the shard that stores the rows of a value; undefined if none does. */
export function shardOf<Shard extends HashRange>(
  shards: readonly Shard[] | undefined,
  value: number,
): Shard | undefined {
  const hash = hashOfInteger(value)
  return shards?.find(({ least, most }) => least <= hash && hash <= most)
}

/**
 * Returns PostgreSQL's hash of an integer, by which Citus distributes rows: Bob Jenkins' final mix of one word.
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
