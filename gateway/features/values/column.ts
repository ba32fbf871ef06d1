// Owns the description of a collection's column: its name, the kind of its values, and their limits.

import { sql } from '../../database/sql.ts'
import type { Limits } from './limits.ts'

/** Kind of a column's values, which decides how requests write them and how they are compared. */
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
  /** True if a new row gets a value even if none is given. */
  readonly hasDefault: boolean
  /** True if only PostgreSQL can set the value. */
  readonly isComputed: boolean
  /** True if its values are lists. */
  readonly isArray: boolean
  /** True if its values, or those in its lists, have members of their own: it is of a composite type. */
  readonly isComposite: boolean
  /** Longest text, in characters; undefined without a limit. */
  readonly maxLength: number | undefined
  /** Most digits before the decimal point; undefined without a limit. */
  readonly maxDigits: number | undefined
  /** Values of an enum; undefined for other types. */
  readonly labels: readonly string[] | undefined
  /** What check constraints of the column and of its domain say about its values. */
  readonly limits: Limits
  readonly description: string | undefined
}

/** True if a new row needs a value for the column. */
export const isRequired = ({ isNullable, hasDefault, isComputed }: Column) =>
  !isNullable && !hasDefault && !isComputed

/** Returns the column in a statement; its name comes from the catalog and is quoted. */
export const columnOf = ({ name }: Pick<Column, 'name'>) => sql`${sql.identifier(name)}`

/** Returns a name that is not taken: this one, or this one with a line after it. */
export const freeName = (name: string, isTaken: (name: string) => boolean): string =>
  isTaken(name) ? freeName(`${name}_`, isTaken) : name
