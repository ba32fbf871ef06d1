// Owns GeoJSON text sequences (RFC 8142) and newline-delimited GeoJSON: one feature per line.

import type { Readable } from 'node:stream'
import { parseFeature } from './geojson-feature.ts'
import { MAX_FEATURE_BYTES, SourceError, type SourceFeature, type SourceFormat } from './source.ts'
import { startOfText } from './source-text.ts'

export const geojsonSeq: SourceFormat = {
  name: 'geojsonseq',
  extensions: ['.geojsonl', '.geojsons', '.geojsonseq', '.ndjson', '.ndgeojson', '.jsonl'],
  recognises(start) {
    const text = startOfText(start)
    if (text.startsWith('\x1e')) return true
    // The first line is a complete feature. The first line of a collection breaks off or goes on after a feature.
    // There is a test for each part, because one pattern for all takes quadratic time if a line has many features.
    const line = text.slice(0, Math.max(0, text.indexOf('\n'))).trimEnd()
    const isComplete = line.startsWith('{') && line.endsWith('}')
    return isComplete && /"type"\s*:\s*"Feature"/.test(line) && !line.includes('"FeatureCollection"')
  },
  read: async ({ bytes }) => ({ hasTypes: true, features: readLines(bytes) }),
}

const NEWLINE = 0x0a
const RECORD_SEPARATOR = 0x1e
const BYTE_ORDER_MARK = Buffer.from([0xef, 0xbb, 0xbf])

async function* readLines(bytes: Readable): AsyncGenerator<SourceFeature[]> {
  let line = 1
  let rest: Buffer[] = []
  let restBytes = 0
  for await (const chunk of bytes as AsyncIterable<Buffer>) {
    const batch: SourceFeature[] = []
    let start = 0
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      const tail = chunk.subarray(start, end)
      const feature = parseLine(line, restBytes > 0 ? Buffer.concat([...rest, tail]) : tail)
      if (feature) batch.push(feature)
      rest = []
      restBytes = 0
      start = end + 1
      line++
    }
    if (start < chunk.length) {
      // A copy, because a view of the last few bytes would keep the complete chunk in memory.
      rest.push(Buffer.from(chunk.subarray(start)))
      restBytes += chunk.length - start
      if (restBytes > MAX_FEATURE_BYTES)
        throw new SourceError(`Line ${line} is longer than any feature may be.`)
    }
    if (batch.length > 0) yield batch
  }
  const last = parseLine(line, Buffer.concat(rest))
  if (last) yield [last]
}

/** @returns undefined for a blank line */
function parseLine(line: number, bytes: Buffer): SourceFeature | undefined {
  const text = line === 1 && bytes.subarray(0, 3).equals(BYTE_ORDER_MARK) ? bytes.subarray(3) : bytes
  const trimmed = text[0] === RECORD_SEPARATOR ? text.subarray(1) : text
  return isBlank(trimmed) ? undefined : parseFeature({ line, bytes: trimmed })
}

const isBlank = (bytes: Buffer) => bytes.every((byte) => byte === 0x20 || byte === 0x09 || byte === 0x0d)
