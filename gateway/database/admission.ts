// Owns how much is asked of the database at once: beyond that, who waits, who goes first, and who is told to come back.

import { gatewayError } from '../errors.ts'

/** Who goes first: single features and what serving needs to know, before pages. */
export type Priority = 'first' | 'usual'

export interface Admission {
  /**
   * Waits for a turn.
   * @returns what ends it
   * @throws GatewayError database-busy, at once where the wait would be too long; the signal's reason
   */
  enter(priority: Priority, signal?: AbortSignal): Promise<() => void>
  /** Runs work when it is its turn. @throws as enter; as `work` */
  run<T>(work: () => Promise<T>, priority: Priority, signal?: AbortSignal): Promise<T>
  /** From now on so much may run at once; what runs goes on. */
  resize(limit: number): void
  /** How much may run, how much does, and how much waits. */
  readonly limit: number
  readonly running: number
  readonly waiting: number
}

/** Nobody wants to wait longer; it also is what bounds memory. */
const MAX_WAIT_MS = 2_000
/** The weight of the newest in the mean time that work takes. */
const WEIGHT = 0.1

type Waiting = { readonly start: () => void }

/** @param initialLimit of what runs at once */
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
  gatewayError('database-busy', 'More is asked of the database than it can answer; try again.')
