// Owns changes of features: creates, changes, moves and removes rows, each change only once.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Database, Query } from '../../database/contract.ts'
import { allEnded } from '../../database/lease.ts'
import { isGeometryFailure, isProjectionFailure, RefusedChange } from '../../database/outcome.ts'
import type { Row, Statement } from '../../database/statement.ts'
import { type GatewayError, gatewayError, quoted } from '../../errors.ts'
import { type Collection, cellsOfStatement, createsByPut } from '../collections/collection.ts'
import type { GeometryForm } from '../formats/encoder.ts'
import { geojson } from '../formats/geojson.ts'
import { compileLookup } from '../query/lookup-statement.ts'
import { featureNotFound, storedFeature } from '../query/stored-feature.ts'
import { finishItems } from '../query/stored-geometry.ts'
import type { Unshown } from '../query/unshown.ts'
import { cellOf } from '../sharding/cell.ts'
import { homeOf, itemIdOf, makeLocalId } from '../sharding/feature-id.ts'
import { compileClaim, compileForget, compileForward, compileWhereabouts } from '../sharding/forwarding.ts'
import { type CoordinateSystem, CRS84, DEGREES } from '../values/coordinate-system.ts'
import { parseStored } from '../values/value.ts'
import { type Author, compileEntry } from './audit.ts'
import { type ChangeResult, changeOnce, claimKey, type Done, type IdempotencyKey } from './idempotency-key.ts'
import { type BodyKind, type BodyReading, type ItemBody, invalidFeature, parseItemBody } from './item-body.ts'
import {
  type ChangeStatement,
  compileArrival,
  compileCreate,
  compileDeparture,
  compileRemove,
  compileReplace,
  compileUpdate,
  keptIn,
  replaceKept,
  type Target,
  updateKept,
} from './item-statement.ts'
import { ABSENT, isMet, type Precondition } from './precondition.ts'
import { describeRefusal, notAllowed } from './refusal.ts'

/** It is created; or it is missing, and a condition that it must meet is not met; or it is missing. */
export type WhenAbsent = 'created' | 'unmatched' | 'missing'

/** Changes of single features. Each is made, or planned, see below. */
interface Changes<Result> {
  /** @throws GatewayError, as all of these: feature-invalid, feature-conflict, change-forbidden, … */
  create(collection: Collection, body: unknown): Promise<Result>
  /**
   * Replaces a feature. Properties that the body leaves out get the values of a new feature.
   * @param whenAbsent what happens if there is no feature with this id, in a collection whose ids clients choose
   */
  replace(
    collection: Collection,
    id: string,
    body: unknown,
    condition: Precondition,
    whenAbsent: WhenAbsent,
  ): Promise<Result>
  /** @param body a merge patch (RFC 7396): what it leaves out stays as it is */
  update(collection: Collection, id: string, body: unknown, condition: Precondition): Promise<Result>
  remove(collection: Collection, id: string, condition: Precondition): Promise<Result>
}
export type ItemChanges = Changes<Done>

/** A change of one feature that has been checked, and can be made in any transaction. */
export type ItemPlan = {
  readonly collection: Collection
  /** The cell next to which its outcome is stored; undefined for a collection without cells. */
  readonly cell: number | undefined
  readonly make: (attempt: Attempt) => Promise<ChangeResult>
  /** Returns what the audit has of the change, after it was made, for the same transaction; none if it keeps nothing. */
  readonly entriesOf: (attempt: Attempt, result: ChangeResult) => readonly Statement[]
}
export type ItemPlans = Changes<ItemPlan>

/**
 * Plans changes: their bodies are checked, and nothing has been sent that changes anything.
 * @param author who is named in the audit
 */
