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

/**
 * Returns an address with a parameter in place of the one of this name.
 * @param name a word
 * @param value as a URL has it
 */
export function addressWith(address: string, name: string, value: string): string {
  const at = address.indexOf('?')
  const path = at < 0 ? address : address.slice(0, at)
  let search = ''
  for (const part of at < 0 ? [] : address.slice(at + 1).split('&'))
    if (part !== '' && nameOf(part) !== name) search += `${part}&`
  return `${path}?${search}${name}=${value}`
}

/** Returns the name of a parameter; one that is encoded in a wrong way is no name of ours. */
function nameOf(part: string): string {
  const end = part.indexOf('=')
  const name = end < 0 ? part : part.slice(0, end)
  return name.includes('%') ? decoded(name) : name
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** Returns the links of a document to itself, which is in `format`, and to the same in each of the other formats. */
export function ownLinks(self: string, format: Format, formats: readonly Format[]): Link[] {
  const address = addressWith(self, 'f', '')
  const links = [link('self', self, format.types[0], 'This document')]
  for (const { name, types, title } of formats)
    if (name !== format.name)
      links.push(link('alternate', address + name, types[0], `This document as ${title}`))
  return links
}

/** Returns the URL of the text of a license that is given by its SPDX identifier, or by such a URL. */
export const licenseUrl = (license: string) =>
  /^https?:\/\//.test(license) ? license : `https://spdx.org/licenses/${encodeURIComponent(license)}.html`
