// Owns FlatGeobuf (version 3): a header with the columns, then features one by one, without an index and without a count.
// Each is a FlatBuffers table, which is laid out here by hand: https://github.com/flatgeobuf/flatgeobuf, src/fbs.

import type { Column } from '../values/column.ts'
import type { CoordinateSystem } from '../values/coordinate-system.ts'
import { type Layout, makeEncoder } from './encoder.ts'
import type { Format } from './format.ts'
import { columnsOf, type FeatureRecord, parseRecords, recordFeatures } from './record.ts'
import {
  bytesInPosition,
  COLLECTION,
  LINE,
  MULTI_LINE,
  MULTI_POINT,
  MULTI_POLYGON,
  POINT,
  POLYGON,
  parseWkb,
  type Wkb,
} from './wkb.ts'

export const FLATGEOBUF: Format = {
  name: 'fgb',
  types: ['application/flatgeobuf', 'application/vnd.flatgeobuf'],
  title: 'FlatGeobuf',
}

const MAGIC = Uint8Array.of(0x66, 0x67, 0x62, 0x03, 0x66, 0x67, 0x62, 0x01)

/** Types of columns. */
const [BOOL, SHORT, INT, LONG, FLOAT, DOUBLE, STRING, JSON_TEXT, DATE_TIME, BINARY] = [
  2, 3, 5, 7, 9, 10, 11, 12, 13, 14,
]
const TYPES: Readonly<Record<string, number>> = {
  int2: SHORT!,
  int4: INT!,
  int8: LONG!,
  float4: FLOAT!,
  float8: DOUBLE!,
  // There is no type with more digits.
  numeric: DOUBLE!,
  bool: BOOL!,
  date: DATE_TIME!,
  timestamp: DATE_TIME!,
  timestamptz: DATE_TIME!,
  json: JSON_TEXT!,
  jsonb: JSON_TEXT!,
  hstore: JSON_TEXT!,
  bytea: BINARY!,
}
const typeOf = ({ type, isArray, isComposite }: Column) =>
  isArray || isComposite ? JSON_TEXT! : Object.hasOwn(TYPES, type) ? TYPES[type]! : STRING!

/** Bytes that grow. Positions count from the size before a table, from which FlatBuffers align 8-byte values. */
function makeBytes() {
  let bytes = Buffer.allocUnsafe(64 * 1024)
  let view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  let at = 0
  const take = (count: number) => {
    const start = at
    at += count
    if (at > bytes.length) {
      const larger = Buffer.allocUnsafe(Math.max(at, bytes.length * 2))
      bytes.copy(larger, 0, 0, start)
      bytes = larger
      view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
    }
    return start
  }
  return {
    /** Reserves bytes. @returns where they begin */
    take,
    /** Fills up with zeros until the position is a multiple of `size`, or that much beyond it. */
    align(base: number, size: number, beyond = 0) {
      const missing = (size - ((at - base - beyond) % size)) % size
      const start = take(missing)
      bytes.fill(0, start, at)
    },
    get at() {
      return at
    },
    get view() {
      return view
    },
    get bytes() {
      return bytes
    },
  }
}
type Bytes = ReturnType<typeof makeBytes>

/**
 * Writes a table: its list of fields, then itself, with room for an offset or four bytes of each field.
 * @param fields true for those that it has
 * @returns the position of each field; one that it does not have has none
 */
function table(out: Bytes, base: number, fields: readonly boolean[]) {
  out.align(base, 4)
  const present = fields.filter(Boolean).length
  const list = out.take(4 + 2 * fields.length)
  out.view.setUint16(list, 4 + 2 * fields.length, true)
  out.view.setUint16(list + 2, 4 + 4 * present, true)
  out.align(base, 4)
  const start = out.take(4 + 4 * present)
  out.bytes.fill(0, start, out.at)
  out.view.setInt32(start, start - list, true)
  let next = 4
  const positions = fields.map((has, index) => {
    out.view.setUint16(list + 4 + 2 * index, has ? next : 0, true)
    if (!has) return -1
    next += 4
    return start + next - 4
  })
  return { start, positions }
}

/** Sets a field to what comes next. */
const pointHere = (out: Bytes, field: number, to = out.at) => out.view.setUint32(field, to - field, true)

function text(out: Bytes, base: number, field: number, value: string) {
  out.align(base, 4)
  pointHere(out, field)
  const length = Buffer.byteLength(value)
  const start = out.take(4 + length + 1)
  out.view.setUint32(start, length, true)
  out.bytes.write(value, start + 4)
  out.bytes[start + 4 + length] = 0
}

/** Starts a vector of values of this many bytes each. @returns where the first one is */
function vector(out: Bytes, base: number, field: number, count: number, size: number): number {
  out.align(base, Math.max(4, size), size === 8 ? 4 : 0)
  pointHere(out, field)
  const start = out.take(4 + count * size)
  out.view.setUint32(start, count, true)
  return start + 4
}

/** Writes a table with its size before it. */
function sized(out: Bytes, write: (base: number) => number) {
  const base = out.take(8)
  const start = write(base)
  out.view.setUint32(base + 4, start - base - 4, true)
  out.align(base, 8)
  out.view.setUint32(base, out.at - base - 4, true)
}

