// Owns how often anything may be tried again: what fails by overload would only be made worse by repeating it.

/** Of the requests of late. */
const SHARE = 0.1
/** What quiet times save up: a death takes all that was under way with it, at once. */
const MOST = 50

export interface RetryBudget {
  /** With each request. */
  earn(): void
  /** @returns whether there may be one more try */
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
