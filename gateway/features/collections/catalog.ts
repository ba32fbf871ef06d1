// Owns the list of collections: read from PostgreSQL's catalog, and kept up to date as tables come, change and go.

import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Database } from '../../database/contract.ts'
import { sql } from '../../database/sql.ts'
import type { Row, Statement } from '../../database/statement.ts'
import { statementOf } from '../../database/template.ts'
import { gatewayError, quoted, UserError } from '../../errors.ts'
import type { Emit } from '../../events.ts'
import { GROUPS } from '../access/rules.ts'
import type { CoordinateSystem } from '../values/coordinate-system.ts'
import {
  CELL_COLUMN,
  type Changeable,
  type Collection,
  collectionId,
  type Distribution,
  LEAST_SYSTEMS,
  makeCollection,
  type Registration,
  type Relation,
} from './collection.ts'
import { isMarked } from './managed.ts'
import { makeOfferedSystems } from './offered-systems.ts'
import { PUBLISHED, type Routine } from './routine.ts'

export interface Catalog {
  /** False if it was never found out what may be changed, because no primary has answered yet. */
  readonly knowsCapabilities: boolean
  /** @throws GatewayError collection-not-found */
  get(id: string): Collection
  /** Ordered by id. */
  list(): readonly Collection[]
  /** True if there is a collection that not everybody may read. */
  readonly isRestricted: boolean
  /** Coordinate systems in which every collection is served besides the default one. */
  readonly commonSystems: readonly CoordinateSystem[]
  /** Functions of the database that are marked as published; the same list until one of them changes. */
  readonly routines: readonly Routine[]
  /** Reads the catalog now; without it, changes are noticed within RELOAD_INTERVAL_MS. */
  reload(): Promise<void>
  close(): void
}

export type CatalogOptions = {
  readonly database: Database
  /** Schemas to serve; empty for all that the role can read. */
  readonly schemas: readonly string[]
  readonly excludeSchemas: readonly string[]
  /** Coordinate systems in which all collections are served, as in `EPSG:25832`. */
  readonly crs: readonly string[]
  readonly emit: Emit
}

/**
 * Time limit of the statements that read the catalog. They are not requests, and the time limit of these may be shorter
 * than a large catalog takes.
 */
const DISCOVERY_TIMEOUT_MS = 60_000
/** Longest wait for what may be changed. After that, collections are as they were before, until it is known. */
const CHANGEABLE_PATIENCE_MS = 1_000
/** The same for the first time: without it, changes are refused. */
const FIRST_CHANGEABLE_PATIENCE_MS = 10_000

/** Two such intervals and a query fit into the five seconds within which a new table must appear. */
const RELOAD_INTERVAL_MS = 2_000

/**
 * Interval at which it is noticed that an operator has set something for a collection. A rule must hold within a second, and
 * the catalog is read in between.
 */
const SETTINGS_INTERVAL_MS = 500

/** Something that the role of the read port lacks, as catalog.sql returns it. */
type Lack = { readonly role: string; readonly grant: string; readonly effect: string }

const textOf = (file: string) => readFileSync(new URL(file, import.meta.url), 'utf8')
const opening = textOf('opening.sql')
const discovery = opening + textOf('catalog.sql')
const privileges: Statement = {
  name: 'tessera_changeable',
  text: opening + textOf('changeable.sql'),
  values: [],
  timeLimitMs: DISCOVERY_TIMEOUT_MS,
}

/** Versions are never reused, so that a statement that was compiled for a former table is not found again. */
let lastVersion = 0

