// Owns the files that pages load: our own and MapLibre's, all from this server.

import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import fastifyStatic from '@fastify/static'
import type { FastifyInstance, onRequestHookHandler } from 'fastify'

const require = createRequire(import.meta.url)
const maplibrePackage = 'maplibre-gl/package.json'
const swaggerPackage = '@fastify/swagger-ui/package.json'
const versionOf = (file: string) => (require(file) as { version: string }).version
const folderOf = (file: string) => dirname(require.resolve(file))

/** Paths of the files that pages load. Those of packages have a version, so that browsers can keep the files permanently. */
const ASSETS = '/assets'
export const MAPLIBRE = `/maplibre-gl-${versionOf(maplibrePackage)}`
export const SWAGGER_UI = `/swagger-ui-${versionOf(swaggerPackage)}`

/** Has browsers take a file for what its type says, and for nothing that they recognize in it. */
export const forbidSniffing: onRequestHookHandler = (_request, reply, done) => {
  reply.header('x-content-type-options', 'nosniff')
  done()
}

/**
 * Returns where the files are, from a URL of the gateway: without its host, so that no header of a request makes a page
 * load them from another one. For a request that Fastify refuses itself, that URL is not known.
 */
export const assetsAt = (base: string) =>
  (base === '' ? '' : new URL(base).pathname.replace(/\/$/, '')) + ASSETS

export async function assets(app: FastifyInstance) {
  app.addHook('onRequest', forbidSniffing)
  await app.register(fastifyStatic, {
    root: join(import.meta.dirname, 'assets'),
    prefix: `${ASSETS}/`,
    schemaHide: true,
    index: false,
    decorateReply: false,
    // Browsers revalidate these files by their ETag each time, because they change with the gateway.
    cacheControl: true,
    maxAge: 0,
  })
  for (const [root, path, allowed] of [
    [join(folderOf(maplibrePackage), 'dist'), MAPLIBRE, /^\/maplibre-gl(-worker|-shared)?\.(mjs|css)$/],
    [join(folderOf(swaggerPackage), 'static'), SWAGGER_UI, /^\/swagger-ui(-bundle)?\.(js|css)$/],
  ] as const)
    await app.register(fastifyStatic, {
      root,
      prefix: `${ASSETS}${path}/`,
      schemaHide: true,
      index: false,
      decorateReply: false,
      allowedPath: (path) => allowed.test(path),
      immutable: true,
      maxAge: '1y',
    })
}
