// Owns the client of Tessera's API: openapi-fetch with the API's ways of writing lists, keys and problems.

import createClient from 'openapi-fetch'

/** What client.d.ts documents. */
export class TesseraProblem extends Error {
  constructor(problem, response) {
    super(problem?.detail ?? `${response.status} ${response.statusText}`)
    this.name = 'TesseraProblem'
    this.status = response.status
    this.code = problem?.code
    this.problem = problem
  }
}

export function createTesseraClient({ url, key, ...options }) {
  const client = createClient({
    baseUrl: url.replace(/\/+$/, ''),
    // Lists with commas, and each property as a parameter of its own.
    querySerializer: { array: { style: 'form', explode: false }, object: { style: 'form', explode: true } },
    ...options,
  })
  /** Tokens of changes, which reads must see, and when they arrived. A token also stands for those that its request sent. */
  const tokens = new Map()
  client.use({
    onRequest({ request, schemaPath }) {
      for (const [token, time] of tokens) if (Date.now() - time > TOKEN_AGE_MS) tokens.delete(token)
      if (tokens.size > 0 && !request.headers.has(TOKEN))
        request.headers.set(TOKEN, [...tokens.keys()].join())
      if (key) request.headers.set('authorization', `Bearer ${key}`)
      const type = BODY_TYPES[request.method]
      if (type && schemaPath.includes('/items') && request.headers.get('content-type') !== LINES)
        request.headers.set('content-type', type)
      return request
    },
    async onResponse({ request, response }) {
      const token = response.headers.get(TOKEN)
      if (token) {
        for (const sent of (request.headers.get(TOKEN) ?? '').split(',')) tokens.delete(sent)
        tokens.set(token, Date.now())
      }
      if (response.ok || response.status === 304) return response
      const isProblem = response.headers.get('content-type')?.includes('problem+json')
      throw new TesseraProblem(isProblem ? await response.json() : undefined, response)
    },
  })
  return client
}

const TOKEN = 'consistency-token'
/** By then every secondary has caught up, or has been given up. */
const TOKEN_AGE_MS = 3_600_000

const BODY_TYPES = {
  POST: 'application/geo+json',
  PUT: 'application/geo+json',
  PATCH: 'application/merge-patch+json',
}

const LINES = 'application/x-ndjson'
/** Characters that are sent at once. */
const CHUNK = 65_536

export async function storeFeatures(client, collectionId, features, { mode, header = {} } = {}) {
  const lines = Symbol.asyncIterator in features ? streamOf(features) : [...features].map(lineOf).join('')
  const { data } = await client.POST('/collections/{collectionId}/items', {
    params: { path: { collectionId }, query: mode ? { mode } : {}, header },
    headers: { 'content-type': LINES },
    body: lines,
    bodySerializer: (body) => body,
    duplex: 'half',
  })
  return data
}

const lineOf = (feature) => `${JSON.stringify(feature)}\n`

/** Sends features as they come, in chunks. */
function streamOf(features) {
  const iterator = features[Symbol.asyncIterator]()
  return new ReadableStream({
    async pull(controller) {
      let text = ''
      for (;;) {
        const { value, done } = await iterator.next()
        if (!done) text += lineOf(value)
        if (!done && text.length < CHUNK) continue
        if (text !== '') controller.enqueue(new TextEncoder().encode(text))
        if (done) controller.close()
        return
      }
    },
    cancel: () => iterator.return?.(),
  })
}

export async function* readFeatures(client, collectionId, query = {}) {
  for (let place = {}; ; ) {
    const { data } = await client.GET('/collections/{collectionId}/items', {
      params: { path: { collectionId }, query: { ...query, ...place } },
    })
    yield* data.features
    const next = data.links.find(({ rel }) => rel === 'next')
    if (!next) return
    // By a cursor; by a number where nothing tells features apart, or the query counts itself.
    const following = new URL(next.href).searchParams
    place = following.has('cursor')
      ? { cursor: following.get('cursor') }
      : { offset: Number(following.get('offset')) }
  }
}
