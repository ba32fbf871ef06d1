// Owns GeoJSON documents: a FeatureCollection, an array of features, or a single feature or geometry.

import type { Readable } from 'node:stream'
import { isObject } from '../../values/exact-json.ts'
import { describeForeignCrs, foreignCrsOf } from '../../values/geojson-crs.ts'
import { parseFeature, parseFeatures } from './geojson-feature.ts'
import { type Part, readDocuments } from './json-documents.ts'
import { SourceError, type SourceFeature, type SourceFormat } from './source.ts'
import { startOfText } from './source-text.ts'

export const geojson: SourceFormat = {
  name: 'geojson',
  extensions: ['.geojson'],
  recognises: (start) => ['{', '[', '\x1e'].includes(startOfText(start).charAt(0)),
  read: async ({ bytes }) => ({ hasTypes: true, features: readFeatures(bytes) }),
}

async function* readFeatures(bytes: Readable): AsyncGenerator<SourceFeature[]> {
  let isEmpty = true
  for await (const parts of readDocuments(bytes)) {
    isEmpty = false
    yield parts.flatMap(featuresOf)
  }
  if (isEmpty) throw new SourceError('There is no JSON in the source.')
}

function featuresOf(part: Part): SourceFeature | SourceFeature[] {
  switch (part.role) {
    case 'element':
      return parseFeature(part)
    case 'document':
      return parseFeatures(part)
    default:
      checkFrame(part)
      return []
  }
}

/**
 * Checks a collection without its features: before they are read, so that a wrong `crs` is the first thing reported,
 * and after them, because a `crs` may follow them.
 */
function checkFrame({ line, bytes }: Part) {
  let frame: unknown
  try {
    frame = JSON.parse(bytes.toString('utf8'))
  } catch (cause) {
    throw new SourceError(`Line ${line}: this is not valid JSON: ${(cause as Error).message}.`, { cause })
  }
  if (!isObject(frame)) return
  if (!Array.isArray(frame.features))
    throw new SourceError(`Line ${line}: the document has a second member "features".`)
  const foreignCrs = foreignCrsOf(frame.crs)
  if (foreignCrs !== undefined)
    throw new SourceError(`Line ${line}: the collection has ${describeForeignCrs(foreignCrs)}.`)
}
