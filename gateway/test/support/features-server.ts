// Owns a small server of OGC API Features for tests of copies, which pages, refuses and fails as others do.

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after } from 'node:test'
import { gzipSync } from 'node:zlib'

export type Behaviour = {
  readonly features: readonly object[]
  /** How a page names the next one; `none`: not at all, but it takes an offset. */
  readonly paging: 'absolute' | 'relative' | 'header' | 'none' | 'one page only'
  readonly largest: number
  /** True to refuse a larger limit, instead of taking it for the largest. */
  readonly refusesLarge?: boolean
  readonly hasMatched?: boolean
  readonly isPacked?: boolean
  readonly contentCrs?: string
  readonly schema?: object
  readonly queryables?: object
  /** Members of the description. */
  readonly description?: object
  /** Members of each page. */
  readonly frame?: object
  /** Origin of the links to next pages, if it is another one. */
  readonly linksTo?: () => string
  /** Answers instead, if it returns true. */
  readonly intercept?: (request: IncomingMessage, response: ServerResponse, page: number) => boolean
}

export type FeaturesServer = {
  readonly url: string
  /** Address of its collection `things`. */
  readonly collection: string
  /** Paths and parameters of the requests so far. */
  readonly requests: string[]
  readonly headers: IncomingMessage['headers'][]
  behaviour: Behaviour
}

export async function startFeaturesServer(first: Behaviour): Promise<FeaturesServer> {
  const server = createServer((request, response) => {
    served.requests.push(request.url!)
    served.headers.push(request.headers)
    const { behaviour } = served
    const { pathname, searchParams } = new URL(request.url!, served.url)
    const offset = Number(searchParams.get('offset') ?? 0)
    const asked = Number(searchParams.get('limit') ?? 10)
    const limit = Math.min(asked, behaviour.largest)
    if (behaviour.intercept?.(request, response, Math.floor(offset / limit))) return
    const send = (document: object, headers: Record<string, string> = {}, status = 200) => {
      const text = JSON.stringify(document)
      response.writeHead(status, {
        'content-type': 'application/geo+json',
        ...(behaviour.isPacked ? { 'content-encoding': 'gzip' } : {}),
        ...headers,
      })
      response.end(behaviour.isPacked ? gzipSync(text) : text)
    }
    const base = served.url
    const self = `${base}/collections/things`
    switch (pathname) {
      case '/collections':
        return send({ collections: [{ id: 'things' }, { id: 'others' }] })
      case '/collections/things': {
        const links = (['schema', 'queryables'] as const)
          .filter((aspect) => behaviour[aspect])
          .map((aspect) => ({
            rel: `http://www.opengis.net/def/rel/ogc/1.0/${aspect}`,
            href: `${self}/${aspect}`,
          }))
        return send({ id: 'things', ...behaviour.description, links })
      }
      case '/collections/things/schema':
      case '/collections/things/queryables':
        return send(behaviour[pathname.split('/').at(-1) as 'schema' | 'queryables']!)
      case '/collections/things/items':
        break
      default:
        return send({ code: 'NotFound', description: 'There is nothing here' }, {}, 404)
    }
    if (behaviour.refusesLarge && asked > behaviour.largest)
      return send({ detail: `limit must be at most ${behaviour.largest}` }, {}, 422)
    if (behaviour.paging === 'one page only' && searchParams.has('offset'))
      return send({ detail: 'There is no parameter offset' }, {}, 400)
    const features = behaviour.features.slice(offset, offset + limit)
    const isLast = offset + limit >= behaviour.features.length
    const path = `/collections/things/items?limit=${asked}&offset=${offset + limit}`
    const next = {
      absolute: `${behaviour.linksTo?.() ?? base}${path}`,
      relative: path.slice('/collections/things/'.length),
      header: undefined,
      none: undefined,
      'one page only': undefined,
    }[behaviour.paging]
    send(
      {
        type: 'FeatureCollection',
        ...(behaviour.hasMatched ? { numberMatched: behaviour.features.length } : {}),
        ...behaviour.frame,
        features,
        links:
          next && !isLast
            ? [
                { rel: 'self', href: 'x' },
                { rel: 'next', type: 'application/geo+json', href: next },
              ]
            : [],
      },
      {
        ...(behaviour.contentCrs ? { 'content-crs': behaviour.contentCrs } : {}),
        ...(behaviour.paging === 'header' && !isLast
          ? { link: `</>; rel="self"; title="a, b", <${path}>; rel="next"; type="application/geo+json"` }
          : {}),
      },
    )
  })
  const served: FeaturesServer = { url: '', collection: '', requests: [], headers: [], behaviour: first }
  server.listen(0, '127.0.0.1')
  after(() => {
    server.close()
    server.closeAllConnections()
  })
  await new Promise((resolve) => server.once('listening', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return Object.assign(served, { url, collection: `${url}/collections/things` })
}
