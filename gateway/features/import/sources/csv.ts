// Owns CSV: a header, then one point per record.

import { Readable } from 'node:stream'
import { SourceError, type SourceFeature, type SourceFormat, type SourceOptions } from './source.ts'
import { decodeText, startOfText } from './source-text.ts'

export const csv: SourceFormat = {
  name: 'csv',
  extensions: ['.csv', '.tsv'],
  // Any text that is no JSON.
  recognises: (start) => !['{', '[', '\x1e'].includes(startOfText(start).charAt(0)),
  read: async ({ bytes, start }, options) => ({
    hasTypes: false,
    features: readFeatures(bytes, detectDelimiter(start), options),
  }),
}

/** Features per batch. */
const BATCH = 1000

/** Chooses the delimiter that the header has most often. */
function detectDelimiter(start: Buffer): string {
  const header = start.toString('utf8').split('\n', 1)[0]!
  const count = (delimiter: string) => header.split(delimiter).length
  return [',', ';', '\t'].reduce((best, delimiter) => (count(delimiter) > count(best) ? delimiter : best))
}

async function* readFeatures(
  bytes: Readable,
  delimiter: string,
  options: SourceOptions,
): AsyncGenerator<SourceFeature[]> {
  const { CsvError, parse } = await import('csv-parse')
  const records = Readable.from(decodeText(bytes)).compose(
    parse({ bom: true, info: true, relax_column_count: true, skip_empty_lines: true, delimiter }),
  ) as AsyncIterable<{ readonly record: string[]; readonly info: { readonly lines: number } }>
  let header: Header | undefined
  let batch: SourceFeature[] = []
  try {
    for await (const { record, info } of records) {
      if (!header) {
        header = parseHeader(record, options)
        continue
      }
      batch.push(parseRecord(header, record, info.lines))
      if (batch.length === BATCH) {
        yield batch
        batch = []
      }
    }
  } catch (cause) {
    // Other errors are those of reading the source.
    if (!(cause instanceof CsvError)) throw cause
    throw new SourceError(`This is not valid CSV: ${cause.message}.`, { cause })
  }
  if (!header) throw new SourceError('The source is empty.')
  yield batch
}

/** @property longitude, latitude: indexes into `names` */
type Header = { readonly names: readonly string[]; readonly longitude: number; readonly latitude: number }

const LONGITUDES = ['longitude', 'lon', 'lng', 'long', 'x']
const LATITUDES = ['latitude', 'lat', 'y']

/** @throws SourceError if two columns have one name, or no column holds the longitude or the latitude */
function parseHeader(record: readonly string[], options: SourceOptions): Header {
  const names = record.map((name) => name.trim())
  const twice = names.find((name, index) => names.indexOf(name) !== index)
  if (twice !== undefined) throw new SourceError(`Two columns are called "${twice}"; give one another name.`)
  return {
    names,
    longitude: findColumn(names, options.longitude, LONGITUDES, 'longitude'),
    latitude: findColumn(names, options.latitude, LATITUDES, 'latitude'),
  }
}

function findColumn(
  names: readonly string[],
  named: string | undefined,
  usual: readonly string[],
  option: string,
): number {
  const index = named
    ? names.indexOf(named)
    : usual
        .map((name) => names.findIndex((column) => column.toLowerCase() === name))
        .find((found) => found >= 0)
  if (index !== undefined && index >= 0) return index
  const hint = named ? `There is no column ${named}` : `No column is called ${usual.join(', ')}`
  throw new SourceError(`${hint}; the columns are ${names.join(', ')}. Name the one to use with --${option}.`)
}

function parseRecord({ names, longitude, latitude }: Header, record: string[], line: number): SourceFeature {
  if (record.length !== names.length) {
    return { line, problem: `has ${record.length} fields, but the header has ${names.length}` }
  }
  // Without a prototype, because a column may be called __proto__.
  const properties: Record<string, string | null> = Object.create(null)
  for (let index = 0; index < names.length; index++) {
    if (index !== longitude && index !== latitude) properties[names[index]!] = record[index] || null
  }
  const [x, y] = [record[longitude]!.trim(), record[latitude]!.trim()]
  if (x === '' && y === '') return { line, geometry: null, properties }
  const coordinates = [x, y].map((text) => (text === '' ? Number.NaN : Number(text)))
  return { line, geometry: { type: 'Point', coordinates }, properties }
}
