// Owns the options of commands that fill a collection: of `tessera import` and `tessera copy`.

import { ConfigError } from '../config.ts'
import { DISTRIBUTIONS, type DistributeBy } from '../features/collections/managed.ts'
import { COLUMN_TYPES, type ColumnType, parseColumnType } from '../features/import/column-type.ts'
import type { ImportOptions } from '../features/import/import.ts'
import { MAX_LEVEL } from '../features/sharding/cell.ts'

export const TARGET_OPTIONS = {
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

type Given = Readonly<Partial<Record<keyof typeof TARGET_OPTIONS, string>>>

/** @throws ConfigError */
export function targetOptionsOf(
  collection: string,
  options: Given,
  lists: Readonly<Record<string, readonly string[]>>,
): ImportOptions {
  const { id, title, description, license, attribution } = options
  if (options.append && options.replace) throw new ConfigError('--append and --replace exclude each other.')
  return {
    collection,
    existing: options.append ? 'append' : options.replace ? 'replace' : undefined,
    id,
    title,
    description,
    license,
    attribution,
    types: parseTypes(lists.type ?? []),
    skipInvalid: options['skip-invalid'] === 'true',
    ...parseDistribution(options['distribute-by'], options.level, options.append === 'true'),
  }
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