type Dimensions = Pick<Wkb, 'hasZ' | 'hasM'>

function header(
  out: Bytes,
  crs: CoordinateSystem,
  { collection }: Layout,
  columns: readonly Column[],
  type: number,
  { hasZ, hasM }: Dimensions,
) {
  const { title, description } = collection
  sized(out, (base) => {
    const all = columns.length > 0
    const { start, positions } = table(out, base, [
      true,
      false,
      true,
      hasZ,
      hasM,
      false,
      false,
      all,
      false,
      true,
      true,
      true,
      description !== undefined,
    ])
    const [name, , kind, z, m, , , list, , nodeSize, systemAt, titleAt, descriptionAt] = positions as number[]
    out.view.setUint8(kind!, type)
    if (hasZ) out.view.setUint8(z!, 1)
    if (hasM) out.view.setUint8(m!, 1)
    // Without an index; left out, it would be one of 16.
    out.view.setUint16(nodeSize!, 0, true)
    text(out, base, name!, collection.id)
    text(out, base, titleAt!, title)
    if (description !== undefined) text(out, base, descriptionAt!, description)
    pointHere(out, systemAt!, writeSystem(out, base, crs))
    if (!all) return start
    const first = vector(out, base, list!, columns.length, 4)
    for (const [index, column] of columns.entries()) writeColumn(out, base, first + 4 * index, column)
    return start
  })
}

/** @returns where the table begins */
function writeSystem(out: Bytes, base: number, { authority, code }: CoordinateSystem): number {
  const isNumber = /^\d+$/.test(code)
  const { start, positions } = table(out, base, [true, isNumber, false, false, false, !isNumber])
  const [organization, number, , , , codeText] = positions as number[]
  if (isNumber) out.view.setInt32(number!, Number(code), true)
  else text(out, base, codeText!, code)
  text(out, base, organization!, authority)
  return start
}

function writeColumn(out: Bytes, base: number, field: number, column: Column) {
  const { name, description, isNullable } = column
  const { start, positions } = table(out, base, [
    true,
    true,
    false,
    description !== undefined,
    false,
    false,
    false,
    !isNullable,
  ])
  pointHere(out, field, start)
  const [nameAt, type, , descriptionAt] = positions as number[]
  out.view.setUint8(type!, typeOf(column))
  text(out, base, nameAt!, name)
  if (description !== undefined) text(out, base, descriptionAt!, description)
}

/** Members of a geometry that are geometries themselves; others are lines of one list of coordinates. */
const hasParts = ({ type }: Wkb) => type === MULTI_POLYGON || type === COLLECTION

const linesOf = (geometry: Wkb) =>
  geometry.type === MULTI_POINT || geometry.type === MULTI_LINE
    ? geometry.parts.flatMap(({ lines }) => lines)
    : geometry.lines

/** Returns the geometry without empty members; undefined if it is empty, which the format has no way to say. */
function withoutEmpty(geometry: Wkb): Wkb | undefined {
  const parts = geometry.parts.map(withoutEmpty).filter((part) => part !== undefined)
  const isEmpty = parts.length === 0 && geometry.lines.every(({ count }) => count === 0)
  return isEmpty ? undefined : { ...geometry, parts }
}

/** @param declared what the header declares: a geometry without heights gets NaN for them if all should have some */
function writeGeometry(
  out: Bytes,
  base: number,
  field: number,
  source: DataView,
  geometry: Wkb,
  declared: Dimensions,
) {
  const { type } = geometry
  const isNested = hasParts(geometry)
  const lines = isNested ? [] : linesOf(geometry)
  const count = lines.reduce((sum, line) => sum + line.count, 0)
  // GDAL wants them also of a single line in a multiple one.
  const hasEnds = (lines.length > 1 && type === POLYGON) || type === MULTI_LINE
  const hasZ = !isNested && (geometry.hasZ || declared.hasZ)
  const hasM = !isNested && (geometry.hasM || declared.hasM)
  const { start, positions } = table(out, base, [
    hasEnds,
    !isNested,
    hasZ,
    hasM,
    false,
    false,
    true,
    isNested,
  ])
  pointHere(out, field, start)
  const [ends, xy, z, m, , , kind, parts] = positions as number[]
  out.view.setUint8(kind!, type)
  if (isNested) {
    const first = vector(out, base, parts!, geometry.parts.length, 4)
    for (const [index, part] of geometry.parts.entries())
      writeGeometry(out, base, first + 4 * index, source, part, declared)
    return
  }
  if (hasEnds) {
    let at = vector(out, base, ends!, lines.length, 4)
    let sum = 0
    for (const line of lines) {
      sum += line.count
      out.view.setUint32(at, sum, true)
      at += 4
    }
  }
  const size = bytesInPosition(geometry)
  const copy = (field: number, from: number, width: number, isThere: boolean) => {
    let at = vector(out, base, field, count * width, 8)
    const { view } = out
    for (const line of lines)
      for (let index = 0; index < line.count; index++)
        for (let axis = 0; axis < width; axis++) {
          const value = isThere
            ? source.getFloat64(line.at + index * size + from + 8 * axis, line.isLittleEndian)
            : Number.NaN
          view.setFloat64(at, value, true)
          at += 8
        }
  }
  copy(xy!, 0, 2, true)
  if (hasZ) copy(z!, 16, 1, geometry.hasZ)
  if (hasM) copy(m!, geometry.hasZ ? 24 : 16, 1, geometry.hasM)
}

