// Owns the spool: a file of checked features, and what the import has learned from them.

import { once } from 'node:events'
import { createReadStream, createWriteStream } from 'node:fs'
import { finished } from 'node:stream/promises'
import { type Footprint, footprintOf } from '../sharding/cell.ts'
import { ExactNumber } from '../values/exact-json.ts'
import { GeometryError, type ParsedGeometry, parseGeometry } from '../values/geometry.ts'
import { columnNameOf } from './column-name.ts'
import {
  ColumnObserver,
  type ColumnType,
  copyTextOf,
  findHugeNumber,
  isFractional,
  isOfType,
  NULL_TEXT,
} from './column-type.ts'
import { ImportError } from './import-error.ts'
import type { SourceFeature, SourceUnit } from './sources/source.ts'

export type SpoolOptions = {
  /** Property that identifies a feature; undefined: the features' own ids. */
  readonly id: string | undefined
  /** Types of columns that are known in advance, by property. */
  readonly types: ReadonlyMap<string, ColumnType>
  /** See SourceContent. */
  readonly declaredTypes?: ReadonlyMap<string, ColumnType> | undefined
  /** See SourceContent. */
  readonly unit?: SourceUnit | undefined
  /** Names of the columns of type json and jsonb in the table that the features are appended to. */
  readonly jsonColumns: ReadonlySet<string>
  /** See SourceContent. */
  readonly hasTypes: boolean
  /** See SourceContent. */
  readonly hasDecimalCommas: boolean
  /** Takes sentences on what a person should know, each of them once. */
  readonly note: (note: string) => void
}

export interface Spool {
  /** Number of features that were added so far. */
  readonly features: number
  /**
   * Checks a feature and adds it. A feature that is refused leaves nothing behind.
   * @throws InvalidFeature if the feature cannot be imported; ImportError if there are too many columns
   */
  add(feature: SourceFeature): Promise<void>
  /** Writes what is still in memory to the file, and closes it. */
  end(): Promise<SpooledFeatures>
  /** Closes the file of an import that has failed. */
  discard(): void
}

/** Why a feature cannot be imported, completing "Line 5 …". */
export class InvalidFeature extends Error {}

export type SpooledFeatures = {
  readonly features: number
  /** In the order in which the source first named the properties. */
  readonly columns: readonly SpooledColumn[]
  /** Number of features that have an id. */
  readonly ids: number
  readonly idType: ColumnType
  /** Types of GeoJSON. */
  readonly geometryTypes: ReadonlySet<string>
  readonly dimensions: ReadonlySet<2 | 3>
  readonly hasNullGeometry: boolean
  /** What the lines of features count. */
  readonly unit: SourceUnit
  /** Footprints of at most MAX_FOOTPRINTS features, drawn at random. */
  readonly footprints: readonly Footprint[]
  /** Reads the file, some lines at a time; see `parseLine`. */
  readonly lines: () => AsyncIterable<string[]>
}

export type SpooledColumn = {
  readonly property: string
  readonly name: string
  readonly type: ColumnType
  /** True if every feature has a value. */
  readonly isComplete: boolean
  /** One of the column's numbers with a decimal comma, for example 10,5; undefined if they have none. */
  readonly commaExample: string | undefined
}

/** PostgreSQL allows 1,600 columns, and a table has a few that are not properties. */
const MAX_COLUMNS = 1_500
/** Characters that are gathered in memory before they are written to the file, or read from it. */
const CHUNK = 64 * 1024
/** Characters of a value that a message shows. */
const MAX_SHOWN = 40
/** Number of features from which the level of the cells is chosen. */
const MAX_FOOTPRINTS = 10_000

