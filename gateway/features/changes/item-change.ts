// Owns changes of features: an ItemBody → a row made, changed, moved or removed, once.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Database, Query } from '../../database/contract.ts'
import { isProjectionFailure, RefusedChange } from '../../database/outcome.ts'
import type { Row } from '../../database/statement.ts'
import { type GatewayError, gatewayError } from '../../errors.ts'
import type { Collection } from '../collections/collection.ts'
import { compileLookup } from '../query/lookup-statement.ts'
import { featureNotFound } from '../query/stored-feature.ts'
import { cellOf } from '../sharding/cell.ts'
import { homeOf, itemIdOf, makeLocalId } from '../sharding/feature-id.ts'
import { compileClaim, compileForget, compileForward, compileWhereabouts } from '../sharding/forwarding.ts'
import { parseValue } from '../values/value.ts'
import { type ChangeResult, changeOnce, claimKey, type Done, type IdempotencyKey } from './idempotency-key.ts'
import { type ItemBody, invalidFeature, parseItemBody } from './item-body.ts'
import {
  type ChangeStatement,
  type Condition,
  compileArrival,
  compileCreate,
  compileDeparture,
  compileRemove,
  compileReplace,
  compileUpdate,
  replaceKept,
  updateKept,
} from './item-statement.ts'
import { describeRefusal, notAllowed } from './refusal.ts'

export interface ItemChanges {
  /** @throws GatewayError, as all of these: feature-invalid, feature-conflict, change-forbidden, … */
  create(collection: Collection, body: unknown): Promise<Done>
  /**
   * Properties that the body leaves out become what they are in a new feature.
   * @param mayCreate whether one that is not there is made, with this id
   */
  replace(
    collection: Collection,
    id: string,
    body: unknown,
    condition: Condition,
    mayCreate: boolean,
  ): Promise<Done>
  /** @param body a merge patch (RFC 7396): what it leaves out stays as it is */
  update(collection: Collection, id: string, body: unknown, condition: Condition): Promise<Done>
  remove(collection: Collection, id: string, condition: Condition): Promise<Done>
}

/** @param key of the one change that is to be made; undefined where nobody repeats it */
export function makeItemChanges(database: Database, key?: IdempotencyKey): ItemChanges {
  /** @param cell beside which its key is kept */
  async function make(
    collection: Collection,
    cell: number | undefined,
    work: (attempt: Attempt) => Promise<ChangeResult>,
  ): Promise<Done> {
    let latest: ChangeStatement | undefined
    const note = (change: ChangeStatement) => {
      latest = change
      return change.statement
    }
    const within = (query: Query): Attempt => ({
      query,
      change: (change) => query(note(change)),
      together: (part) => part(within(query)),
    })
    const separately: Attempt = {
      // What is no change only looks.
      query: (statement) => database.write(statement, { isRepeatable: true }),
      change: (change) => database.write(note(change)),
      together: (part) => database.transact((query) => part(within(query))),
    }
    try {
      if (key) return await changeOnce(database, key, collection, cell, (query) => work(within(query)))
      return { ...(await work(separately)), isRepeated: false }
    } catch (error) {
      if (error instanceof RefusedChange && latest)
        throw await describeRefusal(error, collection, latest, database)
      if (isProjectionFailure(error)) {
        throw invalidFeature([
          { pointer: '/geometry', detail: "is outside the area of this collection's coordinate system" },
        ])
      }
      throw error
    }
  }

  return {
    async create(collection, given) {
      const body = parseItemBody(given, collection, 'create', undefined)
      const cell = cellOfBody(collection, body)
      const placed = cell === undefined ? body : { ...body, id: itemIdOf(cell, makeLocalId()) }
      if (key?.giver === 'client' && cell !== undefined) await claimKey(database, key, collection)
      return make(collection, cell, async ({ change }) => {
        const [row] = await change(compileCreate(collection, placed, cell))
        if (!row) throw notAllowed()
        return stored('created', row)
      })
    },
    async replace(collection, text, given, condition, mayCreate) {
      const id = idOf(collection, text)
      const body = parseItemBody(given, collection, 'replace', id)
      return make(collection, homeIn(collection, id), async (attempt) => {
        const row = await changeItem(attempt, collection, id, body, condition, compileReplace, replaceKept)
        if (row) return stored('changed', row)
        if (!mayCreate || !collection.takesIds || !collection.capabilities?.canCreate)
          throw featureNotFound(collection, id)
        return stored('created', await createWithId(attempt, collection, id, given))
      })
    },
    async update(collection, text, given, condition) {
      const id = idOf(collection, text)
      const body = parseItemBody(given, collection, 'update', id)
      return make(collection, homeIn(collection, id), async (attempt) => {
        const row = await changeItem(attempt, collection, id, body, condition, compileUpdate, updateKept)
        if (!row) throw featureNotFound(collection, id)
        return stored('changed', row)
      })
    },
    async remove(collection, text, condition) {
      const id = idOf(collection, text)
      const removal = (cell: number | undefined) => compileRemove(collection, { id, cell, condition })
      return make(collection, homeIn(collection, id), async (attempt) => {
        const removed =
          collection.level === undefined
            ? await changeOne(attempt, collection, id, removal(undefined))
            : await changeInCell(attempt, collection, id, condition, {
                target: undefined,
                // Elsewhere there is its word to remove, too.
                staysIn: (cell) => cell === homeOf(id),
                changeIn: removal,
                departure: removal,
              })
        if (!removed) throw featureNotFound(collection, id)
        return { kind: 'removed' }
      })
    },
  }
}

