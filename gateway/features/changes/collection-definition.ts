// Owns the definition of a collection that a client sends: JSON and its schema → a table and its words, or all faults.

import { listed, pointerOf, quoted } from '../../errors.ts'
import {
  COLLECTION_NAME,
  type ColumnDefinition,
  DISTRIBUTIONS,
  type DistributeBy,
  MAX_NAME_BYTES,
  OWN_COLUMNS,
  type TableDefinition,
} from '../collections/managed.ts'
import { DEFAULT_LEVEL, MAX_LEVEL } from '../sharding/cell.ts'
import { ExactNumber, isObject, type JsonObject } from '../values/exact-json.ts'
import { checkMembers, collectFaults, isText, type Report } from '../values/faults.ts'
import { GEOMETRY_TYPES } from '../values/geometry.ts'

/** What people read of a collection, and how it is served; null removes what was set before. */
export type Words = {
  readonly title?: string | null
  readonly description?: string | null
  readonly license?: string | null
  readonly attribution?: string | null
  /** Codes of coordinate systems, as in `EPSG:25832`. */
  readonly crs?: readonly string[] | null
  readonly temporalColumn?: string
  readonly temporalEndColumn?: string
}

export type NewCollection = {
  readonly id: string
  readonly table: TableDefinition
  readonly words: Words
}

/** @property columns that the collection gets besides those that it has */
export type CollectionPatch = {
  readonly columns: readonly ColumnDefinition[]
  readonly words: Words
}

/** PostgreSQL allows 1,600 columns, and a table has a few that are not properties. */
const MAX_COLUMNS = 1_500

/** @throws GatewayError collection-invalid */
export function parseNewCollection(body: unknown): NewCollection {
  const { report, end } = collectFaults('collection-invalid')
  const members = isObject(body) ? body : {}
  if (!isObject(body)) report('', 'must be an object with id and schema')
  checkMembers(members, ['id', 'schema', 'distribution', ...WORDS, 'crs'], '', report)
  const { id, schema } = members
  if (typeof id !== 'string' || !COLLECTION_NAME.test(id))
    report('/id', 'must have up to 48 letters, digits, _ and -, the first a letter or _, as in my_roads')
  const read = readSchema(schema, report)
  const { geometry, idKind } = read
  if (!geometry && isObject(schema))
    report(
      '/schema/properties',
      'must have a geometry: a property with "x-ogc-role": "primary-geometry" and a format such as "geometry-point"',
    )
  const { by, level } = readDistribution(members.distribution, report)
  if (idKind !== undefined && idKind !== 'text' && by === 'cell')
    report(
      pointerOf('schema', 'properties', read.idName!, 'type'),
      'must be "string": in cells, ids begin with the cell; "distribution": {"by": "id"} has numbers',
    )
  const words = readWords(members, report)
  end()
  return {
    id: id as string,
    table: {
      columns: read.columns,
      geometry: geometry!,
      idType: idKind ?? 'bigint',
      level: by === 'cell' ? level : null,
      distribution: by,
    },
    words: { ...wordsOfSchema(schema), ...words, ...read.times },
  }
}

/**
 * @param has tells whether the collection has a property of this name
 * @throws GatewayError collection-invalid
 */
export function parseCollectionPatch(body: unknown, has: (name: string) => boolean): CollectionPatch {
  const { report, end } = collectFaults('collection-invalid')
  const members = isObject(body) ? body : {}
  if (!isObject(body)) report('', 'must be an object with what is to be changed')
  checkMembers(members, ['schema', ...WORDS, 'crs'], '', report)
  const words = readWords(members, report)
  const { schema } = members
  if (schema === undefined) {
    end()
    return { columns: [], words }
  }
  const { columns, geometry, geometryName, idName, times } = readSchema(schema, report)
  const pointer = (name: string) => pointerOf('schema', 'properties', name)
  if (geometry) report(pointer(geometryName!), 'cannot be added: a collection has one geometry')
  if (idName !== undefined) report(pointer(idName), 'cannot be added: a collection has one id')
  for (const { name, isRequired } of columns)
    if (has(name)) report(pointer(name), 'exists: properties can be added, and not be changed or removed')
    else if (isRequired)
      report('/schema/required', `cannot name ${quoted(name)}: the features that there are have no value`)
  end()
  return { columns, words: { ...words, ...times } }
}

