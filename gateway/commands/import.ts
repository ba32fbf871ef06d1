// Owns `tessera import`.

import { ConfigError, readConfig } from '../config.ts'
import { importFeatures } from '../features/import/import.ts'
import { openSource } from '../features/import/import-source.ts'
import { FORMATS } from '../features/import/sources/formats.ts'
import { openTerminal } from '../terminal.ts'
import { TARGET_OPTIONS, targetOptionsOf } from './import-options.ts'
import { findDatabase, INTERRUPTIONS, runUntilSignal, withOwner } from './lifecycle.ts'

const IMPORT_OPTIONS = {
  ...TARGET_OPTIONS,
  collection: 'value',
  format: 'value',
  object: 'value',
  layer: 'value',
  'source-crs': 'value',
  longitude: 'value',
  latitude: 'value',
} as const

export async function runImport(args: readonly string[]) {
  const { config, options, lists, positionals } = readConfig(args, IMPORT_OPTIONS)
  const [source, ...rest] = positionals
  if (!source || rest.length > 0 || !options.collection) {
    throw new ConfigError(
      'import takes one source and a collection: tessera import roads.geojson --collection roads',
    )
  }
  const target = targetOptionsOf(options.collection, options, lists)
  const format = FORMATS.find(({ name }) => name === options.format)
  if (options.format && !format)
    throw new ConfigError(
      `--format=${options.format}: must be ${FORMATS.map(({ name }) => name).join(', ')}.`,
    )
  const emit = openTerminal(process.stderr)
  const { object, layer, 'source-crs': sourceCrs, longitude, latitude } = options
  const opened = await openSource(source, process.stdin, {
    format,
    object,
    layer,
    sourceCrs,
    longitude,
    latitude,
  })
  const interruptedBy = await runUntilSignal(emit, async (cleanup) => {
    const { addresses } = await findDatabase(config, cleanup, true, emit)
    await withOwner(addresses, emit, (session) => importFeatures(session, opened, target, emit))
  })
  if (interruptedBy) process.exitCode = INTERRUPTIONS[interruptedBy]
}
