// Owns the page that shows the OpenAPI document, which Swagger UI draws.

import type { FastifyReply } from 'fastify'
import { html } from 'ghtml'
import { assetsAt, SWAGGER_UI } from './assets.ts'

/**
 * Policy of the page that shows the document. It loads nothing from other hosts and works over plain HTTP under any name:
 * the policy that comes with the page would have browsers load its scripts over HTTPS. The page styles its own
 * elements, and draws images from data URLs.
 */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "font-src 'self'",
  "connect-src 'self'",
  "form-action 'none'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join('; ')

export function sendApiPage(reply: FastifyReply, base: string) {
  const files = assetsAt(base)
  return reply
    .type('text/html; charset=utf-8')
    .header('content-security-policy', CONTENT_SECURITY_POLICY)
    .header('referrer-policy', 'same-origin')
    .send(html`<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>The API · Tessera</title>
    <link rel="icon" href="${files}/icon.svg">
    <link rel="stylesheet" href="${files}${SWAGGER_UI}/swagger-ui.css">
  </head>
  <body>
    <div id="api" data-document="${files.replace(/\/assets$/, '')}/api"><noscript>This page needs JavaScript; the document is at /api.</noscript></div>
    <script src="${files}${SWAGGER_UI}/swagger-ui-bundle.js"></script>
    <script src="${files}/api.js"></script>
  </body>
</html>
`)
}
