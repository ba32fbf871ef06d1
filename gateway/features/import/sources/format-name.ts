// Owns the names of the source formats. It imports nothing: help texts need the names and not the formats.

/** Name for `--format` → title in sentences, in the order of the help texts. */
export const FORMAT_TITLES = {
  geojson: 'GeoJSON',
  geojsonseq: 'GeoJSONSeq',
  topojson: 'TopoJSON',
  csv: 'CSV',
  gdal: 'what GDAL reads',
} as const
export type FormatName = keyof typeof FORMAT_TITLES
