// Owns the surest way to lose what was acknowledged: a successor that takes changes, and is lost before Patroni has
// told etcd anything of its promotion but the leader key, which then runs out. Elsewhere this is a race.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Client, ClientConfig } from 'pg'
import { findPostmaster, sessionOf, signal } from '../daemon.ts'
import { connect } from '../database-urls.ts'
import { openStore } from '../etcd-client.ts'
import { storeAccessOf } from '../etcd-config.ts'
import { faults } from '../fault.ts'
import { findPrimary } from '../launcher.ts'
import { type Cluster, processesOf } from '../parts.ts'
import { dataFolderOf } from '../place.ts'
import { type Group, type Member, storeFolderOf } from '../topology.ts'

/** Citus has no part in this database: what is written is of this group alone. */
const DATABASE = 'postgres'
const ROWS = 20
/** Of what the former primary is asked to insert: no id of its successor's. */
const FORMER_IDS = 1_000
const PROMOTION_TIMEOUT_MS = 30_000
const LEASE_TIMEOUT_MS = 60_000
const POLL_MS = 2
/** So long the former primary has to do what it should not. */
const TEMPTATION_MS = 10_000
/** Of a change that waits for a secondary: it is not acknowledged. PostgreSQL itself would let it wait for ever. */
const PATIENCE_MS = 500
const IMPATIENT = { connectionTimeoutMillis: 2_000, query_timeout: PATIENCE_MS }

export type HeldSuccession = {
  readonly former: Member
  readonly successor: Member
  /** What the successor acknowledged. */
  readonly acknowledged: readonly number[]
  /** How many changes the former primary acknowledged after it had woken up, and whether it had the leader key again. */
  readonly acknowledgedByFormer: number
  readonly isFormerLeader: boolean
  /** Whether /history told of the promotion: then it was no test. */
  readonly isHistoryWritten: boolean
  /** Lets the successor come back. */
  readonly giveBack: () => Promise<void>
}

const open = (
  { credentials }: Cluster,
  { host, postgresPort }: Member,
  options: ClientConfig = {},
): Promise<Client> =>
  connect(credentials, 'postgres', { host, port: postgresPort, database: DATABASE }, options)

/** @returns as `find` @throws where it is not found in time */
async function until<T>(what: string, withinMs: number, find: () => Promise<T | undefined>): Promise<T> {
  for (const deadline = performance.now() + withinMs; performance.now() < deadline; await sleep(POLL_MS)) {
    const found = await find()
    if (found !== undefined) return found
  }
  throw new Error(`not within ${withinMs / 1_000} s: ${what}`)
}

/** Freezes the primary, holds and then freezes its successor, waits for its lease to end, and wakes the former one. */
export async function holdSuccessor(cluster: Cluster, group: Group): Promise<HeldSuccession> {
  const { place, credentials } = cluster
  const folder = storeFolderOf(place.topology, group)
  const store = openStore(storeAccessOf(place.topology, credentials))
  const former = await findPrimary(group)
  const successor = group.members.find((member) => member !== former)!
  const before = await open(cluster, former)
  await before.query('create table if not exists held (id integer primary key)')
  await before.query('truncate held')
  await before.end()
  const historyBefore = (await store.readKeys(`${folder}/history`)).get(`${folder}/history`)?.value

  const client = await open(cluster, successor)
  // Known before: Patroni is held at once, and has no time for its next cycle.
  const postgres = new Set(sessionOf(findPostmaster(dataFolderOf(place, successor.name))!))
  const patroni = processesOf(place, successor.name).filter((pid) => !postgres.has(pid))
  const wakeFormer = await faults.freeze.inject(cluster, former.name)
  await until(`${successor.name} is promoted`, PROMOTION_TIMEOUT_MS, async () => {
    const { rows } = await client.query('select pg_is_in_recovery() as is')
    return rows[0].is ? undefined : true
  })
  for (const pid of patroni) signal(pid, 'SIGSTOP')
  const acknowledged = await insert(client, 0)
  const historyAfter = (await store.readKeys(`${folder}/history`)).get(`${folder}/history`)?.value
  const giveBack = await faults.freeze.inject(cluster, successor.name)
  client.end().catch(() => {})

  await until('the lease has run out', LEASE_TIMEOUT_MS, async () =>
    (await store.readKeys(`${folder}/leader`)).size === 0 ? true : undefined,
  )
  await wakeFormer()
  let acknowledgedByFormer = 0
  let isFormerLeader = false
  for (const deadline = performance.now() + TEMPTATION_MS; performance.now() < deadline; ) {
    const tempting = await open(cluster, former, IMPATIENT).catch(() => undefined)
    if (tempting) acknowledgedByFormer += (await insert(tempting, FORMER_IDS + acknowledgedByFormer)).length
    tempting?.end().catch(() => {})
    isFormerLeader ||= (await store.readKeys(`${folder}/leader`)).size > 0
    await sleep(POLL_MS)
  }
  const isHistoryWritten = historyAfter !== historyBefore
  return { former, successor, acknowledged, acknowledgedByFormer, isFormerLeader, isHistoryWritten, giveBack }
}

/** @returns those that were acknowledged */
async function insert(client: Client, first: number): Promise<readonly number[]> {
  const acknowledged: number[] = []
  for (let id = first; id < first + ROWS; id++) {
    const isDone = await client.query('insert into held values ($1)', [id]).then(
      () => true,
      () => false,
    )
    if (!isDone) break
    acknowledged.push(id)
  }
  return acknowledged
}

/** What is there now of what the successor was asked to insert. */
export async function readHeld(cluster: Cluster, group: Group): Promise<readonly number[]> {
  const client = await open(cluster, await findPrimary(group))
  try {
    const { rows } = await client.query('select id from held where id < $1 order by id', [FORMER_IDS])
    return rows.map(({ id }) => id as number)
  } finally {
    await client.end()
  }
}
