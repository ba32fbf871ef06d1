// Owns admission: how much work runs at the database at once, which work waits and in which order, and what is refused.

import { gatewayError } from '../errors.ts'

/** Order of waiting work: single features and the gateway's own queries (`first`) go before pages (`usual`). */
export type Priority = 'first' | 'usual'

export interface Admission {
  /**
   * Waits for a turn.
   * @returns a function that ends the turn
   * @throws GatewayError database-busy, at once if the wait would be too long; the signal's reason
   */
  enter(priority: Priority, signal?: AbortSignal): Promise<() => void>
  /** Runs `work` when its turn has come. @throws as enter; as `work` */
  run<T>(work: () => Promise<T>, priority: Priority, signal?: AbortSignal): Promise<T>
  /** Sets how much work may run at once; work that already runs continues. */
  resize(limit: number): void
  /** Number of pieces of work that may run at once, that run, and that wait. */
  readonly limit: number
  readonly running: number
  readonly waiting: number
}

/** Longest wait for a turn. It also bounds memory, because work whose expected wait is longer is refused at once. */
const MAX_WAIT_MS = 2_000
/** Weight of the newest value in the moving average of how long work takes. */
const WEIGHT = 0.1

type Waiting = { readonly start: () => void }

/** @param initialLimit how much work may run at once, until `resize` changes it */
export function makeAdmission(initialLimit: number): Admission {
  let limit = initialLimit
  let running = 0
  let meanMs = 0
  const queues: Record<Priority, Set<Waiting>> = { first: new Set(), usual: new Set() }
  const count = () => queues.first.size + queues.usual.size

  function advance() {
    while (running < limit) {
      const queue = queues.first.size > 0 ? queues.first : queues.usual
      const [next] = queue
      if (!next) return
      queue.delete(next)
      next.start()
    }
  }

  function turn(priority: Priority, signal: AbortSignal | undefined): Promise<void> {
    const ahead = priority === 'first' ? queues.first.size : count()
    if (((ahead + 1) * meanMs) / limit > MAX_WAIT_MS) return Promise.reject(busy())
    return new Promise((resolve, reject) => {
      const queue = queues[priority]
      const end = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', abandon)
        queue.delete(waiting)
      }
      const waiting = {
        start() {
          end()
          running++
          resolve()
        },
      }
      const timer = setTimeout(() => {
        end()
        reject(busy())
      }, MAX_WAIT_MS)
      const abandon = () => {
        end()
        reject(signal!.reason)
      }
      signal?.addEventListener('abort', abandon)
      queue.add(waiting)
    })
  }

  async function enter(priority: Priority, signal?: AbortSignal): Promise<() => void> {
    if (running < limit) running++
    else await turn(priority, signal)
    const start = performance.now()
    return () => {
      meanMs += (performance.now() - start - meanMs) * WEIGHT
      running--
      advance()
    }
  }

  return {
    enter,
    async run(work, priority, signal) {
      const leave = await enter(priority, signal)
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
    get limit() {
      return limit
    },
    get running() {
      return running
    },
    get waiting() {
      return count()
    },
  }
}

const busy = () =>
  gatewayError('database-busy', 'The database gets more requests than it can answer; try again.')