const WORDS = ['title', 'description', 'license', 'attribution'] as const
/** Code or URI of a coordinate system. */
const SYSTEM = /^(?:(\w+):(\w+)|https?:\/\/www\.opengis\.net\/def\/crs\/(\w+)\/[\w.]+\/(\w+))$/

function readWords(members: JsonObject, report: Report): Words {
  const words: Record<string, string | readonly string[] | null> = {}
  for (const name of WORDS) {
    const value = members[name]
    if (value === undefined) continue
    if (value === null || (typeof value === 'string' && isText(value))) words[name] = value
    else report(pointerOf(name), 'must be a text, or null for none')
  }
  const { crs } = members
  if (crs === null) words.crs = null
  else if (crs !== undefined) words.crs = readSystems(crs, report)
  return words
}

function readSystems(crs: unknown, report: Report): string[] {
  if (!Array.isArray(crs)) {
    report('/crs', 'must be a list of coordinate systems, as in ["EPSG:25832"]')
    return []
  }
  return crs.flatMap((system, index) => {
    const [, authority, code, ofUri, codeOfUri] = SYSTEM.exec(String(system)) ?? []
    if (authority ?? ofUri) return `${authority ?? ofUri}:${code ?? codeOfUri}`.toUpperCase()
    report(pointerOf('crs', String(index)), 'must be a coordinate system, as in "EPSG:25832"')
    return []
  })
}

/** The title and the description of the schema, which those of the collection override. */
function wordsOfSchema(schema: unknown): Words {
  const { title, description } = schema as JsonObject
  return {
    ...(typeof title === 'string' && isText(title) ? { title } : {}),
    ...(typeof description === 'string' && isText(description) ? { description } : {}),
  }
}

function readDistribution(value: unknown, report: Report): { by: DistributeBy; level: number } {
  const fallback = { by: 'cell', level: DEFAULT_LEVEL } as const
  if (value === undefined) return fallback
  if (!isObject(value)) {
    report('/distribution', 'must be an object, as in {"by": "cell", "level": 8}')
    return fallback
  }
  checkMembers(value, ['by', 'level'], '/distribution', report)
  const { by = 'cell', level } = value
  if (!DISTRIBUTIONS.includes(by as DistributeBy))
    report('/distribution/by', `must be one of ${listed(DISTRIBUTIONS)}`)
  if (level !== undefined && !(Number.isInteger(level) && Number(level) >= 0 && Number(level) <= MAX_LEVEL))
    report('/distribution/level', `must be an integer from 0 to ${MAX_LEVEL}`)
  if (level !== undefined && by !== 'cell')
    report('/distribution/level', 'is that of cells: it only goes with "by": "cell"')
  return { by: by as DistributeBy, level: (level as number | undefined) ?? DEFAULT_LEVEL }
}

type ReadSchema = {
  readonly columns: readonly ColumnDefinition[]
  readonly geometry: TableDefinition['geometry'] | undefined
  readonly geometryName: string | undefined
  readonly idName: string | undefined
  readonly idKind: TableDefinition['idType'] | undefined
  readonly times: Pick<Words, 'temporalColumn' | 'temporalEndColumn'>
}

const SCHEMA_MEMBERS = [
  '$schema',
  '$id',
  'type',
  'title',
  'description',
  'properties',
  'required',
  'additionalProperties',
]

