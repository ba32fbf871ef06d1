// Owns `tessera import`.

import { ConfigError, readConfig } from '../config.ts'
import { DISTRIBUTIONS, type DistributeBy } from '../features/collections/managed.ts'
import { COLUMN_TYPES, type ColumnType, parseColumnType } from '../features/import/column-type.ts'
import { importFeatures } from '../features/import/import.ts'
import { openSource } from '../features/import/import-source.ts'
import { FORMATS } from '../features/import/sources/formats.ts'
import { MAX_LEVEL } from '../features/sharding/cell.ts'
import { openTerminal } from '../terminal.ts'
import { findDatabase, INTERRUPTIONS, runUntilSignal, withOwner } from './lifecycle.ts'

const IMPORT_OPTIONS = {
  collection: 'value',
  format: 'value',
  object: 'value',
  layer: 'value',
  'source-crs': 'value',
  longitude: 'value',
  latitude: 'value',
  id: 'value',
  type: 'list',
  append: 'flag',
  replace: 'flag',
  title: 'value',
  description: 'value',
  license: 'value',
  attribution: 'value',
  'skip-invalid': 'flag',
  'distribute-by': 'value',
  level: 'value',
} as const

export async function runImport(args: readonly string[]) {
  const { config, options, lists, positionals } = readConfig(args, IMPORT_OPTIONS)
  const [source, ...rest] = positionals
  if (!source || rest.length > 0 || !options.collection) {
    throw new ConfigError(
      'import takes one source and a collection: tessera import roads.geojson --collection roads',
    )
  }
  if (options.append && options.replace) throw new ConfigError('--append and --replace exclude each other.')
  const format = FORMATS.find(({ name }) => name === options.format)
  if (options.format && !format)
    throw new ConfigError(
      `--format=${options.format}: must be ${FORMATS.map(({ name }) => name).join(', ')}.`,
    )
  const types = parseTypes(lists.type ?? [])
  const distributeBy = parseDistribution(options['distribute-by'], options.level, options.append === 'true')
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
  const existing = options.append ? 'append' : options.replace ? 'replace' : undefined
  const interruptedBy = await runUntilSignal(emit, async (cleanup) => {
    const { addresses } = await findDatabase(config, cleanup, true, emit)
    await withOwner(addresses, emit, (session) =>
      importFeatures(
        session,
        opened,
        {
          ...options,
          collection: options.collection!,
          existing,
          types,
          skipInvalid: options['skip-invalid'] === 'true',
          ...distributeBy,
        },
        emit,
      ),
    )
  })
  if (interruptedBy) process.exitCode = INTERRUPTIONS[interruptedBy]
}

/** Parses how the features of a new collection are distributed. */
function parseDistribution(by: string | undefined, level: string | undefined, isAppend: boolean) {
  const distributeBy = by as DistributeBy | undefined
  if (distributeBy && !DISTRIBUTIONS.includes(distributeBy))
    throw new ConfigError(`--distribute-by=${by}: must be ${DISTRIBUTIONS.join(', ')}.`)
  if (level !== undefined && !(/^\d+$/.test(level) && Number(level) <= MAX_LEVEL))
    throw new ConfigError(`--level=${level}: must be an integer from 0 to ${MAX_LEVEL}.`)
  if (level !== undefined && (distributeBy ?? 'cell') !== 'cell')
    throw new ConfigError('--level is the level of cells: it only goes with --distribute-by cell.')
  if (isAppend && (by ?? level) !== undefined)
    throw new ConfigError('--append keeps the collection as it is: leave out --distribute-by and --level.')
  return { distributeBy, level: level === undefined ? undefined : Number(level) }
}

/** Parses types of columns, as in `--type height:double`. */
function parseTypes(texts: readonly string[]): Map<string, ColumnType> {
  return new Map(
    texts.map((text) => {
      const [, property, name] = /^(.+):([^:]+)$/.exec(text) ?? []
      const type = name && parseColumnType(name)
      if (!property || !type) {
        throw new ConfigError(
          `--type=${text}: must be property:type, the type one of ${COLUMN_TYPES.join(', ')}.`,
        )
      }
      return [property, type]
    }),
  )
}
