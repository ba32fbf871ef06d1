// Owns a source that has been opened: a file, or standard input.

import { createReadStream } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { Readable } from 'node:stream'
import { decode, peek } from './decode.ts'
import { ImportError } from './import-error.ts'
import { FORMATS } from './sources/formats.ts'
import { detectFormat, type SourceContent, type SourceFormat, type SourceOptions } from './sources/source.ts'

export type ImportSource = {
  readonly name: string
  readonly totalBytes?: number | undefined
  /** Bytes read so far, for the progress that is shown. */
  readonly bytesRead: () => number
  /** @param note takes sentences on what a person should know, each of them once */
  readonly read: (note: (note: string) => void) => Promise<SourceContent>
}

/**
 * Bytes that are read before the format and the delimiter are chosen, if the source has as many. A pipe may deliver a
 * few at a time, and a sequence is recognised by its complete first feature; memory holds these bytes twice.
 */
const START_BYTES = 1 << 20
/** Bytes that show whether a file is opened by its name. */
const SIGNATURE_BYTES = 1 << 10

type OpenOptions = SourceOptions & { readonly format?: SourceFormat | undefined }

/**
 * Opens a file, or standard input for `-`, and detects its format if the options name none.
 * @throws ImportError if the source cannot be read, is empty or has no known format
 */
export async function openSource(
  name: string,
  standardInput: Readable,
  options: OpenOptions,
): Promise<ImportSource> {
  const file = name === '-' ? undefined : name
  let totalBytes: number | undefined
  if (file !== undefined) {
    if (options.format?.isOpenedByName) return openByName(file, options.format, options)
    const found = await stat(file).catch((cause) => {
      throw explainFailure(cause, name)
    })
    totalBytes = found.isFile() ? found.size : undefined
    // The first bytes of a pipe cannot be read a second time, and an empty file has none.
    const start = totalBytes ? await readStart(file) : Buffer.alloc(0)
    const format = options.format ?? detectFormat(FORMATS, name, start)
    if (format?.isOpenedByName && (totalBytes || found.isDirectory()) && !isPacked(name))
      return openByName(file, format, options)
    if (found.isDirectory()) throw new ImportError(`${name} is a folder; name a file in it.`)
  }
  const input: Readable =
    file === undefined ? standardInput : createReadStream(file, { highWaterMark: START_BYTES })
  const shownName = file ?? 'Standard input'
  let bytesRead = 0
  const source = (async function* () {
    try {
      for await (const chunk of input as AsyncIterable<Buffer>) {
        bytesRead += chunk.length
        yield chunk
      }
    } catch (cause) {
      throw explainFailure(cause as NodeJS.ErrnoException, shownName)
    }
  })()
  const { bytes: decoded, isConverted } = await decode(source, shownName)
  const { start, bytes: all } = await peek(decoded, START_BYTES)
  if (start.length === 0) throw new ImportError(`${shownName} is empty.`)
  const format = options.format ?? detectFormat(FORMATS, name, start)
  if (!format) throw new ImportError(`The format of ${name} is not known; name it with --format.`)
  const { layer, sourceCrs } = options
  if (!format.isOpenedByName && (layer ?? sourceCrs) !== undefined)
    throw new ImportError(
      `${shownName} is read as ${format.name}: ${layer === undefined ? '--source-crs' : '--layer'} only goes with --format gdal.`,
    )
  const bytes = Readable.from(all, { objectMode: true, highWaterMark: 1 })
  return {
    name: file === undefined ? 'standard input' : basename(file),
    totalBytes,
    bytesRead: () => bytesRead,
    read: (note) => format.read({ file: isConverted ? undefined : file, start, bytes, note }, options),
  }
}

/** Its progress is counted in features. */
const openByName = (name: string, format: SourceFormat, options: OpenOptions): ImportSource => ({
  name: basename(name),
  bytesRead: () => 0,
  read: (note) =>
    format.read({ file: name, start: Buffer.alloc(0), bytes: Readable.from([]), note }, options),
})

const isPacked = (name: string) => /\.gz$/i.test(name)

async function readStart(file: string): Promise<Buffer> {
  const handle = await open(file).catch((cause) => {
    throw explainFailure(cause, file)
  })
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(SIGNATURE_BYTES), 0, SIGNATURE_BYTES, 0)
    return buffer.subarray(0, bytesRead)
  } finally {
    await handle.close()
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
