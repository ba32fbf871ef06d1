// Owns whether this gateway lives, and whether it can serve.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import type { Database } from '../../database/database.ts'
import { gatewayError } from '../../errors.ts'
import { content, jsonQuery, problems } from '../schemas.ts'

const Health = Type.Object({ status: Type.Literal('ok') })

/** A balancer asks every second or so: an answer later than this is none. */
const PING_TIMEOUT_MS = 2_000

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
        summary: 'Whether the process lives',
        tags: ['Operations'],
        querystring: jsonQuery,
        response: {
          200: content('It does.', ['application/json'], Health),
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
        summary: 'Whether requests can be served: asks the database that is read from',
        tags: ['Operations'],
        querystring: jsonQuery,
        response: {
          200: content('They can.', ['application/json'], Health),
          400: problems[400],
          500: problems[500],
          503: problems[503],
        },
      },
    },
    async () => {
      if (isDraining()) throw gatewayError('not-ready', 'This gateway is shutting down.')
      let timer: NodeJS.Timeout | undefined
      const late = new Promise<never>((_resolve, reject) => {
        timer = setTimeout(
          () =>
            reject(gatewayError('not-ready', `The database gave no answer within ${PING_TIMEOUT_MS} ms.`)),
          PING_TIMEOUT_MS,
        )
      })
      try {
        await Promise.race([database.ping(), late])
      } finally {
        clearTimeout(timer)
      }
      return { status: 'ok' as const }
    },
  )
}
