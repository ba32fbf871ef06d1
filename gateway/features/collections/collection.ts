// Owns collections: a table's columns, key and geometry in the form that requests need.

import { hash } from 'node:crypto'
import { type HashRange, shardOf } from '../../database/shards.ts'
import { sql } from '../../database/sql.ts'
import { GROUPS, type Rules } from '../access/rules.ts'
import { type Column, type ColumnKind, isRequired } from '../values/column.ts'
import { type CoordinateSystem, CRS84, CRS84H, DEGREES, WGS84 } from '../values/coordinate-system.ts'
import type { GeometryColumn } from '../values/geometry-column.ts'
import { limitsOf } from '../values/limits.ts'
import { TOUCHED_COLUMN } from './managed.ts'
import { samplesOf } from './sample.ts'

/** Changes of features that are allowed, and the columns that they may set. */
export type Capabilities = {
  readonly canCreate: boolean
  readonly canUpdate: boolean
  readonly canRemove: boolean
  readonly columns: ReadonlySet<string>
}

/** One of the tables into which Citus divides a distributed table; `table` is its name on the node that stores it. */
export type Shard = HashRange & { readonly id: number; readonly table: string }

/** Distribution of a table's rows over Citus' nodes: by one of its columns, or all of them on every node. */
export type Distribution =
  | { readonly by: 'column'; readonly column: string; readonly shards: readonly Shard[] }
  | { readonly by: 'reference' }

/** What the audit keeps of changes: the ids of features, or also the features before and after. */
export const AUDIT_LEVELS = ['ids', 'values'] as const
export type AuditLevel = (typeof AUDIT_LEVELS)[number]

