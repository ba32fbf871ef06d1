// Owns the import: a stream of features → a table with typed columns, whole or not at all.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sql } from 'drizzle-orm'
import type { Session } from '../../database/session.ts'
import type { Emit } from '../../events.ts'
import { chooseLevel } from '../sharding/cell.ts'
import { MAX_NAME_BYTES } from './column-name.ts'
import type { ColumnType } from './column-type.ts'
import { copySpool } from './copy.ts'
import { type Describe, describe } from './description.ts'
import type { ImportSource } from './import-source.ts'
import type { SourceOptions } from './sources/source.ts'
import { type Spool, spoolFeatures } from './spool.ts'
import {
  advanceSequence,
  checkColumns,
  checkTarget,
  createTable,
  type DistributeBy,
  distributeTable,
  findTarget,
  finishTable,
  geometryTypeOf,
  parseCollectionName,
  tableName,
  textOf,
} from './target-table.ts'

export type ImportOptions = Describe &
  SourceOptions & {
    readonly collection: string
    /** What to do where the collection exists; undefined: fail. */
    readonly existing?: 'append' | 'replace' | undefined
    /** The property that identifies a feature; undefined: the features' own ids if all have one. */
    readonly id?: string | undefined
    readonly types?: ReadonlyMap<string, ColumnType>
    readonly skipInvalid?: boolean | undefined
    /** `cell` by default. */
    readonly distributeBy?: DistributeBy | undefined
    /** Of the grid that features are sharded by; undefined: as the features want it, see cell.ts. */
    readonly level?: number | undefined
  }

export type ImportResult = { readonly features: number; readonly skipped: number }

/**
 * Two passes, because a table needs its columns before its rows: the first reads the source once, checks
 * each feature and spools it as a line of COPY while it learns the types; the second sends the spool.
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
  parseCollectionName(collection)
  emit({ type: 'import-started', collection, source: source.name })
  await checkTarget(session, options)
  const folder = await mkdtemp(join(tmpdir(), 'tessera-import-'))
  try {
    const spool = await spoolFeatures(source, await source.read(), options, join(folder, 'spool'), emit)
    emit({ type: 'import-loading', collection, features: spool.features })
    await load(session, spool, options, emit)
    const { features, skipped } = spool
    emit({ type: 'import-finished', collection, features, skipped, milliseconds: performance.now() - start })
    return { features, skipped }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function load(session: Session, spool: Spool, options: ImportOptions, emit: Emit) {
  const { collection, existing } = options
  const { count } = spool.identifiers
  if (count > 0 && count < spool.features) emit({ type: 'import-left-out-ids', collection, count })
  await session.transaction(async () => {
    const target = await findTarget(session, collection)
    const isAppend = existing === 'append' && target !== undefined
    const table =
      existing === 'replace' && target ? `tessera import ${collection}`.slice(0, MAX_NAME_BYTES) : collection
    const hasIds = spool.identifiers.count === spool.features
    const citus = await findCitus(session)
    const level = isAppend ? target.level : chooseLayout(spool, options, target?.level, citus?.shards)
    if (isAppend) await checkColumns(session, target.oid, spool)
    else {
      await createTable(session, table, spool, hasIds, level)
      if (citus) await distributeTable(session, table, options.distributeBy ?? 'cell')
    }
    await copySpool(
      session,
      table,
      spool,
      { level, hasIds, isAppend },
      isAppend ? await geometryTypeOf(session, target.oid) : undefined,
    )
    if (!isAppend) await finishTable(session, table, collection, target, level)
    if (hasIds && level === undefined) await advanceSequence(session, collection)
    await describe(session, options)
  })
  // Outside the transaction, where VACUUM can run: it lets counts and joins use the index alone.
  await session.query(textOf(sql`vacuum (analyze) ${tableName(collection)}`))
}

/** The level of the cells that features are sharded by; undefined where they are not. */
function chooseLayout(
  spool: Spool,
  { distributeBy = 'cell', level }: ImportOptions,
  replaced: number | undefined,
  shards: number | undefined,
): number | undefined {
  // One that is replaced keeps its level: gateways know it from before, until they look again.
  return distributeBy === 'cell'
    ? (level ?? replaced ?? chooseLevel(spool.places, shards ?? USUAL_SHARDS))
    : undefined
}

/** Citus' own default: a table of one node may come to be distributed some day. */
const USUAL_SHARDS = 32

async function findCitus(session: Session): Promise<{ readonly shards: number } | undefined> {
  const [row] = await session.query<{ shards: string | null }>(
    "select current_setting('citus.shard_count', true) as shards",
  )
  return row?.shards ? { shards: Number(row.shards) } : undefined
}
