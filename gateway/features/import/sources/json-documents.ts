// Owns the cut of JSON documents, which may be larger than memory, into the elements of one array and the rest.

import { type FeatureLimits, LIMITS_OF_FILES, SourceError, shownBytes } from './source.ts'

/** Bytes of a JSON text, the line on which it starts, from 1, and its distance from the start of the source. */
export type Slice = { readonly line: number; readonly offset: number; readonly bytes: Buffer }

/**
 * A part of a document. The array is the document itself, or its member "features". `element`: one object of the array.
 * `opening`: what precedes the array, with an empty array and closed, so that it is JSON. `closing`: the complete
 * document, with an empty array. `document`: a complete document without such an array.
 */
export type Part = Slice & { readonly role: 'opening' | 'element' | 'closing' | 'document' }

/** Name of the member that holds the array if the document is an object. */
const FEATURES = 'features'
/** Bytes of the longest way to write this name: each character as an escape of six. */
const MAX_NAME_BYTES = 6 * FEATURES.length

/**
 * Cuts JSON documents, one after another, into parts. Memory holds one chunk and one part. The scanner follows only
 * brackets, strings and the commas of the array; JSON.parse judges what a part contains.
 * @throws SourceError if the source is no JSON of objects, has an array of other values, or breaks off
 */
export async function* readDocuments(
  bytes: AsyncIterable<Buffer>,
  limits: FeatureLimits = LIMITS_OF_FILES,
): AsyncGenerator<Part[]> {
  const scanner = new DocumentScanner(limits.bytes)
  for await (const chunk of bytes) {
    const parts = scanner.scan(chunk)
    if (parts.length > 0) yield parts
  }
  scanner.end()
}

/**
 * Returns whether a body is a collection, whose features can be read one by one, or a single document. The start of most
 * bodies shows it at once.
 * @returns a function that takes the bytes in order, and returns undefined as long as they do not show it
 */
