// Owns the features of a body that is read as a stream: the reader of its media type, and typed values for texts of CSV.

import { gatewayError } from '../../errors.ts'
import type { Collection } from '../collections/collection.ts'
import { CSV } from '../formats/csv.ts'
import type { Format } from '../formats/format.ts'
import { GEOJSON } from '../formats/geojson.ts'
import { GEOJSON_SEQ, NDJSON } from '../formats/geojson-seq.ts'
import { withDecimalPoint } from '../import/column-type.ts'
import type { FormatName } from '../import/sources/format-name.ts'
import { FORMATS } from '../import/sources/formats.ts'
import { type SourceContent, SourceError, type SourceFeature } from '../import/sources/source.ts'
import type { Column } from '../values/column.ts'
import type { CoordinateSystem } from '../values/coordinate-system.ts'
import { describeExcess, ExactNumber, type JsonObject } from '../values/exact-json.ts'
import { isNonFinite } from '../values/value.ts'

/** Formats of bodies, and the readers of the import for them. */
const SOURCES: readonly (readonly [Format, FormatName])[] = [
  [GEOJSON, 'geojson'],
  [GEOJSON_SEQ, 'geojsonseq'],
  [NDJSON, 'geojsonseq'],
  [CSV, 'csv'],
]

/** Media types of bodies with many features. */
export const MANY_TYPES = SOURCES.flatMap(([{ types }]) => types)

/** A feature as a body has it. */
export type GivenFeature = {
  /** The feature as GeoJSON; undefined if it is none. */
  readonly body: JsonObject | undefined
  /** Why it is none, completing a sentence whose subject is the feature. */
  readonly problem: string | undefined
  /** JSON pointer to it: in a collection its place there, otherwise its place among the records. */
  readonly pointer: string
  /** Line on which it begins, if the body is a list of lines. */
  readonly line: number | undefined
}

export type FeatureStreamOptions = {
  /** Media type without parameters. */
  readonly type: string
  /** The first bytes, from which the delimiter of a CSV is chosen. */
  readonly start: Buffer
  /** All bytes, the first ones included. */
  readonly bytes: AsyncIterable<Buffer>
  readonly collection: Collection
  readonly system: CoordinateSystem
  /** Most bytes of a feature. */
  readonly mostBytes: number
}

/** Reads the features of a body in batches. @throws GatewayError request-malformed if the body as a whole cannot be read */
export async function* readFeatures(options: FeatureStreamOptions): AsyncGenerator<GivenFeature[]> {
  const { type, start, bytes, collection, system, mostBytes } = options
  const [, name] = SOURCES.find(([{ types }]) => types.includes(type))!
  const source = FORMATS.find((one) => one.name === name)!
  const isDocument = name === 'geojson'
  const prefix = isDocument ? '/features/' : '/'
  let index = 0
  try {
    const input = {
      file: undefined,
      start,
      bytes: withoutMark(bytes),
      note: () => {},
      limits: { bytes: mostBytes, check: describeExcess },
      system,
    }
    const content = await source.read(input, { isFixed: true })
    const bodyOf = content.hasTypes ? ({ body }: SourceFeature) => body : makeTyper(content, collection)
    for await (const features of content.features)
      yield features.map((feature) => ({
        body: feature.problem === undefined ? bodyOf(feature) : undefined,
        problem: feature.problem,
        pointer: `${prefix}${index++}`,
        line: isDocument ? undefined : feature.line,
      }))
  } catch (error) {
    if (!(error instanceof SourceError)) throw error
    throw gatewayError('request-malformed', `${error.message} Nothing was stored.`, {}, error)
  }
}

/** Leaves out the byte order mark, which some programs write before UTF-8. */
async function* withoutMark(bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let isFirst = true
  for await (const chunk of bytes) {
    yield isFirst && chunk.toString('latin1', 0, 3) === '\xef\xbb\xbf' ? chunk.subarray(3) : chunk
    isFirst = false
  }
}

/** Returns a function that gives the texts of a record the types that their columns have. */
function makeTyper({ hasDecimalCommas = false }: SourceContent, { idColumn, properties }: Collection) {
  const columns = new Map(properties.map((column) => [column.name, column]))
  const typed = (text: unknown, column: Column | undefined) =>
    typeof text === 'string' && column ? typedValue(text, column, hasDecimalCommas) : text
  return ({ geometry, properties: texts }: SourceFeature): JsonObject => {
    const values: Record<string, unknown> = {}
    let id: unknown
    for (const [name, text] of Object.entries(texts ?? {}))
      if (name === idColumn?.name && !columns.has(name)) id = typed(text, idColumn) ?? undefined
      else
        Object.defineProperty(values, name, {
          value: typed(text, columns.get(name)),
          enumerable: true,
          writable: true,
          configurable: true,
        })
    return { type: 'Feature', ...(id === undefined ? {} : { id }), geometry, properties: values }
  }
}

function typedValue(text: string, { kind, isArray, isComposite, type }: Column, hasDecimalCommas: boolean) {
  if (isArray || isComposite || kind === 'json' || type === 'hstore') return parseJson(text)
  switch (kind) {
    case 'integer':
      return new ExactNumber(text)
    case 'number':
      return isNonFinite(text) ? text : new ExactNumber(hasDecimalCommas ? withDecimalPoint(text) : text)
    case 'boolean':
      return text === 'true' ? true : text === 'false' ? false : text
    default:
      return text
  }
}

/** Returns the value of a text that is JSON; other texts are refused later, by the type of their column. */
function parseJson(text: string): unknown {
  if (describeExcess(text) !== undefined) return undefined
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
