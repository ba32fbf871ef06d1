// Owns the way from the bytes of a source to those that formats read: unpacked, and in UTF-8 without a byte order mark.

import { pipeline, Readable } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { ImportError } from './import-error.ts'

/** @property isConverted true if the bytes are no longer those of the source */
export type Decoded = { readonly bytes: AsyncIterator<Buffer>; readonly isConverted: boolean }

/** Bytes that show how a source is packed or encoded. */
const START_BYTES = 4

/** Packed files that are not unpacked here, by their first bytes, and what unpacks them. */
const ARCHIVES: readonly [string, string, string][] = [
  ['504b0304', 'a ZIP archive', 'unzip -p'],
  ['425a68', 'packed by bzip2', 'bunzip2 -c'],
  ['fd377a58', 'packed by xz', 'xz -dc'],
  ['28b52ffd', 'packed by Zstandard', 'zstd -dc'],
  ['377abcaf', 'a 7z archive', '7z x -so'],
]

/**
 * Looks at the first bytes, and not at the name: data of a pipe has none. Gzip is unpacked, also if it is packed twice;
 * UTF-16 with a byte order mark becomes UTF-8.
 * @param name of the source, for messages
 * @throws ImportError if the source is packed or encoded in another way
 */
export async function decode(source: AsyncIterator<Buffer>, name: string): Promise<Decoded> {
  const { start, bytes } = await peek(source, START_BYTES)
  if (start[0] === 0x1f && start[1] === 0x8b) {
    const { bytes: unpacked } = await decode(unpack(bytes, name), name)
    return { bytes: unpacked, isConverted: true }
  }
  const hex = start.toString('hex')
  const archive = ARCHIVES.find(([magic]) => hex.startsWith(magic))
  if (archive)
    throw new ImportError(
      `${name} is ${archive[1]}; unpack it first, for example with ${archive[2]} FILE | tessera import -.`,
    )
  if (
    hex.startsWith('fffe0000') ||
    hex === '0000feff' ||
    /^([2-7].000000|0000002[2-7].|000000[2-7].)$/.test(hex)
  )
    throw wrongEncoding(name, 'UTF-32', 'utf-32')
  if (hex.startsWith('efbbbf')) return { bytes: skip(bytes, 3), isConverted: true }
  for (const [mark, encoding] of [
    ['fffe', 'utf-16le'],
    ['feff', 'utf-16be'],
  ] as const)
    if (hex.startsWith(mark)) return { bytes: transcode(skip(bytes, 2), encoding, name), isConverted: true }
  // The first two characters of text that is JSON or CSV are ASCII.
  if (/^([2-7].00|00[2-7].)/.test(hex) && /^(..00..00|00..00..)$/.test(hex))
    throw wrongEncoding(
      name,
      'UTF-16 without a byte order mark',
      hex.startsWith('00') ? 'utf-16be' : 'utf-16le',
    )
  return { bytes, isConverted: false }
}

const wrongEncoding = (name: string, found: string, encoding: string) =>
  new ImportError(
    `${name} seems to be ${found}: it has a zero byte among the first ${START_BYTES}. Convert it first, for example with iconv -f ${encoding} -t utf-8.`,
  )

/** Reads the first bytes of a source, fewer if it has no more, and returns all of them again with the rest. */
export async function peek(source: AsyncIterator<Buffer>, count: number) {
  const chunks: Buffer[] = []
  let size = 0
  while (size < count) {
    const next = await source.next()
    if (next.done) break
    chunks.push(next.value)
    size += next.value.length
  }
  const start = Buffer.concat(chunks).subarray(0, count)
  const bytes = (async function* () {
    yield* chunks
    chunks.length = 0
    for (let next = await source.next(); !next.done; next = await source.next()) yield next.value
  })()
  return { start, bytes }
}

async function* skip(source: AsyncIterable<Buffer>, count: number): AsyncGenerator<Buffer> {
  let left = count
  for await (const chunk of source) {
    const rest = chunk.subarray(left)
    left -= chunk.length - rest.length
    if (rest.length > 0) yield rest
  }
}

async function* unpack(source: AsyncIterable<Buffer>, name: string): AsyncGenerator<Buffer> {
  // Without objectMode, so that a chunk counts with its bytes.
  const packed = Readable.from(source, { objectMode: false })
  const gunzip = createGunzip({ chunkSize: 1 << 18 })
  // Iteration below throws the failure of either; the callback keeps it from being thrown a second time.
  pipeline(packed, gunzip, () => {})
  try {
    yield* gunzip
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    if (!code?.startsWith('Z_')) throw cause
    throw new ImportError(
      code === 'Z_BUF_ERROR'
        ? `${name} breaks off: its gzip data has no end.`
        : `${name} is damaged: its gzip data cannot be unpacked (${message}).`,
      { cause },
    )
  }
}

async function* transcode(
  source: AsyncIterable<Buffer>,
  encoding: 'utf-16le' | 'utf-16be',
  name: string,
): AsyncGenerator<Buffer> {
  const decoder = new TextDecoder(encoding, { fatal: true, ignoreBOM: true })
  let offset = 2
  try {
    for await (const chunk of source) {
      yield Buffer.from(decoder.decode(chunk, { stream: true }))
      offset += chunk.length
    }
    yield Buffer.from(decoder.decode())
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause
    throw new ImportError(
      `${name} is not valid ${encoding.toUpperCase()}, which its byte order mark announces: half a character is at or after offset ${offset}.`,
      { cause },
    )
  }
}
