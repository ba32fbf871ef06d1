// Owns what a collection is: a table's columns, key and geometry, as requests need them.

import { hash } from 'node:crypto'
import { sql } from 'drizzle-orm'
import { type HashRange, shardOf } from '../../database/shards.ts'
import type { Column, ColumnKind } from '../values/column.ts'

/** What may be done to features, and to which of their columns. */
export type Capabilities = {
  readonly canCreate: boolean
  readonly canUpdate: boolean
  readonly canRemove: boolean
  readonly columns: ReadonlySet<string>
}

/** One table of those that Citus makes of a distributed one; `table` is what it is called on the node that has it. */
export type Shard = HashRange & { readonly id: number; readonly table: string }

/** How a table's rows are spread over Citus' nodes: by one of its columns, or all of them on every node. */
export type Distribution =
  | { readonly by: 'column'; readonly column: string; readonly shards: readonly Shard[] }
  | { readonly by: 'reference' }

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
    /** 3 for positions with a height; undefined where there may be both. */
    readonly dimension: 2 | 3 | undefined
    readonly isNullable: boolean
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
  /** Every column that is read but the geometry: with it, what makes up one version of a row. */
  readonly columns: readonly Column[]
  /** What the write port allows; undefined where features cannot be changed at all. */
  readonly capabilities: Capabilities | undefined
  /** Whether PostgreSQL or the client gives a new feature its id; undefined for a view, where either may. */
  readonly idFrom: 'server' | 'client' | undefined
  /** Whether PUT can make a feature: not where a sequence counts ids, which would come to that one later. */
  readonly takesIds: boolean
  /** The level of the cells that features are sharded by, see cell.ts; undefined where they are not. */
  readonly level: number | undefined
  /** Undefined on one node. */
  readonly distribution: Distribution | undefined
  /** Columns of which nothing is shown, but which are part of the row. */
  readonly hidden: readonly string[]
  /** Tessera's own note of the last change. */
  readonly touched: string | undefined
  /** The same in every process and gateway, as long as features of one row look the same. */
  readonly fingerprint: string
  /** Changes whenever anything above does: what is compiled for one version is not used for another. */
  readonly version: number
}

/** A relation as catalog.sql describes it. */
export type Relation = {
  readonly oid: string
  readonly schema: string
  readonly table: string
  readonly kind: 'r' | 'v' | 'm' | 'p' | 'f'
  readonly comment: string | null
  readonly estimatedRows: number
  readonly geometryColumn: string
  readonly geometryType: string
  readonly srid: number
  readonly isGeometryRequired: boolean
  /** Whether the column says nothing of what it holds. */
  readonly isAnyGeometry: boolean
  readonly key: readonly string[] | null
  /** Of the cells of a table that has them. */
  readonly level: number | null
  /** Whether a view shows features of such a table. */
  readonly isOverCells: boolean
  readonly hasChildren: boolean
  readonly hidden: readonly string[]
  readonly columns: readonly {
    readonly name: string
    readonly type: string
    readonly category: string
    readonly isNullable: boolean
    readonly hasDefault: boolean
    readonly isComputed: boolean
    readonly maxLength: number | null
    readonly maxDigits: number | null
    readonly labels: readonly string[] | null
    readonly comment: string | null
  }[]
}

/** What changeable.sql says of a relation. */
export type Changeable = {
  readonly schema: string
  readonly table: string
  readonly canCreate: boolean
  readonly canUpdate: boolean
  readonly canRemove: boolean
  readonly columns: readonly string[]
  readonly computed: readonly string[]
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
  // A type may have the name of what every object inherits, for example constructor.
  Object.hasOwn(KINDS, type) ? KINDS[type]! : category === 'E' ? 'string' : 'other'

const CTID: Column = {
  name: 'ctid',
  type: 'tid',
  kind: 'other',
  isNullable: false,
  hasDefault: true,
  isComputed: true,
  isArray: false,
  maxLength: undefined,
  maxDigits: undefined,
  labels: undefined,
  description: undefined,
}
const hasRowsOfItsOwn = (kind: Relation['kind']) => kind === 'r' || kind === 'm'

/** What the cell of a row is called; catalog.sql looks for it. */
export const CELL_COLUMN = 'cell'

/** Schema public is PostgreSQL's default; its tables go by their bare names. */
export const collectionId = (schema: string, table: string) =>
  schema === 'public' ? table : `${schema}.${table}`

export function makeCollection(
  relation: Relation,
  registration: Registration | undefined,
  changeable: Changeable | undefined,
  distribution: Distribution | undefined,
  version: number,
): Collection {
  const level = relation.level ?? undefined
  // Where a feature is kept is no property of the place, and no part of what makes up a version of it.
  const columns = relation.columns
    .filter(({ name }) => level === undefined || name !== CELL_COLUMN)
    .map((column) => makeColumn(column, relation.key ?? [], changeable))
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
      dimension: relation.isAnyGeometry ? undefined : /Z/i.test(relation.geometryType) ? 3 : 2,
      isNullable: !relation.isGeometryRequired,
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
    columns,
    // Through a view nobody sees to it that a feature is where it is looked for.
    capabilities:
      idColumn && changeable && !relation.isOverCells
        ? makeCapabilities(changeable, relation, columns)
        : undefined,
    idFrom:
      relation.kind === 'v' ? undefined : level !== undefined || idColumn?.hasDefault ? 'server' : 'client',
    takesIds: relation.kind !== 'v' && !(idColumn?.hasDefault && idColumn.kind === 'integer'),
    level,
    distribution,
    hidden: relation.hidden,
    touched: registration?.isManaged && byName.has('updated_at') ? 'updated_at' : undefined,
    fingerprint: fingerprintOf([relation.schema, relation.table, relation.columns, relation.geometryColumn]),
    version,
  }
}

