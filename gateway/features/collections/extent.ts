// Owns the extent of a collection in space and time, as far as the database can compute it cheaply.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Database } from '../../database/contract.ts'
import { isGeometryFailure } from '../../database/outcome.ts'
import { type SQL, sql } from '../../database/sql.ts'
import type { Row, Statement } from '../../database/statement.ts'
import { statementOf } from '../../database/template.ts'
import type { Emit } from '../../events.ts'
import { EVERYBODY, type Principal, type Viewers, viewersOf } from '../access/principal.ts'
import { columnOf } from '../values/column.ts'
import {
  type GeometryColumn,
  geometryInDegrees,
  storedGeometry,
  takenOut,
} from '../values/geometry-column.ts'
import { tryInParts } from '../values/in-parts.ts'
import { type Collection, tableOf } from './collection.ts'

export type Extent = {
  /** West, south, east, north in degrees; undefined if there is no feature, or the extent is not known. */
  readonly bbox: readonly [number, number, number, number] | undefined
  /** Start and end (RFC 3339), null if open or not known; undefined without a temporal column. */
  readonly interval: readonly [string | null, string | null] | undefined
}

export interface Extents {
  /** Returns the extent. It never fails, but leaves out what cannot be found out, or not soon. */
  of(collection: Collection, principal: Principal): Promise<Extent>
}

/** An extent this old is computed again, in the background. */
const MAX_AGE_MS = 60_000
/** After a failure the extent is computed again after this time, then after twice as long, and so on to the longest. */
const FIRST_RETRY_MS = 60_000
const MAX_RETRY_MS = 3_600_000
/** Most extents computed at once: each may read a complete table or a slow view, and requests need the connections. */
const MAX_CONCURRENT = 2
/** Longest wait for an extent that is being computed for the first time. */
const PATIENCE_MS = 3_000
/** Most estimated rows of a table that is read for its extent; for a larger one, PostgreSQL's statistics are used. */
const MAX_EXACT_ROWS = 1_000_000
/** The same for those with a token: each new token has the table read again. */
const MAX_EXACT_ROWS_OF_VIEWERS = 100_000
/** Most groups of viewers of which the extents of a collection are known. */
const MAX_VIEWERS = 100
/** Most rows of a table whose geometries are read one by one for its extent, because some cannot be transformed. */
const MAX_ROWS_IN_PARTS = 100_000

/** What is known of an extent. */
type Entry = {
  /** Undefined if it was never computed. */
  extent: Extent | undefined
  /** Resolves when the computation that is under way has ended; it does not fail. */
  computing: Promise<void> | undefined
  startedAt: number
  /** Time at which it is computed again. */
  dueAt: number
  failures: number
}

export function makeExtents(database: Database, emit: Emit): Extents {
  const entries = new WeakMap<Collection, Map<string, Entry>>()
  let running = 0
  const waiting: (() => void)[] = []

  async function inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (running < MAX_CONCURRENT) running++
    else await new Promise<void>((resolve) => waiting.push(resolve))
    try {
      return await work()
    } finally {
      const next = waiting.shift()
      if (next) next()
      else running--
    }
  }

  async function compute(entry: Entry, collection: Collection, viewers: Viewers) {
    try {
      entry.extent = await inTurn(() => loadExtent(database, collection, viewers))
      entry.failures = 0
      entry.dueAt = performance.now() + MAX_AGE_MS
    } catch (error) {
      const retryMs = Math.min(FIRST_RETRY_MS * 2 ** entry.failures++, MAX_RETRY_MS)
      entry.dueAt = performance.now() + retryMs
      emit({ type: 'extent-unknown', collection: collection.id, error: error as Error, retryMs })
    }
    entry.computing = undefined
  }

  function entryOf(collection: Collection, { name }: Viewers): Entry {
    const ofCollection = entries.get(collection) ?? new Map<string, Entry>()
    entries.set(collection, ofCollection)
    const known = ofCollection.get(name)
    if (known) return known
    const entry: Entry = { extent: undefined, computing: undefined, startedAt: 0, dueAt: 0, failures: 0 }
    ofCollection.set(name, entry)
    if (ofCollection.size > MAX_VIEWERS) ofCollection.delete(ofCollection.keys().next().value!)
    return entry
  }

  return {
    async of(collection, principal) {
      const viewers = viewersOf(principal, [collection])
      const entry = entryOf(collection, viewers)
      const now = performance.now()
      if (!entry.computing && now >= entry.dueAt) {
        entry.startedAt = now
        // Policies may show less by now than they did.
        if (!collection.isSteady) entry.extent = undefined
        entry.computing = compute(entry, collection, viewers)
      }
      if (!entry.extent && entry.computing) {
        const patienceMs = Math.max(0, entry.startedAt + PATIENCE_MS - now)
        await Promise.race([entry.computing, sleep(patienceMs, undefined, { ref: false })])
      }
      return entry.extent ?? unknownExtent(collection)
    },
  }
}

