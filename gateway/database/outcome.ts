// Owns what a failure means: what PostgreSQL or the driver said → whether it has happened, whose fault it was, what to answer.

import pg from 'pg'
import { gatewayError } from '../errors.ts'

/** The server cannot be reached, is starting, stopping, or full. */
const UNAVAILABLE = /^(57P0[123]|53300)$/
/** In recovery, for a change. A read that is told so would write, and is refused everywhere. */
const READ_ONLY = '25006'
/** Citus cannot reach another node, or has lost it. */
const CITUS_CONNECTION = /^08...$/
/** The same, found out at the end of a transaction or in the middle of one: internal errors by their codes. */
const CITUS_TRANSACTION =
  /^(could not commit transaction for shard|failed to prepare transaction|failure on connection marked as essential|execution cannot recover from multiple connection failures|cannot perform query, because modifications were made over a connection)/
/** Citus, passing on what a node has said. */
const CITUS_PASSED_ON = 'ReportResultError'
/** Citus, right after a failover: the group's only other member is the primary that was lost. */
const NO_MEMBER = /node group \d+ does not have a (primary|secondary) node/
/** Citus, in a backend that has lost its own server while it waited for another: an internal error by its code. */
const SERVER_GONE = /^postmaster was shut down/
const CANCELLED = '57014'
/** No disk or memory left, a limit for one query reached, a disk that fails. The next address may have what it takes. */
const EXHAUSTED = /^(53[124]00|58030)$/
/** undefined table, column, function; wrong object type; privilege gone; plan outlived its table's shape. */
const CHANGED = /^(42P01|42703|42883|42804|42501|0A000)$/
/** division by zero, see shard-statement.ts; undefined table; privilege missing */
const MISPLACED = /^(22012|42P01|42501)$/
/** invalid text, number out of range, no such day or time zone, character not in the encoding */
const NOT_A_VALUE = /^22(P02|P05|003|007|008|009|021)$/

/** What node-postgres says of a pool that gave no connection, and of a socket that went away. */
const NO_CONNECTION = /timeout exceeded when trying to connect/
const LOST_CONNECTION =
  /Connection terminated|Query read timeout|Client has encountered a connection error|not queryable|ECONN|ENOENT|EPIPE|EAI_AGAIN|ENOTFOUND|ETIMEDOUT|EHOSTUNREACH/

/** What is known of a statement that failed. */
export type Outcome =
  /** It has not happened: whatever it was, it can be tried again, anywhere. */
  | 'never-sent'
  /** It read, and can be read elsewhere. */
  | 'retryable'
  /** It would fail the same everywhere. A change has not happened. */
  | 'final'
  /** A change that has happened or not; only looking tells. */
  | 'unknown'

/** What has failed. */
export type Scope =
  /** The address, or who is behind it: nothing else will be served there either. */
  | 'endpoint'
  /** Not who was asked, but a node that it needs: another way to the same node will not help. */
  | 'node'
  | 'statement'

/** A failure of the database, judged. */
export class DatabaseFailure extends Error {
  readonly outcome: Outcome
  readonly scope: Scope
  /** What whoever asked is to be told: a GatewayError, a RefusedChange, or a bug as it is. */
  readonly answer: Error

  constructor(outcome: Outcome, scope: Scope, answer: Error, cause: unknown) {
    super(answer.message, { cause })
    this.outcome = outcome
    this.scope = scope
    this.answer = answer
  }
}

/** When it failed. */
export type Phase =
  | 'connect'
  /** In a transaction that was not to be committed yet. */
  | 'within'
  /** In a statement that is a transaction of its own, or in the commit of one. */
  | 'whole'

export type Circumstances = {
  readonly purpose: 'read' | 'write'
  readonly phase: Phase
  /** Whether Citus was asked: its nodes commit for themselves what is of one of them alone. */
  readonly isCitus: boolean
}

/** What a failed statement means. */
export function judge(error: unknown, circumstances: Circumstances): DatabaseFailure {
  const cause = error instanceof Error ? error : new Error(String(error))
  const [outcome, scope] = outcomeOf(cause, circumstances)
  return new DatabaseFailure(outcome, scope, answerTo(cause, outcome, circumstances.purpose), cause)
}

/** A shard's own table was asked where it is not: it has another node, or is none any more, see Statement. */
export const isMisplaced = (error: unknown) =>
  error instanceof DatabaseFailure && MISPLACED.test((error.cause as pg.DatabaseError).code ?? '')

/** Nobody has been asked, because nobody would have answered. */
export const unreachable = (cause: Error | undefined) =>
  new DatabaseFailure('never-sent', 'endpoint', unavailable(cause), cause)

