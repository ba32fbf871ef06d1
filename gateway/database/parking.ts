// Owns parking: changes of a node group without a primary wait in line, and only one of them at a time retries.
//
// If every waiting change retried on its own, their retries would overload the coordinator that the other groups
// depend on. Changes of other groups do not wait.

/** Time between a failed attempt and the next one. */
const INTERVAL_MS = 100
/** How long a change or a read waits for a lost member: the length of a switchover, and some more. */
export const PARKING_MS = 5_000
/** Most changes that wait, and most reads; more would overload the new primary when all of them continue at once. */
export const MAX_PARKED = 200

/** Ends a change's turn after its attempt. @param isServed true if the group has a primary */
export type Turn = (isServed: boolean) => void

export interface Parking {
  /**
   * Waits for a turn; returns at once if no change has found the group without a primary.
   * @returns undefined if the wait is longer than `patienceMs`, or too many changes wait
   */
  enter(group: number, patienceMs: number): Promise<Turn | undefined>
  /** Number of changes that wait. */
  readonly waiting: number
}

/** Changes that wait for one group, in order. */
type Line = { readonly members: Set<(turn: Turn) => void>; isTried: boolean }

export function makeParking(intervalMs = INTERVAL_MS): Parking {
  const lines = new Map<number, Line>()
  let waiting = 0

  const turnOf =
    (group: number, line: Line): Turn =>
    (isServed) => {
      if (isServed) {
        lines.delete(group)
        for (const admit of line.members) admit(freeTurn(group))
        line.members.clear()
        return
      }
      setTimeout(() => {
        line.isTried = false
        admitNext(group, line)
      }, intervalMs)
    }

  /** Returns a turn for a group that is not known to lack a primary. */
  const freeTurn =
    (group: number): Turn =>
    (isServed) => {
      const line = lines.get(group)
      if (isServed && line) turnOf(group, line)(true)
      if (isServed || line) return
      const begun: Line = { members: new Set(), isTried: true }
      lines.set(group, begun)
      turnOf(group, begun)(false)
    }

  function admitNext(group: number, line: Line) {
    const [next] = line.members
    if (!next || line.isTried) return
    line.isTried = true
    line.members.delete(next)
    next(turnOf(group, line))
  }

  return {
    enter(group, patienceMs) {
      const line = lines.get(group)
      if (!line) return Promise.resolve(freeTurn(group))
      if (waiting >= MAX_PARKED) return Promise.resolve(undefined)
      return new Promise((resolve) => {
        waiting++
        const settle = (turn: Turn | undefined) => {
          clearTimeout(timer)
          waiting--
          resolve(turn)
        }
        const timer = setTimeout(() => {
          line.members.delete(settle)
          settle(undefined)
        }, patienceMs)
        line.members.add(settle)
        admitNext(group, line)
      })
    },
    get waiting() {
      return waiting
    },
  }
}
