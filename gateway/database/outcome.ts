// Owns the judgement of failures: an error of PostgreSQL or the driver → whether the statement took effect, what
// failed, and what to answer.

import pg from 'pg'
import { GatewayError, gatewayError } from '../errors.ts'
import { isRefusal } from './addresses.ts'
import { MAX_ROW_BYTES, RowTooLong } from './exchange.ts'

/** The server is starting or stopping, has crashed, or has no free connection. */
const UNAVAILABLE = /^(57P0[123]|53300)$/
/** A change reached a server in recovery. A read with this error would write, and every server refuses it. */
const READ_ONLY = '25006'
/** Citus cannot reach another node, or has lost it. */
const CITUS_CONNECTION = /^08...$/
/** The same, noticed in or at the end of a transaction; by their codes these are internal errors. */
const CITUS_TRANSACTION =
  /^(could not commit transaction for shard|failed to prepare transaction|failure on connection marked as essential|execution cannot recover from multiple connection failures|cannot perform query, because modifications were made over a connection)/
/**
 * What the library of PostgreSQL's clients reports if a connection breaks within a statement. Citus passes it on as an error of
 * the node, and as an internal one, because no server has sent it; at worst it has no text at all.
 */
const NODE_BROKEN_OFF =
  /^(server closed the connection unexpectedly|could not (receive data from|send data to) server|SSL SYSCALL error|SSL error|SSL connection has been closed unexpectedly|lost synchronization with server|connection not open|no connection to the server|another command is already in progress|no COPY in progress|$)/
const INTERNAL = 'XX000'
/** Routine of an error that Citus passes on from a node. */
const CITUS_PASSED_ON = 'ReportResultError'
/** Error of Citus right after a failover, while the group's only other member is the primary that was lost. */
const NO_MEMBER = /node group \d+ does not have a (primary|secondary) node/
/** Error of Citus in a backend that lost its own server while it waited for a node; by its code an internal error. */
const SERVER_GONE = /^postmaster was shut down/
const CANCELLED = '57014'
/** Disk or memory is full, a configured limit is reached, or a disk fails. Another address may have the resources. */
const EXHAUSTED = /^(53[124]00|58030)$/
/** PostGIS: a column has another coordinate system than the catalog knows, see features/values/geometry-column.ts. */
const OTHER_SYSTEM =
  /does not match column (SRID|type)|on mixed SRID geometries|has Z dimension but column does not|Column has Z dimension but|Only lon\/lat coordinate systems/
/** undefined table, column or function; wrong data type; missing privilege; plan of a table that has changed */
const CHANGED = /^(42P01|42703|42883|42804|42501|0A000)$/
/** division by zero, see shard-statement.ts; undefined table; privilege missing */
const MISPLACED = /^(22012|42P01|42501)$/
/** invalid text, number out of range, no such day, interval or time zone, character not in the encoding */
const NOT_A_VALUE = /^22(P02|P05|003|007|008|009|015|021)$/

/** Messages of node-postgres if a pool gives no connection in time, and if a connection is lost. */
const NO_CONNECTION = /timeout exceeded when trying to connect/
const LOST_CONNECTION =
  /Connection terminated|Query read timeout|Client has encountered a connection error|not queryable|ECONN|ENOENT|EPIPE|EAI_AGAIN|ENOTFOUND|ETIMEDOUT|EHOSTUNREACH/

/** What is known about a failed statement. */
export type Outcome =
  /** It had no effect and can be retried anywhere. */
  | 'never-sent'
  /** A read, which can be retried elsewhere. */
  | 'retryable'
  /** It would fail in the same way everywhere. A change had no effect. */
  | 'final'
  /** A change that may have happened; only a query can find out. */
  | 'unknown'

/** What has failed. */
export type Scope =
  /** The address or the server behind it: nothing else will be served there either. */
  | 'endpoint'
  /** Not the server that was queried, but a node that it needs: another way to the same node will not help. */
  | 'node'
  | 'statement'

/** A judged failure of the database. */
export class DatabaseFailure extends Error {
  readonly outcome: Outcome
  readonly scope: Scope
  /** Error for the caller: a GatewayError, a RefusedChange, or the original error if it is a bug. */
  readonly answer: Error

