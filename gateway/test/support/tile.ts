// Owns vector tiles as the tests read them: fetched as bytes, and decoded by a library that maps use.

import { type VectorTileFeature as Feature, VectorTile } from '@mapbox/vector-tile'
import { PbfReader } from 'pbf'
import type { Client } from './client.ts'

export type TileAnswer = {
  readonly status: number
  readonly headers: Headers
  readonly body: Buffer
  readonly layers: VectorTile['layers']
}

/** Requests a tile. */
export async function fetchTile(client: Client, path: string, headers: Record<string, string> = {}) {
  const response = await fetch(new URL(path, client.url), { headers, redirect: 'manual' })
  const body = Buffer.from(await response.arrayBuffer())
  const isTile = response.headers.get('content-type') === 'application/vnd.mapbox-vector-tile'
  const layers = isTile && body.length > 0 ? new VectorTile(new PbfReader(body)).layers : {}
  return { status: response.status, headers: response.headers, body, layers }
}

/** Returns the features of a layer; none if the tile has no such layer. */
export const featuresOf = ({ layers }: Pick<TileAnswer, 'layers'>, name: string): Feature[] => {
  const layer = layers[name]
  return layer ? Array.from({ length: layer.length }, (_, index) => layer.feature(index)) : []
}

/** Returns how many features a layer says that it has left out. */
export const leftOutOf = (features: readonly Feature[]) =>
  features.reduce((sum, { properties }) => sum + Number(properties.tessera_left_out ?? 0), 0)
