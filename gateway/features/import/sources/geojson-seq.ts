// Owns GeoJSON text sequences (RFC 8142) and newline-delimited GeoJSON.

import { GEOMETRY_TYPES } from '../../values/geometry.ts'
import { parseFeatures } from './geojson-feature.ts'
import type { Slice } from './json-documents.ts'
import {
  LIMITS_OF_FILES,
  SourceError,
  type SourceFeature,
  type SourceFormat,
  type SourceInput,
  shownBytes,
} from './source.ts'
import { startOfText } from './source-text.ts'

export const geojsonSeq: SourceFormat = {
  name: 'geojsonseq',
  extensions: ['.geojsonl', '.geojsons', '.geojsonseq', '.ndjson', '.ndgeojson', '.jsonl'],
  recognises(start) {
    const text = startOfText(start)
    if (text.startsWith(RECORD_SEPARATOR)) return true
    // The first line is a complete feature. The first line of a collection breaks off, or has another type.
    const line = text.slice(0, Math.max(0, text.indexOf('\n')))
    const { type } = (parse(line) ?? {}) as { type?: unknown }
    return type === 'Feature' || GEOMETRY_TYPES.some((name) => name === type)
  },
  read: async (input) => ({ hasTypes: true, features: readFeatures(input) }),
}

const RECORD_SEPARATOR = '\x1e'
const NEWLINE = '\n'

/** @returns undefined if the text is not JSON */
function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

async function* readFeatures({ bytes, ...reading }: SourceInput): AsyncGenerator<SourceFeature[]> {
  for await (const records of readRecords(bytes, reading.limits?.bytes ?? LIMITS_OF_FILES.bytes)) {
    const features = records
      .filter((record) => !isBlank(record.bytes))
      .flatMap((record) => parseFeatures(record, reading))
    if (features.length > 0) yield features
  }
}

/**
 * Cuts out the records of a sequence. Before the first record separator, each line is a record. Each separator starts a
 * record, which may have several lines; it ends after its first line if this is JSON, because some programs write a
 * separator only at the start of the source.
 */
async function* readRecords(bytes: AsyncIterable<Buffer>, most: number): AsyncGenerator<Slice[]> {
  let hasSeparators = false
  let line = 1
  let base = 0
  let record = new SplitRecord(line, base, most)
  for await (const chunk of bytes) {
    const records: Slice[] = []
    let start = 0
    let newline = chunk.indexOf(NEWLINE)
    let separator = chunk.indexOf(RECORD_SEPARATOR)
    while (newline >= 0 || separator >= 0) {
      const isSeparator = separator >= 0 && (newline < 0 || separator < newline)
      const end = isSeparator ? separator : newline
      record.add(chunk.subarray(start, end))
      start = isSeparator ? end + 1 : end
      if (isSeparator) {
        hasSeparators = true
        separator = chunk.indexOf(RECORD_SEPARATOR, end + 1)
      } else {
        line++
        newline = chunk.indexOf(NEWLINE, end + 1)
      }
      if (isSeparator || !hasSeparators || record.endsWithLine()) {
        records.push(record.end())
        record = new SplitRecord(line, base + start, most)
      }
    }
    // A copy, because a view of the last few bytes would keep the complete chunk in memory.
    record.add(Buffer.from(chunk.subarray(start)))
    base += chunk.length
    if (records.length > 0) yield records
  }
  yield [record.end()]
}

/** A record whose bytes come in several pieces. */
class SplitRecord {
  readonly line: number
  readonly offset: number
  #parts: Buffer[] = []
  #bytes = 0
  #hasLines = false
  readonly #most: number

  /** @param most bytes that it may have */
  constructor(line: number, offset: number, most: number) {
    this.line = line
    this.offset = offset
    this.#most = most
  }

  add(part: Buffer) {
    this.#parts.push(part)
    this.#bytes += part.length
    if (this.#bytes > this.#most)
      throw new SourceError(
        `The record that starts on line ${this.line} is larger than ${shownBytes(this.#most)}, which no feature may be.`,
      )
  }

  /** Returns true if the line that ends here is a record of its own. */
  endsWithLine(): boolean {
    if (this.#hasLines) return false
    const { bytes } = this.end()
    this.#parts = [bytes]
    this.#hasLines = !isBlank(bytes) && parse(bytes.toString('utf8')) === undefined
    return !this.#hasLines
  }

  end(): Slice {
    return { line: this.line, offset: this.offset, bytes: Buffer.concat(this.#parts) }
  }
}

const isBlank = (bytes: Buffer) =>
  bytes.every((byte) => byte === 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d)
