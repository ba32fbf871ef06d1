// Owns the bytes of a source as text.

import type { Readable } from 'node:stream'
import { SourceError } from './source.ts'

/** @throws SourceError where the bytes are in another encoding: letters would be lost without a word */
export async function* decode(bytes: Readable): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true })
  try {
    for await (const chunk of bytes as AsyncIterable<Buffer>) yield decoder.decode(chunk, { stream: true })
    yield decoder.decode()
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause
    throw new SourceError(
      'The source is not UTF-8; convert it first, for example with iconv -f latin1 -t utf-8.',
      {
        cause,
      },
    )
  }
}

export async function readAll(bytes: Readable): Promise<string> {
  const texts: string[] = []
  for await (const text of decode(bytes)) texts.push(text)
  return texts.join('')
}
