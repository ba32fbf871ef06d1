// Owns single features by id: look-ups that come in while one is under way are joined into one statement.

import type { Database } from '../database/database.ts'
import { GatewayError } from '../errors.ts'
import type { Collection } from './collection.ts'
import { compileLookup } from './item-query.ts'
import { parseValue } from './value.ts'

/**
 * Statements of one collection under way at once. More would only split the same ids over more round
 * trips; with one alone, PostgreSQL would wait while we render.
 */
const MAX_CONCURRENT = 2
/** Ids of one statement: past this, waiting for the whole costs the first more than joining saves. */
const MAX_IDS = 100
/** Types whose values come back as the text that was asked for, so that rows find their askers, and none is an error. */
const JOINABLE = new Set(['int2', 'int4', 'int8', 'text', 'varchar', 'uuid'])

type Waiting = {
  readonly id: string
  readonly resolve: (feature: FeatureText | undefined) => void
  readonly reject: (error: Error) => void
}
type Queue = { collection: Collection; waiting: Waiting[]; running: number; isScheduled: boolean }

/** A feature as it was read. */
export type FeatureText = {
  /** Up to its last brace, see feature.ts. */
  readonly text: string
  readonly version: string
}

export interface ItemLookup {
  /**
   * A feature; undefined where there is none.
   * @param id as in the URL: of any form that the key's type takes
   */
  find(collection: Collection, id: string): Promise<FeatureText | undefined>
}

export function makeItemLookup(database: Database): ItemLookup {
  const queues = new Map<string, Queue>()

  async function run(queue: Queue) {
    const isJoinable = JOINABLE.has(queue.collection.idColumn!.type)
    const batch = queue.waiting.splice(0, isJoinable ? MAX_IDS : 1)
    queue.running++
    try {
      const ids = [...new Set(batch.map(({ id }) => id))]
      const rows = await database.read(compileLookup(queue.collection, ids))
      const found = new Map(rows.map((row) => [row[0], { text: row[1]!, version: row[2]! }]))
      for (const { id, resolve } of batch) resolve(isJoinable ? found.get(id) : found.values().next().value)
    } catch (error) {
      // A text that is no value of the key's type is the id of nothing.
      const isNoValue = error instanceof GatewayError && error.code === 'parameter-invalid'
      for (const { resolve, reject } of batch) isNoValue ? resolve(undefined) : reject(error as Error)
    } finally {
      queue.running--
      if (queue.waiting.length > 0) advance(queue)
    }
  }

  /** At the end of this turn of the event loop: what else has arrived in it joins in. */
  function advance(queue: Queue) {
    if (queue.isScheduled || queue.running >= MAX_CONCURRENT) return
    queue.isScheduled = true
    setImmediate(() => {
      queue.isScheduled = false
      if (queue.waiting.length > 0) run(queue)
    })
  }

  return {
    async find(collection, id) {
      const value = parseValue(id, collection.idColumn!)
      if (value === undefined) return undefined
      let queue = queues.get(collection.id)
      if (queue?.collection !== collection) {
        queue = { collection, waiting: [], running: 0, isScheduled: false }
        queues.set(collection.id, queue)
      }
      const found = new Promise<FeatureText | undefined>((resolve, reject) =>
        queue.waiting.push({ id: value, resolve, reject }),
      )
      advance(queue)
      return found
    },
  }
}