const unknownExtent = ({ temporal }: Collection): Extent => ({
  bbox: undefined,
  interval: temporal && [null, null],
})

type Corners = NonNullable<Extent['bbox']>

const DEMAND = { priority: 'usual' } as const

async function loadExtent(
  anyDatabase: Database,
  collection: Collection,
  { name, claims }: Viewers,
): Promise<Extent> {
  const { geometry, estimatedRows } = collection
  const database = claims === undefined ? anyDatabase : anyDatabase.within({ claims })
  const isExact = estimatedRows <= (name === EVERYBODY.name ? MAX_EXACT_ROWS : MAX_EXACT_ROWS_OF_VIEWERS)
  const compileExtent = (box: SQL) => compileExtentIn(collection, box, isExact)
  const box = isExact ? extentOf(geometry) : estimatedExtentOf(collection)
  const [row, corners] = await database.read(compileExtent(box), DEMAND).then(
    ([row]) => [row!, cornersOf(row!)] as const,
    async (error) => {
      if (!isGeometryFailure(error)) throw error
      const [row] = await database.read(compileExtent(sql`null::box2d`), DEMAND)
      return [row!, await loadInParts(database, collection)] as const
    },
  )
  const [, , , , start, end] = row
  return { bbox: corners, interval: collection.temporal && [start ?? null, end ?? null] }
}

/**
 * Returns the extent of a table with geometries that PostGIS cannot transform, from the bounding boxes of the others;
 * undefined for a large one.
 */
async function loadInParts(database: Database, collection: Collection): Promise<Corners | undefined> {
  const { geometry, estimatedRows } = collection
  if (estimatedRows > MAX_ROWS_IN_PARTS) return undefined
  const stored = storedGeometry(geometry)
  const boxes = statementOf(
    sql`select ST_Envelope(${stored})::text from ${tableOf(collection)} where ${stored} is not null limit ${sql.raw(String(MAX_ROWS_IN_PARTS))}`,
  )
  const part = takenOut(geometry, 'geometry')
  let found: Corners | undefined
  // All boxes are read before the first is converted: a stream does not wait for long.
  for (const boxed of await readBoxes(database, boxes))
    for (const row of await tryInParts(boxed, (some) => database.read(compileExtentOf(some, part), DEMAND)))
      found = union(found, row && cornersOf(row))
  return found
}

async function readBoxes(database: Database, boxes: Statement): Promise<string[][]> {
  const batches: string[][] = []
  for await (const rows of database.stream(boxes)) batches.push(rows.map(([box]) => box!))
  return batches
}

function union(one: Corners | undefined, other: Corners | undefined): Corners | undefined {
  if (!one || !other) return one ?? other
  const [west, south, east, north] = one
  const [w, s, e, n] = other
  return [Math.min(west, w), Math.min(south, s), Math.max(east, e), Math.max(north, n)]
}

