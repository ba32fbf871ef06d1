// Owns the links of documents: an address, its relation to this document, and its media type.

import type { Format, Link } from '../features/formats/format.ts'
import type { Formats } from './negotiate.ts'

export const link = (rel: string, href: string, type?: string, title?: string): Link => ({
  href,
  rel,
  ...(type ? { type } : {}),
  ...(title ? { title } : {}),
})

/** Returns the URL of this document, as it was requested; characters that no URI may contain are encoded. */
export const selfUrl = (publicUrl: string, requestUrl: string) =>
  publicUrl + requestUrl.replace(/%(?![\da-f]{2})|[^!-~]|["<>\\^`{|}]/gi, encodeURIComponent)

/** Returns the URL of the same document in another format. */
function inFormat(address: string, format: string): string {
  const [path, query] = address.split('?', 2)
  const others = (query ?? '').split('&').filter((part) => part !== '' && !/^f(=|$)/.test(part))
  return `${path}?${[...others, `f=${format}`].join('&')}`
}

/** Returns the links of a document to itself, which is in `format`, and to the same in each of the other formats. */
export const ownLinks = (self: string, format: Format, formats: Formats): Link[] => [
  link('self', self, format.types[0], 'This document'),
  ...formats
    .filter((other) => other !== format)
    .map((other) =>
      link('alternate', inFormat(self, other.name), other.types[0], `This document as ${other.title}`),
    ),
]

/** Returns the URL of the text of a license that is given by its SPDX identifier, or by such a URL. */
export const licenseUrl = (license: string) =>
  /^https?:\/\//.test(license) ? license : `https://spdx.org/licenses/${encodeURIComponent(license)}.html`
