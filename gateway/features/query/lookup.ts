// Owns single features by id: look-ups that come in while one is under way are asked for together.

import { setTimeout as sleep } from 'node:timers/promises'
import { Consistency, type Database, type Origin, type Statement } from '../../database/database.ts'
import { GatewayError } from '../../errors.ts'
import { type Collection, isSpreadByCell, shardOfCells } from '../collections/collection.ts'
import { homeOf } from '../sharding/feature-id.ts'
import { compileWhereabouts } from '../sharding/forwarding.ts'
import { parseValue } from '../values/value.ts'
import { compileLookup } from './item-query.ts'

/**
 * Round trips of one kind under way at once. More would only split the same ids over more of them; with one alone,
 * PostgreSQL would wait while we render.
 */
const MAX_CONCURRENT = 2
/** Ids of one round trip: past this, waiting for the whole costs the first more than joining saves. A power of four. */
const MAX_IDS = 64
/** Types whose values come back as the text that was asked for, so that rows find their askers, and none is an error. */
const JOINABLE = new Set(['int2', 'int4', 'int8', 'text', 'varchar', 'uuid'])
/** How often a feature that has moved is looked for anew where it is said to be, and how long between, at first. */
const MAX_SEARCHES = 6
const SEARCH_INTERVAL_MS = 5

type Waiting = {
  readonly id: string
  /** Where it is, in a collection whose features are spread over nodes by place. */
  readonly cell: number | undefined
  readonly resolve: (feature: FeatureText | undefined) => void
  readonly reject: (error: Error) => void
}
/** Of one collection; and where its features are spread over nodes by place, of those on one of them. */
type Queue = {
  readonly name: string
  readonly collection: Collection
  waiting: Waiting[]
  running: number
  isScheduled: boolean
}

/** A feature as it was read. */
export type FeatureText = {
  /** Up to its last brace, see stored-feature.ts. */
  readonly text: string
  readonly version: string
  readonly origin: Origin
}

export interface ItemLookup {
  /**
   * A feature; undefined where there is none.
   * @param id as in the URL: of any form that the key's type takes
   */
  find(collection: Collection, id: string): Promise<FeatureText | undefined>
  /** What `find` asks first, by itself; undefined where no feature can have this id. */
  plan(collection: Collection, id: string): Statement | undefined
}

