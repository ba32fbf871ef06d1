// Owns the health of this gateway: whether it is alive, and whether it can serve.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Database } from '../../database/contract.ts'
import { gatewayError } from '../../errors.ts'
import { content, jsonQuery, problems } from '../schemas.ts'
import { Type } from '../type.ts'

const Liveness = Type.Object({ status: Type.Literal('ok') })
const Readiness = Type.Object({
  status: Type.Literal('ok'),
  writes: Type.Boolean({ description: 'Whether features can be changed, too.' }),
  groupsWithoutPrimary: Type.Optional(
    Type.Array(Type.Integer(), {
      description: 'Node groups whose changes wait for a primary, if there are any; they can still be read.',
    }),
  ),
})

export const health: FastifyPluginAsyncTypebox<{ database: Database; isDraining: () => boolean }> = async (
  app,
  { database, isDraining },
) => {
  app.addHook('onSend', async (_request, reply) => {
    reply.header('cache-control', 'no-store')
  })

  app.get(
    '/health/live',
    {
      schema: {
        operationId: 'getLiveness',
        summary: 'Whether the process is alive',
        tags: ['Operations'],
        querystring: jsonQuery,
        response: {
          200: content('It is alive.', ['application/json'], Liveness),
          400: problems[400],
          500: problems[500],
        },
      },
    },
    async () => ({ status: 'ok' as const }),
  )

  app.get(
    '/health/ready',
    {
      schema: {
        operationId: 'getReadiness',
        summary: 'Whether requests can be served: a database that can be read answers',
        tags: ['Operations'],
        querystring: jsonQuery,
        response: {
          200: content('They can be served.', ['application/json'], Readiness),
          400: problems[400],
          500: problems[500],
          503: problems[503],
        },
      },
    },
    async () => {
      if (isDraining()) throw gatewayError('not-ready', 'This gateway is shutting down.')
      if (!database.isReadable)
        throw gatewayError('not-ready', 'None of the database servers to read from can be reached.')
      const { groupsWithoutPrimary } = database.status()
      return {
        status: 'ok' as const,
        writes: database.isWritable,
        ...(groupsWithoutPrimary.length > 0 ? { groupsWithoutPrimary: [...groupsWithoutPrimary] } : {}),
      }
    },
  )
}
