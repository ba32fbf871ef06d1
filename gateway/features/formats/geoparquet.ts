// Owns GeoParquet 1.1: columns with their types, WKB, and a bounding box of each feature, by which programs skip groups of rows.

import { zstdCompressSync } from 'node:zlib'
import type { SchemaElement } from 'hyparquet-writer'
import { GEOMETRY_TYPES } from '../filter/expression.ts'
import { type Column, freeName } from '../values/column.ts'
import { type Features, type Layout, makeEncoder, type Part, textsOf } from './encoder.ts'
import type { Format } from './format.ts'
import { columnsOf, type FeatureRecord, parseRecords, recordFeatures } from './record.ts'
import { eachPosition, parseWkb, writeWkb } from './wkb.ts'

export const GEOPARQUET: Format = {
  name: 'parquet',
  types: ['application/vnd.apache.parquet'],
  title: 'GeoParquet',
}

/** Rows of a group: more take longer to encode in one go, while the process does nothing else; fewer make a longer footer. */
const GROUP_ROWS = 5_000
/** Bytes of texts after which a group ends early. */
const GROUP_BYTES = 8 * 1024 * 1024

/** How values of a column are written. `parse` returns null for one that the type has no room for. */
type Kind = {
  readonly element: Omit<SchemaElement, 'name'>
  readonly parse: (text: string) => unknown
}

const number = (type: 'INT32' | 'FLOAT' | 'DOUBLE'): Kind => ({ element: { type }, parse: Number })
const TEXT: Kind = { element: { type: 'BYTE_ARRAY', converted_type: 'UTF8' }, parse: (text) => text }
const timestamp = (isAdjustedToUTC: boolean): Kind => ({
  element: { type: 'INT64', logical_type: { type: 'TIMESTAMP', isAdjustedToUTC, unit: 'MICROS' } },
  parse: microsecondsOf,
})

const KINDS: Readonly<Record<string, Kind>> = {
  int2: number('INT32'),
  int4: number('INT32'),
  int8: { element: { type: 'INT64' }, parse: BigInt },
  float4: number('FLOAT'),
  float8: number('DOUBLE'),
  // A decimal would need one scale for all values.
  numeric: number('DOUBLE'),
  bool: { element: { type: 'BOOLEAN' }, parse: (text) => text === 'true' },
  date: { element: { type: 'INT32', converted_type: 'DATE' }, parse: daysOf },
  timestamp: timestamp(false),
  timestamptz: timestamp(true),
  bytea: { element: { type: 'BYTE_ARRAY' }, parse: (text) => Buffer.from(text.slice(2), 'hex') },
}
const kindOf = ({ type, isArray }: Column) => (!isArray && Object.hasOwn(KINDS, type) ? KINDS[type]! : TEXT)

const TIME = /^(\d+)-(\d\d)-(\d\d)(?:T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:([-+])(\d\d)(?::?(\d\d))?)?)?( BC)?$/
const DAY_MS = 86_400_000

/** Returns microseconds since 1970; null for infinity, which has no number. */
function microsecondsOf(text: string): bigint | null {
  const parts = TIME.exec(text)
  if (!parts) return null
  const [
    ,
    year,
    month,
    day,
    hours = 0,
    minutes = 0,
    seconds = 0,
    fraction = '',
    sign,
    east = 0,
    eastMinutes = 0,
    before,
  ] = parts
  const date = new Date(0)
  date.setUTCFullYear(before ? 1 - Number(year) : Number(year), Number(month) - 1, Number(day))
  const offset = (sign === '-' ? -1 : 1) * (Number(east) * 60 + Number(eastMinutes))
  const second = (Number(hours) * 60 + Number(minutes) - offset) * 60 + Number(seconds)
  return BigInt(date.getTime() + second * 1000) * 1000n + BigInt(fraction.padEnd(6, '0'))
}

function daysOf(text: string): number | null {
  const microseconds = microsecondsOf(text)
  return microseconds === null ? null : Number(microseconds / 1000n) / DAY_MS
}

type Box = { xmin: number; ymin: number; xmax: number; ymax: number }
const EDGES = ['xmin', 'ymin', 'xmax', 'ymax'] as const
const NOWHERE: Readonly<Box> = { xmin: Infinity, ymin: Infinity, xmax: -Infinity, ymax: -Infinity }

