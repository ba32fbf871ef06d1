// Owns the pressure on a server, and the number of reads that run there at once because of it.
//
// A small query that is always the same waits only if others are before it. The server's own clock shows how long: the
// time at which it answers, minus the time at which the query was sent, is the difference of the clocks plus the
// network delay plus the wait. The least of these values has no wait in it. LEDBAT (RFC 6817) finds the queue of a
// network in this way. The duration of pages does not show the wait: it differs a thousandfold between pages, and they
// wait in this process, too.

/** Times in milliseconds: a query is sent and its answer received by this process's clock, served by the server's. */
export type Timing = { readonly sentMs: number; readonly servedMs: number; readonly receivedMs: number }

/** @returns the pressure: 0 if the query did not wait, 1 if it waited as long as intended, more if it waited longer */
export type PressureGauge = (timing: Timing) => number

/** Intended wait: a short queue keeps a server busy, and each core completes two or three queries in this time. */
const RIGHT_WAIT_MS = 1
/** Share of the round trip that does not count as wait, because the delay of a distant server varies more. */
const PART_OF_WAY = 0.5
/** The least delay is that of the last one to two such periods, because clocks drift and network routes change. */
const MEMORY_MS = 20_000

/** Creates the gauge of one connection; another connection may lead to another server with another clock. */
export function makePressureGauge(): PressureGauge {
  let since = Number.NEGATIVE_INFINITY
  let leasts: readonly [Delays, Delays] = [NONE, NONE]
  return ({ sentMs, servedMs, receivedMs }) => {
    if (sentMs - since > MEMORY_MS) {
      since = sentMs
      leasts = [NONE, leasts[0]]
    }
    const delays = { there: servedMs - sentMs, around: receivedMs - sentMs }
    leasts = [leastOf(delays, leasts[0]), leasts[1]]
    const { there, around } = leastOf(...leasts)
    return (delays.there - there) / (RIGHT_WAIT_MS + PART_OF_WAY * around)
  }
}

type Delays = { readonly there: number; readonly around: number }
const NONE: Delays = { there: Number.POSITIVE_INFINITY, around: Number.POSITIVE_INFINITY }
const leastOf = (a: Delays, b: Delays): Delays => ({
  there: Math.min(a.there, b.there),
  around: Math.min(a.around, b.around),
})

/** Least limit of concurrent reads: fewer made no server faster, and leave a distant one idle. */
export const SURE = 8
/** Share by which a probe without pressure raises the limit; each intended wait after the first lowers it by as much. */
const STEP = 0.1
const MOST_STEPS_DOWN = 4
/**
 * Part of a step by which the share of one client rises while others come. A scheduler lets most probes through at once
 * even if long queries fill all processors, so one that waited says more than four that did not.
 */
const CONTESTED_RISE = 0.2

/**
 * Adapts the limit of reads that one client may run while others use the database too. It falls to one under pressure: a
 * client that fills the server with long queries would slow down the short ones of all others. It rises again slowly
 * without pressure, and at once if no other client has come for some time.
 */
export function adaptShare(share: number, pressure: number, isContested: boolean, limit: number): number {
  const steps = Math.max(-MOST_STEPS_DOWN, 1 - pressure)
  const taken = !isContested ? 1 : steps > 0 ? steps * CONTESTED_RISE : steps
  return Math.max(1, Math.min(limit, share * (1 + STEP * taken)))
}

/**
 * Adapts the limit of concurrent reads to the pressure. All processes see the same pressure, so each takes the same
 * share.
 * @param isWanted true if reads wait for their turn; otherwise the limit is not raised
 * @returns the new limit
 */
export function adapt(limit: number, pressure: number, isWanted: boolean, most: number): number {
  const steps = Math.max(-MOST_STEPS_DOWN, 1 - pressure)
  if (steps > 0 && !isWanted) return limit
  return Math.max(Math.min(SURE, most), Math.min(most, limit * (1 + STEP * steps)))
}
