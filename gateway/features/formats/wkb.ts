// Owns reading WKB: in the form of PostGIS, which has flags and an SRID, and in that of ISO.

/** A geometry, whose coordinates stay where they are in the bytes. */
export type Wkb = {
  /** 1 for a point up to 7 for a collection; surfaces of faces are multipolygons, and triangles polygons. */
  readonly type: number
  readonly hasZ: boolean
  readonly hasM: boolean
  /** Lines of positions: one for a point or a line, the rings of a polygon. */
  readonly lines: readonly Line[]
  /** Members of a multiple geometry or a collection. */
  readonly parts: readonly Wkb[]
}
/** @param at index of the first coordinate in the bytes */
type Line = { readonly at: number; readonly count: number; readonly isLittleEndian: boolean }

export const [POINT, LINE, POLYGON, MULTI_POINT, MULTI_LINE, MULTI_POLYGON, COLLECTION] = [
  1, 2, 3, 4, 5, 6, 7,
]

const [FLAG_Z, FLAG_M, FLAG_SRID] = [0x80000000, 0x40000000, 0x20000000]
/** Types whose members have the same form as those of another one. */
const ALIKE: Readonly<Record<number, number>> = { 15: MULTI_POLYGON!, 16: MULTI_POLYGON!, 17: POLYGON! }

export const bytesInPosition = ({ hasZ, hasM }: Pick<Wkb, 'hasZ' | 'hasM'>) =>
  16 + (hasZ ? 8 : 0) + (hasM ? 8 : 0)

/** Returns the geometry that the bytes hold. */
export function parseWkb(view: DataView): Wkb {
  let at = 0
  const parse = (): Wkb => {
    const isLittleEndian = view.getUint8(at) === 1
    const uint = () => {
      at += 4
      return view.getUint32(at - 4, isLittleEndian)
    }
    at += 1
    const code = uint()
    if (code & FLAG_SRID) at += 4
    const plain = code & 0xffff
    const dimensions = Math.floor(plain / 1000)
    const hasZ = (code & FLAG_Z) !== 0 || dimensions === 1 || dimensions === 3
    const hasM = (code & FLAG_M) !== 0 || dimensions >= 2
    const type = ALIKE[plain % 1000] ?? plain % 1000
    const size = bytesInPosition({ hasZ, hasM })
    const line = (count: number): Line => {
      at += count * size
      return { at: at - count * size, count, isLittleEndian }
    }
    const repeat = <T>(read: () => T) => Array.from({ length: uint() }, read)
    if (type < POINT! || type > COLLECTION!) throw new Error(`WKB has a geometry of type ${type}`)
    if (type === POINT) {
      // An empty point is one of two NaN.
      const isEmpty =
        Number.isNaN(view.getFloat64(at, isLittleEndian)) &&
        Number.isNaN(view.getFloat64(at + 8, isLittleEndian))
      const position = line(1)
      return { type, hasZ, hasM, lines: isEmpty ? [] : [position], parts: [] }
    }
    if (type === LINE) return { type, hasZ, hasM, lines: [line(uint())], parts: [] }
    if (type === POLYGON) return { type, hasZ, hasM, lines: repeat(() => line(uint())), parts: [] }
    return { type, hasZ, hasM, lines: [], parts: repeat(parse) }
  }
  return parse()
}

/** Calls back with the bytes and the index of the first coordinate of each position. */
export function eachPosition(geometry: Wkb, use: (at: number, isLittleEndian: boolean) => void) {
  const size = bytesInPosition(geometry)
  for (const { at, count, isLittleEndian } of geometry.lines)
    for (let index = 0; index < count; index++) use(at + index * size, isLittleEndian)
  for (const part of geometry.parts) eachPosition(part, use)
}

/** Returns the geometry in ISO's WKB, with heights but without measures. */
export function writeWkb(source: DataView, geometry: Wkb): Uint8Array {
  const bytes = new Uint8Array(sizeOf(geometry))
  const view = new DataView(bytes.buffer)
  let next = 0
  const uint = (value: number) => {
    view.setUint32(next, value, true)
    next += 4
  }
  const write = ({ type, hasZ, hasM, lines, parts }: Wkb) => {
    view.setUint8(next++, 1)
    uint(type + (hasZ ? 1000 : 0))
    const size = bytesInPosition({ hasZ, hasM })
    const axes = hasZ ? 3 : 2
    if (type >= MULTI_POINT!) uint(parts.length)
    if (type === POLYGON) uint(lines.length)
    if (type === POINT && lines.length === 0)
      for (let axis = 0; axis < axes; axis++, next += 8) view.setFloat64(next, Number.NaN, true)
    for (const { at, count, isLittleEndian } of lines) {
      if (type !== POINT) uint(count)
      for (let index = 0; index < count; index++)
        for (let axis = 0; axis < axes; axis++, next += 8)
          view.setFloat64(next, source.getFloat64(at + index * size + 8 * axis, isLittleEndian), true)
    }
    for (const part of parts) write(part)
  }
  write(geometry)
  return bytes
}

function sizeOf({ type, hasZ, lines, parts }: Wkb): number {
  const position = hasZ ? 24 : 16
  const head = 5 + (type === POLYGON || type >= MULTI_POINT! ? 4 : 0)
  const own = lines.reduce((sum, { count }) => sum + (type === POINT ? 0 : 4) + count * position, 0)
  const empty = type === POINT && lines.length === 0 ? position : 0
  return parts.reduce((sum, part) => sum + sizeOf(part), head + own + empty)
}
