// Owns CSV: a header, then one point per record.

import { Readable } from 'node:stream'
import { listed } from '../../../errors.ts'
import {
  SourceError,
  type SourceFeature,
  type SourceFormat,
  type SourceInput,
  type SourceOptions,
  shownBytes,
} from './source.ts'
import { decodeText, startOfText } from './source-text.ts'

export const csv: SourceFormat = {
  name: 'csv',
  extensions: ['.csv', '.tsv'],
  // Any text that is no JSON.
  recognises: (start) => !['{', '[', '\x1e'].includes(startOfText(start).charAt(0)),
  async read(input, options) {
    const dialect = detectDialect(input.start)
    return {
      hasTypes: false,
      hasDecimalCommas: dialect.delimiter !== ',',
      features: readFeatures(input, dialect, options),
    }
  },
}

/** Features per batch. */
const BATCH = 1000
/** Characters of the largest record: a quote that is never closed would otherwise fill the memory. */
const MAX_RECORD_LENGTH = 16 * 1024 * 1024
const DELIMITERS = [',', ';', '\t', '|']

type Dialect = { readonly delimiter: string; readonly firstLine: number }

/** A first line like `sep=;` is for Excel and names the delimiter; else it is the one that the header has most often. */
function detectDialect(start: Buffer): Dialect {
  const text = start.toString('utf8')
  const named = /^"?sep=([^\r\n])"?(\r|\n|$)/i.exec(text)?.[1]
  if (named !== undefined) return { delimiter: named, firstLine: 2 }
  // Quoted names may have delimiters and line breaks.
  const [header] = text.replace(/"[^"]*"/g, '').split(/[\r\n]/, 1)
  const count = (delimiter: string) => header!.split(delimiter).length
  const delimiter = DELIMITERS.reduce((best, one) => (count(one) > count(best) ? one : best))
  return { delimiter, firstLine: 1 }
}

type Note = (note: string) => void

async function* readFeatures(
  { bytes, limits, note }: SourceInput,
  { delimiter, firstLine }: Dialect,
  options: SourceOptions,
): AsyncGenerator<SourceFeature[]> {
  const most = limits?.bytes ?? MAX_RECORD_LENGTH
  const { CsvError, parse } = await import('csv-parse')
  const records = Readable.from(decodeText(bytes)).compose(
    parse({
      info: true,
      relax_column_count: true,
      // A spreadsheet exports empty rows as delimiters alone.
      skip_records_with_empty_values: true,
      record_delimiter: ['\r\n', '\n', '\r'],
      max_record_size: most,
      from_line: firstLine,
      delimiter,
    }),
  ) as AsyncIterable<{ readonly record: string[]; readonly info: { readonly lines: number } }>
  let reader: RecordReader | undefined
  let batch: SourceFeature[] = []
  try {
    for await (const { record, info } of records) {
      if (!reader) {
        reader = makeRecordReader(parseHeader(record, options, note), delimiter, note)
        continue
      }
      batch.push(reader(record, info.lines))
      if (batch.length === BATCH) {
        yield batch
        batch = []
      }
    }
  } catch (cause) {
    // Other errors are those of reading the source.
    if (!(cause instanceof CsvError)) throw cause
    throw new SourceError(
      cause.code === 'CSV_MAX_RECORD_SIZE'
        ? `A record is larger than ${shownBytes(most)}; is a quote not closed?`
        : `This is not valid CSV: ${cause.message}.`,
      { cause },
    )
  }
  if (!reader) throw new SourceError('The source is empty.')
  yield batch
}

/**
 * @property names of the columns: different ones, and none is empty
 * @property unnamed indexes of columns that the header does not name
 * @property longitude, latitude: indexes into `names`
 */
type Header = {
  readonly names: readonly string[]
  readonly unnamed: ReadonlySet<number>
  readonly longitude: number
  readonly latitude: number
}

const LONGITUDES = ['longitude', 'lon', 'lng', 'long', 'x']
const LATITUDES = ['latitude', 'lat', 'y']

