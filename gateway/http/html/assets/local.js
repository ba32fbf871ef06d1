// Owns values as pages show them: numbers and times as the reader's language writes them, all others as they are. The
// gateway uses it for what it sends, and the scripts of its pages for what they read.

/** A date, or a time: with seconds, and in UTC unless it has an offset. Others are shown as PostgreSQL writes them. */
const DATE = /^\d{4}-\d\d-\d\d$/
const TIME = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.0+)?(Z|[+-]\d\d(?::?\d\d)?)?$/
/** Numbers within these bounds are written without an exponent. */
const LEAST = 1e-6
const MOST = 1e15

/** @param language tag of a language */
export function makeValueText(language) {
  // Four digits are not grouped: they are often years.
  const numbers = new Intl.NumberFormat(language, { maximumFractionDigits: 20, useGrouping: 'min2' })
  const days = new Intl.DateTimeFormat(language, { dateStyle: 'medium', timeZone: 'UTC' })
  const times = new Intl.DateTimeFormat(language, { dateStyle: 'medium', timeStyle: 'long', timeZone: 'UTC' })

  const numberText = (value) => {
    const size = Math.abs(value)
    // The text of a number is exact to its last digit; the number itself would show digits that nobody has written.
    return size === 0 || (size >= LEAST && size < MOST) ? numbers.format(String(value)) : String(value)
  }
  const timeText = (value, format, instant) => {
    const time = new Date(instant)
    return Number.isNaN(time.getTime()) ? value : format.format(time)
  }

  /** @param kind kind of the value's column */
  return (value, kind) => {
    if (value === null || value === undefined) return ''
    if (typeof value === 'number')
      return kind === 'integer' || kind === 'number' ? numberText(value) : String(value)
    if (typeof value === 'object') return JSON.stringify(value)
    const text = String(value)
    if (kind === 'date' && DATE.test(text)) return timeText(text, days, text)
    const [, local, offset = 'Z'] = (kind === 'timestamp' && TIME.exec(text)) || []
    if (local === undefined) return text
    // JavaScript wants the minutes of an offset.
    return timeText(text, times, local + offset.replace(/^([+-]\d\d)$/, '$1:00'))
  }
}
