// Owns the import: a stream of features → a table with typed columns, all of them or none.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Session } from '../../database/session.ts'
import type { Emit } from '../../events.ts'
import { createFirstSamples } from '../collections/create-samples.ts'
import { type DistributeBy, GEOMETRY_COLUMN, SCHEMA } from '../collections/managed.ts'
import { chooseLevel } from '../sharding/cell.ts'
import { type ColumnType, withDecimalPoint } from './column-type.ts'
import { copySpool } from './copy.ts'
import { type Description, describeCollection } from './description.ts'
import { ImportError } from './import-error.ts'
import type { ImportSource } from './import-source.ts'
import type { SourceContent } from './sources/source.ts'
import { InvalidFeature, makeSpool, type Spool, type SpooledColumn, type SpooledFeatures } from './spool.ts'
import {
  adaptColumns,
  advanceSequence,
  checkCollectionName,
  checkOwnIds,
  checkSameTable,
  checkTarget,
  createTable,
  findCitus,
  findJsonColumns,
  finishTable,
  geometryColumnOf,
  geometryTypeOf,
  replacementName,
  replaceTable,
  type Target,
  vacuumTable,
} from './target-table.ts'
import { checkTypes } from './type-check.ts'

export type ImportOptions = Description & {
  readonly collection: string
  /** What to do if the collection exists; undefined: fail. */
  readonly existing?: 'append' | 'replace' | undefined
  /** Property that identifies a feature; undefined: the features' own ids if all of them have one. */
  readonly id?: string | undefined
  /** Types of columns, by property; the other types come from the source or are inferred from values. */
  readonly types?: ReadonlyMap<string, ColumnType>
  /** True to leave out features that are not valid, instead of failing. */
  readonly skipInvalid?: boolean | undefined
  /** `cell` by default. */
  readonly distributeBy?: DistributeBy | undefined
  /** Runs in the transaction that fills the table, as the last step before it is committed. */
  readonly beforeCommit?: (() => Promise<void>) | undefined
  /** Level of the cells; undefined: `chooseLevel` of cell.ts chooses it from the features. */
  readonly level?: number | undefined
}

/** @property skipped number of features that were left out because they were not valid */
export type ImportResult = { readonly features: number; readonly skipped: number }

/** Milliseconds between two reports of progress. */
const PROGRESS_INTERVAL_MS = 100
/** Citus' own default: a table of a single node may be distributed later. */
const USUAL_SHARDS = 32

/**
 * Imports in two passes, because a table needs its columns before its rows. The first pass reads the source once,
 * checks each feature, writes it to the spool and learns the types of the columns. The second pass sends the spool.
 * @throws ImportError
 */
