// Owns the formats that can be imported: bytes → features, in batches, each with its place in the source.

import { isUtf8 } from 'node:buffer'
import { extname } from 'node:path'
import { Readable } from 'node:stream'
import { parse as parseCsv } from 'csv-parse'
import type { FeatureCollection, GeoJsonProperties } from 'geojson'
import { feature as featuresOf } from 'topojson-client'
import { parseExactJson } from '../values/exact-json.ts'

export const FORMATS = ['geojson', 'geojsonseq', 'topojson', 'csv'] as const
export type Format = (typeof FORMATS)[number]

export type SourceFeature = {
  /** Line where the feature starts, from 1; in TopoJSON, which has no lines to speak of, its number. */
  readonly line: number
  readonly id?: unknown
  readonly geometry?: unknown
  readonly properties?: GeoJsonProperties
  /** Why it is none; then nothing else is there. */
  readonly problem?: string
}

export type SourceOptions = {
  /** Which object of a topology; not needed where there is but one. */
  readonly object?: string | undefined
  readonly longitude?: string | undefined
  readonly latitude?: string | undefined
}

/** The source as a whole cannot be read; the message says why and what to do. */
export class SourceError extends Error {}

/** No feature is larger: a brake against running out of memory on a file of another kind. */
const MAX_FEATURE_BYTES = 128 * 1024 * 1024

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

export type Slice = { readonly line: number; readonly bytes: Buffer }

function parseFeature({ line, bytes }: Slice): SourceFeature {
  let value: unknown
  try {
    if (!isUtf8(bytes)) return { line, problem: 'is not valid UTF-8' }
    value = parseExactJson(bytes.toString('utf8'))
  } catch (error) {
    return { line, problem: `is not valid JSON (${(error as Error).message})` }
  }
  return checkFeature(line, value)
}

function checkFeature(line: number, value: unknown): SourceFeature {
  if (typeof value !== 'object' || value === null) return { line, problem: 'is not a GeoJSON feature' }
  const { type, id, geometry, properties } = value as Record<string, unknown>
  if (type !== 'Feature')
    return { line, problem: `has the type ${JSON.stringify(type)} instead of "Feature"` }
  if (properties !== null && (typeof properties !== 'object' || Array.isArray(properties))) {
    if (properties !== undefined) return { line, problem: 'has properties that are not an object' }
  }
  return { line, id, geometry: geometry ?? null, properties: (properties ?? {}) as GeoJsonProperties }
}

const NEWLINE = 0x0a
const RECORD_SEPARATOR = 0x1e
const BYTE_ORDER_MARK = Buffer.from([0xef, 0xbb, 0xbf])

/** GeoJSON text sequences (RFC 8142) and newline-delimited GeoJSON: a feature a line. */
async function* readSequence(bytes: Readable): AsyncGenerator<SourceFeature[]> {
  let line = 1
  let rest: Buffer[] = []
  let restBytes = 0
  const toFeature = (slice: Buffer): SourceFeature | undefined => {
    const text = line === 1 && slice.subarray(0, 3).equals(BYTE_ORDER_MARK) ? slice.subarray(3) : slice
    const trimmed = text[0] === RECORD_SEPARATOR ? text.subarray(1) : text
    return isBlank(trimmed) ? undefined : parseFeature({ line, bytes: trimmed })
  }
  for await (const chunk of bytes as AsyncIterable<Buffer>) {
    const batch: SourceFeature[] = []
    let start = 0
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      const tail = chunk.subarray(start, end)
      const feature = toFeature(restBytes > 0 ? Buffer.concat([...rest, tail]) : tail)
      if (feature) batch.push(feature)
      rest = []
      restBytes = 0
      start = end + 1
      line++
    }
    if (start < chunk.length) {
      // A copy: the chunk's memory must not be held by its last few bytes.
      rest.push(Buffer.from(chunk.subarray(start)))
      restBytes += chunk.length - start
      if (restBytes > MAX_FEATURE_BYTES)
        throw new SourceError(`Line ${line} is longer than any feature may be.`)
    }
    if (batch.length > 0) yield batch
  }
  const last = toFeature(Buffer.concat(rest))
  if (last) yield [last]
}

