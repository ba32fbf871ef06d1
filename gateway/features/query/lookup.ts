// Owns reading single features by id: by one request alone, or joined with the look-ups of others that come in while a
// round trip is under way.

import { setTimeout as sleep } from 'node:timers/promises'
import { Consistency, type Origin } from '../../database/consistency.ts'
import type { Database } from '../../database/contract.ts'
import { AnswerTooLong } from '../../database/exchange.ts'
import { isGeometryFailure, isRowTooLong } from '../../database/outcome.ts'
import type { Row, Statement } from '../../database/statement.ts'
import { GatewayError } from '../../errors.ts'
import { type Principal, type Viewers, viewersOf } from '../access/principal.ts'
import { type Collection, isSpreadByCell, shardOfCells } from '../collections/collection.ts'
import type { Encoder } from '../formats/encoder.ts'
import { geojson } from '../formats/geojson.ts'
import { homeOf } from '../sharding/feature-id.ts'
import { compileWhereabouts } from '../sharding/forwarding.ts'
import { parseStored } from '../values/value.ts'
import { compileLookup, type Part } from './lookup-statement.ts'
import { type PageFeature, pageFeature, type StoredFeature, storedFeature } from './stored-feature.ts'
import { mendItems, readItems } from './stored-geometry.ts'
import type { Unshown } from './unshown.ts'

/**
 * Round trips of one queue under way at once. More would only split the same ids over more of them; with a single one,
 * PostgreSQL would wait while we render.
 */
const MAX_CONCURRENT = 2
/** Ids of one round trip: with more, waiting for all of them costs the first one more than joining saves. A power of four. */
const MAX_IDS = 64
/**
 * Types whose values PostgreSQL returns in the form of the request, so that rows can be matched to requests, and for
 * which no text is an error, which would fail all joined requests.
 */
const JOINABLE = new Set(['int2', 'int4', 'int8', 'text', 'varchar', 'uuid'])
/** How often a feature that has moved is looked for where its forwarding row points, and the first pause in between. */
const MAX_SEARCHES = 6
const SEARCH_INTERVAL_MS = 5

/** Bytes of the values of one statement after which its features count as large, and are read one by one. */
const MAX_ANSWER_BYTES = 4 * 1024 * 1024
/** Bytes of text for each byte of a geometry: two coordinates take 16 bytes, and up to 40 as text. */
const TEXT_PER_STORED = 3

type Waiting = {
  /** Client that waits; a round trip belongs to the share of its first one. */
  readonly client: string
  readonly id: string
  /** Its cell, in a collection that is distributed by cell. */
  readonly cell: number | undefined
  readonly resolve: (feature: FoundFeature | Large | undefined) => void
  readonly reject: (error: Error) => void
}
/** Look-ups in one collection and system; if the collection is distributed by cell, those in one node group. */
type Queue = {
  readonly name: string
  /** Those who wait. */
  readonly viewers: Viewers
  readonly collection: Collection
  readonly encoder: Encoder
  waiting: Waiting[]
  running: number
  isScheduled: boolean
}

/** A feature, and where it was read. */
export type FoundFeature = StoredFeature & { readonly origin: Origin }
/** A feature that is not read with others, because of its size, or because the geometry of one of them is faulty. */
export type Large = 'large'

export interface ItemLookup {
  /**
   * Returns a feature as any secondary has it; undefined if there is none; `large` if readItem must read it.
   * @param principal look-ups are joined with those of callers who see the same
   * @param client client that waits for it
   * @param id as in the URL: in any form that the key's type takes
   */
  find(
    principal: Principal,
    client: string,
    collection: Collection,
    id: string,
    encoder?: Encoder,
  ): Promise<FoundFeature | Large | undefined>
}

/**
 * Returns a feature as `view` must see it; undefined if there is none.
 * @param id as in the URL
 * @param reserve called with the bytes of a large feature before it is read; may refuse them by throwing
 */
export const readItem = (
  view: Database,
  unshown: Unshown,
  collection: Collection,
  id: string,
  encoder: Encoder,
  reserve: (bytes: number) => void,
): Promise<StoredFeature | undefined> =>
  findFeature(collection, id, {
    view,
    unshown,
    encoder,
    async lookUp(value, cell) {
      const reading = { database: view, encoder, unshown }
      const read = (part: Part) =>
        readItems(reading, collection, (form) =>
          readOne(view, collection, value, cell, form === 'stored' ? 'stored' : part, encoder),
        )
      const [row] = await read('small')
      if (!row) return undefined
      if (row[1] !== null) return storedFeature(row)
      reserve(Number(row[4]) * TEXT_PER_STORED)
      const [large] = await read('whole')
      return large && storedFeature(large)
    },
    parts: WHOLE,
    finish: storedFeature,
  })