export function makeCollectionDetector(most: number): (chunk: Buffer) => 'collection' | 'single' | undefined {
  const scanner = new DocumentScanner(most)
  let isFirst = true
  return (chunk) => {
    const [, type] = (isFirst && /^\s*\{\s*"type"\s*:\s*"(\w+)"/.exec(chunk.toString('latin1', 0, 100))) || []
    isFirst = false
    if (type !== undefined) return type === 'FeatureCollection' ? 'collection' : 'single'
    try {
      const [part] = scanner.scan(chunk)
      if (part === undefined) return undefined
      return part.role === 'opening' && part.bytes[0] === OPEN_BRACE ? 'collection' : 'single'
    } catch {
      // It is no JSON, and is described as a single document.
      return 'single'
    }
  }
}

/** Bytes of a string after which a native search for its end is faster than a loop; more than those of a name. */
const LONG_STRING_BYTES = 2 * MAX_NAME_BYTES

const [SPACE, TAB, NEWLINE, RETURN, RECORD_SEPARATOR] = [0x20, 0x09, 0x0a, 0x0d, 0x1e]
const [QUOTE, BACKSLASH, COMMA] = [0x22, 0x5c, 0x2c]
const [OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET, CLOSE_BRACKET] = [0x7b, 0x7d, 0x5b, 0x5d]

/** Collects bytes that chunks bring one after another. */
class Cut {
  readonly #most: number
  line = 0
  offset = 0
  /** Index in the current chunk from which bytes belong to the cut; -1 if they do not. */
  start = -1
  #parts: Buffer[] = []
  #bytes = 0

  /** @param most bytes that it may have */
  constructor(most: number) {
    this.#most = most
  }

  open(line: number, offset: number, start: number) {
    this.line = line
    this.offset = offset
    this.start = start
  }

  /** Adds the bytes from `start` to `end`, which are views of the chunk. */
  add(chunk: Buffer, end: number) {
    if (this.start < 0) return
    const bytes = chunk.subarray(this.start, end)
    this.#parts.push(bytes)
    this.#bytes += bytes.length
    this.start = -1
    if (this.#bytes > this.#most)
      throw new SourceError(
        `The JSON that starts on line ${this.line} is larger than ${shownBytes(this.#most)} without its array of features, which no feature may be.`,
      )
  }

  /** Keeps the bytes until the next chunk. */
  suspend(chunk: Buffer) {
    if (this.start < 0) return
    this.add(chunk, chunk.length)
    // A copy, because a view of the last few bytes would keep the complete chunk in memory.
    this.#parts.push(Buffer.from(this.#parts.pop()!))
    this.start = 0
  }

  /** Returns the bytes so far, with more at their end. */
  bytes(more = ''): Buffer {
    const [only, ...rest] = this.#parts
    return rest.length === 0 && more === '' ? only! : Buffer.concat([...this.#parts, Buffer.from(more)])
  }

  clear() {
    this.#parts = []
    this.#bytes = 0
    this.start = -1
  }
}

class DocumentScanner {
  #line = 1
  /** Distance of the current chunk from the start of the source. */
  #base = 0
  #depth = 0
  #isString = false
  #isEscaped = false
  /** Depth of the elements of the array; 0 outside of it. */
  #itemDepth = 0
  /** True if the document has had its array. */
  #hasArray = false
  /** What the array has had last. */
  #last: 'nothing' | 'element' | 'comma' = 'nothing'
  /** The document without the elements of its array. */
  readonly #frame: Cut
  readonly #element: Cut
  /** Bytes of the last string at depth 1: the name of the member whose value follows. */
  #name: number[] = []
  #isName = false

  constructor(most: number) {
    this.#frame = new Cut(most)
    this.#element = new Cut(most)
  }

  /** @returns the parts that end in this chunk */
  scan(chunk: Buffer): Part[] {
    const parts: Part[] = []
    for (let index = 0; index < chunk.length; index++) {
      if (this.#isString) {
        index = this.#skipString(chunk, index)
        continue
      }
      const byte = chunk[index]!
      if (byte === NEWLINE) this.#line++
      switch (byte) {
        case SPACE:
        case TAB:
        case NEWLINE:
        case RETURN:
          break
        case QUOTE:
          this.#checkPlace()
          this.#isString = true
          this.#isName = this.#depth === 1 && this.#itemDepth === 0
          if (this.#isName) this.#name = []
          break
        case OPEN_BRACE:
        case OPEN_BRACKET:
          this.#openBracket(byte, chunk, index, parts)
          break
        case CLOSE_BRACE:
        case CLOSE_BRACKET:
          this.#closeBracket(byte, chunk, index, parts)
          break
        case COMMA:
          if (!this.#isAmongElements) this.#checkPlace()
          else if (this.#last !== 'element') this.#fail('a comma of the array has no element before it')
          else this.#last = 'comma'
          break
        case RECORD_SEPARATOR:
          if (this.#depth > 0) this.#fail('the document breaks off: a new one starts')
          break
        default:
          this.#checkPlace()
      }
    }
    this.#frame.suspend(chunk)
    this.#element.suspend(chunk)
    this.#base += chunk.length
    return parts
  }

  /** @returns the index of the quote that ends the string, or of the last byte of the chunk */
  #skipString(chunk: Buffer, start: number): number {
    for (let index = start; index < chunk.length; index++) {
      const byte = chunk[index]!
      if (byte === NEWLINE) this.#line++
      if (this.#isEscaped) this.#isEscaped = false
      else if (byte === BACKSLASH) this.#isEscaped = true
      else if (byte === QUOTE) {
        this.#isString = false
        return index
      } else if (index - start > LONG_STRING_BYTES) index = this.#skipToQuote(chunk, index + 1) - 1
      if (this.#isName && this.#name.length <= MAX_NAME_BYTES) this.#name.push(byte)
    }
    return chunk.length - 1
  }

  /** @returns the index of the next quote, even an escaped one, or the length of the chunk */
  #skipToQuote(chunk: Buffer, start: number): number {
    const quote = chunk.indexOf(QUOTE, start)
    const end = quote < 0 ? chunk.length : quote
    const skipped = chunk.subarray(start, end)
    for (let at = skipped.indexOf(NEWLINE); at >= 0; at = skipped.indexOf(NEWLINE, at + 1)) this.#line++
    let backslashes = 0
    while (skipped[skipped.length - 1 - backslashes] === BACKSLASH) backslashes++
    this.#isEscaped = backslashes % 2 === 1
    return end
  }

  get #isAmongElements() {
    return this.#depth > 0 && this.#depth === this.#itemDepth
  }

  #openBracket(byte: number, chunk: Buffer, index: number, parts: Part[]) {
    if (this.#isAmongElements) {
      if (byte === OPEN_BRACKET) this.#checkPlace()
      if (this.#last === 'element') this.#fail('a comma is missing between two elements of the array')
      this.#last = 'element'
      this.#element.open(this.#line, this.#base + index, index)
    } else if (this.#depth === 0) this.#frame.open(this.#line, this.#base + index, index)
    this.#depth++
    const isArray = byte === OPEN_BRACKET && this.#itemDepth === 0 && this.#startsArray()
    if (!isArray) return
    if (this.#hasArray) this.#fail(`the document has a second member "${FEATURES}"`)
    this.#hasArray = true
    this.#itemDepth = this.#depth
    this.#last = 'nothing'
    this.#frame.add(chunk, index + 1)
    const { line, offset } = this.#frame
    parts.push({ role: 'opening', line, offset, bytes: this.#frame.bytes(this.#depth === 1 ? ']' : ']}') })
  }

  /** Returns true if a bracket at this depth opens the array: the document, or its member. */
  #startsArray(): boolean {
    if (this.#depth !== 2) return this.#depth === 1
    try {
      return JSON.parse(`"${Buffer.from(this.#name).toString()}"`) === FEATURES
    } catch {
      // The name is no JSON, and neither is the document, which is parsed later.
      return false
    }
  }

  #closeBracket(byte: number, chunk: Buffer, index: number, parts: Part[]) {
    if (this.#isAmongElements) {
      if (byte !== CLOSE_BRACKET) this.#fail('the array is not closed by its bracket')
      if (this.#last === 'comma') this.#fail('a comma precedes the end of the array')
      this.#itemDepth = 0
      this.#frame.start = index
    }
    this.#depth--
    if (this.#depth < 0) this.#fail('a bracket closes that was never opened')
    if (this.#isAmongElements) {
      this.#element.add(chunk, index + 1)
      parts.push(this.#end('element', this.#element))
    } else if (this.#depth === 0) {
      this.#frame.add(chunk, index + 1)
      parts.push(this.#end(this.#hasArray ? 'closing' : 'document', this.#frame))
      this.#hasArray = false
      this.#name = []
    }
  }

  #end(role: Part['role'], cut: Cut): Part {
    const part = { role, line: cut.line, offset: cut.offset, bytes: cut.bytes() }
    cut.clear()
    return part
  }

  /** Refuses a value at which no other value than an object may be. */
  #checkPlace() {
    if (this.#isAmongElements) this.#fail('an element of the array is not an object')
    if (this.#depth === 0) this.#fail('this is not a JSON document of objects')
  }

  #fail(reason: string): never {
    throw new SourceError(`Line ${this.#line}: ${reason}.`)
  }

  end() {
    if (this.#depth > 0) throw new SourceError(`The source breaks off on line ${this.#line}.`)
  }
}
