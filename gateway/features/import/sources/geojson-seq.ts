// Owns sequences of GeoJSON features.

import type { Readable } from 'node:stream'
import { parseFeature } from './geojson-feature.ts'
import { MAX_FEATURE_BYTES, SourceError, type SourceFeature } from './source.ts'

const NEWLINE = 0x0a
const RECORD_SEPARATOR = 0x1e
const BYTE_ORDER_MARK = Buffer.from([0xef, 0xbb, 0xbf])

/** GeoJSON text sequences (RFC 8142) and newline-delimited GeoJSON: a feature a line. */
export async function* readSequence(bytes: Readable): AsyncGenerator<SourceFeature[]> {
  let line = 1
  let rest: Buffer[] = []
  let restBytes = 0
  const toFeature = (slice: Buffer): SourceFeature | undefined => {
    const text = line === 1 && slice.subarray(0, 3).equals(BYTE_ORDER_MARK) ? slice.subarray(3) : slice
    const trimmed = text[0] === RECORD_SEPARATOR ? text.subarray(1) : text
    return isBlank(trimmed) ? undefined : parseFeature({ line, bytes: trimmed })
  }
  for await (const chunk of bytes as AsyncIterable<Buffer>) {
    const batch: SourceFeature[] = []
    let start = 0
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      const tail = chunk.subarray(start, end)
      const feature = toFeature(restBytes > 0 ? Buffer.concat([...rest, tail]) : tail)
      if (feature) batch.push(feature)
      rest = []
      restBytes = 0
      start = end + 1
      line++
    }
    if (start < chunk.length) {
      // A copy: the chunk's memory must not be held by its last few bytes.
      rest.push(Buffer.from(chunk.subarray(start)))
      restBytes += chunk.length - start
      if (restBytes > MAX_FEATURE_BYTES)
        throw new SourceError(`Line ${line} is longer than any feature may be.`)
    }
    if (batch.length > 0) yield batch
  }
  const last = toFeature(Buffer.concat(rest))
  if (last) yield [last]
}

const isBlank = (bytes: Buffer) => bytes.every((byte) => byte === 0x20 || byte === 0x09 || byte === 0x0d)
