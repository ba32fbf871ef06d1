// Owns GeoJSON documents: a FeatureCollection, or an array of features.

import type { Readable } from 'node:stream'
import { parseFeature } from './geojson-feature.ts'
import { readJsonArray, type Slice } from './json-array.ts'
import { SourceError, type SourceFeature, type SourceFormat } from './source.ts'
import { startOfText } from './source-text.ts'

export const geojson: SourceFormat = {
  name: 'geojson',
  extensions: ['.geojson'],
  recognises: (start) => /^[{[]/.test(startOfText(start)),
  read: async ({ bytes }) => ({ hasTypes: true, features: readFeatures(bytes) }),
}

async function* readFeatures(bytes: Readable): AsyncGenerator<SourceFeature[]> {
  for await (const slices of readJsonArray(bytes, { crs: checkCrs })) yield slices.map(parseFeature)
}

/**
 * GeoJSON of 2008 could name a CRS; RFC 7946 allows only longitude and latitude in WGS 84. Coordinates in another CRS
 * would be stored in a wrong place, or be refused with a message that does not name the CRS.
 */
function checkCrs({ bytes, line }: Slice) {
  const name = /"name"\s*:\s*"([^"]*)"/.exec(bytes.toString('utf8'))?.[1] ?? 'of its own'
  if (/CRS84|EPSG:+4326$|EPSG\/\d*\/4326$/.test(name)) return
  throw new SourceError(
    `Line ${line}: the coordinates are in the CRS ${name}; GeoJSON is longitude and latitude in WGS 84. ` +
      'Convert it first, for example with ogr2ogr -t_srs EPSG:4326.',
  )
}