export async function importFeatures(
  session: Session,
  source: ImportSource,
  options: ImportOptions,
  emit: Emit,
): Promise<ImportResult> {
  const start = performance.now()
  const { collection } = options
  checkCollectionName(collection)
  emit({ type: 'import-started', collection, source: source.name })
  const target = await checkTarget(session, collection, options.existing)
  const jsonColumns =
    target && options.existing === 'append' ? await findJsonColumns(session, target.oid) : new Set<string>()
  const folder = await mkdtemp(join(tmpdir(), 'tessera-import-'))
  try {
    const { spooled, skipped } = await spoolSource(
      session,
      source,
      options,
      jsonColumns,
      join(folder, 'spool'),
      emit,
    )
    const { features } = spooled
    emit({ type: 'import-loading', collection, features })
    await load(session, spooled, options, emit)
    emit({ type: 'import-finished', collection, features, skipped, milliseconds: performance.now() - start })
    return { features, skipped }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** The first pass. @throws ImportError */
async function spoolSource(
  session: Session,
  source: ImportSource,
  options: ImportOptions,
  jsonColumns: ReadonlySet<string>,
  file: string,
  emit: Emit,
): Promise<{ readonly spooled: SpooledFeatures; readonly skipped: number }> {
  const note = (text: string) => emit({ type: 'import-noted', collection: options.collection, note: text })
  const content = await source.read(note).catch((error) => {
    throw withSource(error, source)
  })
  const types = new Map([...(content.columnTypes ?? []), ...(options.types ?? [])])
  const { hasTypes, hasDecimalCommas = false, idColumn, declaredTypes, unit } = content
  const id = options.id === idColumn ? undefined : options.id
  const spool = makeSpool(file, {
    id,
    types,
    declaredTypes,
    unit,
    jsonColumns,
    hasTypes,
    hasDecimalCommas,
    note,
  })
  let skipped: number
  let spooled: SpooledFeatures
  try {
    // Otherwise COPY finds them: the first one ends the import.
    const features =
      options.skipInvalid && options.types ? checkTypes(session, content, options.types) : content.features
    skipped = await addAll(spool, { ...content, features }, source, options, emit)
    spooled = await spool.end()
  } catch (error) {
    spool.discard()
    throw withSource(error as Error, source)
  }
  if (spooled.features === 0)
    throw new ImportError(
      `${source.name} holds no ${skipped > 0 ? 'valid ' : ''}feature; nothing was imported.`,
    )
  for (const property of options.types?.keys() ?? []) {
    if (!spooled.columns.some((column) => column.property === property))
      throw new ImportError(
        `--type ${property}: ${skipped > 0 ? 'no feature that can be imported has such a' : 'the source has no such'} property.`,
      )
  }
  return { spooled, skipped }
}

/** Adds the features of a source to the spool. @returns the number of features that were left out */
async function addAll(
  spool: Spool,
  { features: batches, featureCount, unit = 'Line' }: SourceContent,
  source: ImportSource,
  { collection, skipInvalid }: ImportOptions,
  emit: Emit,
): Promise<number> {
  let skipped = 0
  const reportProgress = () => {
    const { features } = spool
    const progress =
      featureCount === undefined
        ? { done: source.bytesRead(), total: source.totalBytes }
        : { done: features + skipped, total: featureCount }
    emit({ type: 'import-advanced', collection, features, ...progress })
  }
  let lastProgress = 0
  for await (const batch of batches) {
    for (const feature of batch) {
      try {
        await spool.add(feature)
      } catch (cause) {
        if (!(cause instanceof InvalidFeature)) throw cause
        const { line } = feature
        const reason = cause.message
        if (!skipInvalid) {
          throw new ImportError(
            `${unit} ${line} of ${source.name} ${reason}. Nothing was imported; --skip-invalid would leave such features out.`,
            { cause },
          )
        }
        skipped++
        emit({ type: 'import-skipped-feature', collection, unit, line, reason })
      }
    }
    if (performance.now() - lastProgress > PROGRESS_INTERVAL_MS) {
      lastProgress = performance.now()
      reportProgress()
    }
  }
  reportProgress()
  return skipped
}

/** Names the source in a failure that does not name it yet. */
const withSource = (error: Error, source: ImportSource): ImportError =>
  error instanceof ImportError ? error : new ImportError(`${source.name}: ${error.message}`, { cause: error })

/** The second pass: fills the table in one transaction. @throws ImportError */
async function load(session: Session, spooled: SpooledFeatures, options: ImportOptions, emit: Emit) {
  const { collection, existing } = options
  const { features, ids } = spooled
  if (ids > 0 && ids < features) emit({ type: 'import-left-out-ids', collection, count: ids })
  const hasIds = ids === features
  await session.transaction(async () => {
    const target = await checkTarget(session, collection, existing)
    const appendedTo = existing === 'append' ? target : undefined
    const level = appendedTo
      ? await append(session, appendedTo, spooled, hasIds, collection, emit)
      : await create(session, target, spooled, hasIds, options, emit)
    if (hasIds && level === undefined) await advanceSequence(session, collection)
    await describeCollection(session, collection, options, appendedTo === undefined)
    await options.beforeCommit?.()
  })
  await vacuumTable(session, collection)
}

function noteDecimalCommas(columns: readonly SpooledColumn[], collection: string, emit: Emit) {
  for (const { name, commaExample } of columns) {
    if (commaExample === undefined) continue
    const note = `Numbers in ${name} have decimal commas: ${commaExample} is ${withDecimalPoint(commaExample)}.`
    emit({ type: 'import-noted', collection, note })
  }
}

/** Appends to a table. @returns the level of its cells */
async function append(
  session: Session,
  target: Target,
  spooled: SpooledFeatures,
  hasIds: boolean,
  collection: string,
  emit: Emit,
) {
  const { oid, level } = target
  const columns = await adaptColumns(session, oid, spooled)
  noteDecimalCommas(columns, collection, emit)
  const { type, namesSystem } = await geometryTypeOf(session, oid)
  const multi = /^Multi(.+)$/.exec(type)?.[1] ?? geometryColumnOf(spooled).multi
  const layout = { level, hasIds, isAppend: true, multi, namesSystem }
  await copySpool(session, collection, { ...spooled, columns }, layout)
  // COPY has locked the table that had the name then.
  await checkSameTable(session, collection, target)
  if (hasIds && level !== undefined && target.managed) await checkOwnIds(session, collection, true)
  return level
}

/** Creates a table, in place of `replaced` if there is one. @returns the level of its cells */
async function create(
  session: Session,
  replaced: Target | undefined,
  spooled: SpooledFeatures,
  hasIds: boolean,
  options: ImportOptions,
  emit: Emit,
) {
  const { collection, existing, distributeBy = 'cell' } = options
  const table = existing === 'replace' && replaced ? replacementName(collection) : collection
  const citus = await findCitus(session)
  // A replaced collection keeps its level, because gateways use the old one until they reload the catalog.
  const level =
    distributeBy === 'cell'
      ? (options.level ?? replaced?.level ?? chooseLevel(spooled.footprints, citus?.shards ?? USUAL_SHARDS))
      : undefined
  noteDecimalCommas(spooled.columns, collection, emit)
  await createTable(session, table, spooled, hasIds, level, distributeBy)
  const { type, multi } = geometryColumnOf(spooled)
  const namesSystem = type === undefined
  await copySpool(session, table, spooled, { level, hasIds, isAppend: false, multi, namesSystem })
  if (replaced) await replaceTable(session, collection, replaced)
  await finishTable(session, collection, level)
  if (/^PointZ?$/.test(type ?? ''))
    await createFirstSamples(session, {
      schema: SCHEMA,
      table: collection,
      key: [{ name: 'id' }],
      geometry: { column: GEOMETRY_COLUMN },
      samples: [],
    })
  if (hasIds && level !== undefined) await checkOwnIds(session, collection, false)
  return level
}
