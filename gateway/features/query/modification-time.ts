// Owns the time of a feature's last change, in SQL: the second that clients see, and the one that the next change gets.
//
// Clients see whole seconds, as HTTP has no others, and a change on a condition compares seconds. Each change therefore gets
// a later second than the one before it. Functions are immutable where they take a column, because Citus accepts no
// others there: the text of a time is not, and neither is the sum of a time and an interval.

import { type SQL, sql } from '../../database/sql.ts'
import type { Collection } from '../collections/collection.ts'
import { columnOf } from '../values/column.ts'

/** Returns the second since 1970 from which on the feature is as it is; null if the table does not tell. */
export const modificationTimeOf = ({ touched }: Collection): SQL =>
  touched === undefined ? sql`null` : sql`ceil(date_part('epoch', ${inUtc(columnOf({ name: touched }))}))`

const inUtc = (time: SQL): SQL => sql`(${time} at time zone 'UTC')`

/** Time of a new feature: the second of the clock. */
export const firstTime = sql`date_trunc('second', now())`

/**
 * Returns the time of a change. It is that of the clock, or the second after the one before. A feature that changes more
 * than once a second for a minute stays a minute ahead: nobody has been given the date of such a version. There is no
 * CASE, in which Citus does not allow now().
 * @param before time of the change before
 * @param now second of the clock
 */
export function nextTime(before: SQL, now = firstTime): SQL {
  const nextSecond = sql`date_trunc('second', ${inUtc(before)} + interval '1.999999 seconds') at time zone 'UTC'`
  const justAfter = sql`(${inUtc(before)} + interval '1 microsecond') at time zone 'UTC'`
  const ahead = sql`greatest((${inUtc(now)} + interval '1 minute') at time zone 'UTC', ${justAfter})`
  return sql`greatest(${now}, least(${nextSecond}, ${ahead}))`
}
