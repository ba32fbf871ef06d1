// Owns the surest way to lose acknowledged changes: a successor acknowledges changes, and is lost before its Patroni
// has written anything about the promotion to etcd but the leader key, which then expires. Elsewhere this is a race.

import { setTimeout as sleep } from 'node:timers/promises'
import type { Client, ClientConfig } from 'pg'
import { findPostmaster, sessionsOf, signal } from '../daemon.ts'
import { connect } from '../database-urls.ts'
import { openStore } from '../etcd-client.ts'
import { storeAccessOf } from '../etcd-config.ts'
import { faults } from '../fault.ts'
import { findPrimary } from '../launcher.ts'
import { type Cluster, processesOf } from '../parts.ts'
import { dataFolderOf } from '../place.ts'
import { type Group, type Member, storeFolderOf } from '../topology.ts'

/** Citus does not run in this database, so what is written belongs to this group alone. */
const DATABASE = 'postgres'
const ROWS = 20
/** First id that the former primary is to insert; the ids of its successor are smaller. */
const FORMER_IDS = 1_000
const PROMOTION_TIMEOUT_MS = 30_000
const LEASE_TIMEOUT_MS = 60_000
const POLL_MS = 2
/** Time during which the former primary could do what it must not do. */
const TEMPTATION_MS = 10_000
/** Time after which a change that waits for a secondary is given up; PostgreSQL itself would wait forever. */
const PATIENCE_MS = 500
const IMPATIENT = { connectionTimeoutMillis: 2_000, query_timeout: PATIENCE_MS }

export type HeldSuccession = {
  readonly former: Member
  readonly successor: Member
  /** Ids that the successor acknowledged. */
  readonly acknowledged: readonly number[]
  /** Changes that the former primary acknowledged after it had woken up. */
  readonly acknowledgedByFormer: number
  /** True if there was a leader key again after the former primary had woken up. */
  readonly isFormerLeader: boolean
  /** True if the promotion reached /history; the run then proves nothing. */
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

/** Repeats `find` until it returns something. @throws if that takes longer than `withinMs` */
async function until<T>(what: string, withinMs: number, find: () => Promise<T | undefined>): Promise<T> {
  for (const deadline = performance.now() + withinMs; performance.now() < deadline; await sleep(POLL_MS)) {
    const found = await find()
    if (found !== undefined) return found
  }
  throw new Error(`not within ${withinMs / 1_000} s: ${what}`)
}

/** Freezes the primary, holds its successor and then freezes it, waits until its lease ends, and wakes the primary. */
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
  // The processes are found beforehand, because Patroni must be held at once, before its next cycle.
  const postgres = new Set(sessionsOf([findPostmaster(dataFolderOf(place, successor.name))!]))
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

/** Inserts rows until one fails. @returns the ids that were acknowledged */
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

/** @returns the ids of the successor's rows that still exist */
export async function readHeld(cluster: Cluster, group: Group): Promise<readonly number[]> {
  const client = await open(cluster, await findPrimary(group))
  try {
    const { rows } = await client.query('select id from held where id < $1 order by id', [FORMER_IDS])
    return rows.map(({ id }) => id as number)
  } finally {
    await client.end()
  }
}