/** @param consistency of the one request that it is for; without it, it is for all that take whatever there is */
export function makeItemLookup(database: Database, consistency?: Consistency): ItemLookup {
  const queues = new Map<string, Queue>()
  const view = consistency ? database.within(consistency) : database

  async function run(queue: Queue) {
    const { collection } = queue
    const isJoinable = JOINABLE.has(collection.idColumn!.type) && !isSpreadById(collection)
    const batch = queue.waiting.splice(0, isJoinable ? MAX_IDS : 1)
    queue.running++
    try {
      const asked = consistency ?? new Consistency()
      const rows = await database.within(asked).readAll(compileLookups(collection, batch))
      const found = new Map(
        rows.flat().map((row) => [row[0], { text: row[1]!, version: row[2]!, origin: asked }]),
      )
      for (const { id, resolve } of batch) resolve(isJoinable ? found.get(id) : found.values().next().value)
    } catch (error) {
      // A text that is no value of the key's type is the id of nothing.
      const isNoValue = error instanceof GatewayError && error.code === 'parameter-invalid'
      for (const { resolve, reject } of batch) isNoValue ? resolve(undefined) : reject(error as Error)
    } finally {
      queue.running--
      if (queue.waiting.length > 0) advance(queue)
      else if (queue.running === 0 && queues.get(queue.name) === queue) queues.delete(queue.name)
    }
  }

  /**
   * At the end of the next turn of the event loop: what else arrives until then joins in. Another turn costs a look at
   * the sockets; without it a busy process asked for two ids at once where it now asks for four.
   */
  function advance(queue: Queue) {
    if (queue.isScheduled || queue.running >= MAX_CONCURRENT) return
    queue.isScheduled = true
    const start = () => {
      queue.isScheduled = false
      if (queue.waiting.length > 0) run(queue)
    }
    setImmediate(setImmediate, start)
  }

  /** Look-ups of one place share round trips; where Citus is asked, it would have them wait for one another. */
  function placeOf(collection: Collection, cell: number): string {
    const group = database.workerGroupOf([cell])
    return group === undefined ? shardNameOf(collection, cell) : `group ${group}`
  }

  function lookUp(collection: Collection, id: string, cell?: number): Promise<FeatureText | undefined> {
    const name = `${collection.id} ${cell === undefined ? '' : placeOf(collection, cell)}`
    let queue = queues.get(name)
    if (queue?.collection !== collection) {
      queue = { name, collection, waiting: [], running: 0, isScheduled: false }
      queues.set(name, queue)
    }
    const { waiting } = queue
    const found = new Promise<FeatureText | undefined>((resolve, reject) =>
      waiting.push({ id, cell, resolve, reject }),
    )
    advance(queue)
    return found
  }

  /**
   * Where it is said to be, until it is found there or nobody says anything any more: it may move on between two
   * looks, and a secondary may know that it has left before another knows that it has come.
   */
  async function search(collection: Collection, id: string, home: number): Promise<FeatureText | undefined> {
    for (let search = 0; search < MAX_SEARCHES; search++) {
      if (search > 0) await sleep(SEARCH_INTERVAL_MS * 2 ** search)
      const [row] = await view.read(compileWhereabouts(collection, id, home))
      if (!row) return undefined
      const feature = await lookUp(collection, id, Number(row[0]))
      if (feature) return feature
    }
    // The primaries agree with one another sooner.
    if (!database.canWrite) return undefined
    const [row] = await view.write(compileWhereabouts(collection, id, home))
    const [found] = row ? await view.write(compileLookup(collection, [id], [Number(row[0])])) : []
    const origin: Origin = { source: 'primary', orphanedForMs: undefined }
    return found && { text: found[1]!, version: found[2]!, origin }
  }

  return {
    async find(collection, id) {
      const key = keyOf(collection, id)
      if (key === undefined) return undefined
      const { value, home } = key
      const feature = await lookUp(collection, value, home)
      return feature ?? (home === undefined ? undefined : search(collection, value, home))
    },
    plan(collection, id) {
      const key = keyOf(collection, id)
      if (!key) return undefined
      const { value, home } = key
      return compileLookup(collection, [value], home === undefined ? undefined : [home])
    },
  }
}

/** Cells of one name are looked into by one statement. */
const shardNameOf = (collection: Collection, cell: number) =>
  shardOfCells(collection, [cell])?.table ?? `cell ${cell}`

/** A statement; where features are spread over nodes by place, one for each shard. */
function compileLookups(collection: Collection, batch: readonly Waiting[]): Statement[] {
  const byShard = Map.groupBy(batch, ({ cell }) =>
    cell === undefined ? undefined : shardNameOf(collection, cell),
  )
  return [...byShard.values()].map((part) => {
    const ids = [...new Set(part.map(({ id }) => id))]
    const cells = [...new Set(part.flatMap(({ cell }) => cell ?? []))]
    return compileLookup(collection, ids, cells.length > 0 ? cells : undefined)
  })
}

/** An id's value, and the cell to look in first where it has to be named; undefined for the id of nothing. */
function keyOf(collection: Collection, id: string): { value: string; home: number | undefined } | undefined {
  const value = parseValue(id, collection.idColumn!)
  if (value === undefined) return undefined
  const home = isSpreadByCell(collection) ? homeOf(value) : undefined
  return isSpreadByCell(collection) && home === undefined ? undefined : { value, home }
}

/** Several ids would each be on a node of their own: a statement for each is the shorter way. */
const isSpreadById = ({ idColumn, distribution }: Collection) =>
  distribution?.by === 'column' && distribution.column === idColumn?.name