export type Collection = {
  /** Id in URLs: the table's name in schema public, otherwise `schema.table`; see collectionId. */
  readonly id: string
  readonly schema: string
  readonly table: string
  readonly title: string
  readonly description: string | undefined
  readonly license: string | undefined
  readonly attribution: string | undefined
  readonly geometry: GeometryColumn
  /** True if an index finds bounding boxes of geometries. */
  readonly isGeometryIndexed: boolean
  /** Samples of the features that indexes have, the thinnest first; see sample.ts. */
  readonly samples: readonly number[]
  /** Systems in which features are served. */
  readonly systems: readonly CoordinateSystem[]
  /** The one of them that coordinates are in if a request names none. */
  readonly defaultSystem: CoordinateSystem
  /** The one of them in which all geometries are stored; undefined if there is none. */
  readonly storageSystem: CoordinateSystem | undefined
  /** Columns that together identify a feature, in order; empty if there are none, as in most views. */
  readonly key: readonly Column[]
  /** True if `key` is the physical position of a row (ctid): it serves for paging, but not as an address. */
  readonly isKeyPhysical: boolean
  /** True if each row has a physical position (ctid) of its own, which the role may read: not in views. */
  readonly hasPositions: boolean
  /** Column that contains a feature's id, if there is one. */
  readonly idColumn: Column | undefined
  /** Columns that are the `properties` of a feature, in order. */
  readonly properties: readonly Column[]
  /** Columns that an equality parameter or `sortby` may name. */
  readonly queryables: ReadonlyMap<string, Column>
  /** Column that `datetime` refers to. */
  readonly temporal: Column | undefined
  /** Column with the end of the time that begins there, of the same kind; undefined if it is an instant. */
  readonly temporalEnd: Column | undefined
  /** Year to which the coordinates belong; undefined if it is not known. */
  readonly coordinateEpoch: number | undefined
  /** Rules on who may read and change it; undefined if it has none of its own. */
  readonly rules: Rules | undefined
  /** What the audit keeps of changes; undefined for nothing. */
  readonly audit: AuditLevel | undefined
  /** Roles of those who see it; undefined for those who see that of all collections. */
  readonly auditors: readonly string[] | undefined
  readonly estimatedRows: number
  /** Every column that is read, except the geometry; together with it, they make up a version of a row. */
  readonly columns: readonly Column[]
  /** Changes that the write port allows; undefined if features cannot be changed at all. */
  readonly capabilities: Capabilities | undefined
  /** `server` if PostgreSQL or the gateway assigns the id of a new feature; undefined if either may, as with triggers. */
  readonly idFrom: 'server' | 'client' | undefined
  /**
   * True if PUT can create a feature: not through a view, and not if a sequence assigns the ids, because it would reach
   * the client's id later.
   */
  readonly takesIds: boolean
  readonly isView: boolean
  /** True if features change with stored rows alone, and are the same for every role: not with row security. */
  readonly isSteady: boolean
  /** True if a trigger runs before each insert, which may set columns that a client leaves out. */
  readonly hasInsertTrigger: boolean
  /** Level of the cells by which features are sharded, see cell.ts; undefined if they are not. */
  readonly level: number | undefined
  /** Undefined on one node. */
  readonly distribution: Distribution | undefined
  /** Columns that are not shown but are part of the row, except those that PostgreSQL computes. */
  readonly hidden: readonly string[]
  /** Column in which Tessera stores the time of the last change. */
  readonly touched: string | undefined
  /** True if no change is made without a condition; undefined for what holds for all collections. */
  readonly requiresPrecondition: boolean | undefined
  /** Hash of the table's name, columns and key for entity tags; it is equal in every process and gateway. */
  readonly fingerprint: string
  /** Number that changes if anything above does, so that statements compiled for one version are not used for another. */
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
  /** True if somebody locks the relation against readers, so that not all of this could be found out. */
  readonly isLocked: boolean
  readonly geometryColumn: string
  readonly geometryType: string
  /** Null if the column declares none. */
  readonly srid: number | null
  readonly geometryCast: string | null
  readonly isGeography: boolean
  readonly isGeometryDomain: boolean
  readonly isGeometryRequired: boolean
  readonly isGeometryIndexed: boolean
  /** Limits of the hashes of indexes that have a sample of the features. */
  readonly sampleLimits: readonly number[]
  /** True if the column does not restrict the type of its geometries. */
  readonly isAnyGeometry: boolean
  readonly key: readonly string[] | null
  /** Level of the cells by which the table is sharded; null if it is not. */
  readonly level: number | null
  /** True for a view that shows features of a table that is sharded by cell. */
  readonly isOverCells: boolean
  readonly hasChildren: boolean
  /** False if the role may read some of its columns alone. */
  readonly isReadableAsWhole: boolean
  /** True if its rows change with stored rows alone, and are the same for every role. */
  readonly isSteady: boolean
  /** True if a trigger runs before each insert, which may set columns that a client leaves out. */
  readonly hasInsertTrigger: boolean
  readonly hidden: readonly string[]
  readonly columns: readonly {
    readonly name: string
    readonly type: string
    readonly category: string
    /** True if a statement can compare the values with a text that stands for one. */
    readonly isComparable: boolean
    /** True if the values, or the elements of lists, have members of their own. */
    readonly isComposite: boolean
    readonly isNullable: boolean
    readonly hasDefault: boolean
    readonly isComputed: boolean
    readonly maxLength: number | null
    readonly maxDigits: number | null
    readonly labels: readonly string[] | null
    /** Check constraints about this column alone, as pg_get_constraintdef returns them. */
    readonly checks: readonly string[]
    readonly comment: string | null
  }[]
}

/** Changes of a relation that the write port's role may make, as changeable.sql returns them. */
export type Changeable = {
  readonly schema: string
  readonly table: string
  /** True if somebody locks the relation against readers; then nothing else is known. */
  readonly isLocked: boolean
  readonly canCreate: boolean
  readonly canUpdate: boolean
  readonly canRemove: boolean
  readonly columns: readonly string[]
  readonly computed: readonly string[]
}

