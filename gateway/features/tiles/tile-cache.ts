// Owns the tiles that a process keeps: each until something has changed where it was read, and all together up to a number
// of bytes. What is requested at the same time is read once.

import { Consistency } from '../../database/consistency.ts'
import type { Caller, Database } from '../../database/contract.ts'
import { isSameState, type State } from '../../database/state.ts'
import { before } from '../../database/waiting.ts'
import type { Emit } from '../../events.ts'
import { KeptTile, type Making, type Sight } from './kept-tile.ts'

/** A tile, and how recent it is. */
export type Answer = { readonly tile: KeptTile; readonly sight: Sight }

/** A client that wants a tile, with the claims of the viewers who are part of the key. */
export type Recipient = Required<Pick<Caller, 'client' | 'claims'>>

/** Reads a tile. @param deadline aborts when nobody waits for it any more */
export type Make = (database: Database, deadline: AbortSignal) => Promise<Making>

export interface TileCache {
  /** Returns a tile that is known to be no older than tiles may be, without a round trip; undefined if there is none. */
  recent(key: string): Answer | undefined
  /**
   * Returns a tile for a client that requires nothing in particular: as it is kept if nothing has changed, or made, once for
   * all that wait for it.
   * @param key all that the tile depends on, except for what is stored: also the viewers, with whose claims it is read
   * @param deadline of this client alone
   */
  read(key: string, recipient: Recipient, deadline: AbortSignal, make: Make): Promise<Answer>
  /**
   * Returns a tile that sees what a consistency requires: always after a round trip.
   * @param database as the request must see it
   */
  readConsistent(
    key: string,
    database: Database,
    consistency: Consistency,
    deadline: AbortSignal,
    make: Make,
  ): Promise<Answer>
  /** Bytes of all tiles that are kept. */
  readonly bytes: number
}

export type TileCacheOptions = {
  readonly database: Database
  /** Most bytes of tiles that are kept. */
  readonly mostBytes: number
  /** How old the last look at the database may be, in milliseconds. */
  readonly maxAgeMs: number
  readonly emit: Emit
}

/** What several callers wait for. */
type Shared<T> = { readonly startedAt: number; readonly result: Promise<T> }

/** A tile that is being made, and for whom. */
type Work = Shared<Answer> & { readonly leaving: AbortController; waiting: number }

/** Most groups of nodes whose state is remembered; without Citus there is one. */
const MAX_PLACES = 1_000