/** Reads a schema as `/collections/{id}/schema` returns it. */
function readSchema(schema: unknown, report: Report): ReadSchema {
  const read = {
    columns: [] as ColumnDefinition[],
    geometry: undefined as TableDefinition['geometry'] | undefined,
    geometryName: undefined as string | undefined,
    idName: undefined as string | undefined,
    idKind: undefined as TableDefinition['idType'] | undefined,
    times: {} as { temporalColumn?: string; temporalEndColumn?: string },
  }
  if (!isObject(schema)) {
    report('/schema', 'must be a JSON Schema of the features: an object with properties')
    return read
  }
  checkMembers(schema, SCHEMA_MEMBERS, '/schema', report)
  if (schema.type !== undefined && schema.type !== 'object') report('/schema/type', 'must be "object"')
  if (schema.additionalProperties !== undefined && schema.additionalProperties !== false)
    report('/schema/additionalProperties', 'must be false: a feature has the properties that are named')
  const required = readRequired(schema, report)
  if (!isObject(schema.properties)) {
    report('/schema/properties', 'must be an object: the schema of each property by its name')
    return read
  }
  const entries = Object.entries(schema.properties).toSorted(([, a], [, b]) => placeOf(a) - placeOf(b))
  if (entries.length > MAX_COLUMNS)
    report('/schema/properties', `must not have more than ${MAX_COLUMNS} properties`)
  for (const [name, property] of entries.slice(0, MAX_COLUMNS)) {
    const pointer = pointerOf('schema', 'properties', name)
    if (!isObject(property)) {
      report(pointer, 'must be an object, as in {"type": "string"}')
      continue
    }
    checkMembers(property, PROPERTY_MEMBERS, pointer, report)
    const role = property['x-ogc-role']
    if (role !== undefined && !ROLES.includes(String(role)))
      report(`${pointer}/x-ogc-role`, `must be one of ${listed(ROLES)}`)
    const isGeometry = role === 'primary-geometry' || GEOMETRY_FORMAT.test(String(property.format))
    if (isGeometry) {
      if (read.geometry) report(pointer, 'is a second geometry: a collection has one')
      read.geometryName = name
      read.geometry = {
        type: readGeometryType(property.format, pointer, report),
        isRequired: required.has(name),
      }
    } else if (role === 'id') {
      if (read.idName !== undefined) report(pointer, 'is a second id: a collection has one')
      read.idName = name
      read.idKind = property.type === 'integer' ? 'bigint' : 'text'
      if (name !== 'id') report(pointer, 'must have the name id')
      if (property.type !== 'integer' && property.type !== 'string')
        report(`${pointer}/type`, 'must be "string" or "integer"')
    } else {
      const column = readColumn(name, property, required.has(name), pointer, report)
      if (!column) continue
      read.columns.push(column)
      if (role === undefined) continue
      if (!TIMES.includes(column.type))
        report(`${pointer}/format`, 'must be "date" or "date-time" in this role')
      if (role === 'primary-interval-end') read.times.temporalEndColumn = name
      else read.times.temporalColumn = name
    }
  }
  for (const name of required)
    if (!Object.hasOwn(schema.properties, name))
      report('/schema/required', `names ${quoted(name)}, which is not among the properties`)
  const typeOf = (time: string | undefined) => read.columns.find(({ name }) => name === time)?.type
  const { temporalColumn, temporalEndColumn } = read.times
  if (temporalEndColumn !== undefined && temporalColumn === undefined)
    report('/schema/properties', 'have the end of a time, but not its start ("primary-interval-start")')
  else if (temporalEndColumn !== undefined && typeOf(temporalColumn) !== typeOf(temporalEndColumn))
    report(
      pointerOf('schema', 'properties', temporalEndColumn, 'format'),
      'must be that of the start of the time',
    )
  return read
}

const ROLES = ['id', 'primary-geometry', 'primary-instant', 'primary-interval-start', 'primary-interval-end']
const TIMES: readonly string[] = ['date', 'timestamptz']

