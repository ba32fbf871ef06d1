// Owns the translation of driver errors: what PostgreSQL or the driver said → an expected failure, or a bug.

import pg from 'pg'
import { GatewayError, gatewayError } from '../errors.ts'

/** The server cannot be reached, is starting, stopping, in recovery, or full. */
const UNAVAILABLE = /^(08...|57P0[123]|53300|25006)$/
/** Citus, right after a failover: the group's only other member is the primary that was lost. */
const NO_MEMBER = /node group \d+ does not have a (primary|secondary) node/
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
    if (UNAVAILABLE.test(code) || NO_MEMBER.test(error.message)) return unavailable(error)
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

/** How the database's own rules may forbid a change. */
export type Refusal =
  /** a value that is there already, or a reference to what is not there, or from what still is */
  | 'conflict'
  /** null where there must be a value, a check or a trigger that does not hold, a value that does not fit */
  | 'invalid'
  /** row-level security */
  | 'forbidden'

/** A change that PostgreSQL refused by a rule of the table. Nothing has changed. */
export class RefusedChange extends Error {
  readonly refusal: Refusal
  /** Whose rule it is: not always the table that was to be changed. */
  readonly schema: string | undefined
  readonly table: string | undefined
  readonly constraint: string | undefined
  /** The columns it is about, as far as the error says. */
  readonly columns: readonly string[]
  /** Which of the statement's values it is about, from 1. */
  readonly parameter: number | undefined

  constructor(refusal: Refusal, cause: pg.DatabaseError) {
    super(cause.message, { cause })
    this.refusal = refusal
    this.schema = cause.schema
    this.table = cause.table
    this.constraint = cause.constraint
    // In whatever language: "Key (name, country)=(Andorra, AD) already exists."
    const [, names] = /\(([^()]+)\)=\(/.exec(cause.detail ?? '') ?? []
    this.columns = cause.column ? [cause.column] : (names?.split(', ').map(unquoted) ?? [])
    const [, parameter] = /portal .*parameter \$(\d+)/.exec(cause.where ?? '') ?? []
    this.parameter = parameter === undefined ? undefined : Number(parameter)
  }
}

const unquoted = (name: string) => name.replace(/^"(.*)"$/s, '$1').replaceAll('""', '"')

const REFUSALS: readonly (readonly [pattern: RegExp, refusal: Refusal])[] = [
  // unique, foreign key, exclusion
  [/^23(505|503|001|P01)$/, 'conflict'],
  // not null, check, a view's check option; values that do not fit; a computed column; a trigger's own word
  [/^(23502|23514|44000|22...|54...|428C9|0A000|P0001)$/, 'invalid'],
  [/^42501$/, 'forbidden'],
]

/**
 * What a failed change means. As for reads, but the table's rules are told apart; and where the connection
 * was lost with the change under way, nobody knows whether it happened.
 */
export function classifyChange(error: unknown): Error {
  if (error instanceof pg.DatabaseError) {
    const code = error.code ?? ''
    const refused = REFUSALS.find(([pattern]) => pattern.test(code))
    if (refused) return new RefusedChange(refused[1], error)
    if (LOST_CHANGE.test(code)) return unknownOutcome(error)
    if (code === CANCELLED || IN_THE_WAY.test(code)) {
      return gatewayError(
        'database-busy',
        'Another change was in the way; nothing has changed. Try again.',
        {},
        error,
      )
    }
  } else if (
    error instanceof Error &&
    LOST_CONNECTION.test(`${(error as { code?: string }).code} ${error.message}`)
  ) {
    return unknownOutcome(error)
  }
  return classify(error)
}

/** serialization failure, deadlock, lock not available */
const IN_THE_WAY = /^(40001|40P01|55P03)$/
/** The session was ended from the server's side. */
const LOST_CHANGE = /^(08...|57P0[12])$/

const unknownOutcome = (cause: Error) =>
  gatewayError(
    'change-outcome-unknown',
    'The connection to the database was lost while the change was under way: it may have happened or not. Read the feature before you try again.',
    {},
    cause,
  )

const unavailable = (cause: Error) =>
  gatewayError('database-unavailable', 'The database cannot be reached at the moment; try again.', {}, cause)

/** PROJ refused coordinates that its projection is not defined for. */
export const isProjectionFailure = (error: unknown) =>
  error instanceof pg.DatabaseError && error.code === 'XX000' && /transform|proj/i.test(error.message)
