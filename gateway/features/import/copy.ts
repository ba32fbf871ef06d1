// Owns the spool → rows of the table, with COPY.

import { once } from 'node:events'
import { finished } from 'node:stream/promises'
import { sql } from 'drizzle-orm'
import type { Session } from '../../database/session.ts'
import { cellAt, type Place } from '../sharding/cell.ts'
import { itemIdOf, makeLocalId } from '../sharding/feature-id.ts'
import { GEOMETRY_COLUMN } from './column-name.ts'
import { NULL_TEXT } from './column-type.ts'
import { ImportError } from './import-error.ts'
import { linesOf, type Spool } from './spool.ts'
import { geometryColumnOf, tableName, textOf } from './target-table.ts'

type ImportLayout = {
  /** Of the cells; undefined where features are not sharded by place. */
  readonly level: number | undefined
  readonly hasIds: boolean
  readonly isAppend: boolean
}

export async function copySpool(
  session: Session,
  table: string,
  spool: Spool,
  layout: ImportLayout,
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

/**
 * A line of the spool → a row of COPY: geometries made multi, late columns filled with null.
 * @param number of the feature, which is its id within its cell where it has none of its own
 */
function rowOf(
  line: string,
  { level, hasIds, isAppend }: ImportLayout,
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
