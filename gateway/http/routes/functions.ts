// Owns the list of functions that filters can call (OGC API Features Part 3).

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FilterFunctions } from '../../features/filter/functions.ts'
import type { FilterFunction, ValueType } from '../../features/filter/term.ts'
import { sendPage } from '../html/layout.ts'
import { functionsPage } from '../html/overview-pages.ts'
import { ownLinks, selfUrl } from '../links.ts'
import { DOCUMENT_FORMATS, HTML, JSON_FORMAT, negotiate } from '../negotiate.ts'
import { content, formatQuery, orPage, problems } from '../schemas.ts'
import { Type } from '../type.ts'

export const conformance = ['http://www.opengis.net/spec/cql2/1.0/conf/functions']

/** The standard's names of types; those of values that no function takes are missing. */
const TYPES: Partial<Record<ValueType, string>> = {
  number: 'number',
  string: 'string',
  boolean: 'boolean',
  date: 'datetime',
  timestamp: 'datetime',
  geometry: 'geometry',
}
const TypeNames = Type.Array(Type.Enum([...new Set(Object.values(TYPES))], { type: 'string' }))

const Argument = Type.Object({ title: Type.String(), type: TypeNames })
const Functions = Type.Object({
  functions: Type.Array(
    Type.Object({
      name: Type.String(),
      description: Type.String(),
      arguments: Type.Array(Argument),
      args: Type.Array(Argument),
      returns: TypeNames,
    }),
  ),
})

const typesOf = (type: ValueType) => [TYPES[type]!]

const describe = ({ name, description, parameters, returns }: FilterFunction) => {
  const taken = parameters.map(({ name: title, type }) => ({ title, type: typesOf(type) }))
  // Part 3 calls them arguments, and CQL2 args.
  return { name, description, arguments: taken, args: taken, returns: typesOf(returns) }
}

type Services = { readonly functions: () => FilterFunctions }

export const functions: FastifyPluginAsyncTypebox<Services> = async (app, { functions }) => {
  app.get(
    '/functions',
    {
      schema: {
        operationId: 'getFunctions',
        summary: 'The functions that filters can call',
        tags: ['Capabilities'],
        querystring: formatQuery,
        response: {
          200: orPage(content('Functions besides the operators of CQL2.', JSON_FORMAT.types, Functions)),
          ...problems,
        },
      },
    },
    async (request, reply) => {
      const { format, type } = negotiate(request, DOCUMENT_FORMATS)
      const described = { functions: functions().list.map(describe) }
      if (format === HTML) {
        const base = request.publicUrl
        const links = ownLinks(selfUrl(base, request.url), HTML, DOCUMENT_FORMATS)
        return sendPage(reply, functionsPage(base, described.functions, links))
      }
      return reply.type(type).send(described as never)
    },
  )
}
