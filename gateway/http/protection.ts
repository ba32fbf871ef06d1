// Owns the headers with which every answer protects its reader, and whom to tell about a vulnerability (RFC 9116).

import type { FastifyInstance } from 'fastify'

/** An answer that is no page loads nothing, and no page of another site can frame it. Pages and files have their own. */
const CONTENT_SECURITY_POLICY = "default-src 'none'; frame-ancestors 'none'"

/** Adds headers to every answer. */
export function protectReaders(app: FastifyInstance) {
  app.addHook('onRequest', (_request, reply, done) => {
    // A browser takes an answer for what its type says, and for nothing that it recognizes in it.
    reply
      .header('x-content-type-options', 'nosniff')
      .header('content-security-policy', CONTENT_SECURITY_POLICY)
    done()
  })
}

/** Days after which what security.txt says is looked up again; it should be less than a year. */
const VALID_DAYS = 180
const DAY_MS = 86_400_000

/** Adds /.well-known/security.txt, if there is somebody to tell. @param contacts URIs, the preferred one first */
export function securityContact(app: FastifyInstance, contacts: readonly string[]) {
  if (contacts.length === 0) return
  app.get('/.well-known/security.txt', { schema: { hide: true } }, (request, reply) => {
    // A whole day, so that the text stays the same for as long.
    const expires = new Date((Math.floor(Date.now() / DAY_MS) + VALID_DAYS) * DAY_MS).toISOString()
    const lines = [
      ...contacts.map((contact) => `Contact: ${contact}`),
      `Expires: ${expires}`,
      `Canonical: ${request.publicUrl}/.well-known/security.txt`,
    ]
    reply.type('text/plain; charset=utf-8').send(`${lines.join('\n')}\n`)
  })
}
