// Owns what goes to PostgreSQL and what comes back.

/** One statement with bound parameters. With a `name` it is prepared once per connection. */
export type Statement = {
  readonly name?: string
  readonly text: string
  readonly values: readonly unknown[]
  /** The cells alone that it asks, where features are spread over nodes by cell; left out where it may ask any. */
  readonly cells?: readonly number[] | undefined
  /**
   * Where all of these lie in one shard, the same asked of the shard's own table, for the node that has it: Citus has no
   * part in it then, whose planning takes longer than most reads. It fails where the shard is somewhere else.
   */
  readonly ofShard?: (() => Statement) | undefined
}

/** A row as PostgreSQL sent it: each column's text, or null. */
export type Row = readonly (string | null)[]
