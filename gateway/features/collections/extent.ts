// Owns the extent of a collection in space and time, as far as the database can compute it cheaply.

import { setTimeout as sleep } from 'node:timers/promises'
import { sql } from 'drizzle-orm'
import type { Database } from '../../database/contract.ts'
import { fillTemplate, templateOf } from '../../database/template.ts'
import type { Emit } from '../../events.ts'
import type { Principal } from '../access/principal.ts'
import { columnOf } from '../values/column.ts'
import { geometryInDegrees } from '../values/geometry-column.ts'
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

  async function compute(entry: Entry, collection: Collection) {
    try {
      entry.extent = await inTurn(() => loadExtent(database, collection))
      entry.failures = 0
      entry.dueAt = performance.now() + MAX_AGE_MS
    } catch (error) {
      const retryMs = Math.min(FIRST_RETRY_MS * 2 ** entry.failures++, MAX_RETRY_MS)
      entry.dueAt = performance.now() + retryMs
      emit({ type: 'extent-unknown', collection: collection.id, error: error as Error, retryMs })
    }
    entry.computing = undefined
  }

  function entryOf(collection: Collection, view: string): Entry {
    const ofCollection = entries.get(collection) ?? new Map<string, Entry>()
    entries.set(collection, ofCollection)
    const known = ofCollection.get(view)
    if (known) return known
    const entry: Entry = { extent: undefined, computing: undefined, startedAt: 0, dueAt: 0, failures: 0 }
    ofCollection.set(view, entry)
    return entry
  }

  return {
    async of(collection, { view }) {
      const entry = entryOf(collection, view)
      const now = performance.now()
      if (!entry.computing && now >= entry.dueAt) {
        entry.startedAt = now
        entry.computing = compute(entry, collection)
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

async function loadExtent(database: Database, collection: Collection): Promise<Extent> {
  const [row] = await database.read(compileExtent(collection), { priority: 'usual' })
  const [west, south, east, north, start, end] = row ?? []
  const numbers = [west, south, east, north].map((text) => (text == null ? Number.NaN : Number(text)))
  const isKnown = numbers.every(Number.isFinite)
  return {
    bbox: isKnown ? (numbers as unknown as [number, number, number, number]) : undefined,
    interval: collection.temporal && [start ?? null, end ?? null],
  }
}

function compileExtent(collection: Collection) {
  const { geometry, temporal, schema, table, estimatedRows } = collection
  const isExact = estimatedRows <= MAX_EXACT_ROWS
  const template = templateOf(`extent ${collection.version}`, () => {
    const exact = sql`ST_Extent(${geometryInDegrees(geometry)})`
    const estimate = sql`ST_EstimatedExtent(${sql.placeholder('schema')}, ${sql.placeholder('table')}, ${sql.placeholder('column')})`
    // Statistics have no SRID: they only help if the column declares one, and in the same units.
    const isEstimable = geometry.cast !== undefined && !geometry.isGeography
    const estimated = !isEstimable
      ? sql`null::box2d`
      : geometry.srid === 4326
        ? estimate
        : sql`ST_Transform(ST_Segmentize(ST_SetSRID(${estimate}::geometry, ${sql.raw(String(geometry.srid))}), 10000), 4326)::box2d`
    const instant = (aggregate: 'min' | 'max') =>
      temporal && isExact
        ? sql`to_char(${sql.raw(aggregate)}(${columnOf(temporal)})::timestamptz, 'YYYY-MM-DD"T"HH24:MI:SS"Z"')`
        : sql`null`
    return sql`select ST_XMin(box), ST_YMin(box), ST_XMax(box), ST_YMax(box), first, last from (
      select ${isExact ? exact : estimated} as box, ${instant('min')} as first, ${instant('max')} as last
      ${isExact ? sql`from ${tableOf(collection)}` : sql``}) as extent`
  })
  return fillTemplate(template, { schema, table, column: geometry.column })
}
