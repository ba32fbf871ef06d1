// Owns the step from a checked filter to a condition in SQL: literals are bound, names come from the catalog, and the text
// depends on the filter's form alone.

import type { Fragment } from '../../database/fragment.ts'
import { SQL, StringChunk } from '../../database/sql.ts'
import { areaOf, type Box, isTooWideForProjection, textOfBox } from '../values/box.ts'
import type { CarefulCondition, Condition } from '../values/condition.ts'
import { DEGREES } from '../values/coordinate-system.ts'
import { columnSql, quoted } from './column-sql.ts'
import { always, compareNumbers, isAnyNumber, never } from './compare-numbers.ts'
import { compareTimes, relateTimes } from './compare-times.ts'
import {
  type ArrayOperator,
  COMPARISONS,
  type Comparison,
  SPATIAL,
  type Spatial,
  TEMPORAL,
  type Temporal,
} from './expression.ts'
import { foldSql } from './fold.ts'
import { elementOf, type QueryableGeometry, type Queryables, queryableGeometry } from './queryables.ts'
import type { Shape } from './shape.ts'
import type { ListTerm, Predicate, Term, ValueType, Writer, Written } from './term.ts'

/** Stands for a bound value in SQL: no name of PostgreSQL contains NUL. */
const MARK = /\0(\d+)\0/

/** Returns the condition of a checked filter. */
export function compileFilter(term: Term, { geometry }: Queryables): Condition {
  const condition = { ...compile(term, geometry, true), calls: callsIn(term), varies: callsVaryIn(term) }
  // PROJ can refuse to project a geometry of the filter; see bbox.ts.
  return isProjected(geometry) && condition.usesIndex
    ? { ...condition, withoutIndex: compile(term, geometry, false) }
    : condition
}

/** Returns the names of the functions of the database that a term calls. */
const callsIn = (term: Term) => [
  ...new Set(
    partsOf(term).flatMap((part) => (part.is === 'call' && part.called.isPublished ? part.called.name : [])),
  ),
]

/** Returns true if a term calls a function that can return something else for the same arguments. */
const callsVaryIn = (term: Term) =>
  partsOf(term).some((part) => part.is === 'call' && part.called.varies === true)

/** A table whose rows are all in another system than degrees. */
const isProjected = ({ srid }: QueryableGeometry) => srid !== 4326 && srid !== undefined

function compile(
  term: Term,
  geometry: QueryableGeometry,
  isIndexed: boolean,
): Condition & { usesIndex: boolean } {
  const { fragment, boxes, usesIndex } = write(geometry, isIndexed, (writer) => writer.condition(term))
  const careful = asksGeometry(term) ? () => carefulOf(term, geometry, isIndexed) : undefined
  return { ...fragment, boxes, usesIndex, careful }
}

function carefulOf(term: Term, geometry: QueryableGeometry, isIndexed: boolean): CarefulCondition {
  const parts = partsOf(term)
  const writeText = (sqlOf: (writer: Writer, term: Term) => string) =>
    write(geometry, isIndexed, (writer) => ({ text: sqlOf(writer, term) })).fragment
  return {
    rough: writeText(roughSql),
    sure: writeText(unknownSql),
    test: (column) => write(queryableGeometry(column), false, (writer) => writer.condition(term)).fragment,
    columns: [...new Set(parts.flatMap((part) => (part.is === 'column' ? [part.column] : [])))],
    literals: parts.flatMap((part) => (part.is === 'shape' ? [ewktOf(part.shape)] : [])),
  }
}

type Compiled = {
  readonly fragment: Fragment
  readonly boxes: readonly Box[] | undefined
  /** True if a condition for the index of the geometry was added. */
  readonly usesIndex: boolean
}

