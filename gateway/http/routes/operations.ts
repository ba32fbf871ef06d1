// Owns what whoever operates a gateway asks: numbers for Prometheus, and how the cluster behind it is.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import type { Database } from '../../database/database.ts'
import { type AuthenticateOptions, makeOperatorCheck } from '../auth/authenticate.ts'
import { content, jsonQuery, problemOf, problems } from '../schemas.ts'

const METRICS_TYPE = 'text/plain; version=0.0.4'

const Load = Type.Object({
  running: Type.Integer(),
  waiting: Type.Integer(),
  limit: Type.Integer({
    description: 'How much may run at once; of reads it follows how hard the server is pressed.',
  }),
})
const ClusterState = Type.Object({
  endpoints: Type.Array(
    Type.Object({
      endpoint: Type.String({ description: 'Host and port.' }),
      port: Type.Enum(['read', 'write'], { type: 'string' }),
      group: Type.Optional(Type.Integer({ description: 'The node group of Citus that is behind it.' })),
      isUp: Type.Boolean({ description: 'False while its circuit breaker is open.' }),
      load: Type.Object({ read: Load, stream: Load, write: Load }),
    }),
    { description: 'The addresses that this gateway process uses.' },
  ),
  groupsWithoutSecondary: Type.Array(Type.Integer(), {
    description: 'Node groups that are read from their primary until they have a secondary again.',
  }),
  groupsWithoutPrimary: Type.Array(Type.Integer(), {
    description: 'Node groups whose changes wait, and whose reads say so with Tessera-Staleness.',
  }),
  staleness: Type.Array(Type.Object({ group: Type.Integer(), seconds: Type.Integer() }), {
    description:
      'How old what is read of the groups without a primary is: whatever was changed in so many seconds is not seen.',
  }),
  lag: Type.Optional(
    Type.Array(Type.Object({ group: Type.Integer(), bytes: Type.Integer() }), {
      description: 'How far secondaries are behind their primaries; left out where somebody does not answer.',
    }),
  ),
  parked: Type.Integer({ description: 'Changes that wait for a primary.' }),
  parkedReads: Type.Integer({ description: 'Reads that wait for a member that is being replaced.' }),
  reads: Type.Object(
    { secondary: Type.Integer(), primary: Type.Integer() },
    { description: 'Reads of this process since its start, by who answered.' },
  ),
})

type Services = AuthenticateOptions & {
  readonly database: Database
  /** In the text format of Prometheus, of all processes of this gateway. */
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
    description: 'For this machine, and for whoever has an API key for all collections.',
    tags: ['Operations'],
    security: [{ apiKey: [] }],
  }
  const refusals = {
    400: problems[400],
    401: problemOf('An API key is needed from elsewhere.'),
    403: problemOf('The key is not for this.'),
    500: problems[500],
    503: problems[503],
  }

  app.get(
    '/metrics',
    {
      schema: {
        ...schema,
        operationId: 'getMetrics',
        summary: 'Numbers for Prometheus',
        response: { 200: content('Its text format.', [METRICS_TYPE], Type.String()), ...refusals },
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
        summary: 'How the cluster is, as this gateway sees it',
        querystring: jsonQuery,
        response: { 200: content('Its state.', ['application/json'], ClusterState), ...refusals },
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
