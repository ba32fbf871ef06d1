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
 * True for rows whose time has an instant in common with the interval; without bounds, for those that have a time. The bounds
 * are converted to the type of the column and not the column to theirs, so that its index can be used.
 * @param ending column with the end of a time that begins in `column`: either may be null, for a time that is open there
 */
export function intervalCondition({ start, end }: Interval, column: Column, ending = column): Condition {
  const [first, last] = [columnOf(column), columnOf(ending)]
  const isPeriod = ending !== column
  const isAfter = (bound: SQL) => sql`${last} >= ${typed(bound, ending)}`
  const isBefore = (bound: SQL) => sql`${first} <= ${typed(bound, column)}`
  const either = sql`(${first} is not null or ${last} is not null)`
  const orOpen = (side: SQL, condition: SQL) =>
    isPeriod ? sql`(${condition} or ${side} is null and ${either})` : condition
  const shape = isPeriod ? 'period ' : ''
  if (start && end)
    return {
      shape: `${shape}between`,
      values: [start, end],
      compose: (start, end) => sql`(${orOpen(last, isAfter(start!))} and ${orOpen(first, isBefore(end!))})`,
    }
  if (start)
    return { shape: `${shape}after`, values: [start], compose: (start) => orOpen(last, isAfter(start!)) }
  if (end) return { shape: `${shape}before`, values: [end], compose: (end) => orOpen(first, isBefore(end!)) }
  return {
    shape: `${shape}dated`,
    values: [],
    compose: () => (isPeriod ? either : sql`${first} is not null`),
  }
}

function typed(bound: SQL, { type }: Column): SQL {
  const instant = sql`${bound}::timestamptz`
  if (type === 'timestamptz') return instant
  const inUtc = sql`(${instant} at time zone 'UTC')`
  return type === 'date' ? sql`${inUtc}::date` : inUtc
}