function write(
  geometry: QueryableGeometry,
  isIndexed: boolean,
  writeWith: (writer: Writer) => Written,
): Compiled {
  const values: unknown[] = []
  let usesIndex = false
  const nearby = (boxes: readonly Box[] | undefined) => {
    const near = isIndexed && boxes ? nearSql(writer, boxes, geometry) : undefined
    if (near) usesIndex = true
    return near
  }
  const writer: Writer = {
    bind: (value) => `\0${values.push(value) - 1}\0`,
    term: (one) => (one.is === 'geometry' ? quoted(geometry.column) : termSql(writer, one)),
    condition: (one) => conditionOf(writer, one),
    relate(op, left, right) {
      const { text, boxes } = relateGeometries(writer, op, left, right, geometry)
      // PostGIS uses the index of a column that needs no transformation by itself.
      const srid = systemOfRelation(left, right)
      const isDirect = geometry.srid === srid && (srid === DEGREES || geometry.in(srid) === geometry.stored)
      const near = isDirect ? undefined : nearby(boxes)
      return { text: near ? `(${near} and ${text})` : text, boxes }
    },
    geometry: (one) => geometrySql(writer, one, geometry),
    geography: (one) => geographySql(writer, one, geometry),
    within(text, boxes) {
      if (!/^(MULTI)?POINT/.test(geometry.type)) return { text }
      const near = nearby(boxes)
      return near ? { text: `(${near} and ${text})`, boxes } : { text }
    },
    nearby,
  }
  const { text, boxes } = writeWith(writer)
  const parts = text.split(MARK)
  const fragment = {
    shape: `filter ${JSON.stringify(text)}`,
    values,
    // Every second part is the number of a value.
    compose: (...placeholders: SQL[]) =>
      new SQL(parts.map((part, index) => (index % 2 ? placeholders[Number(part)]! : new StringChunk(part)))),
  }
  return { fragment, boxes, usesIndex }
}

/** Returns a term and all terms in it. */
function partsOf(term: Term): Term[] {
  const inner =
    term.is === 'interval'
      ? [term.start, term.end]
      : term.is === 'list'
        ? term.items
        : term.is === 'fold'
          ? [term.operand]
          : 'operands' in term
            ? term.operands
            : []
  return [term, ...inner.flatMap(partsOf)]
}

/** Returns true if PostGIS must compute with the geometry of the row, or relate geometries of the filter: both can fail. */
const asksGeometry = (term: Term): boolean =>
  partsOf(term).some(
    (part) =>
      'operands' in part &&
      part.operands.some(({ type }) => type === 'geometry') &&
      !(part.is === 'predicate' && part.op === 'isNull'),
  )

/**
 * Returns SQL that never fails, and is true wherever the condition can be. What is asked of geometries is unknown in it:
 * by the logic of three values, a condition that is true is then true or unknown.
 */
function roughSql(writer: Writer, term: Term): string {
  if (!asksGeometry(term)) return writer.condition(term).text
  if (term.is === 'predicate') {
    const { op, operands } = term
    if (op === 'and' || op === 'or')
      return `(${operands.map((operand) => roughSql(writer, operand)).join(` ${op} `)})`
    if (op === 'not') return `(${unknownSql(writer, term)} is not false)`
  }
  return writer.nearby(writer.condition(term).boxes) ?? 'true'
}

/** Returns the condition with what it asks of geometries unknown: where it is true, it is true whatever they are. */
function unknownSql(writer: Writer, term: Term): string {
  if (!asksGeometry(term)) return writer.condition(term).text
  const { op, operands } = term as Predicate
  if (op === 'not') return `(not ${unknownSql(writer, operands[0]!)})`
  if (op === 'and' || op === 'or')
    return `(${operands.map((operand) => unknownSql(writer, operand)).join(` ${op} `)})`
  return 'null::boolean'
}