/** Returns a feature for a page, as `view` must see it; undefined if there is none. @param id as in the URL */
export const readForPage = (
  view: Database,
  unshown: Unshown,
  collection: Collection,
  id: string,
  encoder: Encoder,
): Promise<PageFeature | undefined> =>
  findFeature(collection, id, {
    view,
    unshown,
    encoder,
    async lookUp(value, cell) {
      const reading = { database: view, encoder, unshown }
      const [row] = await readItems(reading, collection, (form) =>
        readOne(view, collection, value, cell, form === 'stored' ? PAGE.stored : PAGE.converted, encoder),
      )
      return row && pageFeature(row)
    },
    parts: PAGE,
    finish: pageFeature,
  })

const readOne = (
  view: Database,
  collection: Collection,
  value: string,
  cell: number | undefined,
  part: Part,
  encoder?: Encoder,
): Promise<Row[]> =>
  view.read(compileOne(collection, value, cell, part, encoder)).catch((error) => {
    if (isNoValue(error)) return []
    throw error
  })

/** Returns the statement that a look-up begins with; undefined if no feature can have this id. */
export function planLookup(collection: Collection, id: string, encoder: Encoder): Statement | undefined {
  const key = keyOf(collection, id)
  return key && compileOne(collection, key.value, key.home, 'whole', encoder)
}

const compileOne = (
  collection: Collection,
  value: string,
  cell: number | undefined,
  part?: Part,
  encoder?: Encoder,
) => compileLookup(collection, [value], cell === undefined ? undefined : [cell], part, encoder)

export function makeItemLookup(database: Database, unshown: Unshown): ItemLookup {
  const queues = new Map<string, Queue>()

  async function run(queue: Queue) {
    const { collection, encoder } = queue
    const isJoinable = JOINABLE.has(collection.idColumn!.type) && !isSpreadById(collection)
    const batch = takeInTurn(queue, isJoinable ? MAX_IDS : 1)
    queue.running++
    try {
      const origin = new Consistency()
      const { claims } = queue.viewers
      const view = database.within({ consistency: origin, client: batch[0]!.client, claims })
      const read = await view.readAll(compileLookups(collection, batch, encoder), {
        mostBytes: MAX_ANSWER_BYTES,
      })
      const rows = mendItems({ encoder, unshown }, collection, read.flat())
      const found = new Map<string | null, FoundFeature | Large>(
        rows.map((row) => [row[0]!, row[1] === null ? 'large' : { ...storedFeature(row), origin }]),
      )
      for (const { id, resolve } of batch) resolve(isJoinable ? found.get(id) : found.values().next().value)
    } catch (error) {
      for (const { resolve, reject } of batch) {
        // If one cannot be shown as it is stored, or is too long, each is read by itself.
        if (error instanceof AnswerTooLong || isRowTooLong(error) || isGeometryFailure(error))
          resolve('large')
        else if (isNoValue(error)) resolve(undefined)
        else reject(error as Error)
      }
    } finally {
      queue.running--
      if (queue.waiting.length > 0) advance(queue)
      else if (queue.running === 0 && queues.get(queue.name) === queue) queues.delete(queue.name)
    }
  }

  /**
   * Starts a round trip at the end of the next turn of the event loop: look-ups that arrive until then join it. One turn
   * more costs a poll of the sockets; without it a busy process joined two ids where it now joins four.
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

  /** Look-ups at one worker share round trips; through Citus, those in different shards would wait for one another. */
  function targetOf(collection: Collection, cell: number): string {
    const group = database.workerGroupOf([cell])
    return group === undefined ? shardNameOf(collection, cell) : `group ${group}`
  }

  const lookUp =
    (viewers: Viewers, client: string, collection: Collection, encoder: Encoder) =>
    (id: string, cell: number | undefined): Promise<FoundFeature | Large | undefined> => {
      const name = `${viewers.name} ${collection.id} ${encoder.kind} ${cell === undefined ? '' : targetOf(collection, cell)}`
      let queue = queues.get(name)
      if (queue?.collection !== collection) {
        queue = { name, viewers, collection, encoder, waiting: [], running: 0, isScheduled: false }
        queues.set(name, queue)
      }
      const { waiting } = queue
      const found = new Promise<FoundFeature | Large | undefined>((resolve, reject) =>
        waiting.push({ client, id, cell, resolve, reject }),
      )
      advance(queue)
      return found
    }

  return {
    find(principal, client, collection, id, encoder = geojson) {
      const viewers = viewersOf(principal, [collection])
      const { claims } = viewers
      return findFeature<FoundFeature | Large>(collection, id, {
        view: claims === undefined ? database : database.within({ client, claims }),
        unshown,
        encoder,
        lookUp: lookUp(viewers, client, collection, encoder),
        parts: WHOLE,
        finish: (row) => ({ ...storedFeature(row), origin: PRIMARY }),
      })
    },
  }
}