/** Metadata of a relation from tessera.collection. */
export type Registration = {
  readonly title: string | null
  readonly description: string | null
  readonly license: string | null
  readonly attribution: string | null
  readonly temporalColumn: string | null
  readonly isManaged: boolean
  /** When everything that gateways keep of it was last given up; null if never. */
  readonly purgedAt: string | null
  /** What the operator has set, see settings.ts. */
  readonly crs: readonly string[] | null
  readonly requiresPrecondition: boolean | null
  readonly modifiedColumn: string | null
  readonly temporalEndColumn: string | null
  readonly coordinateEpoch: number | null
  readonly readers: readonly string[] | null
  readonly creators: readonly string[] | null
  readonly editors: readonly string[] | null
  readonly removers: readonly string[] | null
  readonly audit: string | null
  readonly auditors: readonly string[] | null
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

/** Returns the kind of a type. Enums count as strings: requests compare them with the text of their labels. */
export const kindOf = (type: string, category: string): ColumnKind =>
  // A type may have the name of what every object inherits, for example constructor.
  Object.hasOwn(KINDS, type) ? KINDS[type]! : category === 'E' ? 'string' : 'other'

/** Returns the kind of the elements of lists. PostgreSQL's name for lists of int4 is _int4. */
export const elementKindOf = ({ type }: Pick<Column, 'type'>): ColumnKind =>
  kindOf(type.replace(/^_/, ''), '')

/** Returns true if a filter can name the column: CQL2 has counterparts of its type and of its elements. */
export const isFilterable = (column: Column): boolean => {
  if (!column.isArray) return column.kind !== 'other'
  const kind = elementKindOf(column)
  return kind !== 'other' && kind !== 'json'
}

const CTID: Column = {
  name: 'ctid',
  type: 'tid',
  kind: 'other',
  isNullable: false,
  hasDefault: true,
  isComputed: true,
  isArray: false,
  isComposite: false,
  maxLength: undefined,
  maxDigits: undefined,
  labels: undefined,
  limits: {},
  description: undefined,
}
const hasRowsOfItsOwn = (kind: Relation['kind']) => kind === 'r' || kind === 'm'

/** Name of the column with the cell of a row; catalog.sql looks for it. */
export const CELL_COLUMN = 'cell'

/**
 * Returns the id of a table's collection. Tables of schema public, PostgreSQL's default, need no schema in it. A name
 * with a dot is quoted as in SQL: otherwise the table "a.b" of schema public would have the id of table b of schema a,
 * and take its place.
 */
export const collectionId = (schema: string, table: string) =>
  schema === 'public' ? partOfId(table) : `${partOfId(schema)}.${partOfId(table)}`

const PART = '("(?:[^"]|"")*"|[^".][^.]*)'
const ID = new RegExp(`^(?:${PART}\\.)?${PART}$`)

/** Returns the names in an id, whether or not there is such a table; undefined for one that no collection can have. */
export function relationOf(id: string): Pick<Relation, 'schema' | 'table'> | undefined {
  const [, schema = 'public', table] = ID.exec(id) ?? []
  const nameIn = (part: string) => (part.startsWith('"') ? part.slice(1, -1).replaceAll('""', '"') : part)
  return table === undefined ? undefined : { schema: nameIn(schema), table: nameIn(table) }
}

const partOfId = (name: string) =>
  name.includes('.') || name.startsWith('"') ? `"${name.replaceAll('"', '""')}"` : name

/** Systems in which collections are served besides CRS84. */
export type OfferedSystems = {
  /** Those for all collections. */
  readonly common: readonly CoordinateSystem[]
  /** Those that a table can have, by their numbers. */
  readonly bySrid: ReadonlyMap<number, CoordinateSystem>
  /** Those that the operator has named for a collection, by their codes. */
  readonly byCode: ReadonlyMap<string, CoordinateSystem>
}
export const LEAST_SYSTEMS: OfferedSystems = { common: [WGS84], bySrid: new Map(), byCode: new Map() }

export function makeCollection(
  relation: Relation,
  registration: Registration | undefined,
  changeable: Changeable | undefined,
  distribution: Distribution | undefined,
  version: number,
  offered = LEAST_SYSTEMS,
): Collection {
  const level = relation.level ?? undefined
  // The cell only determines where a feature is stored: it is neither a property nor part of a version.
  const columns = relation.columns
    .filter(({ name }) => level === undefined || name !== CELL_COLUMN)
    .map((column) => makeColumn(column, relation, changeable, column.name === registration?.modifiedColumn))
  const byName = new Map(columns.map((column) => [column.name, column]))
  const isNamed =
    !relation.hasChildren &&
    relation.columns.every(({ name, isComparable }) => isComparable || !relation.key?.includes(name))
  const named = isNamed ? (relation.key ?? []).flatMap((name) => byName.get(name) ?? []) : []
  const hasPositions = hasRowsOfItsOwn(relation.kind) && !relation.hasChildren && relation.isReadableAsWhole
  const isKeyPhysical = named.length === 0 && hasPositions
  const key = isKeyPhysical ? [CTID] : named
  const idColumn = named.length === 1 ? named[0] : undefined
  // The time of the last change, which Tessera stores, is not a property either.
  const isOwn = (column: Column) =>
    column === idColumn || (registration?.isManaged === true && column.name === TOUCHED_COLUMN)
  const properties = columns.filter((column) => !isOwn(column))
  const isTemporal = ({ name, kind }: Column): boolean =>
    registration?.temporalColumn
      ? name === registration.temporalColumn
      : kind === 'date' || kind === 'timestamp'
  const temporal = properties.find(isTemporal)
  const temporalEnd = properties.find(({ name }) => name === registration?.temporalEndColumn)
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
      srid: relation.srid ?? undefined,
      cast: relation.geometryCast ?? undefined,
      isGeography: relation.isGeography,
      isDomain: relation.isGeometryDomain,
      dimension: dimensionOf(relation),
      isNullable: !relation.isGeometryRequired,
    },
    isGeometryIndexed: relation.isGeometryIndexed,
    samples: named.length > 0 ? samplesOf(relation.sampleLimits) : [],
    ...systemsOf(relation, registration?.crs ?? [], offered),
    key,
    isKeyPhysical,
    hasPositions,
    idColumn,
    properties,
    queryables: new Map(
      columns
        .filter(({ kind }) => kind !== 'json' && kind !== 'other')
        .filter((column) => column === idColumn || !isOwn(column))
        .map((column) => [column.name, column]),
    ),
    temporal,
    temporalEnd: temporalEnd?.kind === temporal?.kind ? temporalEnd : undefined,
    coordinateEpoch: registration?.coordinateEpoch ?? undefined,
    rules: rulesOf(registration),
    audit: AUDIT_LEVELS.find((level) => level === registration?.audit),
    auditors: registration?.auditors ?? undefined,
    estimatedRows: relation.estimatedRows,
    columns,
    // Changes through a view of a table with cells would not keep a feature in the cell in which it is looked for.
    capabilities:
      idColumn && changeable && !relation.isOverCells
        ? makeCapabilities(changeable, relation, columns)
        : undefined,
    idFrom: idFromOf(relation, idColumn),
    isSteady: relation.isSteady,
    hasInsertTrigger: relation.hasInsertTrigger,
    isView: relation.kind === 'v',
    takesIds: relation.kind !== 'v' && !(idColumn?.hasDefault && idColumn.kind === 'integer'),
    level,
    distribution,
    hidden: relation.hidden,
    touched: touchedOf(registration, changeable, byName),
    requiresPrecondition: registration?.requiresPrecondition ?? undefined,
    fingerprint: fingerprintOf([
      relation.schema,
      relation.table,
      relation.columns,
      relation.key,
      relation.geometryColumn,
    ]),
    version,
  }
}

