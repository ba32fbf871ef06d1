// Owns waiting for a primary: changes of a node group that has none wait in line, and one at a time tries its luck.
//
// If each tried by itself, those that wait would do to the others' coordinator what no load does. Changes of other
// groups do not wait.

/** How soon after one has failed the next tries. */
const INTERVAL_MS = 100
/** So many wait at most; more would all come at once when it is over. */
const MAX_WAITING = 200

/** A change's turn, to be ended when it has been tried. @param isServed whether the group has a primary */
export type Turn = (isServed: boolean) => void

export interface Parking {
  /**
   * At once, where nobody has found that the group has no primary; else when its turn has come.
   * @returns undefined where that takes longer, or too many wait
   */
  enter(group: number, patienceMs: number): Promise<Turn | undefined>
  /** How many wait. */
  readonly waiting: number
}

/** Those that wait for one group, in line. */
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

  /** Of a group that is in order as far as anybody knows. */
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
      if (waiting >= MAX_WAITING) return Promise.resolve(undefined)
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
