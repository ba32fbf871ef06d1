// Owns the types of statements that are sent to PostgreSQL, and the rows that it returns.

/** One statement with bound parameters. With a `name` it is prepared once per connection. */
export type Statement = {
  readonly name?: string
  readonly text: string
  readonly values: readonly unknown[]
  /** The only cells that it concerns, if features are distributed over nodes by cell; left out if it may concern any. */
  readonly cells?: readonly number[] | undefined
  /**
   * Set if all of these cells are in one shard: returns the statement for the shard's own table, to be sent to the node
   * that stores it. This bypasses Citus, whose planning takes longer than most reads. The statement fails on a node that
   * does not store the shard.
   */
  readonly ofShard?: (() => Statement) | undefined
  /** True for a change that returns nothing: its only row is then the number of rows that it has changed. */
  readonly isCounted?: boolean | undefined
  /** True if the first column is left as bytes: its rows are BytesRows. */
  readonly isRaw?: boolean
  /** Milliseconds after which the server cancels it, in place of the time limit that statements of requests have. */
  readonly timeLimitMs?: number
}

/** A row as PostgreSQL sent it: each column's text, or null. */
export type Row = readonly (string | null)[]

/** A row whose first column is left as bytes: a long text that is only passed on need not be decoded and encoded again. */
export type BytesRow = readonly [bytes: Buffer | null, ...rest: Row]

/** Returns the mean size of the first column, in bytes of ASCII text, of at least one row; it is never 0. */
export function meanBytes(rows: readonly Row[]): number {
  let bytes = 1
  for (const row of rows) bytes += row[0]?.length ?? 0
  return bytes / rows.length
}
