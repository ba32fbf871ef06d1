// Owns the contract between the features and PostgreSQL: what can be read and written, and how it fails.

import type { Emit } from '../events.ts'
import type { Priority } from './admission.ts'
import type { Consistency } from './consistency.ts'
import type { Work } from './endpoint.ts'
import type { Member } from './node-groups.ts'
import type { Failover, Outage } from './outages.ts'
import type { Port } from './pool.ts'
import type { Row, Statement } from './statement.ts'
import type { Stored } from './stored.ts'

/** Options of a read. */
export type Demand = {
  /** When it aborts, the server is asked to cancel, and the read fails with its reason, which is a GatewayError. */
  readonly signal?: AbortSignal
  /** `first` by default. */
  readonly priority?: Priority
  /** Most bytes of each statement's values; undefined for any number. If they are more, AnswerTooLong is thrown. */
  readonly mostBytes?: number
}

/** One request as the database sees it. */
export type Caller = {
  /** Requirements for what it sees, and what it has seen; undefined if any server will do. */
  readonly consistency?: Consistency | undefined
  /** Client that gets its share of the database; undefined for the gateway itself. */
  readonly client?: string | undefined
  /** Claims (JSON) that PostgreSQL's own policies see; undefined for a caller without any. */
  readonly claims?: string | undefined
}

export type StreamOptions = {
  readonly signal?: AbortSignal | undefined
  /** Expected bytes of a row; undefined if nothing is known. */
  readonly rowBytes?: number | undefined
  /**
   * True if the result is of no use unless it is complete: its reader gets more time, and large batches are not cut.
   */
  readonly isWhole?: boolean | undefined
}

export type Query = (statement: Statement) => Promise<Row[]>

/**
 * Statements of one transaction.
 * @param isRepeated true if they were sent before, and it is not known whether that had any effect
 */
export type TransactionWork<T> = (query: Query, isRepeated: boolean) => Promise<T>

export type TransactionOptions<T> = {
  /** The only cells that its first statement concerns, see Statement. */
  readonly cells?: readonly number[] | undefined
  /** Returns the last statements, given the result of the others. They are sent in one packet with the commit. */
  readonly last?: (result: T) => readonly Statement[]
  /** True if it may be repeated when its outcome is not known: `work` makes sure that it takes effect once. */
  readonly isRepeatable?: boolean
}

export type WriteOptions = {
  /** True if it makes no difference whether the statement took effect before, for example because it only reads. */
  readonly isRepeatable?: boolean
  /** True if it waits for a primary if there is none; the default. */
  readonly mayWait?: boolean
}

export interface Database {
  /** Returns the database for one request. */
  within(caller: Caller): Database
  /**
   * Returns all rows of a statement, from a secondary if one serves.
   * @throws GatewayError for every outcome that is not a bug, see outcome.ts
   */
  read(statement: Statement, demand?: Demand): Promise<Row[]>
  /** Returns the rows of several short statements, which are sent on one connection in one packet. */
  readAll(statements: readonly Statement[], demand?: Demand): Promise<Row[][]>
  /**
   * Reads nothing but the state of what these cells are stored in, for a consistency that keeps it.
   * @param cells undefined for everything
   */
  look(cells: readonly number[] | undefined, demand?: Demand): Promise<void>
  /**
   * Returns the rows of a long result in batches, at the reader's pace: only one batch is in memory.
   * If the iteration ends early, the connection is freed. A reader that lets batches wait for seconds loses it.
   * @returns true if it stopped before the last row
   */
  stream(statement: Statement, options?: StreamOptions): AsyncGenerator<Row[], boolean>
  /** True if there is a write port. */
  readonly canWrite: boolean
  /** True if changes are also read elsewhere: another server can take over from a primary that has died. */
  readonly isReplicated: boolean
  /**
   * Returns all rows of one statement from the write port. It is a transaction of its own, and it is not cancelled if
   * its client leaves.
   * @throws GatewayError; RefusedChange if the database's own rules forbid it, see outcome.ts
   */
  write(statement: Statement, options?: WriteOptions): Promise<Row[]>
  /**
   * Runs statements in one transaction at the write port; it is rolled back if `work` throws.
   * @throws as write
   */
  transact<T>(work: TransactionWork<T>, options?: TransactionOptions<T>): Promise<T>
  /** Returns the node group that stores all of these cells and is read at its worker; undefined if there is none. */
  workerGroupOf(cells: readonly number[]): number | undefined
  /** Returns the node groups of Citus that store these cells, in order; undefined if they are not known. */
  nodeGroupsOf(cells: readonly number[]): Promise<readonly number[] | undefined>
  /** Returns what is known about the servers now, without querying any. */
  status(): DatabaseStatus
  /**
   * Returns how many bytes the secondary of each node group is behind its primary. Groups of which one does not answer
   * within a second are left out.
   */
  lag(): Promise<ReadonlyMap<number, number>>
  /**
   * Returns what each node group stores; groups that do not answer are left out.
   * @throws if the server that is asked does not answer within two seconds
   */
  stored(): Promise<ReadonlyMap<number, Stored>>
  /** True if a server that can be read answers. */
  readonly isReadable: boolean
  /** True if a server that can be written answers. */
  readonly isWritable: boolean
  close(): Promise<void>
}

/** Work at an address: how much runs and waits, and how much may run at once. */
export type Load = { readonly running: number; readonly waiting: number; readonly limit: number }
export type EndpointStatus = {
  readonly endpoint: string
  readonly port: Port
  /** Node group of Citus; undefined without Citus, and until it is known. */
  readonly group: number | undefined
  readonly isUp: boolean
  readonly load: Readonly<Record<Work, Load>>
}
export type DatabaseStatus = {
  readonly endpoints: readonly EndpointStatus[]
  /** Node groups; without Citus only group 0. */
  readonly groups: readonly number[]
  /** Members that Citus has, and those that it had until lately; none without Citus. */
  readonly members: readonly Member[]
  readonly groupsWithoutSecondary: readonly number[]
  readonly groupsWithoutPrimary: readonly number[]
  /** Group without a primary → age of what is read from it, in milliseconds, as far as it is known. */
  readonly stalenessMs: ReadonlyMap<number, number>
  /** What has been lost, see outages.ts; the newest is first. */
  readonly outages: readonly Outage[]
  readonly failovers: readonly Failover[]
  /** Changes that wait for a primary. */
  readonly parked: number
  /** Reads that wait for a member that is being replaced. */
  readonly parkedReads: number
  /** Reads that each role has answered since the start. */
  readonly reads: Readonly<Record<'secondary' | 'primary', number>>
}

export type DatabaseOptions = {
  readonly readUrl: string
  /** Secondaries of Citus' workers, which are read directly if one of them stores everything that a read needs. */
  readonly workerReadUrl?: string | undefined
  readonly writeUrl: string | undefined
  readonly poolSize: number
  readonly statementTimeoutMs: number
  readonly emit: Emit
}