function conditionOf(writer: Writer, term: Term): Written {
  if (term.is === 'call') return term.called.write(writer, term.operands)
  if (term.is !== 'predicate') return { text: termSql(writer, term) }
  const { op, operands } = term
  switch (op) {
    case 'and':
    case 'or': {
      const all = operands.map((operand) => writer.condition(operand))
      return {
        text: `(${all.map(({ text }) => text).join(` ${op} `)})`,
        boxes: op === 'and' ? smallest(all) : together(all),
      }
    }
    case 'not':
      return { text: `(not ${writer.condition(operands[0]!).text})` }
    default:
  }
  if ((SPATIAL as readonly string[]).includes(op))
    return writer.relate(op as Spatial, operands[0]!, operands[1]!)
  return { text: conditionSql(writer, term) }
}

/** Returns the smallest boxes that any condition is confined to. */
const smallest = (all: readonly Written[]) =>
  all.flatMap(({ boxes }) => (boxes ? [boxes] : [])).toSorted((a, b) => areaOf(a) - areaOf(b))[0]

/** Returns the boxes of all alternatives; undefined if one of them can be met anywhere. */
const together = (all: readonly Written[]) =>
  all.every(({ boxes }) => boxes) ? all.flatMap(({ boxes }) => boxes!) : undefined

function conditionSql(writer: Writer, { op, operands }: Predicate): string {
  const [first, second, third] = operands as readonly [Term, Term, Term]
  const compare = (left: Term, comparison: Comparison, right: Term) =>
    compareSql(writer, left, comparison, right)
  if ((COMPARISONS as readonly string[]).includes(op)) return compare(first, op as Comparison, second)
  if ((TEMPORAL as readonly string[]).includes(op)) return relateTimes(writer, op as Temporal, first, second)
  switch (op) {
    case 'between':
      return `(${compare(first, '>=', second)} and ${compare(first, '<=', third)})`
    case 'in':
      return inSql(writer, first, second as ListTerm)
    case 'like':
      return `(${textSql(writer, first)} like ${patternSql(writer, first, second)})`
    case 'isNull':
      return isNullSql(writer, first)
    default:
      return relateLists(writer, op as ArrayOperator, first, second)
  }
}

function compareSql(writer: Writer, left: Term, op: Comparison, right: Term): string {
  switch (left.type) {
    case 'number':
      return compareNumbers(writer, left, op, right)
    case 'date':
    case 'timestamp':
      return compareTimes(writer, left, op, right)
    case 'string':
      return compareTexts(writer, left, op, right)
    default:
      return `(${writer.term(left)} ${op} ${writer.term(right)})`
  }
}

/** Two texts that are no literals can have different collations; then that of the database decides. */
const COLLATED = ' collate "default"'

function compareTexts(writer: Writer, left: Term, op: Comparison, right: Term): string {
  if (left.is === 'literal' && right.is === 'literal')
    return `(${writer.term(left)} ${op} ${writer.term(right)})`
  // A text that is none of the column's values is equal to no row, and is ordered among their texts.
  const isForeign = [left, right].some((term) => term.is === 'literal' && term.isForeign)
  const column = [left, right].find((term) => term.is === 'column')?.column
  if (isForeign && column && (op === '=' || op === '<>')) return op === '=' ? never(column) : always(column)
  if (left.is === 'literal' && !isForeign)
    return `(${boundText(writer, left.text, right)} ${op} ${valueSql(writer, right)})`
  if (right.is === 'literal' && !isForeign)
    return `(${valueSql(writer, left)} ${op} ${boundText(writer, right.text, left)})`
  return `(${textSql(writer, left)} ${op} ${textSql(writer, right)}${COLLATED})`
}

/** Returns the text as a value of the column that it is compared with, whose type PostgreSQL infers. */
const boundText = (writer: Writer, text: string, other: Term) =>
  // A name would be cut off at its greatest length.
  `${writer.bind(text)}${other.is === 'column' && other.column.type !== 'name' ? '' : '::text'}`

const valueSql = (writer: Writer, term: Term) =>
  term.is === 'column' ? columnSql(term.column) : writer.term(term)

/** Types that are texts to PostgreSQL, with the operators of texts. */
const TEXT_TYPES = /^(text|varchar|citext)$/

