// Owns LSNs: the statements that read how far a server is in its write-ahead log, and what they return.

import type { Statement } from './statement.ts'

/** Returns some cell that is stored in a group; undefined if there is none. */
export type CellOf = (group: number) => number | undefined

/** LSN beyond all others, for a position that is not known; only a primary counts as having reached it. */
export const UNKNOWN_LSN = 2n ** 64n - 1n

/**
 * LSN up to which a primary has written its log. If `synchronous_commit` is off, a commit is acknowledged before it is
 * written, so the insert LSN is used.
 */
const WRITTEN = `when current_setting('synchronous_commit') = 'off' then pg_current_wal_insert_lsn()::text
  else pg_current_wal_lsn()::text end`

/** On a secondary two LSNs: up to where it has replayed, and up to where it has received. */
const COPIED = `concat(pg_last_wal_replay_lsn(), ' ', coalesce(pg_last_wal_receive_lsn(), '0/0'))`

const LSNS = {
  /** Upper bound: no row visible here was written after this LSN. */
  seen: `case when pg_is_in_recovery() then pg_last_wal_replay_lsn()::text ${WRITTEN}`,
  /**
   * Lower bound: every change that was acknowledged before this LSN is visible here. A primary that died can come back
   * as a secondary whose log ends with records that no other member has, beyond the point where the new primary's log
   * begins, and it serves reads until it is rewound. Its replay LSN alone therefore proves nothing. Its receive LSN
   * does, because a new primary sends nothing to a member that was not rewound; see parseLsn.
   */
  proven: `case when pg_is_in_recovery() then ${COPIED} ${WRITTEN}`,
  /** Lower bound for secondaries only; 0/0 on a primary, whose log does not count as copied. */
  copied: `case when pg_is_in_recovery() then ${COPIED} else '0/0' end`,
}
export type LsnKind = keyof typeof LSNS

const OWN_LSN: Readonly<Record<LsnKind, Statement>> = {
  seen: { name: 'tessera_lsn_seen', text: `select ${LSNS.seen}`, values: [] },
  proven: { name: 'tessera_lsn_proven', text: `select ${LSNS.proven}`, values: [] },
  copied: { name: 'tessera_lsn_copied', text: `select ${LSNS.copied}`, values: [] },
}
/**
 * Returns the statement that reads, through Citus, the LSN of the node to which a query of this cell is sent. Because
 * of the aggregate, it returns a row even if the cell has no forwarding rows.
 */
const lsnBeside = (kind: LsnKind, cell: number): Statement => ({
  name: `tessera_lsn_${kind}_beside`,
  text: `select ${LSNS[kind]}, max(cell) from tessera.moved_feature where cell = $1`,
  values: [cell],
})

/**
 * Returns the statement that reads an LSN.
 * @param cell a cell of the group in question; undefined for the connected node itself
 */
export const lsnStatement = (kind: LsnKind, cell: number | undefined): Statement =>
  cell === undefined ? OWN_LSN[kind] : lsnBeside(kind, cell)

/** Every segment of the log is as long as this or a multiple of it. */
const LEAST_SEGMENT_BYTES = 2n ** 20n

/**
 * Returns the LSN that the text of a statement means: an LSN, or those up to which a secondary has replayed and
 * received, the lesser of which counts. A receive LSN at the start of a segment counts as nothing received: PostgreSQL
 * sets it there before it has asked a primary for that segment, and one that refuses, because the logs have parted,
 * leaves it there (RequestXLogStreaming in walreceiverfuncs.c).
 */
export function parseLsn(text: string): bigint {
  const [replayed, received] = text.split(' ') as [string, string?]
  const lsn = parseOne(replayed)
  if (received === undefined) return lsn
  const proven = parseOne(received)
  if (proven % LEAST_SEGMENT_BYTES === 0n) return 0n
  return proven < lsn ? proven : lsn
}

function parseOne(text: string): bigint {
  const [high, low] = text.split('/') as [string, string]
  return (BigInt(`0x${high}`) << 32n) + BigInt(`0x${low}`)
}
