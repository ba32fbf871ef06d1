// Owns dates of HTTP (RFC 9110, 5.6.7), which have whole seconds: reading them, and Last-Modified.

import type { FastifyReply } from 'fastify'

/** The form that is sent, and the two obsolete ones that must be understood. */
const FORMS = [
  /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/,
  /^[A-Z][a-z]{5,8}, \d{2}-[A-Z][a-z]{2}-\d{2} \d{2}:\d{2}:\d{2} GMT$/,
  /^[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2} \d{4}$/,
]

/** Returns the second since 1970; undefined for what is no date, which counts as if it had not been sent. */
export function parseHttpDate(text: string | undefined): number | undefined {
  const given = text?.trim() ?? ''
  if (!FORMS.some((form) => form.test(given))) return undefined
  const time = Date.parse(given.endsWith('GMT') ? given : `${given} GMT`)
  return Number.isNaN(time) ? undefined : time / 1000
}

/** The first second after the last year that a date can have. */
const END_OF_DATES_S = Date.UTC(10_000) / 1000

/**
 * Sends the second of the last change. No date may be in the future (RFC 9110, 8.8.2.1): one that is gives way to the
 * present. That is before the change, so that no condition with it holds for this feature.
 */
export function sendLastModified(reply: FastifyReply, second: number | undefined) {
  if (second === undefined || second < 0 || second >= END_OF_DATES_S) return
  const now = Math.floor(Date.now() / 1000)
  reply.header('last-modified', new Date(Math.min(second, now) * 1000).toUTCString())
}
