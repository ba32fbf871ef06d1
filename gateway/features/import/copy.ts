// Owns COPY: lines of the spool → rows of the table.

import { once } from 'node:events'
import { finished } from 'node:stream/promises'
import type { Session } from '../../database/session.ts'
import { sql } from '../../database/sql.ts'
import { statementOf } from '../../database/template.ts'
import { GEOMETRY_COLUMN } from '../collections/managed.ts'
import { cellAt } from '../sharding/cell.ts'
import { itemIdOf, makeLocalId } from '../sharding/feature-id.ts'
import { asMultiple } from '../values/geometry.ts'
import { NULL_TEXT, withDecimalPoint } from './column-type.ts'
import { ImportError } from './import-error.ts'
import { parseLine, type SpooledColumn, type SpooledFeatures } from './spool.ts'
import { collectionOf, tableName } from './target-table.ts'

/** How features become rows. */
export type ImportLayout = {
  /** Level of the cells; undefined if features are not distributed by cell. */
  readonly level: number | undefined
  /** True if the features bring their ids. */
  readonly hasIds: boolean
  /** True if the table had rows before. */
  readonly isAppend: boolean
  /** True if the column declares no coordinate system: each geometry then names it. */
  readonly namesSystem: boolean
  /** Type of single geometries that are stored as multiple ones, for example Point. */
  readonly multi: string | undefined
}

/** @throws ImportError with the line in the source if PostgreSQL refuses a row */
export async function copySpool(
  session: Session,
  table: string,
  spooled: SpooledFeatures,
  layout: ImportLayout,
) {
  const own = layout.level !== undefined ? ['cell', 'id'] : layout.hasIds ? ['id'] : []
  const names = [...own, GEOMETRY_COLUMN, ...spooled.columns.map(({ name }) => name)]
  const list = sql.join(
    names.map((name) => sql.identifier(name)),
    sql.raw(', '),
  )
  const { text } = statementOf(sql`copy ${tableName(table)} (${list}) from stdin`)
  const copy = session.copyInto(text)
  const done = finished(copy)
  // If reading the spool fails first, nothing waits for this promise, and its rejection would end the process.
  done.catch(() => {})
  let number = 0
  try {
    for await (const lines of spooled.lines()) {
      const rows = lines.map((line) => rowOf(line, layout, ++number, spooled.columns)).join('')
      if (!copy.write(rows)) await Promise.race([once(copy, 'drain'), done])
    }
    copy.end()
    await done
  } catch (error) {
    copy.destroy()
    throw await describeFailure(error as CopyFailure, table, spooled)
  }
}

/**
 * Turns a line of the spool into a row. Fields that it lacks, because their columns were added later, are null.
 * @param number of the feature, from 1: its id within its cell if the features bring none
 */
function rowOf(
  text: string,
  layout: ImportLayout,
  number: number,
  columns: readonly SpooledColumn[],
): string {
  const { level, hasIds, isAppend, multi, namesSystem } = layout
  const { id, geometry, footprint, properties } = parseLine(text)
  const own: string[] = []
  if (level !== undefined) {
    const cell = cellAt(footprint, level)
    own.push(String(cell), itemIdOf(cell, hasIds ? id : isAppend ? makeLocalId() : String(number)))
  } else if (hasIds) own.push(id)
  const values = properties.map((value, index) =>
    columns[index]!.commaExample === undefined ? value : withDecimalPoint(value),
  )
  const stored = multi ? asMultiple(geometry, multi) : geometry
  const fields = [...own, namesSystem ? withSystem(stored) : stored, ...values]
  return fields.join('\t') + `\t${NULL_TEXT}`.repeat(columns.length - properties.length) + '\n'
}

/** Without a name, PostGIS gives a geometry the SRID of its column, or none. */
const withSystem = (geometry: string) =>
  geometry === NULL_TEXT
    ? geometry
    : `${geometry.slice(0, -1)},"crs":{"type":"name","properties":{"name":"EPSG:4326"}}}`

/** @property where the row and the column, as in `COPY roads, line 3, column height: "x"` */
type CopyFailure = Error & { readonly where?: string; readonly code?: string }

/** PostgreSQL reports the row that it refused; the spool has the line of the source that it comes from. */
async function describeFailure(error: CopyFailure, table: string, spooled: SpooledFeatures): Promise<Error> {
  const row = Number(/, line (\d+)/.exec(error.where ?? '')?.[1])
  if (!Number.isInteger(row)) return error
  let passed = 0
  for await (const lines of spooled.lines()) {
    const line = lines[row - passed - 1]
    passed += lines.length
    if (line === undefined) continue
    const column = /column (.+?)(:|$)/.exec(error.where ?? '')?.[1]
    const place = `${spooled.unit} ${parseLine(line).line}${column ? `, ${column}` : ''}`
    const reason = error.message.replaceAll(table, collectionOf(table))
    return new ImportError(`${place}: ${reason}. Nothing was imported.`, { cause: error })
  }
  return error
}
