// Owns the schemas of a collection: its properties as JSON Schema (OGC 23-058r2, Features Part 5).

import type { Column, ColumnKind } from '../values/column.ts'
import { type Collection, elementKindOf, isFilterable } from './collection.ts'

export type PropertySchema = {
  readonly title?: string
  readonly description?: string
  readonly type?: string | readonly string[]
  readonly format?: string
  readonly items?: PropertySchema
  readonly enum?: readonly (string | number)[]
  readonly [limit: string]: unknown
}

export type Schema = {
  readonly $schema: typeof DIALECT
  readonly $id: string
  readonly type: 'object'
  readonly title: string
  readonly description?: string
  readonly properties: Readonly<Record<string, PropertySchema>>
  readonly required?: readonly string[]
  /** No other property exists, and a request that names one is refused. */
  readonly additionalProperties: false
}

const DIALECT = 'https://json-schema.org/draft/2020-12/schema'

/** What a schema is about: all properties, or those that a filter or `sortby` may name. */
export type Aspect = 'schema' | 'queryables' | 'sortables'

/** @param url of the schema, without parameters */
export function schemaOf(collection: Collection, aspect: Aspect, url: string): Schema {
  const { title, description, geometry, idColumn, properties, queryables, capabilities } = collection
  const columns = [...(idColumn ? [idColumn] : []), ...properties]
  const isShown = {
    schema: () => true,
    queryables: isFilterable,
    sortables: ({ name }: Column) => queryables.has(name),
  }[aspect]
  const shown = columns.filter(isShown)
  const members: [string, PropertySchema][] = shown.map((column) => [
    column.name,
    { ...describe(column), ...roleOf(column, collection), ...accessOf(column, collection, aspect) },
  ])
  if (aspect !== 'sortables') members.push([geometry.column, describeGeometry(collection, aspect)])
  const required =
    aspect === 'schema' && capabilities
      ? properties.filter((column) => isRequired(column, capabilities.columns)).map(({ name }) => name)
      : []
  return {
    $schema: DIALECT,
    $id: url,
    type: 'object',
    title,
    ...(description === undefined ? {} : { description }),
    properties: Object.fromEntries(
      members.map(([name, schema], index) => [name, { ...schema, 'x-ogc-propertySeq': index + 1 }]),
    ),
    ...(required.length > 0 ? { required } : {}),
    additionalProperties: false,
  }
}

const isRequired = ({ name, isNullable, hasDefault }: Column, settable: ReadonlySet<string>) =>
  !isNullable && !hasDefault && settable.has(name)

function roleOf(column: Column, { idColumn, temporal, temporalEnd }: Collection): PropertySchema {
  if (column === idColumn) return { 'x-ogc-role': 'id' }
  if (column === temporalEnd) return { 'x-ogc-role': 'primary-interval-end' }
  if (column !== temporal) return {}
  return { 'x-ogc-role': temporalEnd ? 'primary-interval-start' : 'primary-instant' }
}

/** A property that no change can set can only be read. */
function accessOf(
  column: Column,
  { idColumn, idFrom, capabilities }: Collection,
  aspect: Aspect,
): PropertySchema {
  if (aspect !== 'schema') return {}
  const isReadOnly = column === idColumn ? idFrom === 'server' : !capabilities?.columns.has(column.name)
  return isReadOnly ? { readOnly: true } : {}
}

/** Formats of types for which a kind is too coarse. */
const FORMATS: ReadonlyMap<string, string> = new Map([
  ['int2', 'int16'],
  ['int4', 'int32'],
  ['int8', 'int64'],
  ['float4', 'float'],
  ['float8', 'double'],
])

const TYPES: Readonly<Record<ColumnKind, PropertySchema>> = {
  integer: { type: 'integer' },
  number: { type: 'number' },
  boolean: { type: 'boolean' },
  string: { type: 'string' },
  date: { type: 'string', format: 'date' },
  timestamp: { type: 'string', format: 'date-time' },
  uuid: { type: 'string', format: 'uuid' },
  json: { type: ['object', 'array', 'string', 'number', 'boolean'] },
  other: { type: 'string' },
}

const typeOf = (kind: ColumnKind, type: string): PropertySchema => {
  const format = FORMATS.get(type)
  return { ...TYPES[kind], ...(format ? { format } : {}) }
}

function describe(column: Column): PropertySchema {
  const { kind, type, isArray, labels, maxLength, limits } = column
  const words = wordsOf(column)
  // PostgreSQL's name of an array type is that of its elements behind an underscore.
  if (isArray) return { ...words, type: 'array', items: typeOf(elementKindOf(column), type.slice(1)) }
  const { values, ...bounds } = limits
  const allowed =
    labels ?? values?.map((value) => (kind === 'integer' || kind === 'number' ? Number(value) : value))
  const longest = Math.min(
    maxLength ?? Number.POSITIVE_INFINITY,
    bounds.maxLength ?? Number.POSITIVE_INFINITY,
  )
  return {
    ...words,
    ...typeOf(kind, type),
    ...(allowed ? { enum: allowed } : {}),
    ...bounds,
    ...(Number.isFinite(longest) ? { maxLength: longest } : {}),
  }
}

/** A line of a comment that states a fact for programs. */
const FACT = /^(definition|unit): *(\S+)$/

/**
 * Returns what a column's comment says: its first line is the title if further ones follow, else it is the description.
 * A line like `definition: https://…` gives the property's meaning, one like `unit: km2` its unit in UCUM.
 */
function wordsOf({ description }: Column): PropertySchema {
  const lines = description?.split('\n').map((line) => line.trim()) ?? []
  const facts = new Map(lines.map((line) => FACT.exec(line)).map((fact) => [fact?.[1], fact?.[2]]))
  const text = lines.filter((line) => line !== '' && !FACT.test(line))
  const [title, ...rest] = text.length > 1 ? text : [undefined, ...text]
  const definition = facts.get('definition')
  const unit = facts.get('unit')
  return {
    ...(title === undefined ? {} : { title }),
    ...(rest.length > 0 ? { description: rest.join('\n') } : {}),
    ...(definition === undefined ? {} : { 'x-ogc-definition': definition }),
    ...(unit === undefined ? {} : { 'x-ogc-unit': unit }),
  }
}

function describeGeometry({ geometry, capabilities }: Collection, aspect: Aspect): PropertySchema {
  const isReadOnly = aspect === 'schema' && !capabilities?.columns.has(geometry.column)
  return {
    'x-ogc-role': 'primary-geometry',
    format: `geometry-${geometryFormat(geometry.type)}`,
    ...(isReadOnly ? { readOnly: true } : {}),
  }
}

/** Returns the standard's name for what features of this type look like as GeoJSON. */
function geometryFormat(type: string): string {
  const plain = type.replace(/(ZM|Z|M)$/, '')
  switch (plain) {
    case 'POINT':
    case 'MULTIPOINT':
    case 'LINESTRING':
    case 'MULTILINESTRING':
    case 'POLYGON':
    case 'MULTIPOLYGON':
    case 'GEOMETRYCOLLECTION':
      return plain.toLowerCase()
    case 'CIRCULARSTRING':
    case 'COMPOUNDCURVE':
      return 'linestring'
    case 'MULTICURVE':
      return 'multilinestring'
    case 'CURVEPOLYGON':
    case 'TRIANGLE':
      return 'polygon'
    case 'MULTISURFACE':
      return 'multipolygon'
    default:
      return 'any'
  }
}
