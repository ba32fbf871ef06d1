// Owns the floor: the simplest SQL that gives the same features as GeoJSON text, without an order and without a count.

import { run } from '../measure.ts'
import { type Ask, COUNTRIES } from './ask.ts'

type Value = number | string

/** Runs SQL with psql. @returns a line for each row, its columns separated by tabs */
export async function psql(socket: string, sql: string, role = 'tessera_owner'): Promise<string[]> {
  const args = ['-h', socket, '-U', role, '-v', 'ON_ERROR_STOP=1', '-qAtF', '\t', '-c', sql, 'tessera']
  const { stdout } = await run('psql', args, { maxBuffer: 2 ** 30 })
  return stdout.split('\n').filter((line) => line !== '')
}

/** Returns the statement of an ask. Its values are numbers, or variables of pgbench. */
export function sqlOf(ask: Ask<Value>): string {
  const { table, limit, id, change, corner, population } = ask
  if (change === 'insert')
    return `insert into ${table} (geom, name, country, admin1, population)
      values (st_setsrid(st_makepoint(${corner}), 4326), 'New Town', 'XX', '01', ${population})`
  if (change === 'update') return `update ${table} set population = ${population} where id = ${id}`
  const rows = `select ${columnsOf(table)} from ${table} where ${conditionOf(ask)}${limit ? ` limit ${limit}` : ''}`
  return `select st_asgeojson(c) from (${rows}) c`.replaceAll(/\s+/g, ' ')
}

/** Returns the statement that writes a complete table as GeoJSON text. */
export const copyOf = (table: string) => `copy (select st_asgeojson(c) from ${table} c) to stdout`

/** Properties that managed collections do not have in common with the others are left out. */
const columnsOf = (table: string) =>
  table.endsWith('counties')
    ? 'id, geom, name'
    : `id, geom, name, country, admin1${table.startsWith('public.') ? '' : ', population'}`

/** @param isExact false if boxes of geometries may decide, which for points are the points themselves */
export function conditionOf(ask: Ask<Value>, isExact = ask.table.endsWith('counties')): string {
  const { id, corner, degrees, country, above } = ask
  const conditions: string[] = []
  if (id !== undefined) conditions.push(`id = ${id}`)
  if (corner && degrees !== undefined) {
    const [west, south] = corner
    const box = `st_makeenvelope(${west}, ${south}, ${west} + ${degrees}, ${south} + ${degrees}, 4326)`
    conditions.push(isExact ? `st_intersects(geom, ${box})` : `geom && ${box}`)
  }
  // pgbench has no variables of text.
  if (country !== undefined) conditions.push(`country = ('{${COUNTRIES}}'::text[])[${country}]`)
  if (above !== undefined) conditions.push(`population > ${above}`)
  return conditions.join(' and ')
}
