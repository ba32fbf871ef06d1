// Owns what a column of a collection is: its name, the kind of its values, and what they must be.

import { sql } from 'drizzle-orm'

/** How a column's values are written in a request and compared. */
export type ColumnKind =
  | 'integer'
  | 'number'
  | 'boolean'
  | 'string'
  | 'date'
  | 'timestamp'
  | 'uuid'
  | 'json'
  | 'other'

export type Column = {
  readonly name: string
  /** PostgreSQL's name of the type, as in `int4`. */
  readonly type: string
  readonly kind: ColumnKind
  readonly isNullable: boolean
  /** Whether a new row that says nothing of it gets a value all the same. */
  readonly hasDefault: boolean
  /** Whether PostgreSQL alone gives it its value. */
  readonly isComputed: boolean
  /** Whether its values are lists. */
  readonly isArray: boolean
  /** In characters. */
  readonly maxLength: number | undefined
  /** Before the decimal point. */
  readonly maxDigits: number | undefined
  /** The values there are, of an enum. */
  readonly labels: readonly string[] | undefined
  readonly description: string | undefined
}

/** Returns the column in a statement; its name comes from the catalog and is quoted. */
export const columnOf = ({ name }: Pick<Column, 'name'>) => sql`${sql.identifier(name)}`
