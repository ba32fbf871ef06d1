// Owns the resources for operators: metrics for Prometheus, and the state of the cluster behind the gateway.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Database } from '../../database/contract.ts'
import { errors, GatewayError } from '../../errors.ts'
import { type AuthenticateOptions, makeOperatorCheck } from '../auth/authenticate.ts'
import { ClusterState, makeClusterState } from '../cluster-state.ts'
import { clusterPage, lockedPage } from '../html/cluster-page.ts'
import { sendPage } from '../html/layout.ts'
import { localOf } from '../html/local.ts'
import { ownLinks, selfUrl } from '../links.ts'
import { DOCUMENT_FORMATS, HTML, JSON_FORMAT, negotiate, wantsHtml } from '../negotiate.ts'
import { content, formatQuery, orPage, problemOf, problems } from '../schemas.ts'
import { Type } from '../type.ts'

const METRICS_TYPE = 'text/plain; version=0.0.4'

type Services = AuthenticateOptions & {
  readonly database: Database
  /** Returns the metrics of all processes of this gateway in the text format of Prometheus. */
  readonly readMetrics: () => Promise<string>
}

export const operations: FastifyPluginAsyncTypebox<Services> = async (
  app,
  { database, readMetrics, ...access },
) => {
  const check = makeOperatorCheck(access)
  app.addHook('onRequest', async (request, reply) => {
    reply.header('cache-control', 'no-store')
    try {
      await check(request, reply)
    } catch (error) {
      // A person can enter the key on the page; a browser sends none by itself.
      const isKeyWanted =
        error instanceof GatewayError && /^(credentials-|permission-)/.test(error.code) && wantsHtml(request)
      if (!isKeyWanted || request.routeOptions.url !== '/cluster') throw error
      return sendPage(reply.code(errors[error.code].status), lockedPage(request.publicUrl, error.message))
    }
  })
  // While the database does not answer, operators are let in by the keys that were last read.
  app.addHook('onListen', async () => void access.apiKeys.exist().catch(() => {}))
  const schema = {
    description:
      'For clients with an API key for all collections or a token with the role tessera:operate. While there are neither keys nor issuers, for those on this machine.',
    tags: ['Operations'],
    security: [{ apiKey: [] }, {}],
  }
  const refusals = {
    400: problems[400],
    401: problemOf('An API key or a token is needed.'),
    403: problemOf('The API key or the token does not allow this, or a page of another site has asked.'),
    500: problems[500],
    503: problems[503],
  }

  app.get(
    '/metrics',
    {
      schema: {
        ...schema,
        operationId: 'getMetrics',
        summary: 'Metrics for Prometheus',
        response: { 200: content("Prometheus' text format.", [METRICS_TYPE], Type.String()), ...refusals },
      },
    },
    async (_request, reply) => reply.type(`${METRICS_TYPE}; charset=utf-8`).send(await readMetrics()),
  )

  const readState = makeClusterState(database)
  app.get(
    '/cluster',
    {
      schema: {
        ...schema,
        operationId: 'getCluster',
        summary: 'The state of the cluster, as this gateway sees it',
        querystring: formatQuery,
        response: {
          200: orPage(content('The state of the cluster.', JSON_FORMAT.types, ClusterState)),
          ...refusals,
          406: problems[406],
        },
      },
    },
    async (request, reply) => {
      const { format, type } = negotiate(request, DOCUMENT_FORMATS)
      const state = await readState()
      if (format !== HTML) return reply.type(type).send(state)
      const links = ownLinks(selfUrl(request.publicUrl, request.url), HTML, DOCUMENT_FORMATS)
      return sendPage(reply, clusterPage(request.publicUrl, state, links, localOf(request)))
    },
  )
}