/** Place of a property among the others; those that name none keep their order, before the others. */
const placeOf = (property: unknown) => {
  const place = isObject(property) ? property['x-ogc-propertySeq'] : undefined
  return typeof place === 'number' ? place : 0
}

function readRequired({ required }: JsonObject, report: Report): ReadonlySet<string> {
  if (required === undefined) return new Set()
  if (Array.isArray(required) && required.every((name) => typeof name === 'string')) return new Set(required)
  report('/schema/required', 'must be a list of names of properties')
  return new Set()
}

const PROPERTY_MEMBERS = [
  'title',
  'description',
  'type',
  'format',
  'items',
  'enum',
  'minimum',
  'exclusiveMinimum',
  'maximum',
  'exclusiveMaximum',
  'minLength',
  'maxLength',
  'readOnly',
  'x-ogc-role',
  'x-ogc-propertySeq',
  'x-ogc-unit',
  'x-ogc-definition',
]

const GEOMETRY_FORMAT = /^geometry-/
/** Types of PostGIS by the ends of the formats that the standard has for geometries. */
const TYPES_BY_FORMAT: ReadonlyMap<unknown, string> = new Map(
  GEOMETRY_TYPES.map((type) => [`geometry-${type.toLowerCase()}`, type]),
)

function readGeometryType(format: unknown, pointer: string, report: Report): string {
  const type = format === 'geometry-any' ? 'Geometry' : TYPES_BY_FORMAT.get(format)
  if (type === undefined)
    report(
      `${pointer}/format`,
      `must be one of ${listed([...(TYPES_BY_FORMAT.keys() as Iterable<string>), 'geometry-any'])}`,
    )
  return type ?? 'Geometry'
}

/** Reads a property that becomes a column; undefined if it has a fault. */
function readColumn(
  name: string,
  property: JsonObject,
  isRequired: boolean,
  pointer: string,
  report: Report,
): ColumnDefinition | undefined {
  if (OWN_COLUMNS.has(name)) {
    report(pointer, `has a name that Tessera uses itself, as ${listed(OWN_COLUMNS)}; choose another`)
    return undefined
  }
  if (name === '' || !isText(name) || Buffer.byteLength(name) > MAX_NAME_BYTES) {
    report(pointer, `must have a name of 1 to ${MAX_NAME_BYTES} bytes`)
    return undefined
  }
  const type = readType(property, pointer, report)
  if (type === undefined) return undefined
  return {
    name,
    ...limitsIn(property, type, pointer, report),
    isRequired,
    comment: commentOf(property, pointer, report),
  }
}

/** Types of columns by the type and the format of a property. */
const TYPES: ReadonlyMap<string, string> = new Map([
  // Every integer of JavaScript fits.
  ['integer', 'bigint'],
  ['integer int16', 'smallint'],
  ['integer int32', 'integer'],
  ['integer int64', 'bigint'],
  // Without a format it has every digit.
  ['number', 'numeric'],
  ['number float', 'real'],
  ['number double', 'double precision'],
  ['boolean', 'boolean'],
  ['string', 'text'],
  ['string date', 'date'],
  ['string date-time', 'timestamptz'],
  ['string time', 'time'],
  ['string uuid', 'uuid'],
  ['object', 'jsonb'],
])

/** Returns the type of PostgreSQL for values of a type of JSON Schema; undefined if there is none. */
export const columnTypeOf = (type: string, format?: string): string | undefined =>
  TYPES.get(format === undefined ? type : `${type} ${format}`)

