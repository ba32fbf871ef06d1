// Owns the import: a stream of features → a table with typed columns, whole or not at all.

import { once } from 'node:events'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { Readable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { and, eq, type SQL, sql } from 'drizzle-orm'
import type { Session } from '../../database/session.ts'
import { collectionTable, movedFeatureTable } from '../../database/tables.ts'
import { statementOf } from '../../database/template.ts'
import type { Emit } from '../../events.ts'
import { cellAt, chooseLevel, type Place, placeOf } from '../sharding/cell.ts'
import { itemIdOf, makeLocalId } from '../sharding/feature-id.ts'
import { ExactNumber } from '../values/exact-json.ts'
import { GeometryError, parseGeometry } from '../values/geometry.ts'
import { ColumnObserver, type ColumnType, copyTextOf, NULL_TEXT } from './column-type.ts'
import { detectFormat, type Format, readFeatures, type SourceFeature, type SourceOptions } from './source.ts'

export type Describe = {
  readonly title?: string | undefined
  readonly description?: string | undefined
  readonly license?: string | undefined
  readonly attribution?: string | undefined
}

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

/**
 * What keeps features together: where they lie; their ids, for those that move all the time or whose clients
 * give them their ids; or, on Citus, every node has all of them, which suits small collections.
 */
export const DISTRIBUTIONS = ['cell', 'id', 'reference'] as const
export type DistributeBy = (typeof DISTRIBUTIONS)[number]

export type ImportSource = {
  readonly name: string
  readonly totalBytes?: number | undefined
  /** Whether values come with their types, as in JSON, or all as text, as in CSV. */
  readonly hasTypes: boolean
  /** Bytes read so far, for the progress that is shown. */
  readonly bytesRead: () => number
  readonly features: () => AsyncIterable<SourceFeature[]>
}

export type ImportResult = { readonly features: number; readonly skipped: number }

/** The import did not happen; nothing has changed. The message says where in the source, and why. */
export class ImportError extends Error {}

/** Collections are made in this schema, where their names need no prefix. */
const SCHEMA = 'public'
const GEOMETRY_COLUMN = 'geom'
/** Columns that Tessera makes or PostgreSQL; a property of such a name gets an underscore. */
const OWN_COLUMNS = new Set([
  'id',
  GEOMETRY_COLUMN,
  'cell',
  'updated_at',
  'tableoid',
  'xmin',
  'cmin',
  'xmax',
  'cmax',
  'ctid',
])
/** PostgreSQL ends at 1,600 columns, a few of them ours. */
const MAX_COLUMNS = 1_500
const MAX_NAME_BYTES = 63
/** How much text is gathered before it is written to the spool or to COPY, in characters. */
const CHUNK = 64 * 1024
const PROGRESS_INTERVAL_MS = 100
/** By how many features the level of cells is chosen. */
const MAX_PLACES = 10_000

const execute = <T extends object>(session: Session, statement: SQL) => {
  const { text, values } = statementOf(statement)
  return session.query<T>(text, values)
}
const textOf = (statement: SQL) => statementOf(statement).text

/** Where a collection of this name is, or will be. @throws ImportError for a name that no collection can have */
export function parseCollectionName(name: string): string {
  // Some room is left below 63 bytes for the names of its index and its sequence.
  if (/^[A-Za-z_][A-Za-z0-9_-]{0,47}$/.test(name)) return name
  throw new ImportError(
    `"${name}" cannot name a collection: use up to 48 letters, digits, _ and -, the first a letter, for example my_roads.`,
  )
}

/** Opens a file, or standard input for `-`. @throws ImportError where it cannot be read */
export async function openSource(
  name: string,
  standardInput: Readable,
  options: SourceOptions & { readonly format?: Format | undefined },
): Promise<ImportSource> {
  let totalBytes: number | undefined
  if (name !== '-') {
    const found = await stat(name).catch((cause) => {
      throw new ImportError(`${name} cannot be read (${cause.code}).`, { cause })
    })
    if (found.isDirectory()) throw new ImportError(`${name} is a folder; name a file in it.`)
    totalBytes = found.isFile() ? found.size : undefined
  }
  const input: Readable = name === '-' ? standardInput : createReadStream(name, { highWaterMark: 1 << 20 })
  const iterator = input[Symbol.asyncIterator]() as AsyncIterator<Buffer>
  const first = await iterator.next()
  const start: Buffer = first.done ? Buffer.alloc(0) : first.value
  if (start.length === 0) throw new ImportError(`${name === '-' ? 'Standard input' : name} is empty.`)
  const format = options.format ?? detectFormat(name, start)
  let bytesRead = 0
  const bytes = Readable.from(
    (async function* () {
      for (let next = first; !next.done; next = await iterator.next()) {
        bytesRead += next.value.length
        yield next.value
      }
    })(),
    { objectMode: true, highWaterMark: 1 },
  )
  return {
    name: name === '-' ? 'standard input' : basename(name),
    totalBytes,
    hasTypes: format !== 'csv',
    bytesRead: () => bytesRead,
    features: () => readFeatures(bytes, format, start, options),
  }
}

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
    const spool = await spoolFeatures(source, options, join(folder, 'spool'), emit)
    emit({ type: 'import-loading', collection, features: spool.features })
    await load(session, spool, options, emit)
    const { features, skipped } = spool
    emit({ type: 'import-finished', collection, features, skipped, milliseconds: performance.now() - start })
    return { features, skipped }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** @property level of its cells, where it has some */
type Target =
  | { readonly oid: string; readonly managed: boolean; readonly level: number | undefined }
  | undefined

const findTarget = async (session: Session, collection: string): Promise<Target> => {
  const [row] = await execute<{ oid: string; managed: boolean; level: string | null }>(
    session,
    sql`select c.oid::text as oid, coalesce(m.is_managed, false) as managed, (
          select substring(pg_get_constraintdef(k.oid) from 'cell = tessera\\.cell\\(geom, (\\d+)\\)')
          from pg_constraint k where k.conrelid = c.oid and k.contype = 'c' order by 1 limit 1) as level
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        left join ${collectionTable} m on m.schema_name = n.nspname and m.table_name = c.relname
        where n.nspname = ${SCHEMA} and c.relname = ${collection}`,
  )
  return row && { ...row, level: row.level === null ? undefined : Number(row.level) }
}

/** Before anything is read: a large import should not find out at its end. */
async function checkTarget(session: Session, { collection, existing }: ImportOptions) {
  const target = await findTarget(session, collection)
  if (!target && existing === 'append') {
    throw new ImportError(`There is no collection ${collection} to append to; leave out --append to make it.`)
  }
  if (target && !existing) {
    throw new ImportError(`The collection ${collection} exists; say --append or --replace.`)
  }
  if (target && existing === 'replace' && !target.managed) {
    throw new ImportError(
      `${collection} was not made by an import, so it is not replaced; choose another name.`,
    )
  }
}

type SpoolColumn = {
  readonly property: string
  readonly name: string
  readonly observer: ColumnObserver
  forced: ColumnType | undefined
}

type Spool = {
  readonly file: string
  readonly columns: readonly SpoolColumn[]
  readonly identifiers: ColumnObserver
  readonly geometryTypes: ReadonlySet<string>
  readonly dimensions: ReadonlySet<number>
  readonly hasNullGeometry: boolean
  /** Of some of the features, each as likely as another. */
  readonly places: readonly Place[]
  readonly features: number
  readonly skipped: number
}

/**
 * A line of the spool: its line in the source, the feature's id, its geometry and its place, then its properties in
 * the order in which the source first named them; those that come later are missing at its end.
 */
async function spoolFeatures(
  source: ImportSource,
  options: ImportOptions,
  file: string,
  emit: Emit,
): Promise<Spool> {
  const { collection } = options
  const columns = new Map<string, SpoolColumn>()
  const identifiers = new ColumnObserver(source.hasTypes)
  const geometryTypes = new Set<string>()
  const dimensions = new Set<number>()
  const places: Place[] = []
  let placed = 0
  let hasNullGeometry = false
  let features = 0
  let skipped = 0

  const addColumn = (property: string): SpoolColumn => {
    if (columns.size >= MAX_COLUMNS)
      throw new ImportError(`There are more than ${MAX_COLUMNS} different properties.`)
    let name = OWN_COLUMNS.has(property) ? `${property}_` : property
    while ([...columns.values()].some((column) => column.name === name)) name += '_'
    if (name === '' || name.includes('\0') || Buffer.byteLength(name) > MAX_NAME_BYTES) {
      throw new InvalidFeature(`has a property whose name is empty or longer than ${MAX_NAME_BYTES} bytes`)
    }
    const column = {
      property,
      name,
      observer: new ColumnObserver(source.hasTypes),
      forced: options.types?.get(property),
    }
    columns.set(property, column)
    return column
  }

  const lineOf = (feature: SourceFeature): string => {
    if (feature.problem) throw new InvalidFeature(feature.problem)
    const geometry = feature.geometry === null ? undefined : parseGeometry(feature.geometry)
    const properties = feature.properties as Record<string, unknown>
    const id = options.id === undefined ? feature.id : properties[options.id]
    if (options.id !== undefined && (id === undefined || id === null)) {
      throw new InvalidFeature(`has no property ${options.id}, which is to be its id`)
    }
    const hasId = id !== undefined && id !== null
    if (hasId && typeof id !== 'string' && typeof id !== 'number' && !(id instanceof ExactNumber))
      throw new InvalidFeature('has an id that is no text or number')
    for (const property of Object.keys(properties)) {
      if (property !== options.id && !columns.has(property)) addColumn(property)
    }
    const place = geometry?.extent && placeOf(geometry.extent)
    const fields = [
      String(feature.line),
      copied(id, undefined, 'id'),
      geometry?.text ?? NULL_TEXT,
      place ? `${place.quadkey}/${place.finest}` : NULL_TEXT,
    ]
    for (const { property, forced } of columns.values())
      fields.push(copied(properties[property], forced, property))
    // Nothing of a feature counts before all of it has been found right.
    for (const { property, observer } of columns.values()) {
      const value = properties[property]
      if (value !== null && value !== undefined) observer.observe(value)
    }
    if (hasId) identifiers.observe(id)
    if (place) {
      const index = placed < MAX_PLACES ? placed : Math.floor(Math.random() * (placed + 1))
      if (index < MAX_PLACES) places[index] = place
      placed++
    }
    if (geometry) {
      geometryTypes.add(geometry.type)
      dimensions.add(geometry.dimension)
    } else hasNullGeometry = true
    return fields.join('\t')
  }

  const output = createWriteStream(file, { highWaterMark: 4 * CHUNK })
  let chunk = ''
  const flush = async () => {
    const isFull = !output.write(chunk)
    chunk = ''
    if (isFull) await once(output, 'drain')
  }
  const tellProgress = () =>
    emit({
      type: 'import-advanced',
      collection,
      features,
      bytes: source.bytesRead(),
      totalBytes: source.totalBytes,
    })
  let lastProgress = 0
  try {
    for await (const batch of source.features()) {
      for (const feature of batch) {
        try {
          chunk += `${lineOf(feature)}\n`
          features++
        } catch (error) {
          if (!(error instanceof InvalidFeature || error instanceof GeometryError)) throw error
          const reason =
            error instanceof GeometryError ? `has a geometry that ${error.message}` : error.message
          if (!options.skipInvalid) {
            throw new ImportError(
              `Line ${feature.line} of ${source.name} ${reason}. Nothing was imported; --skip-invalid would leave such features out.`,
              { cause: error },
            )
          }
          skipped++
          emit({ type: 'import-skipped-feature', collection, line: feature.line, reason })
        }
        if (chunk.length > CHUNK) await flush()
      }
      if (performance.now() - lastProgress > PROGRESS_INTERVAL_MS) {
        lastProgress = performance.now()
        tellProgress()
      }
    }
    await flush()
    tellProgress()
  } catch (error) {
    if (error instanceof ImportError) throw error
    throw new ImportError(`${source.name}: ${(error as Error).message}`, { cause: error })
  } finally {
    output.end()
    await finished(output)
  }
  if (features === 0)
    throw new ImportError(
      `${source.name} holds no ${skipped > 0 ? 'valid ' : ''}feature; nothing was imported.`,
    )
  for (const property of options.types?.keys() ?? []) {
    if (!columns.has(property)) throw new ImportError(`--type ${property}: the source has no such property.`)
  }
  return {
    file,
    columns: [...columns.values()],
    identifiers,
    geometryTypes,
    dimensions,
    hasNullGeometry,
    places,
    features,
    skipped,
  }
}

class InvalidFeature extends Error {}

function copied(value: unknown, type: ColumnType | undefined, property: string): string {
  const text = copyTextOf(value, type)
  if (text === undefined)
    throw new InvalidFeature(`has text in ${property} that PostgreSQL cannot store (NUL or half a character)`)
  return text
}

/** Point and MultiPoint together make a column of MultiPoint, and so on; other mixtures one of any type. */
function geometryColumnOf({ geometryTypes, dimensions }: Spool): { type: string; multi: string | undefined } {
  if (dimensions.size > 1) return { type: 'geometry', multi: undefined }
  const suffix = dimensions.has(3) ? 'Z' : ''
  const families = new Set([...geometryTypes].map((type) => type.replace('Multi', '')))
  const [family] = families
  const isMixed = families.size !== 1
  const multi = !isMixed && geometryTypes.size === 2 ? family : undefined
  const type = isMixed ? 'Geometry' : multi ? `Multi${family}` : [...geometryTypes][0]
  return { type: `geometry(${type}${suffix},4326)`, multi }
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

const tableName = (table: string) => sql`${sql.identifier(SCHEMA)}.${sql.identifier(table)}`

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

async function createTable(
  session: Session,
  table: string,
  spool: Spool,
  hasIds: boolean,
  level: number | undefined,
) {
  const columns = spool.columns.map(({ name, observer, forced }) => {
    const constraint = observer.count === spool.features ? sql.raw(' not null') : sql``
    return sql`, ${sql.identifier(name)} ${sql.raw(forced ?? observer.type)}${constraint}`
  })
  const geometry = sql.raw(`${geometryColumnOf(spool).type}${spool.hasNullGeometry ? '' : ' not null'}`)
  const key = level === undefined ? sql.raw(`id ${idTypeOf(spool, hasIds)}`) : cellColumns(level)
  await execute(
    session,
    sql`create table ${tableName(table)} (
          ${key}, ${sql.identifier(GEOMETRY_COLUMN)} ${geometry}${sql.join(columns)},
          updated_at timestamptz not null default now())`,
  ).catch((cause) => {
    if (cause.code !== '42P07') throw cause
    throw new ImportError(`The collection ${table} is being made by another import.`, { cause })
  })
}

const idTypeOf = ({ identifiers }: Spool, hasIds: boolean) =>
  /^(integer|bigint)$/.test(hasIds ? identifiers.type : 'bigint')
    ? 'bigint generated by default as identity'
    : 'text not null default gen_random_uuid()'

/**
 * The check is what tells the catalog of the cells and their level (features/catalog.sql), and keeps whoever
 * writes there from putting a feature where nobody would look for it.
 */
const cellColumns = (level: number) =>
  sql.raw(
    `cell integer not null, id text collate "C" not null, constraint cell_of_geom check (cell = tessera.cell(${GEOMETRY_COLUMN}, ${level}))`,
  )

/** On Citus, before there are rows: they then go to their shards, or to every node. */
async function distributeTable(session: Session, table: string, by: DistributeBy) {
  const name = textOf(tableName(table))
  const statements: Record<DistributeBy, string> = {
    // Beside the table that knows which features have moved, cell by cell.
    cell: "select create_distributed_table($1::regclass, 'cell', colocate_with => 'tessera.moved_feature')",
    id: "select create_distributed_table($1::regclass, 'id')",
    reference: 'select create_reference_table($1::regclass)',
  }
  await session.query(statements[by], [name])
}

async function checkColumns(session: Session, oid: string, spool: Spool) {
  const rows = await session.query<{ attname: string }>(
    'select attname from pg_attribute where attrelid = $1 and attnum > 0 and not attisdropped',
    [oid],
  )
  const existing = new Set(rows.map((row) => row.attname))
  const missing = spool.columns.filter(({ name }) => !existing.has(name)).map(({ name }) => name)
  if (missing.length > 0) {
    throw new ImportError(
      `The collection has no ${missing.join(', ')}; nothing was appended. It has ${[...existing].join(', ')}.`,
    )
  }
}

/** The type of an existing table's geometry column, as in `MultiPoint`. */
async function geometryTypeOf(session: Session, oid: string): Promise<string> {
  const [row] = await session.query<{ type: string }>(
    'select postgis_typmod_type(atttypmod) as type from pg_attribute where attrelid = $1 and attname = $2',
    [oid, GEOMETRY_COLUMN],
  )
  return row?.type.replace(/ZM?$|M$/, '') ?? 'Geometry'
}

async function copySpool(
  session: Session,
  table: string,
  spool: Spool,
  layout: Layout,
  existingType: string | undefined,
) {
  const family = existingType?.startsWith('Multi')
    ? existingType.slice('Multi'.length)
    : geometryColumnOf(spool).multi
  const own = layout.level !== undefined ? ['cell', 'id'] : layout.hasIds ? ['id'] : []
  const names = [...own, GEOMETRY_COLUMN, ...spool.columns.map(({ name }) => name)]
  const list = sql.join(
    names.map((name) => sql.identifier(name)),
    sql.raw(', '),
  )
  const copy = session.copyInto(textOf(sql`copy ${tableName(table)} (${list}) from stdin`))
  const done = finished(copy)
  // The spool may fail first; then this one is of no interest any more.
  done.catch(() => {})
  let number = 0
  try {
    for await (const lines of linesOf(spool.file)) {
      const rows = lines.map((line) => rowOf(line, layout, ++number, family, spool.columns.length)).join('')
      if (!copy.write(rows)) await Promise.race([once(copy, 'drain'), done])
    }
    copy.end()
    await done
  } catch (error) {
    copy.destroy()
    throw await describeCopyError(error as Error & { where?: string; code?: string }, spool)
  }
}

/** The spool's lines, a chunk of the file at a time. */
async function* linesOf(file: string): AsyncGenerator<string[]> {
  let parts: string[] = []
  for await (const chunk of createReadStream(file, { encoding: 'utf8', highWaterMark: CHUNK })) {
    const lines = (chunk as string).split('\n')
    if (lines.length > 1) {
      lines[0] = [...parts, lines[0]].join('')
      parts = []
    }
    // A line may be far longer than a chunk: it is put together once, when its end is there.
    parts.push(lines.pop()!)
    yield lines
  }
}

type Layout = {
  /** Of the cells; undefined where features are not sharded by place. */
  readonly level: number | undefined
  readonly hasIds: boolean
  readonly isAppend: boolean
}

/**
 * A line of the spool → a row of COPY: geometries made multi, late columns filled with null.
 * @param number of the feature, which is its id within its cell where it has none of its own
 */
function rowOf(
  line: string,
  { level, hasIds, isAppend }: Layout,
  number: number,
  family: string | undefined,
  width: number,
): string {
  const fields = line.split('\t')
  const present = fields.length - 4
  if (family) {
    const prefix = `{"type":"${family}","coordinates":`
    const geometry = fields[2]!
    if (geometry.startsWith(prefix)) {
      fields[2] = `{"type":"Multi${family}","coordinates":[${geometry.slice(prefix.length, -1)}]}`
    }
  }
  const [, id, geometry, place, ...properties] = fields as [string, string, string, string, ...string[]]
  const own: string[] = []
  if (level !== undefined) {
    const cell = cellAt(parsePlace(place), level)
    own.push(String(cell), itemIdOf(cell, hasIds ? id : isAppend ? makeLocalId() : String(number)))
  } else if (hasIds) own.push(id)
  return [...own, geometry, ...properties].join('\t') + `\t${NULL_TEXT}`.repeat(width - present) + '\n'
}

function parsePlace(text: string): Place | undefined {
  if (text === NULL_TEXT) return undefined
  const [quadkey, finest] = text.split('/').map(Number) as [number, number]
  return { quadkey, finest }
}

/** PostgreSQL names the row that it refused; the spool knows where in the source that came from. */
async function describeCopyError(
  error: Error & { where?: string; code?: string },
  spool: Spool,
): Promise<Error> {
  const row = Number(/, line (\d+)/.exec(error.where ?? '')?.[1])
  if (!Number.isInteger(row)) return error
  let passed = 0
  for await (const lines of linesOf(spool.file)) {
    const line = lines[row - passed - 1]
    passed += lines.length
    if (line === undefined) continue
    const column = /column (.+?)(:|$)/.exec(error.where ?? '')?.[1]
    const place = `Line ${line.split('\t', 1)[0]}${column ? `, ${column}` : ''}`
    return new ImportError(`${place}: ${error.message}. Nothing was imported.`, { cause: error })
  }
  return error
}

async function finishTable(
  session: Session,
  table: string,
  collection: string,
  replaced: Target,
  level: number | undefined,
) {
  const key = `${collection}_pkey`
  const indexOf = (column: string) => sql.identifier(`${collection}_${column}_idx`)
  if (replaced) {
    await execute(session, sql`drop table ${tableName(collection)}`).catch((cause) => {
      throw new ImportError(
        `${collection} cannot be replaced: ${cause.message}${cause.detail ? ` (${cause.detail})` : ''}.`,
        { cause },
      )
    })
    await execute(session, sql`alter table ${tableName(table)} rename to ${sql.identifier(collection)}`)
  }
  // Of features of the table that had this name, which may be gone without us.
  const { schemaName, tableName: name } = movedFeatureTable
  const isOf = sql`${schemaName} = ${SCHEMA} and ${name} = ${collection}`
  if (level !== undefined) await execute(session, sql`delete from ${movedFeatureTable} where ${isOf}`)
  // Its last column alone tells features apart: an id begins with the cell that it was given in.
  const columns = sql.raw(level === undefined ? 'id' : 'cell, id')
  await execute(
    session,
    sql`alter table ${tableName(collection)} add constraint ${sql.identifier(key)} primary key (${columns})`,
  ).catch((cause) => {
    if (cause.code !== '23505') throw cause
    throw new ImportError(
      `Two features have the same id: ${cause.detail ?? cause.message} Nothing was imported; choose a property that is unique with --id, or leave out the ids.`,
      { cause },
    )
  })
  await execute(
    session,
    sql`create index ${indexOf(GEOMETRY_COLUMN)} on ${tableName(collection)} using gist (${sql.identifier(GEOMETRY_COLUMN)})`,
  )
  // The key serves within a cell; this serves pages of all of them, and ids on one node.
  if (level !== undefined)
    await execute(session, sql`create index ${indexOf('id')} on ${tableName(collection)} (id)`)
}

/** Ids that came with the features must not be given out again. */
async function advanceSequence(session: Session, collection: string) {
  const qualified = textOf(tableName(collection))
  const [row] = await session.query<{ sequence: string | null }>(
    "select pg_get_serial_sequence($1, 'id') as sequence",
    [qualified],
  )
  if (!row?.sequence) return
  await session.query(`select setval($1, greatest(1, (select max(id) from ${qualified})))`, [row.sequence])
}

async function describe(session: Session, options: ImportOptions) {
  const { collection, existing, title, description, license, attribution } = options
  const given = Object.entries({ title, description, license, attribution }).filter(
    ([, value]) => value !== undefined,
  )
  if (existing === 'append' && given.length === 0) return
  const isThisTable = and(eq(collectionTable.schemaName, SCHEMA), eq(collectionTable.tableName, collection))
  const [row] = await execute(session, sql`select from ${collectionTable} where ${isThisTable}`)
  if (row) {
    for (const [name, value] of given) {
      await execute(
        session,
        sql`update ${collectionTable} set ${sql.identifier(name)} = ${value} where ${isThisTable}`,
      )
    }
    return
  }
  await execute(
    session,
    sql`insert into ${collectionTable} (schema_name, table_name, title, description, license, attribution, is_managed)
        values (${SCHEMA}, ${collection}, ${title ?? null}, ${description ?? null}, ${license ?? null}, ${attribution ?? null}, true)`,
  )
}
