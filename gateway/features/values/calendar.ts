// Owns days of the calendar in texts.

/** A date of ISO 8601 with a year of four digits: groups for year, month and day. */
export const DATE = /^(\d{4})-(\d{2})-(\d{2})$/

/** Years after which the calendar repeats. */
const CYCLE = 400

/** Returns true if year, month and day, the first groups of a match, name a day that exists. */
export function isCalendarDay([text, year, month, day]: RegExpExecArray): boolean {
  // The year before 1 is 1 BC.
  const count = text.endsWith(' BC') ? 1 - Number(year) : Number(year)
  // JavaScript has fewer years than PostgreSQL, and takes those below 100 for years of the last century.
  const alike = 2 * CYCLE + (((count % CYCLE) + CYCLE) % CYCLE)
  const date = new Date(Date.UTC(alike, Number(month) - 1, Number(day)))
  return Number(year) > 0 && date.getUTCMonth() === Number(month) - 1 && date.getUTCDate() === Number(day)
}

/** Returns true if the text matches the pattern and its day exists. */
export const isDay = (text: string, pattern = DATE) => {
  const match = pattern.exec(text)
  return match !== null && isCalendarDay(match)
}
