// Owns the summary of a property: its frequent values or classes, from which maps make their legends.

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { columnToSummarize, readSummary } from '../../features/query/column-summary.ts'
import type { Answers } from '../answers.ts'
import { consistencyHeaders, readConsistency } from '../consistency-headers.ts'
import { preferHeader } from '../deadline.ts'
import { JSON_FORMAT, negotiate } from '../negotiate.ts'
import { collectionParams, content, formatParameter, notFound, problems } from '../schemas.ts'
import { Type } from '../type.ts'
import type { Views } from '../view.ts'
import type { VisibleCollections } from '../visible.ts'

const count = Type.Integer({ minimum: 0 })
const Summary = Type.Object({
  property: Type.String(),
  sampled: Type.Integer({
    minimum: 0,
    description: 'Features of the sample from which all else is computed.',
  }),
  missing: Type.Integer({ minimum: 0, description: 'Those among them without a value.' }),
  values: Type.Array(
    Type.Object({
      value: Type.Union([Type.String(), Type.Number(), Type.Boolean()]),
      count,
    }),
    {
      description:
        'The most frequent values, the most frequent first; all values of a number that has at most eight, in their order.',
    },
  ),
  bounds: Type.Optional(
    Type.Array(Type.Number(), {
      description:
        'For other numbers: the least value, the bounds between classes that have about as many features each, and the greatest value.',
    }),
  ),
})

type Services = {
  readonly visible: VisibleCollections
  readonly views: Views
  readonly answers: Answers
  /** Time limit for an answer. */
  readonly timeoutMs: number
}

export const summary: FastifyPluginAsyncTypebox<Services> = async (
  app,
  { visible, views, answers, timeoutMs },
) => {
  app.addHook('onRequest', (_request, _reply, done) => done(answers.refusal()))
  app.get(
    '/collections/:collectionId/summary',
    {
      schema: {
        operationId: 'getSummary',
        summary: 'Frequent values or classes of a property, from a sample of the features',
        tags: ['Data'],
        params: collectionParams,
        querystring: Type.Object(
          {
            property: Type.String({
              description: 'Name of a property that is a text, a number or a boolean.',
              example: 'country',
              'x-expected': 'the name of a property',
            }),
            f: formatParameter([JSON_FORMAT]),
          },
          { additionalProperties: false },
        ),
        headers: Type.Object({ ...preferHeader, ...consistencyHeaders }),
        response: {
          200: { ...content('The summary.', JSON_FORMAT.types, Summary), headers: readConsistency },
          404: notFound,
          ...problems,
        },
      },
    },
    async (request, reply) => {
      const { type } = negotiate(request, [JSON_FORMAT])
      const collection = visible.get(request, request.params.collectionId)
      const { property } = request.query
      const column = columnToSummarize(collection, property)
      const { database, deadline } = await views.open(request, reply, timeoutMs)
      const { bounds, ...known } = await readSummary(database, collection, column, deadline)
      return reply.type(type).send({ property, ...known, ...(bounds ? { bounds } : {}) } as never)
    },
  )
}