export function makeItemPlans(
  database: Database,
  unshown: Unshown,
  author: Author,
  reading: BodyReading,
): ItemPlans {
  const parse = async (given: unknown, collection: Collection, kind: BodyKind, id?: string) => {
    const body = parseItemBody(given, collection, kind, id, reading)
    return collection.level === undefined ? body : locateBody(database, body)
  }

  const stored = async (
    kind: 'created' | 'changed',
    { form }: Attempt,
    collection: Collection,
    row: Row,
  ): Promise<ChangeResult> => {
    const [finished] = await finishItems({ database, encoder: geojson, unshown }, collection, form, [row])
    return { kind, item: storedFeature(finished!) }
  }

  /** @param id of the feature; undefined for a new one */
  const auditing = (collection: Collection, id?: string): ItemPlan['entriesOf'] =>
    collection.audit === undefined
      ? () => []
      : ({ kept: { changesNothing, before, after } }, { kind, item }) =>
          kind === 'many' || changesNothing
            ? []
            : [compileEntry(collection, author, { action: kind, id: item?.id ?? id!, before, after })]

  return {
    async create(collection, given) {
      const body = await parse(given, collection, 'create')
      const cell = cellOfBody(collection, body)
      const placed = cell === undefined ? body : { ...body, id: itemIdOf(cell, makeLocalId()) }
      return {
        collection,
        cell,
        entriesOf: auditing(collection),
        async make(attempt) {
          const [row] = await attempt.change(compileCreate(collection, attempt.form, placed, cell))
          if (!row) throw notAllowed()
          return stored('created', attempt, collection, row)
        },
      }
    },
    async replace(collection, text, given, condition, whenAbsent) {
      const id = idOf(collection, text)
      const body = await parse(given, collection, 'replace', id)
      return {
        collection,
        cell: homeIn(collection, id),
        entriesOf: auditing(collection, id),
        async make(attempt) {
          const row = await changeItem(attempt, collection, id, body, condition, compileReplace, replaceKept)
          if (row) return stored('changed', attempt, collection, row)
          if (!createsByPut(collection) || whenAbsent === 'missing') throw featureNotFound(collection, id)
          if (whenAbsent === 'unmatched') throw nothingToMatch(collection, id)
          return stored(
            'created',
            attempt,
            collection,
            await createWithId(attempt, collection, id, await parse(given, collection, 'create', id)),
          )
        },
      }
    },
    async update(collection, text, given, condition) {
      const id = idOf(collection, text)
      const body = await parse(given, collection, 'update', id)
      return {
        collection,
        cell: homeIn(collection, id),
        entriesOf: auditing(collection, id),
        async make(attempt) {
          const row = await changeItem(attempt, collection, id, body, condition, compileUpdate, updateKept)
          if (!row) throw featureNotFound(collection, id)
          return stored('changed', attempt, collection, row)
        },
      }
    },
    async remove(collection, text, condition) {
      const id = idOf(collection, text)
      const removal = (cell: number | undefined) => compileRemove(collection, { id, cell, condition })
      return {
        collection,
        cell: homeIn(collection, id),
        entriesOf: auditing(collection, id),
        async make(attempt) {
          const removed =
            collection.level === undefined
              ? await changeOne(attempt, collection, id, removal(undefined))
              : await changeInCell(attempt, collection, id, condition, {
                  target: undefined,
                  // In any other cell, its forwarding row has to be removed as well.
                  staysIn: (cell) => cell === homeOf(id),
                  changeIn: removal,
                  departure: removal,
                })
          if (!removed) throw featureNotFound(collection, id)
          return { kind: 'removed' }
        },
      }
    },
  }
}

/**
 * Makes changes, each in a transaction of its own.
 * @param author who is named in the audit
 * @param key key of the only change that will be made; undefined if that change will not be repeated
 */
export function makeItemChanges(
  database: Database,
  unshown: Unshown,
  author: Author,
  key?: IdempotencyKey,
  reading: BodyReading = { system: CRS84, isLenient: false },
): ItemChanges {
  const plans = makeItemPlans(database, unshown, author, reading)

  async function make(plan: ItemPlan, form: GeometryForm = 'converted'): Promise<Done> {
    const { collection, cell } = plan
    let latest: ChangeStatement | undefined
    const note = (change: ChangeStatement) => {
      latest = change
      return change.statement
    }
    let within: Attempt
    const work = (query: Query) => {
      within = attemptWithin(query, form, note)
      return plan.make(within)
    }
    const entriesOf = (result: ChangeResult) => plan.entriesOf(within, result)
    const separately: Attempt = {
      form,
      kept: {},
      // Outside of `together`, only reads are sent by `query`.
      query: (statement) => database.write(statement, { isRepeatable: true }),
      change: (change) => database.write(note(change)),
      together: (part) => database.transact((query) => part(attemptWithin(query, form, note))),
    }
    try {
      if (key) return await changeOnce(database, key, collection, cell, work, entriesOf)
      if (collection.audit === undefined) return { ...(await plan.make(separately)), isRepeated: false }
      const cells = cellsOfStatement(collection, cell)
      return { ...(await database.transact(work, { cells, last: entriesOf })), isRepeated: false }
    } catch (error) {
      if (isUnshowable(error, form)) return make(plan, 'stored')
      throw await describeFailure(error, { database, collection, system: reading.system }, latest)
    }
  }

  return {
    async create(collection, given) {
      const plan = await plans.create(collection, given)
      if (key?.giver === 'client' && plan.cell !== undefined) await claimKey(database, key, collection)
      return make(plan)
    },
    replace: async (...change) => make(await plans.replace(...change)),
    update: async (...change) => make(await plans.update(...change)),
    remove: async (...change) => make(await plans.remove(...change)),
  }
}