  constructor(outcome: Outcome, scope: Scope, answer: Error, cause: unknown) {
    super(answer.message, { cause })
    this.outcome = outcome
    this.scope = scope
    this.answer = answer
  }
}

/** Phase in which a statement failed. */
export type Phase =
  | 'connect'
  /** In a transaction, before its commit was sent. */
  | 'within'
  /** In a statement that is a transaction of its own, or in the commit of one. */
  | 'whole'

export type Circumstances = {
  readonly purpose: 'read' | 'write'
  readonly phase: Phase
  /** True if the statement went through Citus, whose nodes commit a change by themselves if it concerns only one. */
  readonly isCitus: boolean
}

/** Judges the error of a failed statement. */
export function judge(error: unknown, circumstances: Circumstances): DatabaseFailure {
  const cause = error instanceof Error ? error : new Error(String(error))
  const [outcome, scope] = outcomeOf(cause, circumstances)
  return new DatabaseFailure(outcome, scope, answerTo(cause, outcome, circumstances.purpose), cause)
}

/**
 * Returns true if a shard's own table was queried on a node that does not store the shard: it has moved, or no longer
 * exists. See Statement.
 */
export const isMisplaced = (error: unknown) =>
  error instanceof DatabaseFailure && MISPLACED.test((error.cause as pg.DatabaseError).code ?? '')

/** Returns the failure of work that was not sent, because no server would have answered. */
export const unreachable = (cause: Error | undefined) =>
  new DatabaseFailure('never-sent', 'endpoint', unavailable(cause), cause)

function outcomeOf(cause: Error, { purpose, phase, isCitus }: Circumstances): [Outcome, Scope] {
  const isAnswer = cause instanceof pg.DatabaseError
  const code = (cause as pg.DatabaseError).code ?? ''
  if (phase === 'connect') {
    if (NO_CONNECTION.test(cause.message)) return ['final', 'statement']
    return isRefusal(cause) ? ['final', 'statement'] : ['never-sent', 'endpoint']
  }
  /** Outcome of a statement whose connection broke before its answer. */
  const brokenOff = purpose === 'read' ? 'retryable' : phase === 'within' ? 'never-sent' : 'unknown'
  if (cause instanceof DoubtfulSuccess) return ['unknown', 'statement']
  // The statement was executed, and what it has changed cannot be told.
  if (cause instanceof RowTooLong && purpose === 'write' && phase === 'whole') return ['unknown', 'statement']
  if (!isAnswer)
    return LOST_CONNECTION.test(`${code} ${cause.message}`) ? [brokenOff, 'endpoint'] : ['final', 'statement']
  // Citus reports this before it queries any node.
  if (NO_MEMBER.test(cause.message)) return [purpose === 'read' ? 'retryable' : 'never-sent', 'node']
  if (CITUS_CONNECTION.test(code) || CITUS_TRANSACTION.test(cause.message)) return [brokenOff, 'node']
  if (code === INTERNAL && NODE_BROKEN_OFF.test(cause.message)) return [brokenOff, 'node']
  // The server is no longer a primary.
  if (code === READ_ONLY && purpose === 'write')
    return ['never-sent', cause.routine === CITUS_PASSED_ON ? 'node' : 'endpoint']
  if (UNAVAILABLE.test(code) || SERVER_GONE.test(cause.message))
    return [brokenOff, cause.routine === CITUS_PASSED_ON ? 'node' : 'endpoint']
  // On a secondary, the query conflicted with what it replays.
  if (IN_THE_WAY.test(code) && purpose === 'read') return ['retryable', 'statement']
  if (EXHAUSTED.test(code) && purpose === 'read') return ['retryable', 'statement']
  // The coordinator was cancelled, but the node to which it had sent the change may have committed before.
  if (code === CANCELLED && purpose === 'write' && phase === 'whole' && isCitus)
    return ['unknown', 'statement']
  return ['final', 'statement']
}

