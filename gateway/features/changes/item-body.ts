// Owns the check of a feature's body against its collection, which reports all faults at once.

import { type Fault, invalidBody, listed, MAX_FAULTS, pointerOf, quoted } from '../../errors.ts'
import { type Collection, isSpread } from '../collections/collection.ts'
import { type Column, isRequired } from '../values/column.ts'
import type { CoordinateSystem } from '../values/coordinate-system.ts'
import { ExactNumber, isObject, type JsonObject } from '../values/exact-json.ts'
import { describeForeignCrs, foreignCrsOf } from '../values/geojson-crs.ts'
import {
  asMultiple,
  GEOMETRY_TYPES,
  GeometryError,
  type ParsedGeometry,
  parseGeometry,
} from '../values/geometry.ts'
import { hstoreOf } from '../values/hstore.ts'
import { describeValue, isNonFinite, parseStored, parseValue } from '../values/value.ts'
import { type FeatureMembers, isJsonFg, JSONFG_MEMBERS, readJsonFg } from './jsonfg-body.ts'

/** Kind of a body: a new feature, a replacement, or a merge patch (RFC 7396). */
export type BodyKind = 'create' | 'replace' | 'update'

/** A new value that depends on the stored one. */
export type DerivedValue =
  /** A patch of the members of JSON, an hstore or a composite. */
  | { readonly patch: JsonObject }
  /** Null, unless the stored number is one that is read as null. */
  | { readonly blank: true }

/** New content of a column. */
export type ColumnValue = {
  readonly column: Column
  readonly value:
    | string
    | null
    | readonly unknown[]
    /** JSON that PostgreSQL converts to the type of the column. */
    | { readonly json: unknown }
    | DerivedValue
}

export type ItemBody = {
  /** Set only if the client chooses the id of a new feature. */
  readonly id: string | undefined
  /** Undefined if the geometry stays as it is. */
  readonly geometry: ParsedGeometry | null | undefined
  /** Values of the columns that change, in the order of the collection's columns. */
  readonly assignments: readonly ColumnValue[]
}

/**
 * Members that a body may have. `links` and `bbox` are ignored: clients send them back as they were read. `crs` may only
 * say what RFC 7946 says anyway.
 */
const KNOWN_MEMBERS = new Set(['type', 'links', 'bbox', 'crs', 'id', 'geometry', 'properties'])
/** Most objects in a patch of JSON, because each is a step of the statement that merges it. */
const MAX_PATCHED_OBJECTS = 50
/** Most trailing spaces beyond the length of a column, which PostgreSQL drops. */
const MAX_PADDING = 1_000
/** Largest exponent of a number: a larger one is no measurement, and PostgreSQL would write out every digit. */
const MAX_EXPONENT = 400

/** How bodies are read. */
export type BodyReading = {
  /** The system of their coordinates, if the body itself does not name it. */
  readonly system: CoordinateSystem
  /** True if the client has named this system. */
  readonly isSystemNamed?: boolean
  /** True if the body can be in JSON-FG, in a system that it names itself. */
  readonly takesJsonFg?: boolean
  /** True if members that cannot be set are left out, and not refused. */
  readonly isLenient: boolean
}

type Report = (pointer: string, detail: string) => undefined

/**
 * Parses the body of a change.
 * @param id the feature's id, if the URL has it
 * @throws GatewayError feature-invalid, with a fault for each thing that is wrong, up to a limit
 */