/** One try at a change: its statements, all in one transaction where it has a key, else each by itself. */
type Attempt = {
  readonly query: Query
  /** The same for one that the table's rules may refuse. */
  readonly change: (change: ChangeStatement) => Promise<Row[]>
  /** Statements that happen all together in any case. */
  readonly together: <T>(part: (attempt: Attempt) => Promise<T>) => Promise<T>
}

/** One statement: condition and change see the same row, so that of two who race only one wins. */
async function changeOne(
  { query, change }: Attempt,
  collection: Collection,
  id: string,
  wanted: ChangeStatement,
): Promise<Row | undefined> {
  const [row] = await change(wanted)
  if (row) return row
  const [current] = await query(compileLookup(collection, [id]))
  if (!current) return undefined
  throw refusal(collection, id, wanted.condition, current)
}

/**
 * A change of a feature that lies in a cell: one statement where it stays there, else a transaction. Where it is
 * its id says, or else the word that it has left at home.
 * @returns undefined where there is no such feature
 */
async function changeInCell(
  attempt: Attempt,
  collection: Collection,
  id: string,
  condition: Condition,
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

/** Wherever it is: nobody else moves or removes it meanwhile. */
async function changeClaimed(
  { query, change }: Attempt,
  collection: Collection,
  id: string,
  home: number,
  condition: Condition,
  { target, staysIn, changeIn, departure, arrival }: Relocation,
): Promise<Row | undefined> {
  const [claimed] = await query(compileClaim(collection, id, home))
  const from = Number(claimed![0])
  let seen: string | null | undefined
  for (let look = 0; look < MAX_LOOKS; look++) {
    // Where two nodes have committed a move, one may know of it before the other does.
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
    const [current] = await query(compileLookup(collection, [id], [from]))
    const version = current?.[2]
    // It may have come to be seen a moment ago: only one that was there before has refused to change.
    if (current && (version === seen || condition?.includes(version!) === false))
      throw refusal(collection, id, condition, current)
    if (!current && from === home) {
      await query(compileForget(collection, id, home))
      return undefined
    }
    seen = version
  }
  throw gatewayError('collection-changing', 'The feature is still moving; try again.')
}

function changeItem(
  attempt: Attempt,
  collection: Collection,
  id: string,
  body: ItemBody,
  condition: Condition,
  compile: typeof compileUpdate,
  keptOf: typeof updateKept,
): Promise<Row | undefined> {
  if (collection.level === undefined)
    return changeOne(attempt, collection, id, compile(collection, { id, cell: undefined, condition }, body))
  const target = body.geometry === undefined ? undefined : cellOfBody(collection, body)
  const kept = keptOf(collection, body)
  return changeInCell(attempt, collection, id, condition, {
    target,
    staysIn: (cell) => target === undefined || target === cell,
    changeIn: (cell) => compile(collection, { id, cell, condition }, body),
    departure: (cell) => compileDeparture(collection, { id, cell, condition }, kept),
    arrival:
      target === undefined ? undefined : (left) => compileArrival(collection, id, body, kept, target, left),
  })
}

/** A feature whose id the client has chosen, and which was not there a moment ago. */
async function createWithId(
  attempt: Attempt,
  collection: Collection,
  id: string,
  given: unknown,
): Promise<Row> {
  const body = parseItemBody(given, collection, 'create', id)
  const cell = cellOfBody(collection, body)
  if (cell !== undefined && homeOf(id) !== cell) {
    const example = JSON.stringify(itemIdOf(cell, 'my-own'))
    const detail = `must begin with the cell of the feature's place, for example ${example}; POST gives such an id by itself`
    throw invalidFeature([{ pointer: '/id', detail }])
  }
  return attempt.together(async ({ query, change }) => {
    const [row] = await change(compileCreate(collection, body, cell))
    if (!row) throw notAllowed()
    // Another may have made it meanwhile, and moved it on: its id is taken, though its home is free.
    if (cell !== undefined && (await query(compileWhereabouts(collection, id, cell))).length > 1)
      throw gatewayError('feature-conflict', '/id has a value that another feature has already.', {
        errors: [{ pointer: '/id', detail: 'has a value that another feature has already' }],
      })
    return row
  })
}

/** What becomes of a feature, by the cell that it is in. */
type Relocation = {
  /** Where it lies in the end, if not where it was; undefined for nowhere else. */
  readonly target: number | undefined
  readonly staysIn: (cell: number) => boolean
  /** For a feature that stays. */
  readonly changeIn: (cell: number) => ChangeStatement
  /** For one that leaves: takes it away, and puts what was left into its new cell, if there is one. */
  readonly departure: (cell: number) => ChangeStatement
  readonly arrival?: ((left: Row) => ChangeStatement) | undefined
}

/** Why a change did not find a feature that is there. */
function refusal(collection: Collection, id: string, condition: Condition, [, , version]: Row): GatewayError {
  // Row-level security, or a trigger, said no without a word.
  if (condition?.includes(version!) !== false) return notAllowed()
  return gatewayError(
    'feature-changed',
    `The feature ${JSON.stringify(id)} is not what If-Match names: it has been changed since it was read. Read it again, and decide anew.`,
    { collection: collection.id, feature: id },
  )
}

/** How often a feature is looked for where a node that has committed says that it is, and how long between. */
const MAX_LOOKS = 100
const LOOK_INTERVAL_MS = 20

function idOf(collection: Collection, text: string): string {
  const id = parseValue(text, collection.idColumn!)
  if (id === undefined) throw featureNotFound(collection, text)
  return id
}

/** Where a feature with this body belongs; undefined where features are not sharded by place. */
const cellOfBody = ({ level }: Collection, { geometry }: ItemBody) =>
  level === undefined ? undefined : cellOf(geometry?.extent, level)

/** Where a feature with this id was made; undefined where features are not sharded by place. */
const homeIn = ({ level }: Collection, id: string) => (level === undefined ? undefined : homeOf(id))

const stored = (kind: 'created' | 'changed', [id, text, version]: Row): ChangeResult => ({
  kind,
  item: { id: id!, text: text!, version: version! },
})
