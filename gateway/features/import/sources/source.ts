// Owns what a source format is, and which of several formats a source has.

import { extname } from 'node:path'
import type { GeoJsonProperties } from 'geojson'
import type { CoordinateSystem } from '../../values/coordinate-system.ts'
import type { JsonObject } from '../../values/exact-json.ts'
import type { ColumnType } from '../column-type.ts'
import type { FormatName } from './format-name.ts'

export type SourceFormat = {
  readonly name: FormatName
  /** Extensions of file names: in lower case, with the dot. */
  readonly extensions: readonly string[]
  /** True if another program opens the source by its name: it may be a folder, or packed. */
  readonly isOpenedByName?: boolean | undefined
  /** @returns true if a source that starts with these bytes can be of this format */
  readonly recognises: (start: Buffer) => boolean
  /**
   * Starts to read a source. A package that parses the format is loaded by `await import` when features are read:
   * commands that read no source, and sources of other formats, do not wait for it.
   * @throws SourceError, now or from `features`, if the source as a whole cannot be read
   */
  readonly read: (input: SourceInput, options: SourceOptions) => Promise<SourceContent>
}

export type SourceInput = {
  /** Name of the source, for formats that are opened by it; undefined: a stream, or a file that had to be unpacked. */
  readonly file: string | undefined
  /** First bytes of the source, in UTF-8 without a byte order mark if it is text: 1 MiB of them, or all of a shorter source; never empty. */
  readonly start: Buffer
  /** The complete source as Buffers, `start` included. */
  readonly bytes: AsyncIterable<Buffer>
  /** Takes a sentence on what a person should know and that is no failure; it is shown once. */
  readonly note: (note: string) => void
  /** Limits of a feature; LIMITS_OF_FILES if they are left out. */
  readonly limits?: FeatureLimits | undefined
  /** The system of the coordinates, if something else than the source names it. */
  readonly system?: CoordinateSystem | undefined
}

export type FeatureLimits = {
  /** Most bytes of a feature, and of the rest of a document without its features. */
  readonly bytes: number
  /** Returns what is wrong with the JSON of a feature before it is parsed, completing "Line 5 …". */
  readonly check?: ((text: string) => string | undefined) | undefined
}

/** Options that only some formats need. */
export type SourceOptions = {
  /** Name of the object of a topology to read; not needed if the topology has only one. */
  readonly object?: string | undefined
  /** Name of the column of a CSV that holds the longitude; undefined: one of the usual names. */
  readonly longitude?: string | undefined
  /** Name of the column of a CSV that holds the latitude; undefined: one of the usual names. */
  readonly latitude?: string | undefined
  /** Name of the layer to read; undefined: the only one. */
  readonly layer?: string | undefined
  /** CRS of the coordinates as PROJ reads it, in place of what the source names. */
  readonly sourceCrs?: string | undefined
  /** True if nobody can name another object or column, because the source comes without options. */
  readonly isFixed?: boolean | undefined
}

export type SourceContent = {
  /** True if values come with their types, as in JSON; false if all of them are text, as in CSV. */
  readonly hasTypes: boolean
  /** True if 10,5 may be a number in a source without types. */
  readonly hasDecimalCommas?: boolean | undefined
  /** Types that the source itself declares, by property; the types of other properties are inferred from values. */
  readonly columnTypes?: ReadonlyMap<string, ColumnType> | undefined
  /**
   * Types that the source declares without keeping to them: a column whose values are others gets its type from the
   * values.
   */
  readonly declaredTypes?: ReadonlyMap<string, ColumnType> | undefined
  /** What `line` of a feature counts; lines if it is left out. */
  readonly unit?: SourceUnit | undefined
  /** Name of the column from which features have their ids, and which is none of their properties. */
  readonly idColumn?: string | undefined
  /** Number of features, if it is known in advance. */
  readonly featureCount?: number | undefined
  /** The features in batches, in the order of the source; coordinates are longitude and latitude in WGS 84. */
  readonly features: AsyncIterable<SourceFeature[]>
}

/** What places in a source are called in messages. */
export type SourceUnit = 'Line' | 'Feature'

export type SourceFeature = {
  /** Line on which the feature starts, from 1; in formats without lines, the number of the feature. */
  readonly line: number
  readonly id?: unknown
  /** The object of JSON that is the feature, with all of its members; undefined in other formats. */
  readonly body?: JsonObject | undefined
  /** GeoJSON, not yet checked; null if the feature has no geometry. */
  readonly geometry?: unknown
  readonly properties?: GeoJsonProperties
  /** Why this is no feature, completing "Line 5 …"; only `line` is set then. */
  readonly problem?: string
}

/** The source as a whole cannot be read; the message gives the reason and what to do. */
export class SourceError extends Error {}

/** Bytes of the largest feature: without a limit, a file of another kind could fill the memory. */
const MAX_FEATURE_BYTES = 128 * 1024 * 1024

export const LIMITS_OF_FILES: FeatureLimits = { bytes: MAX_FEATURE_BYTES }

/** Returns a number of bytes for a message. */
export const shownBytes = (bytes: number) =>
  bytes < 1024 * 1024 ? `${Math.floor(bytes / 1024)} KiB` : `${Math.floor(bytes / 1024 / 1024)} MiB`

/**
 * Chooses the format of a source: by the extension of its name, or else by its first bytes. If several formats
 * recognise these, the last of them wins; it also wins over the format of the name, if that one recognises them, too:
 * a file `.geojson` may be a sequence.
 * @param name of the source; the extension `.gz` does not count
 * @returns undefined if no format recognises the source
 */
export function detectFormat(
  formats: readonly SourceFormat[],
  name: string,
  start: Buffer,
): SourceFormat | undefined {
  const extension = extname(name.replace(/\.gz$/i, '')).toLowerCase()
  const named = formats.find(({ extensions }) => extensions.includes(extension))
  return named && !named.recognises(start) ? named : formats.findLast(({ recognises }) => recognises(start))
}
