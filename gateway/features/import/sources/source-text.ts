// Owns the bytes of a source as text.

import type { Readable } from 'node:stream'
import { SourceError } from './source.ts'

/** Decodes the first bytes of a source, without a byte order mark and white space before the text. */
export const startOfText = (start: Buffer): string =>
  start
    .toString('utf8')
    .replace(/^\uFEFF/, '')
    .trimStart()

/** @throws SourceError if the bytes are not UTF-8: otherwise characters would be lost without a message */
export async function* decodeText(bytes: Readable): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  try {
    for await (const chunk of bytes as AsyncIterable<Buffer>) yield decoder.decode(chunk, { stream: true })
    yield decoder.decode()
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause
    throw new SourceError(
      'The source is not UTF-8; convert it first, for example with iconv -f latin1 -t utf-8.',
      { cause },
    )
  }
}

/** @throws SourceError if the bytes are not UTF-8 */
export async function readText(bytes: Readable): Promise<string> {
  const texts: string[] = []
  for await (const text of decodeText(bytes)) texts.push(text)
  return texts.join('')
}
