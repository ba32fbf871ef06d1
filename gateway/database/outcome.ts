// Owns the translation of driver errors: what PostgreSQL or the driver said → an expected failure, or a bug.

import pg from 'pg'
import { GatewayError, gatewayError } from '../errors.ts'

/** The server cannot be reached, is starting, stopping, in recovery, or full. */
const UNAVAILABLE = /^(08...|57P0[123]|53300|25006)$/
const CANCELLED = '57014'
/** undefined table, column, function; wrong object type; privilege gone; plan outlived its table's shape. */
const CHANGED = /^(42P01|42703|42883|42804|42501|0A000)$/
/** invalid text, number out of range, no such day or time zone, character not in the encoding */
const NOT_A_VALUE = /^22(P02|P05|003|007|008|009|021)$/

/** What node-postgres says of a pool that gave no connection, and of a socket that went away. */
const NO_CONNECTION = /timeout exceeded when trying to connect/
const LOST_CONNECTION =
  /Connection terminated|Query read timeout|Client has encountered a connection error|not queryable|ECONN|ENOENT|EPIPE|EAI_AGAIN|ENOTFOUND|ETIMEDOUT|EHOSTUNREACH/

/**
 * What a failed query means for whoever asked. An error that is not expected comes back as it is:
 * a bug, answered with 500 and logged with its cause.
 */
export function classify(error: unknown): Error {
  if (error instanceof GatewayError) return error
  if (!(error instanceof Error)) return new Error(String(error))
  const code = (error as pg.DatabaseError).code ?? ''
  if (error instanceof pg.DatabaseError) {
    if (code === CANCELLED) {
      return gatewayError(
        'query-too-slow',
        'The query was cancelled because it took too long; ask for less, for example a smaller bbox or limit.',
        {},
        error,
      )
    }
    if (UNAVAILABLE.test(code)) return unavailable(error)
    if (CHANGED.test(code)) {
      return gatewayError(
        'collection-changing',
        'The table behind this collection has changed; try again.',
        {},
        error,
      )
    }
    if (NOT_A_VALUE.test(code)) {
      return gatewayError(
        'parameter-invalid',
        'A value in the request does not fit the column it is for.',
        {},
        error,
      )
    }
    return error
  }
  if (NO_CONNECTION.test(error.message)) {
    return gatewayError('database-busy', 'All database connections are in use; try again.', {}, error)
  }
  if (LOST_CONNECTION.test(`${code} ${error.message}`)) return unavailable(error)
  return error
}

const unavailable = (cause: Error) =>
  gatewayError('database-unavailable', 'The database cannot be reached at the moment; try again.', {}, cause)

/** PROJ refused coordinates that its projection is not defined for. */
export const isProjectionFailure = (error: unknown) =>
  error instanceof pg.DatabaseError && error.code === 'XX000' && /transform|proj/i.test(error.message)