/**
 * Returns true for a change that was rolled back only because its result cannot be shown: it is then made again, with
 * geometries as they are stored.
 */
export const isUnshowable = (error: unknown, form: GeometryForm) =>
  isGeometryFailure(error) && form === 'converted'

/** Returns the error of a change for its client. @param latest the statement that was sent last */
export async function describeFailure(
  error: unknown,
  { database, collection, system }: Changing,
  latest: ChangeStatement | undefined,
): Promise<unknown> {
  if (error instanceof RefusedChange && latest) return describeRefusal(error, collection, latest, database)
  if (isProjectionFailure(error) && latest?.targets.some(isGeometry))
    return invalidFeature([{ pointer: '/geometry', detail: outsideOf(system) }])
  return error
}

type Changing = {
  readonly database: Database
  readonly collection: Collection
  /** The system of the coordinates that were sent. */
  readonly system: CoordinateSystem
}

const isGeometry = (target: Target | undefined) =>
  target !== undefined && 'member' in target && target.member === 'geometry'

/** One attempt at a change: its statements run in one transaction if it has a key, otherwise each in its own. */
export type Attempt = {
  /** Form of the geometry in the features that it returns. */
  readonly form: GeometryForm
  readonly query: Query
  /** What the audit keeps of the change, as far as it was made. */
  readonly kept: Kept
  /** Sends a statement that the table's rules may refuse. */
  readonly change: (change: ChangeStatement) => Promise<Row[]>
  /** Runs statements in one transaction in any case. */
  readonly together: <T>(part: (attempt: Attempt) => Promise<T>) => Promise<T>
}

type Kept = {
  before?: string | undefined
  after?: string | undefined
  /** True for a patch without members. */
  changesNothing?: boolean | undefined
}

/**
 * Returns an attempt at one change in a transaction that is open.
 * @param note returns the statement of a change that is about to be sent
 */
export const attemptWithin = (
  query: Query,
  form: GeometryForm,
  note: (change: ChangeStatement) => Statement,
): Attempt => {
  const kept: Kept = {}
  const attempt: Attempt = {
    form,
    query,
    kept,
    async change(change) {
      const statement = note(change)
      kept.changesNothing = change.changesNothing
      const [held, rows] = change.held
        ? await allEnded([query(change.held), query(statement)])
        : [[], await query(statement)]
      const [row] = rows!
      // The first of several statements takes the feature away, and the last one has it as it is then.
      if (row && change.isRemoval) kept.before = row[1] ?? undefined
      else if (row) {
        kept.before ??= held![0]?.[0] ?? undefined
        kept.after = keptIn(row)
      }
      return rows!
    },
    together: (part) => part(attempt),
  }
  return attempt
}

/** Changes a feature by one statement: condition and change see the same row, so only one of two racing changes wins. */
async function changeOne(
  { query, change }: Attempt,
  collection: Collection,
  id: string,
  wanted: ChangeStatement,
): Promise<Row | undefined> {
  const [row] = await change(wanted)
  if (row) return row
  const [current] = await query(compileLookup(collection, [id], undefined, 'version'))
  if (!current) return undefined
  throw refusal(collection, id, wanted.condition, current)
}

/**
 * Changes a feature that is in a cell: by one statement if it stays there, otherwise in a transaction. The cell is the
 * home cell, which the id names, or that of the forwarding row in the home cell.
 * @returns undefined if there is no such feature
 */
