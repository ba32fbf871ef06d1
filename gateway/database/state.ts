// Owns the state of what a node group stores, as a text: as long as it stays the same, so does everything that a read sees
// there.
//
// On a primary it is the snapshot, which changes whenever a transaction that wrote something ends. On a secondary it is how
// far it has replayed, because the snapshot of a secondary does not name the transactions that still run. The LSN of a
// primary is no state: a commit is in the log before others see it. The start of the server is part of both: numbers of
// transactions and LSNs that were lost with a server come again at its successor.

import { allEnded, isOwnGroup, type Lease } from './lease.ts'
import type { CellOf } from './lsn.ts'
import type { Statement } from './statement.ts'

/** Node group → its state; undefined if it is not known, or has changed while it was read. */
export type State = ReadonlyMap<number, string | undefined>

const STATE = `concat(extract(epoch from pg_postmaster_start_time()), ' ', case when pg_is_in_recovery()
  then pg_last_wal_replay_lsn()::text else pg_current_snapshot()::text end)`

const OWN_STATE: Statement = { name: 'tessera_state', text: `select ${STATE}`, values: [] }
/** The same of the node to which Citus sends a query of this cell, see lsn.ts. */
const stateBeside = (cell: number): Statement => ({
  name: 'tessera_state_beside',
  text: `select ${STATE}, max(cell) from tessera.moved_feature where cell = $1`,
  values: [cell],
})

/**
 * Returns the states of these groups as a connection sees them. Its statements are sent before it returns, so that what is
 * sent after them is as recent, or more so.
 * @throws DatabaseFailure
 */
export async function askState(lease: Lease, groups: readonly number[], cellOf: CellOf): Promise<State> {
  const states = await allEnded(
    groups.map(async (group): Promise<[number, string | undefined]> => {
      const isOwn = isOwnGroup(lease, group)
      const cell = isOwn ? undefined : cellOf(group)
      if (!isOwn && cell === undefined) return [group, undefined]
      const [row] = await lease.query(cell === undefined ? OWN_STATE : stateBeside(cell))
      return [group, row![0]!]
    }),
  )
  return new Map(states)
}

/** Returns the state of what two reads have seen; a group that changed in between has none. */
export function mergeStates(one: State, other: State): State {
  const merged = new Map(one)
  for (const [group, state] of other)
    merged.set(group, merged.has(group) && merged.get(group) !== state ? undefined : state)
  return merged
}

/** Returns true if both are known completely and are equal. */
export const isSameState = (one: State, other: State) =>
  one.size > 0 &&
  one.size === other.size &&
  [...one].every(([group, state]) => state !== undefined && state === other.get(group))
