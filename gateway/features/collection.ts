// Owns what a collection is: a table's columns, key and geometry, as requests need them.

import { sql } from 'drizzle-orm'

/** How a column's values are written in a request and compared. */
export type ColumnKind =
  | 'integer'
  | 'number'
  | 'boolean'
  | 'string'
  | 'date'
  | 'timestamp'
  | 'uuid'
  | 'json'
  | 'other'

export type Column = {
  readonly name: string
  /** PostgreSQL's name of the type, as in `int4`. */
  readonly type: string
  readonly kind: ColumnKind
  readonly isNullable: boolean
  readonly description: string | undefined
}

export type Collection = {
  /** In URLs: the table's name in schema public, else `schema.table`. */
  readonly id: string
  readonly schema: string
  readonly table: string
  readonly title: string
  readonly description: string | undefined
  readonly license: string | undefined
  readonly attribution: string | undefined
  readonly geometry: {
    readonly column: string
    /** In capitals, as in `MULTIPOLYGON`; `GEOMETRY` for any. */
    readonly type: string
    /** 0 for coordinates whose system is not known; they are taken for longitude and latitude. */
    readonly srid: number
  }
  /** What tells features apart, in order; empty for a view, which has nothing of the kind. */
  readonly key: readonly Column[]
  /** Whether `key` is the place of a row in its table: good for paging, not for an address. */
  readonly isKeyPhysical: boolean
  /** The column that is a feature's id, where there is one. */
  readonly idColumn: Column | undefined
  /** What `properties` of a feature holds, in order. */
  readonly properties: readonly Column[]
  /** What an equality parameter or `sortby` may name. */
  readonly queryables: ReadonlyMap<string, Column>
  /** What `datetime` is about. */
  readonly temporal: Column | undefined
  readonly estimatedRows: number
  /** Changes whenever anything above does: what is compiled for one version is not used for another. */
  readonly version: number
}

/** A relation as catalog.sql describes it. */
export type Relation = {
  readonly schema: string
  readonly table: string
  readonly kind: 'r' | 'v' | 'm' | 'p' | 'f'
  readonly comment: string | null
  readonly estimatedRows: number
  readonly geometryColumn: string
  readonly geometryType: string
  readonly srid: number
  readonly key: readonly string[] | null
  readonly hasChildren: boolean
  readonly columns: readonly {
    readonly name: string
    readonly type: string
    readonly category: string
    readonly isNullable: boolean
    readonly comment: string | null
  }[]
}

/** What tessera.collection says of a relation. */
export type Registration = {
  readonly title: string | null
  readonly description: string | null
  readonly license: string | null
  readonly attribution: string | null
  readonly temporalColumn: string | null
  readonly isManaged: boolean
}

const KINDS: Record<string, ColumnKind> = {
  int2: 'integer',
  int4: 'integer',
  int8: 'integer',
  float4: 'number',
  float8: 'number',
  numeric: 'number',
  bool: 'boolean',
  text: 'string',
  varchar: 'string',
  bpchar: 'string',
  citext: 'string',
  name: 'string',
  date: 'date',
  timestamp: 'timestamp',
  timestamptz: 'timestamp',
  uuid: 'uuid',
  json: 'json',
  jsonb: 'json',
}

/** Enums compare as the text they are written as. */
const kindOf = (type: string, category: string): ColumnKind =>
  KINDS[type] ?? (category === 'E' ? 'string' : 'other')

const CTID: Column = { name: 'ctid', type: 'tid', kind: 'other', isNullable: false, description: undefined }
const hasRowsOfItsOwn = (kind: Relation['kind']) => kind === 'r' || kind === 'm'

/** Schema public is PostgreSQL's default; its tables go by their bare names. */
export const collectionId = (schema: string, table: string) =>
  schema === 'public' ? table : `${schema}.${table}`

export function makeCollection(
  relation: Relation,
  registration: Registration | undefined,
  version: number,
): Collection {
  const columns: Column[] = relation.columns.map(({ name, type, category, isNullable, comment }) => ({
    name,
    type,
    kind: kindOf(type, category),
    isNullable,
    description: comment ?? undefined,
  }))
  const byName = new Map(columns.map((column) => [column.name, column]))
  const named = relation.hasChildren ? [] : (relation.key ?? []).flatMap((name) => byName.get(name) ?? [])
  const isKeyPhysical = named.length === 0 && hasRowsOfItsOwn(relation.kind) && !relation.hasChildren
  const key = isKeyPhysical ? [CTID] : named
  const idColumn = named.length === 1 ? named[0] : undefined
  // Tessera's own note of the last change is no property of the place.
  const isOwn = (column: Column) =>
    column === idColumn || (registration?.isManaged === true && column.name === 'updated_at')
  const properties = columns.filter((column) => !isOwn(column))
  const isTemporal = ({ name, kind }: Column) =>
    registration?.temporalColumn
      ? name === registration.temporalColumn
      : kind === 'date' || kind === 'timestamp'
  return {
    id: collectionId(relation.schema, relation.table),
    schema: relation.schema,
    table: relation.table,
    title: registration?.title ?? relation.table,
    description: registration?.description ?? relation.comment ?? undefined,
    license: registration?.license ?? undefined,
    attribution: registration?.attribution ?? undefined,
    geometry: {
      column: relation.geometryColumn,
      type: relation.geometryType.toUpperCase(),
      srid: relation.srid,
    },
    key,
    isKeyPhysical,
    idColumn,
    properties,
    queryables: new Map(
      columns
        .filter(({ kind }) => kind !== 'json' && kind !== 'other')
        .filter((column) => column === idColumn || !isOwn(column))
        .map((column) => [column.name, column]),
    ),
    temporal: properties.find(isTemporal),
    estimatedRows: relation.estimatedRows,
    version,
  }
}

/** The table in a statement, quoted from the catalog. */
export const tableOf = ({ schema, table }: Collection) =>
  sql`${sql.identifier(schema)}.${sql.identifier(table)}`

/** A column in a statement, quoted from the catalog. */
export const columnOf = ({ name }: Column) => sql`${sql.identifier(name)}`