function outcomeOf(cause: Error, { purpose, phase, isCitus }: Circumstances): [Outcome, Scope] {
  const isAnswer = cause instanceof pg.DatabaseError
  const code = (cause as pg.DatabaseError).code ?? ''
  if (phase === 'connect') {
    if (NO_CONNECTION.test(cause.message)) return ['final', 'statement']
    // What PostgreSQL refuses, such as a password, it refuses at every address.
    const isRefused = isAnswer && !UNAVAILABLE.test(code) && code !== READ_ONLY
    return isRefused ? ['final', 'statement'] : ['never-sent', 'endpoint']
  }
  /** Of what is broken off in the middle. */
  const brokenOff = purpose === 'read' ? 'retryable' : phase === 'within' ? 'never-sent' : 'unknown'
  if (cause instanceof DoubtfulSuccess) return ['unknown', 'statement']
  if (!isAnswer)
    return LOST_CONNECTION.test(`${code} ${cause.message}`) ? [brokenOff, 'endpoint'] : ['final', 'statement']
  // Citus says so before it asks anybody.
  if (NO_MEMBER.test(cause.message)) return [purpose === 'read' ? 'retryable' : 'never-sent', 'node']
  if (CITUS_CONNECTION.test(code) || CITUS_TRANSACTION.test(cause.message)) return [brokenOff, 'node']
  // A primary no longer.
  if (code === READ_ONLY && purpose === 'write')
    return ['never-sent', cause.routine === CITUS_PASSED_ON ? 'node' : 'endpoint']
  if (UNAVAILABLE.test(code) || SERVER_GONE.test(cause.message))
    return [brokenOff, cause.routine === CITUS_PASSED_ON ? 'node' : 'endpoint']
  // On a secondary: what it replays was in the way.
  if (IN_THE_WAY.test(code) && purpose === 'read') return ['retryable', 'statement']
  if (EXHAUSTED.test(code) && purpose === 'read') return ['retryable', 'statement']
  // The coordinator was cancelled; the node that it had sent the change to may have been quicker.
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
      return purpose === 'read' ? explain(cause) : explainRefusal(cause)
  }
}

/** What is expected to fail, as the failure it is; anything else comes back as it is: a bug, answered with 500. */
function explain(cause: Error): Error {
  const code = (cause as pg.DatabaseError).code ?? ''
  if (NO_CONNECTION.test(cause.message)) {
    return gatewayError('database-busy', 'All database connections are in use; try again.', {}, cause)
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
  if (CHANGED.test(code)) {
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

/** The same of a change, whose table's rules are told apart. */
function explainRefusal(cause: Error): Error {
  if (!(cause instanceof pg.DatabaseError)) return explain(cause)
  const code = cause.code ?? ''
  const refused = REFUSALS.find(([pattern]) => pattern.test(code))
  if (refused) return new RefusedChange(refused[1], cause)
  if (code !== CANCELLED && !IN_THE_WAY.test(code)) return explain(cause)
  return gatewayError('database-busy', 'Another change was in the way; try again.', {}, cause)
}

/**
 * Warnings with which a change succeeds and yet may be lost: PostgreSQL no longer waits for the secondary, or
 * Citus could not commit on a node. In whatever language; a trigger's own warnings come from elsewhere.
 */
export const isDoubtful = ({ severity, routine, message }: Notice) =>
  severity === 'WARNING' && (DOUBTFUL_ROUTINES.has(routine ?? '') || DOUBTFUL.test(message ?? ''))

export type Notice = {
  readonly severity: string | undefined
  readonly routine: string | undefined
  readonly message: string | undefined
}
/** A change that PostgreSQL says it has made, with such a warning. */
export class DoubtfulSuccess extends Error {}

const DOUBTFUL_ROUTINES = new Set(['SyncRepWaitForLSN', 'FinishRemoteTransactionCommit'])
/** From a worker, where Citus has passed it on and is the routine itself. */
const DOUBTFUL = /wait for synchronous replication|failed to commit transaction on/

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

/** serialization failure (or, on a secondary, a conflict with what it replays), deadlock, lock not available */
const IN_THE_WAY = /^(40001|40P01|55P03)$/

const unknownOutcome = (cause: Error) =>
  gatewayError(
    'change-outcome-unknown',
    'The connection to the database was lost while the change was under way: it may have happened or not. Read the feature before you try again.',
    {},
    cause,
  )

/** Nothing has happened: the statement, and with it its transaction, is rolled back. */
const exhausted = (cause: Error) =>
  gatewayError(
    'database-exhausted',
    'The database has run out of disk, memory or another resource, and nothing has changed; try again, or ask for less.',
    {},
    cause,
  )

const unavailable = (cause: Error | undefined) =>
  gatewayError('database-unavailable', 'The database cannot be reached at the moment; try again.', {}, cause)

/** PROJ refused coordinates that its projection is not defined for. */
export const isProjectionFailure = (error: unknown) =>
  error instanceof pg.DatabaseError && error.code === 'XX000' && /transform|proj/i.test(error.message)