/** Loads the catalog, then keeps it up to date. @throws GatewayError if the first load fails */
export async function openCatalog({
  database,
  schemas,
  excludeSchemas,
  crs,
  emit,
}: CatalogOptions): Promise<Catalog> {
  let collections = new Map<string, Collection>()
  let isRestricted = false
  let seen = ''
  let routines: readonly Routine[] = []
  let seenRoutines = ''
  /** Facts from which each collection was created; if they are unchanged, the collection stays the same object. */
  let origins = new Map<string, string>()
  let loading: Promise<void> = Promise.resolve()
  let queued: Promise<void> | undefined
  /** Last known description of each relation, by its oid. */
  let described = new Map<string, Relation>()
  /** What may be changed in each relation, by its collection's id; undefined until it is known. */
  let changeable: ReadonlyMap<string, Changeable> | undefined
  /** True once the collections say what may be changed in them. */
  let knowsCapabilities = !database.canWrite
  let askingChangeable: Promise<void> | undefined
  /** Metadata as it was last read. */
  let registered: Row[] = []
  let hasRegistrations = false
  let wereRegistrationsRead = false
  /** Time at which anything was last set for a collection; undefined until it is known. */
  let settingsTime: string | null | undefined
  const systems = makeOfferedSystems(database, crs)
  let offered = LEAST_SYSTEMS
  const told = new Set<string>()

  async function load() {
    const statement: Statement = {
      name: 'tessera_catalog',
      text: discovery,
      values: [schemas, excludeSchemas, PUBLISHED],
      timeLimitMs: DISCOVERY_TIMEOUT_MS,
    }
    const [row] = await database.read(statement)
    const [found, isRegistered, lacks, isCitus, marked] = row as [string, string, string, string, string]
    if (marked !== seenRoutines) routines = JSON.parse(marked) as Routine[]
    seenRoutines = marked
    const distributed = isCitus === 't' ? await database.read(distributions) : []
    hasRegistrations = isRegistered === 't'
    if (hasRegistrations) registered = await readRegistrations()
    wereRegistrationsRead ||= hasRegistrations
    tellLacks(JSON.parse(lacks) as Lack[])
    const relations = completeRelations(JSON.parse(found) as Relation[])
    const notes = notesIn(registered)
    if (relations.length > 0) offered = await readSystems(relations, [...notes.all])
    askingChangeable ??= findChangeable().finally(() => {
      askingChangeable = undefined
    })
    const patienceMs = seen === '' ? FIRST_CHANGEABLE_PATIENCE_MS : CHANGEABLE_PATIENCE_MS
    const asking = askingChangeable.then(() => true)
    const isAnswered = await Promise.race([asking, sleep(patienceMs, false, { ref: false })])
    if (!isAnswered) asking.then(reload).catch((error) => emit({ type: 'catalog-load-failed', error }))
    const allowed = changeable ?? new Map<string, Changeable>()
    knowsCapabilities ||= changeable !== undefined
    const current = JSON.stringify([
      relations,
      registered,
      distributed,
      [...allowed],
      offered.common,
      [...offered.bySrid],
      [...offered.byCode],
    ])
    if (current === seen) return
    const spread = new Map(
      distributed.map(([oid, column, shards]): [string, Distribution] => [
        oid!,
        column == null ? { by: 'reference' } : { by: 'column', column, shards: JSON.parse(shards!) },
      ]),
    )
    const nextCollections = new Map<string, Collection>()
    const nextOrigins = new Map<string, string>()
    for (const relation of relations) {
      const id = collectionId(relation.schema, relation.table)
      const note = notes.of(relation)
      const distribution = spread.get(relation.oid)
      const own = offered.bySrid.get(relation.srid ?? 0)
      const origin = JSON.stringify([
        relation,
        note,
        allowed.get(id),
        distribution,
        offered.common,
        own,
        note?.crs?.map((code) => offered.byCode.get(code)),
      ])
      const before = origins.get(id) === origin ? collections.get(id) : undefined
      nextCollections.set(
        id,
        before ?? makeCollection(relation, note, allowed.get(id), distribution, ++lastVersion, offered),
      )
      nextOrigins.set(id, origin)
    }
    collections = nextCollections
    isRestricted = [...collections.values()].some(({ rules }) => rules?.readers !== undefined)
    origins = nextOrigins
    seen = current
    emit({ type: 'catalog-changed', collections: collections.size })
  }

  /** Returns the relations that are completely known: a locked one is what it was, and none if it has not been seen. */
  function completeRelations(found: readonly Relation[]): Relation[] {
    const complete = found.flatMap((relation) => {
      const { oid, schema, table, isLocked } = relation
      const known = isLocked ? described.get(oid) : relation
      const name = `locked ${oid}`
      if (known) told.delete(name)
      else if (!told.has(name)) {
        told.add(name)
        emit({ type: 'relation-locked', relation: `${schema}.${table}` })
      }
      return known ?? []
    })
    described = new Map(complete.map((relation) => [relation.oid, relation]))
    return complete
  }

  /** Reports each thing that the role lacks once, and again if it was there meanwhile. */
  function tellLacks(lacks: readonly Lack[]) {
    const names = new Set(lacks.map(({ grant }) => `grant ${grant}`))
    for (const name of told) if (name.startsWith('grant ') && !names.has(name)) told.delete(name)
    for (const lack of lacks) {
      const name = `grant ${lack.grant}`
      if (!told.has(name)) emit({ type: 'grant-missing', ...lack })
      told.add(name)
    }
  }

  /** While the metadata cannot be read, that of before holds. Without any, the rules of collections are not known. */
  const readRegistrations = () =>
    database.read(registrations).catch((error) => {
      if (!wereRegistrationsRead) throw error
      emit({ type: 'catalog-load-failed', error })
      return registered
    })

  /** Without them, features are served in WGS 84 alone until the next load. */
  const readSystems = (relations: readonly Relation[], notes: readonly Registration[]) =>
    systems
      .read(
        relations.flatMap(({ srid }) => srid ?? []),
        notes.flatMap(({ crs }) => crs ?? []),
      )
      .catch((error) => {
        if (error instanceof UserError) throw error
        emit({ type: 'catalog-load-failed', error })
        return offered
      })

  /** Finds out what may be changed. While the write port is down, reads go on with what was known before. */
  async function findChangeable() {
    if (!database.canWrite) return
    try {
      const [row] = await database.write(privileges, { mayWait: false, isRepeatable: true })
      const found = (JSON.parse(row![0]!) as Changeable[]).flatMap((one): [string, Changeable][] => {
        const id = collectionId(one.schema, one.table)
        const known = one.isLocked ? changeable?.get(id) : one
        return known ? [[id, known]] : []
      })
      changeable = new Map(found)
    } catch (error) {
      emit({ type: 'catalog-load-failed', error: error as Error })
    }
  }

  /** Loads the catalog again after a load that is running, because that one may have read it before a change. */
  const reload = () => {
    queued ??= loading
      .catch(() => {})
      .then(() => {
        queued = undefined
        loading = load()
        return loading
      })
    return queued
  }
  await reload()
  const timer = setInterval(() => {
    reload().catch((error) => emit({ type: 'catalog-load-failed', error }))
  }, RELOAD_INTERVAL_MS)
  timer.unref()
  let isLooking = false
  /** Reads the catalog at once if anything was set for a collection. A failure is one of the next load, too. */
  async function lookForSettings() {
    if (isLooking || !hasRegistrations) return
    isLooking = true
    const found = await database.read(latestSettings).catch(() => undefined)
    isLooking = false
    if (!found) return
    const time = found[0]?.[0] ?? null
    const isNew = settingsTime !== undefined && time !== settingsTime
    settingsTime = time
    if (isNew) reload().catch((error) => emit({ type: 'catalog-load-failed', error }))
  }
  const watch = setInterval(lookForSettings, SETTINGS_INTERVAL_MS)
  watch.unref()

  return {
    get knowsCapabilities() {
      return knowsCapabilities
    },
    get(id) {
      const collection = collections.get(id)
      if (collection) return collection
      throw collectionNotFound(id)
    },
    list: () => [...collections.values()],
    get isRestricted() {
      return isRestricted
    },
    get commonSystems() {
      return offered.common
    },
    get routines() {
      return routines
    },
    reload,
    close() {
      clearInterval(timer)
      clearInterval(watch)
    },
  }
}

