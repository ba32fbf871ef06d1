// Owns what an interrupted copy keeps on disk: the pages that were read completely, and where to go on.

import { constants } from 'node:fs'
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { ColumnType } from '../column-type.ts'
import type { Description } from '../description.ts'
import { ImportError } from '../import-error.ts'

/** What is known of a copy after its last complete page. */
export type Progress = {
  /** Address of the collection, as it was given. */
  readonly from: string
  /** Texts of the source, and types that it declares for its properties, by their names. */
  readonly description: Description
  readonly columnTypes: Readonly<Record<string, ColumnType>>
  readonly declaredTypes: Readonly<Record<string, ColumnType>>
  /** Addresses of the first page and of the next one; null: all pages were read. */
  readonly first: string
  readonly next: string | null
  /** True if a page has had a link to the next one. */
  readonly hasLinks: boolean
  /** Features on the pages so far, and a hash of the first one. */
  readonly features: number
  readonly firstFeature: string | null
  /** Features of all pages, if the server says so. */
  readonly matched: number | null
  /** The transaction that stores the features, as soon as it may be committed. */
  readonly storing: Storing | null
}

/** A transaction of one database. */
export type Storing = {
  readonly system: string
  readonly database: string
  readonly collection: string
  readonly transaction: string
}

export interface Journal {
  /** Undefined as long as no page is complete. */
  readonly progress: Progress | undefined
  /** Bytes of the complete pages. */
  readonly bytes: number
  /** Starts a page: forgets what an earlier attempt has written of it. */
  begin(): Promise<void>
  /** Writes more of the page. */
  write(chunk: Buffer): Promise<void>
  /** Makes the page that was written part of the journal. */
  commit(progress: Progress): Promise<void>
  /** Keeps something else than a page. */
  keep(progress: Progress): Promise<void>
  /** Reads complete pages: JSON documents, one after another. */
  read(start: number): AsyncIterable<Buffer>
  close(): Promise<void>
  /** Removes the journal from the disk. */
  remove(): Promise<void>
}

const STATE = 'copy.json'
const PAGES = 'pages.geojson'
/** Changes if the files get another meaning. */
const VERSION = 1
const READ_BYTES = 1 << 18

/**
 * Opens the journal in a folder, which is created if it is missing.
 * @throws ImportError if the folder has something else in it
 */
export async function openJournal(folder: string): Promise<Journal> {
  const explain = (cause: NodeJS.ErrnoException): never => {
    throw new ImportError(
      `${folder}, where the copy keeps what it has read, cannot be used (${cause.code ?? cause.message}).`,
      {
        cause,
      },
    )
  }
  await mkdir(folder, { recursive: true, mode: 0o700 }).catch(explain)
  const state = await readState(folder).catch((cause) =>
    cause instanceof ImportError ? Promise.reject(cause) : explain(cause),
  )
  let { progress, bytes } = state
  const file = await open(join(folder, PAGES), constants.O_RDWR | constants.O_CREAT, 0o600).catch(explain)
  if ((await file.stat()).size < bytes) {
    await file.close()
    throw new ImportError(`${join(folder, PAGES)} is shorter than it was. ${HINT}`)
  }
  let end = bytes

  async function keep(kept: Progress) {
    progress = kept
    await writeState(folder, { version: VERSION, bytes, ...kept })
  }

  return {
    get progress() {
      return progress
    },
    get bytes() {
      return bytes
    },
    async begin() {
      end = bytes
      await file.truncate(bytes).catch(explain)
    },
    async write(chunk) {
      end += await writeAll(file, chunk, end).catch(explain)
    },
    async commit(kept) {
      end += await writeAll(file, NEWLINE, end).catch(explain)
      // Otherwise the state could be on the disk before the page that it counts.
      await file.datasync().catch(explain)
      bytes = end
      await keep(kept).catch(explain)
    },
    keep: (kept) => keep(kept).catch(explain),
    async *read(start) {
      for (let position = start; position < bytes; ) {
        const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, bytes - position))
        const { bytesRead } = await file.read(buffer, 0, buffer.length, position).catch(explain)
        if (bytesRead === 0) throw new ImportError(`${join(folder, PAGES)} was cut short. ${HINT}`)
        position += bytesRead
        yield buffer.subarray(0, bytesRead)
      }
    },
    close: () => file.close(),
    async remove() {
      await file.close()
      await removeJournal(folder)
    },
  }
}

const NEWLINE = Buffer.from('\n')
const HINT = 'Start over with --restart.'

async function writeAll(file: FileHandle, chunk: Buffer, position: number): Promise<number> {
  for (let written = 0; written < chunk.length; )
    written += (await file.write(chunk, written, chunk.length - written, position + written)).bytesWritten
  return chunk.length
}

/** Removes the files of a copy, and their folder if it has no others. */
export async function removeJournal(folder: string) {
  for (const name of [STATE, PAGES, `${STATE}.new`]) await rm(join(folder, name), { force: true })
  await rmdir(folder).catch((cause) => {
    if (cause.code !== 'ENOENT' && cause.code !== 'ENOTEMPTY') throw cause
  })
}

async function readState(folder: string): Promise<{ progress: Progress | undefined; bytes: number }> {
  const path = join(folder, STATE)
  const text = await readFile(path, 'utf8').catch((cause) => {
    if (cause.code === 'ENOENT') return undefined
    throw cause
  })
  if (text === undefined) {
    const others = (await readdir(folder)).filter((name) => name !== PAGES && name !== `${STATE}.new`)
    if (others.length > 0)
      throw new ImportError(
        `${folder} has other files than those of a copy; name another folder with --folder, or an empty one.`,
      )
    return { progress: undefined, bytes: 0 }
  }
  try {
    const { version, bytes, ...progress } = JSON.parse(text)
    if (version !== VERSION || !Number.isSafeInteger(bytes)) throw new Error(`its version is ${version}`)
    return { progress, bytes }
  } catch (cause) {
    throw new ImportError(`${path} is not the state of a copy (${(cause as Error).message}). ${HINT}`, {
      cause,
    })
  }
}

/** Writes next to the old state, so that there is always one. */
async function writeState(folder: string, state: object) {
  const path = join(folder, STATE)
  const file = await open(`${path}.new`, 'w', 0o600)
  try {
    await file.writeFile(`${JSON.stringify(state, null, 2)}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(`${path}.new`, path)
}