/**
 * Takes up to `most` look-ups out of a queue. If there are more, each client's first one is taken before any second one,
 * so that nobody waits for all that another has sent.
 */
function takeInTurn(queue: Queue, most: number): Waiting[] {
  const { waiting } = queue
  if (waiting.length <= most) return waiting.splice(0)
  const rounds = new Map<string, number>()
  const ranked = waiting.map((one) => {
    const round = rounds.get(one.client) ?? 0
    rounds.set(one.client, round + 1)
    return { one, round }
  })
  const inTurn = ranked.sort((a, b) => a.round - b.round).map(({ one }) => one)
  queue.waiting = inTurn.slice(most)
  return inTurn.slice(0, most)
}

const PRIMARY: Origin = { source: 'primary', orphanedForMs: undefined }

/** Returns true if a text of a request is no value of the key's type: it is the id of nothing. */
const isNoValue = (error: unknown) => error instanceof GatewayError && error.code === 'parameter-invalid'

/** The way in which features are read. */
type Way<T> = {
  readonly view: Database
  readonly unshown: Unshown
  readonly encoder: Encoder
  /** Reads a feature from this cell, if the collection is distributed by cell. */
  readonly lookUp: (value: string, cell: number | undefined) => Promise<T | undefined>
  /** What is read of it at the primary, with its geometry in each of both forms. */
  readonly parts: Readonly<Record<'converted' | 'stored', Part>>
  /** Returns what was read there. */
  readonly finish: (row: Row) => T
}
const WHOLE = { converted: 'whole', stored: 'stored' } as const
const PAGE = { converted: 'page', stored: 'stored page' } as const

async function findFeature<T>(collection: Collection, id: string, way: Way<T>): Promise<T | undefined> {
  const key = keyOf(collection, id)
  if (key === undefined) return undefined
  const { value, home } = key
  const feature = await way.lookUp(value, home)
  return feature ?? (home === undefined ? undefined : search(collection, value, home, way))
}

/**
 * Looks for a feature that is not in its home cell where its forwarding row points, until it is found or there is no
 * such row any more: it may move on between two looks, and one secondary may know that it has left before another
 * knows that it has arrived.
 */
async function search<T>(
  collection: Collection,
  id: string,
  home: number,
  { view, unshown, encoder, lookUp, parts, finish }: Way<T>,
): Promise<T | undefined> {
  for (let search = 0; search < MAX_SEARCHES; search++) {
    if (search > 0) await sleep(SEARCH_INTERVAL_MS * 2 ** search)
    const [row] = await view.read(compileWhereabouts(collection, id, home))
    if (!row) return undefined
    const feature = await lookUp(id, Number(row[0]))
    if (feature) return feature
  }
  // The primaries agree with one another sooner than their secondaries do.
  if (!view.canWrite) return undefined
  const [row] = await view.write(compileWhereabouts(collection, id, home))
  const reading = { database: view, encoder, unshown }
  const [found] = row
    ? await readItems(reading, collection, (form) =>
        view.write(
          compileOne(
            collection,
            id,
            Number(row[0]),
            form === 'stored' ? parts.stored : parts.converted,
            encoder,
          ),
        ),
      )
    : []
  return found && finish(found)
}

/** Cells in the same shard share one statement. */
const shardNameOf = (collection: Collection, cell: number) =>
  shardOfCells(collection, [cell])?.table ?? `cell ${cell}`

/** Returns one statement; one for each shard if the collection is distributed by cell. */
function compileLookups(collection: Collection, batch: readonly Waiting[], encoder: Encoder): Statement[] {
  const byShard = Map.groupBy(batch, ({ cell }) =>
    cell === undefined ? undefined : shardNameOf(collection, cell),
  )
  return [...byShard.values()].map((part) => {
    const ids = [...new Set(part.map(({ id }) => id))]
    const cells = [...new Set(part.flatMap(({ cell }) => cell ?? []))]
    return compileLookup(collection, ids, cells.length > 0 ? cells : undefined, 'small', encoder)
  })
}

/** Returns the value of an id, and its home cell if that has to be named; undefined if no feature can have this id. */
function keyOf(collection: Collection, id: string): { value: string; home: number | undefined } | undefined {
  const value = parseStored(id, collection.idColumn!)
  if (value === undefined) return undefined
  const home = isSpreadByCell(collection) ? homeOf(value) : undefined
  return isSpreadByCell(collection) && home === undefined ? undefined : { value, home }
}

/** Ids of such a collection are likely on different nodes: a statement for each of them is faster. */
const isSpreadById = ({ idColumn, distribution }: Collection) =>
  distribution?.by === 'column' && distribution.column === idColumn?.name
