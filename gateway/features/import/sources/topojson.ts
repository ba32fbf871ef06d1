// Owns TopoJSON.

import type { FeatureCollection } from 'geojson'
import { feature as featuresOf } from 'topojson-client'
import { checkFeature } from './geojson-feature.ts'
import { SourceError, type SourceFeature } from './source.ts'

/** A topology shares its arcs between features, so it is read whole. */
export function readTopology(text: string, object: string | undefined): SourceFeature[] {
  let topology: Parameters<typeof featuresOf>[0]
  try {
    topology = JSON.parse(text)
  } catch (cause) {
    throw new SourceError(`This is not valid JSON: ${(cause as Error).message}.`, { cause })
  }
  if (topology?.type !== 'Topology') throw new SourceError('This is not a TopoJSON topology.')
  const names = Object.keys(topology.objects ?? {})
  const name = object ?? (names.length === 1 ? names[0] : undefined)
  if (name === undefined || !names.includes(name)) {
    throw new SourceError(`The topology holds ${names.join(', ')}; name one of them with --object.`)
  }
  const result = featuresOf(topology, topology.objects[name]!) as
    | FeatureCollection
    | FeatureCollection['features'][0]
  const features = result.type === 'FeatureCollection' ? result.features : [result]
  return features.map((feature, index) => checkFeature(index + 1, feature))
}
