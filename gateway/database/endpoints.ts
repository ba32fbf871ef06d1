// Owns the addresses of the database by their roles, and the state that is read through them: which groups have lost a
// member, and which LSNs primaries and secondaries have reached.

import { asRoleOf, splitUrls } from './addresses.ts'
import { askPosition, type Position } from './consistency.ts'
import type { DatabaseOptions } from './contract.ts'
import { type Endpoint, openEndpoint } from './endpoint.ts'
import type { Lease } from './lease.ts'
import { type NodeGroups, watchNodeGroups } from './node-groups.ts'
import { unreachable } from './outcome.ts'
import type { Row, Statement } from './statement.ts'

export interface Endpoints {
  readonly workers: readonly Endpoint[]
  readonly secondaries: readonly Endpoint[]
  readonly primaries: readonly Endpoint[]
  readonly groups: NodeGroups
  readonly isReplicated: boolean
  /** Returns the worker that stores all of these cells; undefined if there is none. */
  workerOf(cells: Statement['cells'], serves?: (endpoint: Endpoint) => boolean): Endpoint | undefined
  /**
   * Returns the position of these groups, as the first of these endpoints that serves reports it.
   * @param asked undefined for all groups
   * @throws DatabaseFailure; the signal's reason
   */
  positionAt(
    endpoints: readonly Endpoint[],
    signal?: AbortSignal,
    asked?: readonly number[],
  ): Promise<Position>
  /** Reads at the first address that serves, without any retry. @throws DatabaseFailure; the signal's reason */
  readOnce(statement: Statement, signal: AbortSignal): Promise<Row[]>
  /** Returns a position of all groups' primaries that is at most this old. @throws DatabaseFailure */
  recentPosition(withinMs: number): Promise<Position>
  /** Returns the groups that have no primary. Without Citus there is only group 0. */
  orphanedGroups(): readonly number[]
  /**
   * Returns for how many milliseconds the data that a statement reads has had no primary, or has not been complete on its
   * secondaries, if that is longer; undefined if it has a primary.
   */
  orphanedFor(cells: Statement['cells']): number | undefined
  close(): Promise<void>
}

/** Opens the addresses, and returns before any server answers. */
export function openEndpoints({
  readUrl,
  workerReadUrl,
  writeUrl,
  poolSize,
  statementTimeoutMs,
  emit,
}: DatabaseOptions): Endpoints {
  const [anyReadUrl, ...others] = splitUrls(readUrl) as [string, ...string[]]
  const shared = { poolSize, statementTimeoutMs, emit }
  const openForReads = (url: string) => openEndpoint({ port: 'read', readUrl: url, ...shared })
  const secondaries = [anyReadUrl, ...others].map(openForReads)
  const primaries = (writeUrl ? splitUrls(writeUrl) : []).map((url) =>
    // A read at the primary has the role of reads, so that it sees no more than elsewhere.
    openEndpoint({ port: 'write', readUrl: asRoleOf(anyReadUrl, url), writeUrl: url, ...shared }),
  )
  const workers = (workerReadUrl ? splitUrls(workerReadUrl) : []).map(openForReads)
  const isReplicated =
    primaries.length > 0 && secondaries.some(({ name }) => primaries.every((one) => one.name !== name))

  const first = <T>(
    endpoints: readonly Endpoint[],
    work: (lease: Lease) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> => {
    const endpoint = endpoints.find(({ isUp }) => isUp)
    if (!endpoint) throw unreachable(undefined)
    return endpoint.use('read', work, signal)
  }
  const queryFirst =
    (endpoints: readonly Endpoint[]) =>
    async (statement: Statement, signal?: AbortSignal): Promise<Row[]> =>
      first(endpoints, (lease) => lease.query(statement), signal)
  const readers = {
    read: queryFirst([...secondaries, ...primaries]),
    readFromSecondary: queryFirst(secondaries),
    readFromPrimary: primaries.length > 0 ? queryFirst(primaries) : undefined,
    isReplicated,
  }
  const groups = watchNodeGroups(readers, emit)

  async function positionAt(
    endpoints: readonly Endpoint[],
    signal?: AbortSignal,
    asked?: readonly number[],
  ): Promise<Position> {
    const wanted = asked ?? (await groups.groupsOf(undefined))
    if (!wanted) throw unreachable(undefined)
    return first(endpoints, (lease) => askPosition(lease, wanted, groups.cellOf), signal)
  }

  let latest: { readonly at: number; readonly position: Promise<Position> } | undefined

  /** True if no address to write to serves. */
  const isWithoutPrimary = () => primaries.length > 0 && !primaries.some(({ isUp }) => isUp)

  return {
    workers,
    secondaries,
    primaries,
    groups,
    isReplicated,
    workerOf(cells, serves = ({ isUp }) => isUp) {
      const group = workers.length > 0 ? groups.groupOf(cells) : undefined
      return group === undefined ? undefined : workers.find((one) => one.group === group && serves(one))
    },
    positionAt,
    readOnce: readers.read,
    recentPosition(withinMs) {
      const at = performance.now()
      if (latest && at - latest.at <= withinMs) return latest.position
      const position = positionAt(primaries)
      latest = { at, position }
      position.catch(() => {
        if (latest?.position === position) latest = undefined
      })
      return position
    },
    // Without Citus the group is 0, and so is the coordinator's.
    orphanedGroups: () => (isWithoutPrimary() ? [...new Set([0, ...groups.orphaned()])] : groups.orphaned()),
    orphanedFor(cells) {
      const since = isWithoutPrimary()
        ? Math.max(...primaries.map(({ downSince = 0 }) => downSince))
        : groups.orphanedSince(cells)
      if (since === undefined) return undefined
      return performance.now() - (isReplicated ? Math.min(since, groups.completeAt(cells)) : since)
    },
    async close() {
      groups.stop()
      await Promise.all([...workers, ...secondaries, ...primaries].map((endpoint) => endpoint.close()))
    },
  }
}
