// Owns the bytes of a source as text.

import { isUtf8 } from 'node:buffer'
import { SourceError } from './source.ts'

/** Decodes the first bytes of a source, without white space before the text. */
export const startOfText = (start: Buffer): string => start.toString('utf8').trimStart()

/**
 * Decodes the bytes of a source.
 * @throws SourceError if the bytes are not UTF-8: otherwise characters would be lost without a message
 */
export async function* decodeText(bytes: AsyncIterable<Buffer>): AsyncGenerator<string> {
  let rest: Buffer = Buffer.alloc(0)
  let offset = 0
  for await (const chunk of bytes) {
    const all = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk
    const end = all.length - incompleteBytes(all)
    yield decode(all.subarray(0, end), offset)
    // A copy, because a view would keep the chunk in memory.
    rest = Buffer.from(all.subarray(end))
    offset += end
  }
  yield decode(rest, offset)
}

/** @throws SourceError if the bytes are not UTF-8, or there are more than `maxBytes` of them */
export async function readText(bytes: AsyncIterable<Buffer>, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of bytes) {
    chunks.push(chunk)
    size += chunk.length
    if (size > maxBytes)
      throw new SourceError(
        `The source is larger than ${maxBytes / 1024 / 1024} MiB; a source of this format is read into memory as one piece.`,
      )
  }
  return decode(Buffer.concat(chunks), 0)
}

function decode(bytes: Buffer, offset: number): string {
  if (isUtf8(bytes)) return bytes.toString('utf8')
  throw new SourceError(
    `The source is not UTF-8: it has ${describeInvalidByte(bytes, offset)}. Convert it first, for example with iconv -f windows-1252 -t utf-8.`,
  )
}

/** Returns the number of bytes at the end that start a character of UTF-8 without completing it. */
function incompleteBytes(bytes: Buffer): number {
  for (let count = 1; count <= Math.min(3, bytes.length); count++) {
    const byte = bytes[bytes.length - count]!
    const isContinuation = (byte & 0xc0) === 0x80
    if (isContinuation) continue
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1
    return length > count ? count : 0
  }
  return 0
}

/**
 * Describes the first byte that is not UTF-8.
 * @param offset of the bytes in the source
 */
export function describeInvalidByte(bytes: Buffer, offset: number): string {
  // Decoding replaces what is invalid, so the first difference is there.
  const decoded = Buffer.from(bytes.toString('utf8'))
  const index = bytes.findIndex((byte, position) => byte !== decoded[position])
  const hex = (bytes[index] ?? 0).toString(16).toUpperCase().padStart(2, '0')
  return `the byte 0x${hex} at offset ${offset + index}, where UTF-8 cannot have it`
}