function readType(property: JsonObject, pointer: string, report: Report): string | undefined {
  const { type, format, items } = property
  if (Array.isArray(type)) return 'jsonb'
  if (type === 'array') {
    if (items === undefined) return 'jsonb'
    const element =
      isObject(items) && items.type !== 'array' ? readType(items, `${pointer}/items`, report) : undefined
    if (element === undefined) report(`${pointer}/items`, 'must be an object with the type of the elements')
    return element === undefined || element === 'jsonb' ? 'jsonb' : `${element}[]`
  }
  const found = columnTypeOf(String(type), format === undefined ? undefined : String(format))
  if (found !== undefined) return found
  const types = new Set([...TYPES.keys()].map((name) => name.split(' ')[0]!))
  const isKnown = types.has(String(type))
  const formats = [...TYPES.keys()]
    .filter((name) => name.startsWith(`${type} `))
    .map((name) => name.split(' ')[1]!)
  report(
    `${pointer}/${isKnown ? 'format' : 'type'}`,
    isKnown
      ? formats.length > 0
        ? `must be left out, or one of ${listed(formats)}`
        : `must be left out for the type ${type}`
      : `must be one of ${listed([...types, 'array'])}, or a list for any JSON`,
  )
  return undefined
}

const BOUNDS = ['minimum', 'exclusiveMinimum', 'maximum', 'exclusiveMaximum'] as const
const NUMBERS: readonly string[] = ['smallint', 'integer', 'bigint', 'numeric', 'real', 'double precision']
/** Characters of the longest text that a limit of PostgreSQL can name. */
const MAX_LENGTH = 10_485_760

/** Returns the type with what limits its values. */
function limitsIn(property: JsonObject, type: string, pointer: string, report: Report) {
  const isNumber = NUMBERS.includes(type)
  const limits: { -readonly [Name in keyof ColumnDefinition]?: ColumnDefinition[Name] } = {}
  for (const name of BOUNDS) {
    const value = property[name]
    if (value === undefined) continue
    if (!isNumber) report(`${pointer}/${name}`, 'only limits numbers')
    else if (textOfNumber(value) === undefined) report(`${pointer}/${name}`, 'must be a number')
    else limits[name] = textOfNumber(value)
  }
  for (const name of ['minLength', 'maxLength'] as const) {
    const value = property[name]
    if (value === undefined) continue
    if (type !== 'text') report(`${pointer}/${name}`, 'only limits texts')
    else if (!Number.isInteger(value) || Number(value) < 1 || Number(value) > MAX_LENGTH)
      report(`${pointer}/${name}`, `must be an integer from 1 to ${MAX_LENGTH}`)
    else limits[name] = Number(value)
  }
  const { enum: values } = property
  if (values !== undefined) {
    const texts = Array.isArray(values) ? values.map((value) => (isNumber ? textOfNumber(value) : value)) : []
    if (!isNumber && type !== 'text') report(`${pointer}/enum`, 'only limits numbers and texts')
    else if (texts.length === 0 || !texts.every((text) => typeof text === 'string' && isText(text)))
      report(`${pointer}/enum`, `must be a list of ${isNumber ? 'numbers' : 'texts'}`)
    else limits.values = texts as string[]
  }
  return { ...limits, type: limits.maxLength === undefined ? type : 'varchar' }
}

const textOfNumber = (value: unknown): string | undefined =>
  typeof value === 'number' || value instanceof ExactNumber ? String(value) : undefined

/** Returns the comment of a column, from which its schema gets these words again (schema.ts). */
function commentOf(property: JsonObject, pointer: string, report: Report): string | undefined {
  const text = (name: string) => {
    const value = property[name]
    if (value === undefined || (typeof value === 'string' && isText(value)))
      return value as string | undefined
    report(pointer + pointerOf(name), 'must be a text')
    return undefined
  }
  const [title, description] = [text('title'), text('description')]
  const [unit, definition] = [text('x-ogc-unit'), text('x-ogc-definition')]
  const lines = [
    title?.replaceAll('\n', ' '),
    description,
    unit === undefined ? undefined : `unit: ${unit}`,
    definition === undefined ? undefined : `definition: ${definition}`,
  ].filter((line) => line !== undefined)
  return lines.length > 0 ? lines.join('\n') : undefined
}
