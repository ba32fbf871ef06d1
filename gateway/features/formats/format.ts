// Owns what a format is called, and what a link is: both stand in documents of every kind.

export type Format = {
  /** The value of the parameter `f`. */
  readonly name: string
  /** The media types it is known under, the preferred one first. */
  readonly types: readonly [string, ...string[]]
  /** As in "This document as GeoJSON". */
  readonly title: string
}

export type Link = {
  readonly href: string
  readonly rel: string
  readonly type?: string
  readonly title?: string
}