/** Bytes of values that always have the same number of them. */
const SIZES: Readonly<Record<number, number>> = {
  [BOOL!]: 1,
  [SHORT!]: 2,
  [INT!]: 4,
  [LONG!]: 8,
  [FLOAT!]: 4,
  [DOUBLE!]: 8,
}

/** PostgreSQL's text of bytes begins with \\x. */
const bytesOf = (type: number, value: string) =>
  type === BINARY ? Buffer.from(value.slice(2), 'hex') : Buffer.from(value)

function writeValue(out: Bytes, index: number, type: number, value: string) {
  const bytes = SIZES[type] === undefined ? bytesOf(type, value) : undefined
  const at = out.take(2 + (bytes ? 4 + bytes.length : SIZES[type]!)) + 2
  const { view } = out
  view.setUint16(at - 2, index, true)
  if (bytes) {
    view.setUint32(at, bytes.length, true)
    bytes.copy(out.bytes, at + 4)
  } else if (type === BOOL) view.setUint8(at, value === 'true' ? 1 : 0)
  else if (type === SHORT) view.setInt16(at, Number(value), true)
  else if (type === INT) view.setInt32(at, Number(value), true)
  else if (type === LONG) view.setBigInt64(at, BigInt(value), true)
  else if (type === FLOAT) view.setFloat32(at, Number(value), true)
  else view.setFloat64(at, Number(value), true)
}

type Prepared = {
  readonly record: FeatureRecord
  readonly source: DataView | undefined
  readonly geometry: Wkb | undefined
}

function prepare(record: FeatureRecord): Prepared {
  const [hex] = record
  if (hex === null) return { record, source: undefined, geometry: undefined }
  const bytes = Buffer.from(hex, 'hex')
  const source = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  return { record, source, geometry: withoutEmpty(parseWkb(source)) }
}

function writeFeature(
  out: Bytes,
  { record, source, geometry }: Prepared,
  types: readonly number[],
  declared: Dimensions,
) {
  const hasValues = record.some((value, index) => index > 0 && value !== null)
  sized(out, (base) => {
    const { start, positions } = table(out, base, [geometry !== undefined, hasValues])
    if (geometry) writeGeometry(out, base, positions[0]!, source!, geometry, declared)
    if (hasValues) {
      const first = vector(out, base, positions[1]!, 0, 1)
      for (const [index, type] of types.entries()) {
        const value = record[index + 1]!
        if (value === null) continue
        writeValue(out, index, type, value)
      }
      out.view.setUint32(first - 4, out.at - first, true)
    }
    return start
  })
}

const GEOMETRY_TYPES: Readonly<Record<string, number>> = {
  POINT: POINT!,
  LINESTRING: LINE!,
  POLYGON: POLYGON!,
  MULTIPOINT: MULTI_POINT!,
  MULTILINESTRING: MULTI_LINE!,
  MULTIPOLYGON: MULTI_POLYGON!,
  GEOMETRYCOLLECTION: COLLECTION!,
}

export const flatgeobuf = makeEncoder((system) => ({
  ...recordFeatures(system),
  format: FLATGEOBUF,
  extensions: ['fgb'],
  open(layout) {
    const columns = columnsOf(layout)
    const types = columns.map(typeOf)
    const { type } = layout.collection.geometry
    // 0 is any type.
    const geometryType = GEOMETRY_TYPES[type.replace(/Z?M?$/, '')] ?? 0
    let declared: Dimensions | undefined
    let kept: Uint8Array = MAGIC
    /** The header comes with the first features: a column that takes any geometry does not say if these have heights. */
    const begin = (out: Bytes, features: readonly Prepared[]) => {
      declared = {
        hasZ: /Z/.test(type) || features.some(({ geometry }) => geometry?.hasZ),
        hasM: /M$/.test(type) || features.some(({ geometry }) => geometry?.hasM),
      }
      header(out, system, layout, columns, geometryType, declared)
    }
    return {
      start: () => '',
      write(features) {
        const out = makeBytes()
        const prepared = parseRecords(features).map(prepare)
        if (!declared) begin(out, prepared)
        for (const one of prepared) writeFeature(out, one, types, declared!)
        // The last byte comes with the next features: GDAL takes a file that ends between two features for complete.
        const written = Buffer.concat([kept, out.bytes.subarray(0, out.at - 1)])
        kept = Buffer.from(out.bytes.subarray(out.at - 1, out.at))
        return written
      },
      end() {
        if (declared) return kept
        const out = makeBytes()
        begin(out, [])
        return Buffer.concat([kept, out.bytes.subarray(0, out.at)])
      },
      stamp: () => '',
    }
  },
}))
