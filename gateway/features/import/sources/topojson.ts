// Owns TopoJSON: one object of a topology → features.

import type { Readable } from 'node:stream'
import type { FeatureCollection } from 'geojson'
import { checkFeature } from './geojson-feature.ts'
import { SourceError, type SourceFeature, type SourceFormat } from './source.ts'
import { readText, startOfText } from './source-text.ts'

export const topojson: SourceFormat = {
  name: 'topojson',
  extensions: ['.topojson'],
  recognises: (start) => /^\{\s*"type"\s*:\s*"Topology"/.test(startOfText(start)),
  read: async ({ bytes }, { object }) => ({ hasTypes: true, features: readFeatures(bytes, object) }),
}

/** Reads the complete topology into memory, because its features share its arcs. */
async function* readFeatures(bytes: Readable, object: string | undefined): AsyncGenerator<SourceFeature[]> {
  const { feature: featureOf } = await import('topojson-client')
  const topology = parseTopology(await readText(bytes))
  const names = Object.keys(topology.objects ?? {})
  const name = object ?? (names.length === 1 ? names[0] : undefined)
  if (name === undefined || !names.includes(name)) {
    throw new SourceError(`The topology holds ${names.join(', ')}; name one of them with --object.`)
  }
  const result = featureOf(topology, topology.objects[name]!) as
    | FeatureCollection
    | FeatureCollection['features'][0]
  const features = result.type === 'FeatureCollection' ? result.features : [result]
  yield features.map((feature, index) => checkFeature(index + 1, feature))
}

type Topology = Parameters<typeof import('topojson-client').feature>[0]

function parseTopology(text: string): Topology {
  let topology: Topology
  try {
    topology = JSON.parse(text)
  } catch (cause) {
    throw new SourceError(`This is not valid JSON: ${(cause as Error).message}.`, { cause })
  }
  if (topology?.type !== 'Topology') throw new SourceError('This is not a TopoJSON topology.')
  return topology
}