export function makeTileCache({ database, mostBytes, maxAgeMs, emit }: TileCacheOptions): TileCache {
  /** The least recently used one is first. */
  const kept = new Map<string, KeptTile>()
  const works = new Map<string, Work>()
  /** The last look at what tiles were read from, by the names of the node groups. */
  const sights = new Map<string, Sight>()
  const looks = new Map<string, Shared<Sight>>()
  let bytes = 0

  const isRecent = (at: number) => performance.now() - at <= maxAgeMs
  const served = (from: 'memory' | 'look' | 'another' | 'database', answer: Answer): Answer => {
    emit({ type: 'tile-served', from })
    return answer
  }

  function drop(key: string) {
    const tile = kept.get(key)
    if (!tile) return
    kept.delete(key)
    bytes -= tile.bytes
  }

  function evict() {
    for (const key of kept.keys()) {
      if (bytes <= mostBytes) return
      drop(key)
    }
  }

  function keep(key: string, making: Making, made: Sight): KeptTile {
    const former = kept.get(key)
    const tile: KeptTile = new KeptTile(key, making, made, (grown) => {
      if (kept.get(key) !== tile) return
      bytes += grown
      evict()
    })
    if (!making.isSteady || (former && former.made.at > made.at)) return tile
    drop(key)
    kept.set(key, tile)
    bytes += tile.bytes
    evict()
    return tile
  }

  /** Returns the most recent sight of a tile by which it is what would be made then; undefined if there is none. */
  function sightOf({ made }: KeptTile): Sight | undefined {
    const latest = made.state && sights.get(placeOf(made.state))
    const isConfirmed = latest?.state && made.state && isSameState(latest.state, made.state)
    return isConfirmed && latest.at > made.at ? latest : made
  }

  /** Looks at what a tile was read from, together with all others that were read from there. */
  function look(tile: KeptTile, client: string | undefined): Promise<Sight> {
    const place = placeOf(tile.made.state!)
    const running = looks.get(place)
    if (running && isRecent(running.startedAt)) return running.result
    const startedAt = performance.now()
    const consistency = witness()
    const result = database
      .within({ consistency, client })
      .look(tile.cells)
      .then(() => {
        const sight = sightThrough(consistency, startedAt)
        if ((sights.get(place)?.at ?? Number.NEGATIVE_INFINITY) > startedAt) return sight
        sights.delete(place)
        sights.set(place, sight)
        if (sights.size > MAX_PLACES) sights.delete(sights.keys().next().value!)
        return sight
      })
      .finally(() => {
        if (looks.get(place)?.result === result) looks.delete(place)
      })
    looks.set(place, { startedAt, result })
    return result
  }

  /** Makes a tile. If it changed while it was read, its state is unknown, and it is kept for its age alone. */
  async function makeFor(
    key: string,
    recipient: Recipient,
    deadline: AbortSignal,
    make: Make,
  ): Promise<Answer> {
    const at = performance.now()
    const consistency = witness()
    const making = await make(database.within({ ...recipient, consistency }), deadline)
    const sight = sightThrough(consistency, at)
    return { tile: keep(key, making, sight), sight }
  }

  function share(key: string, recipient: Recipient, make: Make): Work {
    const leaving = new AbortController()
    const result = makeFor(key, recipient, leaving.signal, make)
    const work: Work = { startedAt: performance.now(), result, leaving, waiting: 0 }
    works.set(key, work)
    const end = () => {
      if (works.get(key) === work) works.delete(key)
    }
    leaving.signal.addEventListener('abort', end)
    result.then(end, end)
    return work
  }

  /** Waits for a tile until the client leaves; with the last client, the work ends. */
  function wait(work: Work, deadline: AbortSignal): Promise<Answer> {
    work.waiting++
    return before(deadline, work.result, () => {
      if (--work.waiting === 0) work.leaving.abort(deadline.reason)
    })
  }

  function recent(key: string): Answer | undefined {
    const tile = kept.get(key)
    const sight = tile && sightOf(tile)
    if (!sight || !isRecent(sight.at)) return undefined
    kept.delete(key)
    kept.set(key, tile)
    return { tile, sight }
  }

  return {
    recent(key) {
      const answer = recent(key)
      return answer && served('memory', answer)
    },

    async read(key, recipient, deadline, make) {
      const tile = kept.get(key)
      if (tile?.made.state) {
        const sight = await before(deadline, look(tile, recipient.client))
        if (isConfirmedBy(tile, sight)) {
          if (kept.get(key) === tile) recent(key)
          return served('look', { tile, sight })
        }
        // Another request may have made it anew meanwhile.
        const answer = recent(key)
        if (answer) return served('memory', answer)
      }
      const running = works.get(key)
      if (running && isRecent(running.startedAt)) return served('another', await wait(running, deadline))
      return served('database', await wait(share(key, recipient, make), deadline))
    },

    async readConsistent(key, view, consistency, deadline, make) {
      const tile = kept.get(key)
      if (tile?.made.state) {
        const at = performance.now()
        consistency.state = new Map()
        await view.look(tile.cells, { signal: deadline })
        const sight = sightThrough(consistency, at)
        if (isConfirmedBy(tile, sight)) return served('look', { tile, sight })
      }
      const at = performance.now()
      consistency.state = new Map()
      const making = await make(view, deadline)
      const sight = sightThrough(consistency, at)
      return served('database', { tile: keep(key, making, sight), sight })
    },

    get bytes() {
      return bytes
    },
  }
}

/** Returns a consistency of a read that requires nothing, but finds out the state of what it reads. */
function witness(): Consistency {
  const consistency = new Consistency()
  consistency.state = new Map()
  return consistency
}

/** Returns what was seen through a consistency since a time. */
function sightThrough({ state, source, orphanedForMs }: Consistency, at: number): Sight {
  const isKnown = state && state.size > 0 && ![...state.values()].includes(undefined)
  return { at, state: isKnown ? state : undefined, origin: { source, orphanedForMs } }
}

const placeOf = (state: State) => [...state.keys()].join()

const isConfirmedBy = ({ made }: KeptTile, { state }: Sight) =>
  made.state !== undefined && state !== undefined && isSameState(made.state, state)
