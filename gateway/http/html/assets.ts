// Owns what pages load: our own files, and MapLibre's, from this server alone.

import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import fastifyStatic from '@fastify/static'
import type { FastifyInstance } from 'fastify'

const require = createRequire(import.meta.url)
const maplibrePackage = 'maplibre-gl/package.json'
const { version } = require(maplibrePackage) as { version: string }

/** Where pages find what they load. The version in the path lets browsers keep it for good. */
export const ASSETS = '/assets'
export const MAPLIBRE = `${ASSETS}/maplibre-gl-${version}`

export async function assets(app: FastifyInstance) {
  await app.register(fastifyStatic, {
    root: join(import.meta.dirname, 'assets'),
    prefix: `${ASSETS}/`,
    schemaHide: true,
    index: false,
    decorateReply: false,
    // Asked for again with its tag: it changes with the gateway.
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
