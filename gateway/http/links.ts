// Owns the links of documents: an address, what it is to this document, and as what it comes.

export type Link = {
  readonly href: string
  readonly rel: string
  readonly type?: string
  readonly title?: string
}

export const link = (rel: string, href: string, type?: string, title?: string): Link => ({
  href,
  rel,
  ...(type ? { type } : {}),
  ...(title ? { title } : {}),
})

/** The address of this very document, as it was asked for; what no URI may hold is encoded. */
export const selfUrl = (publicUrl: string, requestUrl: string) =>
  publicUrl + requestUrl.replace(/%(?![\da-f]{2})|[^!-~]|["<>\\^`{|}]/gi, encodeURIComponent)

/** The address of the same document in another format. */
function inFormat(address: string, format: string): string {
  const [path, query] = address.split('?', 2)
  const others = (query ?? '').split('&').filter((part) => part !== '' && !/^f(=|$)/.test(part))
  return `${path}?${[...others, `f=${format}`].join('&')}`
}

/** What every document says of itself: where it is, and where it is in the other format. */
export function ownLinks(self: string, isHtml: boolean, jsonType: string): Link[] {
  const html = 'text/html'
  return isHtml
    ? [
        link('self', self, html, 'This page'),
        link('alternate', inFormat(self, 'json'), jsonType, 'This page as JSON'),
      ]
    : [
        link('self', self, jsonType, 'This document'),
        link('alternate', inFormat(self, 'html'), html, 'This document as a page'),
      ]
}

/** An SPDX identifier becomes the address of its text; anything else is one already. */
export const licenseUrl = (license: string) =>
  /^https?:\/\//.test(license) ? license : `https://spdx.org/licenses/${encodeURIComponent(license)}.html`
