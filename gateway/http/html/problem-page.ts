// Owns the page of a failed request.

import { html } from 'ghtml'
import { type ErrorCode, errors } from '../../errors.ts'
import type { Page } from './layout.ts'

export const problemPage = (base: string, code: ErrorCode, detail: string, requestId: string): Page => ({
  base,
  title: errors[code].title,
  trail: [{ name: 'Start', href: `${base}/` }, { name: String(errors[code].status) }],
  links: [],
  main: html`<p>${detail}</p>
    <p><small>${errors[code].status}, ${code}, request ${requestId}</small></p>
    <p><a class="button" href="${base}/">To the start page</a></p>`,
})
