// Owns the contract of encoders: one for each format that features are written in.

import type { SQL } from 'drizzle-orm'
import type { Collection } from '../collections/collection.ts'
import type { Column } from '../values/column.ts'
import type { Format, Link } from './format.ts'

export type Encoder = {
  readonly format: Format
  /** Returns the text of one feature in SQL, from the row `item`. */
  readonly featureOf: (collection: Collection, properties: readonly Column[], skipsGeometry: boolean) => SQL
  /**
   * What stands between two features. PostgreSQL joins the features of a page with it, so that they come as one row;
   * `write` takes features that are joined like single ones.
   */
  readonly separator: string
  /** Starts one answer. */
  readonly open: () => PageWriter
}

/** Writes one answer: `start`, then `write` for each batch of features, then `end` and `stamp`. */
export type PageWriter = {
  readonly start: () => string
  /** @param features at least one, each as `featureOf` has it */
  readonly write: (features: readonly string[]) => string
  readonly end: (end: PageEnd) => string
  /** What differs each time although the page is the same, and comes last: the ETag does not cover it. */
  readonly stamp: () => string
}

/** What is known of a page when all of it has been read. */
export type PageEnd = {
  readonly returned: number
  /** How many features match in all; undefined if counting them would cost too much. */
  readonly matched: number | undefined
  readonly links: readonly Link[]
}