export function parseItemBody(
  body: unknown,
  collection: Collection,
  kind: BodyKind,
  id: string | undefined,
  { system, isSystemNamed, takesJsonFg, isLenient }: BodyReading,
): ItemBody {
  const faults: Fault[] = []
  const report: Report = (pointer, detail) => {
    // A body of megabytes can have a fault for every few bytes: the search ends here.
    if (faults.length === MAX_FAULTS) throw invalidFeature(faults, true)
    faults.push({ pointer, detail })
  }
  // A trigger may set what a new feature lacks. If it does not, PostgreSQL refuses the row and names the column.
  const lacks: Fault[] = []
  const lack: Report = (pointer, detail) => {
    lacks.push({ pointer, detail })
  }
  const mayLack = kind === 'create' && collection.hasInsertTrigger
  if (!isObject(body)) {
    report('', 'must be a GeoJSON feature: an object with type, geometry and properties')
    throw invalidFeature(faults)
  }
  if (body.type !== 'Feature' && !(kind === 'update' && body.type === undefined))
    report('/type', 'must be "Feature"')
  const refuse: Report = isLenient ? () => undefined : report
  const isFg = takesJsonFg === true && isJsonFg(body)
  for (const name of Object.keys(body)) {
    if (KNOWN_MEMBERS.has(name) || (isFg && JSONFG_MEMBERS.has(name))) continue
    refuse(
      pointerOf(name),
      JSONFG_MEMBERS.has(name)
        ? 'is a member of JSON-FG: a body in it is a single feature with "http://www.opengis.net/spec/json-fg-1/1.0/conf/core" in conformsTo'
        : 'is not a member of a feature; its attributes belong in properties',
    )
  }
  const members: FeatureMembers = isFg
    ? readJsonFg(body, collection, isSystemNamed ? system : undefined, report, refuse)
    : { member: 'geometry', geometry: body.geometry, system, properties: body.properties }
  const foreignCrs = foreignCrsOf(body.crs, members.system)
  if (foreignCrs !== undefined) report('/crs', `is ${describeForeignCrs(foreignCrs, members.system)}`)
  const parsed: ItemBody = {
    id: parseId(body.id, collection, kind, id, report, refuse),
    geometry: parseGeometryMember(members, collection, kind, report),
    assignments: parseProperties(
      members.properties,
      collection,
      kind,
      report,
      mayLack ? lack : report,
      refuse,
    ),
  }
  if (faults.length > 0) throw invalidFeature([...faults, ...lacks])
  return parsed
}

/** @param hasMore true if there are faults that are not named */
export const invalidFeature = (faults: readonly Fault[], hasMore = false) =>
  invalidBody('feature-invalid', faults, hasMore)

function parseId(
  given: unknown,
  { idColumn, idFrom }: Collection,
  kind: BodyKind,
  known: string | undefined,
  report: Report,
  refuse: Report,
): string | undefined {
  const column = idColumn!
  const text = given instanceof ExactNumber ? given.text : typeof given === 'number' ? String(given) : given
  // A feature that is sent back as it was read may have an id that no request could write for a new one.
  const parse = known === undefined ? parseValue : parseStored
  const id = typeof text === 'string' ? parse(text, column) : undefined
  if (known !== undefined) {
    if (given !== undefined && !isSameId(id, known, column))
      report('/id', `must be left out or be that of the URL, ${quoted(known)}: it cannot change`)
    return kind === 'create' ? known : undefined
  }
  if (given === undefined) {
    if (idFrom === 'client') {
      const { expected, example } = describeValue(column)
      report('/id', `is missing: it must be ${expected}, for example ${JSON.stringify(example)}`)
    }
    return undefined
  }
  if (idFrom === 'server') return refuse('/id', 'must be left out: the server gives new features their ids')
  if (id === undefined) return report('/id', `must be ${describeValue(column).expected}`)
  return id
}

/** A number may be written in several ways, as in 1e-7. */
const isSameId = (id: string | undefined, known: string, { kind }: Column) =>
  id === known || (kind === 'number' && Number(id) === Number(known))

function parseGeometryMember(
  { member, geometry, system }: FeatureMembers,
  { geometry: { column, type, dimension, isNullable }, capabilities }: Collection,
  kind: BodyKind,
  report: Report,
): ParsedGeometry | null | undefined {
  const pointer = `/${member}`
  if (geometry === undefined) {
    if (kind !== 'update') report(pointer, 'is missing; use null for a feature without a geometry')
    return undefined
  }
  if (!capabilities!.columns.has(column)) return report(pointer, 'cannot be changed here')
  if (geometry === null) {
    if (!isNullable) report(pointer, 'must not be null in this collection')
    return null
  }
  const base = type.replace(/Z?M?$/, '')
  const wanted = GEOMETRY_TYPES.find((name) => name.toUpperCase() === base)
  // A merge patch may leave out the type if the collection has only one.
  const isPartial = kind === 'update' && wanted && isObject(geometry) && !('type' in geometry)
  try {
    const given = parseGeometry(isPartial ? { ...geometry, type: wanted } : geometry, system)
    // As in an import, a single geometry becomes one of several parts if the collection has these.
    const parsed =
      wanted === `Multi${given.type}`
        ? { ...given, type: wanted, text: asMultiple(given.text, given.type) }
        : given
    if (base !== 'GEOMETRY' && parsed.type !== wanted) {
      return report(
        `${pointer}/type`,
        wanted
          ? `must be "${wanted}", like all features of this collection, but is "${parsed.type}"`
          : `is "${parsed.type}", but this collection holds ${type}, which GeoJSON cannot express`,
      )
    }
    if (dimension !== undefined && parsed.dimension !== dimension && !parsed.isEmpty) {
      return report(
        `${pointer}/coordinates`,
        dimension === 3
          ? 'must have positions with a height, like all features of this collection'
          : 'must have positions of two numbers: this collection has no heights',
      )
    }
    if (parsed.hasFurtherNumbers)
      return report(`${pointer}/coordinates`, 'must have positions of at most three numbers')
    return parsed
  } catch (error) {
    if (error instanceof GeometryError) return report(pointer, error.message)
    throw error
  }
}

