// Owns CSV with columns for longitude and latitude.

import { Readable } from 'node:stream'
import { parse as parseCsv } from 'csv-parse'
import { SourceError, type SourceFeature, type SourceOptions } from './source.ts'
import { decode } from './source-text.ts'

const LONGITUDES = ['longitude', 'lon', 'lng', 'long', 'x']
const LATITUDES = ['latitude', 'lat', 'y']

/** The delimiter that the header line uses most. */
function detectDelimiter(start: Buffer): string {
  const header = start.toString('utf8').split('\n', 1)[0]!
  const count = (delimiter: string) => header.split(delimiter).length
  return [',', ';', '\t'].reduce((best, delimiter) => (count(delimiter) > count(best) ? delimiter : best))
}

export async function* readCsv(
  bytes: Readable,
  start: Buffer,
  options: SourceOptions,
): AsyncGenerator<SourceFeature[]> {
  const delimiter = detectDelimiter(start)
  const records = Readable.from(decode(bytes)).compose(
    parseCsv({ bom: true, info: true, relax_column_count: true, skip_empty_lines: true, delimiter }),
  )
  let header: string[] | undefined
  let longitude = -1
  let latitude = -1
  let batch: SourceFeature[] = []
  try {
    for await (const { record, info } of records as AsyncIterable<{
      record: string[]
      info: { lines: number }
    }>) {
      if (!header) {
        header = record.map((name) => name.trim())
        const twice = header.find((name, index) => header!.indexOf(name) !== index)
        if (twice !== undefined)
          throw new SourceError(`Two columns are called "${twice}"; give one another name.`)
        longitude = findColumn(header, options.longitude, LONGITUDES, 'longitude')
        latitude = findColumn(header, options.latitude, LATITUDES, 'latitude')
        continue
      }
      batch.push(featureOfRecord(header, record, info.lines, longitude, latitude))
      if (batch.length === 1000) {
        yield batch
        batch = []
      }
    }
  } catch (cause) {
    if (cause instanceof SourceError) throw cause
    throw new SourceError(`This is not valid CSV: ${(cause as Error).message}.`, { cause })
  }
  if (!header) throw new SourceError('The source is empty.')
  yield batch
}

function findColumn(header: string[], named: string | undefined, usual: string[], what: string): number {
  const index = named
    ? header.indexOf(named)
    : usual
        .map((name) => header.findIndex((column) => column.toLowerCase() === name))
        .find((found) => found >= 0)
  if (index !== undefined && index >= 0) return index
  const hint = named ? `There is no column ${named}` : `No column is called ${usual.join(', ')}`
  throw new SourceError(`${hint}; the columns are ${header.join(', ')}. Name the one to use with --${what}.`)
}

function featureOfRecord(
  header: string[],
  record: string[],
  line: number,
  longitude: number,
  latitude: number,
): SourceFeature {
  if (record.length !== header.length) {
    return { line, problem: `has ${record.length} fields, but the header has ${header.length}` }
  }
  const properties: Record<string, string | null> = {}
  for (let index = 0; index < header.length; index++) {
    if (index !== longitude && index !== latitude) properties[header[index]!] = record[index] || null
  }
  const [x, y] = [record[longitude]!.trim(), record[latitude]!.trim()]
  if (x === '' && y === '') return { line, geometry: null, properties }
  const coordinates = [x, y].map((text) => (text === '' ? Number.NaN : Number(text)))
  return { line, geometry: { type: 'Point', coordinates }, properties }
}
