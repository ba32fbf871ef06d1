// Owns the contract of encoders: one for each format that features are written in.

import type { SQL } from '../../database/sql.ts'
import type { Collection } from '../collections/collection.ts'
import type { Column } from '../values/column.ts'
import type { CoordinateSystem } from '../values/coordinate-system.ts'
import type { GeometryColumn } from '../values/geometry-column.ts'
import type { Format, Link } from './format.ts'

/**
 * How a feature has its geometry: in the format, which fails if PostGIS cannot convert it; as stored, which never fails,
 * to be filled in later; or not at all.
 */
export type GeometryForm = 'converted' | 'stored' | 'none'

export type Encoder = {
  readonly format: Format
  /** Everything that its SQL depends on besides the collection: the format and the system of its coordinates. */
  readonly kind: string
  /** Returns the encoder for coordinates in this system. */
  readonly inSystem: (system: CoordinateSystem) => Encoder
  /** Returns the text of one feature in SQL, from the row `item`. */
  readonly featureOf: (collection: Collection, properties: readonly Column[], geometry: GeometryForm) => SQL
  /** Returns the text of one geometry in SQL; null if there is none. */
  readonly geometryOf: (geometry: GeometryColumn) => SQL
  /** Returns the geometry of a feature that has it as stored, in hexadecimal EWKB; undefined if it is null. */
  readonly storedGeometryOf: (feature: string) => string | undefined
  /** Returns the feature with this text of its geometry in place of the stored one; undefined for none. */
  readonly fillGeometry: (feature: string, geometry: string | undefined) => string
  /**
   * Returns features without the coordinates that the format has no numbers for (NaN and infinity), and how many
   * features had some; undefined if none had. @param features one, or several that are joined by `separator`
   */
  readonly mend: (features: string) => { readonly features: string; readonly mended: number } | undefined
  /**
   * Text between two features. PostgreSQL joins the features of a page with it, so that it returns them as one row;
   * `write` accepts features that are joined like single ones.
   */
  readonly separator: string
  /** Starts one answer. */
  readonly open: () => PageWriter
}

/** Writes one answer: `start`, then `write` for each batch of features, then `end` and `stamp`. */
export type PageWriter = {
  readonly start: () => string
  /** @param features at least one, each as `featureOf` returns it */
  readonly write: (features: readonly string[]) => string
  readonly end: (end: PageEnd) => string
  /** Returns the last part, which differs each time although the page is the same: the ETag does not cover it. */
  readonly stamp: () => string
}

/** Facts about a page that are known once all of it has been read. */
export type PageEnd = {
  readonly returned: number
  /** How many features match in all; undefined if counting them would cost too much. */
  readonly matched: number | undefined
  readonly links: readonly Link[]
}