/** Returns the error for a collection that is not there, or not for the caller: the two are the same to see. */
export const collectionNotFound = (id: string) =>
  gatewayError(
    'collection-not-found',
    `There is no collection ${quoted(id)}; /collections lists the existing ones.`,
    { collection: id },
  )

/**
 * Returns rows of a table's oid, the column by which Citus distributes it (null if it is on every node), and its shards
 * as JSON. Shards are listed only if that column may be the cell and the table is colocated with tessera.moved_feature,
 * as node-groups.ts assumes.
 */
const distributions: Statement = {
  name: 'tessera_distributions',
  text: `select logicalrelid::oid::text, spread_by, (
      select coalesce(json_agg(json_build_object(
        'id', shardid, 'least', shardminvalue::int, 'most', shardmaxvalue::int,
        -- The last part is the table's name; a schema may precede it.
        'table', name[cardinality(name)]
      ) order by shardid), '[]')
      from pg_dist_shard s, parse_ident(shard_name(logicalrelid, shardid)) as name
      where s.logicalrelid = p.logicalrelid and spread_by = $1 and colocationid =
        (select colocationid from pg_dist_partition join pg_class c on c.oid = logicalrelid
          join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'tessera' and c.relname = 'moved_feature')
    )
    from pg_dist_partition p, column_to_column_name(logicalrelid, partkey) as spread_by
    where partmethod = 'h' or partmethod = 'n' and repmodel = 't' order by 1`,
  values: [CELL_COLUMN],
  timeLimitMs: DISCOVERY_TIMEOUT_MS,
}