function parseProperties(
  properties: unknown,
  collection: Collection,
  kind: BodyKind,
  report: Report,
  /** Called for a value that a new feature needs and the body does not have. */
  reportMissing: Report,
  /** Called for a member that cannot be set. */
  refuse: Report,
): ColumnValue[] {
  if (properties === undefined && kind === 'update') return []
  if (!isObject(properties) && !(properties === null && kind !== 'update')) {
    report('/properties', properties === undefined ? 'is missing' : 'must be an object')
    return []
  }
  const given: JsonObject = properties ?? {}
  const known = namesOf(collection)
  let isListed = false
  for (const name of Object.keys(given)) {
    if (known.has(name)) continue
    const list = isListed ? '' : `, which has ${listed(known)}`
    refuse(pointerOf('properties', name), `is not a property of this collection${list}`)
    isListed = true
  }
  const writable = collection.capabilities!.columns
  const values: ColumnValue[] = []
  for (const column of collection.properties) {
    // Object.hasOwn, because what every object inherits is not a property. Editors send null for fields that were
    // left blank in a new feature; if the column cannot be null, its default is meant.
    const isBlank =
      (kind === 'create' || (kind === 'replace' && column.kind !== 'number')) &&
      given[column.name] === null &&
      !column.isNullable &&
      column.hasDefault
    if (!Object.hasOwn(given, column.name) || isBlank) {
      if (kind !== 'update' && isRequired(column))
        reportMissing(pointerOf('properties', column.name), `is missing: it must be ${expectedOf(column)}`)
      continue
    }
    if (!writable.has(column.name)) {
      // A client that replaces a feature sends back everything it has read, including computed values.
      if (kind !== 'replace' || !column.isComputed)
        refuse(
          pointerOf('properties', column.name),
          column.isComputed ? 'is computed by the database: leave it out' : 'cannot be changed here',
        )
      continue
    }
    if (isMerged(given[column.name], column, kind) && isSpread(collection)) {
      report(
        pointerOf('properties', column.name),
        'can only be replaced, with PUT: its table is distributed over nodes, which cannot merge it',
      )
      continue
    }
    const value = parseProperty(given[column.name], column, kind)
    if (value !== undefined) values.push({ column, value })
    else
      report(
        pointerOf('properties', column.name),
        `must ${given[column.name] === null ? 'not be null, but ' : 'be '}${expectedOf(column)}`,
      )
  }
  return values
}

const names = new WeakMap<Collection, ReadonlySet<string>>()

/** Returns the names of a collection's properties: the same set for each of the many features of a body. */
function namesOf(collection: Collection): ReadonlySet<string> {
  let known = names.get(collection)
  if (!known) {
    known = new Set(collection.properties.map(({ name }) => name))
    names.set(collection, known)
  }
  return known
}

/** Completes "must be …". */
function expectedOf(column: Column): string {
  const { labels, isArray, isComposite, maxLength, maxDigits, isNullable, kind, type } = column
  const orNull = isNullable ? ', or null' : ''
  if (kind === 'other' && (isComposite || type === 'hstore'))
    return `${isArray ? 'a list of objects' : 'an object'} as it is read${orNull}`
  if (labels) return `one of ${listed(labels.map((label) => JSON.stringify(label)))}${orNull}`
  if (isArray) return `a list of values${orNull}`
  if (kind === 'json') return `JSON that the database can hold${orNull}`
  const { expected, example } = describeValue(column)
  const length = maxLength ? ` of at most ${maxLength} characters` : ''
  const digits = maxDigits ? ` of at most ${maxDigits} digits before the decimal point` : ''
  const shown = /^(integer|number|boolean)$/.test(kind) ? example : JSON.stringify(example)
  return `${expected}${length}${digits}${orNull}, for example ${shown}`
}

/** Parses the value of a property. @returns undefined if the column cannot hold it */
function parseProperty(given: unknown, column: Column, kind: BodyKind): ColumnValue['value'] | undefined {
  if (given === null && kind !== 'create' && column.kind === 'number') return { blank: true }
  if (given === null) return column.isNullable ? null : undefined
  if (column.kind === 'json') {
    if (!isStorable(given)) return undefined
    if (kind !== 'update' || !isObject(given)) return JSON.stringify(given)
    return countObjects(given) <= MAX_PATCHED_OBJECTS ? { patch: given } : undefined
  }
  if (isObject(given) && isStorable(given)) return parseMembers(given, column, kind)
  if (column.isArray) return Array.isArray(given) && isStorable(given) ? parseList(given, column) : undefined
  const text = textOf(given, column)
  if (text === undefined || !isStorable(text)) return undefined
  const value = parseValue(text, column)
  return value !== undefined && fits(value, column) ? value : undefined
}

