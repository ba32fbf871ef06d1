// Owns the names of formats, and links: documents of every kind contain both.

export type Format = {
  /** The value of the parameter `f`. */
  readonly name: string
  /** Media types of the format, the preferred one first. */
  readonly types: readonly [string, ...string[]]
  /** Name in titles of links, as in "This document as GeoJSON". */
  readonly title: string
}

export type Link = {
  readonly href: string
  readonly rel: string
  readonly type?: string
  readonly title?: string
}