/**
 * Returns the corners of a row's box, which begin it. What lies beyond the globe is cut off: it is part of the data, and
 * bbox may name it, but the standard has an extent within ±180° and ±90° (/req/core/fc-md-extent).
 */
function cornersOf(row: Row): Corners | undefined {
  const [west, south, east, north] = row
    .slice(0, 4)
    .map((text) => (text === null ? Number.NaN : Number(text))) as [number, number, number, number]
  const isKnown = west <= 180 && east >= -180 && south <= 90 && north >= -90
  if (!isKnown) return undefined
  return [Math.max(west, -180), Math.max(south, -90), Math.min(east, 180), Math.min(north, 90)]
}

/** Leaves out geometries that are nowhere on the globe, such as those with NaN: one of them would spoil the box. */
function extentOf(geometry: GeometryColumn): SQL {
  // In another system, all that is certain is that a coordinate is a number.
  const globe = geometry.srid === 4326 ? sql`-180, -90, 180, 90` : sql`-1e30, -1e30, 1e30, 1e30`
  return sql`ST_Extent(${geometryInDegrees(geometry)}) filter (where ${storedGeometry(geometry)} && ST_MakeEnvelope(${globe}, ${sql.raw(String(geometry.srid ?? 0))}))`
}

function estimatedExtentOf({
  schema,
  table,
  geometry: { column, srid, cast, isGeography },
  isSteady,
}: Collection): SQL {
  const estimate = sql`ST_EstimatedExtent(${schema}, ${table}, ${column})`
  // Statistics have no SRID: they only help if the column declares one, and in the same units.
  // They are of all rows, whatever a policy shows of them.
  if (cast === undefined || isGeography || !isSteady) return sql`null::box2d`
  return srid === 4326
    ? estimate
    : sql`ST_Transform(ST_Segmentize(ST_SetSRID(${estimate}::geometry, ${sql.raw(String(srid))}), 10000), 4326)::box2d`
}

const cornersIn = (box: SQL) => sql`ST_XMin(${box}), ST_YMin(${box}), ST_XMax(${box}), ST_YMax(${box})`

/**
 * Compiles the query for one row: the corners of the box, then the first and the last time.
 * @param isExact true if it reads the table
 */
function compileExtentIn(collection: Collection, box: SQL, isExact: boolean): Statement {
  const { temporal, temporalEnd } = collection
  const instant = (aggregate: 'min' | 'max') => {
    if (!temporal || !isExact) return sql`null`
    const [column, other] =
      aggregate === 'max' && temporalEnd ? [temporalEnd, temporal] : [temporal, temporalEnd]
    const found = rfc3339(sql`${sql.raw(aggregate)}(${columnOf(column)})::timestamptz`)
    // A feature whose time is open on this side has the other one alone.
    return other
      ? sql`case when bool_or(${columnOf(column)} is null and ${columnOf(other)} is not null) is not true then ${found} end`
      : found
  }
  return statementOf(
    sql`select ${cornersIn(sql`box`)}, first, last from (
      select ${box} as box, ${instant('min')} as first, ${instant('max')} as last
      ${isExact ? sql`from ${tableOf(collection)}` : sql``}) as extent`,
  )
}

/** RFC 3339 has years from 0000 to 9999 alone, and no infinity; a side of an interval without a time is open. */
const rfc3339 = (instant: SQL): SQL =>
  sql`case when ${instant} >= '0001-01-01Z' and ${instant} < '10000-01-01Z'
    then to_char(${instant} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') end`

const compileExtentOf = (geometries: readonly string[], geometry: GeometryColumn): Statement =>
  statementOf(
    sql`select ${cornersIn(sql`box`)} from (select ${extentOf(geometry)} as box
      from (select text::geometry as geometry from unnest(${sql.param(geometries)}::text[]) as given (text)) as item) as extent`,
  )