const isBlank = (bytes: Buffer) => bytes.every((byte) => byte === 0x20 || byte === 0x09 || byte === 0x0d)

/**
 * The objects of a JSON array, as slices of the source with the line each starts on: of the array that
 * is the whole document, or that of its member "features". Memory holds one chunk and one object.
 * What a slice contains is for JSON.parse to judge; here only brackets and strings are followed.
 */
export async function* readArray(bytes: Readable): AsyncGenerator<Slice[]> {
  const scanner = new ArrayScanner()
  for await (const chunk of bytes as AsyncIterable<Buffer>) {
    const slices = scanner.scan(chunk)
    if (slices.length > 0) yield slices
  }
  scanner.end()
}

const [QUOTE, BACKSLASH, COMMA, COLON] = [0x22, 0x5c, 0x2c, 0x3a]
const [OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET, CLOSE_BRACKET] = [0x7b, 0x7d, 0x5b, 0x5d]

/** Members of a document that are of interest, and are cut out as slices. */
const CRS = 'crs'
const FEATURES = 'features'

class ArrayScanner {
  #line = 1
  #depth = 0
  #isString = false
  #isEscaped = false
  /** Depth of the elements of the array that we read; 0 while it has not begun. */
  #itemDepth = 0
  #hasArray = false
  /** What was read of the object that is being cut out, and where that began. */
  #parts: Buffer[] = []
  #partBytes = 0
  #isCutting = false
  #cutLine = 0
  #cutDepth = 0
  /** The last string at depth 1: the name of the member whose value follows. */
  #member: number[] = []
  #isMember = false
  #hasStarted = false