function textSql(writer: Writer, term: Term): string {
  if (term.is !== 'column') return writer.term(term)
  const { column } = term
  return TEXT_TYPES.test(column.type) ? columnSql(column) : `${columnSql(column)}::text`
}

const patternSql = (writer: Writer, text: Term, pattern: Term) =>
  pattern.is === 'literal' && text.is === 'column' ? writer.bind(pattern.text) : writer.term(pattern)

/** Types of lists that are compared with a value that is no column, and of lists with values that are none. */
const ELEMENT_TYPES: Partial<Record<ValueType, string>> = {
  number: 'numeric',
  string: 'text',
  boolean: 'boolean',
  date: 'date',
  timestamp: 'timestamptz',
}

function inSql(writer: Writer, value: Term, { items }: ListTerm): string {
  const texts = items.flatMap((item) => (item.is === 'literal' ? [item.text] : []))
  const isConstant = texts.length === items.length && items.every(({ type }) => type === value.type)
  if (isConstant && value.is === 'column') {
    const { column } = value
    if (value.type === 'number') return isAnyNumber(writer, column, texts)
    const known = items.flatMap((item) => (item.is === 'literal' && !item.isForeign ? [item.text] : []))
    if (known.length === 0) return never(column)
    if (column.type !== 'timestamp')
      return `(${columnSql(column)} = any(${writer.bind(known)}${column.type === 'name' ? '::text[]' : ''}))`
  }
  if (items.length === 0) return `(${writer.term(value)} = any(array[]::${ELEMENT_TYPES[value.type]}[]))`
  // Dates among times are compared by days. Neither is ever long.
  if (value.type === 'date' || value.type === 'timestamp')
    return `(${items.map((item) => compareTimes(writer, value, '=', item)).join(' or ')})`
  const collated = value.type === 'string' ? COLLATED : ''
  const list = items.map((item) => writer.term(item) + collated)
  return `(${writer.term(value)}${collated} = any(array[${list.join(', ')}]::${ELEMENT_TYPES[value.type]}[]))`
}

function isNullSql(writer: Writer, term: Term): string {
  switch (term.is) {
    case 'column':
      return `(${columnSql(term.column)} is null)`
    case 'literal':
    case 'shape':
    case 'list':
      return 'false'
    case 'interval':
      return `(${[term.start, term.end].map((bound) => isNullSql(writer, bound)).join(' or ')})`
    default:
      return `((${writer.term(term)}) is null)`
  }
}

const LIST_OPERATORS: Readonly<Record<Exclude<ArrayOperator, 'a_equals'>, string>> = {
  a_contains: '@>',
  a_containedBy: '<@',
  a_overlaps: '&&',
}

/** Compares lists as sets. */
function relateLists(writer: Writer, op: ArrayOperator, left: Term, right: Term): string {
  const [one, other] = listsSql(writer, left, right)
  if (op === 'a_equals') return `(${one} @> ${other} and ${one} <@ ${other})`
  return `(${one} ${LIST_OPERATORS[op]} ${other})`
}

/** Returns two lists of one type: that of the only column, or a common one. */
function listsSql(writer: Writer, left: Term, right: Term): readonly [string, string] {
  const columns = [left, right].flatMap((term) => (term.is === 'column' ? [term.column] : []))
  const items = [left, right].flatMap((term) => (term.is === 'list' ? term.items : []))
  const element = columns[0] && elementOf(columns[0])
  const isExact =
    element &&
    columns.every(({ type }) => type === columns[0]!.type) &&
    items.every(
      (item) => item.is === 'literal' && !item.isForeign && (element.kind !== 'integer' || fits(item.text)),
    )
  // Integers beyond the column's type, and fractions, are compared as decimal numbers; texts that are no UUIDs as texts.
  const kind = items[0]?.type ?? (element && typeOfElement(element.kind)) ?? 'string'
  const type = isExact ? quoted(element.type) : ELEMENT_TYPES[kind]!
  const listOf = (term: Term): string => {
    if (term.is === 'column') return isExact ? columnSql(term.column) : `${columnSql(term.column)}::${type}[]`
    const { items } = term as ListTerm
    return items.every((item) => item.is === 'literal')
      ? `${writer.bind(items.map((item) => (item as { text: string }).text))}::${type}[]`
      : `array[${items.map((item) => writer.term(item)).join(', ')}]::${type}[]`
  }
  return [listOf(left), listOf(right)]
}