async function changeInCell(
  attempt: Attempt,
  collection: Collection,
  id: string,
  condition: Precondition,
  relocation: Relocation,
): Promise<Row | undefined> {
  const home = homeOf(id)
  if (home === undefined) return undefined
  const { staysIn, changeIn } = relocation
  if (staysIn(home)) {
    const [row] = await attempt.change(changeIn(home))
    if (row) return row
  }
  const [found] = await attempt.query(compileWhereabouts(collection, id, home))
  if (!found) return undefined
  const cell = Number(found[0])
  if (cell !== home && staysIn(cell)) {
    const [row] = await attempt.change(changeIn(cell))
    if (row) return row
  }
  return attempt.together((part) => changeClaimed(part, collection, id, home, condition, relocation))
}

/** Changes a feature wherever it is. The claim keeps other transactions from moving or removing it meanwhile. */
async function changeClaimed(
  { query, change }: Attempt,
  collection: Collection,
  id: string,
  home: number,
  condition: Precondition,
  { target, staysIn, changeIn, departure, arrival }: Relocation,
): Promise<Row | undefined> {
  const [claimed] = await query(compileClaim(collection, id, home))
  const from = Number(claimed![0])
  let seen: string | null | undefined
  for (let look = 0; look < MAX_LOOKS; look++) {
    // A move is committed on two nodes, and one of them may show it before the other does.
    if (look > 0) await sleep(LOOK_INTERVAL_MS)
    const stays = staysIn(from)
    const [left] = await change(stays ? changeIn(from) : departure(from))
    if (left) {
      const [row] = !stays && arrival ? await change(arrival(left)) : [left]
      const end = stays ? from : target
      const isAway = end !== undefined && end !== home
      await query(isAway ? compileForward(collection, id, home, end) : compileForget(collection, id, home))
      return row
    }
    const [current] = await query(compileLookup(collection, [id], [from], 'version'))
    const version = current?.[2]
    // The feature may have become visible only after the change was tried. The change was refused if the same version
    // was visible before, or if the condition excludes this version.
    if (current && (version === seen || !isMet(condition, current)))
      throw refusal(collection, id, condition, current)
    if (!current && from === home) {
      await query(compileForget(collection, id, home))
      return undefined
    }
    seen = version
  }
  // A policy may hide it in its other cell.
  if (!collection.isSteady) return undefined
  throw gatewayError('collection-changing', 'The feature is still moving; try again.')
}

function changeItem(
  attempt: Attempt,
  collection: Collection,
  id: string,
  body: ItemBody,
  condition: Precondition,
  compile: typeof compileUpdate,
  keptOf: typeof updateKept,
): Promise<Row | undefined> {
  const { form } = attempt
  if (collection.level === undefined)
    return changeOne(
      attempt,
      collection,
      id,
      compile(collection, form, { id, cell: undefined, condition }, body),
    )
  const target = body.geometry === undefined ? undefined : cellOfBody(collection, body)
  const kept = keptOf(collection, body)
  return changeInCell(attempt, collection, id, condition, {
    target,
    staysIn: (cell) => target === undefined || target === cell,
    changeIn: (cell) => compile(collection, form, { id, cell, condition }, body),
    departure: (cell) => compileDeparture(collection, { id, cell, condition }, kept),
    arrival:
      target === undefined
        ? undefined
        : (left) => compileArrival(collection, form, id, body, kept, target, left),
  })
}

/** Creates a feature with an id that the client has chosen, and that no feature had a moment ago. */
async function createWithId(
  attempt: Attempt,
  collection: Collection,
  id: string,
  body: ItemBody,
): Promise<Row> {
  const cell = cellOfBody(collection, body)
  if (cell !== undefined && homeOf(id) !== cell) {
    const example = JSON.stringify(itemIdOf(cell, 'my-own'))
    const detail = `must begin with the cell of the feature's geometry, for example ${example}; POST assigns such an id itself`
    throw invalidFeature([{ pointer: '/id', detail }])
  }
  return attempt.together(async ({ form, query, change }) => {
    const [row] = await change(compileCreate(collection, form, body, cell))
    if (!row) throw notAllowed()
    // Another change may have created the feature meanwhile and moved it: its id is in use, although its home cell is free.
    if (cell !== undefined && (await query(compileWhereabouts(collection, id, cell))).length > 1)
      throw gatewayError('feature-conflict', '/id has a value that another feature has already.', {
        errors: [{ pointer: '/id', detail: 'has a value that another feature has already' }],
      })
    return row
  })
}

