// Owns work on many geometries of which a few may fail, so that each of these costs only itself.

import { isGeometryFailure } from '../../database/outcome.ts'
import type { Row } from '../../database/statement.ts'

/** Parts in which geometries are tried again if some of them fail: few statements whether one of them fails or all. */
const PARTS = 8

/**
 * Returns the rows for all geometries; undefined in place of each that fails even by itself.
 * @throws what is no failure of a geometry
 */
export async function tryInParts<T>(
  geometries: readonly T[],
  run: (geometries: readonly T[]) => Promise<readonly Row[]>,
): Promise<(Row | undefined)[]> {
  try {
    return [...(await run(geometries))]
  } catch (error) {
    if (!isGeometryFailure(error)) throw error
    if (geometries.length === 1) return [undefined]
  }
  const size = Math.ceil(geometries.length / PARTS)
  const rows: (Row | undefined)[] = []
  for (let start = 0; start < geometries.length; start += size)
    rows.push(...(await tryInParts(geometries.slice(start, start + size), run)))
  return rows
}
