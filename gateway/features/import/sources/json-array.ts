// Owns the objects of a JSON array, as slices of a document that is larger than memory.

import type { Readable } from 'node:stream'
import { MAX_FEATURE_BYTES, SourceError } from './source.ts'

export type Slice = { readonly line: number; readonly bytes: Buffer }

/**
 * The objects of a JSON array, as slices of the source with the line each starts on: of the array that
 * is the whole document, or that of its member "features". Memory holds one chunk and one object.
 * What a slice contains is for JSON.parse to judge; here only brackets and strings are followed.
 */
export async function* readArray(bytes: Readable): AsyncGenerator<Slice[]> {
  const scanner = new ArrayScanner()
  for await (const chunk of bytes as AsyncIterable<Buffer>) {
    const slices = scanner.scan(chunk)
    if (slices.length > 0) yield slices
  }
  scanner.end()
}

const NEWLINE = 0x0a
const [QUOTE, BACKSLASH, COMMA, COLON] = [0x22, 0x5c, 0x2c, 0x3a]
const [OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET, CLOSE_BRACKET] = [0x7b, 0x7d, 0x5b, 0x5d]

/** Members of a document that are of interest, and are cut out as slices. */
const CRS = 'crs'
const FEATURES = 'features'

class ArrayScanner {
  #line = 1
  #depth = 0
  #isString = false
  #isEscaped = false
  /** Depth of the elements of the array that we read; 0 while it has not begun. */
  #itemDepth = 0
  #hasArray = false
  /** What was read of the object that is being cut out, and where that began. */
  #parts: Buffer[] = []
  #partBytes = 0
  #isCutting = false
  #cutLine = 0
  #cutDepth = 0
  /** The last string at depth 1: the name of the member whose value follows. */
  #member: number[] = []
  #isMember = false
  #hasStarted = false

  scan(chunk: Buffer): Slice[] {
    const slices: Slice[] = []
    let cutStart = 0
    for (let index = 0; index < chunk.length; index++) {
      const byte = chunk[index]!
      if (byte === NEWLINE) this.#line++
      if (this.#isString) {
        if (this.#isEscaped) this.#isEscaped = false
        else if (byte === BACKSLASH) this.#isEscaped = true
        else if (byte === QUOTE) this.#isString = false
        if (this.#isMember && this.#isString) this.#member.push(byte)
        continue
      }
      switch (byte) {
        case QUOTE:
          this.#isString = true
          this.#isMember = this.#depth === 1 && this.#itemDepth === 0
          if (this.#isMember) this.#member = []
          if (this.#depth === this.#itemDepth && this.#depth > 0) this.#refuseElement()
          break
        case OPEN_BRACE:
        case OPEN_BRACKET:
          if (!this.#isCutting && this.#startsCut(byte)) {
            this.#isCutting = true
            this.#cutLine = this.#line
            this.#cutDepth = this.#depth
            cutStart = index
          }
          this.#depth++
          break
        case CLOSE_BRACE:
        case CLOSE_BRACKET:
          this.#depth--
          if (this.#depth < 0)
            throw new SourceError(`Line ${this.#line}: a bracket closes that was never opened.`)
          if (this.#isCutting && this.#depth === this.#cutDepth) {
            const slice = { line: this.#cutLine, bytes: this.#take(chunk.subarray(cutStart, index + 1)) }
            this.#isCutting = false
            if (this.#itemDepth > 0) slices.push(slice)
            else checkCrs(slice)
          } else if (this.#itemDepth > 0 && this.#depth < this.#itemDepth) {
            this.#itemDepth = 0
          }
          break
        case COMMA:
        case COLON:
        case NEWLINE:
        case 0x20:
        case 0x09:
        case 0x0d:
          break
        default:
          if (this.#depth === this.#itemDepth && this.#depth > 0) this.#refuseElement()
          // A byte order mark may stand before the document, nothing else.
          if (this.#depth === 0 && ![0xef, 0xbb, 0xbf].includes(byte)) {
            throw new SourceError(`Line ${this.#line}: this is not a JSON document of objects.`)
          }
      }
    }
    if (this.#isCutting) {
      this.#parts.push(Buffer.from(chunk.subarray(cutStart)))
      this.#partBytes += chunk.length - cutStart
      if (this.#partBytes > MAX_FEATURE_BYTES) {
        throw new SourceError(
          `The object that starts on line ${this.#cutLine} is larger than any feature may be.`,
        )
      }
    }
    return slices
  }

  /** Whether the bracket opens something to cut out; notes where the array begins. */
  #startsCut(byte: number): boolean {
    if (this.#depth === 0) {
      if (this.#hasStarted) throw new SourceError(`Line ${this.#line}: a second document follows the first.`)
      this.#hasStarted = true
    }
    if (this.#itemDepth > 0) {
      if (byte === OPEN_BRACKET) this.#refuseElement()
      return true
    }
    const member = this.#depth === 1 ? Buffer.from(this.#member).toString() : ''
    if (byte === OPEN_BRACKET && (this.#depth === 0 || member === FEATURES)) {
      this.#itemDepth = this.#depth + 1
      this.#hasArray = true
      return false
    }
    return byte === OPEN_BRACE && member === CRS
  }

  #refuseElement(): never {
    throw new SourceError(`Line ${this.#line}: an element of the array is not an object.`)
  }

  #take(tail: Buffer): Buffer {
    const bytes = this.#parts.length > 0 ? Buffer.concat([...this.#parts, tail]) : tail
    this.#parts = []
    this.#partBytes = 0
    return bytes
  }

  end() {
    if (this.#depth > 0 || this.#isString)
      throw new SourceError(`The source breaks off on line ${this.#line}.`)
    if (!this.#hasArray)
      throw new SourceError('There is no array of features; is this a GeoJSON FeatureCollection?')
  }
}

/** GeoJSON of 2008 could name a CRS; today's cannot, and other coordinates would land in the wrong place. */
function checkCrs({ bytes, line }: Slice) {
  const name = /"name"\s*:\s*"([^"]*)"/.exec(bytes.toString('utf8'))?.[1] ?? 'of its own'
  if (/CRS84|EPSG:+4326$|EPSG\/\d*\/4326$/.test(name)) return
  throw new SourceError(
    `Line ${line}: the coordinates are in the CRS ${name}; GeoJSON is longitude and latitude in WGS 84. ` +
      'Convert it first, for example with ogr2ogr -t_srs EPSG:4326.',
  )
}
