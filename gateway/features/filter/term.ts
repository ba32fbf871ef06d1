// Owns the terms of a checked filter: what a part of it means for a collection, with its type.

import type { Box } from '../values/box.ts'
import type { Column } from '../values/column.ts'
import type { Arithmetic, Fold, Spatial } from './expression.ts'
import type { Shape } from './shape.ts'

export type ValueType =
  | 'number'
  | 'string'
  | 'boolean'
  | 'date'
  | 'timestamp'
  | 'interval'
  | 'geometry'
  | 'list'
  | 'json'
  | 'other'

/** A value that the filter contains, as the text that PostgreSQL reads. */
export type Literal = {
  readonly is: 'literal'
  readonly type: 'number' | 'string' | 'boolean' | 'date' | 'timestamp'
  readonly text: string
  /** Set if no row of the column that it is compared with can hold it. */
  readonly isForeign?: true
}
export type ColumnTerm = { readonly is: 'column'; readonly type: ValueType; readonly column: Column }
export type IntervalTerm = {
  readonly is: 'interval'
  readonly type: 'interval'
  readonly start: Term
  readonly end: Term
}
export type ListTerm = { readonly is: 'list'; readonly type: 'list'; readonly items: readonly Term[] }
/** An operation whose value is true, false or unknown. */
export type Predicate = {
  readonly is: 'predicate'
  readonly type: 'boolean'
  readonly op: string
  readonly operands: readonly Term[]
}
export type Term =
  | Literal
  | ColumnTerm
  /** The geometry of the feature. */
  | { readonly is: 'geometry'; readonly type: 'geometry' }
  /** A geometry that the filter contains. */
  | { readonly is: 'shape'; readonly type: 'geometry'; readonly shape: Shape }
  | IntervalTerm
  | ListTerm
  | {
      readonly is: 'arithmetic'
      readonly type: 'number'
      readonly op: Arithmetic
      readonly operands: readonly [Term, Term]
    }
  | { readonly is: 'fold'; readonly type: 'string'; readonly how: Fold; readonly operand: Term }
  | {
      readonly is: 'call'
      readonly type: ValueType
      readonly called: FilterFunction
      readonly operands: readonly Term[]
    }
  | Predicate

export const literal = (type: Literal['type'], text: string): Literal => ({ is: 'literal', type, text })

/** SQL of a term, and the boxes outside of which it is not true; undefined if it can be anywhere. */
export type Written = { readonly text: string; readonly boxes?: readonly Box[] | undefined }

/** Writes terms as SQL. */
export type Writer = {
  /** Binds a value; returns the mark that stands for it. */
  readonly bind: (value: unknown) => string
  /** Returns the SQL of a term by its type: numeric, text, boolean, date or timestamptz. */
  readonly term: (term: Term) => string
  /** Returns the condition of a term that is true, false or unknown, in brackets if it has parts. */
  readonly condition: (term: Term) => Written
  /** Returns the condition that geometries are related. */
  readonly relate: (op: Spatial, left: Term, right: Term) => Written
  /** Returns the SQL of a geometry in degrees. */
  readonly geometry: (term: Term) => string
  /** Returns the SQL of a geometry as a geography. */
  readonly geography: (term: Term) => string
  /** Returns the condition for features that can only be near the boxes, so that the index is used. */
  readonly within: (text: string, boxes: readonly Box[] | undefined) => Written
  /** Returns the condition for features whose bounding box meets one of the boxes; undefined if no index serves it. */
  readonly nearby: (boxes: readonly Box[] | undefined) => string | undefined
}

/** A function that filters can call. */
export type FilterFunction = {
  readonly name: string
  readonly description: string
  readonly parameters: readonly { readonly name: string; readonly type: ValueType }[]
  readonly returns: 'number' | 'string' | 'boolean' | 'date' | 'timestamp'
  /** True for a function of the database, which can fail. */
  readonly isPublished?: true
  /** True if it can return something else for the same arguments at another time. */
  readonly varies?: boolean
  /**
   * Returns SQL; the operands have the types of the parameters. It is null if an argument is null, and never fails, unless
   * the function is of the database.
   */
  readonly write: (writer: Writer, operands: readonly Term[]) => Written
}
