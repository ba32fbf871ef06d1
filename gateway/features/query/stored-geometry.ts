// Owns the conversion of geometries apart from the query that reads them, so that one that PostGIS cannot convert costs
// only itself. It needs no function in the database, and no right but to read.

import { sql } from 'drizzle-orm'
import type { Database } from '../../database/contract.ts'
import { bound, combine, compileFragment, type Fragment } from '../../database/fragment.ts'
import { isGeometryFailure } from '../../database/outcome.ts'
import type { Row } from '../../database/statement.ts'
import type { Collection } from '../collections/collection.ts'
import type { Encoder, GeometryForm } from '../formats/encoder.ts'
import type { CarefulCondition } from '../values/condition.ts'
import { takenOut } from '../values/geometry-column.ts'
import { tryInParts } from '../values/in-parts.ts'
import type { Unshown } from './unshown.ts'

/** How features are written, and where it is noted if one cannot be. */
type Writing = { readonly encoder: Encoder; readonly unshown: Unshown }

/** How features are read and written. */
export type Reading = Writing & {
  readonly database: Database
  /** Aborts when nobody waits for the answer any more. */
  readonly deadline?: AbortSignal | undefined
}

type Options = {
  /** Condition that the geometry must meet. */
  readonly test?: CarefulCondition['test'] | undefined
  /** False if the geometries are only tested, and left out of the features. */
  readonly isShown?: boolean
}

/**
 * Returns features with their geometries in the format, in place of those as stored; undefined for a feature that does
 * not meet the condition. A geometry that cannot be converted is null and meets none.
 */
export async function convertGeometries(
  { database, encoder, unshown, deadline }: Reading,
  collection: Collection,
  features: readonly string[],
  { test, isShown = true }: Options = {},
): Promise<(string | undefined)[]> {
  const stored = features.map(encoder.storedGeometryOf)
  const given = stored.filter((geometry) => geometry !== undefined)
  const convert = (geometries: readonly string[]) =>
    database.read(compileConversion(collection, encoder, geometries, test), deadline && { signal: deadline })
  const converted = given.length === 0 ? [] : await tryInParts(given, convert)
  unshown.note(collection, converted.filter((row) => row === undefined).length)
  let next = 0
  return features.map((feature, index) => {
    const isNull = stored[index] === undefined
    const row = isNull ? undefined : converted[next++]
    if (test && row?.[1] !== 't') return undefined
    return isNull ? feature : encoder.fillGeometry(feature, (isShown && row?.[0]) || undefined)
  })
}

/**
 * Returns rows of single features, as itemOf has them.
 * @param read returns them with geometries in this form; runs again if one cannot be converted
 */
export async function readItems(
  reading: Reading,
  collection: Collection,
  read: (form: GeometryForm) => Promise<readonly Row[]>,
): Promise<Row[]> {
  const readIn = async (form: GeometryForm) => finishItems(reading, collection, form, await read(form))
  return readIn('converted').catch((error) => {
    if (!isGeometryFailure(error)) throw error
    return readIn('stored')
  })
}

/** Completes rows of single features. @param form that of their geometries */
export async function finishItems(
  reading: Reading,
  collection: Collection,
  form: GeometryForm,
  rows: readonly Row[],
): Promise<Row[]> {
  if (form !== 'stored') return mendItems(reading, collection, rows)
  const texts = rows.map(([, text]) => text!)
  const converted = (await convertGeometries(reading, collection, texts)) as string[]
  return mendItems(
    reading,
    collection,
    rows.map(([id, , ...rest], index) => [id!, converted[index]!, ...rest]),
  )
}

/** Mends the texts of single features; a row without one stays as it is. */
export const mendItems = (
  { encoder, unshown }: Writing,
  collection: Collection,
  rows: readonly Row[],
): Row[] =>
  rows.map((row) => {
    const [id, text, ...rest] = row
    if (text == null) return row
    const { features, mended } = encoder.mend(text)
    unshown.note(collection, mended)
    return [id!, features, ...rest]
  })

/**
 * Compiles the conversion of geometries: a row for each, in order, with its text and whether it meets the condition.
 * A polyhedral surface, which GeoJSON has no word for, becomes its faces.
 */
function compileConversion(
  { version, geometry }: Collection,
  encoder: Encoder,
  geometries: readonly string[],
  test: CarefulCondition['test'] | undefined,
) {
  const column = takenOut(geometry, 'geometry')
  const parts: (Fragment | undefined)[] = [bound(geometries), test?.(column)]
  return compileFragment(
    combine(
      `conversion ${version} ${encoder.format.name}`,
      parts,
      (list, meets) => sql`select ${encoder.geometryOf(column)}, ${meets ?? sql`true`}
        from unnest(${list}::text[]) with ordinality as given (text, position)
        cross join lateral (select given.text::geometry as stored) as read
        cross join lateral (select case when ST_AsText(stored) like '%POLYHEDRALSURFACE%'
          then (select ST_Collect(part.geom) from ST_Dump(ST_CurveToLine(stored)) as part)
          else stored end as geometry) as item
        order by position`,
    ),
  )
}
