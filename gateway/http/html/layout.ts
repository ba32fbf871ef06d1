// Owns the layout that all pages share, with head, navigation and links; and how pages are sent.

import type { FastifyReply, FastifyRequest } from 'fastify'
import { html } from 'ghtml'
import type { Link } from '../../features/formats/format.ts'
import { loginAddress } from '../auth/sessions.ts'
import { assetsAt, MAPLIBRE } from './assets.ts'

/**
 * Allows scripts, styles and requests only from and to this server, so that even a script in the data can neither run nor
 * send anything elsewhere. The map draws images from data and blob URLs. No page may be framed, because some have a delete
 * button.
 */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data: blob:",
  "connect-src 'self'",
  "worker-src 'self'",
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join('; ')

export type Page = {
  /** URL of the gateway, without a slash at its end. */
  readonly base: string
  readonly title: string
  /** Language of its numbers and times, for its script; left out if it has none. */
  readonly language?: string
  /** Pages from the landing page down to this one, which is the last. */
  readonly trail: readonly { readonly name: string; readonly href?: string }[]
  /** HTML that is trusted, because it was composed with `html`. */
  readonly main: string
  /** Links of the same document as JSON; a page shows all of them. */
  readonly links: readonly Link[]
  /** Script in assets/ that draws into the page. */
  readonly script?: 'explore' | 'items' | 'item' | 'cluster'
}

export function sendPage(reply: FastifyReply, page: Page) {
  return reply
    .type('text/html; charset=utf-8')
    .header('content-security-policy', CONTENT_SECURITY_POLICY)
    .header('referrer-policy', 'same-origin')
    .header('vary', [reply.getHeader('vary'), 'accept-language'].filter(Boolean).join(', '))
    .send(renderPage(page, visitorLinks(page.base, reply.request)))
}

/** Returns the links to log in or out; none if nobody can. */
function visitorLinks(base: string, request: FastifyRequest): string {
  const { visitor } = request
  if (!visitor) return ''
  return visitor.name === undefined
    ? html` <a href="${loginAddress(request)}" rel="nofollow">Log in</a>`
    : html` <span>${visitor.name}</span> <a href="${base}/logout" rel="nofollow">Log out</a>`
}

function renderPage({ base, title, language, trail, main, links, script }: Page, visitor: string): string {
  const files = assetsAt(base)
  const shown = links.map(
    (link) =>
      html`<li><a href="${link.href}" rel="${link.rel}">${link.title ?? link.rel}</a> <small>${link.type ?? ''}</small></li>`,
  )
  const alternates = links
    .filter(({ rel }) => rel === 'alternate')
    .map((link) => html`<link rel="alternate" type="${link.type}" href="${link.href}">`)
  const steps = trail.map(({ name, href }) =>
    href ? html`<li><a href="${href}">${name}</a></li>` : html`<li aria-current="page">${name}</li>`,
  )
  const drawing = [
    // The map's own script finds out late that it needs MapLibre.
    script && script !== 'cluster'
      ? html`<link rel="stylesheet" href="${files}${MAPLIBRE}/maplibre-gl.css">
    <link rel="modulepreload" href="${files}${MAPLIBRE}/maplibre-gl.mjs">`
      : '',
    script ? html`<script type="module" src="${files}/${script}.js"></script>` : '',
  ]
  return html`<!doctype html>
<html lang="en"!${language ? html` data-language="${language}"` : ''}>
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>${title}${trail.length > 1 ? ' · Tessera' : ''}</title>
    <link rel="icon" href="${files}/icon.svg">
    !${alternates.join('')}
    !${drawing.join('')}
    <link rel="stylesheet" href="${files}/style.css">
  </head>
  <body>
    <a class="skip" href="#main">To the content</a>
    <header>
      <a class="brand" href="${base}/"><img src="${files}/icon.svg" alt="" width="24" height="24"> Tessera</a>
      <nav aria-label="Breadcrumb"><ol>!${steps.join('')}</ol></nav>
      <nav class="main" aria-label="Tessera"><a href="${base}/collections?f=html">Collections</a> <a href="${base}/map">Map</a>!${visitor}</nav>
    </header>
    <main id="main" tabindex="-1">
      <h1>${title}</h1>
      !${main}
    </main>
    <footer><nav aria-label="Links of this page"><ul>!${shown.join('')}</ul></nav></footer>
  </body>
</html>
`
}
