// Owns the resources for operators: metrics for Prometheus, and the state of the cluster behind the gateway.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Database } from '../../database/contract.ts'
import { type AuthenticateOptions, makeOperatorCheck } from '../auth/authenticate.ts'
import { content, jsonQuery, problemOf, problems } from '../schemas.ts'
import { Type } from '../type.ts'

const METRICS_TYPE = 'text/plain; version=0.0.4'

const Load = Type.Object({
  running: Type.Integer(),
  waiting: Type.Integer(),
  limit: Type.Integer({
    description: 'How much may run at once; for reads it follows the pressure on the server.',
  }),
})
const ClusterState = Type.Object({
  endpoints: Type.Array(
    Type.Object({
      endpoint: Type.String({ description: 'Host and port.' }),
      port: Type.Enum(['read', 'write'], { type: 'string' }),
      group: Type.Optional(Type.Integer({ description: 'The node group of Citus behind it.' })),
      isUp: Type.Boolean({ description: 'False while its circuit breaker is open.' }),
      load: Type.Object({ read: Load, stream: Load, write: Load }),
    }),
    { description: 'The addresses that this gateway process uses.' },
  ),
  groupsWithoutSecondary: Type.Array(Type.Integer(), {
    description: 'Node groups that are read from their primary until they have a secondary again.',
  }),
  groupsWithoutPrimary: Type.Array(Type.Integer(), {
    description: 'Node groups whose changes wait, and whose reads report their age in Tessera-Staleness.',
  }),
  staleness: Type.Array(Type.Object({ group: Type.Integer(), seconds: Type.Integer() }), {
    description:
      'How old the data is that is read from groups without a primary: changes of the last so many seconds may be missing.',
  }),
  lag: Type.Optional(
    Type.Array(Type.Object({ group: Type.Integer(), bytes: Type.Integer() }), {
      description: 'How far secondaries are behind their primaries; left out if a server does not answer.',
    }),
  ),
  parked: Type.Integer({ description: 'Changes that wait for a primary.' }),
  parkedReads: Type.Integer({ description: 'Reads that wait for a member that is being replaced.' }),
  reads: Type.Object(
    { secondary: Type.Integer(), primary: Type.Integer() },
    { description: 'Reads of this process since its start, by the role of the server that answered.' },
  ),
})

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
  app.addHook('onRequest', check)
  app.addHook('onSend', async (_request, reply) => {
    reply.header('cache-control', 'no-store')
  })
  const schema = {
    description:
      'For clients with an API key for all collections, and while there is no key, for those on this machine.',
    tags: ['Operations'],
    security: [{ apiKey: [] }, {}],
  }
  const refusals = {
    400: problems[400],
    401: problemOf('An API key is needed.'),
    403: problemOf('The API key does not allow this, or a page of another site has asked.'),
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

  app.get(
    '/cluster',
    {
      schema: {
        ...schema,
        operationId: 'getCluster',
        summary: 'The state of the cluster, as this gateway sees it',
        querystring: jsonQuery,
        response: {
          200: content('The state of the cluster.', ['application/json'], ClusterState),
          ...refusals,
        },
      },
    },
    async () => {
      const {
        endpoints,
        groupsWithoutSecondary,
        groupsWithoutPrimary,
        stalenessMs,
        parked,
        parkedReads,
        reads,
      } = database.status()
      const lag = await database.lag().catch(() => undefined)
      return {
        endpoints: endpoints.map(({ group, ...endpoint }) => ({
          ...endpoint,
          ...(group === undefined ? {} : { group }),
        })),
        groupsWithoutSecondary: [...groupsWithoutSecondary],
        groupsWithoutPrimary: [...groupsWithoutPrimary],
        staleness: [...stalenessMs].map(([group, ms]) => ({ group, seconds: Math.ceil(ms / 1_000) })),
        ...(lag ? { lag: [...lag].map(([group, bytes]) => ({ group, bytes })) } : {}),
        parked,
        parkedReads,
        reads,
      }
    },
  )
}
