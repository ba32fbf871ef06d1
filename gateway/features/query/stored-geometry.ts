// Owns the conversion of geometries apart from the query that reads them, so that one that PostGIS cannot convert costs
// only itself. It needs no function in the database, and no right but to read.

import type { Database } from '../../database/contract.ts'
import { bound, combine, compileFragment, type Fragment } from '../../database/fragment.ts'
import { isGeometryFailure } from '../../database/outcome.ts'
import { sql } from '../../database/sql.ts'
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
  /** Condition that the rows must meet, and what careful reading returns of each of them besides the feature. */
  readonly careful?:
    | { readonly condition: CarefulCondition; readonly rows: readonly CarefulRow[] }
    | undefined
  /** False if the geometries are only tested, and left out of the features. */
  readonly isShown?: boolean
}

/** What a row has besides its feature: the columns that the test reads as JSON, and `t` if it needs no test. */
type CarefulRow = readonly [record: string | null, isSure: string | null]

/** Columns of SQL for a CarefulRow. */
export function carefulColumns({ columns, sure }: CarefulCondition): Fragment {
  const members = columns.flatMap(({ name }) => [
    sql.raw(`'${name.replaceAll("'", "''")}'`),
    sql`${sql.identifier(name)}`,
  ])
  const record =
    members.length === 0 ? sql`null` : sql`json_build_object(${sql.join(members, sql.raw(', '))})::text`
  const kind = `careful ${JSON.stringify(columns.map(({ name }) => name))}`
  return combine(kind, [sure], (isSure) => sql`, ${record}, ${isSure ?? sql`false`}`)
}

/** What is converted: a geometry as stored, and the columns that the condition reads besides, as JSON. */
type Given = {
  readonly index: number
  readonly geometry: string | null
  readonly record: string | null
  readonly isSure: boolean
}

/**
 * Returns features with their geometries in the format, in place of those as stored; undefined for a feature that does
 * not meet the condition. A geometry that cannot be converted is null and meets none.
 */
export async function convertGeometries(
  { database, encoder, unshown, deadline }: Reading,
  collection: Collection,
  features: readonly string[],
  { careful, isShown = true }: Options = {},
): Promise<(string | undefined)[]> {
  const given = features.map((feature, index): Given => {
    const [record = null, isSure] = careful?.rows[index] ?? []
    const geometry = encoder.storedGeometryOf(feature) ?? null
    return { index, geometry, record, isSure: !careful || isSure === 't' }
  })
  const complete: (string | undefined)[] = given.map(({ isSure }, index) =>
    isSure ? features[index] : undefined,
  )
  const convert = async (some: readonly Given[], test: CarefulCondition | undefined) => {
    if (some.length === 0) return
    const rows = await tryInParts(some, (part) =>
      database.read(compileConversion(collection, encoder, part, test), deadline && { signal: deadline }),
    )
    unshown.note(collection, rows.filter((row) => row === undefined).length)
    for (const [position, row] of rows.entries()) {
      const { index, geometry } = some[position]!
      if (test && row?.[1] !== 't') continue
      const shown = (isShown && row?.[0]) || undefined
      complete[index] = geometry === null ? features[index]! : encoder.fillGeometry(features[index]!, shown)
    }
  }
  await convert(
    given.filter(({ isSure, geometry }) => isSure && geometry !== null),
    undefined,
  )
  await convert(
    given.filter(({ isSure }) => !isSure),
    careful?.condition,
  )
  return complete
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
    const mended = row[1] == null ? undefined : encoder.mend(row[1])
    if (!mended) return row
    unshown.note(collection, mended.mended)
    return row.with(1, mended.features)
  })

/**
 * Compiles the conversion of geometries: a row for each, in order, with its text and whether it meets the condition.
 * A polyhedral surface, which GeoJSON has no word for, becomes its faces.
 */
function compileConversion(
  { version, geometry, schema, table }: Collection,
  encoder: Encoder,
  given: readonly Given[],
  test: CarefulCondition | undefined,
) {
  const { columns = [] } = test ?? {}
  const parts: (Fragment | undefined)[] = [
    bound(given.map((one) => one.geometry)),
    columns.length > 0 ? bound(given.map(({ record }) => record)) : undefined,
    test?.test(takenOut(geometry, geometry.column)),
  ]
  const kind = `conversion ${version} ${encoder.kind} ${JSON.stringify(columns.map(({ name }) => name))}`
  const others = columns.map(({ name }) => sql`, record.${sql.identifier(name)}`)
  const record = sql` from json_populate_record(null::${sql.identifier(schema)}.${sql.identifier(table)}, given.record::json) as record`
  return compileFragment(
    combine(kind, parts, (list, records, condition) => {
      // The condition knows columns by their names alone, which could also be those of the query around it.
      const meets =
        condition &&
        sql`(select ${condition} from (select item.geometry as ${sql.identifier(geometry.column)}${sql.join(others)}${records && record}) as feature)`
      return sql`select ${encoder.geometryOf(takenOut(geometry, 'geometry'))}, ${meets ?? sql`true`}
        from unnest(${list}::text[]${records && sql`, ${records}::text[]`}) with ordinality as given (text, ${records && sql`record, `}position)
        cross join lateral (select given.text::geometry as stored) as read
        cross join lateral (select case when ST_AsText(stored) like '%POLYHEDRALSURFACE%'
          then (select ST_Collect(part.geom) from ST_Dump(ST_CurveToLine(stored)) as part)
          else stored end as geometry) as item
        order by position`
    }),
  )
}
