// Owns the page of a failed request.

import { html } from 'ghtml'
import { type ErrorCode, errors } from '../../errors.ts'
import type { Page } from './layout.ts'

/** @param address that of the request; undefined if it is not known which one a browser can open again */
export function problemPage(
  base: string,
  code: ErrorCode,
  detail: string,
  requestId: string,
  address: string | undefined,
): Page {
  const { status, title, isRetryable } = errors[code]
  const ways = [
    isRetryable && address ? html`<a class="button" href="${address}">Try again</a>` : '',
    code === 'collection-not-found'
      ? html`<a class="button" href="${base}/collections?f=html">To the collections</a>`
      : '',
    html`<a class="button" href="${base}/">To the start page</a>`,
  ]
  return {
    base,
    title,
    trail: [{ name: 'Start', href: `${base}/` }, { name: String(status) }],
    links: [],
    main: html`<p>${detail}</p>
    <p><small>${status}, ${code}, request ${requestId}</small></p>
    <p class="buttons">!${ways.join('')}</p>`,
  }
}
