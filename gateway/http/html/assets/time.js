// Owns the time of a map: two sliders choose an interval, of which features are shown.

import { shownText } from './json.js'

const part = document.getElementById('time')
/** Steps of the sliders, at most: a person cannot place them more finely. */
const MAX_STEPS = 1_000
const DAY_MS = 86_400_000
/** Moves of a slider that follow one another within this time change the map once. */
const SETTLE_MS = 150

/**
 * Lets a person choose an interval, if the page has one.
 * @param chosen the interval from the start as `datetime` has it; undefined or null for all times
 * @param choose called with an interval; undefined for all times
 */
export function letChooseTime(chosen, choose) {
  if (!part) return
  const { kind, start, end } = part.dataset
  const [from, until] = part.querySelectorAll('input')
  const output = part.querySelector('output')
  const all = part.querySelector('button')
  const [first, last] = [start, end].map((side) => Date.parse(side))
  const days = kind === 'date' ? Math.round((last - first) / DAY_MS) : Number.POSITIVE_INFINITY
  const steps = Math.min(days, MAX_STEPS)

  /** Returns the time at a step, as `datetime` has it. */
  function timeAt(step) {
    const time = new Date(first + ((last - first) * step) / steps)
    return kind === 'date' ? time.toISOString().slice(0, 10) : time.toISOString().replace(/\.\d+Z$/, 'Z')
  }
  /** Returns the step of a side of an interval, or what it is without one. */
  function stepAt(side, otherwise) {
    const share = (Date.parse(side) - first) / (last - first)
    return Number.isNaN(share) ? otherwise : Math.min(Math.max(Math.round(share * steps), 0), steps)
  }

  function show() {
    for (const slider of [from, until])
      slider.setAttribute('aria-valuetext', shownText(timeAt(slider.valueAsNumber), kind))
    const isAll = from.valueAsNumber === 0 && until.valueAsNumber === steps
    output.textContent = isAll
      ? 'All times'
      : `${shownText(timeAt(from.valueAsNumber), kind)} – ${shownText(timeAt(until.valueAsNumber), kind)}`
    all.hidden = isAll
  }

  /** The last time that is known was rounded, and features before and after them have come since: ends are open. */
  function interval() {
    const sides = [
      from.valueAsNumber === 0 ? '..' : timeAt(from.valueAsNumber),
      until.valueAsNumber === steps ? '..' : timeAt(until.valueAsNumber),
    ]
    return sides.every((side) => side === '..') ? undefined : sides.join('/')
  }

  let settling
  part.addEventListener('input', ({ target }) => {
    // One slider pushes the other.
    if (from.valueAsNumber > until.valueAsNumber) (target === from ? until : from).value = target.value
    show()
    clearTimeout(settling)
    settling = setTimeout(() => choose(interval()), SETTLE_MS)
  })
  all.addEventListener('click', () => {
    from.value = 0
    until.value = steps
    show()
    from.focus()
    choose(undefined)
  })

  for (const slider of [from, until]) slider.max = steps
  const sides = chosen?.split('/') ?? []
  from.value = stepAt(sides[0], 0)
  until.value = stepAt(sides.length > 1 ? sides[1] : sides[0], steps)
  show()
  part.hidden = false
}
