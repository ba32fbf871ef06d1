// Owns the composition: every plugin and route, in order. It never listens.

import { constants } from 'node:zlib'
import compress from '@fastify/compress'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import Fastify, { type FastifyError, type FastifyInstance } from 'fastify'
import type { Config } from './config.ts'
import type { Database } from './database/database.ts'
import type { Emit } from './events.ts'
import { makeApiKeys } from './features/access/api-key.ts'
import { makeChangeKeys } from './features/changes/idempotency-key.ts'
import type { Catalog } from './features/collections/catalog.ts'
import { makeExtents } from './features/collections/extent.ts'
import { makeItemLookup } from './features/query/lookup.ts'
import { watchMethods } from './http/allowed-methods.ts'
import { conditional } from './http/conditional.ts'
import { makeConsistencyTokens } from './http/consistency-token.ts'
import { crossOrigin } from './http/cross-origin.ts'
import { assets } from './http/html/assets.ts'
import { registerOpenapi } from './http/openapi.ts'
import { splitLists } from './http/parameters.ts'
import { answerClientError, problem, sendProblem } from './http/problem.ts'
import { compileTrust, publicUrl } from './http/public-url.ts'
import { collections } from './http/routes/collections.ts'
import { health } from './http/routes/health.ts'
import * as itemChangeRoutes from './http/routes/item-changes.ts'
import * as itemRoutes from './http/routes/items.ts'
import * as landingRoutes from './http/routes/landing.ts'
import { operations } from './http/routes/operations.ts'
import { telemetry } from './http/telemetry.ts'
import { makeViews } from './http/view.ts'

export type Services = {
  readonly config: Config
  readonly database: Database
  readonly catalog: Catalog
  readonly emit: Emit
  /** In the text format of Prometheus, of all processes of this gateway. */
  readonly readMetrics: () => Promise<string>
  /** Whether the gateway is about to stop, and no new work should be sent to it. */
  readonly isDraining: () => boolean
}

/** A client that takes nothing for this long is cut off; it holds a connection to the database. */
const STALL_TIMEOUT_MS = 30_000
/** Longer than balancers keep idle connections, so that theirs end first and no request meets a closing one. */
const KEEP_ALIVE_MS = 72_000
/** How often requests are looked at for having taken too long. */
const REQUEST_CHECK_MS = 1_000
/** How often idle connections are looked for while closing. */
const IDLE_CHECK_MS = 50
/** Feature ids can be long texts. */
const MAX_PARAMETER_LENGTH = 1_000

/**
 * While closing: a connection that was busy and is now kept alive would hold us up until its client lets
 * go of it. Node closes only those that are idle at the very beginning.
 */
function closeIdleConnections(app: FastifyInstance) {
  let timer: NodeJS.Timeout | undefined
  app.addHook('preClose', async () => {
    timer = setInterval(() => app.server.closeIdleConnections(), IDLE_CHECK_MS)
  })
  app.server.once('close', () => clearInterval(timer))
  app.addHook('onClose', async () => clearInterval(timer))
}

export async function buildApp({
  config,
  database,
  catalog,
  emit,
  readMetrics,
  isDraining,
}: Services): Promise<FastifyInstance> {
  const trust = compileTrust(config.trustProxy)
  const app = Fastify({
    trustProxy: trust,
    bodyLimit: config.bodyLimit,
    requestTimeout: config.requestTimeoutMs,
    http: {
      connectionsCheckingInterval: Math.min(REQUEST_CHECK_MS, config.requestTimeoutMs),
      // Node swaps the two where the headers' is the longer, and a body would have that.
      headersTimeout: config.requestTimeoutMs,
    },
    connectionTimeout: Math.max(STALL_TIMEOUT_MS, config.statementTimeoutMs * 2),
    keepAliveTimeout: KEEP_ALIVE_MS,
    // A request that has reached us while we drain is answered like any other.
    return503OnClosing: false,
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: MAX_PARAMETER_LENGTH },
    ajv: {
      customOptions: { coerceTypes: true, removeAdditional: false, keywords: ['x-expected', 'example'] },
    },
    frameworkErrors: (error: FastifyError, request, reply) => sendProblem(error, request, reply, emit),
    clientErrorHandler: answerClientError,
  }).withTypeProvider<TypeBoxTypeProvider>()

  closeIdleConnections(app as unknown as FastifyInstance)
  telemetry(app, { emit })
  problem(app, { emit })
  publicUrl(app, { fixed: config.publicUrl, trust })
  const completeMethods = watchMethods(app)
  splitLists(app)
  crossOrigin(app)
  conditional(app)
  await app.register(compress, {
    // Bodies are taken as they are: one that grows when it is unpacked could be of any size.
    globalDecompression: false,
    encodings: ['br', 'gzip'],
    threshold: 1024,
    customTypes: /json|^text\/|javascript|svg/,
    // Brotli's default of 11 is for files that are compressed once.
    brotliOptions: { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } },
  })
  await registerOpenapi(app)

  const views = makeViews(app as unknown as FastifyInstance, database, makeConsistencyTokens(database))
  app.register(landingRoutes.landing, {
    conformsTo: [...landingRoutes.conformance, ...itemRoutes.conformance, ...itemChangeRoutes.conformance],
    catalog,
  })
  app.register(collections, { catalog, extents: makeExtents(database) })
  const locality = { host: config.host, publicUrl: config.publicUrl }
  const keys = makeApiKeys(database)
  const changeKeys = makeChangeKeys(database)
  app.addHook('onClose', async () => changeKeys.stop())
  app.register(itemRoutes.items, {
    database,
    catalog,
    views,
    lookup: makeItemLookup(database),
    timeoutMs: config.statementTimeoutMs,
    ...locality,
  })
  app.register(itemChangeRoutes.itemChanges, {
    catalog,
    views,
    changeKeys,
    keys,
    ...locality,
  })
  app.register(operations, { database, readMetrics, keys, ...locality })
  app.register(assets)
  app.register(health, { database, isDraining })
  app.register(completeMethods)
  return app as unknown as FastifyInstance
}