/** Returns the rules; undefined if there are none. */
function rulesOf(registration: Registration | undefined): Rules | undefined {
  const [readers, creators, editors, removers] = GROUPS.map((group) => registration?.[group] ?? undefined)
  const rules = { readers, creators, editors, removers }
  return Object.values(rules).some((roles) => roles !== undefined) ? rules : undefined
}

/** Returns the column for the time of changes. If the role may not set the one that is named, there is none. */
function touchedOf(
  registration: Registration | undefined,
  changeable: Changeable | undefined,
  columns: ReadonlyMap<string, Column>,
): string | undefined {
  const named = registration?.modifiedColumn
  if (named == null)
    return registration?.isManaged && columns.has(TOUCHED_COLUMN) ? TOUCHED_COLUMN : undefined
  const isUsable = columns.get(named)?.type === 'timestamptz' && changeable?.columns.includes(named) !== false
  return isUsable ? named : undefined
}

/** @param codes of systems that the operator has named for this collection */
function systemsOf(relation: Relation, codes: readonly string[], { common, bySrid, byCode }: OfferedSystems) {
  const { srid } = relation
  const dimension = dimensionOf(relation)
  const defaultSystem = dimension === 3 ? CRS84H : CRS84
  const storageSystem = srid === DEGREES ? defaultSystem : srid === null ? undefined : bySrid.get(srid)
  const systems = new Set([CRS84, ...(dimension === 2 ? [] : [CRS84H]), ...common])
  if (storageSystem) systems.add(storageSystem)
  for (const code of codes) {
    const system = byCode.get(code)
    if (system) systems.add(system)
  }
  return { systems: [...systems], defaultSystem, storageSystem }
}

const dimensionOf = ({ isAnyGeometry, geometryType }: Relation) =>
  isAnyGeometry ? undefined : /Z/i.test(geometryType) ? 3 : 2

