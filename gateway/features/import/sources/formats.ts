// Owns the list of the source formats.

import { csv } from './csv.ts'
import { gdal } from './gdal.ts'
import { geojson } from './geojson.ts'
import { geojsonSeq } from './geojson-seq.ts'
import type { SourceFormat } from './source.ts'
import { topojson } from './topojson.ts'

/**
 * The formats in the order of their names in format-name.ts. Detection takes the last format that recognises the first
 * bytes of a source, so a format that needs more of them comes after one that needs less: GeoJSON recognises any JSON, and
 * CSV any other text.
 */
export const FORMATS: readonly SourceFormat[] = [geojson, geojsonSeq, topojson, csv, gdal]
