// Owns lengths of time as people write them, as in 90d and 12h, and how long a key is valid.

const UNIT_MS: Readonly<Record<string, number>> = { h: 3_600_000, d: 86_400_000 }
/** A date, or a time of RFC 3339. */
const DATE = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d))?$/

/** How long the old key stays valid after a rotation. */
export const OVERLAP = '7d'

/** Returns a length of time in milliseconds, as in 12h or 90d; undefined for another text. */
export function durationIn(text: string): number | undefined {
  const [, count, unit] = /^(\d{1,5})([hd])$/.exec(text) ?? []
  return unit === undefined ? undefined : Number(count) * UNIT_MS[unit]!
}

/** Returns the time that lies this long ahead, as in 12h or 90d; undefined for another text. */
export function timeAfter(text: string): Date | undefined {
  const milliseconds = durationIn(text)
  return milliseconds === undefined ? undefined : new Date(Date.now() + milliseconds)
}

/** Returns when a key expires: so long ahead, or at a date or time in the future; undefined for another text. */
export function futureTime(text: string): Date | undefined {
  const time = DATE.test(text) ? new Date(text) : timeAfter(text)
  return time && time.getTime() > Date.now() ? time : undefined
}
