// Owns what the benchmark asks: a request in terms that each side translates into its own.

/** @typeParam Value a number, or the variable of pgbench that has it */
export type Ask<Value = number> = {
  /** Name with its schema. */
  readonly table: string
  readonly limit?: number
  readonly id?: Value
  /** South-western corner of a box, or the position of a new feature. */
  readonly corner?: readonly [Value, Value]
  /** Length of the box's sides. */
  readonly degrees?: number
  /** Place in COUNTRIES, from 1. */
  readonly country?: Value
  /** Least population, exclusive; together with a box it is a filter in CQL2. */
  readonly above?: number
  readonly change?: 'insert' | 'update'
  /** The population that the change sets. */
  readonly population?: Value
  /** A tile of the whole table, instead of features. */
  readonly tile?: TileAddress
}

/** A tile of Web Mercator. */
export type TileAddress = { readonly level: number; readonly row: number; readonly column: number }

/** Countries with more than a thousand cities. */
export const COUNTRIES = ['US', 'IT', 'MX', 'FR', 'DE', 'ES', 'IN', 'BR', 'CN', 'GB', 'RO', 'PH', 'UA', 'AU']

/** Returns the sides of the box of an ask: west, south, east, north. */
export function boxOf({ corner, degrees }: Ask): readonly number[] | undefined {
  if (!corner || degrees === undefined) return undefined
  const [west, south] = corner
  return [west, south, west + degrees, south + degrees]
}
