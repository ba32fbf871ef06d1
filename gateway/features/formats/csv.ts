// Owns CSV (RFC 4180): a line for each feature. Points are two columns; other geometries are one, as WKT.

import { type SQL, sql } from '../../database/sql.ts'
import type { Collection } from '../collections/collection.ts'
import { type Column, type ColumnKind, columnOf, freeName } from '../values/column.ts'
import type { CoordinateSystem } from '../values/coordinate-system.ts'
import { type GeometryColumn, geometryIn } from '../values/geometry-column.ts'
import { concat } from './concat.ts'
import { type GeometryForm, type Layout, makeEncoder, textsOf } from './encoder.ts'
import type { Format } from './format.ts'
import { columnsOf, textOf } from './record.ts'

export const CSV: Format = { name: 'csv', types: ['text/csv'], title: 'CSV' }

const BYTE_ORDER_MARK = '\ufeff'
const LINE_BREAK = '\r\n'

/** Returns the names of the columns of a geometry. East comes first: a name says what it is, in any system. */
function namesOf({ isGeographic }: CoordinateSystem, { type }: GeometryColumn): readonly string[] {
  if (type !== 'POINT' && type !== 'POINTZ') return ['wkt']
  const position = isGeographic ? ['longitude', 'latitude'] : ['easting', 'northing']
  return type === 'POINT' ? position : [...position, 'height']
}

/** Returns the first line. A column of the table keeps its name; one of the geometry with the same name gets a longer one. */
function headOf(system: CoordinateSystem, { collection, properties, hasGeometry }: Layout): string {
  const own = columnsOf({ collection, properties }).map(({ name }) => name)
  const names = hasGeometry ? namesOf(system, collection.geometry) : []
  const free = names.map((name) => freeName(name, (one) => own.includes(one)))
  return [...own, ...free].map(quotedIfNeeded).join()
}

const quotedIfNeeded = (name: string) => (/^[\w -]+$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`)

/** The geometry comes last, so that it can be replaced in the text of a feature. */
function featureOf(
  system: CoordinateSystem,
  collection: Collection,
  properties: readonly Column[],
  form: GeometryForm,
): SQL {
  const fields = columnsOf({ collection, properties }).map(fieldOf)
  const all = form === 'none' ? fields : [...fields, geometryFields(form, system, collection.geometry)]
  return concat(all.flatMap((field, index) => (index > 0 ? [sql`','`, field] : [field])))
}

const PLAIN = new Set<ColumnKind>(['integer', 'number', 'boolean', 'uuid', 'date', 'timestamp'])

/** Returns the field of a value; an empty one for null, and two quotes for an empty text. */
const fieldOf = (column: Column): SQL =>
  PLAIN.has(column.kind) && !column.isArray ? textOf(column) : quoted(textOf(column))

/** Concatenation takes null for nothing. */
const quoted = (text: SQL) => sql`'"' || replace(${text}, '"', '""') || '"'`

function geometryFields(form: GeometryForm, system: CoordinateSystem, geometry: GeometryColumn): SQL {
  const rest = ','.repeat(namesOf(system, geometry).length - 1)
  if (form === 'converted') return sql`coalesce(${geometryOf(system, geometry)}, ${literal(rest)})`
  const stored = sql`${columnOf({ name: geometry.column })}::text`
  return sql`coalesce('<' || ${stored} || '>', '') || ${literal(rest)}`
}

const literal = (text: string) => sql.raw(`'${text}'`)

/** The geometry as stored in a feature. A text of the table is in quotes. */
const STORED_GEOMETRY = /<([0-9A-F]+)>(,*)$/

/**
 * Returns the fields of the geometry: all digits that its coordinates have, as stored or as PROJ computes them. WKT has the
 * order of axes of its system.
 */
function geometryOf(system: CoordinateSystem, column: GeometryColumn): SQL {
  const axes = namesOf(system, column).length
  const geometry = geometryIn(system.srid, column)
  if (axes === 1)
    return sql`'"' || ST_AsText(${system.isNorthFirst ? sql`ST_FlipCoordinates(${geometry})` : geometry}) || '"'`
  const numbers = ['ST_X', 'ST_Y', 'ST_Z'].slice(0, axes)
  return sql.join(
    numbers.map((axis) => sql`${sql.raw(axis)}(${geometry})::text`),
    sql` || ',' || `,
  )
}

export const csv = makeEncoder((system) => ({
  format: CSV,
  extensions: ['csv'],
  hasLinks: false,
  featureOf: (collection, properties, form) => featureOf(system, collection, properties, form),
  geometryOf: (column) => geometryOf(system, column),
  storedGeometryOf: (feature) => STORED_GEOMETRY.exec(feature)?.[1],
  fillGeometry: (feature, geometry) =>
    feature.replace(STORED_GEOMETRY, (_, _stored, rest: string) => geometry ?? rest),
  mend: () => undefined,
  separator: LINE_BREAK,
  open: (layout) => ({
    start: () => (layout.hasByteOrderMark ? BYTE_ORDER_MARK : '') + headOf(system, layout),
    write(features) {
      let text = ''
      for (const feature of textsOf(features)) text += LINE_BREAK + feature
      return text
    },
    end: () => LINE_BREAK,
    stamp: () => '',
  }),
}))