/** Statements of a change, depending on the cell that the feature is in. */
type Relocation = {
  /** Cell of the new geometry; undefined if the geometry stays as it is, or the feature is removed. */
  readonly target: number | undefined
  readonly staysIn: (cell: number) => boolean
  /** Changes a feature that stays in its cell. */
  readonly changeIn: (cell: number) => ChangeStatement
  /** Takes a feature that does not stay out of its cell; `arrival` puts the returned row into the new cell, if any. */
  readonly departure: (cell: number) => ChangeStatement
  readonly arrival?: ((left: Row) => ChangeStatement) | undefined
}

/** Returns the error for a replacement that could create the feature, but must not (RFC 9110, 13.1.1). */
const nothingToMatch = (collection: Collection, id: string) =>
  gatewayError(
    'feature-changed',
    `There is no feature ${quoted(id)} that If-Match or If-Unmodified-Since could mean. Leave the header out to create it.`,
    { collection: collection.id, feature: id },
  )

/** Returns the error for a change that did not find a feature although it exists. */
function refusal(collection: Collection, id: string, condition: Precondition, current: Row): GatewayError {
  // Row-level security or a trigger prevented the change without an error.
  if (isMet(condition, current)) return notAllowed()
  if (condition === ABSENT)
    return gatewayError(
      'feature-changed',
      `There is a feature ${quoted(id)} already, and If-None-Match: * only creates. Leave the header out to replace it.`,
      { collection: collection.id, feature: id },
    )
  if (condition && 'unmodifiedSince' in condition)
    return gatewayError(
      'feature-changed',
      `The feature ${quoted(id)} has been changed since the time in If-Unmodified-Since, or twice within its second. Read it again before you repeat the change, a second later if it still has this Last-Modified.`,
      { collection: collection.id, feature: id },
    )
  return gatewayError(
    'feature-changed',
    `The feature ${quoted(id)} is not what If-Match names: it has been changed since it was read. Read it again before you repeat the change.`,
    { collection: collection.id, feature: id },
  )
}

/** How often a change tries to find a feature in the cell that its forwarding row names, and the pause in between. */
const MAX_LOOKS = 100
const LOOK_INTERVAL_MS = 20

function idOf(collection: Collection, text: string): string {
  const id = parseStored(text, collection.idColumn!)
  if (id === undefined) throw featureNotFound(collection, text)
  return id
}

/** Completes "/geometry …". */
export const outsideOf = ({ srid, uri }: CoordinateSystem) =>
  srid === DEGREES
    ? "is outside the area of this collection's coordinate system"
    : `is outside the area of ${uri}, or of this collection's coordinate system`

/** Returns the body with the extent of its geometry in degrees, which decides its cell. @throws GatewayError */
async function locateBody(database: Database, body: ItemBody): Promise<ItemBody> {
  const { geometry } = body
  if (!geometry || geometry.isEmpty || geometry.extent) return body
  const { text, system } = geometry
  const [row] = await database.read(compileExtent(text, system)).catch((error) => {
    if (!isGeometryFailure(error)) throw error
    throw invalidFeature([{ pointer: '/geometry', detail: outsideOf(system) }])
  })
  const [minLongitude, minLatitude, maxLongitude, maxLatitude] = row!.map(Number) as [
    number,
    number,
    number,
    number,
  ]
  return {
    ...body,
    geometry: { ...geometry, extent: { minLongitude, minLatitude, maxLongitude, maxLatitude } },
  }
}

const compileExtent = (text: string, { srid }: CoordinateSystem): Statement => ({
  name: 'tessera_body_extent',
  text: `select ST_XMin(geometry), ST_YMin(geometry), ST_XMax(geometry), ST_YMax(geometry)
    from (select ST_Transform(ST_SetSRID(ST_GeomFromGeoJSON($1::text), $2::int), ${DEGREES}) as geometry offset 0) as body`,
  values: [text, srid],
})

/** Returns the cell of a feature with this body; undefined if features are not sharded by cell. */
const cellOfBody = ({ level }: Collection, { geometry }: ItemBody) =>
  level === undefined ? undefined : cellOf(geometry?.extent, level)

/** Returns the home cell in an id; undefined if it has none, or if features are not sharded by cell. */
const homeIn = ({ level }: Collection, id: string) => (level === undefined ? undefined : homeOf(id))
