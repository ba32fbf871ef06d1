// Owns the composition: every plugin and route, in order. It never listens.

import { constants } from 'node:zlib'
import compress from '@fastify/compress'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import Fastify, { type FastifyError, type FastifyInstance } from 'fastify'
import type { Config } from './config.ts'
import type { Database } from './database/contract.ts'
import type { Emit } from './events.ts'
import { makeApiKeys } from './features/access/api-key.ts'
import { tendAudit } from './features/changes/audit.ts'
import { makeCollectionChanges } from './features/changes/collection-change.ts'
import { makeIdempotencyKeys } from './features/changes/idempotency-key.ts'
import type { Catalog } from './features/collections/catalog.ts'
import { makeExtents } from './features/collections/extent.ts'
import { functionsOf } from './features/filter/published.ts'
import { makeItemLookup } from './features/query/lookup.ts'
import { makeUnshown } from './features/query/unshown.ts'
import { makeTileCache } from './features/tiles/tile-cache.ts'
import { watchMethods } from './http/allowed-methods.ts'
import { makeAnswers } from './http/answers.ts'
import { identify } from './http/auth/authenticate.ts'
import { isForThisMachine } from './http/auth/locality.ts'
import { openLogin } from './http/auth/login.ts'
import { makeSealer } from './http/auth/sealed.ts'
import { readSessions } from './http/auth/sessions.ts'
import { openTokens } from './http/auth/tokens.ts'
import { makeClientOf } from './http/client.ts'
import { conditional } from './http/conditional.ts'
import { limitConnections } from './http/connections.ts'
import { makeConsistencyTokens } from './http/consistency-token.ts'
import { crossOrigin } from './http/cross-origin.ts'
import { makeDatabaseKey } from './http/database-key.ts'
import { withoutExtension } from './http/download.ts'
import { assets } from './http/html/assets.ts'
import { openapi } from './http/openapi.ts'
import { splitLists } from './http/parameters.ts'
import { answerClientError, problem, sendProblem } from './http/problem.ts'
import { protectReaders, securityContact } from './http/protection.ts'
import { compileTrust, publicUrl } from './http/public-url.ts'
import { limitRates, type OtherProcesses } from './http/rates.ts'
import { access as accessRoutes } from './http/routes/access.ts'
import { audit } from './http/routes/audit.ts'
import { collectionChanges } from './http/routes/collection-changes.ts'
import * as collectionRoutes from './http/routes/collections.ts'
import * as functionRoutes from './http/routes/functions.ts'
import { health } from './http/routes/health.ts'
import * as itemChangeRoutes from './http/routes/item-changes.ts'
import * as itemRoutes from './http/routes/items.ts'
import * as landingRoutes from './http/routes/landing.ts'
import { loginRoutes } from './http/routes/login.ts'
import { map } from './http/routes/map.ts'
import { operations } from './http/routes/operations.ts'
import * as schemaRoutes from './http/routes/schemas.ts'
import { summary } from './http/routes/summary.ts'
import * as tileRoutes from './http/routes/tiles.ts'
import { transactions } from './http/routes/transactions.ts'
import { readStyles } from './http/styles.ts'
import { makeRequestIds, telemetry } from './http/telemetry.ts'
import { makeUploads } from './http/upload.ts'
import { makeViews } from './http/view.ts'
import { makeVisible } from './http/visible.ts'

export type Services = {
  readonly config: Config
  readonly database: Database
  readonly catalog: Catalog
  readonly emit: Emit
  /** Returns the metrics of all processes of this gateway in the text format of Prometheus. */
  readonly readMetrics: () => Promise<string>
  /** Returns true if the gateway is about to stop and should get no new work. */
  readonly isDraining: () => boolean
  /** The other processes that serve the same clients; undefined if there are none. */
  readonly others?: OtherProcesses | undefined
  /** Called before routes are added, to describe them; only `npm run openapi` does. */
  readonly describe?: (app: FastifyInstance) => Promise<void>
}

/** A connection without traffic for this long is closed: a client that stops reading holds memory. */
const STALL_TIMEOUT_MS = 30_000
/** Longer than balancers keep idle connections: they close first, and send no request into a closing connection. */
const KEEP_ALIVE_MS = 72_000
/** Interval at which Node checks whether a request takes too long to arrive. */
const REQUEST_CHECK_MS = 1_000
/** Interval at which idle connections are closed during shutdown. */
const IDLE_CHECK_MS = 50
/**
 * Longest path parameter, in characters: feature ids can be long texts. An index holds keys of up to 2,700 bytes, which take
 * three times as many characters in a URL; a request's header has 16 kB.
 */
