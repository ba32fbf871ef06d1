// Owns the formats that can be imported: bytes → features, in batches, each with its place in the source.

import { extname } from 'node:path'
import type { Readable } from 'node:stream'
import { readCsv } from './csv.ts'
import { parseFeature } from './geojson-feature.ts'
import { readSequence } from './geojson-seq.ts'
import { readArray } from './json-array.ts'
import type { SourceFeature, SourceOptions } from './source.ts'
import { readAll } from './source-text.ts'
import { readTopology } from './topojson.ts'

export const FORMATS = ['geojson', 'geojsonseq', 'topojson', 'csv'] as const
export type Format = (typeof FORMATS)[number]

const EXTENSIONS: Record<string, Format> = {
  '.geojson': 'geojson',
  '.geojsonl': 'geojsonseq',
  '.geojsons': 'geojsonseq',
  '.geojsonseq': 'geojsonseq',
  '.ndjson': 'geojsonseq',
  '.ndgeojson': 'geojsonseq',
  '.jsonl': 'geojsonseq',
  '.topojson': 'topojson',
  '.csv': 'csv',
  '.tsv': 'csv',
}

/** The format by the file's name, else by how it starts. `start` holds its first bytes. */
export function detectFormat(name: string, start: Buffer): Format {
  const byName = EXTENSIONS[extname(name).toLowerCase()]
  if (byName) return byName
  const text = start
    .toString('utf8')
    .replace(/^\uFEFF/, '')
    .trimStart()
  if (text.startsWith('\x1e')) return 'geojsonseq'
  if (!text.startsWith('{') && !text.startsWith('[')) return 'csv'
  if (/^\{\s*"type"\s*:\s*"Topology"/.test(text)) return 'topojson'
  // A first line that is a whole feature: a sequence. One of a collection breaks off or goes on.
  if (/^\{.*"type"\s*:\s*"Feature"[^\n]*\}\s*\n/.test(text) && !/^[^\n]*"FeatureCollection"/.test(text)) {
    return 'geojsonseq'
  }
  return 'geojson'
}

/** @throws SourceError for what no single feature is to blame for */
export async function* readFeatures(
  bytes: Readable,
  format: Format,
  start: Buffer,
  options: SourceOptions = {},
): AsyncGenerator<SourceFeature[]> {
  switch (format) {
    case 'geojsonseq':
      yield* readSequence(bytes)
      break
    case 'geojson':
      for await (const items of readArray(bytes)) yield items.map(parseFeature)
      break
    case 'topojson':
      yield readTopology(await readAll(bytes), options.object)
      break
    case 'csv':
      yield* readCsv(bytes, start, options)
  }
}
