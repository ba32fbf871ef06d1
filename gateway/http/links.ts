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

/** An SPDX identifier becomes the address of its text; anything else is one already. */
export const licenseUrl = (license: string) =>
  /^https?:\/\//.test(license) ? license : `https://spdx.org/licenses/${encodeURIComponent(license)}.html`
