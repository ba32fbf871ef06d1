// Owns the files that pages load: our own and those of packages, all from this server.

import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import fastifyStatic from '@fastify/static'
import type { FastifyInstance, onRequestHookHandler } from 'fastify'

const require = createRequire(import.meta.url)
const folderOf = (file: string) => dirname(require.resolve(file))
const maplibre = folderOf('maplibre-gl/package.json')
const swagger = folderOf('@fastify/swagger-ui/package.json')
// These two export nothing but their code.
const terraDraw = join(folderOf('terra-draw'), '..')
const terraDrawAdapter = join(folderOf('terra-draw-maplibre-gl-adapter'), '..')
const versionOf = (folder: string) => (require(join(folder, 'package.json')) as { version: string }).version

/** Paths of the files that pages load. Those of packages have a version, so that browsers can keep the files permanently. */
const ASSETS = '/assets'
export const MAPLIBRE = `/maplibre-gl-${versionOf(maplibre)}`
export const SWAGGER_UI = `/swagger-ui-${versionOf(swagger)}`
const TERRA_DRAW = `/terra-draw-${versionOf(terraDraw)}`
const TERRA_DRAW_ADAPTER = `/terra-draw-maplibre-gl-adapter-${versionOf(terraDrawAdapter)}`
/** Scripts that draw on maps, in the order in which they are loaded: their modules name one another as no browser can. */
export const DRAWING = [
  `${TERRA_DRAW}/terra-draw.umd.js`,
  `${TERRA_DRAW_ADAPTER}/terra-draw-maplibre-gl-adapter.umd.js`,
]

/** A worker obeys the policy of its own file, and it reads tiles: only pages say what may be loaded. */
export const leavePolicyToPages: onRequestHookHandler = (_request, reply, done) => {
  reply.removeHeader('content-security-policy')
  done()
}

/**
 * Returns where the files are, from a URL of the gateway: without its host, so that no header of a request makes a page
 * load them from another one. For a request that Fastify refuses itself, that URL is not known.
 */
export const assetsAt = (base: string) =>
  (base === '' ? '' : new URL(base).pathname.replace(/\/$/, '')) + ASSETS

export async function assets(app: FastifyInstance) {
  app.addHook('onRequest', leavePolicyToPages)
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
    [join(maplibre, 'dist'), MAPLIBRE, /^\/maplibre-gl(-worker|-shared)?\.(mjs|css)$/],
    [join(swagger, 'static'), SWAGGER_UI, /^\/swagger-ui(-bundle)?\.(js|css)$/],
    [join(terraDraw, 'dist'), TERRA_DRAW, /^\/terra-draw\.umd\.js$/],
    [join(terraDrawAdapter, 'dist'), TERRA_DRAW_ADAPTER, /^\/terra-draw-maplibre-gl-adapter\.umd\.js$/],
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
