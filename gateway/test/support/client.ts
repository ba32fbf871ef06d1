// Owns the client of the tests: it uses real HTTP, and checks each response against the OpenAPI document.

import * as http from 'node:http'
import * as https from 'node:https'
import type { FeatureCollection as GeoJson, Feature as GeoJsonFeature } from 'geojson'
import { createTesseraClient, type TesseraClient } from 'tessera-client'
import { checkResponse } from './openapi.ts'

export type Answer = {
  readonly status: number
  readonly headers: Headers
  readonly type: string
  readonly text: string
  readonly json: any
}
export type Page = GeoJson & {
  numberReturned: number
  numberMatched?: number
  timeStamp: string
  links: { rel: string; href: string }[]
}
export type Item = GeoJsonFeature & { links: { rel: string; href: string }[] }

export type Client = {
  readonly url: string
  /** Sends a request. `path` may also be a complete URL, such as a link that is followed. */
  (path: string, init?: RequestInit): Promise<Answer>
}

/** Paths that lead people on, and that are not in the document. */
const FOR_BROWSERS = /\/(api\.html|login|login\/callback|logout)$|^\/api\.html/

/**
 * Returns a client that sees its own changes wherever they are read, because it sends their tokens with each request that
 * has none.
 * @param url URL of the gateway; redirects are not followed
 * @param send sends the requests
 */
export function makeClient(url: string, send: typeof fetch = fetch): Client {
  const tokens = new Set<string>()
  const ask = async (path: string, init: RequestInit = {}): Promise<Answer> => {
    const target = new URL(path, `${url}/`)
    const headers = new Headers(init.headers)
    const sent = [...tokens]
    if (sent.length > 0 && !headers.has('consistency-token')) headers.set('consistency-token', sent.join())
    if (init.method === 'POST' && target.pathname.endsWith('/items')) askForFeature(headers)
    const response = await send(target, { redirect: 'manual', ...init, headers })
    const token = response.headers.get('consistency-token')
    if (token) {
      for (const one of sent) tokens.delete(one)
      tokens.add(token)
    }
    const text = await response.text()
    const type = response.headers.get('content-type') ?? ''
    const method = init.method ?? 'GET'
    if (!/^(HEAD|OPTIONS)$/.test(method) && !FOR_BROWSERS.test(target.pathname)) {
      checkResponse(method, target.pathname, response.status, type, text)
    }
    return {
      status: response.status,
      headers: response.headers,
      type,
      text,
      json: /[/+]json(;|$)/.test(type) && text ? JSON.parse(text) : undefined,
    }
  }
  return Object.assign(ask, { url })
}

/** Tests look at what was created, which a client gets only if it asks for it. */
function askForFeature(headers: Headers) {
  if (!/return=/.test(headers.get('prefer') ?? '')) headers.append('prefer', 'return=representation')
}

/** Returns Node's own client for a URL, which does only what it is told. */
export const plainClient = (url: string) => (url.startsWith('https:') ? https : http)

/** Yields the pages of a collection, following the next links. */
export async function* followPages(client: Client, path: string): AsyncGenerator<Page> {
  for (let next: string | undefined = path; next; ) {
    const { json } = (await client(next)) as { json: Page }
    yield json
    next = json.links.find(({ rel }) => rel === 'next')?.href
  }
}

/** Returns the SDK for the same gateway; its responses are checked against the document as well. */
export const makeSdk = (client: Client, key?: string): TesseraClient =>
  createTesseraClient({
    url: client.url,
    ...(key ? { key } : {}),
    async fetch(request: Request) {
      if (request.method === 'POST') askForFeature(request.headers)
      const response = await fetch(request)
      const copy = response.clone()
      const type = copy.headers.get('content-type') ?? ''
      checkResponse(request.method, new URL(request.url).pathname, copy.status, type, await copy.text())
      return response
    },
  })

/** Returns the request of a change, with the media type of its method. @param body left out by DELETE */
export const changeOf = (method: string, headers: Readonly<Record<string, string>>, body: object) =>
  method === 'DELETE'
    ? { method, headers }
    : {
        method,
        headers: {
          'content-type': method === 'PUT' ? 'application/geo+json' : 'application/merge-patch+json',
          ...headers,
        },
        body: JSON.stringify(body),
      }