function makeColumn(
  column: Relation['columns'][number],
  key: readonly string[],
  changeable: Changeable | undefined,
): Column {
  const { name, type, category } = column
  return {
    name,
    type,
    kind: kindOf(type, category),
    // A view does not say so of its columns, but what tells rows apart is never null.
    isNullable: column.isNullable && !key.includes(name),
    hasDefault: column.hasDefault,
    // A view's expressions are so too, which only whoever may change the view is told.
    isComputed: column.isComputed || (changeable?.computed.includes(name) ?? false),
    isArray: category === 'A',
    maxLength: column.maxLength ?? undefined,
    maxDigits: column.maxDigits ?? undefined,
    labels: column.labels ?? undefined,
    description: column.comment ?? undefined,
  }
}

/** A geometry with measures would lose them by a change: GeoJSON has none. */
const hasMeasures = (geometryType: string) => /M$/i.test(geometryType)

function makeCapabilities(
  { canCreate, canUpdate, canRemove, columns: granted }: Changeable,
  { geometryType }: Relation,
  columns: readonly Column[],
): Capabilities | undefined {
  if (hasMeasures(geometryType) || !(canCreate || canUpdate || canRemove)) return undefined
  const computed = new Set(columns.filter(({ isComputed }) => isComputed).map(({ name }) => name))
  return {
    canCreate,
    canUpdate,
    canRemove,
    columns: new Set(granted.filter((name) => !computed.has(name))),
  }
}

const FINGERPRINT_LENGTH = 8
const fingerprintOf = (facts: unknown) =>
  hash('sha1', JSON.stringify(facts), 'base64url').slice(0, FINGERPRINT_LENGTH)

/** The table in a statement, quoted from the catalog. */
export const tableOf = ({ schema, table }: Collection) =>
  sql`${sql.identifier(schema)}.${sql.identifier(table)}`

/** The cell of a row. */
export const cellColumn = sql`${sql.identifier(CELL_COLUMN)}`

/** Whether features lie on several nodes, each where a column of its row says. */
export const isSpread = ({ distribution }: Collection) => distribution?.by === 'column'

/** On one node an index finds a feature wherever it is; over many, only its cell says on which. */
export const isSpreadByCell = (collection: Collection) =>
  collection.level !== undefined && isSpread(collection)

/** The shard that has all of these cells; undefined where there is none. */
export function shardOfCells(collection: Collection, cells: readonly number[]): Shard | undefined {
  const { distribution } = collection
  if (cells.length === 0 || !isSpreadByCell(collection) || distribution?.by !== 'column') return undefined
  const shard = shardOf(distribution.shards, cells[0]!)
  return cells.every((cell) => shardOf(distribution.shards, cell) === shard) ? shard : undefined
}

/** For a statement that asks this cell alone; undefined where that says nothing of the node. */
export const cellsOfStatement = (collection: Collection, cell: number | undefined) =>
  cell !== undefined && isSpreadByCell(collection) ? [cell] : undefined

/** How features are kept together, and spread where there are several nodes; undefined for a table of one node. */
export function distributionOf({ level, distribution }: Collection) {
  if (level !== undefined) return { by: 'cell' as const, level }
  return distribution?.by === 'column' ? { by: distribution.by, column: distribution.column } : distribution
}