const fits = (text: string) => /^-?\d{1,4}$/.test(text)
const typeOfElement = (kind: string): ValueType =>
  kind === 'integer' || kind === 'number'
    ? 'number'
    : kind === 'boolean' || kind === 'date' || kind === 'timestamp'
      ? kind
      : 'string'

/** Returns a term by its type: numeric, text, boolean, date or timestamptz. */
function termSql(writer: Writer, term: Term): string {
  switch (term.is) {
    case 'literal':
      return literalSql(writer, term.type, term.text)
    case 'column': {
      const sql = columnSql(term.column)
      if (term.type === 'number') return `${sql}::numeric`
      if (term.type === 'string') return textSql(writer, term)
      return term.column.type === 'timestamp' ? `(${sql} at time zone 'UTC')` : sql
    }
    case 'arithmetic':
      return arithmeticSql(term.op, writer.term(term.operands[0]), writer.term(term.operands[1]))
    case 'fold':
      return foldSql(term.how, textFor(writer, term.operand))
    case 'call': {
      const { text } = term.called.write(writer, term.operands)
      return term.type === 'number' ? `${text}::numeric` : text
    }
    case 'predicate':
      return conditionOf(writer, term).text
    default:
      throw new Error(`a ${term.is} is no value`)
  }
}

/** A citext would be compared without regard to case, whatever the filter asks for. */
const textFor = (writer: Writer, term: Term) =>
  term.is === 'column' && term.column.type === 'citext'
    ? `${columnSql(term.column)}::text`
    : writer.term(term)

function literalSql(writer: Writer, type: string, text: string): string {
  if (type === 'boolean') return text
  return `${writer.bind(text)}::${ELEMENT_TYPES[type as ValueType]}`
}

/** Numbers are numeric: they do not overflow. What has no result, like a division by zero, is null. */
function arithmeticSql(op: string, left: string, right: string): string {
  switch (op) {
    case 'div':
      return `div(${left}, nullif(${right}, 0))`
    case '/':
    case '%':
      return `(${left} ${op} nullif(${right}, 0))`
    case '^':
      return powerSql(`(${left})::float8`, `(${right})::float8`)
    default:
      return `(${left} ${op} ${right})`
  }
}

/** Powers are computed in float8, because one of numeric can have any number of digits. Those beyond it are null. */
const powerSql = (base: string, exponent: string) =>
  `(case when ${base} = 0 then case when ${exponent} > 0 then 0 when ${exponent} = 0 then 1 end
    when ${base} < 0 and ${exponent} <> trunc(${exponent}) then null
    when least(greatest(${exponent}, -1e9), 1e9) * ln(abs(${base})) between -700 and 700 then power(${base}, ${exponent}) end)::numeric`

const POSTGIS: Readonly<Record<Spatial, string>> = {
  s_contains: 'ST_Contains',
  s_crosses: 'ST_Crosses',
  s_disjoint: 'ST_Disjoint',
  s_equals: 'ST_Equals',
  s_intersects: 'ST_Intersects',
  s_overlaps: 'ST_Overlaps',
  s_touches: 'ST_Touches',
  s_within: 'ST_Within',
}

/**
 * Relates geometries in degrees, as bbox does.
 * @returns also the boxes of the filter's geometry, if only features that intersect them can meet the condition
 */
