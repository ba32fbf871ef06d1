// Owns GeoJSON documents: a FeatureCollection, an array of features, or a single feature or geometry.

import { isObject } from '../../values/exact-json.ts'
import { describeForeignCrs, foreignCrsOf } from '../../values/geojson-crs.ts'
import { type FeatureReading, parseFeature, parseFeatures } from './geojson-feature.ts'
import { type Part, readDocuments } from './json-documents.ts'
import { SourceError, type SourceFeature, type SourceFormat, type SourceInput } from './source.ts'
import { startOfText } from './source-text.ts'

export const geojson: SourceFormat = {
  name: 'geojson',
  extensions: ['.geojson'],
  recognises: (start) => ['{', '[', '\x1e'].includes(startOfText(start).charAt(0)),
  read: async (input) => ({ hasTypes: true, features: readFeatures(input) }),
}

async function* readFeatures({ bytes, ...reading }: SourceInput): AsyncGenerator<SourceFeature[]> {
  let isEmpty = true
  for await (const parts of readDocuments(bytes, reading.limits)) {
    isEmpty = false
    yield parts.flatMap((part) => featuresOf(part, reading))
  }
  if (isEmpty) throw new SourceError('There is no JSON in the source.')
}

function featuresOf(part: Part, reading: FeatureReading): SourceFeature | SourceFeature[] {
  switch (part.role) {
    case 'element':
      return parseFeature(part, reading)
    case 'document':
      return parseFeatures(part, reading)
    default:
      checkFrame(part, reading)
      return []
  }
}

/**
 * Checks a collection without its features: before they are read, so that a wrong `crs` is the first thing reported,
 * and after them, because a `crs` may follow them.
 */
function checkFrame({ line, bytes }: Part, { limits, system }: FeatureReading) {
  const text = bytes.toString('utf8')
  const problem = limits?.check?.(text)
  if (problem !== undefined) throw new SourceError(`Line ${line} ${problem}.`)
  let frame: unknown
  try {
    frame = JSON.parse(text)
  } catch (cause) {
    throw new SourceError(`Line ${line}: this is not valid JSON: ${(cause as Error).message}.`, { cause })
  }
  if (!isObject(frame)) return
  if (!Array.isArray(frame.features))
    throw new SourceError(`Line ${line}: the document has a second member "features".`)
  const foreignCrs = foreignCrsOf(frame.crs, system)
  if (foreignCrs !== undefined)
    throw new SourceError(`Line ${line}: the collection has ${describeForeignCrs(foreignCrs, system)}.`)
}