/** Returns who gives a new feature its id; the gateway itself does so for features that are sharded by cell. */
function idFromOf({ kind, level, hasInsertTrigger }: Relation, idColumn: Column | undefined) {
  if (kind === 'v') return undefined
  if (level !== null || idColumn?.hasDefault) return 'server'
  return hasInsertTrigger ? undefined : 'client'
}

function makeColumn(
  column: Relation['columns'][number],
  { key }: Relation,
  changeable: Changeable | undefined,
  /** True if Tessera sets the value with each change. */
  isTouched: boolean,
): Column {
  const { name, type, category } = column
  return {
    name,
    type,
    kind: kindOf(type, category),
    // PostgreSQL declares no column of a view as not null, but columns of a key never are null.
    isNullable: column.isNullable && !key?.includes(name),
    hasDefault: column.hasDefault,
    // Expressions of a view are computed too; only changeable.sql, which needs a write port, finds them.
    isComputed: column.isComputed || isTouched || (changeable?.computed.includes(name) ?? false),
    isArray: category === 'A',
    isComposite: column.isComposite,
    maxLength: column.maxLength ?? undefined,
    maxDigits: column.maxDigits ?? undefined,
    labels: column.labels ?? undefined,
    limits: limitsOf(column.checks),
    description: column.comment ?? undefined,
  }
}

/** Returns true for geometries with measures: a change would lose these, because GeoJSON has none. */
const hasMeasures = (geometryType: string) => /M$/i.test(geometryType)

function makeCapabilities(
  { canCreate, canUpdate, canRemove, columns: granted }: Changeable,
  { geometryType, geometryColumn, hasInsertTrigger }: Relation,
  columns: readonly Column[],
): Capabilities | undefined {
  if (hasMeasures(geometryType) || !(canCreate || canUpdate || canRemove)) return undefined
  const computed = new Set(columns.filter(({ isComputed }) => isComputed).map(({ name }) => name))
  const settable = new Set(granted.filter((name) => !computed.has(name)))
  // A new feature must have a geometry, and a value for each column that needs one.
  const isComplete =
    settable.has(geometryColumn) &&
    (hasInsertTrigger || columns.every((column) => !isRequired(column) || settable.has(column.name)))
  return { canCreate: canCreate && isComplete, canUpdate, canRemove, columns: settable }
}

const FINGERPRINT_LENGTH = 8
const fingerprintOf = (facts: unknown) =>
  hash('sha1', JSON.stringify(facts), 'base64url').slice(0, FINGERPRINT_LENGTH)

/** Returns the quoted name of the table for a statement. */
export const tableOf = ({ schema, table }: Pick<Collection, 'schema' | 'table'>) =>
  sql`${sql.identifier(schema)}.${sql.identifier(table)}`

/** Quoted name of the column with the cell of a row. */
export const cellColumn = sql`${sql.identifier(CELL_COLUMN)}`

/** True if PUT creates a feature that does not exist. */
export const createsByPut = ({ takesIds, capabilities }: Collection) =>
  takesIds && capabilities?.canCreate === true && capabilities.canUpdate

/** True if features are distributed over nodes by a column of their rows. */
export const isSpread = ({ distribution }: Collection) => distribution?.by === 'column'

/**
 * True if features are distributed over nodes by their cell, so that only the cell determines on which node a feature
 * is stored. On a single node, an index finds a feature without its cell.
 */
export const isSpreadByCell = (collection: Collection) =>
  collection.level !== undefined && isSpread(collection)

/** Returns the shard that stores all of these cells; undefined if there is none. */
export function shardOfCells(collection: Collection, cells: readonly number[]): Shard | undefined {
  const { distribution } = collection
  if (cells.length === 0 || !isSpreadByCell(collection) || distribution?.by !== 'column') return undefined
  const shard = shardOf(distribution.shards, cells[0]!)
  return cells.every((cell) => shardOf(distribution.shards, cell) === shard) ? shard : undefined
}

/** Returns the `cells` of a statement that concerns this cell alone; undefined if the cell does not determine a node. */
export const cellsOfStatement = (collection: Collection, cell: number | undefined) =>
  cell !== undefined && isSpreadByCell(collection) ? [cell] : undefined

/** Returns how features are grouped, and distributed if there are several nodes; undefined if they are neither. */
export function distributionOf({ level, distribution }: Collection) {
  if (level !== undefined) return { by: 'cell' as const, level }
  return distribution?.by === 'column' ? { by: distribution.by, column: distribution.column } : distribution
}
