// Owns the retry budget: retries of work that fails because of overload would only add to the overload.

/** Retries that each request earns, so that at most a tenth of recent requests is retried. */
const SHARE = 0.1
/** Most retries that quiet times save up: when a server dies, everything that runs there fails at once. */
const MOST = 50

export interface RetryBudget {
  /** Adds the share of one request. */
  earn(): void
  /** @returns true if one more retry is allowed */
  spend(): boolean
}

export function makeRetryBudget(): RetryBudget {
  let left = MOST
  return {
    earn() {
      left = Math.min(MOST, left + SHARE)
    },
    spend() {
      if (left < 1) return false
      left--
      return true
    },
  }
}
