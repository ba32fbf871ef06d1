// Owns the concatenation of texts in SQL.

import { type SQL, sql } from '../../database/sql.ts'

/** PostgreSQL passes at most this many arguments to one function. */
const MAX_ARGUMENTS = 100

/**
 * Joins texts in one call: a chain of operators is as deep as it is long, and Citus copies it for each execution (one
 * call makes a look-up at a worker 60 of 540 µs faster).
 */
export function concat(texts: readonly SQL[]): SQL {
  if (texts.length <= MAX_ARGUMENTS) return sql`concat(${sql.join([...texts], sql.raw(', '))})`
  const parts = Math.ceil(texts.length / MAX_ARGUMENTS)
  return concat(
    Array.from({ length: parts }, (_, part) =>
      concat(texts.slice(part * MAX_ARGUMENTS, (part + 1) * MAX_ARGUMENTS)),
    ),
  )
}
