// Owns `tessera copy`: copies a collection of any server of OGC API Features into the own database.

import { readFile } from 'node:fs/promises'
import { ConfigError, readConfig } from '../config.ts'
import { copyCollection } from '../features/import/remote/copy-collection.ts'
import { openTerminal } from '../terminal.ts'
import { TARGET_OPTIONS, targetOptionsOf } from './import-options.ts'
import { findDatabase, INTERRUPTIONS, runUntilSignal, withOwner } from './lifecycle.ts'

const COPY_OPTIONS = {
  ...TARGET_OPTIONS,
  headers: 'value',
  folder: 'value',
  restart: 'flag',
  'new-ids': 'flag',
  'keeps-order': 'flag',
} as const

export async function runCopy(args: readonly string[]) {
  const { config, options, lists, positionals } = readConfig(args, COPY_OPTIONS)
  const [from, collection, ...rest] = positionals
  if (!from || !collection || rest.length > 0)
    throw new ConfigError(
      'copy takes the address of a collection and the name of a new one: tessera copy https://example.org/collections/roads roads',
    )
  const into = targetOptionsOf(collection, options, lists)
  if (options.id && options['new-ids'])
    throw new ConfigError(
      '--id names the property with the ids, and --new-ids leaves them out: use one of them.',
    )
  const headers = options.headers === undefined ? {} : await readHeaders(options.headers)
  const emit = openTerminal(process.stderr)
  const interruptedBy = await runUntilSignal(emit, async (cleanup, interrupted) => {
    const stop = new AbortController()
    interrupted.then(() => stop.abort(new ConfigError('The copy was interrupted.')))
    const { addresses } = await findDatabase(config, cleanup, true, emit)
    await withOwner(addresses, emit, (session) =>
      copyCollection(
        session,
        {
          from,
          into,
          headers,
          folder: options.folder ?? `${collection}.copy`,
          restart: options.restart === 'true',
          newIds: options['new-ids'] === 'true',
          keepsOrder: options['keeps-order'] === 'true',
        },
        emit,
        stop.signal,
      ),
    )
  })
  if (interruptedBy) process.exitCode = INTERRUPTIONS[interruptedBy]
}

/** Reads the headers of a file, one in a line: as arguments, other users of the machine would see them. */
async function readHeaders(file: string): Promise<Record<string, string>> {
  const text = await readFile(file, 'utf8').catch((cause) => {
    throw new ConfigError(`--headers=${file}: the file cannot be read (${cause.code}).`, { cause })
  })
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== '')
  return Object.fromEntries(
    lines.map((line, index) => {
      const [, name, value] = /^([!#$%&'*+.^_`|~\w-]+):[ \t]*([\x20-\x7e]*?)[ \t]*$/.exec(line) ?? []
      if (name === undefined || value === undefined)
        throw new ConfigError(
          `--headers=${file}: line ${index + 1} must be a header, for example Authorization: Bearer ….`,
        )
      return [name, value]
    }),
  )
}