function relateGeometries(
  writer: Writer,
  op: Spatial,
  left: Term,
  right: Term,
  geometry: QueryableGeometry,
): Written {
  const shape = [left, right].find((term) => term.is === 'shape')?.shape
  const hasColumn = [left, right].some(({ is }) => is === 'geometry')
  const srid = systemOfRelation(left, right)
  const [one, other] = [left, right].map((term) => geometrySql(writer, term, geometry, srid))
  const related = `${POSTGIS[op]}(${one}, ${other})`
  const text =
    shape?.heights && hasColumn
      ? withHeights(writer, isWithin(op, left) ? 's_within' : op, related, shape.heights, geometry)
      : related
  return { text, boxes: shape && hasColumn && op !== 's_disjoint' ? shape.boxes : undefined }
}

/** Returns the system in which two geometries are compared: that of the filter. */
const systemOfRelation = (left: Term, right: Term) =>
  [left, right].find((term) => term.is === 'shape')?.shape.srid ?? DEGREES

function geometrySql(writer: Writer, term: Term, geometry: QueryableGeometry, srid = DEGREES): string {
  if (term.is === 'geometry') return geometry.in(srid)
  const { shape } = term as Extract<Term, { is: 'shape' }>
  const bound = bindGeometry(writer, shape)
  return shape.srid === srid ? bound : `ST_Transform(${bound}, ${srid})`
}

/** Binds a geometry as such, so that PostgreSQL parses it once and not for each row. */
const bindGeometry = (writer: Writer, shape: Shape) => `${writer.bind(ewktOf(shape))}::geometry`

const ewktOf = ({ text, srid }: Shape) => `SRID=${srid};${text}`

/** True if the feature must lie in the geometry of the filter. */
const isWithin = (op: Spatial, left: Term) => op === (left.is === 'shape' ? 's_contains' : 's_within')

/** A geometry without heights is at every height. */
function withHeights(
  writer: Writer,
  op: Spatial,
  text: string,
  [low, high]: readonly [number, number],
  { stored }: QueryableGeometry,
): string {
  // One that lies in the box has its least height there too, any other may only reach into it.
  const [least, greatest] = op === 's_within' ? ['ST_ZMax', 'ST_ZMin'] : ['ST_ZMin', 'ST_ZMax']
  const isThere = `(ST_Zmflag(${stored}) < 2 or (${least}(${stored}) <= ${writer.bind(high)}::float8 and ${greatest}(${stored}) >= ${writer.bind(low)}::float8))`
  return op === 's_disjoint' ? `(${text} or not ${isThere})` : `(${text} and ${isThere})`
}

/** Longest edge of a geography, in degrees: between opposite points of the Earth there are many shortest ways. */
const MAX_EDGE = 90

/** A geography has neither curves nor edges that go halfway around the Earth. */
function geographySql(writer: Writer, term: Term, geometry: QueryableGeometry): string {
  const sql = geometrySql(writer, term, geometry)
  const isPoints = term.is === 'geometry' && /^(MULTI)?POINT/.test(geometry.type)
  return isPoints ? `${sql}::geography` : `ST_Segmentize(ST_CurveToLine(${sql}), ${MAX_EDGE})::geography`
}

/**
 * Returns the condition for features whose bounding box meets one of these, in the system of the table, so that its index
 * is used; undefined if the boxes are too wide for it. If each row has a system of its own, it is met by those that are
 * not in degrees.
 */
function nearSql(writer: Writer, boxes: readonly Box[], geometry: QueryableGeometry): string | undefined {
  if (isProjected(geometry) && boxes.some(isTooWideForProjection)) return undefined
  const { stored } = geometry
  const all = boxes.map((box) => {
    const outline = `${writer.bind(textOfBox(box))}::geometry`
    return isProjected(geometry)
      ? `${stored} && ST_Transform(ST_Segmentize(${outline}, 1), ${geometry.srid})`
      : `${stored} && ${outline}`
  })
  const near = all.length === 1 ? all[0]! : `(${all.join(' or ')})`
  return geometry.srid === undefined
    ? `(${near} and ST_SRID(${stored}) in (0, 4326) or ST_SRID(${stored}) not in (0, 4326))`
    : near
}
