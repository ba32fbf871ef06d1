// Owns days of the calendar in texts.

/** A date of ISO 8601 with a year of four digits: groups for year, month and day. */
export const DATE = /^(\d{4})-(\d{2})-(\d{2})$/

/** Returns true if year, month and day, the first groups of a match, name a day that exists. */
export function isCalendarDay([, year, month, day]: RegExpExecArray): boolean {
  const date = new Date(Date.UTC(Number(year), Number(month) - 1, Number(day)))
  return Number(year) > 0 && date.getUTCMonth() === Number(month) - 1 && date.getUTCDate() === Number(day)
}

/** Returns true if the text matches the pattern and its day exists. */
export const isDay = (text: string, pattern = DATE) => {
  const match = pattern.exec(text)
  return match !== null && isCalendarDay(match)
}
