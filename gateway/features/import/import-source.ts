// Owns a source that has been opened: a file, or standard input.

import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { Readable } from 'node:stream'
import { ImportError } from './import-error.ts'
import { detectFormat, type Format, readFeatures } from './sources/formats.ts'
import type { SourceFeature, SourceOptions } from './sources/source.ts'

export type ImportSource = {
  readonly name: string
  readonly totalBytes?: number | undefined
  /** Whether values come with their types, as in JSON, or all as text, as in CSV. */
  readonly hasTypes: boolean
  /** Bytes read so far, for the progress that is shown. */
  readonly bytesRead: () => number
  readonly features: () => AsyncIterable<SourceFeature[]>
}

/** Opens a file, or standard input for `-`. @throws ImportError where it cannot be read */
export async function openSource(
  name: string,
  standardInput: Readable,
  options: SourceOptions & { readonly format?: Format | undefined },
): Promise<ImportSource> {
  let totalBytes: number | undefined
  if (name !== '-') {
    const found = await stat(name).catch((cause) => {
      throw new ImportError(`${name} cannot be read (${cause.code}).`, { cause })
    })
    if (found.isDirectory()) throw new ImportError(`${name} is a folder; name a file in it.`)
    totalBytes = found.isFile() ? found.size : undefined
  }
  const input: Readable = name === '-' ? standardInput : createReadStream(name, { highWaterMark: 1 << 20 })
  const iterator = input[Symbol.asyncIterator]() as AsyncIterator<Buffer>
  const first = await iterator.next()
  const start: Buffer = first.done ? Buffer.alloc(0) : first.value
  if (start.length === 0) throw new ImportError(`${name === '-' ? 'Standard input' : name} is empty.`)
  const format = options.format ?? detectFormat(name, start)
  let bytesRead = 0
  const bytes = Readable.from(
    (async function* () {
      for (let next = first; !next.done; next = await iterator.next()) {
        bytesRead += next.value.length
        yield next.value
      }
    })(),
    { objectMode: true, highWaterMark: 1 },
  )
  return {
    name: name === '-' ? 'standard input' : basename(name),
    totalBytes,
    hasTypes: format !== 'csv',
    bytesRead: () => bytesRead,
    features: () => readFeatures(bytes, format, start, options),
  }
}
