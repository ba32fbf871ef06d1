// Owns a tile as an answer: its coding, its entity tag, how long caches may show it, and the names by which an operator can
// make them forget it.

import type { FastifyReply, FastifyRequest } from 'fastify'
import Negotiator from 'negotiator'
import { EVERYBODY, type Viewers } from '../features/access/principal.ts'
import type { Collection } from '../features/collections/collection.ts'
import { type Coding, LEAST_COMPRESSED_BYTES } from '../features/tiles/kept-tile.ts'
import type { Answer } from '../features/tiles/tile-cache.ts'
import { isKnown } from './conditional.ts'

/** How long caches of others may show a tile, in seconds. */
export type Caching = {
  /** Age at which it is no longer fresh; the gateway's own look at the database is part of it. */
  readonly tileMaxAge: number
  /** How much longer a cache may show it while it is checked. */
  readonly tileStale: number
}

/** Headers of answers with tiles. */
export const tileHeaders = {
  'Cache-Control': {
    type: 'string',
    description:
      'How long caches may show the tile; `Age` is how long ago the gateway made sure that nothing had changed.',
  },
  'Surrogate-Key': {
    type: 'string',
    description:
      'Names by which the cache of a CDN can be told to forget tiles: `tiles`, and `tiles/` with the id of each collection, percent-encoded. `Cache-Tag` has the same, separated by commas.',
  },
}

/** What a tile shows, and to whom. */
type Shown = { readonly viewers: Viewers; readonly collections: readonly Collection[] }

/** Sets the headers that caches read. */
export function tellCaches(
  request: FastifyRequest,
  reply: FastifyReply,
  { tile, sight }: Answer,
  { viewers, collections }: Shown,
  { tileMaxAge, tileStale }: Caching,
) {
  const isForEverybody =
    viewers.name === EVERYBODY.name && collections.every(({ rules }) => rules?.readers === undefined)
  const scope = isForEverybody ? 'public' : 'private'
  // A preference such as consistency=strong holds for one answer alone.
  const isCacheable = tile.isSteady && tileMaxAge > 0 && request.headers.prefer === undefined
  const stale = tileStale > 0 ? `, stale-while-revalidate=${tileStale}` : ''
  reply.header('cache-control', `${scope}, ${isCacheable ? `max-age=${tileMaxAge}${stale}` : 'no-cache'}`)
  // Rounded up, so that no cache shows it for longer than it may be shown.
  reply.header('age', Math.ceil((performance.now() - sight.at) / 1_000))
  const names = ['tiles', ...collections.map(({ id }) => `tiles/${encodeURIComponent(id)}`)]
  reply.header('surrogate-key', names.join(' ')).header('cache-tag', names.join(','))
}

/** Sends a tile that has features, or 304. Its tag is weak, because it is that of each of its codings. */
export async function sendTileBody(
  request: FastifyRequest,
  reply: FastifyReply,
  { tile }: Answer,
  type: string,
) {
  const tag = `W/"${tile.hash}"`
  reply.type(type).header('etag', tag)
  const coding = isKnown(request, tag) ? undefined : codingOf(request, tile.body.length)
  if (!coding) return reply.send(tile.body)
  const body = await tile.coded(coding)
  return reply.header('content-encoding', coding).send(body)
}

/** The first of these that a client takes is sent: it makes the shortest bodies. */
const CODINGS: readonly Coding[] = ['br', 'gzip']

function codingOf({ headers }: FastifyRequest, length: number): Coding | undefined {
  if (headers['accept-encoding'] === undefined || length < LEAST_COMPRESSED_BYTES) return undefined
  const taken = new Negotiator({ headers }).encodings([...CODINGS, 'identity'])
  return taken[0] === 'identity' ? undefined : CODINGS.find((coding) => taken.includes(coding))
}
