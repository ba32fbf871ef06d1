// Owns the list of the source formats.

import { csv } from './csv.ts'
import { geojson } from './geojson.ts'
import { geojsonSeq } from './geojson-seq.ts'
import type { SourceFormat } from './source.ts'
import { topojson } from './topojson.ts'

/**
 * In the order of the help texts. Detection takes the last format that recognises a source, so a format that
 * recognises more of its first bytes comes after one that recognises less: GeoJSON recognises any JSON.
 */
export const FORMATS: readonly SourceFormat[] = [geojson, geojsonSeq, topojson, csv]
