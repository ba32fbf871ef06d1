// Owns `tessera export`.

import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { extname } from 'node:path'
import { finished } from 'node:stream/promises'
import { ConfigError, readConfig } from '../config.ts'
import type { Database } from '../database/contract.ts'
import type { Emit } from '../events.ts'
import { FILTER_LANGUAGES, type FilterLanguage } from '../features/filter/filter.ts'
import { functionsOf } from '../features/filter/published.ts'
import type { Encoder } from '../features/formats/encoder.ts'
import { encoders } from '../features/formats/encoders.ts'
import { type ItemParameters, type ItemQuery, NO_LIMIT, planItems } from '../features/query/item-query.ts'
import { streamPage, wayOfWhole } from '../features/query/read-page.ts'
import { makeUnshown } from '../features/query/unshown.ts'
import { openTerminal } from '../terminal.ts'
import { INTERRUPTIONS, runUntilSignal } from './lifecycle.ts'
import { openCollections } from './open-collections.ts'

const EXPORT_OPTIONS = {
  output: 'value',
  format: 'value',
  filter: 'value',
  'filter-lang': 'value',
  bbox: 'value',
  'output-crs': 'value',
  datetime: 'value',
  properties: 'value',
  sortby: 'value',
  'skip-geometry': 'flag',
  'csv-bom': 'flag',
} as const

type Output = NodeJS.WritableStream

export async function runExport(args: readonly string[]) {
  const { config, options, positionals } = readConfig(args, EXPORT_OPTIONS)
  const [id, ...rest] = positionals
  if (!id || rest.length > 0)
    throw new ConfigError('export takes one collection: tessera export cities -o cities.parquet')
  const { output } = options
  const parameters = parametersOf(options)
  const encoder = chooseEncoder(options.format, output)
  const emit = openTerminal(process.stderr)
  const interruptedBy = await runUntilSignal(emit, async (cleanup, interrupted) => {
    const { database, catalog } = await openCollections(config, cleanup, emit)
    const query = planItems(parameters, catalog.get(id), functionsOf(catalog.routines, emit))
    const deadline = new AbortController()
    interrupted.then(() => deadline.abort(new ConfigError('The export was interrupted.')))
    const write = async (out: Output) => {
      const failed = once(out, 'error').then(([error]) => {
        throw new ConfigError(`${output ?? 'Standard output'} cannot be written: ${error.message}`)
      })
      const hasByteOrderMark = options['csv-bom'] === 'true'
      await Promise.race([
        writeFeatures(
          out,
          database,
          query,
          encoder.inSystem(query.system),
          hasByteOrderMark,
          deadline.signal,
          emit,
        ),
        failed,
      ])
    }
    if (output === undefined || output === '-') return write(process.stdout)
    // A file that is incomplete never has its name.
    const part = `${output}.part`
    cleanup.defer(() => rm(part, { force: true }))
    const file = createWriteStream(part)
    await write(file)
    file.end()
    await finished(file)
    await rename(part, output)
  })
  if (interruptedBy) process.exitCode = INTERRUPTIONS[interruptedBy]
}

function parametersOf(
  options: Readonly<Partial<Record<keyof typeof EXPORT_OPTIONS, string>>>,
): ItemParameters {
  const { filter, datetime, bbox, properties, sortby } = options
  const given = {
    limit: NO_LIMIT,
    filter,
    'filter-lang': filterLanguageOf(options['filter-lang']),
    datetime,
    crs: options['output-crs'],
    bbox: bbox === undefined ? undefined : numbersIn(bbox),
    properties: properties?.split(','),
    sortby: sortby?.split(','),
    skipGeometry: options['skip-geometry'] === 'true',
  }
  return Object.fromEntries(
    Object.entries(given).filter(([, value]) => value !== undefined),
  ) as ItemParameters
}

/** @throws ConfigError */
export function filterLanguageOf(language: string | undefined): FilterLanguage | undefined {
  const known = FILTER_LANGUAGES.find((one) => one === language)
  if (language === undefined || known) return known
  throw new ConfigError(`--filter-lang=${language}: must be ${FILTER_LANGUAGES.join(' or ')}.`)
}

/** Returns the format of that name, or that of the ending of the file; GeoJSON for a standard output. */
function chooseEncoder(name: string | undefined, output: string | undefined): Encoder {
  const ending = output === undefined || output === '-' ? encoders[0].extensions[0] : extname(output).slice(1)
  const found =
    name === undefined
      ? encoders.find(({ extensions }) => extensions.includes(ending.toLowerCase()))
      : encoders.find(({ format }) => format.name === name)
  if (found) return found
  if (name !== undefined)
    throw new ConfigError(
      `--format=${name}: must be ${encoders.map(({ format }) => format.name).join(', ')}.`,
    )
  const endings = encoders.flatMap(({ extensions }) => extensions.map((one) => `.${one}`))
  throw new ConfigError(
    `--output=${output}: the name must end with ${endings.join(', ')}, or --format must name the format.`,
  )
}

function numbersIn(text: string): number[] {
  const numbers = text.split(',').map((part) => (part.trim() === '' ? Number.NaN : Number(part)))
  if ((numbers.length === 4 || numbers.length === 6) && numbers.every(Number.isFinite)) return numbers
  throw new ConfigError(`--bbox=${text}: must be four or six numbers separated by commas.`)
}

/** Writes all features of the query, at the pace of the output. */
async function writeFeatures(
  out: Output,
  database: Database,
  query: ItemQuery,
  encoder: Encoder,
  hasByteOrderMark: boolean,
  deadline: AbortSignal,
  emit: Emit,
) {
  const { collection, properties, geometry, condition } = query
  const startedAt = performance.now()
  const total = condition === undefined && collection.estimatedRows > 0 ? collection.estimatedRows : undefined
  const advanced = () => emit({ type: 'export-advanced', collection: collection.id, features, bytes, total })
  let features = 0
  let bytes = 0
  const put = async (part: string | Uint8Array) => {
    if (part.length === 0) return
    bytes += Buffer.byteLength(part)
    if (!out.write(part)) await once(out, 'drain', { signal: deadline })
  }
  const reading = { database, encoder, unshown: makeUnshown(emit), deadline }
  const { first, rest } = await streamPage(reading, query, wayOfWhole(query))
  const writer = await encoder.open({
    collection,
    properties,
    hasGeometry: geometry !== 'none',
    hasByteOrderMark,
    origin: { url: undefined },
  })
  await put(writer.start())
  try {
    let batch = first
    for (; !batch.done; batch = await rest.next()) {
      features += batch.value.length
      await put(writer.write(batch.value.map(([feature]) => feature!)))
      advanced()
    }
    if (batch.value)
      throw new ConfigError(`A batch of features of ${collection.id} is too large to be held in memory.`)
  } finally {
    await rest.return(true)
  }
  await put(writer.end({ returned: features, matched: features, links: [] }))
  await put(writer.stamp())
  const milliseconds = performance.now() - startedAt
  emit({ type: 'export-finished', collection: collection.id, features, bytes, milliseconds })
}
