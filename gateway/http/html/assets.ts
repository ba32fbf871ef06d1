// Owns the files that pages load: our own and MapLibre's, all from this server.

import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import fastifyStatic from '@fastify/static'
import type { FastifyInstance } from 'fastify'

const require = createRequire(import.meta.url)
const maplibrePackage = 'maplibre-gl/package.json'
const { version } = require(maplibrePackage) as { version: string }

/** Paths of the files that pages load. MapLibre's has a version, so that browsers can keep its files permanently. */
export const ASSETS = '/assets'
export const MAPLIBRE = `${ASSETS}/maplibre-gl-${version}`

export async function assets(app: FastifyInstance) {
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
  await app.register(fastifyStatic, {
    root: join(dirname(require.resolve(maplibrePackage)), 'dist'),
    prefix: `${MAPLIBRE}/`,
    schemaHide: true,
    index: false,
    decorateReply: false,
    allowedPath: (path) => /^\/maplibre-gl(-worker|-shared)?\.(mjs|css)$/.test(path),
    immutable: true,
    maxAge: '1y',
  })
}
