// Owns a source that has been opened: a file, or standard input.

import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { Readable } from 'node:stream'
import { ImportError } from './import-error.ts'
import { FORMATS } from './sources/formats.ts'
import { detectFormat, type SourceContent, type SourceFormat, type SourceOptions } from './sources/source.ts'

export type ImportSource = {
  readonly name: string
  readonly totalBytes?: number | undefined
  /** Bytes read so far, for the progress that is shown. */
  readonly bytesRead: () => number
  readonly read: () => Promise<SourceContent>
}

/**
 * Bytes that are read before the format and the delimiter are chosen, if the source has as many. A pipe may deliver a
 * few at a time, and a sequence is recognised by its complete first feature; memory holds these bytes twice.
 */
const START_BYTES = 1 << 20

/**
 * Opens a file, or standard input for `-`, and detects its format if the options name none.
 * @throws ImportError if the source cannot be read, is empty or has no known format
 */
export async function openSource(
  name: string,
  standardInput: Readable,
  options: SourceOptions & { readonly format?: SourceFormat | undefined },
): Promise<ImportSource> {
  const file = name === '-' ? undefined : name
  let totalBytes: number | undefined
  if (file !== undefined) {
    const found = await stat(file).catch((cause) => {
      throw explainFailure(cause, name)
    })
    if (found.isDirectory()) throw new ImportError(`${name} is a folder; name a file in it.`)
    totalBytes = found.isFile() ? found.size : undefined
  }
  const input: Readable =
    file === undefined ? standardInput : createReadStream(file, { highWaterMark: START_BYTES })
  const iterator = input[Symbol.asyncIterator]() as AsyncIterator<Buffer>
  const shownName = file ?? 'Standard input'
  const next = () =>
    iterator.next().catch((cause) => {
      throw explainFailure(cause, shownName)
    })
  const first: Buffer[] = []
  let firstBytes = 0
  while (firstBytes < START_BYTES) {
    const result = await next()
    if (result.done) break
    first.push(result.value)
    firstBytes += result.value.length
  }
  const start = Buffer.concat(first).subarray(0, START_BYTES)
  if (start.length === 0) throw new ImportError(`${shownName} is empty.`)
  const format = options.format ?? detectFormat(FORMATS, name, start)
  if (!format) throw new ImportError(`The format of ${name} is not known; name it with --format.`)
  let bytesRead = 0
  const count = (chunk: Buffer) => {
    bytesRead += chunk.length
    return chunk
  }
  const bytes = Readable.from(
    (async function* () {
      for (const chunk of first) yield count(chunk)
      first.length = 0
      for (let result = await next(); !result.done; result = await next()) yield count(result.value)
    })(),
    { objectMode: true, highWaterMark: 1 },
  )
  return {
    name: file === undefined ? 'standard input' : basename(file),
    totalBytes,
    bytesRead: () => bytesRead,
    read: () => format.read({ file, start, bytes }, options),
  }
}

/** Codes of the operating system, for example EACCES; those of Node itself, as ERR_STREAM_DESTROYED, are bugs. */
const SYSTEM_CODE = /^E[A-Z0-9]+$/

/** Returns the failure of a file or of standard input as a sentence; other errors stay as they are. */
function explainFailure(cause: NodeJS.ErrnoException, name: string): Error {
  return SYSTEM_CODE.test(cause.code ?? '')
    ? new ImportError(`${name} cannot be read (${cause.code}).`, { cause })
    : cause
}
