// Owns the objects of a JSON array, cut out of a document that may be larger than memory.

import type { Readable } from 'node:stream'
import { MAX_FEATURE_BYTES, SourceError } from './source.ts'

/** Bytes of an object, and the line on which it starts, from 1. */
export type Slice = { readonly line: number; readonly bytes: Buffer }

type Members = Readonly<Record<string, (slice: Slice) => void>>

/** Name of the member that holds the array if the document is an object. */
const FEATURES = 'features'

/**
 * Cuts out the objects of a JSON array: of the array that is the document, or of its member "features". Memory holds
 * one chunk and one object. The scanner follows only brackets and strings; JSON.parse judges what a slice contains.
 * @param members called with objects that are other members of the document, by the name of the member
 * @throws SourceError if the document has no such array, has elements that are not objects, or breaks off
 */
export async function* readJsonArray(bytes: Readable, members: Members = {}): AsyncGenerator<Slice[]> {
  const scanner = new ArrayScanner(members)
  for await (const chunk of bytes as AsyncIterable<Buffer>) {
    const slices = scanner.scan(chunk)
    if (slices.length > 0) yield slices
  }
  scanner.end()
}

const NEWLINE = 0x0a
const [QUOTE, BACKSLASH, COMMA, COLON] = [0x22, 0x5c, 0x2c, 0x3a]
const [OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET, CLOSE_BRACKET] = [0x7b, 0x7d, 0x5b, 0x5d]
const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf]

class ArrayScanner {
  readonly #members: Members
  #line = 1
  #depth = 0
  #isString = false
  #isEscaped = false
  /** Depth of the elements of the array; 0 outside of it. */
  #itemDepth = 0
  #hasArray = false
  /** Bytes of earlier chunks that belong to the object that is being cut out. */
  #parts: Buffer[] = []
  #partBytes = 0
  #isCutting = false
  #cutLine = 0
  #cutDepth = 0
  /** Bytes of the last string at depth 1: the name of the member whose value follows. */
  #member: number[] = []
  #isMember = false
  #hasStarted = false

  constructor(members: Members) {
    this.#members = members
  }

  /** @returns the objects that end in this chunk */
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
            const slice = this.#endCut(chunk.subarray(cutStart, index + 1))
            if (this.#itemDepth > 0) slices.push(slice)
            else this.#members[this.#memberName]!(slice)
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
          this.#checkOther(byte)
      }
    }
    if (this.#isCutting) this.#keep(chunk.subarray(cutStart))
    return slices
  }

  /** @returns true if the bracket opens an object to cut out; also notes that the array starts */
  #startsCut(byte: number): boolean {
    if (this.#depth === 0) {
      if (this.#hasStarted) throw new SourceError(`Line ${this.#line}: a second document follows the first.`)
      this.#hasStarted = true
    }
    if (this.#itemDepth > 0) {
      if (byte === OPEN_BRACKET) this.#refuseElement()
      return true
    }
    const member = this.#depth === 1 ? this.#memberName : ''
    if (byte === OPEN_BRACKET && (this.#depth === 0 || member === FEATURES)) {
      this.#itemDepth = this.#depth + 1
      this.#hasArray = true
      return false
    }
    return byte === OPEN_BRACE && Object.hasOwn(this.#members, member)
  }

  get #memberName() {
    return Buffer.from(this.#member).toString()
  }

  #endCut(tail: Buffer): Slice {
    const bytes = this.#parts.length > 0 ? Buffer.concat([...this.#parts, tail]) : tail
    this.#parts = []
    this.#partBytes = 0
    this.#isCutting = false
    return { line: this.#cutLine, bytes }
  }

  /** Keeps the start of an object that goes on in the next chunk. */
  #keep(rest: Buffer) {
    this.#parts.push(Buffer.from(rest))
    this.#partBytes += rest.length
    if (this.#partBytes > MAX_FEATURE_BYTES) {
      throw new SourceError(
        `The object that starts on line ${this.#cutLine} is larger than any feature may be.`,
      )
    }
  }

  /** Refuses bytes outside of brackets and strings where no number and no literal may be. */
  #checkOther(byte: number) {
    if (this.#depth === this.#itemDepth && this.#depth > 0) this.#refuseElement()
    if (this.#depth === 0 && !BYTE_ORDER_MARK.includes(byte))
      throw new SourceError(`Line ${this.#line}: this is not a JSON document of objects.`)
  }

  #refuseElement(): never {
    throw new SourceError(`Line ${this.#line}: an element of the array is not an object.`)
  }

  end() {
    if (this.#depth > 0 || this.#isString)
      throw new SourceError(`The source breaks off on line ${this.#line}.`)
    if (!this.#hasArray)
      throw new SourceError('There is no array of features; is this a GeoJSON FeatureCollection?')
  }
}