/** Creates a spool that writes to a new file. */
export function makeSpool(file: string, options: SpoolOptions): Spool {
  const columns = new Map<string, Column>()
  const identifiers = new ColumnObserver(options.hasTypes)
  const geometryTypes = new Set<string>()
  const dimensions = new Set<2 | 3>()
  const footprints = makeSample<Footprint>(MAX_FOOTPRINTS)
  const { unit = 'Line' } = options
  let hasNullGeometry = false
  let hasFurtherNumbers = false
  let features = 0
  const output = createWriteStream(file, { highWaterMark: 4 * CHUNK })
  const written = finished(output)
  // A failure is thrown by the next write or by `end`; without a listener it would end the process.
  written.catch(() => {})
  let chunk = ''

  async function flush() {
    if (output.errored) throw output.errored
    const isFull = !output.write(chunk)
    chunk = ''
    if (isFull) await once(output, 'drain')
  }

  function learn({ line, id, geometry, footprint, properties }: Row) {
    for (const { property, observer, declared } of columns.values()) {
      const value = propertyOf(properties, property)
      if (value === null || value === undefined) continue
      observer.observe(value)
      if (declared?.holds) declared.holds = isOfType(value, declared.type)
    }
    if (id !== null && id !== undefined) identifiers.observe(id)
    if (footprint) footprints.add(footprint)
    if (geometry) {
      geometryTypes.add(geometry.type)
      dimensions.add(geometry.dimension)
      if (geometry.hasFurtherNumbers && !hasFurtherNumbers) {
        hasFurtherNumbers = true
        options.note(
          `${unit} ${line} has positions of more than three numbers: the further ones, which have no meaning in GeoJSON, are left out.`,
        )
      }
    } else hasNullGeometry = true
    features++
  }

  return {
    get features() {
      return features
    },
    async add(feature) {
      const row = checkFeature(feature, options.id)
      const added = newColumnsOf(row.properties, columns, options)
      chunk += lineOf(row, added.length > 0 ? [...columns.values(), ...added] : columns.values(), options)
      // Only now, because a feature that is refused must not add columns or decide on types.
      for (const column of added) {
        columns.set(column.property, column)
        if (column.name !== column.property)
          options.note(`The property ${JSON.stringify(column.property)} becomes the column ${column.name}.`)
      }
      learn(row)
      if (chunk.length > CHUNK) await flush()
    },
    async end() {
      await flush()
      output.end()
      await written
      for (const { property, declared, observer } of columns.values())
        if (declared?.holds === false)
          options.note(
            `The source declares the type ${declared.type} for ${property}, but has other values, too: the column is ${observer.type}.`,
          )
      return {
        features,
        columns: [...columns.values()].map((column) => describeColumn(column, features)),
        ids: identifiers.count,
        idType: identifiers.type,
        geometryTypes,
        dimensions,
        hasNullGeometry,
        unit,
        footprints: footprints.values,
        lines: () => readLines(file),
      }
    },
    discard() {
      output.destroy()
    },
  }
}

/** A feature that has been checked, except for the text of its properties. */
type Row = {
  readonly line: number
  readonly id: unknown
  readonly geometry: ParsedGeometry | undefined
  readonly footprint: Footprint | undefined
  readonly properties: Readonly<Record<string, unknown>>
}

/** Returns undefined if the feature lacks the property: every object inherits some, for example `constructor`. */
const propertyOf = (properties: Row['properties'], property: string): unknown =>
  Object.hasOwn(properties, property) ? properties[property] : undefined

/** @throws InvalidFeature */
function checkFeature(feature: SourceFeature, idProperty: string | undefined): Row {
  if (feature.problem) throw new InvalidFeature(feature.problem)
  const geometry = feature.geometry === null ? undefined : checkGeometry(feature.geometry)
  const properties = feature.properties as Record<string, unknown>
  const id = idProperty === undefined ? feature.id : propertyOf(properties, idProperty)
  const hasId = id !== undefined && id !== null
  if (idProperty !== undefined && !hasId) {
    throw new InvalidFeature(`has no property ${idProperty}, which is to be its id`)
  }
  if (hasId && typeof id !== 'string' && typeof id !== 'number' && !(id instanceof ExactNumber))
    throw new InvalidFeature('has an id that is no text or number')
  const footprint = geometry?.extent && footprintOf(geometry.extent)
  return { line: feature.line, id, geometry, footprint, properties }
}

/** @throws InvalidFeature */
function checkGeometry(geometry: unknown): ParsedGeometry {
  try {
    return parseGeometry(geometry)
  } catch (cause) {
    if (!(cause instanceof GeometryError)) throw cause
    throw new InvalidFeature(`has a geometry that ${cause.message}`, { cause })
  }
}

type Column = {
  readonly property: string
  readonly name: string
  readonly observer: ColumnObserver
  readonly givenType: ColumnType | undefined
  /** The type that the source declares, and whether all values so far are of it. */
  readonly declared: { readonly type: ColumnType; holds: boolean } | undefined
}

/** Returns a column for each property that has none yet. @throws InvalidFeature or ImportError */
function newColumnsOf(
  properties: Row['properties'],
  columns: ReadonlyMap<string, Column>,
  { id, types, declaredTypes, jsonColumns, hasTypes, hasDecimalCommas }: SpoolOptions,
): Column[] {
  const added: Column[] = []
  let taken: Set<string> | undefined
  for (const property of Object.keys(properties)) {
    if (property === id || columns.has(property)) continue
    if (columns.size + added.length >= MAX_COLUMNS)
      throw new ImportError(`There are more than ${MAX_COLUMNS} different properties.`)
    // Only now, because most features add no column.
    taken ??= new Set([...columns.values()].map((column) => column.name))
    const name = columnNameOf(property, columns.size + added.length + 1, taken)
    taken.add(name)
    const observer = new ColumnObserver(hasTypes, hasDecimalCommas)
    const givenType = jsonColumns.has(name) ? 'jsonb' : types.get(property)
    const type = givenType ? undefined : declaredTypes?.get(property)
    added.push({ property, name, observer, givenType, declared: type && { type, holds: true } })
  }
  return added
}

