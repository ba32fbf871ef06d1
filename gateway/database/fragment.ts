// Owns fragments: parts of a statement that are composed once for each shape and filled with values for each request.

import { SQL, sql } from './sql.ts'
import type { Statement } from './statement.ts'
import { fillTemplate, templateOf } from './template.ts'

export type Fragment = {
  /**
   * Everything that the text depends on: two fragments of one shape differ in their values alone. Names in it are
   * quoted, so that no two different fragments have the same shape when they are joined.
   */
  readonly shape: string
  /** Bound to the placeholders, in order. */
  readonly values: readonly unknown[]
  /** Returns the text; takes a placeholder for each value, and runs only if the shape is not known yet. */
  readonly compose: (...placeholders: SQL[]) => SQL
}

/** Returns a fragment that is nothing but a value. */
export const bound = (value: unknown): Fragment => ({
  shape: '$',
  values: [value],
  compose: (placeholder) => placeholder!,
})

/**
 * Joins fragments into one.
 * @param kind whatever else the text depends on
 * @param parts undefined for one that is left out
 * @param compose takes the texts of the parts, in order; it may use one twice or not at all
 */
export function combine(
  kind: string,
  parts: readonly (Fragment | undefined)[],
  compose: (...texts: (SQL | undefined)[]) => SQL,
): Fragment {
  return {
    shape: `${kind}(${parts.map((part) => part?.shape).join()})`,
    values: parts.flatMap((part) => part?.values ?? []),
    compose(...placeholders) {
      let start = 0
      const texts = parts.map((part) => {
        if (!part) return undefined
        const end = start + part.values.length
        const text = part.compose(...placeholders.slice(start, end))
        start = end
        return text
      })
      return compose(...texts)
    },
  }
}

/** Returns the text of a fragment, with placeholders that are numbered in the order of its values. */
export const composeNumbered = ({ values, compose }: Fragment): SQL =>
  compose(...values.map((_, index) => new SQL([sql.placeholder(String(index))])))

/**
 * Returns the statement of a fragment.
 * @param cells see Statement
 */
export const compileFragment = (fragment: Fragment, cells?: readonly number[]): Statement =>
  fillTemplate(
    templateOf(fragment.shape, () => composeNumbered(fragment)),
    fragment.values,
    cells,
  )