const MAX_PARAMETER_LENGTH = 10_000

/**
 * Closes idle connections repeatedly during shutdown. Node closes only those that are idle when the shutdown
 * starts; one that becomes idle later would delay it until its client closes the connection.
 */
function closeIdleConnections(app: FastifyInstance) {
  let timer: NodeJS.Timeout | undefined
  app.addHook('preClose', async () => {
    timer = setInterval(() => app.server.closeIdleConnections(), IDLE_CHECK_MS)
  })
  app.server.once('close', () => clearInterval(timer))
  app.addHook('onClose', async () => clearInterval(timer))
}

/** Conformance classes, which each route declares. */
export const conformsTo = [
  landingRoutes,
  itemRoutes,
  collectionRoutes,
  itemChangeRoutes,
  schemaRoutes,
  functionRoutes,
  tileRoutes,
].flatMap(({ conformance }) => conformance)

/** Loads and opens what serves TLS, if there is a certificate: without one, no process needs it. */
async function openSecured({ tlsCertificate: certificate, tlsKey: key }: Config, emit: Emit) {
  if (certificate === undefined || key === undefined) return undefined
  const { openSecureServer } = await import('./http/secure-server.ts')
  return openSecureServer({ certificate, key }, emit)
}

export async function buildApp({
  config,
  database,
  catalog,
  emit,
  readMetrics,
  isDraining,
  others,
  describe,
}: Services): Promise<FastifyInstance> {
  const trust = compileTrust(config.trustProxy)
  const styles = await readStyles(config.styles)
  const secured = await openSecured(config, emit)
  const stallTimeoutMs = Math.max(STALL_TIMEOUT_MS, config.statementTimeoutMs * 2)
  const connectionsCheckingInterval = Math.min(REQUEST_CHECK_MS, config.requestTimeoutMs)
  const app = Fastify({
    trustProxy: trust,
    bodyLimit: config.bodyLimit,
    requestTimeout: config.requestTimeoutMs,
    http: {
      connectionsCheckingInterval,
      // If the headers' timeout were longer, Node would swap the two, and the body would get the longer one.
      headersTimeout: config.requestTimeoutMs,
      // A problem is sent for its absence, see http/problem.ts.
      requireHostHeader: false,
    },
    connectionTimeout: stallTimeoutMs,
    keepAliveTimeout: KEEP_ALIVE_MS,
    ...(secured && {
      serverFactory: secured.makeServer({
        requestTimeoutMs: config.requestTimeoutMs,
        connectionsCheckingInterval,
        stallTimeoutMs,
        keepAliveMs: KEEP_ALIVE_MS,
      }),
    }),
    // A request that arrives while the gateway drains is answered like any other.
    return503OnClosing: false,
    genReqId: makeRequestIds(),
    rewriteUrl: ({ url }) => withoutExtension(url!),
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: MAX_PARAMETER_LENGTH },
    ajv: {
      customOptions: { coerceTypes: true, removeAdditional: false, keywords: ['x-expected', 'example'] },
    },
    // Responses are written as they are. Serializers that are compiled from their schemas took half a second of the start;
    // that responses meet their schemas is for tests to find.
    schemaController: { compilersFactory: { buildSerializer: () => () => JSON.stringify } },
    frameworkErrors: (error: FastifyError, request, reply) => sendProblem(error, request, reply, emit),
    clientErrorHandler: answerClientError,
  }).withTypeProvider<TypeBoxTypeProvider>()

  limitConnections(app as unknown as FastifyInstance, { maxConnections: config.maxConnections, trust })
  closeIdleConnections(app as unknown as FastifyInstance)
  secured?.prepare(app as unknown as FastifyInstance, config.requestTimeoutMs)
  telemetry(app, { emit })
  problem(app, { emit })
  protectReaders(app as unknown as FastifyInstance)
  publicUrl(app, { fixed: config.publicUrl, trust })
  const apiKeys = makeApiKeys(database)
  const tokens = await openTokens(config, emit)
  const login = await openLogin(config, tokens)
  const sealer = makeSealer(makeDatabaseKey(database))
  readSessions(app as unknown as FastifyInstance, login && sealer)
  const clientOf = makeClientOf(apiKeys)
  const views = makeViews(
    app as unknown as FastifyInstance,
    database,
    makeConsistencyTokens(database),
    clientOf,
  )
  const answers = makeAnswers(app as unknown as FastifyInstance, { ...config, clientOf, emit })
  const completeMethods = watchMethods(app)
  splitLists(app)
  const locality = { host: config.host, publicUrl: config.publicUrl }
  const access = { apiKeys, tokens, ...locality }
  crossOrigin(app, { cors: config.cors, isForThisMachine: isForThisMachine(locality) })
  limitRates(app as unknown as FastifyInstance, {
    limits: config,
    clientOf,
    hasTokens: tokens !== undefined,
    others,
    emit,
  })
  const isRestricted = () => catalog.isRestricted
  conditional(app, {
    hasFixedUrl: config.publicUrl !== undefined,
    dependsOnCaller: () => tokens !== undefined || catalog.isRestricted,
    hasSessions: login !== undefined,
  })
  await app.register(compress, {
    // Bodies are not decompressed: a small one could unpack to any size.
    globalDecompression: false,
    encodings: ['br', 'gzip'],
    threshold: 1024,
    customTypes: /json|^text\/|javascript|svg|vector-tile/,
    // Brotli's default quality of 11 is meant for files that are compressed once, and is too slow here.
    brotliOptions: { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } },
  })
  openapi(app as unknown as FastifyInstance)
  await describe?.(app as unknown as FastifyInstance)

  const visible = makeVisible(catalog)
  const functions = () => functionsOf(catalog.routines, emit)
  const extents = makeExtents(database, emit)
  const idempotencyKeys = makeIdempotencyKeys(database)
  const unshown = makeUnshown(emit)
  app.addHook('onClose', async () => idempotencyKeys.stop())
  const stopTending = tendAudit(database)
  app.addHook('onClose', async () => stopTending())
  app.register(async (reads) => {
    identify(reads as unknown as FastifyInstance, { ...access, isRestricted })
    reads.register(landingRoutes.landing, { conformsTo, visible })
    reads.register(collectionRoutes.collections, { visible, extents })
    reads.register(schemaRoutes.schemas, { visible })
    reads.register(functionRoutes.functions, { functions })
    reads.register(itemRoutes.items, {
      functions,
      visible,
      extents,
      views,
      answers,
      unshown,
      clientOf,
      lookup: makeItemLookup(database, unshown),
      timeoutMs: config.statementTimeoutMs,
      ...access,
    })
    reads.register(tileRoutes.tiles, {
      visible,
      extents,
      views,
      answers,
      cache: makeTileCache({
        database,
        mostBytes: config.tileCache,
        maxAgeMs: config.tileMaxAge * 1_000,
        emit,
      }),
      caching: config,
      clientOf,
      styles,
      unshown,
      functions,
      timeoutMs: config.statementTimeoutMs,
    })
    reads.register(summary, { visible, views, answers, timeoutMs: config.statementTimeoutMs })
    reads.register(map, { visible, extents })
  })
  const changing = {
    visible,
    views,
    answers,
    unshown,
    idempotencyKeys,
    requiresPrecondition: config.requirePrecondition === true,
    functions,
    ...access,
  }
  app.register(itemChangeRoutes.itemChanges, {
    ...changing,
    uploads: makeUploads({ ...config, clientOf }),
    bodyLimit: config.bodyLimit,
  })
  app.register(transactions, { ...changing, canWrite: database.canWrite })
  app.register(collectionChanges, {
    visible,
    changesFor: (view) =>
      makeCollectionChanges(view, async (id) => {
        await catalog.reload()
        return catalog.list().find((collection) => collection.id === id)
      }),
    views,
    canWrite: database.canWrite,
    ...access,
  })
  app.register(accessRoutes, {
    visible,
    views,
    canWrite: database.canWrite,
    reload: catalog.reload,
    apiKeys,
    tokens,
  })
  app.register(audit, {
    visible,
    views,
    answers,
    unshown,
    timeoutMs: config.statementTimeoutMs,
    ...access,
  })
  if (login) app.register(loginRoutes, { login, sealer })
  app.register(operations, { database, readMetrics, ...access })
  app.register(assets)
  securityContact(app as unknown as FastifyInstance, config.securityContact)
  app.register(health, { database, isDraining })
  app.register(completeMethods)
  return app as unknown as FastifyInstance
}
