// Owns lists in URLs: their items are separated by commas, which is `explode: false` in OpenAPI.

import type { FastifyInstance } from 'fastify'

type Schema = { readonly properties?: Record<string, { readonly type?: string }> }

/** Turns `1,2` into two items for every parameter whose schema is an array, before it is validated. */
export function splitLists(app: FastifyInstance) {
  app.addHook('onRoute', (route) => {
    const properties = (route.schema?.querystring as Schema | undefined)?.properties ?? {}
    const lists = Object.keys(properties).filter((name) => properties[name]?.type === 'array')
    if (lists.length === 0) return
    const before = [route.preValidation ?? []].flat()
    route.preValidation = [
      (request, _reply, done) => {
        const query = request.query as Record<string, unknown>
        for (const name of lists) {
          const value = query[name]
          if (typeof value === 'string') query[name] = value.split(',')
        }
        done()
      },
      ...before,
    ]
  })
}