/** A row with the time at which anything was last set for a collection; null if that never was. */
const latestSettings: Statement = {
  name: 'tessera_settings',
  text: "select max(to_jsonb(m) ->> 'changed_at') from tessera.collection m",
  values: [],
}

/** What holds for a table under any name. */
const FOLLOWING = [...GROUPS, 'audit', 'auditors'] as const

/**
 * Returns what is registered of relations. What was set for one that has another name by now is registered under its former
 * name: its rules hold until it gets others.
 */
function notesIn(registered: readonly Row[]) {
  const byName = new Map<string, Registration>()
  const byOid = new Map<string, Registration>()
  for (const [schema, table, text, oid] of registered) {
    const note = JSON.parse(text!) as Registration
    byName.set(collectionId(schema!, table!), note)
    if (oid != null) byOid.set(oid, note)
  }
  return {
    all: byName.values(),
    of({ oid, schema, table }: Relation): Registration | undefined {
      const own = byName.get(collectionId(schema, table))
      const former = byOid.get(oid)
      if (!own || !former || own === former) return own ?? former
      return { ...own, ...Object.fromEntries(FOLLOWING.map((name) => [name, own[name] ?? former[name]])) }
    },
  }
}

/** Returns rows of a relation's schema and name, its metadata as JSON, and the oid of the table for which it was set. */
const registrations = statementOf(
  sql`select schema_name, table_name,
          json_build_object('title', title, 'description', description, 'license', license,
            'attribution', attribution, 'temporalColumn', temporal_column,
            -- A database that was not migrated yet lacks the columns that are read in this way.
            'purgedAt', to_jsonb(registered) ->> 'purged_at', 'isManaged', is_managed and exists (
              select from pg_class c join pg_namespace n on n.oid = c.relnamespace
              where n.nspname = schema_name and c.relname = table_name and ${isMarked(sql`c.oid`)}),
            'crs', to_jsonb(registered) -> 'crs', 'requiresPrecondition', to_jsonb(registered) -> 'requires_precondition',
            'modifiedColumn', to_jsonb(registered) -> 'modified_column',
            'temporalEndColumn', to_jsonb(registered) -> 'temporal_end_column',
            'coordinateEpoch', to_jsonb(registered) -> 'coordinate_epoch',
            'readers', to_jsonb(registered) -> 'readers', 'creators', to_jsonb(registered) -> 'creators',
            'editors', to_jsonb(registered) -> 'editors', 'removers', to_jsonb(registered) -> 'removers',
            'audit', to_jsonb(registered) -> 'audit', 'auditors', to_jsonb(registered) -> 'auditors'),
          (select relation::oid from tessera.collection own
            where own.schema_name = registered.schema_name and own.table_name = registered.table_name)
        -- The column of a database that was not migrated yet is this one.
        from tessera.collection registered, (select null::regclass as relation) as missing order by schema_name, table_name`,
)