const describeColumn = (
  { property, name, givenType, declared, observer }: Column,
  features: number,
): SpooledColumn => ({
  property,
  name,
  type: givenType ?? (declared?.holds ? declared.type : observer.type),
  isComplete: observer.count === features,
  commaExample: givenType === undefined || isFractional(givenType) ? observer.commaExample : undefined,
})

/**
 * Writes a line of the spool: fields of COPY's text format, between tabs. They are the line in the source, the id, the
 * geometry, its footprint and the properties in the order of their columns. A property whose column was added later has
 * no field.
 * @throws InvalidFeature
 */
function lineOf(
  { line, id, geometry, footprint, properties }: Row,
  columns: Iterable<Column>,
  { hasTypes }: SpoolOptions,
): string {
  const fields = [
    String(line),
    fieldOf(id, undefined, hasTypes, 'id'),
    geometry?.text ?? NULL_TEXT,
    footprint ? `${footprint.quadkey}/${footprint.finest}` : NULL_TEXT,
  ]
  for (const { property, givenType } of columns)
    fields.push(fieldOf(propertyOf(properties, property), givenType, hasTypes, property))
  return `${fields.join('\t')}\n`
}

function fieldOf(value: unknown, type: ColumnType | undefined, hasTypes: boolean, property: string): string {
  if (type === 'jsonb' && !hasTypes && typeof value === 'string') checkJson(value, property)
  const text = checkNesting(property, () => {
    const huge = findHugeNumber(value)
    if (huge !== undefined)
      throw new InvalidFeature(
        `has ${huge.slice(0, MAX_SHOWN)} in ${property}, a number that is too large, too small or too long to be stored`,
      )
    return copyTextOf(value, type, hasTypes)
  })
  if (text === undefined)
    throw new InvalidFeature(`has text in ${property} that PostgreSQL cannot store (NUL or half a character)`)
  return text
}

/** @throws InvalidFeature if `work` descends deeper into a value than the process can */
function checkNesting<T>(property: string, work: () => T): T {
  try {
    return work()
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause
    throw new InvalidFeature(`has a value in ${property} that is nested too deeply`, { cause })
  }
}

/** @throws InvalidFeature */
function checkJson(text: string, property: string) {
  try {
    JSON.parse(text)
  } catch (cause) {
    throw new InvalidFeature(
      `has text in ${property} that is not valid JSON (${(cause as Error).message}); valid are for example {"a": 1}, [1, 2], 7, and "text" with its quotes`,
      { cause },
    )
  }
}

/** A line of the spool. The texts are those of COPY, NULL_TEXT included. */
export type SpooledLine = {
  /** The line in the source. */
  readonly line: string
  readonly id: string
  readonly geometry: string
  readonly footprint: Footprint | undefined
  readonly properties: readonly string[]
}

export function parseLine(text: string): SpooledLine {
  const [line, id, geometry, footprint, ...properties] = text.split('\t') as [string, string, string, string]
  return { line, id, geometry, footprint: parseFootprint(footprint), properties }
}

function parseFootprint(text: string): Footprint | undefined {
  if (text === NULL_TEXT) return undefined
  const [quadkey, finest] = text.split('/').map(Number) as [number, number]
  return { quadkey, finest }
}

/** Reads the lines of a file, those that end in one chunk at a time. */
async function* readLines(file: string): AsyncGenerator<string[]> {
  let parts: string[] = []
  for await (const chunk of createReadStream(file, { encoding: 'utf8', highWaterMark: CHUNK })) {
    const lines = (chunk as string).split('\n')
    if (lines.length > 1) {
      lines[0] = [...parts, lines[0]].join('')
      parts = []
    }
    // A line may be far longer than a chunk, so its parts are joined only once, when its end has been read.
    parts.push(lines.pop()!)
    yield lines
  }
}

/** Keeps at most `size` of the values that are added, each with the same probability (reservoir sampling). */
function makeSample<T>(size: number) {
  const values: T[] = []
  let added = 0
  return {
    values: values as readonly T[],
    add(value: T) {
      const index = added < size ? added : Math.floor(Math.random() * (added + 1))
      if (index < size) values[index] = value
      added++
    },
  }
}
