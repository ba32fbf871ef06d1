// Owns what the catalog says of functions of the database that their owner publishes for filters.

/** Beginning of the comment by which the owner of a function publishes it. */
export const PUBLISHED = '@filter'

/** A function whose comment begins with the mark, as catalog.sql returns it. */
export type Routine = {
  readonly schema: string
  readonly name: string
  readonly comment: string
  /** True if it is no procedure, aggregate or window function, returns one value, and takes each argument by itself. */
  readonly isPlain: boolean
  /** True if it is not volatile. */
  readonly isStable: boolean
  /** True if its owner has declared that its result depends on its arguments alone. */
  readonly isImmutable: boolean
  /** True if the role of the read port may execute it. */
  readonly isAllowed: boolean
  readonly arguments: readonly { readonly name: string | null; readonly type: string }[]
  readonly returns: string
}