function answerTo(cause: Error, outcome: Outcome, purpose: Circumstances['purpose']): Error {
  if (EXHAUSTED.test((cause as pg.DatabaseError).code ?? '')) return exhausted(cause)
  switch (outcome) {
    case 'never-sent':
    case 'retryable':
      return unavailable(cause)
    case 'unknown':
      return unknownOutcome(cause)
    case 'final':
      return purpose === 'read' ? translate(cause) : translateRefusal(cause)
  }
}

/** Returns the GatewayError of an expected failure; returns anything else unchanged: a bug, answered with 500. */
function translate(cause: Error): Error {
  const code = (cause as pg.DatabaseError).code ?? ''
  if (NO_CONNECTION.test(cause.message)) {
    return gatewayError('database-busy', 'All database connections are in use; try again.', {}, cause)
  }
  if (cause instanceof RowTooLong) {
    return gatewayError(
      'feature-too-large',
      `A feature has more than ${MAX_ROW_BYTES / 1024 ** 2} MiB of text; name other properties with properties, or leave out its geometry with skipGeometry=true.`,
      {},
      cause,
    )
  }
  if (!(cause instanceof pg.DatabaseError)) return cause
  if (code === CANCELLED) {
    return gatewayError(
      'query-too-slow',
      'The query was cancelled because it took too long; ask for less, for example a smaller bbox or limit.',
      {},
      cause,
    )
  }
  if (CHANGED.test(code) || isOtherSystem(cause)) {
    return gatewayError(
      'collection-changing',
      'The table behind this collection has changed; try again.',
      {},
      cause,
    )
  }
  if (NOT_A_VALUE.test(code)) {
    return gatewayError(
      'parameter-invalid',
      'A value in the request does not fit the column it is for.',
      {},
      cause,
    )
  }
  return cause
}

/** Does the same for a change, and recognizes by which kind of rule the table has refused it. */
function translateRefusal(cause: Error): Error {
  if (!(cause instanceof pg.DatabaseError)) return translate(cause)
  const code = cause.code ?? ''
  const refused = REFUSALS.find(([pattern]) => pattern.test(code))
  if (refused) return new RefusedChange(refused[1], cause)
  if (code !== CANCELLED && !IN_THE_WAY.test(code)) return translate(cause)
  return gatewayError('database-busy', 'The change was in conflict with another one; try again.', {}, cause)
}

/**
 * Returns true for a warning with which a change succeeds and yet may be lost: PostgreSQL no longer waits for the
 * secondary, or Citus could not commit on a node. The routine identifies it in every language; warnings of triggers
 * come from other routines.
 */
export const isDoubtful = ({ severity, routine, message }: Notice) =>
  severity === 'WARNING' && (DOUBTFUL_ROUTINES.has(routine ?? '') || DOUBTFUL.test(message ?? ''))

export type Notice = {
  readonly severity: string | undefined
  readonly routine: string | undefined
  readonly message: string | undefined
}
/** A change that PostgreSQL has reported as done, with such a warning. */
export class DoubtfulSuccess extends Error {}

const DOUBTFUL_ROUTINES = new Set(['SyncRepWaitForLSN', 'FinishRemoteTransactionCommit'])
/** The same warnings of a worker: Citus passes them on with a routine of its own, so the message identifies them. */
const DOUBTFUL = /wait for synchronous replication|failed to commit transaction on/

/** Kind of the database's own rule that forbids a change. */
export type Refusal =
  /**
   * a value or a table that already exists, a reference to a row that does not exist, or a row or a table that is still
   * referenced
   */
  | 'conflict'
  /** a missing value, a failed check or trigger, or a value that does not fit */
  | 'invalid'
  /** row-level security */
  | 'forbidden'

/** A change that PostgreSQL refused by a rule of the table. Nothing has changed. */
export class RefusedChange extends Error {
  readonly refusal: Refusal
  /** Schema and table of the rule, which is not always the table to be changed. */
  readonly schema: string | undefined
  readonly table: string | undefined
  readonly constraint: string | undefined
  /** Columns that the error names; empty if it names none. */
  readonly columns: readonly string[]
  /** Number of the statement's parameter that the error names, from 1; undefined if it names none. */
  readonly parameter: number | undefined

