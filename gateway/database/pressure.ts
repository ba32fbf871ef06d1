// Owns how hard a server is pressed, and how much it is asked at once for that.
//
// A small question that is always the same waits only where others are before it. How long, the server's own clock
// tells: the moment of its answer less the moment of asking is how far the clocks are apart, plus the way, plus the
// wait; the least of it is the first two. So LEDBAT (RFC 6817) finds the queue of a network. How long pages take would
// not tell: they differ a thousandfold, and this process has them wait as well.

/** When a question was sent and its answer came, by our clock, and when it was answered, by the server's. Milliseconds. */
export type Timing = { readonly sentMs: number; readonly servedMs: number; readonly receivedMs: number }

/** @returns pressure: 0 where nobody was before it, 1 where it waited as long as is right, more where too long */
export type PressureGauge = (timing: Timing) => number

/** A little queue keeps a server busy; in this time two or three queries of a core take their turn. */
const RIGHT_WAIT_MS = 1
/** The further away, the more the way itself takes now less and now more: this part of it is no wait. */
const PART_OF_WAY = 0.5
/** The least is that of this time, or twice it: clocks drift apart, and ways change. */
const MEMORY_MS = 20_000

/** Of one connection: another may lead to another server, with another clock. */
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

/** So much is asked in any case: fewer made no server faster, and leave one idle that is far away. */
export const SURE = 8
/** What one answer adds that tells of no pressure, and takes away for each time that the wait is too long. */
const STEP = 0.1
const MOST_STEPS_DOWN = 4

/**
 * All processes see the same pressure, so each takes the same share.
 * @param isWanted whether anything waits for its turn
 * @returns how much may be asked at once from now on, if it was `limit`
 */
export function adapt(limit: number, pressure: number, isWanted: boolean, most: number): number {
  const steps = Math.max(-MOST_STEPS_DOWN, 1 - pressure)
  if (steps > 0 && !isWanted) return limit
  return Math.max(Math.min(SURE, most), Math.min(most, limit * (1 + STEP * steps)))
}
