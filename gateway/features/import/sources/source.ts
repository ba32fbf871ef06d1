// Owns what a source of an import gives: features, in batches, each with its place in the source.

import type { GeoJsonProperties } from 'geojson'

export type SourceFeature = {
  /** Line where the feature starts, from 1; in TopoJSON, which has no lines to speak of, its number. */
  readonly line: number
  readonly id?: unknown
  readonly geometry?: unknown
  readonly properties?: GeoJsonProperties
  /** Why it is none; then nothing else is there. */
  readonly problem?: string
}

export type SourceOptions = {
  /** Which object of a topology; not needed where there is but one. */
  readonly object?: string | undefined
  readonly longitude?: string | undefined
  readonly latitude?: string | undefined
}

/** The source as a whole cannot be read; the message says why and what to do. */
export class SourceError extends Error {}

/** No feature is larger: a brake against running out of memory on a file of another kind. */
export const MAX_FEATURE_BYTES = 128 * 1024 * 1024