  constructor(refusal: Refusal, cause: pg.DatabaseError) {
    super(cause.message, { cause })
    this.refusal = refusal
    this.schema = cause.schema
    this.table = cause.table
    this.constraint = cause.constraint
    // Matches in every language, as in "Key (name, country)=(Andorra, AD) already exists." and in
    // "Partition key of the failing row contains (day) = (2031-01-01)."
    const [, names] = /\(([^()]+)\) ?= ?\(/.exec(cause.detail ?? '') ?? []
    this.columns = cause.column ? [cause.column] : (names?.split(', ').map(unquoted) ?? [])
    const [, parameter] = /portal .*parameter \$(\d+)/.exec(cause.where ?? '') ?? []
    this.parameter = parameter === undefined ? undefined : Number(parameter)
  }
}

const unquoted = (name: string) => name.replace(/^"(.*)"$/s, '$1').replaceAll('""', '"')

const REFUSALS: readonly (readonly [pattern: RegExp, refusal: Refusal])[] = [
  // unique, foreign key, restrict, exclusion; a table that exists, or that a view reads
  [/^(23(505|503|001|P01)|42P07|2BP01)$/, 'conflict'],
  // not null, check, a view's check option; values that do not fit, or exceed a limit; a computed column; what is not
  // supported; an exception of a trigger
  [/^(23502|23514|44000|22...|54...|428C9|0A000|P0001)$/, 'invalid'],
  [/^42501$/, 'forbidden'],
]

/** serialization failure (on a secondary, a conflict with what it replays), deadlock, lock not available */
const IN_THE_WAY = /^(40001|40P01|55P03)$/

const unknownOutcome = (cause: Error) =>
  gatewayError(
    'change-outcome-unknown',
    'The connection to the database was lost while the change was under way: it may have happened or not. Read the feature before you try again.',
    {},
    cause,
  )

/** Returns the error of exhausted resources. The statement, and with it its transaction, has been rolled back. */
const exhausted = (cause: Error) =>
  gatewayError(
    'database-exhausted',
    'The database has run out of disk, memory or another resource, and nothing has changed; try again, or ask for less.',
    {},
    cause,
  )

const unavailable = (cause: Error | undefined) =>
  gatewayError('database-unavailable', 'The database cannot be reached at the moment; try again.', {}, cause)

/** Returns true if an answer had a row that no memory is kept for. */
export const isRowTooLong = (error: unknown) =>
  error instanceof GatewayError && error.cause instanceof RowTooLong

/** Returns true if a geometry column has turned out to have another coordinate system than the catalog knows. */
export const isOtherSystem = (error: unknown) =>
  error instanceof pg.DatabaseError && OTHER_SYSTEM.test(error.message)

/** data exceptions, constraints, transactions, routines and their exceptions, internal errors such as those of PostGIS */
const RAISED = /^(2[1-5F]|38|39|P0|XX000)/
/** What a statement names, or a function that it calls, does not exist, has another type or must not be used. */
const MISSING = /^42/

/**
 * Returns the SQLSTATE of an error that a function in a statement may have raised; undefined for others. A name is missing
 * in a function if the error says where, and the function itself is if it does not exist on a node.
 */
export function codeOfRaised(error: unknown): string | undefined {
  const cause = error instanceof GatewayError ? error.cause : error
  if (!(cause instanceof pg.DatabaseError)) return undefined
  const { code = '', where } = cause
  const isRaised = RAISED.test(code) || (MISSING.test(code) && where) || code === '42883'
  return isRaised ? code : undefined
}

/**
 * Returns true if PostGIS could not convert or relate a geometry: PROJ refused its coordinates, there is no such type in
 * the format, or GEOS refused an invalid one. PostGIS reports nearly all of its failures as internal errors.
 */
export const isGeometryFailure = (error: unknown) =>
  error instanceof pg.DatabaseError && (error.code === INTERNAL || error.code === '22023')

/** Returns true if PROJ refused coordinates for which the projection is not defined. */
export const isProjectionFailure = (error: unknown) =>
  isGeometryFailure(error) && /transform|proj/i.test((error as Error).message)
