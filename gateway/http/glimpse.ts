// Owns values of which the last known one is shown: reading them never delays an answer for long.

import { setTimeout as sleep } from 'node:timers/promises'

export type Glimpse<T> = {
  /** The last that was read; undefined if there was none. */
  readonly value: T | undefined
  /** When it was first wanted in vain; undefined if it is known. */
  readonly unknownSince: Date | undefined
}

/** How long an answer waits for a value: longer than a database that is well needs, shorter than people notice. */
const PATIENCE_MS = 300
/** Time after which a value that could not be read is tried again. */
const RETRY_MS = 1_000

/**
 * @param read reads the value, and ends by itself; concurrent callers share what it returns
 * @param maxAgeMs how old a value may be before it is read again
 */
export function makeGlimpse<T>(read: () => Promise<T>, maxAgeMs: number): () => Promise<Glimpse<T>> {
  let value: T | undefined
  let unknownSince: Date | undefined
  let renewAt = Number.NEGATIVE_INFINITY
  let reading: Promise<void> | undefined

  async function renew() {
    const startedAt = new Date()
    try {
      value = await read()
      unknownSince = undefined
    } catch {
      // That it is not known is the answer; the log has the events of the address.
      unknownSince ??= startedAt
    }
    renewAt = performance.now() + (unknownSince ? Math.min(RETRY_MS, maxAgeMs) : maxAgeMs)
    reading = undefined
  }

  return async () => {
    if (reading === undefined && performance.now() >= renewAt) reading = renew()
    if (reading) await Promise.race([reading, sleep(PATIENCE_MS, undefined, { ref: false })])
    return { value, unknownSince }
  }
}