/** Returns true for a patch of a composite value. */
const isMerged = (given: unknown, { isComposite, isArray }: Column, kind: BodyKind) =>
  kind === 'update' && isComposite && !isArray && isObject(given)

/** Parses an object for a column that shows its values as objects, but stores them in another form. */
function parseMembers(
  given: JsonObject,
  { type, isArray, isComposite }: Column,
  kind: BodyKind,
): ColumnValue['value'] | undefined {
  if (isArray || !(isComposite || type === 'hstore')) return undefined
  if (kind === 'update') {
    const isPatch = isComposite ? countObjects(given) <= MAX_PATCHED_OBJECTS : hstoreOf(given) !== undefined
    return isPatch ? { patch: given } : undefined
  }
  return isComposite ? { json: given } : hstoreOf(given)
}

/** Returns the text of a JSON value, if its type fits the column: "5" is not a number, and 5 is not a text. */
function textOf(given: unknown, { kind }: Column): string | undefined {
  const number =
    given instanceof ExactNumber
      ? given.text
      : typeof given === 'number'
        ? // String() drops the sign of -0.
          Object.is(given, -0)
          ? '-0'
          : String(given)
        : undefined
  switch (kind) {
    case 'integer':
      return number
    case 'number':
      return number ?? (typeof given === 'string' && isNonFinite(given) ? given : undefined)
    case 'boolean':
      return typeof given === 'boolean' ? String(given) : undefined
    case 'other':
      // PostgreSQL decides whether it can parse the text.
      return (
        number ?? (typeof given === 'boolean' ? String(given) : typeof given === 'string' ? given : undefined)
      )
    default:
      return typeof given === 'string' ? given : undefined
  }
}

function fits(text: string, { type, maxLength, maxDigits, labels, kind }: Column): boolean {
  if (labels) return labels.includes(text)
  // PostgreSQL counts characters, not UTF-16 units, and drops spaces beyond the length.
  if (kind === 'string' && maxLength !== undefined)
    return [...text.trimEnd()].length <= maxLength && text.length <= maxLength * 2 + MAX_PADDING
  if (kind !== 'number' || isNonFinite(text)) return true
  const value = Number(text)
  if (type === 'float4')
    return Number.isFinite(Math.fround(value)) && (value === 0 || Math.fround(value) !== 0)
  return maxDigits === undefined || Math.abs(value) < 10 ** maxDigits
}

/** Parses a list for a column of lists. */
function parseList(
  list: readonly unknown[],
  { type, isComposite }: Column,
): ColumnValue['value'] | undefined {
  if (isComposite || type === '_json' || type === '_jsonb') return { json: list }
  // The types of the catalog's own lists, whose text has no braces.
  if (type === 'int2vector' || type === 'oidvector') return list.join(' ')
  return textsOf(list, type === '_hstore')
}

/** Returns the elements of a list as text, and nested lists as lists; undefined if an element is an object. */
function textsOf(list: readonly unknown[], mayBeHstore: boolean): unknown[] | undefined {
  const elements = list.map((element) => {
    if (element === null) return null
    if (Array.isArray(element)) return textsOf(element, mayBeHstore)
    if (element instanceof ExactNumber) return element.text
    if (isObject(element)) return mayBeHstore ? hstoreOf(element) : undefined
    return String(element)
  })
  return elements.includes(undefined) ? undefined : elements
}

/** Returns the number of nested objects, this one included, into which a merge patch has to descend. */
const countObjects = (value: unknown): number =>
  isObject(value) ? Object.values(value).reduce<number>((sum, member) => sum + countObjects(member), 1) : 0

/** Returns true if PostgreSQL can store the value: text without NUL and half surrogate pairs, and no huge exponents. */
function isStorable(value: unknown): boolean {
  if (typeof value === 'string') return !value.includes('\0') && value.isWellFormed()
  if (value instanceof ExactNumber) return Math.abs(exponentOf(value)) <= MAX_EXPONENT
  if (Array.isArray(value)) return value.every(isStorable)
  return (
    !isObject(value) ||
    Object.entries(value).every(([name, member]) => isStorable(name) && isStorable(member))
  )
}

function exponentOf({ text }: ExactNumber): number {
  const sign = text.search(/[eE]/)
  return sign < 0 ? 0 : Number(text.slice(sign + 1))
}
