// Owns the links of documents: an address, its relation to this document, and its media type.

import type { Format, Link } from '../features/formats/format.ts'

export const link = (rel: string, href: string, type?: string, title?: string): Link => ({
  href,
  rel,
  ...(type ? { type } : {}),
  ...(title ? { title } : {}),
})

/** Encodes the characters of an address that no URI may contain. */
const encoded = (address: string) =>
  address.replace(/%(?![\da-f]{2})|[^!-~]|["<>\\^`{|}]/gi, encodeURIComponent)

/** Returns the URL of this document, as it was requested. */
export const selfUrl = (publicUrl: string, requestUrl: string) => publicUrl + encoded(requestUrl)

/** Returns a link for the header Link (RFC 8288). */
export const linkHeader = ({ href, rel, type }: Link) =>
  `<${encoded(href)}>; rel="${rel}"${type ? `; type="${type}"` : ''}`

/** Returns the URL of the same document in another format, up to the name of that. */
function beforeFormat(address: string): string {
  const [path, query] = address.split('?', 2)
  const others = (query ?? '').split('&').filter((part) => part !== '' && !/^f(=|$)/.test(part))
  return `${path}?${[...others, 'f='].join('&')}`
}

/** Returns the links of a document to itself, which is in `format`, and to the same in each of the other formats. */
export function ownLinks(self: string, format: Format, formats: readonly Format[]): Link[] {
  const address = beforeFormat(self)
  const links = [link('self', self, format.types[0], 'This document')]
  for (const { name, types, title } of formats)
    if (name !== format.name)
      links.push(link('alternate', address + name, types[0], `This document as ${title}`))
  return links
}

/** Returns the URL of the text of a license that is given by its SPDX identifier, or by such a URL. */
export const licenseUrl = (license: string) =>
  /^https?:\/\//.test(license) ? license : `https://spdx.org/licenses/${encodeURIComponent(license)}.html`