  scan(chunk: Buffer): Slice[] {
    const slices: Slice[] = []
    let cutStart = 0
    for (let index = 0; index < chunk.length; index++) {
      const byte = chunk[index]!
      if (byte === NEWLINE) this.#line++
      if (this.#isString) {
        if (this.#isEscaped) this.#isEscaped = false
        else if (byte === BACKSLASH) this.#isEscaped = true
        else if (byte === QUOTE) this.#isString = false
        if (this.#isMember && this.#isString) this.#member.push(byte)
        continue
      }
      switch (byte) {
        case QUOTE:
          this.#isString = true
          this.#isMember = this.#depth === 1 && this.#itemDepth === 0
          if (this.#isMember) this.#member = []
          if (this.#depth === this.#itemDepth && this.#depth > 0) this.#refuseElement()
          break
        case OPEN_BRACE:
        case OPEN_BRACKET:
          if (!this.#isCutting && this.#startsCut(byte)) {
            this.#isCutting = true
            this.#cutLine = this.#line
            this.#cutDepth = this.#depth
            cutStart = index
          }
          this.#depth++
          break
        case CLOSE_BRACE:
        case CLOSE_BRACKET:
          this.#depth--
          if (this.#depth < 0)
            throw new SourceError(`Line ${this.#line}: a bracket closes that was never opened.`)
          if (this.#isCutting && this.#depth === this.#cutDepth) {
            const slice = { line: this.#cutLine, bytes: this.#take(chunk.subarray(cutStart, index + 1)) }
            this.#isCutting = false
            if (this.#itemDepth > 0) slices.push(slice)
            else checkCrs(slice)
          } else if (this.#itemDepth > 0 && this.#depth < this.#itemDepth) {
            this.#itemDepth = 0
          }
          break
        case COMMA:
        case COLON:
        case NEWLINE:
        case 0x20:
        case 0x09:
        case 0x0d:
          break
        default:
          if (this.#depth === this.#itemDepth && this.#depth > 0) this.#refuseElement()
          // A byte order mark may stand before the document, nothing else.
          if (this.#depth === 0 && ![0xef, 0xbb, 0xbf].includes(byte)) {
            throw new SourceError(`Line ${this.#line}: this is not a JSON document of objects.`)
          }
      }
    }
    if (this.#isCutting) {
      this.#parts.push(Buffer.from(chunk.subarray(cutStart)))
      this.#partBytes += chunk.length - cutStart
      if (this.#partBytes > MAX_FEATURE_BYTES) {
        throw new SourceError(
          `The object that starts on line ${this.#cutLine} is larger than any feature may be.`,
        )
      }
    }
    return slices
  }

  /** Whether the bracket opens something to cut out; notes where the array begins. */
  #startsCut(byte: number): boolean {
    if (this.#depth === 0) {
      if (this.#hasStarted) throw new SourceError(`Line ${this.#line}: a second document follows the first.`)
      this.#hasStarted = true
    }
    if (this.#itemDepth > 0) {
      if (byte === OPEN_BRACKET) this.#refuseElement()
      return true
    }
    const member = this.#depth === 1 ? Buffer.from(this.#member).toString() : ''
    if (byte === OPEN_BRACKET && (this.#depth === 0 || member === FEATURES)) {
      this.#itemDepth = this.#depth + 1
      this.#hasArray = true
      return false
    }
    return byte === OPEN_BRACE && member === CRS
  }

  #refuseElement(): never {
    throw new SourceError(`Line ${this.#line}: an element of the array is not an object.`)
  }

  #take(tail: Buffer): Buffer {
    const bytes = this.#parts.length > 0 ? Buffer.concat([...this.#parts, tail]) : tail
    this.#parts = []
    this.#partBytes = 0
    return bytes
  }

  end() {
    if (this.#depth > 0 || this.#isString)
      throw new SourceError(`The source breaks off on line ${this.#line}.`)
    if (!this.#hasArray)
      throw new SourceError('There is no array of features; is this a GeoJSON FeatureCollection?')
  }
}

/** GeoJSON of 2008 could name a CRS; today's cannot, and other coordinates would land in the wrong place. */
function checkCrs({ bytes, line }: Slice) {
  const name = /"name"\s*:\s*"([^"]*)"/.exec(bytes.toString('utf8'))?.[1] ?? 'of its own'
  if (/CRS84|EPSG:+4326$|EPSG\/\d*\/4326$/.test(name)) return
  throw new SourceError(
    `Line ${line}: the coordinates are in the CRS ${name}; GeoJSON is longitude and latitude in WGS 84. ` +
      'Convert it first, for example with ogr2ogr -t_srs EPSG:4326.',
  )
}

/** @throws SourceError where the bytes are in another encoding: letters would be lost without a word */
async function* decode(bytes: Readable): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  try {
    for await (const chunk of bytes as AsyncIterable<Buffer>) yield decoder.decode(chunk, { stream: true })
    yield decoder.decode()
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause
    throw new SourceError(
      'The source is not UTF-8; convert it first, for example with iconv -f latin1 -t utf-8.',
      {
        cause,
      },
    )
  }
}

async function readAll(bytes: Readable): Promise<string> {
  const texts: string[] = []
  for await (const text of decode(bytes)) texts.push(text)
  return texts.join('')
}

/** A topology shares its arcs between features, so it is read whole. */
function readTopology(text: string, object: string | undefined): SourceFeature[] {
  let topology: Parameters<typeof featuresOf>[0]
  try {
    topology = JSON.parse(text)
  } catch (cause) {
    throw new SourceError(`This is not valid JSON: ${(cause as Error).message}.`, { cause })
  }
  if (topology?.type !== 'Topology') throw new SourceError('This is not a TopoJSON topology.')
  const names = Object.keys(topology.objects ?? {})
  const name = object ?? (names.length === 1 ? names[0] : undefined)
  if (name === undefined || !names.includes(name)) {
    throw new SourceError(`The topology holds ${names.join(', ')}; name one of them with --object.`)
  }
  const result = featuresOf(topology, topology.objects[name]!) as
    | FeatureCollection
    | FeatureCollection['features'][0]
  const features = result.type === 'FeatureCollection' ? result.features : [result]
  return features.map((feature, index) => checkFeature(index + 1, feature))
}

const LONGITUDES = ['longitude', 'lon', 'lng', 'long', 'x']
const LATITUDES = ['latitude', 'lat', 'y']

/** The delimiter that the header line uses most. */
function detectDelimiter(start: Buffer): string {
  const header = start.toString('utf8').split('\n', 1)[0]!
  const count = (delimiter: string) => header.split(delimiter).length
  return [',', ';', '\t'].reduce((best, delimiter) => (count(delimiter) > count(best) ? delimiter : best))
}

async function* readCsv(
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
