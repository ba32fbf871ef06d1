// Owns the extent of a collection in space and time, as far as the database can compute it cheaply.

import { sql } from 'drizzle-orm'
import type { Database } from '../../database/contract.ts'
import { fillTemplate, templateOf } from '../../database/template.ts'
import type { Principal } from '../access/principal.ts'
import { columnOf } from '../values/column.ts'
import { type Collection, tableOf } from './collection.ts'

export type Extent = {
  /** West, south, east, north in degrees; undefined if there is no feature, or the extent is not known. */
  readonly bbox: readonly [number, number, number, number] | undefined
  /** Start and end (RFC 3339), null if open or not known; undefined without a temporal column. */
  readonly interval: readonly [string | null, string | null] | undefined
}

export interface Extents {
  /** Returns the extent. It never fails, but leaves out what cannot be found out. */
  of(collection: Collection, principal: Principal): Promise<Extent>
}

/** An extent this old is computed again, in the background. */
const MAX_AGE_MS = 60_000
/** Most estimated rows of a table that is read for its extent; for a larger one, PostgreSQL's statistics are used. */
const MAX_EXACT_ROWS = 1_000_000

type Entry = { readonly extent: Promise<Extent>; computedAt: number; isRenewing: boolean }

export function makeExtents(database: Database): Extents {
  const entries = new WeakMap<Collection, Map<string, Entry>>()
  const compute = (collection: Collection) =>
    loadExtent(database, collection).catch(() => unknownExtent(collection))
  return {
    of(collection, { view }) {
      const ofCollection = entries.get(collection) ?? new Map<string, Entry>()
      entries.set(collection, ofCollection)
      const entry = ofCollection.get(view)
      if (!entry) {
        const extent = compute(collection)
        ofCollection.set(view, { extent, computedAt: performance.now(), isRenewing: false })
        return extent
      }
      if (performance.now() - entry.computedAt > MAX_AGE_MS && !entry.isRenewing) {
        entry.isRenewing = true
        compute(collection).then((extent) =>
          ofCollection.set(view, {
            extent: Promise.resolve(extent),
            computedAt: performance.now(),
            isRenewing: false,
          }),
        )
      }
      return entry.extent
    },
  }
}

const unknownExtent = ({ temporal }: Collection): Extent => ({
  bbox: undefined,
  interval: temporal && [null, null],
})

async function loadExtent(database: Database, collection: Collection): Promise<Extent> {
  const [row] = await database.read(compileExtent(collection))
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
    const column = sql`${sql.identifier(geometry.column)}`
    const isDegrees = geometry.srid === 4326 || geometry.srid === 0
    const exact = isDegrees ? sql`ST_Extent(${column})` : sql`ST_Extent(ST_Transform(${column}, 4326))`
    const estimate = sql`ST_EstimatedExtent(${sql.placeholder('schema')}, ${sql.placeholder('table')}, ${sql.placeholder('column')})`
    const estimated = isDegrees
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
