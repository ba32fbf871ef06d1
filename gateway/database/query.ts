// Owns what goes to PostgreSQL and what comes back.

/** One statement with bound parameters. With a `name` it is prepared once per connection. */
export type Statement = {
  readonly name?: string
  readonly text: string
  readonly values: readonly unknown[]
  /** The cells alone that it asks, where features are spread over nodes by cell; left out where it may ask any. */
  readonly cells?: readonly number[] | undefined
}

/** A row as PostgreSQL sent it: each column's text, or null. */
export type Row = readonly (string | null)[]
