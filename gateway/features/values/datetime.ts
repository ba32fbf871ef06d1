// Owns the datetime parameter: an instant or an interval, open on either side (RFC 3339, OGC 17-069r4 7.15.4), and its
// condition.

import { type SQL, sql } from '../../database/sql.ts'
import { invalidParameter } from '../../errors.ts'
import { DATE, isCalendarDay } from './calendar.ts'
import { type Column, columnOf } from './column.ts'
import type { Condition } from './condition.ts'

export type Interval = {
  /** Time with its offset from UTC, as PostgreSQL reads it; undefined if the interval is open on this side. */
  readonly start: string | undefined
  readonly end: string | undefined
}

const TIMESTAMP =
  /^(\d{4})-(\d{2})-(\d{2})[Tt]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([Zz]|[-+]([01]\d|2[0-3]):[0-5]\d)$/
const EXPECTED = 'an RFC 3339 date or time, or an interval of two, each side of which may be ..'
const EXAMPLE = '2018-02-12T00:00:00Z/2018-03-18T12:31:12Z'

/** Parses the parameter. @throws GatewayError naming datetime */
export function parseDatetime(text: string): Interval {
  const sides = text.split('/')
  if (sides.length === 1) {
    const instant = parseSide(sides[0]!)
    if (!instant) throw invalid()
    return isDate(instant)
      ? { start: startOfDay(instant), end: endOfDay(instant) }
      : { start: instant, end: instant }
  }
  if (sides.length > 2) throw invalid()
  const [start, end] = sides.map(parseSide)
  const from = start && isDate(start) ? startOfDay(start) : start
  const to = end && isDate(end) ? endOfDay(end) : end
  if (from && to && Date.parse(from) > Date.parse(to)) {
    throw invalidParameter('datetime', 'an interval whose start comes first', EXAMPLE)
  }
  return { start: from, end: to }
}

const invalid = () => invalidParameter('datetime', EXPECTED, EXAMPLE)

/** Parses one side of an interval; returns undefined for an open one, written as "" or "..". */
function parseSide(side: string): string | undefined {
  if (side === '' || side === '..') return undefined
  const match = DATE.exec(side) ?? TIMESTAMP.exec(side)
  if (!match || !isCalendarDay(match)) throw invalid()
  return side.toUpperCase()
}

const isDate = (side: string) => DATE.test(side)
/** A date stands for the complete day in UTC. */
const startOfDay = (date: string) => `${date}T00:00:00Z`
const endOfDay = (date: string) => `${date}T23:59:59.999999Z`

/**
 * True for rows whose value lies in the interval; without bounds, for those that have a value. The bounds are converted
 * to the type of the column and not the column to theirs, so that its index can be used.
 */
export function intervalCondition({ start, end }: Interval, column: Column): Condition {
  const value = columnOf(column)
  const typed = (bound: SQL) => {
    const instant = sql`${bound}::timestamptz`
    if (column.type === 'timestamptz') return instant
    const inUtc = sql`(${instant} at time zone 'UTC')`
    return column.type === 'date' ? sql`${inUtc}::date` : inUtc
  }
  const isAfter = (bound: SQL) => sql`${value} >= ${typed(bound)}`
  const isBefore = (bound: SQL) => sql`${value} <= ${typed(bound)}`
  if (start && end)
    return {
      shape: 'between',
      values: [start, end],
      compose: (start, end) => sql`(${isAfter(start!)} and ${isBefore(end!)})`,
    }
  if (start) return { shape: 'after', values: [start], compose: (start) => isAfter(start!) }
  if (end) return { shape: 'before', values: [end], compose: (end) => isBefore(end!) }
  return { shape: 'dated', values: [], compose: () => sql`${value} is not null` }
}
