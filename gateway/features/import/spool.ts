// Owns the spool: checked features as lines of COPY in a file, and what was learned of them.

import { once } from 'node:events'
import { createReadStream, createWriteStream } from 'node:fs'
import { finished } from 'node:stream/promises'
import type { Emit } from '../../events.ts'
import { type Place, placeOf } from '../sharding/cell.ts'
import { ExactNumber } from '../values/exact-json.ts'
import { GeometryError, parseGeometry } from '../values/geometry.ts'
import { MAX_NAME_BYTES, OWN_COLUMNS } from './column-name.ts'
import { ColumnObserver, type ColumnType, copyTextOf, NULL_TEXT } from './column-type.ts'
import { ImportError } from './import-error.ts'
import type { ImportSource } from './import-source.ts'
import type { SourceContent, SourceFeature } from './sources/source.ts'

/** PostgreSQL ends at 1,600 columns, a few of them ours. */
const MAX_COLUMNS = 1_500
/** How much text is gathered before it is written to the spool or to COPY, in characters. */
const CHUNK = 64 * 1024
const PROGRESS_INTERVAL_MS = 100
/** By how many features the level of cells is chosen. */
const MAX_PLACES = 10_000

type SpoolColumn = {
  readonly property: string
  readonly name: string
  readonly observer: ColumnObserver
  forced: ColumnType | undefined
}

export type Spool = {
  readonly file: string
  readonly columns: readonly SpoolColumn[]
  readonly identifiers: ColumnObserver
  readonly geometryTypes: ReadonlySet<string>
  readonly dimensions: ReadonlySet<number>
  readonly hasNullGeometry: boolean
  /** Of some of the features, each as likely as another. */
  readonly places: readonly Place[]
  readonly features: number
  readonly skipped: number
}

export type SpoolOptions = {
  readonly collection: string
  readonly id?: string | undefined
  readonly types?: ReadonlyMap<string, ColumnType>
  readonly skipInvalid?: boolean | undefined
}

/**
 * A line of the spool: its line in the source, the feature's id, its geometry and its place, then its properties in
 * the order in which the source first named them; those that come later are missing at its end.
 */
