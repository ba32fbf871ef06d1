// Owns the contract of encoders: one for each format that features are written in.

import type { SQL } from '../../database/sql.ts'
import { invalidParameter } from '../../errors.ts'
import type { Collection } from '../collections/collection.ts'
import type { Column } from '../values/column.ts'
import { type CoordinateSystem, CRS84, DEGREES } from '../values/coordinate-system.ts'
import type { GeometryColumn } from '../values/geometry-column.ts'
import type { Format, Link } from './format.ts'

/**
 * How a feature has its geometry: in the format, which fails if PostGIS cannot convert it; as stored, which never fails,
 * to be filled in later; or not at all.
 */
export type GeometryForm = 'converted' | 'stored' | 'none'

/** Texts of features; if PostgreSQL has joined them by the encoder's separator, the bytes of that one text. */
export type Features = readonly string[] | Buffer

/** Returns texts of features; those that are joined are one. */
export const textsOf = (features: Features): readonly string[] =>
  Buffer.isBuffer(features) ? [features.toString()] : features

/** A part of an answer. */
export type Part = string | Uint8Array

/** What features have, which some formats write before the first one. */
export type Layout = {
  readonly collection: Collection
  readonly properties: readonly Column[]
  /** False if the features have no geometry. */
  readonly hasGeometry: boolean
  /** True if a text begins with a byte order mark, by which spreadsheets know that it is UTF-8. */
  readonly hasByteOrderMark: boolean
  readonly origin: Origin
}

/** Gateway that sends an answer. */
export type Origin = {
  /** Address of the collection; undefined in a file that no gateway has sent. */
  readonly url: string | undefined
}

export type Encoder = {
  readonly format: Format
  /** Everything that its SQL depends on besides the collection: the format and the system of its coordinates. */
  readonly kind: string
  /** True if the format takes coordinates in degrees alone. */
  readonly isOnlyInDegrees?: boolean
  /** Returns the encoder for coordinates in this system. @throws GatewayError naming crs if the format does not take it */
  readonly inSystem: (system: CoordinateSystem) => Encoder
  /** Ending of the names of files; the first one is that of answers that are saved. */
  readonly extensions: readonly [string, ...string[]]
  /** True if the text of a page has links and counts; headers have them otherwise. */
  readonly hasLinks: boolean
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
  readonly mend: (
    features: string | Buffer,
  ) => { readonly features: string; readonly mended: number } | undefined
  /**
   * Text between two features. PostgreSQL joins the features of a page with it, so that it returns them as one row.
   */
  readonly separator: string
  /** Returns a single feature as a document; undefined for a format that has pages alone. */
  readonly document?: (
    feature: string,
    collection: Collection,
    origin: Origin,
    links: readonly Link[],
  ) => string
  /** Starts one answer. A format whose package is loaded only then returns a promise. */
  readonly open: (layout: Layout) => PageWriter | Promise<PageWriter>
}

/**
 * Writes one answer: `start`, then `write` for each batch of features, then `end` and `stamp`. What `write` returns ends in
 * the middle of a feature if the format allows it: a file that was cut there does not look complete.
 */
export type PageWriter = {
  readonly start: () => Part
  /** @param features at least one, each as `featureOf` returns it */
  readonly write: (features: Features) => Part
  readonly end: (end: PageEnd) => Part
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

/**
 * Returns an encoder for coordinates in CRS84, which returns that for any other system.
 * @param make returns the functions of the format for one system
 */
export function makeEncoder(
  make: (system: CoordinateSystem) => Omit<Encoder, 'kind' | 'inSystem'>,
  system = CRS84,
): Encoder {
  const own = make(system)
  const isDefault = system.srid === CRS84.srid && !system.isNorthFirst
  const encoder: Encoder = {
    ...own,
    kind: isDefault ? own.format.name : `${own.format.name} ${system.uri}`,
    inSystem(other) {
      if (!own.isOnlyInDegrees || other.srid === DEGREES)
        return other === system ? encoder : makeEncoder(make, other)
      throw invalidParameter('crs', `${CRS84.uri}, or left out, for f=${own.format.name}`, CRS84.uri)
    },
  }
  return encoder
}