/** @throws SourceError if no column holds the longitude or the latitude */
function parseHeader(record: readonly string[], options: SourceOptions, note: Note): Header {
  const given = record.map((name) => name.trim())
  const taken = new Set(given)
  const seen = new Set<string>()
  const names = given.map((name, index) => {
    if (name !== '' && !seen.has(name)) {
      seen.add(name)
      return name
    }
    const free = freeName(name === '' ? `column_${index + 1}` : name, name === '' ? 1 : 2, taken)
    taken.add(free)
    if (name !== '') note(`Column ${index + 1} has the name of another, ${name}: it becomes ${free}.`)
    return free
  })
  return {
    names,
    unnamed: new Set(given.flatMap((name, index) => (name === '' ? index : []))),
    longitude: findColumn(names, 'longitude', LONGITUDES, options),
    latitude: findColumn(names, 'latitude', LATITUDES, options),
  }
}

/** @returns the name with the first number from `number` on that makes it one that is not taken; 1 stands for none */
function freeName(name: string, number: number, taken: ReadonlySet<string>): string {
  const candidate = number === 1 ? name : `${name}_${number}`
  return taken.has(candidate) ? freeName(name, number + 1, taken) : candidate
}

function findColumn(
  names: readonly string[],
  option: 'longitude' | 'latitude',
  usual: readonly string[],
  { [option]: named, isFixed = false }: SourceOptions,
): number {
  const index = named
    ? names.indexOf(named)
    : usual
        .map((name) => names.findIndex((column) => column.toLowerCase() === name))
        .find((found) => found >= 0)
  if (index !== undefined && index >= 0) return index
  const hint = named ? `There is no column ${named}` : `No column is called ${usual.join(', ')}`
  const advice = isFixed ? '' : ` Name the one to use with --${option}.`
  throw new SourceError(`${hint}; the columns are ${listed(names)}.${advice}`)
}

type RecordReader = (record: readonly string[], line: number) => SourceFeature

/** Decimal numbers as people write them; Number would also take 0x10 and nothing at all. */
const NUMBER = /^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$/

function makeRecordReader(header: Header, delimiter: string, note: Note): RecordReader {
  const { names, unnamed, longitude, latitude } = header
  const last = Math.max(longitude, latitude)
  const named = new Set<number>()
  let hasShort = false
  const numberOf = (text: string) => {
    const decimal = delimiter === ',' ? text : text.replace(/^([-+]?\d+),(\d+)$/, '$1.$2')
    return NUMBER.test(decimal) ? Number(decimal) : Number.NaN
  }
  return (record, line) => {
    const further = record.slice(names.length).find((cell) => cell !== '')
    if (further !== undefined || record.length <= last) {
      const more = further === undefined ? '' : `; the further ones begin with ${JSON.stringify(further)}`
      return {
        line,
        problem: `has ${record.length} cells, but the header names ${names.length} columns${more}`,
      }
    }
    if (record.length < names.length && !hasShort) {
      hasShort = true
      note(
        `Line ${line} has ${record.length} cells, but the header names ${names.length} columns: the missing cells of such lines are empty.`,
      )
    }
    // Without a prototype, because a column may be called __proto__.
    const properties: Record<string, string | null> = Object.create(null)
    for (let index = 0; index < names.length; index++) {
      if (index === longitude || index === latitude) continue
      const cell = record[index] || null
      // A column without a name and without values is none: lines of spreadsheets often end with a delimiter.
      if (unnamed.has(index) && cell !== null && !named.has(index)) {
        named.add(index)
        note(`Column ${index + 1} has no name: it becomes ${names[index]}.`)
      }
      if (cell !== null || !unnamed.has(index)) properties[names[index]!] = cell
    }
    const [x, y] = [record[longitude]!.trim(), record[latitude]!.trim()]
    if (x === '' && y === '') return { line, geometry: null, properties }
    for (const [index, text] of [
      [longitude, x],
      [latitude, y],
    ] as const) {
      if (text === '') return { line, problem: `has no value in ${names[index]}, but the other coordinate` }
      if (!Number.isFinite(numberOf(text)))
        return {
          line,
          problem: `has ${JSON.stringify(text)} in ${names[index]}, which is ${whyNoNumber(text, delimiter)}`,
        }
    }
    return { line, geometry: { type: 'Point', coordinates: [numberOf(x), numberOf(y)] }, properties }
  }
}

const whyNoNumber = (text: string, delimiter: string) =>
  delimiter === ',' && /^[-+]?\d+,\d+$/.test(text)
    ? 'no number: with decimal commas, the delimiter must be ; or a tab'
    : 'no number; valid are for example 10.5 and -3'