/** Facts about all geometries, which the file's footer has. */
function makeSummary() {
  const types = new Set<string>()
  const bounds: Box = { ...NOWHERE }
  return {
    types,
    bounds,
    /** Returns the WKB of a geometry and its box; null for one that has no positions. */
    add(hex: string): { readonly wkb: Uint8Array; readonly box: Box | null } {
      const bytes = Buffer.from(hex, 'hex')
      const source = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
      const geometry = parseWkb(source)
      types.add(`${GEOMETRY_TYPES[geometry.type - 1]}${geometry.hasZ ? ' Z' : ''}`)
      const box: Box = { ...NOWHERE }
      eachPosition(geometry, (at, isLittleEndian) => {
        const x = source.getFloat64(at, isLittleEndian)
        const y = source.getFloat64(at + 8, isLittleEndian)
        if (x < box.xmin) box.xmin = x
        if (x > box.xmax) box.xmax = x
        if (y < box.ymin) box.ymin = y
        if (y > box.ymax) box.ymax = y
      })
      const isSomewhere = box.xmin <= box.xmax && box.ymin <= box.ymax
      if (isSomewhere) {
        bounds.xmin = Math.min(bounds.xmin, box.xmin)
        bounds.ymin = Math.min(bounds.ymin, box.ymin)
        bounds.xmax = Math.max(bounds.xmax, box.xmax)
        bounds.ymax = Math.max(bounds.ymax, box.ymax)
      }
      return { wkb: writeWkb(source, geometry), box: isSomewhere ? box : null }
    },
  }
}

function schemaOf(columns: readonly Column[], geometry: string | undefined, box: string): SchemaElement[] {
  const own = columns.map(
    (column): SchemaElement => ({
      ...kindOf(column).element,
      name: column.name,
      repetition_type: 'OPTIONAL',
    }),
  )
  const spatial: SchemaElement[] =
    geometry === undefined
      ? []
      : [
          { name: box, repetition_type: 'OPTIONAL', num_children: EDGES.length },
          ...EDGES.map((name): SchemaElement => ({ name, type: 'DOUBLE', repetition_type: 'REQUIRED' })),
          { name: geometry, type: 'BYTE_ARRAY', repetition_type: 'OPTIONAL' },
        ]
  return [
    { name: 'schema', num_children: columns.length + (geometry === undefined ? 0 : 2) },
    ...own,
    ...spatial,
  ]
}

/** The package takes part of a second to load, and only this format needs it. */
async function open(layout: Layout) {
  const { ByteWriter, ParquetWriter } = await import('hyparquet-writer')
  const columns = columnsOf(layout)
  const kinds = columns.map(kindOf)
  const geometry = layout.hasGeometry ? layout.collection.geometry.column : undefined
  const names = new Set([...columns.map(({ name }) => name), geometry])
  const box = freeName('bbox', (name) => names.has(name))
  const out = new ByteWriter()
  const writer = new ParquetWriter({
    writer: out,
    schema: schemaOf(columns, geometry, box),
    codec: 'ZSTD',
    compressors: { ZSTD: (bytes) => zstdCompressSync(bytes) },
    createdBy: 'Tessera',
  })
  const summary = makeSummary()
  let rows: FeatureRecord[] = []
  let bytes = 0

  /** Takes what has been written since the last time. */
  const take = (): Part => {
    const taken = Buffer.from(out.getBytes())
    out.index = 0
    return taken
  }

  function writeGroup() {
    const own = columns.map(({ name }, index) => ({
      name,
      data: rows.map((row) => {
        const text = row[index + 1]!
        return text === null ? null : kinds[index]!.parse(text)
      }),
      offsetIndex: false,
    }))
    const shapes = rows.map(([hex]) => (hex === null ? undefined : summary.add(hex)))
    const spatial =
      geometry === undefined
        ? []
        : [
            { name: box, data: shapes.map((shape) => shape?.box ?? null), offsetIndex: false },
            {
              name: geometry,
              data: shapes.map((shape) => shape?.wkb ?? null),
              offsetIndex: false,
              statistics: false,
            },
          ]
    writer.write({ columnData: [...own, ...spatial], rowGroupSize: rows.length })
    rows = []
    bytes = 0
  }

  function describe(name: string) {
    const { types, bounds } = summary
    const covering = Object.fromEntries(EDGES.map((edge) => [edge, [box, edge]]))
    return JSON.stringify({
      version: '1.1.0',
      primary_column: name,
      columns: {
        [name]: {
          encoding: 'WKB',
          geometry_types: [...types].sort(),
          ...(bounds.xmin <= bounds.xmax ? { bbox: EDGES.map((edge) => bounds[edge]) } : {}),
          covering: { bbox: covering },
        },
      },
    })
  }

  return {
    start: take,
    write(features: Features) {
      const texts = textsOf(features)
      for (const text of texts) bytes += text.length
      rows.push(...parseRecords(texts))
      if (rows.length >= GROUP_ROWS || bytes >= GROUP_BYTES) writeGroup()
      return take()
    },
    end() {
      if (rows.length > 0) writeGroup()
      if (geometry !== undefined) writer.kvMetadata = [{ key: 'geo', value: describe(geometry) }]
      writer.finish()
      return take()
    },
    stamp: () => '',
  }
}

export const geoparquet = makeEncoder((system) => ({
  ...recordFeatures(system),
  format: GEOPARQUET,
  extensions: ['parquet'],
  // Another system would have to be described in full, in a notation (PROJJSON) that PostGIS does not write.
  isOnlyInDegrees: true,
  open,
}))