export async function spoolFeatures(
  source: ImportSource,
  content: SourceContent,
  options: SpoolOptions,
  file: string,
  emit: Emit,
): Promise<Spool> {
  const { collection } = options
  const columns = new Map<string, SpoolColumn>()
  const identifiers = new ColumnObserver(content.hasTypes)
  const geometryTypes = new Set<string>()
  const dimensions = new Set<number>()
  const places: Place[] = []
  let placed = 0
  let hasNullGeometry = false
  let features = 0
  let skipped = 0

  const addColumn = (property: string): SpoolColumn => {
    if (columns.size >= MAX_COLUMNS)
      throw new ImportError(`There are more than ${MAX_COLUMNS} different properties.`)
    let name = OWN_COLUMNS.has(property) ? `${property}_` : property
    while ([...columns.values()].some((column) => column.name === name)) name += '_'
    if (name === '' || name.includes('\0') || Buffer.byteLength(name) > MAX_NAME_BYTES) {
      throw new InvalidFeature(`has a property whose name is empty or longer than ${MAX_NAME_BYTES} bytes`)
    }
    const column = {
      property,
      name,
      observer: new ColumnObserver(content.hasTypes),
      forced: options.types?.get(property),
    }
    columns.set(property, column)
    return column
  }

  const lineOf = (feature: SourceFeature): string => {
    if (feature.problem) throw new InvalidFeature(feature.problem)
    const geometry = feature.geometry === null ? undefined : parseGeometry(feature.geometry)
    const properties = feature.properties as Record<string, unknown>
    const id = options.id === undefined ? feature.id : properties[options.id]
    if (options.id !== undefined && (id === undefined || id === null)) {
      throw new InvalidFeature(`has no property ${options.id}, which is to be its id`)
    }
    const hasId = id !== undefined && id !== null
    if (hasId && typeof id !== 'string' && typeof id !== 'number' && !(id instanceof ExactNumber))
      throw new InvalidFeature('has an id that is no text or number')
    for (const property of Object.keys(properties)) {
      if (property !== options.id && !columns.has(property)) addColumn(property)
    }
    const place = geometry?.extent && placeOf(geometry.extent)
    const fields = [
      String(feature.line),
      copied(id, undefined, 'id'),
      geometry?.text ?? NULL_TEXT,
      place ? `${place.quadkey}/${place.finest}` : NULL_TEXT,
    ]
    for (const { property, forced } of columns.values())
      fields.push(copied(properties[property], forced, property))
    // Nothing of a feature counts before all of it has been found right.
    for (const { property, observer } of columns.values()) {
      const value = properties[property]
      if (value !== null && value !== undefined) observer.observe(value)
    }
    if (hasId) identifiers.observe(id)
    if (place) {
      const index = placed < MAX_PLACES ? placed : Math.floor(Math.random() * (placed + 1))
      if (index < MAX_PLACES) places[index] = place
      placed++
    }
    if (geometry) {
      geometryTypes.add(geometry.type)
      dimensions.add(geometry.dimension)
    } else hasNullGeometry = true
    return fields.join('\t')
  }

  const output = createWriteStream(file, { highWaterMark: 4 * CHUNK })
  let chunk = ''
  const flush = async () => {
    const isFull = !output.write(chunk)
    chunk = ''
    if (isFull) await once(output, 'drain')
  }
  const tellProgress = () =>
    emit({
      type: 'import-advanced',
      collection,
      features,
      bytes: source.bytesRead(),
      totalBytes: source.totalBytes,
    })
  let lastProgress = 0
  try {
    for await (const batch of content.features) {
      for (const feature of batch) {
        try {
          chunk += `${lineOf(feature)}\n`
          features++
        } catch (error) {
          if (!(error instanceof InvalidFeature || error instanceof GeometryError)) throw error
          const reason =
            error instanceof GeometryError ? `has a geometry that ${error.message}` : error.message
          if (!options.skipInvalid) {
            throw new ImportError(
              `Line ${feature.line} of ${source.name} ${reason}. Nothing was imported; --skip-invalid would leave such features out.`,
              { cause: error },
            )
          }
          skipped++
          emit({ type: 'import-skipped-feature', collection, line: feature.line, reason })
        }
        if (chunk.length > CHUNK) await flush()
      }
      if (performance.now() - lastProgress > PROGRESS_INTERVAL_MS) {
        lastProgress = performance.now()
        tellProgress()
      }
    }
    await flush()
    tellProgress()
  } catch (error) {
    if (error instanceof ImportError) throw error
    throw new ImportError(`${source.name}: ${(error as Error).message}`, { cause: error })
  } finally {
    output.end()
    await finished(output)
  }
  if (features === 0)
    throw new ImportError(
      `${source.name} holds no ${skipped > 0 ? 'valid ' : ''}feature; nothing was imported.`,
    )
  for (const property of options.types?.keys() ?? []) {
    if (!columns.has(property)) throw new ImportError(`--type ${property}: the source has no such property.`)
  }
  return {
    file,
    columns: [...columns.values()],
    identifiers,
    geometryTypes,
    dimensions,
    hasNullGeometry,
    places,
    features,
    skipped,
  }
}

class InvalidFeature extends Error {}

function copied(value: unknown, type: ColumnType | undefined, property: string): string {
  const text = copyTextOf(value, type)
  if (text === undefined)
    throw new InvalidFeature(`has text in ${property} that PostgreSQL cannot store (NUL or half a character)`)
  return text
}

/** The spool's lines, a chunk of the file at a time. */
export async function* linesOf(file: string): AsyncGenerator<string[]> {
  let parts: string[] = []
  for await (const chunk of createReadStream(file, { encoding: 'utf8', highWaterMark: CHUNK })) {
    const lines = (chunk as string).split('\n')
    if (lines.length > 1) {
      lines[0] = [...parts, lines[0]].join('')
      parts = []
    }
    // A line may be far longer than a chunk: it is put together once, when its end is there.
    parts.push(lines.pop()!)
    yield lines
  }
}
