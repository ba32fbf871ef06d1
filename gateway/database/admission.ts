// Owns admission: how much work runs at the database at once, whose work waits and in which order, and what is refused.

import { gatewayError } from '../errors.ts'

/** Order of a client's waiting work: single features and the gateway's own queries (`first`) go before pages (`usual`). */
export type Priority = 'first' | 'usual'

/** Client of the gateway's own work. */
export const GATEWAY = ''

export type Entrant = {
  /** Client for which the work is done; work of the gateway itself, if it is left out. */
  readonly client?: string | undefined
  readonly priority: Priority
  readonly signal?: AbortSignal | undefined
}

export interface Admission {
  /**
   * Waits for a turn.
   * @returns a function that ends the turn
   * @throws GatewayError database-busy, at once if the wait would be too long; the signal's reason
   */
  enter(entrant: Entrant): Promise<() => void>
  /** Runs `work` when its turn has come. @throws as enter; as `work` */
  run<T>(work: () => Promise<T>, entrant: Entrant): Promise<T>
  /** Sets how much work may run at once; work that already runs continues. */
  resize(limit: number): void
  /** Sets how much of it may be of one client. */
  bound(mostOfOne: number): void
  /** Returns the clients that have asked for a turn since the last call. */
  takeSeen(): ReadonlySet<string>
  /** Number of pieces of work that may run at once, that run, and that wait. */
  readonly limit: number
  readonly running: number
  readonly waiting: number
  /** Number of clients that it remembers. */
  readonly known: number
}

/** Longest wait for a turn. It also bounds memory, because work whose expected wait is longer is refused at once. */
const MAX_WAIT_MS = 2_000
/** Weight of the newest value in the moving average of how long work takes. */
const WEIGHT = 0.1
/** Clients beyond which those without work are forgotten, with what they have used. */
const MAX_KNOWN_CLIENTS = 1_000

/**
 * Returns how many places there are beyond a limit. They are for clients that have no work running, so that these never
 * wait until a statement of a client that fills the limit has ended.
 */
export const spareOf = (limit: number) => Math.max(1, limit >> 2)

type Waiting = { readonly start: () => void }
/** Work of one client. */
type Client = {
  readonly name: string
  running: number
  /** Waiting work; undefined until some has to wait. */
  queues: Record<Priority, Set<Waiting>> | undefined
  /**
   * Database time that it has used while others waited, in milliseconds. A client that was idle begins with that of the
   * others.
   */
  usedMs: number
  /** Number of the time without a pause in which work waited, to which `usedMs` belongs. */
  contest: number
}

const waitingOf = ({ queues }: Client) => (queues ? queues.first.size + queues.usual.size : 0)

/** @param initialLimit how much work may run at once, until `resize` changes it */
export function makeAdmission(initialLimit: number): Admission {
  let limit = initialLimit
  let mostOfOne = Number.POSITIVE_INFINITY
  let seen = new Set<string>()
  let running = 0
  let waiting = 0
  let meanMs = 0
  /** Time that the client whose turn came last had used: the start of clients that come now (start-time fair queueing). */
  let startMs = 0
  let contest = 0
  const clients = new Map<string, Client>()
  /** Clients whose work waits. */
  const queued = new Set<Client>()

  function find(name: string): Client {
    let client = clients.get(name)
    if (!client) {
      if (clients.size >= MAX_KNOWN_CLIENTS) forgetIdle()
      client = { name, running: 0, queues: undefined, usedMs: startMs, contest }
      clients.set(name, client)
    } else if (client.running === 0 && (client.contest !== contest || client.usedMs < startMs)) {
      client.usedMs = startMs
      client.contest = contest
    }
    return client
  }

  function forgetIdle() {
    for (const client of clients.values())
      if (client.running === 0 && waitingOf(client) === 0) clients.delete(client.name)
  }

  /** Work of a client that has none running may take a spare place, and is not bound: it is how a client gets its share. */
  const hasPlace = (client: Client) =>
    client.running === 0 ? running < limit + spareOf(limit) : running < limit && client.running < mostOfOne

  const goesBefore = (one: Client, other: Client) =>
    one.running === other.running ? one.usedMs < other.usedMs : one.running < other.running

  /** Starts waiting work, each time of the client that runs least; of several, of the one that has used least. */
  function advance() {
    for (;;) {
      let next: Client | undefined
      for (const client of queued)
        if (hasPlace(client) && (next === undefined || goesBefore(client, next))) next = client
      if (!next) return
      const { first, usual } = next.queues!
      const [work] = first.size > 0 ? first : usual
      work!.start()
    }
  }

  function begin(client: Client) {
    running++
    client.running++
    startMs = Math.max(startMs, client.usedMs)
  }

  function turn(client: Client, priority: Priority, signal: AbortSignal | undefined): Promise<void> {
    client.queues ??= { first: new Set(), usual: new Set() }
    const { queues } = client
    const ahead = priority === 'first' ? queues.first.size : waitingOf(client)
    const sharing = queued.has(client) ? queued.size : queued.size + 1
    if (((ahead + 1) * meanMs * sharing) / limit > MAX_WAIT_MS) return Promise.reject(busy())
    return new Promise((resolve, reject) => {
      const queue = queues[priority]
      const end = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', abandon)
        queue.delete(work)
        waiting--
        if (waiting === 0) contest++
        if (waitingOf(client) === 0) queued.delete(client)
      }
      const work = {
        start() {
          end()
          begin(client)
          resolve()
        },
      }
      const giveUp = (reason: unknown) => {
        end()
        reject(reason)
      }
      const timer = setTimeout(() => giveUp(busy()), MAX_WAIT_MS)
      const abandon = () => giveUp(signal!.reason)
      signal?.addEventListener('abort', abandon)
      queue.add(work)
      queued.add(client)
      waiting++
    })
  }

  async function enter({ client: name = GATEWAY, priority, signal }: Entrant): Promise<() => void> {
    seen.add(name)
    const client = find(name)
    // If there is a place for it, nobody who waits may take that place: they would have it by now.
    if (hasPlace(client)) begin(client)
    else await turn(client, priority, signal)
    const start = performance.now()
    return () => {
      const ms = performance.now() - start
      meanMs += (ms - meanMs) * WEIGHT
      client.running--
      running--
      // What a client uses while nobody waits is taken from nobody.
      if (waiting === 0) return
      client.usedMs += ms
      advance()
    }
  }

  return {
    enter,
    async run(work, entrant) {
      const leave = await enter(entrant)
      try {
        return await work()
      } finally {
        leave()
      }
    },
    resize(newLimit) {
      limit = newLimit
      advance()
    },
    bound(newMost) {
      const isMore = newMost > mostOfOne
      mostOfOne = newMost
      if (isMore) advance()
    },
    takeSeen() {
      const taken = seen
      if (taken.size > 0) seen = new Set()
      return taken
    },
    get limit() {
      return limit
    },
    get running() {
      return running
    },
    get waiting() {
      return waiting
    },
    get known() {
      return clients.size
    },
  }
}

const busy = () =>
  gatewayError('database-busy', 'The database gets more requests than it can answer; try again.')
